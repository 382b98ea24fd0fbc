"""Two runs in one folder at once: the second is refused in one line, and the first ends as if alone."""

import os
import signal
import time

import pytest
from workflow.conftest import Study, sheet_rows

from .killing import LONGEST, ROOT, Run, config_of, contents, hidden

pytestmark = [pytest.mark.slow]
REFUSED = "results/tiny: another run of the workflow is making these results; wait for it, or end it"


@pytest.fixture
def study(tmp_path):
    study = Study(ROOT, tmp_path)
    study.write(config_of("subject"), sheet_rows())
    return study


def until(run, stage):
    end = time.monotonic() + LONGEST
    while stage not in run.jobs().values():
        assert not run.ended() and time.monotonic() < end, run.log.read_text()[-3000:]
        time.sleep(0.02)


def refusal(run):
    """Return what a run that must not begin says."""
    assert run.process.wait(LONGEST) != 0
    lines = [line.strip() for line in run.log.read_text().splitlines()]
    assert not any(line.startswith(("rule ", "localrule ", "Error in rule")) for line in lines)
    return " ".join(lines)


def test_a_second_run_changes_nothing_however_it_is_started(study, expected):
    first = Run(study)
    try:
        until(first, "preprocess")
        second = Run(study)
        assert "Directory cannot be locked" in refusal(second)
        assert REFUSED in refusal(Run(study, "--nolock"))
        assert REFUSED in refusal(Run(study, "--nolock", "--rerun-incomplete", "--forceall"))
        assert Run(study, "--unlock").process.wait(LONGEST) == 0  # as one does who thinks that the first is dead
        until(first, "quantify")
        assert REFUSED in refusal(Run(study))
        assert Run(study, "--dry-run").process.wait(LONGEST) == 0
        assert first.process.wait(LONGEST) == 0, first.log.read_text()[-3000:]
    finally:
        first.end()
    found = contents(study.results)
    assert [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)] == []
    assert hidden(study.results) == [] and study.rules_to_run() == set()


def test_of_two_that_start_together_one_makes_everything(study, expected):
    runs = [Run(study, "--nolock"), Run(study, "--nolock")]
    try:
        ended = [run.process.wait(LONGEST) for run in runs]
        words = [run.log.read_text() for run in runs]
    finally:
        for run in runs:
            run.end()
    assert sorted(status == 0 for status in ended) == [False, True], words
    assert REFUSED in words[ended.index(0) - 1]
    found = contents(study.results)
    assert [name for name in sorted(found.keys() | expected.keys()) if found.get(name) != expected.get(name)] == []


def test_a_killed_run_holds_up_nobody(study):
    first = Run(study, "converted")
    until(first, "phantom")
    os.killpg(first.process.pid, signal.SIGKILL)
    first.process.wait()
    again = Run(study, "--nolock", "--rerun-incomplete", "converted")
    assert again.process.wait(LONGEST) == 0, again.log.read_text()[-3000:]
