"""The sample sheet: what a row must hold, and what one is told otherwise."""

import gzip
from collections import Counter

import pytest

from mrs_synthesis import sheet
from mrs_synthesis.stage import InputError

COLUMNS = ["subject", "session", "site", "vendor", "format", "sequence", "edit_scheme", "edit_order", "metab"]
COLUMNS += ["water", "water_role", "te_ms", "split", "exclude", "wm", "gm", "csf"]
TISSUE = {"wm": "0.36", "gm": ".52", "csf": "0.12"}
GOOD = {"subject": "01", "site": "A", "vendor": "siemens", "format": "siemens_twix", "sequence": "mega_press"}
GOOD |= {"edit_scheme": "mega", "edit_order": "from_header", "metab": "raw/a.dat"}


def write_as_is(folder, *rows, columns=COLUMNS):
    lines = ["\t".join(columns)] + ["\t".join(row.get(c, "") for c in columns) for row in rows]
    path = folder / "samples.tsv"
    path.write_text("\n".join(lines) + "\n")
    return path


def write(folder, *rows, columns=COLUMNS):
    """Write a sheet; each row but the first has a file of its own in place of the good row's."""
    own = [f"raw/{n}.dat" if n and row["metab"] == GOOD["metab"] else row["metab"] for n, row in enumerate(rows)]
    rows = [row | {"metab": path} for row, path in zip(rows, own, strict=True)]
    return write_as_is(folder, *rows, columns=columns)


def test_a_good_row_gets_its_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (row,) = sheet.read_samples(write(tmp_path, GOOD | {"session": "2"}))
    assert (row["unit"], row["folder"]) == ("sub-01_ses-2_acq-megapress", "sub-01/ses-2")
    assert row["metab"] == "raw/a.dat"
    assert row["water_role"] == "none"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"subject": "../x"}, "row 2, column subject"),
        ({"subject": "a;b"}, "row 2, column subject"),
        ({"site": ""}, "row 2, column site"),
        ({"format": "dicom"}, "siemens_dicom, siemens_twix"),
        ({"te_ms": "68ms"}, "column te_ms"),
        ({"edit_order": ""}, "edit_scheme mega needs edit_order"),
        ({"water_role": "both"}, "does not go with water_role"),
        ({"water": "w.dat"}, "does not go with water_role"),
        ({"split": "trian"}, "column split"),
        ({"metab": ""}, "column metab"),
        ({"wm": "40 %"}, "column wm"),
        ({"gm": "1.2"}, "column gm|sum 1"),
        ({"wm": "0.5", "gm": "0.5"}, "csf empty; expected three fractions with the sum 1"),
        (TISSUE | {"csf": "0.15"}, "wm 0.36, gm .52, csf 0.15; expected three fractions with the sum 1"),
    ],
)
def test_a_bad_row_is_named_with_its_column(tmp_path, change, message):
    with pytest.raises(InputError, match=message) as caught:
        sheet.read_samples(write(tmp_path, GOOD | change))
    assert "samples.tsv row 2" in str(caught.value)


def test_tissue_fractions_go_to_the_stages_as_stated(tmp_path):
    rows = [GOOD | TISSUE, GOOD | {"subject": "02", "wm": "n/a"}, GOOD | {"subject": "03"} | TISSUE | {"csf": "0.14"}]
    stated, empty, rounded = sheet.read_samples(write(tmp_path, *rows))
    assert (stated["wm"], stated["gm"], stated["csf"]) == ("0.36", ".52", "0.12")
    assert sheet.tissue_flags(stated) == ["--tissue", "0.36", ".52", "0.12"]
    assert sheet.tissue_flags(empty) == []
    assert sheet.tissue_flags(rounded)[-1] == "0.14"  # the sum is 1.02


@pytest.mark.parametrize("start", ["", "\ufeff"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_the_row_that_is_named_is_that_of_the_file(tmp_path, start, end):
    """Whatever program saved it, and with empty rows in between."""
    path = write(tmp_path, GOOD, dict.fromkeys(COLUMNS, ""), {"metab": ""}, GOOD, columns=COLUMNS)
    lines = path.read_text().splitlines()
    path.write_bytes(end.join([start + lines[0], lines[1], "", *lines[2:4], lines[4], ""]).encode())
    with pytest.raises(InputError) as caught:
        sheet.read_samples(path)
    assert str(caught.value) == (
        f"{path} row 6: sub-01_acq-megapress stands in row 2 already; give the second scan another session or sequence"
    )


def test_a_column_that_stands_there_twice_is_refused(tmp_path):
    with pytest.raises(InputError) as caught:
        sheet.read_samples(write(tmp_path, GOOD, columns=[*COLUMNS, "site"]))
    message = "samples.tsv row 1: column 'site' stands there twice; keep the one that is meant"
    assert str(caught.value) == f"{tmp_path}/{message}"


def test_unknown_and_missing_columns_are_named(tmp_path):
    with pytest.raises(InputError, match="unknown column 'sbuject'"):
        sheet.read_samples(write(tmp_path, GOOD, columns=[*COLUMNS, "sbuject"]))
    with pytest.raises(InputError, match="no column 'site'"):
        sheet.read_samples(write(tmp_path, GOOD, columns=[c for c in COLUMNS if c != "site"]))


def test_the_same_scan_twice_is_refused(tmp_path):
    with pytest.raises(InputError, match="row 3: sub-01_acq-megapress stands in row 2 already"):
        sheet.read_samples(write(tmp_path, GOOD, GOOD))


WATER = {"water": "raw/w.dat", "water_role": "both"}
ALONE = "correct the path, or give one of the rows a reason in the column exclude"


@pytest.mark.parametrize(
    ("first", "second", "message"),
    [
        (
            {},
            {"subject": "02"},
            f"metab: 'raw/a.dat' stands in row 2 already, expected a file of this scan alone; {ALONE}",
        ),
        (
            {},
            {"session": "2"},
            f"metab: 'raw/a.dat' stands in row 2 already, expected a file of this scan alone; {ALONE}",
        ),
        (
            {},
            {"sequence": "press", "metab": "raw/../raw//a.dat"},
            f"metab: 'raw/a.dat' stands in row 2 already, expected a file of this scan alone; {ALONE}",
        ),
        (
            WATER,
            {"subject": "02", "metab": "raw/b.dat"} | WATER,
            f"water: 'raw/w.dat' stands in row 2 already, expected a file of this subject alone; {ALONE}",
        ),
        (WATER, {"session": "2", "metab": "raw/b.dat"} | WATER, ""),  # its check of the content warns
        (WATER, {"sequence": "press", "metab": "raw/b.dat"} | WATER, ""),
        ({"exclude": "the same file"}, {"subject": "02"}, ""),
    ],
)
def test_a_file_in_two_rows_is_refused(tmp_path, monkeypatch, first, second, message):
    monkeypatch.chdir(tmp_path)
    path = write_as_is(tmp_path, GOOD | first, GOOD | second)
    if not message:
        assert len(sheet.read_samples(path)) == 2
        return
    with pytest.raises(InputError) as caught:
        sheet.read_samples(path)
    assert str(caught.value) == f"{path} row 3, column {message}"


def test_excluded_rows_are_left_out_but_known(tmp_path):
    rows = sheet.read_samples(write(tmp_path, GOOD, GOOD | {"subject": "02", "exclude": "moved"}))
    assert [row["subject"] for row in rows] == ["01", "02"]
    assert [row["subject"] for row in sheet.included(rows)] == ["01"]


def test_split_is_by_subject_and_keeps_what_the_sheet_says(tmp_path):
    rows = [GOOD | {"subject": f"{i:02d}", "site": "AB"[i % 2]} for i in range(20)]
    rows[0]["split"] = "test"
    rows.append(rows[5] | {"session": "2"})
    samples = sheet.read_samples(write(tmp_path, *rows))
    assert sheet.assign_splits(samples, 1, (0.6, 0.2, 0.2)) == "subject"
    split = {row["unit"]: row["split"] for row in samples}
    assert split["sub-00_acq-megapress"] == "test"
    assert split["sub-05_acq-megapress"] == split["sub-05_ses-2_acq-megapress"]
    assert Counter({r["subject"]: r["split"] for r in samples}.values()) == {"train": 12, "validation": 4, "test": 4}


def test_one_subject_is_split_by_transients(tmp_path):
    samples = sheet.read_samples(write(tmp_path, GOOD))
    assert sheet.assign_splits(samples, 1, (0.6, 0.2, 0.2)) == "transient"
    assert samples[0]["split"] == ""


def test_too_few_subjects_cannot_be_split_by_subject(tmp_path):
    samples = sheet.read_samples(write(tmp_path, GOOD, GOOD | {"subject": "02"}))
    with pytest.raises(InputError, match=r"2 subject\(s\), expected at least 3 to split by subject"):
        sheet.assign_splits(samples, 1, (0.6, 0.2, 0.2), "subject")


def study(tmp_path, splits):
    """Return the rows of a sheet of subjects with these splits."""
    rows = [GOOD | {"subject": f"{i:02d}", "split": split} for i, split in enumerate(splits)]
    return sheet.read_samples(write(tmp_path, *rows))


def units_of(tmp_path, *more):
    output = tmp_path / "units.tsv"
    sheet.main(["--samples", str(tmp_path / "samples.tsv"), "--seed", "1", *more, "--output", str(output)])
    return output.read_bytes()


def test_a_test_subject_leaves_the_table_of_the_training_set_as_it_was(tmp_path):
    splits = ["train", "validation", "train"]
    study(tmp_path, splits)
    before = units_of(tmp_path, "--seen")
    assert before == units_of(tmp_path) and before.count(b"\n") == 4
    study(tmp_path, [*splits, "test"])
    assert units_of(tmp_path, "--seen") == before
    assert units_of(tmp_path).startswith(before) and b"sub-03_acq-megapress" in units_of(tmp_path)


@pytest.mark.parametrize(
    ("splits", "words"),
    [
        (["train", "train", "validation", "test", "test"], ""),
        (["train", "train", "validation"], ""),
        (["train", "train", "validation", "train", "test"], "1 subject(s) in, 0 out"),
        (["train", "test", "validation", "test"], "0 subject(s) in, 1 out"),
        (["validation", "train", "train", "test"], "2 subject(s) in, 2 out"),
    ],
)
def test_a_changed_training_set_is_told(tmp_path, splits, words):
    path = tmp_path / "results" / "training" / "units.tsv"
    rows = study(tmp_path, splits)
    assert sheet.change_of_training(path, sheet.seen(rows)) == ""  # no earlier run
    path.parent.mkdir(parents=True)
    path.write_text(sheet.unit_table(sheet.seen(study(tmp_path, ["train", "train", "validation", "test"]))))
    said = sheet.change_of_training(path, sheet.seen(rows))
    assert said.startswith(f"training set changes: {words}") if words else said == ""


def test_a_bids_folder_stands_in_for_a_sheet(tmp_path):
    folder = tmp_path / "sub-01" / "ses-1" / "mrs"
    folder.mkdir(parents=True)
    with gzip.open(folder / "sub-01_ses-1_acq-mega_svs.nii.gz", "wb") as stream:
        stream.write(b'{"dim_6": "DIM_EDIT"}')
    with gzip.open(folder / "sub-01_ses-1_acq-press_svs.nii.gz", "wb") as stream:
        stream.write(b"{}")
    (folder / "sub-01_ses-1_acq-mega_mrsref.nii.gz").touch()
    people = tmp_path / "participants.tsv"
    people.write_text("participant_id\tsite\tsplit\twm\tgm\tcsf\nsub-01\tP3\ttest\t0.4\t0.5\t0.1\n")
    mega, press = sheet.read_samples(tmp_path)
    assert sheet.tissue_flags(mega) == ["--tissue", "0.4", "0.5", "0.1"]
    people.write_text("participant_id\tsite\twm\tgm\tcsf\nsub-01\tP3\t0.4\t0.4\t0.1\n")
    with pytest.raises(InputError, match=r"participants[.]tsv, sub-01: wm .* expected three fractions"):
        sheet.read_samples(tmp_path)
    assert press["split"] == "test"
    assert (mega["unit"], mega["edit_scheme"], mega["water_role"], mega["site"]) == (
        "sub-01_ses-1_acq-mega",
        "mega",
        "both",
        "P3",
    )
    assert (press["unit"], press["edit_scheme"], press["water"]) == ("sub-01_ses-1_acq-press", "none", "")


def test_labels_of_sites():
    assert sheet.site_labels(["P 1", None, "", "x-2"]) == {"P 1": "P1", "n/a": "na", "x-2": "x2"}
    for sites in (["a-b", "ab"], ["--"]):
        with pytest.raises(InputError, match="rename it") as error:
            sheet.site_labels(sites)
        assert "\n" not in str(error.value)
