"""What a benchmark ran on."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path


def versions() -> dict[str, str | int]:
    """Versions of the packages that matter, and the device."""
    import jax

    device = jax.devices()[0]
    found: dict[str, str | int] = {
        "python": platform.python_version(),
        "device": device.device_kind,
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
    }
    for name in ("jax", "jaxlib", "numpy", "scipy", "abtem", "torch", "botorch", "gpytorch"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
