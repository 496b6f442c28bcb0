"""Memory that a run may use."""

from pathlib import Path

import jax
import psutil

_GROUPS = Path("/sys/fs/cgroup")


def free_bytes() -> float:
    """Memory that is free for this process: the machine's, within the limits of its control groups
    (containers, batch systems), and the accelerator's where JAX runs on one."""
    limits = [float(psutil.virtual_memory().available), *_group_limits()]
    if jax.default_backend() != "cpu":
        known = jax.devices()[0].memory_stats() or {}
        if "bytes_limit" in known:
            limits.append(float(known["bytes_limit"] - known.get("bytes_in_use", 0)))
    return max(min(limits), 0.0)


def _group_limits() -> list[float]:
    """What the control groups (version 2, else 1) of this process leave; empty where none limit."""
    try:
        lines = Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except OSError:
        return []  # not Linux
    limits = []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if not controllers:
            names = ("memory.max", "memory.current", "inactive_file")
            folder = _GROUPS / path.lstrip("/")
        elif "memory" in controllers.split(","):
            names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
            folder = _GROUPS / "memory" / path.lstrip("/")
        else:
            continue
        # a container may show its own group as the root of the tree; limits of parents hold too
        for place in (folder, *folder.parents):
            if place.is_relative_to(_GROUPS):
                left = _left(place, *names)
                limits += [] if left is None else [left]
    return limits


def _left(folder: Path, limit: str, used: str, reclaimable: str) -> float | None:
    try:
        most = float((folder / limit).read_text(encoding="utf-8"))  # "max" where there is none
        taken = float((folder / used).read_text(encoding="utf-8"))
        stat = (folder / "memory.stat").read_text(encoding="utf-8")
    except (OSError, ValueError):
        return None
    # pages of files that were read are given back when memory is asked for
    files = dict(line.split() for line in stat.splitlines() if len(line.split()) == 2)
    return most - taken + float(files.get(reclaimable, 0.0))
