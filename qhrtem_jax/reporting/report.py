"""report.html: one page that a microscopist can read."""

import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2

from qhrtem_jax.physics.aberrations import ABERRATIONS
from qhrtem_jax.physics.parameters import PARAMETERS
from qhrtem_jax.reporting.numbers import plain, with_error
from qhrtem_jax.reporting.viewer import Model, Viewer


def render(
    title: str,
    summary: str,
    result: dict[str, Any],
    figures: list[tuple[str, str]],
    tables: Sequence[tuple[str, list[str], list[list[str]]]] = (),
    links: Sequence[tuple[str, str]] = (),
    viewer: Viewer | None = None,
    model: Model | None = None,
) -> str:
    """The page as text, which holds all that it shows; `figures` = (caption, address of a picture),
    `tables` = (caption, header, rows), `links` = (text, relative address)."""
    source = part("report.html")
    scripts = []
    if viewer is not None:
        scripts.append(part("assets/viewer.js"))
    if model is not None:
        licence = part("assets/3Dmol-LICENSE.txt").replace("*/", "* /")
        scripts += [f"/*! {licence} */\n" + part("assets/3Dmol-min.js"), part("assets/model.js")]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    context = {"rows": [], "polar": [], "correlations": [], "fit": None} | {
        "title": title,
        "summary": summary,
        "result": {"correlations": [], "fit": None, "grid": None, "verdict": None} | result,
        "figures": figures,
        "tables": tables,
        "links": links,
        "viewer": viewer,
        "model": model,
        "style": part("assets/page.css"),
        "scripts": scripts,
    }
    if "parameters" in result:
        context["rows"] = _rows(result["parameters"])
        context["polar"] = _polar(result["parameters"])
    return environment.from_string(source).render(context)


def part(name: str) -> str:
    """A file that pages are made of."""
    return resources.files("qhrtem_jax.reporting").joinpath(name).read_text("utf-8")


def _rows(table: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    meaning = {p.name: p.meaning for p in PARAMETERS}
    return [
        {
            "name": name,
            "value": with_error(entry["value"], entry["std"]),
            "std_noise": _error(entry["std_noise"]),
            "std": _error(entry["std"]),
            "unit": entry["unit"],
            "meaning": meaning[name] + ("" if entry["free"] else " (fixed)"),
        }
        for name, entry in table.items()
        if entry["free"] or entry["value"] != 0.0
    ]


def _error(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else plain(float(f"{value:.2g}"))


def _polar(table: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    rows = []
    for aberration in ABERRATIONS:
        if aberration.symmetry == 0 or aberration.name == "A0":
            continue
        x, y = (table[name]["value"] for name in aberration.components)
        if x or y:
            azimuth = math.degrees(math.atan2(y, x))
            rows.append(
                {
                    "name": aberration.name,
                    "magnitude": f"{math.hypot(x, y):.5g}",
                    "azimuth": f"{azimuth:.1f}",
                }
            )
    return rows
