"""What would be fitted and be silently wrong is refused, or named in the table of checks, in these very words."""

import json
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from analytic_basis import analytic_basis
from analytic_basis import edited as edited_basis
from scan_files import DWELL, MHZ, POINTS, TIMES, fid, unedited, write_nifti

from mrs_synthesis import (
    checks,
    checks_average,
    collect,
    convert,
    fslmrs,
    preprocess,
    report_data,
    report_words,
    sequences,
)
from mrs_synthesis.basis import check_against_data, check_peaks, difference, write_set
from mrs_synthesis.files import read_table, write_json, write_text
from mrs_synthesis.stage import InputError

LIMITS = {"linewidth_ppm": 0.1, "snr": 10}


def preprocessed(folder, fids, *more, conditions=("UNEDITED",)):
    """Preprocess FIDs; return the status."""
    metab, prefix = folder / "x.nii.gz", folder / "u_desc-preproc"
    write_nifti(metab, fids, dict(TIMES), conditions)
    words = (
        f"--unit u --scan {metab} --output {prefix}_svs.nii.gz --qc {prefix}_qc.tsv --nuisance {prefix}_nuisance.npz"
    )
    preprocess.main([*words.split(), "--status", str(folder / "s.json"), *more])
    return json.loads((folder / "s.json").read_text())


@pytest.mark.parametrize("offset", [-0.169, 0.169, 0.05])
def test_an_offset_is_corrected(tmp_path, offset):
    status = preprocessed(tmp_path, unedited(shift_hz=offset * MHZ))
    assert status["reference_offset_ppm"] == pytest.approx(offset, abs=0.003)
    found = status["average"]
    places = {"NAA": 2.008, "tCr": 3.027, "tCho": 3.208}
    assert {name: found[name] for name in places} == pytest.approx(places, abs=0.01)
    assert {row[1] for row in checks_average.verdicts(found, LIMITS)} == {"pass"}


def test_a_larger_offset_is_refused(tmp_path):
    status = preprocessed(tmp_path, unedited(shift_hz=0.3 * MHZ))
    assert status["reason"] == (
        f"{tmp_path}/x.nii.gz: reference: NAA, tCr and tCho lie +0.30 ppm from their places, expected at most 0.2 ppm; "
        "check the spectrometer frequency and that this is a brain spectrum"
    )


def test_quality_of_the_average_by_known_numbers():
    """tCr of height 8 / (pi 5 Hz) without noise beside it, plus noise of SD 0.05 a point."""
    rng = np.random.default_rng(3)
    fids = fid(("NAA", "Cr", "Cho")) + 0.05 * (rng.standard_normal(POINTS) + 1j * rng.standard_normal(POINTS))
    found = checks_average.measure(fids, fid(("water",), width_hz=8), DWELL, MHZ)
    assert found["linewidth_ppm"] == pytest.approx(5 / MHZ, rel=0.03)
    height = 8 / (np.pi * 5 * DWELL)
    assert found["snr"] == pytest.approx(height / (0.05 * np.sqrt(POINTS)), rel=0.1)
    assert found["water"] == pytest.approx(4.65, abs=0.005)


def test_limits_warn_and_misplaced_lines_are_told():
    found = {
        "pattern_ppm": 0.0,
        "NAA": 2.008,
        "tCr": 3.027,
        "tCho": 3.21,
        "water": 4.65,
        "linewidth_ppm": 0.06,
        "snr": 50,
    }

    def wrong(**changes):
        rows = checks_average.verdicts(found | changes, LIMITS)
        return {row[0]: row[1] for row in rows if row[1] != "pass"}

    assert wrong() == {}
    assert wrong(linewidth_ppm=0.11) == {"linewidth": "warn"}
    assert wrong(snr=9.0) == wrong(snr=np.nan) == {"snr": "warn"}
    assert wrong(pattern_ppm=0.05, NAA=2.05) == {"reference": "warn", "position_NAA": "warn"}
    assert wrong(pattern_ppm=-0.18) == {"reference": "fail"}  # tCho taken for tCr
    assert wrong(water=np.nan) == {"position_water": "warn"}


def test_a_scan_beyond_a_limit_fails_if_the_config_says_exclude(tmp_path):
    wide = unedited(width_hz=16)
    status = preprocessed(tmp_path, wide, "--largest-linewidth-ppm", "0.2", "--least-snr", "10")
    assert status["status"] == "ok"
    status = preprocessed(tmp_path, wide, "--largest-linewidth-ppm", "0.1", "--least-snr", "10")
    width = checks_average.measure(wide[0].mean(axis=(0, 1)), wide[0].mean(axis=(0, 1)), DWELL, MHZ)
    assert width["linewidth_ppm"] == pytest.approx(16 / MHZ, rel=0.1)
    remedy = "look at the spectrum; give a reason in the sheet's column exclude, or change the limit in the config"
    assert status["reason"].startswith(f"{tmp_path}/x.nii.gz: linewidth of the average: 0.1")
    assert status["reason"].endswith(f" ppm, expected at most 0.1; {remedy}")
    status = preprocessed(tmp_path, wide, "--least-snr", "1e6")
    assert "snr of the average: " in status["reason"] and f", expected at least 1e+06; {remedy}" in status["reason"]


RASTER = {"n_points": 2048, "dwell_s": 5e-4, "frequency_mhz": 127.7}
WRONG_BASIS = {
    "TE": (
        lambda: check_against_data(replace(analytic_basis(), te_ms=35.0), "OFF", **RASTER, te_ms_data=68.0),
        "basis OFF for TE 35 ms, data with TE 68 ms; give a basis simulated for this echo time",
    ),
    "field": (
        lambda: check_against_data(analytic_basis(mhz=63.9), "OFF", **RASTER),
        "basis OFF at 63.90 MHz, data at 127.70 MHz: more than 5 % apart; give a basis simulated for this field "
        "strength",
    ),
    "sign of the difference": (
        lambda: check_peaks(difference(*edited_basis()), "DIFF"),
        "basis DIFF: NAA is positive at 2.0 ppm; expected the opposite (DIFF is ON - OFF); exchange the inputs or "
        "change the basis' sign",
    ),
    "edited basis": (
        lambda: sequences.check("press", "mega-press", edited=False, name="basis UNEDITED"),
        "basis UNEDITED: simulated for mega-press, which edits; the scan (press) is not edited, expected a basis for "
        "it; give one, or correct edit_scheme in the sample sheet",
    ),
    "STEAM": (
        lambda: sequences.check("svs_st", "press", edited=False, name="basis UNEDITED"),
        "basis UNEDITED: simulated for press (PRESS), the scan is svs_st (STEAM), expected the same echoes, which "
        "STEAM differs in; give a basis for the scan's sequence, or correct the sheet's column sequence",
    ),
}


@pytest.mark.parametrize("case", WRONG_BASIS)
def test_a_basis_for_other_data_is_refused(case):
    do, text = WRONG_BASIS[case]
    with pytest.raises(InputError) as caught:
        do()
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("data", "basis", "edited", "warning"),
    [
        ("megapress", "mega-press", True, ""),
        ("megapress", "press", True, ""),  # its OFF is one
        ("PRESS35", "press", False, ""),
        ("svs", "press", False, ""),
        ("svs_se", None, False, ""),
        ("slaser", "press", False, "simulated for press (PRESS), the scan is slaser (sLASER)"),
        ("steam", "STEAM", False, ""),
    ],
)
def test_sequences_that_may_go_together(data, basis, edited, warning):
    assert sequences.check(data, basis, edited=edited, name="x") == warning


def test_quantification_refuses_a_basis_of_another_sequence(tmp_path):
    """By the label of the sheet, and where that says nothing by the header."""
    from mrs_synthesis import quantify

    write_set(tmp_path / "set", {"UNEDITED": analytic_basis(mhz=MHZ)}, {}, sequence="press")
    rng = np.random.default_rng(5)
    cells = analytic_basis(mhz=MHZ).fids.sum(axis=0)[None, None, None]
    cells = cells + 0.1 * (rng.standard_normal(cells.shape) + 1j * rng.standard_normal(cells.shape))
    for header, label in (({"SequenceName": "svs_st"}, "svs"), ({}, "steam")):
        write_nifti(tmp_path / "cells.nii.gz", cells, TIMES | header)
        words = f"--unit u --cells {tmp_path}/cells.nii.gz --basis {tmp_path}/set --conditions UNEDITED"
        words += f" --output {tmp_path}/fit.tsv --status {tmp_path}/s.json --sequence {label}"
        quantify.main(words.split())
        status = json.loads((tmp_path / "s.json").read_text())
        assert status["status"] == "failed"
        assert status["reason"].startswith("basis UNEDITED: simulated for press (PRESS), the scan is s")


@pytest.mark.parametrize(
    ("missing", "not_converged", "verdict"), [(0, 0, "pass"), (0, 1, "warn"), (2, 0, "warn"), (3, 2, "warn")]
)
def test_fits_that_failed_or_did_not_converge_are_told(missing, not_converged, verdict):
    """Fits may fail one by one and leave the stage's status good: their ratios are missing in every table."""
    status = {"unit": "u", "stage": "quantify", "fitted": 58, "missing": missing, "not_converged": not_converged}
    (found,) = (one for one in checks.fit_rows(status) if one["check"] == "fits")
    assert (found["verdict"], found["expected"]) == (verdict, "all converge")
    assert found["found"] == f"{missing} failed, {not_converged} did not converge, of {58 + missing}"
    assert found["remedy"] == (
        "see the column note of the scan's table of fits, which lists them" if missing + not_converged else ""
    )


def converted(unit, te=68.0, tr=2000.0):
    return {"unit": unit, "te_ms": te, "tr_ms": tr}


def compare(times, labels=None):
    """Return {scan: (verdict of TE, verdict of TR)} and the rows."""
    labels = labels or {}
    units = {u: {"sequence": labels.get(u, "megapress"), "edit_scheme": "mega"} for u in times}
    rows = checks.compare_times(units, {u: converted(u, *pair) for u, pair in times.items()})
    found = {(row["unit"], row["check"]): row["verdict"] for row in rows}
    return {u: (found[u, "echo_time"], found[u, "repetition_time"]) for u in times}, rows


def test_the_odd_scan_of_a_study_is_named_in_whatever_order():
    times = {"a": (68.0, 2000.0), "b": (80.0, 2000.0), "c": (68.0, 2000.0), "d": (68.5, 3000.0)}
    for order in (list(times), list(times)[::-1], ["b", "d", "a", "c"]):
        verdicts, rows = compare({u: times[u] for u in order})
        assert verdicts == {"a": ("pass", "pass"), "b": ("fail", "pass"), "c": ("pass", "pass"), "d": ("pass", "warn")}
    odd = next(row for row in rows if row["verdict"] == "fail")
    assert (odd["unit"], odd["check"], odd["found"], odd["units"]) == ("b", "echo_time", "80", "ms")
    assert odd["expected"] == "68, as 3 of 4 scans of megapress (mega)"
    assert odd["remedy"] == "correct it in the sheet, or give the scan another label in the column sequence"


KEEP = "give each scan its own file, or all but one a reason in the sheet's column exclude"
OWN = "give each scan its own reference, or set water_role to none"
NO_OTHER, SESSION = "data that no other scan has", "a reference of the scan's own session"


def alone(unit):
    return unit, "measured_data", "pass", "of no other scan", NO_OTHER, ""


def copied(unit, others):
    return unit, "measured_data", "fail", f"the same as {others}", NO_OTHER, KEEP


def water_as(unit, other, verdict):
    found = f"the same as {other}" if other else "of no other scan"
    return unit, "water_data", verdict, found, SESSION, "" if verdict == "pass" else OWN


A, B, C, D = "sub-1_acq-a", "sub-2_acq-a", "sub-1_ses-2_acq-a", "sub-1_acq-b"
SIX = [f"sub-{number}_acq-a" for number in range(6)]
SAME_DATA = {  # each scan's data and water reference
    "each its own": (
        {A: ("m1", "w1"), B: ("m2", "w2")},
        [alone(A), alone(B), water_as(A, "", "pass"), water_as(B, "", "pass")],
    ),
    "two subjects": ({A: ("m1", None), B: ("m1", None), C: ("m3", None)}, [copied(A, B), copied(B, A), alone(C)]),
    "two sessions": ({A: ("m1", None), C: ("m1", None)}, [copied(A, C), copied(C, A)]),
    "two sequences": ({A: ("m1", None), D: ("m1", None)}, [copied(A, D), copied(D, A)]),
    "many subjects": (
        dict.fromkeys(SIX, ("m1", None)),
        [copied(one, ", ".join([other for other in SIX if other != one][:3]) + " and 2 more") for one in SIX],
    ),
    "water of one session": (
        {A: ("m1", "w1"), D: ("m2", "w1")},
        [alone(A), alone(D), water_as(A, D, "pass"), water_as(D, A, "pass")],
    ),
    "water of two sessions": (
        {A: ("m1", "w1"), C: ("m2", "w1")},
        [alone(A), alone(C), water_as(A, C, "warn"), water_as(C, A, "warn")],
    ),
    "water of two subjects": (
        {A: ("m1", "w1"), B: ("m2", "w1")},
        [alone(A), alone(B), water_as(A, B, "fail"), water_as(B, A, "fail")],
    ),
}


@pytest.mark.parametrize("case", SAME_DATA)
def test_the_same_data_in_two_rows_of_the_sheet(case):
    scans_of, wanted = SAME_DATA[case]
    units = {u: {"subject": u.split("_")[0], "folder": u.rpartition("_acq")[0].replace("_", "/")} for u in scans_of}
    told = {u: {"unit": u, "measured_data": metab, "measured_water": w} for u, (metab, w) in scans_of.items()}
    rows = checks.compare_data(units, told)
    keys = ("unit", "check", "verdict", "found", "expected", "remedy")
    assert [tuple(one[key] for key in keys) for one in rows] == wanted
    assert {one["stage"] for one in rows} == {"convert"}


def test_the_same_measurement_is_known_in_another_file(tmp_path):
    """With another header, or with its transients in another order, but not with another's noise."""
    first = unedited()
    other = unedited(noise=0.6)
    known = []
    for number, (fids, header) in enumerate(
        [(first, {}), (first, {"SequenceName": "x"}), (first[:, ::-1], {"EchoTime": 0.03}), (other, {})]
    ):
        file = write_nifti(tmp_path / f"{number}.nii.gz", fids, {**TIMES, **header})
        known.append(convert.convert(format_name="nifti_mrs", metab=file, output=tmp_path / "o.nii.gz"))
    marks = [status["measured_data"] for status in known]
    assert marks[0] == marks[1] == marks[2] != marks[3]
    assert len(marks[0]) == 64 and known[0]["measured_water"] is None


def test_a_study_with_a_copied_scan_does_not_pass(tmp_path, capsys):
    """Through the stages' own command lines: two subjects of different splits, one file under two names."""
    told = []
    for number, name in enumerate(("sub-1_acq-a", "sub-2_acq-a")):
        file = write_nifti(tmp_path / f"{number}.nii.gz", unedited(), TIMES)
        words = f"--unit {name} --format nifti_mrs --metab {file} --output {tmp_path}/{name}.nii.gz"
        convert.main([*words.split(), "--status", str(tmp_path / "status.json")])
        told.append(json.loads((tmp_path / "status.json").read_text()))
    write_json(tmp_path / "records.json", {"units": told})
    header = "unit\tfolder\tsubject\tsequence\tedit_scheme\n"
    rows = [f"sub-{n}_acq-a\tsub-{n}\t{n}\ta\tnone\n" for n in (1, 2)]
    write_text(tmp_path / "units.tsv", header + "".join(rows))
    words = f"--units {tmp_path}/units.tsv --records {tmp_path}/records.json --linewidth-ppm 0.1 --snr 10"
    checks.main([*words.split(), "--output", str(tmp_path / "checks.tsv")])
    write_text(tmp_path / "failures.tsv", "unit\tstage\treason\n")
    with pytest.raises(InputError, match=r"2 scan\(s\) failed a check .*: sub-1_acq-a, sub-2_acq-a;"):
        collect.complete([tmp_path / "failures.tsv", tmp_path / "checks.tsv"], tmp_path / "complete.json")
    assert (
        f"failed: sub-1_acq-a: measured_data: the same as sub-2_acq-a, expected {NO_OTHER}; {KEEP}\n"
        in capsys.readouterr().out
    )


def test_without_a_majority_no_scan_is_taken_for_right():
    verdicts, rows = compare({"a": (68.0, 2000.0), "b": (80.0, 2000.0)})
    assert verdicts == {"a": ("fail", "pass"), "b": ("fail", "pass")}
    assert rows[0]["expected"] == "one time of most of the 2 scans of megapress (mega), which have 68, 80"
    labelled = compare({"a": (68.0, 2000.0), "b": (80.0, 2000.0)}, {"b": "megapress80"})[0]
    assert labelled == {"a": ("pass", "pass"), "b": ("pass", "pass")}
    assert compare({"a": (68.0, None), "b": (68.0, 2000.0)})[0] == {"a": ("pass", "warn"), "b": ("pass", "pass")}


def test_the_table_answers_for_every_scan_and_ends_the_study(tmp_path, capsys):
    units = ["a", "b", "c", "d"]
    lines = ["unit\tfolder\tsubject\tsequence\tedit_scheme"]
    statuses = []
    for number, unit in enumerate(units):
        lines.append(f"{unit}\tsub-{unit}\t{unit}\tpress\tnone")
        folder = tmp_path / "derivatives" / f"sub-{unit}" / "mrs"
        folder.mkdir(parents=True)
        if unit == "d":
            reason = "d: 2 points are NaN or infinite, expected numbers; convert it again or exclude it"
            statuses.append({"unit": unit, "stage": "convert", "status": "failed", "reason": reason})
            statuses.append({"unit": unit, "stage": "preprocess", "status": "skipped", "reason": "x is empty"})
            continue
        width = 16 if unit == "c" else 5
        status = preprocessed(folder, unedited(width_hz=width))
        te = 30.0 if number == 1 else 35.0
        facts = {"spectrometer_frequency_mhz": MHZ, "water_over_metabolites": 300.0}
        statuses += [converted(unit, te) | facts | {"stage": "convert", "status": "ok"}, status | {"unit": unit}]
    write_text(tmp_path / "units.tsv", "\n".join(lines) + "\n")
    write_json(tmp_path / "r-0001.json", {"units": statuses})
    words = f"--units {tmp_path}/units.tsv --records {tmp_path}/r-0001.json"
    checks.main(f"{words} --linewidth-ppm 0.1 --snr 10 --output {tmp_path}/checks.tsv".split())
    table = read_table(tmp_path / "checks.tsv")
    wrong = table[table["verdict"] != "pass"]
    assert list(zip(wrong["unit"], wrong["stage"], wrong["check"], wrong["verdict"], strict=True)) == [
        ("b", "convert", "echo_time", "fail"),
        ("c", "preprocess", "linewidth", "warn"),
        ("d", "convert", "stage", "fail"),
    ]
    assert wrong["found"].tolist()[2] == "d: 2 points are NaN or infinite, expected numbers"
    assert wrong["remedy"].tolist()[2] == "convert it again or exclude it"
    assert len(table[table["unit"] == "a"]) == 12
    dictionary = json.loads((tmp_path / "checks.json").read_text())
    assert set(table.columns) <= set(dictionary)
    assert "NMR Biomed 2021;34:e4236" in dictionary["TableDescription"]

    write_text(tmp_path / "failures.tsv", "unit\tstage\treason\nd\tconvert\tNaN; exclude it\n")
    with pytest.raises(InputError, match=r"1 scan\(s\) failed \(above.*; 1 scan\(s\) failed a check .*: b; all else"):
        collect.complete([tmp_path / "failures.tsv", tmp_path / "checks.tsv"], tmp_path / "complete.json")
    said = capsys.readouterr().out
    assert "failed: b: echo_time: 30, expected 35, as 2 of 3 scans of press; correct it in the sheet" in said
    assert not (tmp_path / "complete.json").exists()
    write_text(tmp_path / "failures.tsv", "unit\tstage\treason\n")
    good = table[table["unit"].isin(["a", "c"])]
    good.to_csv(tmp_path / "checks.tsv", sep="\t", index=False, na_rep="n/a")
    collect.complete([tmp_path / "failures.tsv", tmp_path / "checks.tsv"], tmp_path / "complete.json")
    assert (tmp_path / "complete.json").exists()


def test_a_frequency_that_is_4_percent_wrong_shows_in_the_places_of_the_lines():
    """123.25 MHz data whose header says 127.7: NAA comes out 0.035 ppm off once tCr is put in place."""
    shift = (3.027 - 4.65) * (127.7 - MHZ)
    found = checks_average.measure(fid(("NAA", "Cr", "Cho"), shift_hz=shift), fid(("water",)), DWELL, 127.7)
    rows = {row[0]: row[1] for row in checks_average.verdicts(found | {"snr": 100.0}, LIMITS)}
    assert rows["position_tCr"] == "pass" and rows["position_NAA"] == "warn"
    assert found["NAA"] == pytest.approx(3.027 - (3.027 - 2.008) * MHZ / 127.7, abs=0.003)


@pytest.mark.fsl_mrs
@pytest.mark.parametrize("offset", [-0.169, 0.169])
def test_the_engine_of_fsl_mrs_is_not_misled_by_an_offset(tmp_path, root, offset):
    """FSL-MRS alone searches tCr in 2.9-3.1 ppm, which holds tCho, or nothing, that far off."""
    if fslmrs.find_interpreter() is None:
        pytest.skip("needs `fsl_mrs` on PATH")
    prefix = tmp_path / "u_desc-preproc"
    write_nifti(tmp_path / "x.nii.gz", unedited(shift_hz=offset * MHZ), dict(TIMES))
    words = f"--unit u --scan {tmp_path}/x.nii.gz --output {prefix}_svs.nii.gz --qc {prefix}_qc.tsv"
    words += f" --nuisance {prefix}_nuisance.npz --status {tmp_path}/s.json --engine fsl-mrs"
    environment = dict(os.environ, PYTHONPATH=str(root / "workflow"), OMP_NUM_THREADS="1")
    subprocess.run([sys.executable, "-m", "mrs_synthesis.preprocess", *words.split()], check=True, env=environment)
    found = json.loads((tmp_path / "s.json").read_text())["average"]
    assert found["NAA"] == pytest.approx(2.008, abs=0.02)
    assert {row[1] for row in checks_average.verdicts(found, LIMITS)} == {"pass"}


def test_the_page_says_how_many_scans_have_a_verdict_that_is_not_pass():
    study = report_data.Study.__new__(report_data.Study)
    units = pd.DataFrame(
        {"unit": list("abcdefghijkl"), "subject": list("abcdefghijkl"), "split": "test", "failed": False}
    )
    table = pd.DataFrame({"unit": ["a", "a", "b", "c"], "verdict": ["fail", "warn", "warn", "pass"]})
    study.units, study.tables, study.config, study.grid, study.summary = units, {"checks": table}, {}, {}, {}
    found = {one["title"]: one["text"] for one in report_words.notices(study)}
    assert found["Checks with verdict fail."].startswith("1 of 3 scans: ")
    assert found["Checks with verdict warn."].startswith("2 of 3 scans: ")
    study.tables = {"checks": table[table["verdict"] == "pass"]}
    assert not [one for one in report_words.notices(study) if "verdict" in one["title"]]
