"""BIDS datasets, sidecars and headers; the judges are the validators of BIDS and of NIfTI-MRS."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from bids_checks import as_raw, check_header, issues

from mrs_synthesis import bids, scans, sidecars
from mrs_synthesis.dictionary import write_table_sidecar
from mrs_synthesis.sheet import read_samples
from mrs_synthesis.stage import InputError

HEADER = {
    "EchoTime": 0.068,
    "RepetitionTime": 2.0,
    "ExcitationFlipAngle": 90.0,
    "Manufacturer": "SIEMENS",
    "WaterSuppressed": True,
    "WaterSuppressionType": "VAPOR",
    "EditPulse": {"ON": {"PulseOffset": 1.9, "PulseDuration": 0.014}, "OFF": {"PulseOffset": 7.5}},
}
SHEET = """subject\tsession\tsite\tvendor\tformat\tsequence\tmetab\twm\tgm\tcsf\texclude
01\t1\ta\tsiemens\tsiemens_twix\tpress\tx1.dat\t0.4\t0.5\t0.1\t
01\t2\ta\tsiemens\tsiemens_twix\tpress\tx2.dat\t0.3\t0.6\t0.1\t
02\t1\tb\tphilips\tsiemens_twix\tpress\tx3.dat\t0.5\t0.4\t0.1\t
03\t1\tb\tphilips\tsiemens_twix\tpress\tx4.dat\t\t\t\tmoved
"""


def scan(transients=3):
    fids = np.ones((2, transients, 1, 64), complex)
    return scans.Scan(fids, 123.25, 5e-4, json.loads(json.dumps(HEADER)), ("OFF", "ON"), np.diag([30.0, 25, 20, 1]))


@pytest.fixture
def study(tmp_path):
    """Return a folder with two scans of one subject and one of another, as raw data and preprocessed."""
    (tmp_path / "sheet.tsv").write_text(SHEET)
    for folder in ("sub-01/ses-1", "sub-01/ses-2", "sub-02/ses-1"):
        name = f"{folder}/mrs/{folder.replace('/', '_')}_acq-megapress"
        raw = tmp_path / "rawdata" / f"{name}_svs.nii.gz"
        scans.write_scan(raw, scan())
        scans.write_sidecar(raw, scan(), [])
        made, output = scan(), tmp_path / "derivatives" / f"{name}_desc-preproc_svs.nii.gz"
        scans.add_processing(made, "Frequency and phase correction", "x")
        scans.add_processing(made, "Outlier removal", "y")
        scans.write_scan(output, made)
        scans.write_sidecar(output, made, [raw])
    bids.main(["raw", "--study", "s", "--samples", str(tmp_path / "sheet.tsv"), "--folder", str(tmp_path / "rawdata")])
    words = ["--study", "s", "--labels", "preproc", "cells", "--folder", str(tmp_path / "derivatives"), "--simulated"]
    bids.main(["derivatives", *words])
    return tmp_path


def test_datasets_and_headers_pass_the_validators(study):
    assert issues(study / "rawdata") == issues(study / "derivatives") == []
    assert issues(as_raw(study / "derivatives", study / "shown")) == []
    for file in study.rglob("*.nii.gz"):
        check_header(file)


def test_the_validators_find_what_is_wrong(study):
    raw, derivatives = study / "rawdata", study / "derivatives"
    sidecar = next(raw.rglob("sub-02*_svs.json"))
    content = json.loads(sidecar.read_text())
    del content["EchoTime"]
    sidecar.write_text(json.dumps(content))
    image = next(raw.rglob("sub-01_ses-1*_svs.nii.gz"))
    image.rename(image.with_name(image.name.replace("_svs", "_ref")))
    stray = next(derivatives.rglob("*_svs.nii.gz"))
    stray.rename(stray.with_name(stray.name.replace("_desc-preproc", "_preproc")))
    found = {(code, what) for code, what, _ in issues(raw)}
    assert {("SIDECAR_KEY_REQUIRED", "EchoTime"), ("NOT_INCLUDED", None)} <= found
    assert issues(derivatives)
    other = scan()
    other.header["ProcessingApplied"] = [{"Program": "p", "Version": "1", "Method": "Magic", "Details": ""}]
    scans.write_scan(study / "x_svs.nii.gz", other)
    scans.write_sidecar(study / "x_svs.nii.gz", other, [])
    with pytest.raises(AssertionError, match="Magic"):
        check_header(study / "x_svs.nii.gz")


def test_scans_that_could_not_be_converted_are_passed_over(study):
    for path in next((study / "rawdata").rglob("sub-02*_svs.nii.gz")).parent.iterdir():
        path.write_bytes(b"")  # what a failed conversion leaves
    assert "EMPTY_FILE" in {code for code, *_ in issues(study / "rawdata")}
    bids.write_raw("s", str(study / "sheet.tsv"), study / "rawdata", False)
    assert issues(study / "rawdata") == []
    assert "2 empty files" in (study / "rawdata" / "README.md").read_text()


def test_participants_are_those_of_the_sheet_and_serve_as_one(study):
    with open(study / "rawdata" / "participants.tsv", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    assert [row["participant_id"] for row in rows] == ["sub-01", "sub-02"]  # 03 is excluded
    # The scans of 01 differ in wm and gm, and fractions go together
    assert [(row["site"], row["wm"], row["csf"]) for row in rows] == [("a", "n/a", "n/a"), ("b", "0.5", "0.1")]
    back = read_samples(study / "rawdata")
    assert [(row["subject"], row["site"], row["gm"]) for row in back] == [("01", "a", "")] * 2 + [("02", "b", "0.4")]


def test_descriptions_say_what_is_simulated_and_where_it_came_from(study):
    about = json.loads((study / "derivatives" / "dataset_description.json").read_text())
    assert (about["DatasetType"], about["DatasetLinks"]) == ("derivative", {"raw": "../rawdata"})
    assert "SIMULATED" in (study / "derivatives" / "README.md").read_text()
    assert "SIMULATED" not in (study / "rawdata" / "README.md").read_text()
    assert (study / "derivatives" / "descriptions.tsv").read_text().count("desc-") == 2
    with pytest.raises(InputError, match="nobody"):
        bids.write_derivatives("s", ["nobody"], study / "derivatives", False)


def test_the_repository_is_named_only_if_the_citation_does(tmp_path, monkeypatch):
    monkeypatch.setattr(bids, "CITATION", tmp_path / "CITATION.cff")
    assert "CodeURL" not in bids.software()[0]
    (tmp_path / "CITATION.cff").write_text('title: x\nrepository-code: "https://example.org/x"\nurl: https://no.org\n')
    assert bids.software()[0]["CodeURL"] == "https://example.org/x"


def test_fields_have_the_names_and_units_of_bids():
    found = sidecars.fields(HEADER, np.diag([30.0, 25, 20, 1]), "sub-1_acq-megapress68_svs.nii.gz")
    assert found["EditPulse"] == {
        "ON": {"FrequencyOffset": 1.9, "PulseDuration": 14.0},
        "OFF": {"FrequencyOffset": 7.5},
    }
    assert (found["EchoTime"], found["FlipAngle"], found["WaterSuppression"]) == (0.068, 90.0, True)
    assert found["WaterSuppressionTechnique"] == "VAPOR"
    assert found["AcquisitionVoxelSize"] == [30.0, 25.0, 20.0]
    assert found["PulseSequenceType"] == "MEGA-PRESS"
    unknown = sidecars.fields({"EchoTime": 0.03}, np.diag([1e4, 1e4, 1e4, 1]), "sub-1_acq-own_svs.nii.gz")
    assert unknown == {"EchoTime": 0.03, "PulseSequenceType": "own"}


def test_sources_are_uris_within_datasets_and_relative_paths_elsewhere():
    output = "r/derivatives/sub-1/ses-2/mrs/sub-1_ses-2_desc-cells_svs.nii.gz"
    own = "r/derivatives/sub-1/ses-2/mrs/sub-1_ses-2_desc-preproc_svs.nii.gz"
    assert sidecars.uri(own, output) == "bids::sub-1/ses-2/mrs/sub-1_ses-2_desc-preproc_svs.nii.gz"
    raw = Path("r/rawdata/sub-1/ses-2/mrs/sub-1_ses-2_svs.nii.gz").absolute()
    assert sidecars.uri(raw, output) == "bids:raw:sub-1/ses-2/mrs/sub-1_ses-2_svs.nii.gz"
    assert sidecars.uri("r/model/model.safetensors", "r/cohort/a_svs.nii.gz") == "../model/model.safetensors"
    assert sidecars.uri(own, "r/ablation/v/sub-1/ses-2/mrs/x.nii.gz").startswith("../../../../../derivatives/sub-1")


def test_steps_are_in_the_standards_words_and_others_stand_beside(tmp_path):
    one = scan()
    scans.add_processing(one, "Signal averaging", "a")
    scans.add_processing(one, "Outlier removal", "above 3 SDs")
    assert [step["Method"] for step in one.header["ProcessingApplied"]] == ["Signal averaging"]
    assert one.header["OutlierRemoval"]["Description"] == "Outlier removal: above 3 SDs"


@pytest.mark.parametrize(("change", "number"), [({}, 6), ({"Synthetic": {}}, None), ({"ProcessingApplied": 1}, None)])
def test_transients_are_counted_only_where_each_was_acquired(tmp_path, change, number):
    one = scan()
    if "ProcessingApplied" in change:
        scans.add_processing(one, "Signal averaging", "a")
    one.header |= {key: value for key, value in change.items() if key == "Synthetic"}
    scans.write_sidecar(tmp_path / "x_svs.nii.gz", one, [])
    assert json.loads((tmp_path / "x_svs.json").read_text()).get("NumberOfTransients") == number


def test_a_tables_sidecar_describes_each_column_or_refuses(tmp_path):
    table = tmp_path / "sub-1" / "mrs" / "sub-1_desc-x_index.tsv"
    table.parent.mkdir(parents=True)
    table.write_text("cell\tsource\n0\treal\n")
    write_table_sidecar(table, "Rows", [table.with_name("sub-1_svs.nii.gz")])
    content = json.loads(table.with_suffix(".json").read_text())
    assert content["Sources"] == ["bids::sub-1/mrs/sub-1_svs.nii.gz"]
    assert "DIM_DYN" in content["cell"]["Description"]
    table.write_text("cell\tnovel\n")
    with pytest.raises(ValueError, match="novel"):
        write_table_sidecar(table, "Rows", [])
