"""What pages let one look at closely."""

import base64
import io
import json

import numpy as np
import pytest

from qhrtem_jax.io.journal import Progress
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.physics.columns import columns_of
from qhrtem_jax.physics.specimen import Atoms
from qhrtem_jax.reporting import live
from qhrtem_jax.reporting.column_tables import Column, Count, Estimate
from qhrtem_jax.reporting.page import Page, write_page
from qhrtem_jax.reporting.result import Noise
from qhrtem_jax.reporting.viewer import (
    SIGMAS,
    Area,
    Layer,
    Model,
    Viewer,
    cell_at,
    differences,
    spots_of,
)
from tests import browser
from tests.physics import crystal as sto
from tests.reporting.test_page import RESULT

EVIL = "</script><script>alert(1)</script><b>"


def decoded(layer: dict) -> np.ndarray:
    from PIL import Image

    content = layer["png"].removeprefix("data:image/png;base64,")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(content))))


def test_images_share_one_grey_scale_and_residuals_are_in_sigmas():
    rng = np.random.default_rng(0)
    experiment = rng.uniform(0.5, 1.5, (7, 9))
    simulation = experiment + 0.01 * rng.normal(size=experiment.shape)
    layers = differences(experiment, simulation, Noise(1e-4, (), "vacuum"))
    found = json.loads(Viewer(layers, (0.01, 0.01)).content())["layers"]
    low, high = (f([f(experiment), f(simulation)]) for f in (np.min, np.max))
    for layer, image in zip(found[:2], (experiment, simulation), strict=True):
        np.testing.assert_allclose([layer["low"], layer["high"]], [low, high])
        grey = low + decoded(layer) / 255.0 * (high - low)
        np.testing.assert_allclose(grey, image, atol=0.51 * (high - low) / 255.0)
    residual = decoded(found[3]).astype(int)
    sigmas = (simulation - experiment) / 0.01
    assert [found[3]["low"], found[3]["high"]] == [-SIGMAS, SIGMAS]
    red = residual[..., 0] - residual[..., 2]  # positive is red, negative is blue
    assert np.all(np.sign(red[np.abs(sigmas) > 0.5]) == np.sign(sigmas[np.abs(sigmas) > 0.5]))
    assert found[3]["unit"] == "sigma of the noise"
    assert differences(experiment, simulation, Noise(1e-4, (), "misfit"))[3].unit.endswith("misfit")
    assert len(differences(experiment, simulation, Noise(0.0, (), "given"))) == 3


def test_what_failed_does_not_cost_the_page():
    experiment = np.random.default_rng(0).uniform(0.5, 1.5, (7, 9))
    simulation = np.where(np.arange(9) < 4, experiment, np.nan)
    columns = columns_of(sto.crystal())
    place, _ = cell_at((0.0, 0.0), columns, (0.01, 0.01))
    lost = Column(0.25, 0.5, float("nan"), 0.0, None, None, {})
    layers = differences(experiment, simulation, Noise(1e-4, (), "given"))
    viewer = Viewer(layers, (0.01, 0.01), (), tuple(spots_of([lost], [], place, 0)))
    assert json.loads(viewer.content())["spots"] == []


def test_large_images_are_binned():
    y, x = np.mgrid[:3100, :1600]
    (layer,) = json.loads(Viewer((Layer("one", (x + y).astype(float)),), (0.01, 0.01)).content())[
        "layers"
    ]
    seen = decoded(layer).astype(float)
    assert seen.shape == (1033, 533)
    assert seen[0, 0] == 0.0
    assert seen[-1, -1] == pytest.approx(255.0, abs=1.0)


def test_columns_are_where_they_are_with_their_numbers_and_how_sure_they_are():
    columns = columns_of(sto.crystal())
    place, corners = cell_at((10.0, 20.0), columns, (0.0089, 0.0089))
    wide, high = (n / 0.0089 for n in columns.size_nm[:2])
    np.testing.assert_allclose(corners[2], (20.0 + wide, 10.0 + high))
    shifted, pixels = cell_at((10.0, 20.0), columns, (0.0089, 0.0089), (0.0178, -0.0089))
    assert pixels == corners  # regions are pixels, whatever the image does in them
    np.testing.assert_allclose(shifted[:, 2] - place[:, 2], (2.0, -1.0))
    moved = Column(0.25, 0.5, 89.0, 0.0, 1.0, None, {})
    counts = [
        Count("Sr", 0.25, 0.5, 4, {"4": 0.9, "5": 0.1}),
        Count("O", 0.25, 0.5, 3, {"3": 0.6, "2": 0.4}),
        Count("O", 0.75, 0.5, 9, {"9": 1.0}),
    ]
    (spot,) = spots_of([moved], counts, place, 7)
    np.testing.assert_allclose((spot.x, spot.y), (20.0 + 0.25 * wide, 10.0 + 0.5 * high))
    assert spot.moved_pm == (89.0, 0.0)
    assert (spot.label, spot.sure, spot.area) == ("Sr4 O3", 0.6, 7)
    assert ("O 2", "40.0 %") in spot.says
    assert ("shift x (pm)", "89.0 ± 1.0") in spot.says
    bare = Column(0.25, 0.5, 0.0, 0.0, None, None, {"O": Estimate(0.9, 0.02)})
    (spot,) = spots_of([bare], [], place, 0)
    assert ("occupancy of O", "0.900 ± 0.020") in spot.says


def page_of(folder, **known) -> str:
    write_page(RunFolder(folder), Page("Title", "Summary.", **known), RESULT)
    return (folder / "report.html").read_text("utf-8")


@pytest.fixture
def everything() -> dict:
    rng = np.random.default_rng(1)
    images = rng.uniform(0.5, 1.5, (2, 40, 60))
    columns = columns_of(sto.crystal())
    place, corners = cell_at((0.0, 0.0), columns, (0.0098, 0.0092))
    found = [Column(x, y, 3.0, -2.0, 0.5, 0.5, {}) for x, y in columns.xy]
    counts = [Count("O", c.x, c.y, 3, {"3": 0.7, "4": 0.3}) for c in found]
    viewer = Viewer(
        differences(*images, Noise(1e-3, (), "given")),
        (0.0098, 0.0092),
        (
            Area(f"ROI {EVIL}", corners, (("thickness", EVIL),), 2.0, 1),
            Area("other", ((40.0, 25.0), (55.0, 25.0), (55.0, 38.0)), (), 3.0, 2),
        ),
        tuple(spots_of(found, counts, place, 0)),
    )
    return {"viewer": viewer, "model": Model(columns.size_nm, sto.crystal().atoms)}


def test_names_that_hold_markup_stay_names(tmp_path, everything):
    text = page_of(tmp_path, **everything)
    assert EVIL not in text
    with browser.opened(tmp_path / "report.html") as page:
        assert EVIL in page.locator("#viewer-details").text_content()
        assert page.locator("#viewer-details b").count() == 0


def test_all_that_a_page_offers_works(tmp_path, everything):
    page_of(tmp_path, **everything)
    shows = ("numbers", "doubt", "arrows", "cells", "thickness", "heights")
    browser.look_at(tmp_path / "report.html", shows)


def test_a_click_on_a_column_tells_its_numbers(tmp_path, everything):
    page_of(tmp_path, **everything)
    spot = everything["viewer"].spots[0]
    with browser.opened(tmp_path / "report.html", dark=True) as page:
        box = page.locator("#viewer-canvas").bounding_box()
        scale = box["width"] / 60
        at = {"x": (spot.x + 0.5) * scale, "y": (spot.y + 0.5) * scale * 0.0098 / 0.0092}
        page.locator("#viewer-canvas").click(position=at)
        told = page.locator("#viewer-details").text_content()
    assert told.startswith("O3")
    assert "70.0 %" in told


def test_atoms_are_in_angstrom():
    atoms = Atoms(("O",), np.array([[0.5, 0.25, 0.1]]), np.ones(1), np.zeros(1))
    found = json.loads(Model((0.4, 0.8, 2.0), atoms).content())
    assert found == {"size": [4.0, 8.0, 20.0], "symbols": ["O"], "places": [[2.0, 2.0, 2.0]]}


def test_a_run_that_goes_on_shows_how_far_it_is(tmp_path, monkeypatch):
    folder, told = RunFolder(tmp_path), []
    monkeypatch.setattr(live, "EVERY_S", 0.0)
    tell = live.live_page((folder,), "Stage <imaging> (2 of 5)", told.append)
    for k, best in enumerate((float("inf"), 4e-3, 2.5e-4)):
        share = 0.25 * (k + 1)
        tell(Progress("search", 10 * (k + 1), 40, 3.0 * (k + 1), best, share=share))
    assert len(told) == 3
    live.live_page((folder,), "Stage", told.append)(Progress("search", 1, 2, 1.0, 0.0))
    regions = np.linspace(0.5, 1.5, 3 * 8 * 6).reshape(3, 8, 6)
    shown = {"share": 0.75, "picture": lambda: (regions, regions + 0.1)}
    tell(Progress("search", 30, 40, 9.0, 2.5e-4, **shown))
    tell(Progress("search", 30, 40, 9.0, 2.5e-4, share=0.75))  # the last picture stays
    text = (tmp_path / "report.html").read_text("utf-8")
    assert 'http-equiv="refresh"' in text
    assert "Stage &lt;imaging&gt; (2 of 5)" in text
    for part in ("30 of 40 evaluations", "9 s", "about 3 s left", "0.000250", "polyline"):
        assert part in text
    still = (
        tmp_path / "still.html"
    )  # one that loads itself again would take the page away meanwhile
    still.write_text(text.replace('http-equiv="refresh"', ""), "utf-8")
    with browser.opened(still) as page:
        assert page.locator("progress").get_attribute("value") == "0.750"
        size = page.locator("img").evaluate("image => [image.naturalWidth, image.naturalHeight]")
        assert size == [3 * 8, 3 * 10]  # three regions, with gaps; three images of each


def test_an_image_alone_is_looked_at(tmp_path):
    page_of(tmp_path, viewer=Viewer((Layer("one", np.eye(8)),), (0.01, 0.01)))
    browser.look_at(tmp_path / "report.html")
