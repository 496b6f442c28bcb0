"""report.html: one page that a microscopist can read."""

import math
from collections.abc import Sequence
from importlib import resources
from typing import Any

import jinja2

from qhrtem_jax.inputs.advice import advice_for
from qhrtem_jax.physics.aberrations import ABERRATIONS
from qhrtem_jax.physics.parameters import PARAMETERS
from qhrtem_jax.reporting.numbers import plain, with_error
from qhrtem_jax.reporting.viewer import Model, Viewer

UNITS_READ = {
    name: (1e-6, "mm") if aberration.power == 6 else (1e-3, "\N{MICRO SIGN}m")
    for aberration in ABERRATIONS
    for name in aberration.components
    if aberration.power >= 4
}
"""(factor, unit) in which people read aberrations of third order and more, by component."""


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
        "advice": advice_for,
        "style": part("assets/page.css"),
        "scripts": scripts,
    }
    if "parameters" in result:
        context["rows"] = _rows(result["parameters"])
        context["polar"] = polar(result["parameters"], result["conventions"]["aberrations"])
    return environment.from_string(source).render(context)


def part(name: str) -> str:
    """A file that pages are made of."""
    return resources.files("qhrtem_jax.reporting").joinpath(name).read_text("utf-8")


def _rows(table: dict[str, dict[str, Any]]) -> list[dict[str, str]]:
    meaning = {p.name: p.meaning for p in PARAMETERS}
    rows = []
    for name, entry in table.items():
        if not entry["free"] and entry["value"] == 0.0:
            continue
        factor, unit = UNITS_READ.get(name, (1.0, entry["unit"]))
        std, std_noise = (
            None if entry[key] is None else factor * entry[key] for key in ("std", "std_noise")
        )
        rows.append(
            {
                "name": name,
                "value": with_error(factor * entry["value"], std),
                "std_noise": _error(std_noise),
                "unit": unit,
                "meaning": meaning[name] + ("" if entry["free"] else " (fixed)"),
            }
        )
    return rows


def _error(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else plain(float(f"{value:.2g}"))


def polar(table: dict[str, dict[str, Any]], convention: str) -> list[dict[str, str]]:
    """Magnitude and azimuth of what is not round, numbers in a `convention`: where its term has its
    maximum, from x towards y, modulo its symmetry."""
    rows = []
    for aberration in ABERRATIONS:
        n = aberration.symmetry
        if n == 0 or aberration.name == "A0":
            continue
        x, y = (table[name]["value"] for name in aberration.components)
        if not (x or y):
            continue
        factor, unit = UNITS_READ.get(aberration.components[0], (1.0, "nm"))
        size = math.hypot(x, y)
        turned = -1.0 if aberration.conjugate and convention == "haider" else 1.0
        azimuth = math.degrees(turned * math.atan2(y, x)) / n % (360.0 / n)
        errors = [table[name]["std"] for name in aberration.components]
        std = std_azimuth = None
        if None not in errors:
            std = math.hypot(x * errors[0], y * errors[1]) / size
            std_azimuth = math.degrees(math.hypot(y * errors[0], x * errors[1]) / size**2) / n
        if std_azimuth is not None and std_azimuth > 90.0 / n:
            said = "any"
        else:
            said = with_error(azimuth, std_azimuth)
        rows.append(
            {
                "name": aberration.name,
                "magnitude": with_error(factor * size, None if std is None else factor * std),
                "unit": unit,
                "azimuth": said,
                "symmetry": str(n),
            }
        )
    return rows
