"""Studies through profiles/slurm give the results of a local run, byte for byte."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from workflow.conftest import CONFIG, Study, sheet_rows
from workflow.conftest import tiny as tiny  # the local run, a fixture

from .conftest import on_slurm

pytestmark = pytest.mark.slurm
COMPARED = ["tables", "derivatives", "records", "model", "training", "heldout", "basis", "rawdata"]
TIMES = "run_times"  # the table of how long each job took


def results(folder: Path) -> dict[str, bytes]:
    """Return what a study made, by path; nothing that holds a time."""
    paths = [path for name in COMPARED for path in (folder / name).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths if path.stem != TIMES}


def same(ours: Path, theirs: Path) -> None:
    """Compare the results of two runs."""
    one, other = results(ours), results(theirs)
    assert one.keys() == other.keys()
    assert [path for path in one if one[path] != other[path]] == []


def test_tiny_study_is_the_same_as_a_local_run_byte_for_byte(cluster, tiny, tmp_path):
    study = Study(tiny.root, tmp_path)
    study.write(CONFIG, sheet_rows())
    done = on_slurm(study.root, tmp_path, "--configfile", study.config, seconds=1800)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    assert done.stderr.count("has been submitted with SLURM jobid") >= 40
    same(study.results, tiny.results)


@pytest.mark.slow
def test_demo_is_the_same_as_a_local_run_byte_for_byte(cluster, root, tmp_path):
    folders = [tmp_path / "slurm", tmp_path / "local"]
    for folder in folders:
        shutil.copytree(root / "config", folder / "config")
    done = on_slurm(root, folders[0], seconds=3600)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-5000:]
    call = [sys.executable, "-m", "snakemake", "--snakefile", str(root / "Snakefile"), "--directory", str(folders[1])]
    call += ["--workflow-profile", str(root / "profiles" / "default")]
    local = subprocess.run(call, cwd=folders[1], capture_output=True, text=True)
    assert local.returncode == 0, local.stdout[-5000:] + local.stderr[-5000:]
    same(*(folder / "results" / "demo" for folder in folders))
