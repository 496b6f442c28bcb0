"""All benchmarks, each with its defaults: python -m benchmarks.run_all [--bto DIR]."""

import argparse
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bto", type=Path, default=Path("../shared/data/bto110"))
    parser.add_argument("--seeds", type=int, default=10)
    options = parser.parse_args()
    image = ["--bto", str(options.bto)] if options.bto.is_dir() else []
    seeds = ["--seeds", str(options.seeds)]
    commands = [["simulator", *image]]
    if image:
        commands.append(["imaging", *image, *seeds])
    try:
        import botorch  # noqa: F401
    except ImportError:
        print("BoTorch is absent (extra `bench`): the optimizer's benchmark runs without peers")
        commands.append(["optimizer", *image, *seeds, "--peers", "--bto-peers"])
    else:
        commands.append(["optimizer", *image, *seeds])
    for name, *arguments in commands:
        out = ["--out", str(RESULTS / f"{name}.json")]
        subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *arguments, *out], check=True)


if __name__ == "__main__":
    main()
