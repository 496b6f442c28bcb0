"""Files as users have them."""

import numpy as np
import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.mtf import read_mtf
from qhrtem_jax.io.run_folder import RunFolder
from qhrtem_jax.io.structures import read_structure
from tests.io import digital_micrograph
from tests.io.reading import read_image

CIF = """data_cubic
_cell_length_a 3.905
_cell_length_b 3.905
_cell_length_c 3.905
_cell_angle_alpha 90
_cell_angle_beta 90
_cell_angle_gamma 90
_symmetry_space_group_name_H-M 'P m -3 m'
loop_
_atom_site_label
_atom_site_type_symbol
_atom_site_fract_x
_atom_site_fract_y
_atom_site_fract_z
_atom_site_occupancy
_atom_site_U_iso_or_equiv
Sr1 Sr2+ 0 0 0 1 0.0079
Ti1 Ti4+ 0.5 0.5 0.5 1 0.0056
O1 O2- 0.5 0.5 0 0.9 0.0091
"""


def test_cif_is_expanded_by_symmetry(tmp_path):
    path = tmp_path / "sto.cif"
    path.write_text(CIF)
    crystal = read_structure(path, 2)
    assert sorted(crystal.atoms.symbols) == ["O", "O", "O", "Sr", "Ti"]
    np.testing.assert_allclose(crystal.size_nm, 0.3905)
    oxygen = np.array(crystal.atoms.symbols) == "O"
    np.testing.assert_allclose(crystal.atoms.occupancy[oxygen], 0.9)
    np.testing.assert_allclose(crystal.atoms.b_nm2[oxygen], 8 * np.pi**2 * 0.0091 * 0.01)
    np.testing.assert_allclose(np.sort(crystal.atoms.positions[oxygen].sum(1)), 1.0)
    assert crystal.slice_of_atoms().tolist().count(1) == 3


def test_cel_keeps_every_number(tmp_path):
    path = tmp_path / "two.cel"
    path.write_text(
        "comment\n 0 0.4 0.5 0.6 90 90 90\nBa2+ 0.1 0.2 0.3 0.75 0.004 0 0 0\nO 0.5 0.5 0.999 1 "
        "0.01 0 0 0\n*\n"
    )
    crystal = read_structure(path, 3)
    assert crystal.size_nm == (0.4, 0.5, 0.6)
    assert crystal.atoms.symbols == ("Ba", "O")
    np.testing.assert_allclose(crystal.atoms.positions[0], [0.1, 0.2, 0.3])
    np.testing.assert_allclose(crystal.atoms.occupancy, [0.75, 1.0])
    np.testing.assert_allclose(crystal.atoms.b_nm2, [0.004, 0.01])
    assert crystal.slice_of_atoms().tolist() == [0, 2]


@pytest.mark.parametrize("layout", ["counted", "kind", "bare"])
def test_mtf_layouts_mean_the_same(tmp_path, layout):
    values = [1.0, 0.8, 0.5, 0.2]
    head = {"counted": [4], "kind": [4, 1], "bare": []}[layout]
    path = tmp_path / "camera.mtf"
    path.write_text("\n".join(map(str, [*head, *values])))
    assert read_mtf(path, 1.0).values == tuple(values)
    np.testing.assert_allclose(
        read_mtf(path, 1.0).at(np.array([0.0, 0.5, 1.0, 2.0])), [1.0, 0.65, 0.2, 0.2]
    )


@pytest.mark.parametrize("head", ["", "frequency_per_pixel,mtf\n"])
@pytest.mark.parametrize("first", [0, 1])
def test_an_mtf_with_its_frequencies_is_that_without(tmp_path, head, first):
    values = [1.0, 0.8, 0.5, 0.2]
    lines = [f"{k / 6:.9f}, {value}" for k, value in enumerate(values)][first:]
    path = tmp_path / "camera.csv"
    path.write_text(head + "\n".join(lines) + "\n\n")
    np.testing.assert_allclose(read_mtf(path, 1.0).values, values, atol=1e-7)


def test_an_mtf_at_steps_of_its_own_is_interpolated_up_to_nyquist(tmp_path):
    path = tmp_path / "camera.CSV"
    path.write_text("0,1\n0.05,0.8\n0.3,0.3\n0.7,0.1\n")
    mtf = read_mtf(path, 1.0)
    path.write_text("0,1\n1e-320,1\n0.5,0.2\n")
    assert len(read_mtf(path, 1.0).values) == 4097
    at = np.array([0.0, 0.05, 0.175, 0.3, 0.5])  # 1/pixel
    np.testing.assert_allclose(mtf.at(at / 0.5), [1.0, 0.8, 0.55, 0.3, 0.2], atol=1e-9)


@pytest.mark.parametrize("ending", ["npy", "npz", "tif", "mrc", "dat"])
def test_images_in_every_format(tmp_path, ending):
    image = (1.0 + 0.1 * np.random.default_rng(0).normal(size=(9, 13))).astype("<f4")
    path = tmp_path / f"image.{ending}"
    if ending == "npy":
        np.save(path, image)
    elif ending == "npz":
        np.savez(path, image=image, other=np.zeros(3))
    elif ending == "tif":
        import tifffile

        tifffile.imwrite(path, image)
    elif ending == "mrc":
        import mrcfile

        with mrcfile.new(path) as file:
            file.set_data(image)
    else:
        image.tofile(path)
    np.testing.assert_array_equal(read_image(path, (9, 13) if ending == "dat" else None), image)


def test_resume_is_refused_for_another_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    assert folder.prepare("a", resume=False, overwrite=False)
    assert folder.prepare("a", resume=True, overwrite=False)
    with pytest.raises(InputError, match="other settings"):
        folder.prepare("b", resume=True, overwrite=False)
    folder.write_result({"x": float("nan"), "y": np.float32(0.5)})
    assert '"x": null' in (folder.path / "result.json").read_text()
    assert not folder.prepare("a", resume=True, overwrite=False)
    with pytest.raises(InputError, match="already holds"):
        folder.check(resume=False, overwrite=False)


@pytest.mark.parametrize("ending", ["dm3", "dm4"])
def test_digital_micrograph(tmp_path, ending):
    image = np.random.default_rng(0).uniform(0.5, 1.5, (9, 14)).astype(np.float32)
    path = tmp_path / f"image.{ending}"
    digital_micrograph.write(path, image)
    np.testing.assert_array_equal(read_image(path), image)
    path.write_bytes(path.read_bytes()[:300])
    with pytest.raises(InputError, match=rf"image\.{ending} cannot be read"):
        read_image(path)
