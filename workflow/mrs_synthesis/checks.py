"""One table that says of every scan whether its numbers may be believed.

A row per scan and check, with a verdict. `fail`: the scan failed at a stage, or its numbers would be wrong; the study
then ends with an error that names it. `warn`: look at it. Scans of one sequence are compared with each other, so that
the verdicts do not depend on their order.
"""

from __future__ import annotations

import argparse
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mrs_synthesis import checks_average
from mrs_synthesis.stage import run

COLUMNS = {
    "unit": {"Description": "Scan, named as its files"},
    "stage": {"Description": "Stage whose result is checked"},
    "check": {"Description": "What is checked; `stage` where a scan failed at one"},
    "verdict": {
        "Description": "Whether the scan's numbers may be believed, as far as this check tells",
        "Levels": {
            "pass": "Yes",
            "warn": "Look at the scan before believing it",
            "fail": "No; the study ends with an error that names the scan",
        },
    },
    "found": {"Description": "What was found"},
    "expected": {"Description": "What was expected"},
    "units": {"Description": "Units of found and expected; missing where they have none"},
    "remedy": {"Description": "What to do; missing where nothing is to be done"},
}
TE_TOLERANCE_MS = 2.0  # as between data and basis
TR_TOLERANCE = 0.01
LEAST_CONTRAST = -0.3  # as in preprocessing, which refuses what lies above
KEEP_ONE = "give each scan its own file, or all but one a reason in the sheet's column exclude"
OWN_WATER = "give each scan its own reference, or set water_role to none"
MOST_NAMES = 3
SET_APART = "correct it in the sheet, or give the scan another label in the column sequence"


def row(
    unit: str, stage: str, check: str, verdict: str, found: object, expected: str, units: str = "", remedy: str = ""
) -> dict[str, str]:
    """Return a row of the table; numbers with five digits, and no remedy where nothing is wrong."""
    text = f"{found:.5g}" if isinstance(found, float) else str(found)
    remedy = "" if verdict == "pass" else remedy
    return dict(zip(COLUMNS, (unit, stage, check, verdict, text, expected, units, remedy), strict=True))


def failure(status: Mapping[str, Any]) -> dict[str, str]:
    """Return the row of a scan that failed at a stage; its message ends with what to do."""
    reason, _, remedy = status["reason"].rpartition("; ")
    return row(status["unit"], status["stage"], "stage", "fail", reason or remedy, "success", "", remedy)


def majority(values: Iterable[float], tolerance: float) -> tuple[float, int] | None:
    """Return the value that more than half of `values` equal within `tolerance`, and how many do; None if none is."""
    values = sorted(values)
    counts = {value: sum(abs(other - value) <= tolerance for other in values) for value in dict.fromkeys(values)}
    best = max(counts, key=counts.get)
    middle = [value for value in values if abs(value - best) <= tolerance]
    return (middle[len(middle) // 2], counts[best]) if 2 * counts[best] > len(values) else None


def compare_times(units: Mapping[str, Mapping[str, Any]], conversions: Mapping[str, Mapping[str, Any]]) -> list[dict]:
    """Return rows that compare echo and repetition time between scans of one sequence and edit scheme.

    Parameters
    ----------
    units
        Rows of the table of units, by scan.
    conversions
        What conversion recorded of the scans that did not fail, by scan.
    """
    groups = defaultdict(list)
    for unit in conversions:
        groups[units[unit]["sequence"], units[unit]["edit_scheme"]].append(unit)
    rows = []
    for (sequence, scheme), own in groups.items():
        label = sequence if scheme == "none" else f"{sequence} ({scheme})"
        for key, check, bad in (("te_ms", "echo_time", "fail"), ("tr_ms", "repetition_time", "warn")):
            known = {unit: conversions[unit][key] for unit in own if conversions[unit].get(key) is not None}
            common = None
            if known:
                common = majority(
                    known.values(), TE_TOLERANCE_MS if key == "te_ms" else TR_TOLERANCE * max(known.values())
                )
            for unit in own:
                if unit not in known:
                    rows.append(
                        row(unit, "convert", check, "warn", "unknown", "a time", "ms", f"state {key} in the sheet")
                    )
                    continue
                if common is None:
                    expected = f"one time of most of the {len(known)} scans of {label}, which have {_several(known)}"
                    same = False
                else:
                    tolerance = TE_TOLERANCE_MS if key == "te_ms" else TR_TOLERANCE * common[0]
                    expected = f"{common[0]:.5g}, as {common[1]} of {len(known)} scans of {label}"
                    same = abs(known[unit] - common[0]) <= tolerance
                rows.append(
                    row(unit, "convert", check, "pass" if same else bad, float(known[unit]), expected, "ms", SET_APART)
                )
    return rows


def compare_data(units: Mapping[str, Mapping[str, Any]], conversions: Mapping[str, Mapping[str, Any]]) -> list[dict]:
    """Return rows that tell of scans with the same measured data, or with the same water reference.

    Two scans never have the same data: as two subjects, one may train the model that is tested on the other. One
    water reference for several scans of a session is usual. Another session's is of another placement of the voxel
    and of the coils; another subject's is of another head, to whose water concentrations would be scaled, and whose
    eddy currents would be taken off.

    Parameters
    ----------
    units, conversions
        As in `compare_times`.
    """
    rows = []
    for key, check, expected in (
        ("measured_data", "measured_data", "data that no other scan has"),
        ("measured_water", "water_data", "a reference of the scan's own session"),
    ):
        known = {unit: status[key] for unit, status in conversions.items() if status.get(key)}
        groups = defaultdict(list)
        for unit, mark in known.items():
            groups[mark].append(unit)
        for unit, mark in known.items():
            others = [other for other in groups[mark] if other != unit]
            verdict, remedy = "pass" if not others else "fail", KEEP_ONE
            if others and key == "measured_water":
                differ = {column: {units[one][column] for one in (unit, *others)} for column in ("subject", "folder")}
                verdict = "fail" if len(differ["subject"]) > 1 else "warn" if len(differ["folder"]) > 1 else "pass"
                remedy = OWN_WATER
            found = f"the same as {_some(others)}" if others else "of no other scan"
            rows.append(row(unit, "convert", check, verdict, found, expected, "", remedy))
    return rows


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else ""
    return ", ".join(names[:MOST_NAMES]) + more


def _several(known: Mapping[str, float]) -> str:
    return ", ".join(f"{value:.5g}" for value in sorted(set(known.values())))


def conversion_rows(status: Mapping[str, Any]) -> list[dict]:
    """Return the rows on one converted scan alone."""
    unit = status["unit"]
    rows = [
        row(unit, "convert", "frequency", "pass", float(status["spectrometer_frequency_mhz"]), "that of 1H", "MHz"),
    ]
    if status.get("te_in_name_ms") is not None:
        rows.append(
            row(
                unit,
                "convert",
                "echo_time_in_name",
                "warn",
                float(status["te_in_name_ms"]),
                f"{status['te_ms']:.5g}, which is used",
                "ms",
                "make sure that the file's name is wrong, not its header",
            )
        )
    if status.get("water_over_metabolites") is not None:
        rows.append(
            row(unit, "convert", "water_reference", "pass", float(status["water_over_metabolites"]), "at least 50")
        )
    return rows


def preprocessing_rows(status: Mapping[str, Any], limits: Mapping[str, float]) -> list[dict]:
    """Return the rows on what preprocessing recorded of one scan; `limits` as in `check_study`."""
    unit, rows = status["unit"], []
    if status.get("reference_offset_ppm") is not None:
        offset = float(status["reference_offset_ppm"])
        rows.append(row(unit, "preprocess", "offset_corrected", "pass", offset, "at most 0.2 either way", "ppm"))
    if "difference_naa" in status:
        depth, gaba = float(status["difference_naa"]), float(status["difference_gaba"])
        expected = f"below {LEAST_CONTRAST:g} of its height in OFF"
        rows.append(row(unit, "preprocess", "edit_order", "pass", depth, expected))
        verdict, remedy = "pass" if gaba > 0 else "warn", "look for low SNR or a subtraction artefact"
        rows.append(
            row(unit, "preprocess", "edit_sign", verdict, gaba, "above 0 (GABA at 3.0 ppm over tCr)", "", remedy)
        )
    found = {name: math.nan if value is None else value for name, value in status["average"].items()}
    return rows + [row(unit, "preprocess", *one) for one in checks_average.verdicts(found, limits)]


def fit_rows(status: Mapping[str, Any]) -> list[dict]:
    """Return the rows on one scan's fits."""
    unit, stage = status["unit"], status["stage"]
    offset, unlike = status.get("offset_ppm"), status.get("basis_sequence")
    rows = []
    if offset is not None:
        rows.append(row(unit, stage, "offset_from_basis", "pass", float(offset), "at most 0.25 either way", "ppm"))
    rows.append(
        row(
            unit,
            stage,
            "basis_sequence",
            "warn" if unlike else "pass",
            unlike or "no contradiction",
            "a basis for the scan's sequence",
            "",
            "give a basis simulated for the scan's sequence",
        )
    )
    if "fitted" in status:
        failed, loose = status["missing"], status["not_converged"]
        found = f"{failed} failed, {loose} did not converge, of {status['fitted'] + failed}"
        remedy = "see the column note of the scan's table of fits, which lists them"
        rows.append(row(unit, stage, "fits", "warn" if failed or loose else "pass", found, "all converge", "", remedy))
    if status.get("absolute_concentrations") == "water reference cannot be used":
        remedy = "see the log of the fit; convert the reference again, or set water_role to none"
        rows.append(row(unit, stage, "water_reference", "warn", "cannot be used", "one line of water", "", remedy))
    return rows


def check_study(
    units: Mapping[str, Mapping[str, Any]], statuses: Sequence[Mapping[str, Any]], limits: Mapping[str, float]
) -> list[dict]:
    """Return the rows of all scans, in the order of `units`.

    Parameters
    ----------
    units
        Rows of the table of units, by scan.
    statuses
        Of all stages.
    limits
        ``linewidth_ppm`` and ``snr`` of the averaged spectrum.
    """
    rows, converted = [], {}
    for status in statuses:
        if status["status"] == "failed":
            rows.append(failure(status))
        elif status["status"] != "ok":
            continue
        elif status["stage"] == "convert":
            converted[status["unit"]] = status
            rows += conversion_rows(status)
        elif status["stage"] == "preprocess":
            rows += preprocessing_rows(status, limits)
        elif status["stage"] == "quantify":
            rows += fit_rows(status)
    rows += compare_times(units, converted) + compare_data(units, converted)
    place = {unit: number for number, unit in enumerate(units)}
    return sorted(rows, key=lambda one: place[one["unit"]])


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.checks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--records", type=Path, nargs="+", required=True, help="records of all stages' shards")
    parser.add_argument("--linewidth-ppm", type=float, required=True, help="largest width of tCr in the average")
    parser.add_argument("--snr", type=float, required=True, help="smallest height of tCr over the noise's SD there")
    parser.add_argument("--output", type=Path, required=True, help="the table, TSV; its data dictionary goes beside it")
    a = parser.parse_args(argv)
    import pandas as pd

    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table
    from mrs_synthesis.records import read_statuses

    known = read_table(a.units, ("unit", "folder", "subject", "sequence", "edit_scheme")).to_dict("records")
    units = {one["unit"]: one for one in known}
    statuses = [one for one in read_statuses(a.records) if one["unit"] in units]
    limits = {"linewidth_ppm": a.linewidth_ppm, "snr": a.snr}
    rows = check_study(units, statuses, limits)
    table = pd.DataFrame(rows, columns=list(COLUMNS)).replace("", pd.NA)
    about = "One check of one scan, made before its numbers are reported. " + checks_average.SOURCES
    write_described_table(a.output, table, about, COLUMNS)
    counts = table["verdict"].value_counts()
    print(", ".join(f"{verdict}: {counts.get(verdict, 0)}" for verdict in ("pass", "warn", "fail")), flush=True)


if __name__ == "__main__":
    run(main)
