"""The study's outputs are BIDS datasets, and its spectra NIfTI-MRS, by the standards' own validators."""

import csv
import json
import re
import sys
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from bids_checks import as_raw, check_header, issues

from mrs_synthesis.files import MISSING


def test_both_datasets_pass_the_bids_validator(tiny, tmp_path):
    for dataset in (tiny.results / "rawdata", tiny.results / "derivatives"):
        assert issues(dataset) == []
        print(dataset.name, Counter(code for code, *_ in issues(dataset, "warning")))
    # .bidsignore hides derivatives' names from the validator, thus their sidecars: shown to it under raw names
    assert issues(as_raw(tiny.results / "derivatives", tmp_path / "shown")) == []


def test_every_spectrum_passes_the_validator_of_nifti_mrs(tiny):
    files = [file for part in ("rawdata", "derivatives") for file in (tiny.results / part).rglob("*.nii.gz")]
    assert len(files) > 20
    for file in files:
        check_header(file)


def test_sources_lead_to_files_and_labels_to_words(tiny):
    roots = {"": tiny.results / "derivatives", "raw": tiny.results / "rawdata"}
    links = json.loads((roots[""] / "dataset_description.json").read_text())["DatasetLinks"]
    assert (roots[""] / links["raw"]).resolve() == roots["raw"].resolve()
    with open(roots[""] / "descriptions.tsv", newline="") as stream:
        described = {row["desc_id"]: row["description"] for row in csv.DictReader(stream, delimiter="\t")}
    files = [path for path in roots[""].glob("sub-*/**/mrs/*") if path.suffix in (".json", ".tsv", ".gz")]
    assert files
    for path in files:
        assert len(described[re.search("desc-[A-Za-z0-9]+", path.name)[0]]) > len(MISSING), path
        sidecar = path if path.suffix == ".json" else path.with_name(re.sub(r"(\.nii\.gz|\.tsv)$", ".json", path.name))
        content = json.loads(sidecar.read_text())
        assert content["Description"], path
        for source in content["Sources"]:
            dataset, inside = re.fullmatch("bids:([a-z]*):(sub-.+)", source).groups()
            assert (roots[dataset] / inside).is_file(), (path, source)
        if path.suffix == ".tsv":
            columns = path.read_text().partition("\n")[0].split("\t")
            assert all(content[column]["Description"] for column in columns), path


def test_raw_sidecars_do_not_name_the_vendors_files(tiny):
    names = [path.stem for path in (tiny.results / "sourcedata").rglob("*") if path.suffix in (".dat", ".SDAT")]
    texts = [path.read_text() for path in (tiny.results / "rawdata").rglob("*.json")]
    assert names
    assert texts
    assert not [name for name in names for text in texts if name in text]
