"""Command line: python -m experiments.run STAGE [overrides] hydra.run.dir=DIR, installed: qhrtem.

Or, to repeat a run: --from-result RESULT.json [overrides].

Exit status 0: the stage is done. 2: the input cannot be used; one message says why. 130, 143:
interrupted. 1: a defect.
"""

import signal

if __name__ == "__main__":
    # until main() takes over, Ctrl-C ends the process without a traceback
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import hashlib
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from qhrtem_jax import __version__
from qhrtem_jax.errors import InputError, NonFiniteError

from .arguments import flags_first, from_result, literal_paths, with_stage
from .help import helped, with_bare_stage
from .refusals import in_our_words
from .signals import Advice, Interrupted, interruptible
from .sweeps import announce, announced, note_failure

if TYPE_CHECKING:
    from qhrtem_jax.io.run_folder import RunFolder

CONFIGS = str(Path(__file__).resolve().parents[1] / "configs")
NAME_LENGTH = 120
LONGEST_MESSAGE = 2000
log = logging.getLogger("qhrtem_jax")


def run_name(overrides: list[str]) -> str:
    """Name of a sweep's run folder: what varies in it (or, where nothing does, what was
    overridden), with files by their names alone."""
    parts, told, names = [], [], announced()
    for override in overrides:
        key, _, value = override.partition("=")
        if key.lstrip("+") in ("stage", "resume", "overwrite") or key.startswith("hydra."):
            continue
        if names and key.lstrip("+") not in names:
            continue
        told.append(override)
        name = value.strip("'").rsplit("/", 1)[-1]
        parts.append(f"{key.rsplit('.', 1)[-1]}={name}")
    name = ",".join(parts).replace(" ", "") or "run"
    if len(name) > NAME_LENGTH or any("/" in o.partition("=")[2] for o in told):
        digest = hashlib.sha256(",".join(told).encode()).hexdigest()[:6]
        name = f"{name[:NAME_LENGTH]},{digest}"
    return name


def compose(config: DictConfig) -> dict[str, Any]:
    """The configuration as plain containers."""
    content = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}


def set_up_jax(device: str, cores: int | str) -> None:
    """Choose the device, the processor's cores that share the work, 64-bit mode for the Gaussian
    process, and the compilation cache."""
    import jax

    from qhrtem_jax.numerics.devices import PLATFORMS, keep_compiled, share_cores

    share_cores(cores)
    if device != "auto":
        jax.config.update("jax_platforms", PLATFORMS[device])
    jax.config.update("jax_enable_x64", True)
    keep_compiled()
    try:
        platform = jax.devices()[0].platform
    except (RuntimeError, AssertionError) as error:
        jax.config.update("jax_platforms", None)
        raise InputError(f"device: {device} is not available ({error})") from None
    if device == "gpu" and platform == "cpu":
        jax.config.update("jax_platforms", None)
        raise InputError("device: gpu is not available, JAX found the CPU only")


def save_hydra_files(folder: "RunFolder", config: DictConfig) -> None:
    """Hydra's .hydra/ folder, written only once a run may use its folder."""
    hydra_config = HydraConfig.get()
    parts = {
        "config.yaml": config,
        "overrides.yaml": hydra_config.overrides.task,
        "hydra.yaml": OmegaConf.create({"hydra": hydra_config}),
    }
    for name, content in parts.items():
        folder.write_text(f".hydra/{name}", OmegaConf.to_yaml(content))


def repeated(config: DictConfig, source: str) -> dict[str, Any]:
    """The settings of an earlier result, with the options that this command line sets.

    **Raises:** `InputError` where `source` is no result that holds its settings.
    """
    from qhrtem_jax.inputs.handover import read_result

    content = read_result(Path(source), "--from-result")
    known = content.get("settings")
    if not isinstance(known, dict) or not isinstance(known.get("stage"), str):
        raise InputError(f"--from-result: {source} holds no settings of a run")
    # who computed it may be gone
    known = {name: group for name, group in known.items() if name != "engine"}
    merged = OmegaConf.create(known | {"resume": False, "overwrite": False})
    for name in given_options():
        if name not in ("stage", "from_result"):
            OmegaConf.update(merged, name, OmegaConf.select(config, name))
    return compose(merged)


def given_options() -> set[str]:
    """Full names of the options and groups that the command line sets."""
    parsed = OverridesParser.create().parse_overrides(list(HydraConfig.get().overrides.task))
    return {override.key_or_group for override in parsed}


def run_stage(
    content: dict[str, Any], folder_path: Path, config: DictConfig, advice: Advice
) -> None:
    """Check everything, run the stage, write the run folder."""
    from qhrtem_jax.inputs.example import with_example
    from qhrtem_jax.inputs.identity import input_paths
    from qhrtem_jax.io.folder_lock import locked
    from qhrtem_jax.io.run_folder import RunFolder
    from qhrtem_jax.pipeline import run
    from qhrtem_jax.reporting.progress import ProgressLine
    from qhrtem_jax.stages import run_settings

    source = content.pop("from_result", None)
    example = False
    if source is None:
        content, example = with_example(content, given_options())
    else:
        content = repeated(config, str(source))
    settings = run_settings(content)
    folder = RunFolder(folder_path)
    folder.check(resume=settings.resume, overwrite=settings.overwrite)
    folder.refuse_inputs(input_paths(settings))
    if example:
        log.info("no data named: running the embedded example")
    with locked(folder_path):
        advice.of_run(folder_path, settings.overwrite)
        set_up_jax(settings.device, settings.cores)
        with ProgressLine() as progress:
            run(settings, folder, progress, lambda: save_hydra_files(folder, config))
    log.info("report: %s", folder_path / "report.html")


def _one_line(error: Exception | str) -> str:
    return " ".join(str(error).split())[:LONGEST_MESSAGE]


def main() -> int:
    """Run, and turn errors that a user can act on into one message each."""
    os.environ["HYDRA_FULL_ERROR"] = "1"  # let errors through to here
    OmegaConf.register_new_resolver("run_name", run_name, replace=True)
    OmegaConf.register_new_resolver("process", os.getpid, replace=True)
    OmegaConf.register_new_resolver("package", lambda: __package__, replace=True)
    messages: list[str] = []
    advice = Advice()
    composed = False

    def refuse(message: str) -> None:
        messages.append(message)
        print(f"error: {message}", file=sys.stderr)

    @hydra.main(config_path=CONFIGS, config_name="config", version_base="1.3")
    def task(config: DictConfig) -> None:
        nonlocal composed
        composed = True
        # Errors are caught here, not outside: a sweep goes on with its other runs.
        folder, before = Path(HydraConfig.get().runtime.output_dir), len(messages)
        try:
            run_stage(compose(config), folder, config, advice)
        except InputError as error:
            for fault in error.faults:
                refuse(_one_line(fault))
        except NonFiniteError as error:
            refuse(_one_line(error))
        except (OSError, OmegaConfBaseException) as error:
            refuse(in_our_words(_one_line(error)))
        if announced() and len(messages) > before:
            given = HydraConfig.get()
            note_failure(folder, Path(given.sweep.dir), list(given.overrides.task), messages[-1])

    try:
        if "--version" in sys.argv[1:]:
            print(f"qhrtem_jax {__version__}")
            return 0
        if (text := helped(sys.argv[1:], Path(CONFIGS))) is not None:
            print(text, end="")
            return 0
        arguments = with_stage(with_bare_stage(sys.argv[1:]))
        sys.argv[1:] = flags_first(literal_paths(from_result(arguments)))
        announce(sys.argv[1:])
        with interruptible() as advice:
            task()
    except (HydraException, OmegaConfBaseException, OSError, InputError) as error:
        refuse(in_our_words(_one_line(error)))
    except Exception as error:
        if composed:
            raise
        # what Hydra's parser makes of some arguments: a number for a group, thousands of digits
        refuse(f"command line: {_one_line(error)}")
    except Interrupted as interruption:
        return interruption.status
    finally:
        announce([])
    return 2 if messages else 0


if __name__ == "__main__":
    sys.exit(main())
