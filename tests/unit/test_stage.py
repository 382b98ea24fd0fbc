"""A bad subject is recorded and stops nobody; a bad call stops the program with one line."""

import json
import os
import signal
import subprocess
import sys
import types

import pytest

from mrs_synthesis import collect, convert, stage
from mrs_synthesis.files import read_table


def test_success_is_recorded_with_the_facts(tmp_path):
    stage.run_subject(lambda: {"n": 3}, stage="x", unit="sub-1", outputs=[], status=tmp_path / "s.json")
    assert json.loads((tmp_path / "s.json").read_text()) == {
        "n": 3,
        "reason": "",
        "stage": "x",
        "status": "ok",
        "unit": "sub-1",
    }


def test_bad_input_is_recorded_and_leaves_empty_outputs_that_readers_skip(tmp_path):
    def work():
        raise stage.InputError("a.dat: half a file;\nsend it again")

    output = tmp_path / "o.nii.gz"
    stage.run_subject(work, stage="convert", unit="sub-1", outputs=[output], status=tmp_path / "s.json")
    record = json.loads((tmp_path / "s.json").read_text())
    assert (record["status"], record["reason"]) == ("failed", "a.dat: half a file; send it again")
    with pytest.raises(stage.SkippedError):
        stage.require(output)


def test_without_a_status_file_bad_input_is_an_error(tmp_path):
    def work():
        raise stage.InputError("bad")

    with pytest.raises(stage.InputError):
        stage.run_subject(work, stage="x", unit="u", outputs=[tmp_path / "o"], status=None)
    assert not (tmp_path / "o").exists()


def test_other_errors_are_never_taken_for_bad_input(tmp_path):
    with pytest.raises(ZeroDivisionError):
        stage.run_subject(lambda: 1 // 0, stage="x", unit="u", outputs=[], status=tmp_path / "s.json")
    assert not (tmp_path / "s.json").exists()


def test_a_full_disk_is_not_the_scans_fault(tmp_path, monkeypatch, capsys):
    def work():
        raise stage.InputError("a.dat: spec2nii could not read it (OSError: [Errno 28] No space left on device)")

    monkeypatch.setattr(sys, "argv", ["convert"])
    words = {"stage": "convert", "unit": "sub-1", "outputs": [tmp_path / "o"], "status": tmp_path / "s.json"}
    with pytest.raises(SystemExit):
        stage.run(lambda _: stage.run_subject(work, **words))
    assert list(tmp_path.iterdir()) == []
    said = capsys.readouterr().err
    assert said.startswith("error: a.dat, or /") and "no space left on the disk" in said and said.count("\n") == 1


def test_the_program_ends_with_one_line(tmp_path, root):
    call = [sys.executable, "-m", "mrs_synthesis.sheet", "--samples", "no.tsv", "--seed", "1", "--output", "u.tsv"]
    done = subprocess.run(
        call, cwd=tmp_path, env={"PYTHONPATH": str(root / "workflow")}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("error: no.tsv: no such sample sheet")
    assert done.stderr.count("\n") == 1


def test_failures_table_lists_the_failed_and_the_excluded_only(tmp_path):
    units = [
        {"stage": "convert", "unit": f"sub-{name}", "status": status, "reason": "why"}
        for name, status in (("a", "ok"), ("b", "failed"), ("c", "skipped"))
    ]
    for name, part in (("1", units[:1]), ("2", units[1:])):
        (tmp_path / f"{name}.json").write_text(json.dumps({"units": part}))
    header = "subject\tsite\tvendor\tformat\tsequence\tmetab\texclude\n"
    (tmp_path / "s.tsv").write_text(header + "d\t1\tge\tge_pfile\tpress\td.7\tmoved a lot\n")
    table = tmp_path / "failures.tsv"
    collect.failures([tmp_path / f"{n}.json" for n in "12"], str(tmp_path / "s.tsv"), table)
    rows = read_table(table)
    assert rows[["unit", "stage", "reason"]].values.tolist() == [
        ["sub-d_acq-press", "excluded", "moved a lot"],
        ["sub-b", "convert", "why"],
    ]
    with pytest.raises(stage.InputError, match=r"1 scan\(s\) failed"):
        collect.complete([table], tmp_path / "complete.json")
    assert not (tmp_path / "complete.json").exists()


def test_conversion_table_identifies_each_scan_and_spells_missing_as_bids_does(tmp_path):
    record = {"stage": "convert", "unit": "sub-a", "status": "ok", "reason": "", "te_ms": 68.0, "tr_ms": None}
    (tmp_path / "a.json").write_text(json.dumps({"units": [record]}))
    (tmp_path / "units.tsv").write_text("unit\tsubject\tsession\tsite\nsub-a\ta\tn/a\tP3\n")
    collect.conversion([tmp_path / "a.json"], tmp_path / "units.tsv", tmp_path / "conversion.tsv")
    header, row = (line.split("\t") for line in (tmp_path / "conversion.tsv").read_text().splitlines())
    found = dict(zip(header, row, strict=True))
    assert (found["site"], found["te_ms"], found["tr_ms"], found["reason"]) == ("P3", "68", "n/a", "n/a")
    assert set(header) == set(json.loads((tmp_path / "conversion.json").read_text()))


@pytest.mark.parametrize(("end", "blamed"), [("SIGKILL", False), ("SIGTERM", False), ("SIGTRAP", True)])
def test_a_kill_of_spec2nii_is_not_the_scans_fault_but_a_crash_is(monkeypatch, tmp_path, end, blamed):
    """The machine kills the largest process when memory runs out."""
    module = types.ModuleType("spec2nii.spec2nii")
    module.main = lambda: os.kill(os.getpid(), getattr(signal, end))
    monkeypatch.setitem(sys.modules, "spec2nii", types.ModuleType("spec2nii"))
    monkeypatch.setitem(sys.modules, "spec2nii.spec2nii", module)
    (tmp_path / "a.dat").write_bytes(bytes(100))
    words = ["--metab", tmp_path / "a.dat", "--format", "siemens_twix", "--edit-scheme", "none", "--unit", "u"]
    words += ["--output", tmp_path / "o.nii.gz", "--status", tmp_path / "s.json"]
    if blamed:
        convert.main(list(map(str, words)))
        assert "could not read it" in json.loads((tmp_path / "s.json").read_text())["reason"]
        return
    with pytest.raises(stage.KilledError, match="spec2nii was killed"):
        convert.main(list(map(str, words)))
    assert not (tmp_path / "s.json").exists() and not (tmp_path / "o.nii.gz").exists()
