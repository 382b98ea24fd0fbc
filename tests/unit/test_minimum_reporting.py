"""The minimum-reporting table, from headers, tables and config made by hand."""

import json

import nibabel
import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import minimum_reporting as reporting
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.stage import InputError

CONFIG = {
    "preprocess": {
        "engine": "batched",
        "align_ppm": [1.8, 3.4],
        "reject_sd": 3.5,
        "ecc": True,
        "remove_water": False,
        "reference": "tCr",
    },
    "quantify": {
        "engine": "batched",
        "line_shape": "voigt",
        "baseline": "poly, 2",
        "ppm_range": [0.2, 4.2],
        "diff_baseline": "poly, 1",
    },
    "basis": {"sets": [{"name": "mine", "files": {"off": "x.BASIS"}}]},
    "evaluate": {"ratios": ["OFF:tNAA"]},
    "minimum_reporting": {"shimming": {"A": "FASTMAP, below 10 Hz"}, "voi_location": "posterior cingulate"},
}


def write_header(path, header, voxel=30.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = nibabel.Nifti2Image(np.zeros((1, 1, 1, 8), np.complex64), np.diag([voxel] * 3 + [1]))
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension(44, json.dumps(header).encode()))
    nibabel.save(image, path)


@pytest.fixture
def study(tmp_path):
    """Two sites, the second with two scans of different echo times and one whose conversion failed."""
    names, sites = ["sub-1", "sub-2", "sub-3", "sub-4"], ["A", "B", "B", "B"]
    units = pd.DataFrame({"unit": names, "folder": names, "site": sites, "sequence": "press"})
    write_table(tmp_path / "units.tsv", units)
    conversion = pd.DataFrame(
        {
            "unit": names,
            "n_transients": [64, 32, 32, np.nan],
            "n_conditions": [2, 1, 1, np.nan],
            "n_coils": [8, 1, 1, np.nan],
            "n_points": [2048, 1024, 1024, np.nan],
            "dwell_s": [0.0005, 0.00025, 0.00025, np.nan],
            "te_ms": [68, 30, 35, np.nan],
            "tr_ms": [2000, 2000, 2000, np.nan],
        }
    )
    write_table(tmp_path / "tables" / "conversion.tsv", conversion)
    kept = pd.DataFrame({"unit": ["sub-1"] * 4, "kept": [1, 1, 1, 0], "snr": [10, 20, 30, 1], "fwhm_hz": [5, 6, 7, 99]})
    write_table(tmp_path / "tables" / "preprocessing.tsv", kept)
    fits = pd.DataFrame(
        {
            "unit": "sub-1",
            "source": ["reference", "real"],
            "condition": "OFF",
            "metabolite": "tNAA",
            "crlb_percent": [2.0, 50.0],
        }
    )
    write_table(tmp_path / "tables" / "concentrations.tsv", fits)
    write_json(tmp_path / "config.json", CONFIG)
    philips = {"SpectrometerFrequency": [127.74], "ResonantNucleus": ["1H"], "Manufacturer": "Philips"}
    siemens = {
        "SpectrometerFrequency": [123.25],
        "ResonantNucleus": ["1H"],
        "Manufacturer": "Siemens",
        "EditPulse": {"ON": {"PulseOffset": 1.9, "PulseDuration": 0.014}},
        "WaterSuppressed": True,
    }
    raw = tmp_path / "rawdata"
    write_header(raw / "sub-1" / "mrs" / "sub-1_svs.nii.gz", siemens)
    write_header(raw / "sub-2" / "mrs" / "sub-2_svs.nii.gz", philips)
    write_header(raw / "sub-3" / "mrs" / "sub-3_svs.nii.gz", philips, voxel=10_000.0)  # no geometry in the file
    (raw / "sub-4" / "mrs").mkdir(parents=True)
    (raw / "sub-4" / "mrs" / "sub-4_svs.nii.gz").touch()
    return tmp_path


def run(folder):
    words = []
    for flag, name in (("units", "units.tsv"), ("rawdata", "rawdata"), ("tables", "tables"), ("config", "config.json")):
        words += [f"--{flag}", str(folder / name)]
    reporting.main([*words, "--output", str(folder / "out.tsv")])
    table = read_table(folder / "out.tsv").fillna("n/a")
    return {(row["site"], row["item"].split(". ")[1]): row for row in table.to_dict("records")}, table


def test_values_of_the_files(study):
    found, _ = run(study)
    # 123.25 / 42.5775 = 2.8947; 127.74 / 42.5775 = 3.0002
    assert found["A", "Field strength"]["value"] == "2.89 T (123.25 MHz)"
    assert found["B", "Field strength"]["value"] == "3.00 T (127.74 MHz)"
    assert found["A", "TR, TE"]["value"] == "TR 2000 ms, TE 68 ms"
    assert found["B", "TR, TE"]["value"] == "TR 2000 ms, TE 30 ms; TE 35 ms"
    assert found["A", "Transients acquired"]["value"] == "64 in each of 2 edit conditions"
    assert found["B", "Transients acquired"]["value"] == "32"
    assert (
        found["A", "Further sequence parameters"]["value"] == "2000 Hz, 2048 points, editing pulses ON 1.9 ppm (14 ms)"
    )
    assert (
        found["A", "Water suppression"] | {"value": "water suppressed", "from": "header"}
        == found["A", "Water suppression"]
    )


def test_a_voxel_of_metres_is_no_voxel(study):
    assert run(study)[0]["B", "Nominal size of the volume"]["value"] == "30 x 30 x 30 mm"


def test_quality_counts_kept_transients_and_reference_fits(study):
    found, _ = run(study)
    assert (
        found["A", "SNR, line width"]["value"]
        == "kept single transients: SNR 20 (15 to 25, quartiles), FWHM 6 Hz (5.5 to 6.5, quartiles) of tCr"
    )
    assert found["A", "Exclusion criteria"]["value"].endswith("1 of 4")
    assert found["A", "Quality of the fit"]["value"] == "CRLB of the reference: tNAA (OFF) 2 % (2 to 2, quartiles)"


def test_what_only_people_know_is_stated_or_missing(study):
    found, _ = run(study)
    assert found["A", "Shimming"]["value"] == "FASTMAP, below 10 Hz"
    assert found["A", "Shimming"]["from"] == "config"
    assert (found["B", "Shimming"]["value"], found["B", "Shimming"]["from"]) == ("n/a", "n/a")
    assert {found[site, "Place of the volume of interest"]["value"] for site in "AB"} == {"posterior cingulate"}
    assert found["A", "Triggering, motion correction"]["value"] == "n/a"


def test_every_item_of_the_checklist_is_there_for_every_site(study):
    _, table = run(study)
    assert table.groupby(["site", "section"]).size().unstack().loc["A"].tolist() == [5, 9, 4, 4]
    assert len(table) == 2 * 22


def test_processing_steps_are_those_of_the_config(study):
    found, _ = run(study)
    steps = found["A", "Processing steps"]["value"]
    assert "eddy-current correction" in steps and "HLSVD" not in steps


def test_a_file_without_a_header_is_named(study):
    path = study / "rawdata" / "sub-1" / "mrs" / "sub-1_svs.nii.gz"
    nibabel.save(nibabel.Nifti2Image(np.zeros((1, 1, 1, 8), np.complex64), np.eye(4)), path)
    with pytest.raises(InputError, match=r"sub-1_svs\.nii\.gz: no NIfTI-MRS header"):
        run(study)


def test_every_item_that_the_config_may_state_comes_out(study, root):
    schema = json.loads((root / "workflow" / "schemas" / "config.schema.json").read_text())
    texts = {key: f"stated {key}" for key in schema["properties"]["minimum_reporting"]["properties"]}
    write_json(study / "config.json", CONFIG | {"minimum_reporting": texts})
    _, table = run(study)
    shown = " ".join(table.loc[table["site"] == "A", "value"])
    assert texts and all(text in shown for text in texts.values())
