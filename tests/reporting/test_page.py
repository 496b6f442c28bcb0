"""Pages and numbers as people read them."""

from html.parser import HTMLParser

import numpy as np
import pytest

from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.aberrations import ABERRATION_NAMES, ABERRATIONS, aberration_basis
from qhrtem_jax.reporting.numbers import with_error
from qhrtem_jax.reporting.page import Drawing, Page, Table, write_page
from qhrtem_jax.reporting.report import polar


class Seen(HTMLParser):
    """Texts, and what images and links point to."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.targets: list[str] = []
        self.feed(text)

    def handle_data(self, data: str) -> None:
        self.texts.append(data.strip())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.targets += [value for name, value in attrs if name in ("src", "href") and value]


def entry(value: float, std: float | None, unit: str, free: bool = True) -> dict:
    return {"value": value, "std": std, "std_noise": std, "unit": unit, "free": free}


RESULT = {
    "stage": "imaging",
    "seed": 3,
    "settings": {"data": {"image": "<b>a&b</b>.npy"}},
    "input": {"files": {}},
    "device": {"platform": "cpu", "kind": "cpu"},
    "versions": {"qhrtem_jax": "0"},
    "conventions": {"aberrations": "drprobe"},
    "warnings": ["the file <script>x</script> is odd"],
    "cost": {"evaluations": 1, "gradient_evaluations": 0, "wall_s": 1.0, "compile_s": 0.5},
    "noise": {"variance": 1e-4, "correlation": [], "source": "vacuum"},
    "parameters": {
        "C1": entry(4.4212, 0.0253, "nm"),
        "A1_x": entry(3.0, 0.1, "nm"),
        "A1_y": entry(4.0, 0.1, "nm"),
        "S3_x": entry(3000.0, None, "nm"),
        "S3_y": entry(-4000.0, None, "nm"),
        "C5": entry(0.0, None, "nm", free=False),
    }
    | {
        name: entry(0.0, None, "nm", free=False)
        for aberration in ABERRATIONS
        for name in aberration.components
        if not name.startswith(("C", "A1", "S3"))
    },
}


@pytest.fixture
def page(tmp_path) -> Seen:
    folder = RunFolder(tmp_path)
    drawn = Drawing("picture", "what <i>it</i> shows", lambda path: path.write_bytes(b"drawn"))
    table = Table("numbers", ["of", "n"], [["O", "9 & more"]])
    write_page(
        folder, Page("Title", "Summary <1>", (drawn,), (table,), (("part", "a.html"),)), RESULT
    )
    assert (tmp_path / "figures" / "picture.png").read_bytes() == b"drawn"
    text = (tmp_path / "report.html").read_text("utf-8")
    assert "<script>x" not in text
    return Seen(text)


def test_a_page_shows_what_it_is_given(page):
    for text in ("Title", "Summary <1>", "what <i>it</i> shows", "numbers", "9 & more", "part"):
        assert any(text in seen for seen in page.texts), text
    assert any("<script>x</script> is odd" in seen for seen in page.texts)
    assert "data:image/png;base64,ZHJhd24=" in page.targets  # the page holds its figures
    assert "a.html" in page.targets


def test_parameters_have_as_many_digits_as_they_are_known_to(page):
    assert "4.421 ± 0.025" in page.texts
    assert "C5" not in page.texts  # fixed at 0
    # A1 = 3 + 4i nm with errors, and S3 = 3 - 4i um
    for text in ("5.00 ± 0.10", "26.57 ± 0.57", "153.43", "\N{MICRO SIGN}m"):
        assert text in page.texts, (text, page.texts)


def test_azimuths_are_where_the_terms_have_their_maximum():
    """Of the phase itself, for every aberration that is not round."""
    angles = np.radians(np.arange(0.0, 360.0, 0.25))
    terms = aberration_basis(0.01 * np.cos(angles), 0.01 * np.sin(angles))
    for aberration in ABERRATIONS:
        n = aberration.symmetry
        if n == 0 or aberration.name == "A0":
            continue
        x, y = aberration.components
        table = dict.fromkeys(ABERRATION_NAMES, entry(0.0, None, "nm"))
        table |= {x: entry(-2.0, 0.1, "nm"), y: entry(1.0, 0.1, "nm")}
        (row,) = polar(table, "haider")
        vector = np.array([table[name]["value"] for name in ABERRATION_NAMES])
        phase = vector @ terms
        best = np.degrees(angles[np.argmax(phase)]) % (360.0 / n)
        assert float(row["azimuth"].split()[0]) == pytest.approx(best, abs=0.3), aberration.name


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (4.4212, 0.0253, "4.421 ± 0.025"),
        (-5213.7, 123.0, "-5210 ± 120"),
        (20.0, 0.0, "20 ± < 0.01"),
        (1.23456789, None, "1.2346"),
        (0.0, None, "0"),
        (3e-6, None, "3e-06"),
        (2.5e6, None, "2500000"),
        (0.5, 3.0, "0.5 ± 3.0"),
        (-1e-9, 0.02, "0.000 ± 0.020"),
    ],
)
def test_numbers_are_written_as_people_do(value, std, text):
    assert with_error(value, std) == text
