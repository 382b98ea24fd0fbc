"""One writer at a time: what an earlier run left writing is waited for, and never has the last word."""

import json
import os
import subprocess
import sys
import textwrap
import time

import pytest

from mrs_synthesis import fslmrs, stage, writers

SLOW_STAGE = """
    import sys, time, types
    from pathlib import Path
    from mrs_synthesis import shard, stage
    from mrs_synthesis.files import write_text

    def main(argv):
        words = dict(zip(argv[::2], argv[1::2]))
        def work():
            write_text(words["--output"] + ".begun", "")
            time.sleep(float(words["--seconds"]))
            write_text(words["--output"], words["--text"])
        stage.run_subject(work, stage="slow", unit=words["--unit"], outputs=[], status=Path(words["--status"]))

    module = types.ModuleType("mrs_synthesis.slow")
    module.main = main
    sys.modules["mrs_synthesis.slow"] = module
    shard.main(sys.argv[1:])
"""


def start(folder, text, seconds, shard="seen-0001", units="ab"):
    listed = json.dumps([{"unit": name, "folder": f"sub-{name}"} for name in units])
    record, output = folder / "study" / "records" / "slow" / f"{shard}.json", folder / "study" / "%unit.txt"
    words = ["--units", listed, "--record", record, "--study", folder / "study", "--code", "1", "--writes", output]
    words += ["--", "slow", "--output", output, "--text", text, "--seconds", seconds]
    call = [sys.executable, "-c", textwrap.dedent(SLOW_STAGE), *map(str, words)]
    return subprocess.Popen(call, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def until(condition):
    for _ in range(3000):
        if condition():
            return
        time.sleep(0.01)
    raise TimeoutError


@pytest.fixture
def folder(tmp_path, monkeypatch, root):
    monkeypatch.setenv("PYTHONPATH", str(root / "workflow"))
    (tmp_path / ".snakemake").mkdir()
    return tmp_path


@pytest.mark.parametrize(("shard", "units"), [("seen-0001", "ab"), ("seen-0009", "b")])
def test_a_job_left_by_a_killed_run_does_not_write_over_the_next_runs_results(folder, shard, units):
    old = start(folder, "old", 1.0)
    until((folder / "study" / "a.txt.begun").exists)
    new = start(folder, "new", 0, shard, units)
    words = new.communicate()[0]
    assert old.wait() == new.returncode == 0, words
    assert "waiting for a job that an earlier run left" in words
    assert (folder / "study" / "b.txt").read_text() == "new"
    record = json.loads((folder / "study" / "records" / "slow" / f"{shard}.json").read_text())
    assert [unit["unit"] for unit in record["units"]] == list(units)
    assert record["units"][-1]["files"]["b.txt"]["bytes"] == 3


def test_an_equal_job_keeps_what_the_left_one_made(folder):
    old = start(folder, "same", 0.5)
    until((folder / "study" / "a.txt.begun").exists)
    new = start(folder, "same", 0.5)
    assert new.communicate()[0].count(": kept") == 2
    assert old.wait() == 0


def test_a_killed_job_holds_up_nobody(folder):
    old = start(folder, "old", 60)
    until((folder / "study" / "a.txt.begun").exists)
    old.kill()
    old.wait()
    new = start(folder, "new", 0)
    assert "waiting" not in new.communicate()[0]
    assert (folder / "study" / "a.txt").read_text() == "new"


def test_other_scans_are_not_waited_for(folder):
    old = start(folder, "old", 60, units="a")
    until((folder / "study" / "a.txt.begun").exists)
    assert "waiting" not in start(folder, "new", 0, "seen-0002", "b").communicate()[0]
    old.kill()


def test_nothing_is_locked_outside_a_folder_of_snakemakes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    writers.only_writer(["a"])
    assert list(tmp_path.iterdir()) == []


def test_a_disk_without_locks_is_told_and_work_goes_on(folder, monkeypatch, capsys):
    def refused(*_):
        raise OSError(38, "Function not implemented")

    monkeypatch.chdir(folder)
    monkeypatch.setattr(writers.fcntl, "lockf", refused)
    writers.only_writer(["a"])
    assert "no lock on" in capsys.readouterr().err


HOLDER_ALONE = "import sys; from mrs_synthesis import writers; print(writers.only_run(sys.argv[1]))"
HOLDER = """
    import sys, time
    from mrs_synthesis import writers
    print(writers.only_run(*sys.argv[1:]), flush=True)
    time.sleep(60)
"""


def test_one_run_of_a_study_at_a_time_and_none_when_it_is_dead(folder, monkeypatch):
    monkeypatch.chdir(folder)
    call = [sys.executable, "-c", textwrap.dedent(HOLDER), "results/a"]
    holder = subprocess.Popen(call, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "True\n"
    assert not writers.only_run("results/a") and not writers.only_run("results/../results/a", keep=False)
    assert writers.only_run("results/b", keep=False)
    writers.only_writer(["run results/a"])  # a job of this name waits for nobody
    holder.kill()
    holder.wait()
    assert writers.only_run("results/a", keep=False)
    second = subprocess.run([*call[:2], HOLDER_ALONE, "results/a"], cwd=folder, capture_output=True, text=True)
    assert second.stdout == "True\n"  # whoever only asked keeps nobody out
    assert writers.only_run("results/a")
    second = subprocess.run([*call[:2], HOLDER_ALONE, "results/a"], cwd=folder, capture_output=True, text=True)
    assert second.stdout == "False\n"


def test_what_names_nothing_leaves_no_lock(folder, monkeypatch):
    monkeypatch.chdir(folder)
    writers.only_writer([])
    assert not writers.FILE.exists()


@pytest.mark.parametrize("told", ["RANK", fslmrs.GUARD])
def test_programs_lock_what_they_put_out_but_not_what_they_start_themselves(monkeypatch, tmp_path, told):
    monkeypatch.chdir(tmp_path)
    argv = ["/x/train.py", "--seed", "1", "--output", "model", "--model", "paper"]
    assert writers.outputs(argv) == [f"train {tmp_path / 'model'}"]
    assert writers.outputs(["/x/shard.py", "--record", "r", "--", "convert", "--output", "x"]) == []
    monkeypatch.setenv(told, "1")
    assert writers.outputs(argv) == []


def test_a_program_waits_for_the_left_one(folder, monkeypatch):
    """Of two processes with the same output the second begins when the first has ended."""
    code = "import sys, time; from mrs_synthesis.stage import run\n"
    code += (
        "def main(_):\n print('in', flush=True); time.sleep(float(sys.argv[-1])); print('out', flush=True)\nrun(main)"
    )
    call = [sys.executable, "-c", code, "--output", "t.tsv"]
    with (folder / "said").open("a") as said:
        old = subprocess.Popen([*call, "0.7"], cwd=folder, stdout=said)
        until(lambda: (folder / "said").stat().st_size)
        subprocess.run([*call, "0"], cwd=folder, stdout=said, check=True)
        assert old.wait() == 0
    text = (folder / "said").read_text()
    assert [word for word in text.split() if word in ("in", "out")] == ["in", "out", "in", "out"]


@pytest.mark.parametrize(
    "error",
    [OSError(28, os.strerror(28), "t.tsv"), RuntimeError("t.tsv: I/O error: No space left on device (os error 28)")],
)
def test_a_full_disk_is_one_line(error, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["x"])

    def main(_):
        raise error

    with pytest.raises(SystemExit) as end:
        stage.run(main)
    said = capsys.readouterr().err
    assert end.value.code == 1
    assert said.startswith("error: t.tsv") and "no space left on the disk; make room" in said and said.count("\n") == 1
