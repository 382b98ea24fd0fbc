"""What a process holds does not grow with the scans that went through it: memory, file handles, threads."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from mrs_synthesis import basis_simulate

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = ROOT / "tests" / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
from long_run_worker import COLUMNS  # noqa: E402

WARM, CLEAN, ALL = 3, 8, 11  # scans until nothing is loaded any more; until the leak; in all
SPECTRUM_MB = 2048 * 8 / 2**20  # of one transient, complex64, the least that a stage would keep of a scan
MOST_MB = 0.75 * SPECTRUM_MB
MOST_BLOCKS = 300  # Python objects: the statuses of a shard are kept until its record is written

# The worker of the benchmark, with a stage that keeps one spectrum and one open file of every scan but the first ones
LEAKING = """
import json, os, sys
from pathlib import Path

import numpy as np
from long_run_worker import measured
from mrs_synthesis import preprocess, shard

job = json.loads(Path(sys.argv[1]).read_text())
stage, seen, kept = preprocess.main, [], []

def leaking(argv):
    stage(argv)
    seen.append(None)
    if len(seen) > job["clean"]:
        kept.append((np.ones(2048, np.complex64), open(os.devnull)))

preprocess.main = leaking
with measured(Path("measured.tsv"), collect=True):
    shard.main(["--units", json.dumps(job["units"]), *job["words"]])
"""

FIT = ["--", "quantify", "--cells", "study/derived/%unit_svs.nii.gz", "--basis", "basis", "--conditions", "OFF", "DIFF"]
FIT += ["--output", "study/derived/%unit_fit.tsv", "--curves", "study/derived/%unit_fit.npz"]


@pytest.fixture(scope="module", params=[(), pytest.param(FIT, marks=pytest.mark.slow)], ids=["to-preprocess", "to-fit"])
def rows(request, tmp_path_factory):
    """Return what a process measured after each scan that it made, converted, preprocessed and perhaps fitted."""
    folder = tmp_path_factory.mktemp("long")
    flags = ["--frequency-mhz", "123.25", "--sequence", "mega-press", "--te-ms", "68"]
    basis_simulate.main([*flags, "--output", str(folder / "basis")])
    raw, scan, derived = "study/raw/%unit", "study/nifti/%unit", "study/derived/%unit"
    for name in ("raw", "nifti", "derived"):
        (folder / "study" / name).mkdir(parents=True)
    words = ["--record", "study/records/all/seen-0001.json", "--study", "study", "--code", "1"]
    words += ["--writes", f"{derived}_svs.nii.gz", "--", "phantom", "--subject", "%unit", "--vendor", "siemens"]
    words += ["--seed", "1", "--basis", "basis", "--transients", "4", "--metab", f"{raw}.dat", "--water"]
    words += [f"{raw}_water.dat", "--truth", f"{raw}.tsv", "--nuisance-truth", f"{raw}.json"]
    words += ["--", "convert", "--format", "siemens_twix", "--metab", f"{raw}.dat", "--water", f"{raw}_water.dat"]
    words += ["--edit-scheme", "mega", "--edit-order", "from_header", "--output", f"{scan}_svs.nii.gz"]
    words += ["--output-ref", f"{scan}_mrsref.nii.gz", "--", "preprocess", "--scan", f"{scan}_svs.nii.gz"]
    words += ["--water", f"{scan}_mrsref.nii.gz", "--output-ref", f"{derived}_mrsref.nii.gz"]
    words += ["--output", f"{derived}_svs.nii.gz", "--qc", f"{derived}_qc.tsv", "--nuisance", f"{derived}.npz"]
    words += request.param
    units = [{"unit": f"sub-{k:02d}", "folder": f"sub-{k:02d}"} for k in range(ALL)]
    (folder / "job.json").write_text(json.dumps({"clean": CLEAN, "units": units, "words": words}))
    paths = os.pathsep.join(map(str, (ROOT / "workflow", BENCHMARKS)))
    call = [sys.executable, "-c", LEAKING, "job.json"]
    environment = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(call, cwd=folder, env=environment, text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    record = json.loads((folder / "study" / "records" / "all" / "seen-0001.json").read_text())
    assert {one["status"] for one in record["units"]} == {"ok"}
    return pd.read_csv(folder / "measured.tsv", sep="\t", names=COLUMNS)


def grown(rows, first, last):
    """Return the growth with each scan, between two numbers of scans: its median, as tables now and then double."""
    some = rows[rows["scans"].between(first, last)]
    return some.diff().median()


def test_nothing_is_kept_of_a_scan(rows):
    clean = grown(rows, WARM, CLEAN)
    assert clean["malloc_mb"] < MOST_MB
    assert clean["blocks"] < MOST_BLOCKS
    assert rows["handles"][1 : CLEAN + 1].nunique() == 1
    assert rows["threads"][1 : CLEAN + 1].nunique() == 1


def test_a_spectrum_or_a_file_kept_of_each_scan_is_seen(rows):
    leaking = grown(rows, CLEAN, ALL - 1)
    assert leaking["malloc_mb"] > MOST_MB
    assert leaking["handles"] == 1
