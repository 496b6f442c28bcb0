"""The embedded example, which runs where no data are named."""

import json
from collections.abc import Collection, Mapping
from importlib import resources
from typing import Any

_GROUPS = ("data", "specimen", "microscope", "simulate", "optimizer")

NAMED = (
    ("data", "image"),
    ("specimen", "structure"),
    ("specimen", "candidates"),
    ("simulate", "table"),
)
"""Where one of these is given, nothing of the example remains."""


def with_example(content: dict[str, Any], given: Collection[str]) -> tuple[dict[str, Any], bool]:
    """Settings with the embedded example's data where none are named, and whether that was so.

    `given`: the options that the user set (as "data.mtf"), which stay as they are. Once an image, a
    structure or a table of simulations is named, nothing of the example remains.
    """
    if any(not isinstance(content.get(name) or {}, Mapping) for name in _GROUPS):
        return content, False  # settings that are refused
    named = any((content.get(group) or {}).get(key) is not None for group, key in NAMED)
    if named:
        return content, False
    folder = resources.files("qhrtem_jax").joinpath("example")
    example = json.loads(folder.joinpath("example.json").read_text("utf-8"))
    for group, values in example.pop("stages").get(str(content.get("stage")), {}).items():
        example[group] = example.get(group, {}) | values
    for group, key in (("data", "image"), ("data", "mtf"), ("specimen", "structure")):
        if example[group][key] is not None:
            example[group][key] = str(folder.joinpath(example[group][key]))
    merged = dict(content)
    for name, values in example.items():
        group = dict(content.get(name) or {})
        chosen = name in given  # a whole group, as optimizer=lm
        for key, value in values.items():
            if not chosen and f"{name}.{key}" not in given:
                group[key] = value
        merged[name] = group
    return merged, True
