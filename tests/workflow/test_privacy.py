"""Identifiers in raw files, and names of raw files, are nowhere in a study's results."""

import json
import re
import shutil
import sys
from pathlib import Path

import pytest

from mrs_synthesis.files import read_table

from .conftest import CONFIG, Study, sheet_rows

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))
from planted import FIELDS, leaks

pytestmark = [pytest.mark.slow]
FOLDER, FILE = "QXDOE_JOHNVZ", "QXFILE_DOEVZ"
TWIX = {  # as long as what the phantom's files have there
    "PatientName": "QXNAMVZ", "PatientID": "QXIDEVZ", "InstitutionName": "QXINSVZ", "InstitutionAddress": "QXADRVZ",
    "ManufacturersModelName": "QXROOMZ", "PatientBirthDay": "19530417",
}  # fmt: skip
SPAR = {
    "patient_name": "QXSPARNAMEVZ", "examination_name": "QXEXAMVZ", "patient_birth_date": "1953.04.18",
    "scan_id": "QXPROTOCOLVZ", "scan_date": "2017.09.23 13:13:57", "patient_position": "QXPOSITIONVZ",
    "equipment_sw_verions": "QXSOFTWAREVZ", "TSI_factor": "QXNOTEVZ",
}  # fmt: skip
MARKERS = {*TWIX.values(), *SPAR.values(), "1953-04-18", "19530418", "13:13:57"}
BROKEN = "06"


def plant(path):
    """Write identifiers into a raw file of the phantom."""
    if path.suffix == ".dat":
        content = path.read_bytes()
        for key, value in TWIX.items():
            pattern = rb'(<ParamString\."' + key.encode() + rb'">\s*\{ ")[^"]*'
            content, n = re.subn(pattern, lambda m, v=value: m[1] + v.encode(), content)
            assert n, key
        path.write_bytes(content)
    elif path.suffix == ".SPAR":
        text = path.read_text()
        for key, value in SPAR.items():
            text, n = re.subn(rf"^{key} : .*$", f"{key} : {value}", text, flags=re.M)
            assert n == 1, key
        path.write_text(text)


@pytest.fixture(scope="module")
def study(root, tmp_path_factory):
    """A finished study whose raw files tell who was measured, but for one that fails at the worst place."""
    phantom = Study(root, tmp_path_factory.mktemp("phantom"))
    phantom.write(CONFIG, sheet_rows())
    done = phantom.snakemake("results/tiny/tables/truth.tsv")
    assert done.returncode == 0, done.stdout + done.stderr
    study = Study(root, tmp_path_factory.mktemp("study"))
    raw = study.folder / FOLDER
    raw.mkdir()
    for path in (phantom.results / "sourcedata").rglob("*"):
        if path.suffix in (".dat", ".SDAT", ".SPAR"):
            plant(Path(shutil.copy(path, raw / f"{FILE}_{path.name}")))
    rows = [
        row | {name: f"{FOLDER}/{FILE}_{Path(row[name]).name}" for name in ("metab", "water")} for row in sheet_rows()
    ]
    (bad,) = (Path(row["metab"]).with_suffix(".SPAR") for row in rows if row["subject"] == BROKEN)
    text = (study.folder / bad).read_text()
    (study.folder / bad).write_text(re.sub("^repetition_time : .*$", "repetition_time : QXNAMVZ", text, flags=re.M))
    study.write({key: value for key, value in CONFIG.items() if key != "phantom"}, rows)
    assert {line.partition(": ")[0] for line in leaks(raw, {*TWIX.values(), *SPAR.values()})} == {
        *TWIX.values(),
        *SPAR.values(),
    }
    done = study.snakemake("--keep-going")
    (study.folder / "said.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 1, "one scan fails"
    assert (study.results / "report.html").is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    done = study.snakemake("crate")
    assert (study.results / "ro-crate-metadata.json").is_file(), done.stdout[-3000:] + done.stderr[-3000:]
    return study


def test_no_identifier_of_a_header_is_anywhere_in_the_results_or_on_the_terminal(study):
    parts = {path.relative_to(study.results).parts[0] for path in study.results.rglob("*") if path.is_file()}
    assert {"rawdata", "derivatives", "tables", "model", "records", "status", "logs", "report.html"} <= parts
    assert leaks(study.results, MARKERS) == []
    assert not [marker for marker in MARKERS if marker in (study.folder / "said.txt").read_text()]
    for path in [*study.results.rglob("*_svs.json"), *study.results.rglob("*_mrsref.json")]:
        assert not [field for field in FIELDS if field in path.read_text()], path


def test_names_of_raw_files_are_in_logs_alone(study):
    found = leaks(study.results, {FOLDER, FILE, str(study.folder)})
    assert found and [line for line in found if ": logs/" not in line] == []


def test_the_failure_is_told_by_scan_and_column(study):
    (row,) = read_table(study.results / "tables" / "failures.tsv").itertuples()
    assert row.unit == f"sub-{BROKEN}_acq-megapress"
    assert row.reason.startswith("metab: spec2nii could not read it as philips_sdat (TypeError: ")
    assert "metab: spec2nii could not read it" in (study.results / "report.html").read_text()


def test_what_is_synthetic_says_what_it_was_trained_on(study):
    card = (study.results / "model" / "README.md").read_text()
    assert "2 training subjects" in card and "## Memorisation" in card
    files = [path for path in (study.results / "derivatives").rglob("*_desc-synth*_svs.json") if path.stat().st_size]
    assert len(files) == 2 * 6  # subjects; modes and decoders
    for path in files:
        facts = json.loads(path.read_text())
        assert facts["Synthetic"] and facts["TrainingSet"]["Subjects"] == 2 and facts["ModelSHA256"]
