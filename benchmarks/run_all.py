"""All benchmarks, each with its defaults:

python -m benchmarks.run_all [--bto DIR] [--reference DIR]
"""

import argparse
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bto", type=Path, default=Path("../shared/data/bto110"))
    parser.add_argument("--reference", type=Path, default=Path("../shared/reference"))
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
    field = options.reference / "synthetic_field.npz"
    if image and field.is_file():
        result = ["--result", str(RESULTS / "field.json")]
        commands.append(["field", *image, "--field", str(field), *result])
        result = ["--result", str(RESULTS / "counting.json")]
        commands.append(["counting", *image, "--reference", str(options.reference), *result])
    for name, *arguments in commands:
        written = f"runs/benchmark_{name}" if "--result" in arguments else f"{RESULTS / name}.json"
        command = [sys.executable, "-m", f"benchmarks.{name}", *arguments, "--out", written]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
