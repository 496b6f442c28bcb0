"""Arrays that are kept on disk, and written in pieces."""

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from qhrtem_jax.io import large_arrays
from qhrtem_jax.io.large_arrays import pieces, write_npz
from qhrtem_jax.io.run_folder import RunFolder


@pytest.fixture(autouse=True)
def _small(monkeypatch):
    monkeypatch.setattr(large_arrays, "LARGE_BYTES", 1000)
    monkeypatch.setattr(large_arrays, "PIECE_BYTES", 300)


@pytest.fixture
def filled(tmp_path):
    array = RunFolder(tmp_path).room("a", (37, 5, 3), np.float32)
    assert isinstance(array, np.memmap)
    kept = (tmp_path / "a.scratch.npy").stat()
    assert getattr(kept, "st_blocks", 1) * 512 >= array.nbytes  # the disk has room for it
    for k in range(len(array)):
        array[k] = k + np.arange(15.0).reshape(5, 3) / 16.0
        large_arrays.forget(array)
    return array


def test_what_is_forgotten_stays_in_the_file(filled):
    expected = np.arange(37.0)[:, None, None] + np.arange(15.0).reshape(5, 3) / 16.0
    np.testing.assert_array_equal(filled, expected)
    parts = list(pieces(filled))
    assert len(parts) > 5
    np.testing.assert_array_equal(np.concatenate([part for _, part in parts]), expected)


def test_small_arrays_are_no_files(tmp_path):
    assert not isinstance(RunFolder(tmp_path).room("a", (3, 3), np.float64), np.memmap)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("order", ["C", "F"])
def test_what_is_written_in_pieces_is_read_back(filled, order, tmp_path):
    arrays = {"a": filled, "b": np.asarray(np.arange(600.0).reshape(20, 30), order=order)}
    arrays |= {"n": np.array(3), "none": np.zeros((0, 4))}
    with (tmp_path / "a.npz").open("w+b") as file:
        write_npz(file, arrays)
    found = np.load(tmp_path / "a.npz", allow_pickle=False)
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[name], array)
        assert found[name].dtype == array.dtype


def test_memory_is_given_back(tmp_path):
    """In a process of its own, which says how much it had at most (KiB)."""
    if not Path("/proc/self/status").is_file():
        pytest.skip("only Linux says it")
    code = f"""
        import numpy as np
        from pathlib import Path
        from qhrtem_jax.io.large_arrays import forget, on_disk, write_npz
        array = on_disk(Path({str(tmp_path / "a.npy")!r}), (120, 2**20), np.dtype(np.float32))
        for k in range(len(array)):
            array[k] = k
            forget(array)
        with open({str(tmp_path / "a.npz")!r}, "w+b") as file:
            write_npz(file, {{"a": array}})
        status = Path("/proc/self/status").read_text()
        print(status.split("VmHWM:")[1].split()[0])
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert int(said) < 300 * 1024
    assert (tmp_path / "a.npz").stat().st_size > 480 * 2**20 - 1
