"""A run folder touches what is its own, one process at a time, and believes what it can check."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from qhrtem_jax.errors import DamagedError, InputError
from qhrtem_jax.io.atomic import replacing, write_text
from qhrtem_jax.io.folder_lock import locked
from qhrtem_jax.io.run_folder import ARRAYS, CHECKPOINT, MANIFEST, RESULT, RunFolder, read_json
from qhrtem_jax.io.seal import sealed_json

OTHERS = ("figures/mine.png", "structures/mine.cel", "history.txt", "imaging/data.npy", ".git/HEAD")


def finished(path, fingerprint="a"):
    folder = RunFolder(path)
    assert folder.prepare(fingerprint, resume=False, overwrite=False)
    folder.write_history(["iteration"], [[0]])
    folder.figure_path("fit").write_bytes(b"png")
    folder.write_checkpoint({"x": np.arange(5.0)})
    folder.write_arrays({"x": np.arange(4.0)})
    folder.write_text("report.html", "<p>")
    sub = folder.sub("imaging")
    assert sub.prepare("b", resume=False, overwrite=False)
    sub.write_arrays({"y": np.zeros(3)})
    sub.write_result({"stage": "imaging"})
    folder.write_result({"stage": "test", "mse": 0.25})
    return RunFolder(path)


def listing(path):
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


@pytest.mark.parametrize("options", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("name", ["arrays.npz", "report.html", "result.json", "figures/a.png"])
def test_a_folder_of_somebody_else_is_refused(tmp_path, options, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"precious")
    before = listing(tmp_path)
    with pytest.raises(InputError, match=r"no manifest\.json"):
        RunFolder(tmp_path).prepare("a", *options)
    with pytest.raises(InputError, match=r"no manifest\.json"):
        RunFolder(tmp_path).check(resume=options[0], overwrite=options[1])
    assert listing(tmp_path) == before


def test_overwriting_removes_what_a_run_wrote_and_nothing_else(tmp_path):
    folder = finished(tmp_path)
    for name in OTHERS:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(name.encode())
    with pytest.raises(InputError, match="already holds"):
        folder.prepare("a", resume=False, overwrite=False)
    assert folder.prepare("c", resume=False, overwrite=True)
    left = listing(tmp_path)
    assert set(left) == {*OTHERS, MANIFEST}
    assert all(left[name] == name.encode() for name in OTHERS)


def test_an_interrupted_run_starts_afresh_without_an_option(tmp_path):
    folder = finished(tmp_path)
    (tmp_path / RESULT).unlink()
    assert RunFolder(tmp_path).prepare("other", resume=False, overwrite=False)
    assert set(listing(tmp_path)) == {MANIFEST}
    assert folder.read_checkpoint() is None


@pytest.mark.parametrize(
    "names", [["../escape"], ["/etc/passwd"], ["a/../../b"], [3], ["."], [""], ["a\0"], "x"]
)
def test_a_manifest_cannot_point_outside(tmp_path, names):
    run = tmp_path / "run"
    finished(run)
    (tmp_path / "escape").write_text("precious")
    content = {"schema": "qhrtem_jax/run/1", "fingerprint": "a", "written": names}
    (run / MANIFEST).write_text(json.dumps(sealed_json(content)))
    with pytest.raises(DamagedError, match=r"manifest\.json"):
        RunFolder(run).prepare("a", resume=False, overwrite=True)
    assert (tmp_path / "escape").read_text() == "precious"


def test_a_manifest_without_its_checksum_is_not_believed(tmp_path):
    finished(tmp_path)
    content = json.loads((tmp_path / MANIFEST).read_text())
    del content["checksum"]
    (tmp_path / MANIFEST).write_text(json.dumps(content))
    before = listing(tmp_path)
    with pytest.raises(DamagedError, match="no manifest of a run"):
        RunFolder(tmp_path).prepare("a", resume=False, overwrite=True)
    assert listing(tmp_path) == before


def test_nothing_is_removed_where_a_part_has_a_damaged_manifest(tmp_path):
    finished(tmp_path)
    (tmp_path / "imaging" / MANIFEST).write_text("{}")
    before = listing(tmp_path)
    with pytest.raises(DamagedError, match="imaging"):
        RunFolder(tmp_path).prepare("a", resume=False, overwrite=True)
    assert listing(tmp_path) == before


def test_a_file_of_a_name_that_a_run_writes_stays(tmp_path):
    finished(tmp_path)
    (tmp_path / "structures").mkdir()
    (tmp_path / "structures" / "mine.png").write_text("precious")
    folder = RunFolder(tmp_path)
    folder.prepare("a", resume=False, overwrite=True)
    with pytest.raises(InputError, match=r"mine\.png is there, but no run wrote it"):
        folder.write_text("structures/mine.png", "ours")
    assert (tmp_path / "structures" / "mine.png").read_text() == "precious"


def test_linked_folders_are_not_entered(tmp_path):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (outside / "fit.png").write_text("precious")
    folder = finished(run)
    (run / "figures" / "fit.png").unlink()
    (run / "figures").rmdir()
    (run / "figures").symlink_to(outside)
    folder.prepare("a", resume=False, overwrite=True)
    assert (outside / "fit.png").read_text() == "precious"
    with pytest.raises(InputError, match="leads out of the run folder"):
        folder.figure_path("new")


def test_a_run_that_was_killed_in_its_first_moment_starts(tmp_path):
    (tmp_path / f".{MANIFEST}.7.part").write_text("{")
    (tmp_path / ".lock.break.1").write_text("")
    assert RunFolder(tmp_path).prepare("a", resume=True, overwrite=False)
    assert not list(tmp_path.glob(".*.part"))


def test_folders_of_earlier_versions_are_named(tmp_path):
    (tmp_path / "fingerprint.txt").write_text("a")
    with pytest.raises(InputError, match="earlier version"):
        RunFolder(tmp_path).check(resume=True, overwrite=False)


def test_a_damaged_part_is_done_again(tmp_path):
    finished(tmp_path)
    (tmp_path / "imaging" / RESULT).write_text("garbage")
    assert RunFolder(tmp_path).prepare("a", resume=True, overwrite=False)
    assert (tmp_path / "imaging" / (RESULT + ".damaged")).read_text() == "garbage"


def test_long_names(tmp_path):
    for name in (250 * "n", 125 * "ä"):
        write_text(tmp_path / name, "whole")
        assert (tmp_path / name).read_text() == "whole"


def test_links_are_removed_not_followed(tmp_path):
    outside, run = tmp_path / "outside", tmp_path / "run"
    outside.mkdir()
    (outside / "fit.png").write_text("precious")
    folder = finished(run)
    (run / "figures" / "fit.png").unlink()
    (run / "figures" / "fit.png").symlink_to(outside / "fit.png")
    folder.prepare("a", resume=False, overwrite=True)
    assert (outside / "fit.png").read_text() == "precious"
    assert not (run / "figures").exists()


def test_inputs_in_the_run_folder_are_refused(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.refuse_inputs({"data.image": tmp_path / "image.npy"})
    for path in (tmp_path / "run" / "image.npy", tmp_path / "run" / "a" / "b.npy"):
        with pytest.raises(InputError, match=r"data\.image: .* lies in the run folder"):
            folder.refuse_inputs({"data.image": path})


def test_links_that_lead_nowhere_are_refused(tmp_path):
    (tmp_path / "loop.npy").symlink_to(tmp_path / "loop.npy")
    with pytest.raises(InputError, match=r"data\.image: .*loop\.npy"):
        RunFolder(tmp_path / "run").refuse_inputs({"data.image": tmp_path / "loop.npy"})


def test_arrays_and_checkpoints_come_back(tmp_path):
    folder = finished(tmp_path)
    folder.prepare("a", resume=True, overwrite=False)
    np.testing.assert_array_equal(folder.read_arrays()["x"], np.arange(4.0))
    checkpoint = folder.read_checkpoint()
    assert checkpoint is not None
    assert list(checkpoint) == ["x"]
    assert not RunFolder(tmp_path).prepare("a", resume=True, overwrite=False)


def damages(content: bytes, rng: np.random.Generator):
    """Flipped bits, cuts, lost pieces, garbage."""
    yield b""
    yield b"garbage"
    yield b"null"
    yield b"[" * 100_000
    for _ in range(20):
        at = int(rng.integers(len(content)))
        yield content[:at] + bytes([content[at] ^ (1 << int(rng.integers(8)))]) + content[at + 1 :]
        yield content[:at]
        yield content[:at] + content[at + int(rng.integers(1, 50)) :]


def test_no_damaged_checkpoint_is_believed_or_gives_a_traceback(tmp_path):
    folder = finished(tmp_path)
    folder.prepare("a", resume=True, overwrite=False)
    content = (tmp_path / CHECKPOINT).read_bytes()
    for damaged in damages(content, np.random.default_rng(0)):
        (tmp_path / CHECKPOINT).write_bytes(damaged)
        found = folder.read_checkpoint()
        if found is not None:  # a bit of the zip file that nobody reads
            np.testing.assert_array_equal(found["x"], np.arange(5.0))
        else:
            assert not (tmp_path / CHECKPOINT).exists()
            assert (tmp_path / (CHECKPOINT + ".damaged")).read_bytes() == damaged


def test_a_checkpoint_that_was_changed_on_purpose_is_not_believed(tmp_path):
    folder = finished(tmp_path)
    with np.load(tmp_path / CHECKPOINT) as content:
        arrays = dict(content)
    np.savez(tmp_path / CHECKPOINT, **(arrays | {"x": arrays["x"] + 1e30}))
    assert folder.read_checkpoint() is None


def test_what_belongs_to_another_run_is_not_believed(tmp_path):
    one, other = finished(tmp_path / "one", "a"), finished(tmp_path / "other", "b")
    (tmp_path / "one" / CHECKPOINT).write_bytes((tmp_path / "other" / CHECKPOINT).read_bytes())
    assert one.prepare("a", resume=True, overwrite=False) is False
    assert one.read_checkpoint() is None
    for name in (RESULT, ARRAYS):
        (tmp_path / "one" / name).write_bytes((tmp_path / "other" / name).read_bytes())
    assert other.read_result()["mse"] == 0.25
    assert RunFolder(tmp_path / "one").prepare("a", resume=True, overwrite=False)


def test_a_checkpoint_that_unpacks_to_more_is_not_believed(tmp_path):
    folder = finished(tmp_path)
    folder.prepare("a", resume=True, overwrite=False)
    with np.load(tmp_path / CHECKPOINT) as content:
        arrays = dict(content)
    np.savez_compressed(tmp_path / CHECKPOINT, **(arrays | {"bomb": np.zeros(10**7)}))
    assert folder.read_checkpoint() is None


def test_no_damaged_result_is_taken_for_done(tmp_path, caplog):
    finished(tmp_path)
    whole = (tmp_path / RESULT).read_bytes()
    for damaged in damages(whole, np.random.default_rng(1)):
        (tmp_path / RESULT).write_bytes(damaged)
        try:
            same = read_json(tmp_path / RESULT) == json.loads(whole)
        except DamagedError:
            same = False
        left = RunFolder(tmp_path).prepare("a", resume=True, overwrite=False)
        assert left != same
        assert same or f"set aside as {RESULT}.damaged" in caplog.text
        caplog.clear()


def test_arrays_that_moved_are_not_believed(tmp_path):
    folder = finished(tmp_path)
    np.savez_compressed(tmp_path / ARRAYS, x=np.arange(4.0) + 1e30)
    with pytest.raises(DamagedError, match=r"arrays\.npz is not as it was written"):
        folder.read_arrays()
    assert RunFolder(tmp_path).prepare("a", resume=True, overwrite=False), "the run starts anew"


def test_one_process_at_a_time(tmp_path):
    hold = (
        "import sys, pathlib; from qhrtem_jax.io.folder_lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n"
        "    print('in', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", hold, str(tmp_path / "run")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "in\n"
        with (
            pytest.raises(InputError, match=rf"in use by process {other.pid} on"),
            locked(tmp_path / "run"),
        ):
            pass
        other.kill()
    with locked(tmp_path / "run"):  # the lock of a dead process is none
        assert os.listdir(tmp_path / "run") == [".lock"]
    assert os.listdir(tmp_path / "run") == []


def test_what_is_no_lock_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    with pytest.raises(InputError, match="no lock of a run"), locked(tmp_path):
        pass


def test_arrays_of_another_size_are_not_read(tmp_path):
    folder = finished(tmp_path)
    with (tmp_path / ARRAYS).open("r+b") as file:
        file.truncate(2**40)  # sparse: reading it would take hours
    with pytest.raises(DamagedError, match=r"arrays\.npz"):
        folder.read_arrays()


def test_what_fails_leaves_the_old_file_and_no_part(tmp_path):
    write_text(tmp_path / "a.txt", "old")

    class BrokenError(Exception):
        pass

    def fail():
        with replacing(tmp_path / "a.txt") as file:
            file.write(b"new")
            raise BrokenError

    with pytest.raises(BrokenError):
        fail()
    assert listing(tmp_path) == {"a.txt": b"old"}
    with pytest.raises(OSError, match=r"missing/a\.txt"):
        write_text(tmp_path / "missing" / "a.txt", "x")


def test_parts_of_killed_processes_go_with_the_next_start(tmp_path):
    finished(tmp_path)
    (tmp_path / f".{ARRAYS}.123.part").write_bytes(b"half")
    (tmp_path / RESULT).unlink()
    assert RunFolder(tmp_path).prepare("a", resume=True, overwrite=False)
    assert not list(tmp_path.glob("*.part"))
    assert not list(tmp_path.glob(".*.part"))
