"""A full disk ends a run in a line that names the file; with more room it goes on to the same bytes."""

import os
import re
import shutil
import subprocess

import pytest
from workflow.conftest import Study, sheet_rows

from .killing import LONGEST, ROOT, Killing, Run, config_of, contents

pytestmark = [pytest.mark.slow]
SHARES = (0.1, 0.25, 0.4, 0.55, 0.7, 0.85)  # of the study's bytes
LINE = re.compile(r"^error: results/tiny/\S+: no space left on the disk; make room and start again", re.MULTILINE)


@pytest.fixture
def study(tmp_path):
    """The tiny study with its results on a disk of their own; remounted by `resize`."""
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small disk")
    study = Study(ROOT, tmp_path)
    study.write(config_of("subject"), sheet_rows())
    results = tmp_path / "results"
    results.mkdir()
    call = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(results)]
    done = subprocess.run(call, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"needs a disk that it may mount: {done.stderr.strip()}")
    yield study
    subprocess.run(["umount", "--lazy", str(results)], check=True)


def resize(study, size):
    subprocess.run(["mount", "-o", f"remount,size={int(size)}", str(study.folder / "results")], check=True)


def test_a_full_disk_is_told_leaves_nothing_partial_and_costs_nothing_done(study, expected):
    watched = Killing(study, expected, None)
    whole = sum(map(len, expected.values()))
    told = 0
    for share in SHARES:
        resize(study, share * whole)
        run = Run(study)
        assert run.process.wait(LONGEST) != 0, "it ended on a disk that was too small"
        watched.look(f"at {share:.0%} of the room")
        told += bool(LINE.search(run.log.read_text()))
    assert told == len(SHARES)
    resize(study, 4 * whole)
    run = Run(study)
    assert run.process.wait(LONGEST) == 0, run.log.read_text()[-3000:]
    watched.compare()
    assert watched.faults == []
    assert contents(study.results).keys() == expected.keys()
