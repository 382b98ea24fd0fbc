"""Tables that gather what single subjects left behind: conversion, preprocessing, failures, the phantom's truth."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mrs_synthesis.files import append_table, read_table, write_json, write_table
from mrs_synthesis.records import read_statuses
from mrs_synthesis.stage import InputError, run

if TYPE_CHECKING:
    import pandas as pd

IDENTIFIERS = ("unit", "subject", "session", "site")
CONVERSION_COLUMNS = {
    "status": "ok or failed",
    "reason": "Why the scan could not be converted",
    "format": "Format of the vendor's file",
    "n_transients": "Transients per edit condition",
    "n_conditions": "Edit conditions",
    "n_coils": "Receive coils",
    "n_points": "Complex points of a FID",
    "spectrometer_frequency_mhz": "Spectrometer frequency in MHz",
    "dwell_s": "Time between two points in s",
    "te_ms": "Echo time in ms",
    "tr_ms": "Repetition time in ms",
    "water": "1 if there is a water reference",
    "notes": "What the conversion noticed",
}
PREPROCESSING_COLUMNS = {
    "condition": "Edit condition",
    "transient": "Number of the transient, from 0, as acquired",
    "kept": "1 if the transient was kept",
    "reason": "Why it was not",
    "shift_hz": "Frequency shift applied, in Hz",
    "phase_deg": "Zero-order phase applied, in degrees",
    "noise_sd": "SD of the real part of the noise of a FID point, in the data's units",
    "snr": "Height of the reference peak over the noise SD of the spectrum",
    "fwhm_hz": "Full width of the reference peak at half maximum, in Hz",
    "water_residual": "Largest signal around water over the largest metabolite signal, after removal",
}
FAILURE_COLUMNS = {
    "unit": "Scan",
    "stage": "Stage that failed, or `excluded` by the sample sheet",
    "reason": "Why, and what to do",
}


def conversion(records: Sequence[Path], units: Path, output: Path) -> None:
    """Write the table of conversions, one row per scan, from the records of the convert stage."""
    import pandas as pd

    rows = pd.DataFrame([dict.fromkeys(CONVERSION_COLUMNS) | status for status in read_statuses(records)])
    _write(output, _identify(rows[["unit", *CONVERSION_COLUMNS]], units), CONVERSION_COLUMNS)


def files_of(records: Sequence[Path], study: Path, ending: str) -> list[tuple[str, Path]]:
    """Return scans and their files with this end of the name, of those that did not fail."""
    return [
        (status["unit"], Path(study) / name)
        for status in read_statuses(records)
        for name in status["files"]
        if name.endswith(ending)
    ]


def preprocessing(records: Sequence[Path], study: Path, units: Path, output: Path) -> None:
    """Write the table of transients from the preprocess stage's tables, scan by scan; failed subjects have none."""
    found = files_of(records, study, "_desc-preproc_qc.tsv")
    if not found:
        raise InputError(
            f"{output}: no subject was preprocessed; see the failures in the logs of convert and preprocess"
        )
    known = read_table(units, list(IDENTIFIERS))[list(IDENTIFIERS)].set_index("unit", drop=False)
    with append_table(output) as append:
        for unit, path in found:
            rows = read_table(path, list(PREPROCESSING_COLUMNS))[list(PREPROCESSING_COLUMNS)]
            for place, name in enumerate(IDENTIFIERS):
                rows.insert(place, name, known.loc[unit, name])
            append(rows)
    _describe(output, [*IDENTIFIERS, *PREPROCESSING_COLUMNS], PREPROCESSING_COLUMNS)


def failures(records: Sequence[Path], samples: str, output: Path) -> None:
    """Write the table of failed scans (stage and reason) and of those that the sample sheet excludes."""
    import pandas as pd

    from mrs_synthesis.sheet import read_samples

    rows = [
        {"unit": row["unit"], "stage": "excluded", "reason": row["exclude"]}
        for row in read_samples(samples)
        if row["exclude"]
    ]
    rows += [status for status in read_statuses(records) if status["status"] == "failed"]
    table = pd.DataFrame(rows, columns=list(FAILURE_COLUMNS))
    _write(output, table, FAILURE_COLUMNS)


def complete(inputs: Sequence[Path], output: Path) -> None:
    """Write a record that the study is complete.

    Parameters
    ----------
    inputs
        The table of failures and, if it was made, that of checks.

    Raises
    ------
    InputError
        If a subject failed, or a check of it; excluded ones are no failure.
    """
    table = read_table(inputs[0], list(FAILURE_COLUMNS))
    failed = table[table["stage"] != "excluded"]
    for row in failed.itertuples():
        print(f"failed: {row.unit}: {row.stage}: {row.reason}", flush=True)
    problems = [f"{failed['unit'].nunique()} scan(s) failed (above, and in {inputs[0]})"] if len(failed) else []
    doubtful = _doubtful(inputs[1], set(failed["unit"])) if len(inputs) > 1 else []
    if doubtful:
        problems.append(f"{len(doubtful)} scan(s) failed a check (above, and in {inputs[1]}): {', '.join(doubtful)}")
    if problems:
        raise InputError(
            f"{'; '.join(problems)}; all else is done and in the report. Correct the files, or give a reason in the "
            "sample sheet's column `exclude`, and run again"
        )
    write_json(output, {"complete": True, "excluded": len(table)})


def _doubtful(path: Path, failed: set[str]) -> list[str]:
    """Say which checks failed of scans that did not fail at a stage; return these scans."""
    checks = read_table(path, ["unit", "check", "verdict", "found", "expected", "remedy"])
    checks = checks[(checks["verdict"] == "fail") & ~checks["unit"].isin(failed)]
    for row in checks.itertuples():
        print(f"failed: {row.unit}: {row.check}: {row.found}, expected {row.expected}; {row.remedy}", flush=True)
    return list(dict.fromkeys(checks["unit"]))


def truth(records: Sequence[Path], study: Path, output: Path) -> None:
    """Write the phantom's true concentrations of all subjects as one table."""
    import pandas as pd

    write_table(output, pd.concat([read_table(path) for _, path in files_of(records, study, "_truth.tsv")]))


def _identify(rows: pd.DataFrame, units: Path) -> pd.DataFrame:
    """Put subject, session and site before the other columns."""
    known = read_table(units, list(IDENTIFIERS))[list(IDENTIFIERS)]
    return known.merge(rows, on="unit", how="right", validate="one_to_many")


def _write(output: Path, table: pd.DataFrame, columns: dict[str, str]) -> None:
    import pandas as pd

    write_table(output, table.replace("", pd.NA))
    _describe(output, table.columns, columns)


def _describe(output: Path, names: Iterable[str], columns: dict[str, str]) -> None:
    descriptions = {name: {"Description": columns.get(name, f"The scan's {name}")} for name in names}
    write_json(output.with_suffix(".json"), descriptions)


def main(argv: Sequence[str] | None = None) -> None:
    """Gather the records of single subjects into one table."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("what", choices=("conversion", "preprocessing", "failures", "complete", "truth", "config"))
    parser.add_argument("--inputs", type=Path, nargs="*", default=[], help="table of failures (complete)")
    parser.add_argument("--records", type=Path, nargs="*", default=[], help="records of shards")
    parser.add_argument("--study", type=Path, help="folder of the study's results (preprocessing, truth)")
    parser.add_argument("--units", type=Path, help="table of units (conversion, preprocessing)")
    parser.add_argument("--samples", help="sample sheet or BIDS folder (failures)")
    parser.add_argument("--json", help="content of the record (config)")
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args(argv)
    actions: dict[str, Callable[[], None]] = {
        "conversion": lambda: conversion(a.records, a.units, a.output),
        "preprocessing": lambda: preprocessing(a.records, a.study, a.units, a.output),
        "failures": lambda: failures(a.records, a.samples, a.output),
        "complete": lambda: complete(a.inputs, a.output),
        "truth": lambda: truth(a.records, a.study, a.output),
        "config": lambda: write_json(a.output, json.loads(a.json)),
    }
    actions[a.what]()


if __name__ == "__main__":
    run(main)
