"""Vibrations and diffraction patterns, as stage `simulate` gives them."""

from importlib import resources
from pathlib import Path

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.io.structures import read_structure
from qhrtem_jax.pipeline import run
from qhrtem_jax.simulation.drawings import rings
from qhrtem_jax.stages import run_settings
from tests.runs import Quiet, computed, prepared
from tests.schema import check

CELL = str(resources.files("qhrtem_jax") / "example/SrTiO3_110.cel")
GRID = (24, 36)
TABLE = "C1,thickness\n4.0,5\n2.0,9\n"


def settings(tmp_path, specimen, **simulate):
    (tmp_path / "table.csv").write_text(TABLE)
    known = {"structure": CELL, "grid": list(GRID), "configurations": 4, "phonon_cells": [2, 1]}
    return run_settings(
        {
            "stage": "simulate",
            "data": {"roi_shape": [11, 16], "sampling_nm": 0.0355},
            "specimen": known | specimen,
            "simulate": {"table": str(tmp_path / "table.csv")} | simulate,
            "parameters": {"absorption": {"value": 0.0}},
        }
    )


def trajectory(path, cell, displacements, times=(1, 1, 1)):
    """Frames of `times` cells, each atom displaced (Angstrom), as molecular dynamics gives them."""
    edge = 10.0 * np.array(cell.size_nm)
    frames = []
    for moved in displacements:
        lines, number = [], 0
        for n in np.ndindex(*times):
            for symbol, place in zip(cell.atoms.symbols, cell.atoms.positions, strict=True):
                at = (np.array(n) + place) * edge + moved[number]
                lines.append(f"{symbol} " + " ".join(f"{x:.8f}" for x in at))
                number += 1
        lattice = " ".join(f"{x:.8f}" for x in np.diag(edge * np.array(times)).ravel())
        frames += [str(number), f'Lattice="{lattice}" Properties=species:S:1:pos:R:3', *lines]
    path.write_text("\n".join(frames) + "\n")


def test_frozen_lattices_give_images_with_errors_and_patterns(tmp_path):
    chosen = settings(tmp_path, {"phonons": "frozen"}, save_diffraction=True, save_wave=True)
    folder = RunFolder(tmp_path / "run")
    run(chosen, folder, Quiet())
    result, arrays = folder.read_result(), folder.read_arrays()
    check(result)
    known, patterns = result["phonons"], result["diffraction"]
    assert (known["model"], known["configurations"], known["cells"]) == ("frozen", 4, [2, 1])
    errors = np.sqrt(np.mean(np.square(arrays["image_error"]), axis=(1, 2)))
    assert arrays["image"].shape == arrays["image_error"].shape == (2, 11, 16)
    assert known["standard_error"] == pytest.approx(errors.max(), rel=1e-5)
    assert errors.min() > 1e-4
    whole, elastic = arrays["diffraction"], arrays["diffraction_elastic"]
    assert whole.shape == elastic.shape == (2, 48, 36)
    assert patterns["total"] == pytest.approx(whole.sum() / 2, rel=1e-5)
    assert patterns["elastic"] == pytest.approx(elastic.sum() / 2, rel=1e-5)
    assert 0.5 < patterns["elastic"] < patterns["total"] - 1e-4 < 1.0
    assert np.unravel_index(np.argmax(whole[0]), whole[0].shape) == (24, 18)
    height, width = (0.3905, 0.3905 * 2**0.5)
    np.testing.assert_allclose(patterns["step_per_nm"], [0.5 / height, 1.0 / width], rtol=1e-3)
    assert np.count_nonzero(elastic[0, 1::2]) == 0  # no beams between those of a cell
    assert arrays["exit_wave"].shape == (2, *GRID)
    assert {p.name for p in (folder.path / "figures").glob("*.png")} == {
        "images.png",
        "diffraction.png",
    }
    again, _ = computed(prepared(chosen), tmp_path / "again")
    assert again["intensity"] == result["intensity"]


def test_absorption_takes_intensity_from_images(tmp_path):
    found = {}
    for model in ("none", "absorptive"):
        known = {"phonons": model, "phonon_cells": "auto"}
        chosen = settings(tmp_path, known, save_diffraction=True)
        found[model] = computed(prepared(chosen), tmp_path / model)
    plain, less = (found[model][0] for model in ("none", "absorptive"))
    assert plain["diffraction"]["total"] == pytest.approx(
        found["none"][1]["diffraction"].sum() / 2, rel=1e-5
    )
    assert less["phonons"] == {
        "model": "absorptive",
        "configurations": None,
        "cells": None,
        "standard_error": None,
    }
    lost = plain["diffraction"]["total"] - less["diffraction"]["total"]
    assert 0.002 < lost < 0.05
    assert plain["intensity"]["mean"] - less["intensity"]["mean"] == pytest.approx(lost, rel=0.05)


def test_a_trajectory_is_simulated_frame_by_frame(tmp_path):
    cell = read_structure(Path(CELL), 4)
    rng = np.random.default_rng(2)
    moved = rng.normal(size=(3, 60, 3)) * [0.1, 0.1, 0.0]
    trajectory(tmp_path / "md.xyz", cell, moved, (1, 2, 3))
    known = {"phonons": "frozen", "phonon_cells": "auto", "trajectory": str(tmp_path / "md.xyz")}
    chosen = settings(tmp_path, known | {"configurations": 7, "slices": 4})
    result, arrays = computed(prepared(chosen), tmp_path / "run")
    assert result["phonons"]["cells"] == [2, 1]
    assert result["phonons"]["configurations"] == 3  # no frame counts twice
    assert any("has 3 frames" in warning for warning in result["warnings"])
    every = []
    for k in range(3):  # each frame alone, as often as there are to be configurations
        trajectory(tmp_path / f"{k}.xyz", cell, moved[[k, k]], (1, 2, 3))
        alone = known | {"trajectory": str(tmp_path / f"{k}.xyz"), "configurations": 2, "slices": 4}
        one, images = computed(prepared(settings(tmp_path, alone)), tmp_path / str(k))
        assert one["phonons"]["standard_error"] < 1e-7
        every.append(images["image"])
    np.testing.assert_allclose(arrays["image"], np.mean(every, axis=0), atol=2e-6)
    assert np.std(every, axis=0).max() > 0.01


@pytest.mark.parametrize(
    ("specimen", "text", "message"),
    [
        ({}, None, "specimen.trajectory: found .* expected specimen.phonons=frozen"),
        ({"phonons": "frozen"}, "3\nLattice=", "specimen.trajectory, frame 1: .*: announces 3 at"),
        (
            {"phonons": "frozen"},
            "",
            "specimen.trajectory: .* is empty",
        ),
        (
            {"phonons": "frozen"},
            2 * '1\nLattice="7 0 0 0 3.9 0 0 0 5.5"\nSr 0 0 0\n',
            "frame 1: .* has a cell of 0.7000 x 0.3900 x 0.5500 nm, expected whole cells",
        ),
        (
            {"phonons": "frozen"},
            '1\nLattice="5.5 0 0 0 3.9 0 0 0 5.5"\nSr 0 0 0\n',
            "specimen.trajectory: .* has 1 frame, expected two or more",
        ),
        ({"phonons": "frozen", "phonon_cells": [2, 2]}, None, "specimen.phonon_cells: found"),
    ],
)
def test_what_is_wrong_with_a_trajectory_is_said(tmp_path, specimen, text, message):
    path = tmp_path / "md.xyz"
    if text is None:
        cell = read_structure(Path(CELL), 4)
        trajectory(path, cell, np.zeros((2, 10, 3)))
    else:
        path.write_text(text)
    known = {"phonon_cells": "auto"} | specimen | {"trajectory": str(path)}
    with pytest.raises(InputError, match=message):
        prepared(settings(tmp_path, known))


def test_frames_of_other_atoms_are_refused(tmp_path):
    cell, path = read_structure(Path(CELL), 4), tmp_path / "md.xyz"
    trajectory(path, cell, np.zeros((2, 10, 3)))
    path.write_text(path.read_text().replace("Ti ", "Zr "))
    known = {"phonons": "frozen", "phonon_cells": "auto", "trajectory": str(path)}
    message = "frame 1: .*md.xyz has atoms of O, Sr, Zr, expected .* O, Sr, Ti"
    with pytest.raises(InputError, match=message):
        prepared(settings(tmp_path, known))


def test_cells_of_displaced_lattices_are_refused_where_none_are(tmp_path):
    with pytest.raises(
        InputError, match=r"phonon_cells: found \[2, 3\] with specimen.phonons=none"
    ):
        prepared(settings(tmp_path, {"phonon_cells": [2, 3]}))


def test_frozen_lattices_are_refused_where_images_are_fitted(tmp_path):
    np.save(tmp_path / "image.npy", 1.0 + 0.1 * np.eye(12))
    content = {
        "stage": "imaging",
        "data": {"image": str(tmp_path / "image.npy"), "sampling_nm": 0.035},
        "specimen": {"structure": CELL, "phonons": "frozen"},
    }
    with pytest.raises(InputError, match=r"specimen\.phonons: found frozen, expected none or abs"):
        prepared(run_settings(content))


def test_rings_are_means_over_directions():
    y, x = np.mgrid[-16:16, -20:20]
    q = np.hypot(0.5 * y, 0.4 * x)
    middles, means = rings(np.exp(-q), (0.5, 0.4))
    assert middles[-1] == pytest.approx(7.5)
    np.testing.assert_allclose(means[2:], np.exp(-middles[2:]), rtol=0.1)
