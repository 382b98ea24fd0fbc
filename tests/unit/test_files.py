"""Whole-file writing, tables and random streams."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import files, seeds


def test_write_whole_leaves_nothing_after_a_failure(tmp_path):
    target = tmp_path / "a" / "table.nii.gz"
    with pytest.raises(RuntimeError), files.write_whole(target) as temporary:
        assert temporary.name.endswith(".nii.gz")
        temporary.write_text("half")
        raise RuntimeError
    assert list(target.parent.iterdir()) == []


def test_write_whole_keeps_the_old_file_until_the_new_one_is_whole(tmp_path):
    target = tmp_path / "x.txt"
    files.write_text(target, "old")
    with pytest.raises(RuntimeError), files.write_whole(target) as temporary:
        temporary.write_text("new")
        raise RuntimeError
    assert target.read_text() == "old"


def test_write_whole_follows_the_umask_even_if_the_writer_did_not(tmp_path):
    before = os.umask(0o027)
    try:
        with files.write_whole(tmp_path / "x") as temporary:
            temporary.touch()
            temporary.chmod(0o600)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x").stat().st_mode) == 0o640


def test_json_is_sorted_and_refuses_nan(tmp_path):
    files.write_json(tmp_path / "x.json", {"b": 1, "a": [1.5]})
    assert list(json.loads((tmp_path / "x.json").read_text())) == ["a", "b"]
    with pytest.raises(ValueError):
        files.write_json(tmp_path / "y.json", {"a": float("nan")})
    assert not (tmp_path / "y.json").exists()


def test_tables_keep_identifiers_as_text_and_spell_missing_as_bids_does(tmp_path):
    files.write_table(tmp_path / "t.tsv", pd.DataFrame({"subject": ["01", "NA"], "value": [0.1, np.nan]}))
    assert (tmp_path / "t.tsv").read_text() == "subject\tvalue\n01\t0.1\nNA\tn/a\n"
    table = files.read_table(tmp_path / "t.tsv", ["subject"])
    assert table["subject"].tolist() == ["01", "NA"]
    assert np.isnan(table["value"][1])
    with pytest.raises(ValueError, match="no column other"):
        files.read_table(tmp_path / "t.tsv", ["other"])


def test_sha256_of_a_known_text(tmp_path):
    (tmp_path / "abc").write_text("abc")
    # FIPS 180-2, appendix B.1
    assert files.sha256(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_random_streams_depend_on_seed_and_name_only():
    first = seeds.generator(1, "noise", "sub-01").normal(size=5)
    seeds.generator(1, "noise", "sub-99").normal(size=5)
    assert np.array_equal(first, seeds.generator(1, "noise", "sub-01").normal(size=5))
    assert not np.array_equal(first, seeds.generator(2, "noise", "sub-01").normal(size=5))
    assert not np.array_equal(first, seeds.generator(1, "noise", "sub-0", "1").normal(size=5))


def test_tables_and_arrays_grow_and_appear_whole(tmp_path):
    parts = [pd.DataFrame({"cell": [0], "note": [None]}), pd.DataFrame({"cell": [1, 2], "note": ["a", None]})]
    with files.append_table(tmp_path / "t.tsv") as append:
        for part in parts:
            append(part)
            assert not (tmp_path / "t.tsv").exists()
    assert (tmp_path / "t.tsv").read_text() == "cell\tnote\n0\tn/a\n1\ta\n2\tn/a\n"
    rows = (np.arange(12).reshape(6, 2) * (1 + 2j)).astype(np.complex64)
    with files.ArraySpool(tmp_path / "a.npz") as spool:
        for start in (0, 2, 5):
            spool.append("rows", rows[start : {0: 2, 2: 5, 5: 6}[start]])
            spool.append("numbers", np.arange(start, start + 1))
        with pytest.raises(ValueError, match="rows"):
            spool.append("rows", np.zeros((1, 3), np.complex64))
        with pytest.raises(ValueError, match="numbers"):
            spool.append("numbers", np.zeros(1))
        assert not (tmp_path / "a.npz").exists()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as stored:
        assert stored.files == ["rows", "numbers"]
        assert stored["rows"].dtype == np.complex64 and np.array_equal(stored["rows"], rows)
        assert stored["numbers"].tolist() == [0, 2, 5]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "t.tsv"]


def test_spool_gives_the_same_bytes_at_another_time_and_nothing_after_a_failure(tmp_path, monkeypatch):
    written = []
    for year in (1_000_000_000, 1_700_000_000):
        monkeypatch.setattr("time.time", lambda year=year: year)
        with files.ArraySpool(tmp_path / "a.npz") as spool:
            spool.append("x", np.arange(3.0))
        written.append((tmp_path / "a.npz").read_bytes())
    assert written[0] == written[1]
    with pytest.raises(RuntimeError), files.ArraySpool(tmp_path / "b.npz") as spool:
        spool.append("x", np.arange(3.0))
        raise RuntimeError
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


def test_what_a_killed_writer_left_is_removed_by_the_next_writer_of_the_same_file(tmp_path):
    names = [".x.0123456789abcdef.nii.gz", ".x.0123456789abcdef.nii", ".x.nii.gz", ".y.0123456789abcdef.nii.gz"]
    for name in names:
        (tmp_path / name).write_text("half")
    files.write_text(tmp_path / "x.nii.gz", "whole")
    assert {path.name for path in tmp_path.iterdir()} == {"x.nii.gz", *names[1:]}


def test_a_process_killed_while_it_writes_leaves_nothing_for_good(tmp_path, monkeypatch, root):
    monkeypatch.setenv("PYTHONPATH", str(root / "workflow"))
    code = f"""if True:
        import os, signal, numpy as np
        from mrs_synthesis import files
        with files.ArraySpool({str(tmp_path / "a.npz")!r}) as spool:
            spool.append("x", np.zeros(100_000))
            with files.write_whole({str(tmp_path / "a.npz")!r}) as temporary:
                temporary.write_text("half")
                os.kill(os.getpid(), signal.SIGKILL)"""
    done = subprocess.run([sys.executable, "-c", code])
    assert done.returncode == -signal.SIGKILL
    (left,) = tmp_path.iterdir()  # the spool has no name
    assert left.name.startswith(".a.") and left.read_text() == "half"
    files.write_text(tmp_path / "a.npz", "whole")
    assert [path.name for path in tmp_path.iterdir()] == ["a.npz"]


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        OSError("12800 requested and 4096 written"),  # as numpy says it
        RuntimeError("Error while serializing: I/O error: No space left on device (os error 28)"),  # safetensors
    ],
)
def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path, error):
    with (
        pytest.raises(OSError, match=r"No space left on device: '.*x\.npy'") as raised,
        files.write_whole(tmp_path / "x.npy") as temporary,
    ):
        temporary.write_text("half")
        raise error
    assert files.is_full(raised.value)
    assert not list(tmp_path.iterdir())


def test_other_errors_stay_what_they_are(tmp_path):
    with pytest.raises(PermissionError), files.write_whole(tmp_path / "x") as temporary:
        temporary.touch()
        raise PermissionError(errno.EACCES, "Permission denied")
    assert not files.is_full(FileNotFoundError(errno.ENOENT, "No such file"))
