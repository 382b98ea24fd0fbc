"""Of the tiny study: every result leads back to what it was made from, its run times are told, its crate is valid."""

import hashlib
import json
import sys
from pathlib import Path

import pytest

from mrs_synthesis.files import read_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from test_crate import validated, validator  # noqa: F401

UNITS = 6


@pytest.fixture(scope="module")
def known(tiny):
    return json.loads((tiny.results / "provenance.json").read_text())


def test_every_result_has_its_hash_and_the_job_that_made_it(tiny, known):
    results = [path for name in ("tables", "figures", "model") for path in (tiny.results / name).iterdir()]
    for path in [*results, tiny.results / "report.html"]:
        about = known["files"][path.relative_to(tiny.results).as_posix()]
        assert about["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest(), path
        assert known["jobs"][about["job"]]["command"][:2] == ["python", "-m"], path
    assert known["config"]["sha256"] == hashlib.sha256((tiny.results / "config.json").read_bytes()).hexdigest()


def test_every_job_says_with_what_it_ran_and_names_no_place(tiny, known):
    for name, job in known["jobs"].items():
        versions = known["environments"][job["environment"]]
        assert "Python" in versions and "mrs-synthesis" in versions, name
    assert "torch" not in known["environments"][known["jobs"]["bids_raw"]["environment"]]
    assert str(tiny.folder) not in json.dumps(known) and str(tiny.root) not in json.dumps(known)


def test_a_scans_files_lead_back_to_its_raw_ones_through_a_record(tiny, known):
    unit = "sub-01_acq-megapress"
    job = next(job for job in known["jobs"].values() if job["rule"] == "convert" and unit in job["units"])
    (record,) = job["outputs"]
    told = next(one for one in json.loads((tiny.results / record).read_text())["units"] if one["unit"] == unit)
    for name, about in told["files"].items():
        assert about["sha256"] == hashlib.sha256((tiny.results / name).read_bytes()).hexdigest()
    raw = tiny.results / "sourcedata" / "siemens" / "sub-01_megapress.dat"
    assert told["key"]["reads"]["metab"] == hashlib.sha256(raw.read_bytes()).hexdigest()


def test_run_times_are_of_every_stage_and_scan(tiny):
    table = read_table(tiny.results / "tables" / "run_times.tsv").set_index("stage")
    assert {"phantom", "convert", "preprocess", "assemble", "train", "evaluate", "total"} <= set(table.index)
    assert table.loc["convert", "units"] == table.loc["preprocess", "units"] == UNITS
    assert (table.loc["convert", ["work_cpu_s", "start_up_cpu_s", "longest_job_s"]] > 0).all()
    assert table.loc["total", "jobs"] == table["jobs"].iloc[:-1].sum()
    assert 'id="run-times-section"' in (tiny.results / "report.html").read_text()


@pytest.mark.slow
def test_the_validator_accepts_the_studys_crate(tiny, tmp_path, root, validator):  # noqa: F811
    study = tiny.copy_to(tmp_path / "copy")
    done = study.snakemake("crate")
    assert done.returncode == 0, done.stdout + done.stderr
    assert validated(validator, root, study.results, "provenance-run-crate") == (True, [])
    done = study.snakemake("--dry-run", "all", "crate")
    assert "Nothing to be done" in done.stdout + done.stderr
