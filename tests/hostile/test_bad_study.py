"""Broken scans in one sheet with good ones, through the whole workflow: each is told once, nothing else is lost."""

import re
import shutil
import sys
from pathlib import Path

import broken
import pytest

from mrs_synthesis.files import read_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from workflow.conftest import COLUMNS, CONFIG, Study, sheet_rows

pytestmark = [pytest.mark.slow]
BROKEN = [
    "no bytes: siemens_twix", "a letter: nifti_mrs", "cut to 0.5: siemens_twix", "cut to 0.5: philips_sdat",
    "sdat as rda", "no such file", "a loop of links", "a link to nowhere", "a pipe", "a device without end",
    "a folder in place of a file", "SPAR of another scan", "SPAR without echo_time", "nifti: 31P",
    "nifti.gz: announces exabytes", "bomb: 4 GB of transients", "odd number of edited transients",
    "no such water", "water cut short", "a pipe: water", "DICOM: an empty folder",
]  # fmt: skip
SPLITS = ("train", "validation", "test")


@pytest.fixture(scope="module")
def study(root, tmp_path_factory):
    """A study of the phantom's six scans and of broken ones; with how it ended."""
    phantom = Study(root, tmp_path_factory.mktemp("phantom"))
    phantom.write(CONFIG, sheet_rows())
    done = phantom.snakemake("results/tiny/tables/truth.tsv")
    assert done.returncode == 0, done.stdout + done.stderr
    study = Study(root, tmp_path_factory.mktemp("study"))
    shutil.copytree(phantom.results / "sourcedata", study.folder / "raw")
    rows = [
        one | {name: one[name].replace("results/tiny/sourcedata", "raw") for name in ("metab", "water")}
        for one in sheet_rows()
    ]
    for number, name in enumerate(BROKEN, start=10):
        folder = study.folder / "raw" / f"{number}"
        folder.mkdir()
        found = broken.row(broken.CASES[name][0](folder))
        about = {"subject": f"{number}", "site": "siemens1", "vendor": "siemens", "sequence": "megapress"}
        about["split"] = SPLITS[number % 3]
        if found["edit_scheme"] == "none":  # a study has one edit scheme
            found |= {"edit_scheme": "mega", "edit_order": "from_header"}
        rows.append(dict.fromkeys(COLUMNS, "") | {key: found[key] for key in COLUMNS if key in found} | about)
    study.write({key: value for key, value in CONFIG.items() if key != "phantom"}, rows)
    done = study.snakemake("--keep-going")
    (study.folder / "said.txt").write_text(done.stdout + done.stderr)
    return study, done


def test_the_run_ends_with_an_error_that_names_the_scans(study):
    study, done = study
    assert done.returncode == 1
    said = done.stdout + done.stderr
    assert (study.results / "report.html").is_file(), said[-3000:]
    assert "Traceback" not in said


def test_each_broken_scan_is_listed_once_with_its_reason(study):
    study, _ = study
    table = read_table(study.results / "tables" / "failures.tsv")
    wanted = {f"sub-{number}_acq-megapress": name for number, name in enumerate(BROKEN, start=10)}
    assert sorted(table["unit"]) == sorted(wanted)
    for unit, reason in zip(table["unit"], table["reason"], strict=True):
        assert re.fullmatch(broken.CASES[wanted[unit]][1], reason), (wanted[unit], reason)


def test_the_good_scans_have_all_results(study):
    study, _ = study
    rows = sheet_rows()
    for one in rows:
        unit, folder = f"sub-{one['subject']}_acq-megapress", f"sub-{one['subject']}"
        names = [
            f"rawdata/{folder}/mrs/{unit}_svs.nii.gz",
            f"rawdata/{folder}/mrs/{unit}_mrsref.nii.gz",
            f"derivatives/{folder}/mrs/{unit}_desc-preproc_svs.nii.gz",
        ]
        if one["split"] == "test":
            names.append(f"derivatives/{folder}/mrs/{unit}_desc-batched_mrsfit.tsv")
        for name in names:
            assert (study.results / name).stat().st_size > 0, name
    bias = read_table(study.results / "tables" / "bias.tsv")
    assert len(bias) > 0
