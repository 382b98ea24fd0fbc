"""The sample sheet: one row per scan, checked row by row before anything runs.

Only the standard library and jsonschema, since the workflow reads the sheet to build its graph.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import json
import os
import re
import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from mrs_synthesis.files import MISSING, write_text
from mrs_synthesis.names import check_path, check_words, shown
from mrs_synthesis.stage import InputError, run

SCHEMA = Path(__file__).resolve().parents[1] / "schemas" / "samples.schema.json"
UNIT_COLUMNS = (
    "unit",
    "folder",
    "subject",
    "session",
    "site",
    "vendor",
    "format",
    "sequence",
    "edit_scheme",
    "split",
    "te_ms",
    "tr_ms",
)
PATH_COLUMNS = ("metab", "aux", "water")
TISSUE_COLUMNS = ("wm", "gm", "csf")
TISSUE_TOLERANCE = 0.02  # of the fractions' sum, which is 1
NO_SITE = MISSING  # what tables call a site that is not stated


def read_samples(path: Path | str) -> list[dict[str, Any]]:
    """Read a sample sheet (TSV) or a BIDS folder, with paths made relative to the working directory.

    Returns
    -------
    list of dict
        One per row, with the sheet's columns (empty ones as ``""``), `where` it stands, for messages, and `unit`,
        `folder`; also the rows with a reason in `exclude`.

    Raises
    ------
    InputError
        Naming the sheet, the row (the header is row 1) and the column.
    """
    path = Path(path)
    rows = _bids_rows(path) if path.is_dir() else _sheet_rows(path)
    if not rows:
        raise InputError(f"{path}: no rows; expected one row per scan below the header")
    seen: dict[str, str] = {}
    for row in rows:
        row.update(_names(row))
        if row["unit"] in seen:
            raise InputError(
                f"{path} {row['where']}: {row['unit']} stands in {seen[row['unit']]} already; "
                "give the second scan another session or sequence"
            )
        seen[row["unit"]] = row["where"]
    _check_files(rows, path)
    return rows


def tissue_flags(row: dict[str, Any]) -> list[str]:
    """Return a row's tissue fractions as the flag ``--tissue WM GM CSF``; nothing where the sheet states none."""
    fractions = [row[name] for name in TISSUE_COLUMNS]
    return ["--tissue", *fractions] if all(fractions) else []


def site_labels(sites: Iterable[str | None]) -> dict[str, str]:
    """Return what the files of each site are called: its letters and digits.

    Raises
    ------
    InputError
        If two sites have the same, or one has none.
    """
    names: dict[str, str] = {}
    for site in sorted({site or NO_SITE for site in sites}):
        label = re.sub("[^A-Za-z0-9]", "", site)
        if not label or label in names.values():
            raise InputError(
                f"site {site!r}: its files would be called {label!r}, expected letters or digits that no other site "
                "has; rename it in the sample sheet"
            )
        names[site] = label
    return names


def included(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows without a reason in `exclude`."""
    return [row for row in rows if not row["exclude"]]


def assign_splits(rows: list[dict[str, Any]], seed: int, fractions: Sequence[float], split_unit: str = "auto") -> str:
    """Fill in the `split` of rows that state none, whole subjects stratified by site; return the unit of the split.

    With `split_unit` "transient", or "auto" and fewer than three subjects, rows are left as they are: every scan is
    then divided by transients when the training set is assembled, and all units are tested.
    """
    from mrs_synthesis import splits

    splits.check_fractions(fractions)
    sites = {row["subject"]: row["site"] for row in rows}
    if split_unit == "auto":
        split_unit = "subject" if len(sites) >= splits.FEWEST_SUBJECTS else "transient"
    if split_unit == "subject" and len(sites) < splits.FEWEST_SUBJECTS:
        raise InputError(
            f"sample sheet: {len(sites)} subject(s), expected at least {splits.FEWEST_SUBJECTS} to split by subject; "
            "set assemble: split_unit to auto or transient"
        )
    given = splits.given_splits([row | {"split": row["split"] or None} for row in rows])
    if split_unit == "subject":
        assigned = splits.split_subjects(sites, given, fractions, seed)
        for row in rows:
            row["split"] = assigned[row["subject"]]
    elif given:
        raise InputError(
            f"sample sheet: subject {next(iter(given))} has a split, but this study is split by transients within "
            "subjects; empty the column, or set assemble: split_unit to subject"
        )
    return split_unit


def seen(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the rows of which a model may see something: all but whole test subjects."""
    return [row for row in rows if row["split"] != "test"]


def unit_table(rows: list[dict[str, Any]]) -> str:
    """Return the table of units of rows with their split, as the text of a TSV file."""
    lines = ["\t".join(UNIT_COLUMNS)]
    lines += ["\t".join(str(row[name]) or MISSING for name in UNIT_COLUMNS) for row in rows]
    return "\n".join(lines) + "\n"


def change_of_training(path: Path, rows: list[dict[str, Any]]) -> str:
    """Return a sentence on how `rows` change the training set of an earlier run; empty if they do not.

    Parameters
    ----------
    path
        The earlier run's table of the units that its model might see; need not exist.
    rows
        Those of the sample sheet that the model may now see.
    """
    path = Path(path)
    if not path.is_file():
        return ""
    with open(path, newline="", encoding="utf-8") as stream:
        before = {(row["unit"], row["split"]): row["subject"] for row in csv.DictReader(stream, delimiter="\t")}
    now = {(row["unit"], row["split"] or MISSING): row["subject"] for row in rows}
    enter, leave = (
        len({one[key] for key in one.keys() - other.keys()}) for one, other in ((now, before), (before, now))
    )
    if not enter and not leave:
        return ""
    return (
        f"training set changes: {enter} subject(s) in, {leave} out (both for one that moves between training and "
        "validation); the model and all cells will be made again. To keep them, state every subject's split as in "
        f"that run's table, {path.parent.parent.name}/units.tsv, and `test` for new subjects"
    )


def _check_files(rows: list[dict[str, Any]], sheet: Path) -> None:
    """Refuse a scan's file in two rows, and a water reference's in rows of two subjects: they would share a split."""
    known: dict[tuple[str, str], tuple[str, str]] = {}
    for row in included(rows):
        where = row["where"]
        for column in ("metab", "water"):
            before, subject = known.setdefault((column, row[column]), (where, row["subject"]))
            if row[column] and before != where and (column == "metab" or subject != row["subject"]):
                raise InputError(
                    f"{sheet} {where}, column {column}: {shown(row[column])} stands in {before} already, "
                    f"expected a file of {'this scan' if column == 'metab' else 'this subject'} alone; correct the "
                    "path, or give one of the rows a reason in the column exclude"
                )


def _check_tissue(row: dict[str, Any], where: str) -> None:
    """Check that a row has all tissue fractions, with a sum of 1, or none."""
    stated = [row[name] for name in TISSUE_COLUMNS if row[name]]
    if not stated:
        return
    try:
        fractions = [float(value) for value in stated]
    except ValueError:
        fractions = []
    if (
        len(fractions) < len(TISSUE_COLUMNS)
        or not all(0 <= value <= 1 for value in fractions)
        or abs(sum(fractions) - 1) > TISSUE_TOLERANCE + 1e-9
    ):
        found = ", ".join(f"{name} {row[name][:20] or 'empty'}" for name in TISSUE_COLUMNS)
        raise InputError(f"{where}: {found}; expected three fractions with the sum 1, or none of them")


def _names(row: dict[str, Any]) -> dict[str, str]:
    session = f"ses-{row['session']}" if row["session"] else ""
    subject = f"sub-{row['subject']}"
    label = re.sub("[^A-Za-z0-9]", "", row["sequence"])
    return {
        "folder": "/".join(filter(None, [subject, session])),
        "unit": "_".join(filter(None, [subject, session, f"acq-{label}"])),
    }


@cache
def _columns() -> dict[str, Any]:
    """Return what the schema says of each column."""
    return json.loads(SCHEMA.read_text(encoding="utf-8"))["properties"]


@cache
def _validator(name: str) -> Any:
    import jsonschema

    return jsonschema.Draft202012Validator(_columns()[name])


@cache  # most values stand in thousands of rows
def _fault(name: str, value: str) -> str:
    """Return why a value may not stand in a column; empty if it may."""
    if _validator(name).is_valid(value):
        return ""
    return f"column {name}: found {shown(value)}, expected: {_columns()[name]['description']}"


def _read(path: Path) -> tuple[Sequence[str], list[tuple[int, dict[str, str]]]]:
    """Return the header of a table, and its rows that are not empty with their numbers, the header being row 1."""
    try:
        with open(path, newline="", encoding="utf-8-sig") as stream:
            header, *lines = [*csv.reader(stream, delimiter="\t")] or [[]]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: {error}; expected a tab-separated table in UTF-8; save it as such") from None
    if twice := [name for name in header if header.count(name) > 1]:
        raise InputError(f"{path} row 1: column {shown(twice[0])} stands there twice; keep the one that is meant")
    filled = [(number, line) for number, line in enumerate(lines, start=2) if any(line)]
    for number, line in filled:
        if len(line) != len(header):
            raise InputError(f"{path} row {number}: {len(header)} columns expected; check the tabs")
    return header, [(number, dict(zip(header, line, strict=True))) for number, line in filled]


def _sheet_rows(path: Path) -> list[dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: no such sample sheet or BIDS folder; check `samples` in the config")
    schema, columns = json.loads(SCHEMA.read_text(encoding="utf-8")), _columns()
    header, lines = _read(path)
    unknown = [name for name in header if name not in columns]
    missing = [name for name in schema["required"] if name not in header]
    if unknown or missing:
        problem = f"unknown column {shown(unknown[0])}" if unknown else f"no column {missing[0]!r}"
        raise InputError(f"{path} row 1: {problem}; expected tab-separated columns among {', '.join(columns)}")
    rows = []
    for number, line in lines:
        row = {name: "" if line.get(name) in (None, MISSING) else line[name].strip() for name in columns}
        for name, content in columns.items():
            row[name] = row[name] or content.get("default", "")
        for name in columns:
            if fault := _fault(name, row[name]):
                raise InputError(f"{path} row {number}, {fault}")
        for name in PATH_COLUMNS:
            if row[name]:
                row[name] = os.path.relpath(path.parent / row[name])
                check_path(row[name], f"{path} row {number}, column {name}")
        if row["edit_scheme"] == "mega" and not row["edit_order"]:
            raise InputError(
                f"{path} row {number}: edit_scheme mega needs edit_order; {columns['edit_order']['description']}"
            )
        if bool(row["water"]) != (row["water_role"] in ("ecc", "concentration", "both")):
            raise InputError(
                f"{path} row {number}: water {row['water'] or 'empty'!r} does not go with water_role "
                f"{row['water_role']!r}; {columns['water_role']['description']}"
            )
        _check_tissue(row, f"{path} row {number}")
        rows.append(row | {"where": f"row {number}"})
    return rows


def _bids_rows(folder: Path) -> list[dict[str, Any]]:
    """Make rows from a BIDS folder's `sub-*/[ses-*/]mrs/*_svs.nii.gz`."""
    participants = {}
    table = folder / "participants.tsv"
    if table.is_file():
        header, lines = _read(table)
        if "participant_id" not in header:
            raise InputError(
                f"{table} row 1: no column 'participant_id', expected tab-separated columns, that one first"
            )
        for number, row in lines:
            if participants.setdefault(row["participant_id"], row) is not row:
                raise InputError(
                    f"{table} row {number}: {shown(row['participant_id'])} stands in a row above already; keep the row "
                    "that is meant"
                )
    defaults = {name: content.get("default", "") for name, content in _columns().items()}
    rows = []
    for scan in sorted(folder.glob("sub-*/**/mrs/*_svs.nii*")):
        entities = dict(part.split("-", 1) for part in scan.name.split("_")[:-1] if "-" in part)
        water = scan.with_name(scan.name.replace("_svs.nii", "_mrsref.nii"))
        about = participants.get(f"sub-{entities.get('sub', '')}", {})
        tissue = {name: about.get(name) or "" for name in TISSUE_COLUMNS}
        tissue = {name: "" if value == MISSING else value for name, value in tissue.items()}
        edited = _is_edited(scan)
        row = (
            defaults
            | {
                "subject": entities.get("sub", ""),
                "session": entities.get("ses", ""),
                "site": about.get("site") or "1",
                "vendor": about.get("vendor") or "unknown",
                "split": "" if about.get("split") in (None, MISSING) else about["split"],
                "format": "nifti_mrs",
                "sequence": entities.get("acq", "svs"),
                "edit_scheme": "mega" if edited else "none",
                "edit_order": "from_header" if edited else "",
                "metab": os.path.relpath(scan),
                "water": os.path.relpath(water) if water.exists() else "",
                "water_role": "both" if water.exists() else "none",
            }
            | tissue
        )
        _check_bids(row, scan, table)
        if table.is_file() and f"sub-{row['subject']}" not in participants:
            raise InputError(f"{table}: no row of sub-{row['subject']}, expected one of each subject with MRS; add it")
        rows.append(row | {"where": str(scan.relative_to(folder))})
    if not rows:
        raise InputError(f"{folder}: no sub-*/mrs/*_svs.nii.gz; expected a BIDS folder with MRS, or a sample sheet")
    return rows


def _check_bids(row: dict[str, Any], scan: Path, table: Path) -> None:
    """Check what a scan's name and its participant's row say, like the sample sheet; sites and vendors are words."""
    for name in ("subject", "session", "sequence", "metab", "water"):
        if fault := _fault(name, row[name]):
            raise InputError(f"{shown(str(scan))}, {fault}")
    for name in ("metab", "water"):
        check_path(row[name], f"{shown(str(scan))}, column {name}")
    where = f"{table}, sub-{row['subject']}"
    _check_tissue(row, where)
    for name in ("site", "vendor"):
        if row[name] != MISSING:
            check_words(row[name], f"{where}, column {name}")
    for name in ("split", *TISSUE_COLUMNS):
        if fault := _fault(name, row[name]):
            raise InputError(f"{where}, {fault}")


def _is_edited(scan: Path) -> bool:
    """Tell whether a NIfTI-MRS file has an edit dimension, from the JSON between its header and its data."""
    opener = gzip.open if scan.suffix == ".gz" else open
    try:
        with opener(scan, "rb") as stream:
            return b'"DIM_EDIT"' in stream.read(1 << 16)
    except (OSError, EOFError, zlib.error):  # its conversion will tell
        return False


def main(argv: Sequence[str] | None = None) -> None:
    """Check a sample sheet and write the table of units that the later stages read."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--samples", required=True, help="sample sheet (TSV) or BIDS folder")
    parser.add_argument("--seed", type=int, required=True, help="seed of the split")
    parser.add_argument("--fractions", type=float, nargs=3, default=(0.6, 0.2, 0.2), help="train, validation, test")
    parser.add_argument("--split-unit", choices=("auto", "subject", "transient"), default="auto")
    parser.add_argument("--seen", action="store_true", help="only the units of which a model may see something")
    parser.add_argument("--output", required=True, help="table of units (TSV)")
    arguments = parser.parse_args(argv)
    rows = included(read_samples(arguments.samples))
    assign_splits(rows, arguments.seed, arguments.fractions, arguments.split_unit)
    write_text(arguments.output, unit_table(seen(rows) if arguments.seen else rows))


if __name__ == "__main__":
    run(main)
