"""A raw file that is removed costs its own scan at most; one that comes back is converted alone."""

import shutil

import pytest
from workflow.conftest import CONFIG, Study, sheet_rows

from mrs_synthesis.files import read_table

from .killing import ROOT

pytestmark = [pytest.mark.slow]
GONE = "sub-03"


def files(study):
    """Return time and bytes of what was made from raw files."""
    folders = (study.results / name for name in ("rawdata", "derivatives"))
    paths = [path for folder in folders for path in sorted(folder.rglob("sub-*_*")) if path.is_file()]
    return {path.name: (path.stat().st_mtime_ns, path.read_bytes()) for path in paths}


def go(study, target):
    done = study.snakemake(target)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return read_table(study.results / "tables" / ("conversion.tsv" if target == "converted" else "preprocessing.tsv"))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Raw files of a study that is not a phantom's, and what an undisturbed run makes of them."""
    phantom = Study(ROOT, tmp_path_factory.mktemp("phantom"))
    phantom.write(CONFIG, sheet_rows())
    done = phantom.snakemake("results/tiny/tables/truth.tsv")
    assert done.returncode == 0, done.stdout + done.stderr
    study = Study(ROOT, tmp_path_factory.mktemp("raw"))
    shutil.copytree(phantom.results / "sourcedata", study.folder / "raw")
    rows = [
        row | {name: row[name].replace("results/tiny/sourcedata", "raw") for name in ("metab", "water")}
        for row in sheet_rows()
    ]
    study.write({key: value for key, value in CONFIG.items() if key != "phantom"}, rows)
    return study, rows


def test_a_missing_raw_file_costs_its_scan_and_comes_back(raw, tmp_path):
    study = raw[0].copy_to(tmp_path / "study")
    whole = raw[0].copy_to(tmp_path / "whole")
    go(whole, "preprocessed")
    (victim,) = (row["metab"] for row in raw[1] if row["subject"] == GONE[4:])
    (study.folder / victim).rename(study.folder / "away")
    table = go(study, "converted").set_index("subject")
    assert table["status"].to_dict() == dict.fromkeys(["01", "02", "04", "05", "06"], "ok") | {GONE[4:]: "failed"}
    assert table.loc[GONE[4:], "reason"].startswith("metab: no such file")
    before = files(study)

    (study.folder / "away").rename(study.folder / victim)
    table = go(study, "converted")
    assert set(table["status"]) == {"ok"}
    after = files(study)
    changed = {name for name in after if after[name] != before.get(name)}
    assert changed and all(name.startswith(GONE) for name in changed)

    (study.folder / victim).unlink()  # what was made from it stays
    go(study, "preprocessed")
    again = files(study)
    assert {name: again[name] for name in after} == after
    assert {name: content for name, (_, content) in again.items()} == {
        name: content for name, (_, content) in files(whole).items()
    }
