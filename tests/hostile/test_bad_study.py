"""Broken scans in one sheet with good ones, through the whole workflow: each is told once, nothing else is lost."""

import csv
import ctypes
import json
import os
import re
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import broken
import pytest
from broken_files import DATA

from mrs_synthesis.files import read_table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from workflow.conftest import COLUMNS, CONFIG, Study, sheet_rows

pytestmark = [pytest.mark.slow]
SPLITS = ("train", "validation", "test")
SHARD_SIZE = 60  # so that one shard has good and broken scans
OVERRIDE = (1, 2)  # capabilities to read and enter what the mode forbids
DROP = 24  # prctl's number for the set that limits them
# Refused with the sheet, before anything runs: `test_names`
REFUSED = ("a name that is too long",)
CASES = broken.CASES | (broken.DATA_CASES if DATA.is_dir() else {})
BROKEN = {  # subjects from 100 on; the good ones are 01 to 06
    f"sub-{number}_acq-megapress": name
    for number, name in enumerate((name for name in CASES if name not in REFUSED), start=100)
}
OF_BROKEN = re.compile(r"(.*/)?sub-[1-9]\d\d(/.*|[_\t].*)")
# What is told of a scan once its transients are arranged: as an unedited one, which no training set may hold
ARRANGED = re.compile(
    "nifti: (not finite|zeros|complex|one point|16 points|echo time)|SPAR: (echo|repetition)_time|water (of|cut)|"
    "no such water|sidecar|a (pipe|loop of links): water|no leave to read: water"
)
# What cannot be as without the broken scans, and what of it can
ROWS = (  # of the good scans
    "units.tsv", "training/units.tsv", "rawdata/participants.tsv", "tables/conversion.tsv", "tables/checks.tsv",
)  # fmt: skip
NOT_EQUAL = {
    *ROWS,
    "tables/failures.tsv",  # lists the broken ones, as does ...
    "rawdata/.bidsignore",
    "rawdata/README.md",  # counts subjects and scans
    "manifest.sha256",  # hashes of all files
    "provenance.json",  # ... and times
    "tables/run_times.tsv",
    "report.html",  # holds all tables
    "complete.json",  # is not written
}
COUNTS = "n_left_out"  # column of tables: scans that failed; the others must be equal
FOLDERS_OF_ALL_SCANS = ("benchmarks", "logs", "records", "status")


def without_override(call):
    """Call without root's right to read everything; also return whether that could be taken away."""

    def run():
        library = ctypes.CDLL(None)
        dropped = [library.prctl(DROP, one, 0, 0, 0) == 0 for one in OVERRIDE] if hasattr(library, "prctl") else []
        return call(), bool(os.geteuid() or (dropped and all(dropped)))

    with ThreadPoolExecutor(1) as own:  # the right is a thread's, and of the programs that it starts
        return own.submit(run).result()


@pytest.fixture(scope="module")
def raw(root, tmp_path_factory):
    """The raw files of the phantom's six scans."""
    phantom = Study(root, tmp_path_factory.mktemp("phantom"))
    phantom.write(CONFIG, sheet_rows())
    done = phantom.snakemake("results/tiny/tables/truth.tsv")
    assert done.returncode == 0, done.stdout + done.stderr
    return phantom.results / "sourcedata"


def write_study(root, folder, raw, rows):
    study = Study(root, folder)
    shutil.copytree(raw, study.folder / "raw")
    good = [
        one | {name: one[name].replace("results/tiny/sourcedata", "raw") for name in ("metab", "water")}
        for one in sheet_rows()
    ]
    config = {key: value for key, value in CONFIG.items() if key != "phantom"} | {"shard_size": SHARD_SIZE}
    study.write(config, good)
    columns = [*COLUMNS, "aux", "te_ms"]
    with open(study.folder / "samples.tsv", "w", newline="", encoding="utf-8") as stream:
        table = csv.DictWriter(stream, columns, restval="", delimiter="\t", lineterminator="\n")
        table.writeheader()
        table.writerows([*good, *rows(study.folder / "raw")])
    return study


def broken_rows(raw, names):
    for number, (unit, name) in enumerate(names.items()):
        subject = unit[4:7]
        folder = raw / subject
        folder.mkdir()
        found = broken.row(CASES[name][0](folder))
        found |= {"subject": subject, "site": "siemens1", "vendor": "siemens", "sequence": "megapress"}
        found["split"] = SPLITS[number % 3]
        if ARRANGED.match(name) or name in broken.DATA_CASES:
            found["split"] = "test"
        elif found["edit_scheme"] == "none":  # a training set has one edit scheme
            found |= {"edit_scheme": "mega", "edit_order": "from_header"}
        for column in ("metab", "aux", "water"):
            found[column] = found[column].replace(f"{raw}/", "raw/")
        yield found


@pytest.fixture(scope="module")
def study(root, raw, tmp_path_factory):
    """The study with the broken scans, how its run ended, and the broken scans.

    Without those that nobody may read, where root's rights cannot be taken away: they would be good ones.
    """
    heeded = without_override(lambda: None)[1]
    names = {unit: name for unit, name in BROKEN.items() if heeded or not name.startswith("no leave")}
    study = write_study(root, tmp_path_factory.mktemp("study"), raw, lambda folder: broken_rows(folder, names))
    done, _ = without_override(lambda: study.snakemake("--keep-going"))
    (study.folder / "said.txt").write_text(done.stdout + done.stderr)
    for path in (study.folder / "raw").glob("*/in"):
        path.chmod(0o700)  # else pytest cannot remove it
    return study, done, names


@pytest.fixture(scope="module")
def alone(root, raw, tmp_path_factory):
    """The study of the good scans alone."""
    study = write_study(root, tmp_path_factory.mktemp("alone"), raw, lambda _: [])
    done = study.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    return study


def test_there_are_enough():
    assert len(BROKEN) >= 160


@pytest.mark.parametrize("column", ["metab", "water"])
def test_a_file_of_two_subjects_ends_the_run_before_it_begins(root, raw, tmp_path, column):
    twice = {"subject": "07", "metab": "raw/7.dat", "water": "raw/w7.dat"}
    study = write_study(root, tmp_path, raw, lambda _: [])
    rows = (study.folder / "samples.tsv").read_text().splitlines()
    row = dict(zip(rows[0].split("\t"), rows[1].split("\t"), strict=True))
    twice[column] = row[column].replace("raw/", "raw/../raw/")
    with open(study.folder / "samples.tsv", "a") as stream:
        stream.write("\t".join((row | twice).values()) + "\n")
    done = study.snakemake("--dry-run")
    said = done.stdout + done.stderr
    assert done.returncode == 1 and "Traceback" not in said
    whose = "this scan" if column == "metab" else "this subject"
    assert (
        f"samples.tsv row 8, column {column}: '{row[column]}' stands in row 2 already, expected a file of {whose} "
        "alone; correct the path, or give one of the rows a reason in the column exclude"
    ) in said.splitlines()


def test_the_run_ends_with_an_error_that_counts_the_scans(study):
    study, done, _ = study
    assert done.returncode == 1
    said = done.stdout + done.stderr
    failed = len(set(read_table(study.results / "tables" / "failures.tsv")["unit"]))
    assert f"error: {failed} scan(s) failed (above, and in results/tiny/tables/failures.tsv)" in said, said[-3000:]
    assert "Traceback" not in said and "fault of the program" not in said
    assert "Error in rule complete" in said and len(re.findall("Error in rule", said)) == 1


def test_each_broken_scan_is_listed_once_with_its_reason(study):
    study, _, wanted = study
    table = read_table(study.results / "tables" / "failures.tsv")
    listed = list(zip(table["unit"], table["stage"], table["reason"], strict=True))
    assert sorted(table["unit"]) == sorted(wanted)
    for unit, stage, reason in listed:
        assert stage == "convert"
        assert re.fullmatch(CASES[wanted[unit]][1], reason), (wanted[unit], reason)
        assert reason.splitlines() == [reason]


def files_of(study):
    """Return the names of a study's results but for those of broken scans."""
    found = {path.relative_to(study.results).as_posix() for path in study.results.rglob("*") if path.is_file()}
    found = {name for name in found if name.split("/")[0] not in FOLDERS_OF_ALL_SCANS}
    return {name for name in found if not OF_BROKEN.fullmatch(name)}


def content(study, name):
    """Return a result without counts and names of scans that failed."""
    path = study.results / name
    if name == "tables/summary.json":
        found = json.loads(path.read_text())
        found["units_left_out"] = {}
        return found
    if name.startswith("tables/") and path.suffix == ".tsv":
        header, *rows = (line.split("\t") for line in path.read_text().splitlines())
        keep = [place for place, column in enumerate(header) if column != COUNTS]
        return [[row[place] for place in keep] for row in (header, *rows)]
    return path.read_bytes()


def test_all_that_there_is_of_the_good_scans_is_as_without_the_broken_ones(study, alone):
    study = study[0]
    before, now = files_of(alone), files_of(study)
    assert before - now == {"complete.json"} and now <= before
    compared = sorted(now - NOT_EQUAL)
    folders = {"basis", "derivatives", "figures", "heldout", "model", "rawdata", "tables", "training"}
    assert len(compared) > 250 and folders <= {name.split("/")[0] for name in compared}
    assert [name for name in compared if content(alone, name) != content(study, name)] == []
    assert now & NOT_EQUAL == NOT_EQUAL - {"complete.json"}


@pytest.mark.parametrize("name", ROWS)
def test_a_table_of_all_scans_has_the_same_rows_of_the_good_ones(study, alone, name):
    rows = (study[0].results / name).read_text().splitlines()
    wanted = (alone.results / name).read_text().splitlines()
    assert [row for row in rows if not OF_BROKEN.fullmatch(row)] == wanted
    assert len(rows) > len(wanted)


def test_records_have_the_same_of_the_good_scans(study, alone):
    records = sorted((alone.results / "records").rglob("*.json"))
    assert len(records) > 5
    for path in records:
        wanted = json.loads(path.read_text())["units"]
        found = json.loads((study[0].results / path.relative_to(alone.results)).read_text())["units"]
        assert [one for one in found if not OF_BROKEN.fullmatch(one["unit"])] == wanted, path
