"""The page of a run: what it shows, and how it is written."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.reporting.report import render
from qhrtem_jax.reporting.viewer import Model, Viewer, address


@dataclasses.dataclass(frozen=True)
class Drawing:
    """A figure: `draw` makes figures/NAME.png."""

    name: str
    caption: str
    draw: Callable[[Path], None]


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of texts."""

    caption: str
    head: list[str]
    rows: list[list[str]]


@dataclasses.dataclass(frozen=True)
class Page:
    """What `report.html` shows besides what all pages do; `said`: the lines for the terminal;
    `viewer`: images to look at closely; `model`: atoms to be turned."""

    title: str
    summary: str
    drawings: tuple[Drawing, ...] = ()
    tables: tuple[Table, ...] = ()
    links: tuple[tuple[str, str], ...] = ()
    said: tuple[str, ...] = ()
    viewer: Viewer | None = None
    model: Model | None = None


def write_page(folder: RunFolder, page: Page, result: dict[str, Any]) -> None:
    """Draw the figures and write `report.html`; `result`: the content of `result.json`."""
    pictures = []
    for drawing in page.drawings:
        path = folder.figure_path(drawing.name)
        drawing.draw(path)
        pictures.append((drawing.caption, address(path.read_bytes())))
    text = render(
        page.title,
        page.summary,
        result,
        pictures,
        [(table.caption, table.head, table.rows) for table in page.tables],
        page.links,
        page.viewer,
        page.model,
    )
    folder.write_text("report.html", text)
