"""Crystals agree with what ASE and pymatgen read from the files that other packages bring."""

import functools
import gzip
import importlib.resources
import json
import re
import warnings

import pytest

from qhrtem_jax.errors import InputError
from qhrtem_jax.io.structures import read_unit_cell
from tests.io.crystal_references import by_ase, by_pymatgen, by_us, differences, packaged_cifs

pytest.importorskip("pymatgen", reason="needs the extra `dev`")
FILES = packaged_cifs()
WRONG = {
    ("In", by_ase): "type symbol IN: ASE takes it for iodine and drops the N",
    ("issue7", by_pymatgen): "occupancy 1.00002: pymatgen refuses what rounding adds to 1",
}


def test_there_are_files_to_compare():
    assert len(FILES) >= 50


@pytest.mark.parametrize("reference", [by_ase, by_pymatgen])
@pytest.mark.parametrize("name", FILES)
def test_packaged_files(name, reference):
    if (name, reference) in WRONG:
        pytest.skip(WRONG[name, reference])
    ours = by_us(read_unit_cell(FILES[name]))
    assert not differences(ours, reference(FILES[name]))


@functools.cache
def prototypes() -> dict[int, dict]:
    """One AFLOW prototype of each space group that pymatgen brings, and its number."""
    folder = importlib.resources.files("pymatgen.analysis.prototypes")
    entries = json.loads(gzip.decompress((folder / "aflow_prototypes.json.gz").read_bytes()))
    found = {}
    for entry in entries:
        number = int(entry["tags"]["aflow"].split("_")[2])
        found.setdefault(number, entry["snl"])
    return found


@pytest.fixture(params=sorted(prototypes()))
def prototype(request, tmp_path):
    """A CIF file with the operators of its space group, as pymatgen writes it."""
    from pymatgen.core import Structure
    from pymatgen.io.cif import CifWriter

    path = tmp_path / "prototype.cif"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        CifWriter(Structure.from_dict(prototypes()[request.param]), symprec=1e-3).write_file(path)
    return path


def test_prototypes_of_all_kinds_of_space_groups(prototype, tmp_path):
    ours = by_us(read_unit_cell(prototype))
    assert not differences(ours, by_pymatgen(prototype))
    # the symbol alone says the same, or it is refused where it leaves the origin open
    text = re.sub(
        r"loop_\n( _\S*(site_id|symop_id|as_xyz|operation_xyz)\n)+(  ?\d.*\n)+",
        "",
        prototype.read_text(),
    )
    assert "-x" not in text
    bare = tmp_path / "bare.cif"
    bare.write_text(text)
    try:
        alone = by_us(read_unit_cell(bare))
    except InputError as error:
        assert "leaves open" in str(error)  # noqa: PT017
        return
    assert not differences(ours, alone)
