"""What the command line tells of itself: its stages, and the options of each.

What an option means is said where its default is, in `configs/`.
"""

import importlib
import itertools
import re
from pathlib import Path

from .arguments import FROM_RESULT, TAKES_A_VALUE
from .refusals import stage_wanted, stages

USAGE = """qhrtem STAGE [option=value ...]     (in a clone: python -m experiments.run STAGE ...)

Stages:
{stages}

qhrtem STAGE --help lists the options of a stage. Where no data are named, an embedded example runs.

  hydra.run.dir=DIR       the run's folder; result.json and report.html are written there
  resume=true             go on with an interrupted run, overwrite=true replaces one
  --from-result FILE      repeat the run of a result.json, with the options that follow
  -m option=a,b,c         a sweep: one run for each value
  --version
  eval "$(qhrtem -sc install=bash)"     completes options in bash (zsh, fish alike)
"""

_OPTION = re.compile(r"^(\w+): *(.*?) *(?:# *(.*))?$")


def helped(arguments: list[str], configs: Path) -> str | None:
    """What is asked for with --help; None where it is not."""
    if not {"--help", "-h"} & set(arguments):
        return None
    named = [a.removeprefix("+").removeprefix("stage=") for a in arguments if a[:1] != "-"]
    known = [name for name in named if name in stages()]
    return options_of(known[0], configs) if known else overview()


def with_bare_stage(arguments: list[str]) -> list[str]:
    """`imaging` for `+stage=imaging`, wherever it is.

    **Raises:** `InputError` for a word that is no stage.
    """
    from qhrtem_jax.errors import InputError

    found = []
    for before, argument in itertools.pairwise(["", *arguments]):
        if (
            argument[:1] in ("-", "~", "+", "")
            or "=" in argument
            or before in (FROM_RESULT, *TAKES_A_VALUE)
        ):
            found.append(argument)
        elif argument in stages():
            found.append(f"+stage={argument}")
        else:
            raise InputError(stage_wanted(f"found {argument!r}", argument))
    return found


def overview() -> str:
    """All stages, each in a line."""
    width = max(map(len, stages()))
    lines = [f"  {name:{width}}  {_about(name)}" for name in stages()]
    return USAGE.format(stages="\n".join(lines))


def options_of(stage: str, configs: Path) -> str:
    """Every option of a stage with its default and its meaning."""
    from qhrtem_jax.stages import options_of

    parts = [f"qhrtem {stage}: {_about(stage)}", *_options(configs / "config.yaml", "")]
    for group in options_of(stage):
        folder = configs / group
        others = sorted(path.stem for path in folder.glob("*.yaml"))
        default = _defaults(configs)[group]
        choice = f" ({group}={'|'.join(others)})" if len(others) > 1 else ""
        parts += ["", f"{group}{choice}", *_options(folder / f"{default}.yaml", f"{group}.")]
    return "\n".join(parts) + "\n"


def _about(stage: str) -> str:
    """The first line of what a stage's package says of it."""
    from qhrtem_jax.stages import PIPELINE, STAGES

    name = "qhrtem_jax.pipeline" if stage == PIPELINE else STAGES[stage].run.__module__
    said = importlib.import_module(name).__doc__ or ""
    line = said.strip().split("\n")[0].rstrip(".")
    line = re.sub(r"^Stage `\w+`: ", "", line)
    return line[0].lower() + line[1:]


def _defaults(configs: Path) -> dict[str, str]:
    """Which file of each group is taken where none is named."""
    text = (configs / "config.yaml").read_text(encoding="utf-8")
    return dict(re.findall(r"^  - (\w+): (\w+)$", text, re.MULTILINE))


def _options(path: Path, group: str) -> list[str]:
    """Options of a configuration as `group.name=default   meaning`, after what it says of itself;
    those that all mean the same are told once."""
    lines, alike = [], False
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("#") and not line.startswith("# @"):
            lines.append(f"  {line}")
        if line.startswith(("hydra:", "defaults:", "stage:")) or "*" in line:
            continue
        match = _OPTION.match(line)
        if match is None:
            continue
        name, default, meaning = match.groups()
        if "&default" in default:
            inner = default.split("{")[1].rstrip("}").split(", ")
            names = "|".join(part.split(":")[0] for part in inner)
            lines.append(f"  {group}NAME.{names}")
            alike = True
            continue
        left = f"  {group}{name}={default}"
        lines.append(f"{left:44}  {meaning or ''}".rstrip())
    if alike:
        lines.append("  NAME: absorption, tilt_x, C1, A1_x, ...; all in docs/parameters.md")
    return lines
