"""A scan that would be silently wrong is refused when it is converted, in these very words; a good one is not."""

import json

import nibabel as nib
import numpy as np
import pytest
from scan_files import DWELL, MHZ, OFF, POINTS, TIMES, edited, fid, unedited, write_nifti

from mrs_synthesis import checks, checks_raw, convert, scans
from mrs_synthesis.stage import InputError


def with_header(**header):
    return lambda folder: {"metab": write_nifti(folder / "x.nii.gz", unedited(), {**TIMES, **header})}


def with_mega(**header):
    def make(folder):
        file = write_nifti(folder / "x.nii.gz", edited(), {**TIMES, **header}, ("OFF", "ON"))
        return {"metab": file, "edit_scheme": "mega"}

    return make


def with_fids(change):
    def make(folder):
        fids = unedited().astype(np.complex64)
        return {"metab": write_nifti(folder / "x.nii.gz", change(fids), TIMES)}

    return make


def with_frequency(mhz):
    def make(folder):
        scans.write_scan(folder / "x.nii.gz", scans.Scan(unedited(), mhz, DWELL, dict(TIMES)))
        return {"metab": folder / "x.nii.gz"}

    return make


def with_water(change=lambda fids: fids, **options):
    def make(folder):
        metab = write_nifti(folder / "x.nii.gz", unedited(), TIMES)
        water = unedited(0.5, 2, **options)
        water = change(water + 5000 / 30 * fid(("water",), width_hz=8))
        write_nifti(folder / "w.nii.gz", water, TIMES)
        return {
            "metab": metab, "water": folder / "w.nii.gz", "water_role": "both", "output_ref": folder / "ref.nii.gz"
        }  # fmt: skip

    return make


def rewritten(data=None, **header):
    """What `write_nifti` would refuse to write."""

    def make(folder):
        image = nib.load(with_header()(folder)["metab"])
        for number, extension in enumerate(image.header.extensions):
            content = json.loads(extension.get_content()) | header
            image.header.extensions[number] = nib.nifti1.Nifti1Extension(44, json.dumps(content).encode())
        stored = np.asanyarray(image.dataobj)
        stored = stored if data is None else data(stored.copy())
        nib.save(nib.Nifti2Image(stored, image.affine, image.header), folder / "y.nii.gz")
        return {"metab": folder / "y.nii.gz"}

    return make


def changed(where, value):
    def change(fids):
        fids[where] = value
        return fids

    return change


def clipped(fids):
    top = 0.5 * np.abs(fids.real).max()
    return np.clip(fids.real, -top, top) + 1j * fids.imag


def swapped(folder):
    file = write_nifti(folder / "x.nii.gz", edited()[::-1], {**TIMES, "EchoTime": 0.068}, ("OFF", "ON"))
    return {"metab": file, "edit_scheme": "mega"}


TE = "state te_ms"
LOCALISED = "expected 1 to 1000 ms of a localised scan; state te_ms"
USUAL = "expected that of 1H (63.9 at 1.5 T, 127.7 at 3 T, 298.0 at 7 T); leave this scan out of the study, or correct SpectrometerFrequency"  # noqa: E501
REFUSED = {
    "TE of 35 s": (
        with_header(EchoTime=35.0),
        f"x.nii.gz: EchoTime 35000 ms in the header, {LOCALISED} (35, if the unit was confused)",
    ),
    "TE of 35,000 ms in the sheet": (
        lambda folder: with_header()(folder) | {"te_ms": 35000.0},
        f"x.nii.gz: EchoTime 35000 ms stated, {LOCALISED} (35, if the unit was confused)",
    ),
    "ms taken for s twice": (
        with_header(EchoTime=0.000068),
        f"x.nii.gz: EchoTime 0.068 ms in the header, {LOCALISED} (68, if the unit was confused)",
    ),
    "no room for editing pulses": (
        with_mega(EchoTime=0.02),
        "x.nii.gz: EchoTime 20 ms in the header, expected 30 to 1000 ms of an edited scan; state te_ms",
    ),
    "no TE": (
        lambda folder: {"metab": write_nifti(folder / "x.nii.gz", unedited(), {"RepetitionTime": 2.0})},
        "x.nii.gz: no EchoTime in the header, needed to check the basis set; state te_ms",
    ),
    "TE is a list": (
        rewritten(EchoTime=[0.035]),
        "y.nii.gz: EchoTime in the header is no number, expected seconds; state te_ms in ms",
    ),
    "TR of 2 ms": (
        with_header(RepetitionTime=0.002),
        "x.nii.gz: RepetitionTime 2 ms in the header, expected 100 to 60000 ms of a localised scan; state tr_ms "
        "(2000, if the unit was confused)",
    ),
    "TR shorter than TE and sampling": (
        with_header(RepetitionTime=0.4),
        "x.nii.gz: RepetitionTime 400 ms, expected at least 547 ms (EchoTime 35 ms and 512 ms of sampling); "
        "state te_ms and tr_ms",
    ),
    "31P by its name": (
        rewritten(ResonantNucleus=["31P"]),
        "y.nii.gz: nucleus 31P, expected 1H; leave this scan out of the study",
    ),
    "31P at 3 T called 1H": (
        with_frequency(49.9),
        f"x.nii.gz: spectrometer frequency 49.90 MHz, that of 31P at 3 T, {USUAL}",
    ),
    "31P at 7 T, near 1H at 3 T": (
        with_frequency(120.3),
        f"x.nii.gz: spectrometer frequency 120.30 MHz, that of 31P at 7 T or 19F at 3 T, {USUAL}",
    ),
    "no nucleus": (with_frequency(109.0), f"x.nii.gz: spectrometer frequency 109.00 MHz, {USUAL}"),
    "NaN": (
        rewritten(changed((0, 0, 0, slice(7, 9), 1), np.nan)),
        "y.nii.gz: 2 points are NaN or infinite, expected numbers; convert it again or exclude it",
    ),
    "zeros": (with_fids(lambda fids: 0 * fids), "x.nii.gz: all data are zero, expected a signal; exclude this scan"),
    "zeros first": (
        with_fids(changed((..., slice(0, 5)), 0)),
        "x.nii.gz: the first 5 points are zero in every transient, expected the signal from the first point on; "
        "export the scan again, without what precedes it",
    ),
    # Lines of 5 Hz: exp(-pi 5 Hz 80 ms) = 0.285 between the middles of the first and the last 32 points
    "cut off": (
        with_fids(lambda fids: fids[..., :192]),
        "x.nii.gz: 29 % of the signal is left after 192 points (96 ms), expected below 10 %; the FID is cut off: "
        "export the whole one, or exclude this scan",
    ),
    "cut off and filled with zeros": (
        with_fids(changed((..., slice(192, None)), 0)),
        "x.nii.gz: 29 % of the signal is left after 192 points (96 ms), expected below 10 %; the FID is cut off: "
        "export the whole one, or exclude this scan",
    ),
    "clipped": (
        with_fids(clipped),
        "x.nii.gz: 4 of 4 FIDs are clipped (up to 21 points have exactly the largest value), expected one or two such "
        "points; the receiver gain was too high: exclude this scan",
    ),
    "clipped water": (
        with_water(clipped),
        "w.nii.gz: 2 of 2 FIDs are clipped (up to 56 points have exactly the largest value), expected one or two such "
        "points; the receiver gain was too high: exclude this scan",
    ),
    "water suppressed": (
        with_water(lambda fids: unedited(0.5, 2)),
        "w.nii.gz: water is 3 times as high as the metabolites in this water reference, expected at least 50 "
        "(hundreds) without water suppression; give another reference, or set water_role to none",
    ),
    "conditions swapped": (
        swapped,
        "x.nii.gz: NAA at 2.0 ppm has 1.2e+04 times the power in ON that it has in OFF (order dimension_off_on), "
        "expected NAA in OFF only; set edit_order to interleaved_on_off",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_scan_that_would_be_silently_wrong_is_refused_in_one_line(tmp_path, case):
    make, text = REFUSED[case]
    with pytest.raises(InputError) as caught:
        convert.convert(format_name="nifti_mrs", output=tmp_path / "o.nii.gz", **make(tmp_path))
    assert str(caught.value) == f"{tmp_path}/{text}"


ACCEPTED = {
    "as it is": (with_header(), ""),
    "shortest STEAM": (with_header(EchoTime=0.002), ""),
    "1.5 T": (with_frequency(63.68), ""),
    "7 T": (with_frequency(297.2), ""),
    "zero-filled": (
        with_fids(lambda fids: np.concatenate([fids, 0 * fids], axis=-1)),
        "1024 of 2048 points cut off, zero at the end of every transient",
    ),
    "one transient ends early": (
        with_fids(changed((0, 2, 0, slice(300, None)), 0)),
        "1 of 4 transients (per condition) are zero or end early and left out",
    ),
    "one transient is zero": (
        with_fids(changed((0, 2), 0)),
        "1 of 4 transients (per condition) are zero or end early and left out",
    ),
    "water": (with_water(), ""),
    "TR unknown": (
        lambda folder: {"metab": write_nifti(folder / "x.nii.gz", unedited(), {"EchoTime": 0.035})},
        "RepetitionTime unknown",
    ),
    "TE replaced": (
        lambda folder: with_header(EchoTime=0.08)(folder) | {"te_ms": 35.0},
        "EchoTime 80 ms in the header replaced by 35 ms",
    ),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_a_good_scan_is_converted_and_what_was_noticed_is_noted(tmp_path, case):
    make, note = ACCEPTED[case]
    record = convert.convert(format_name="nifti_mrs", output=tmp_path / "o.nii.gz", **make(tmp_path))
    assert record["notes"] == note
    assert record["n_points"] == POINTS
    assert scans.read_scan(tmp_path / "o.nii.gz").fids.shape[1] == (3 if "one transient" in case else 4)
    if case == "water":  # 5000 for water at 8 Hz, 10 for NAA at 5 Hz, squared widths as the weight has it
        assert 150 < record["water_over_metabolites"] < 500


@pytest.mark.parametrize(
    ("name", "te"),
    [
        ("S01_GABA_80.dat", 80), ("S01_GABA_68_act.SDAT", 68), ("S01_GABA_68_H2O.dat", 68), ("S01_GABA_68.7", 68),
        ("P1_PRESS_35_act.SPAR", 35), ("meas_te144.rda", 144), ("sLASER-28ms.dat", 28), ("press35.rda", 35),
        ("meas_MID00080_FID12345.dat", None), ("P29184.7", None), ("sub-80_acq-press_svs.nii.gz", None),
        ("GABA_2024_03_01.dat", None), ("press_1.rda", None), ("site_68_press.rda", None),
    ],
)  # fmt: skip
def test_label_in_a_file_name(name, te):
    assert checks_raw.te_in_name(name) == te


def test_the_header_wins_over_a_file_name_that_lies(tmp_path):
    """Big GABA's _80 is TE 68 on Siemens scanners."""
    from mrs_synthesis import vendor_twix

    off, on = edited(4, noise=0.2)
    rows = np.stack([on, off], axis=1).reshape(8, 1, POINTS).astype(np.complex64)
    protocol = vendor_twix.Protocol(sequence=vendor_twix.EDITED, dwell_s=DWELL, frequency_mhz=MHZ, te_s=0.068, tr_s=2.0)
    record = {}
    for name in ("S01_GABA_80.dat", "S01_GABA_68.dat"):
        vendor_twix.write_twix(tmp_path / name, rows, protocol)
        record[name] = convert.convert(
            metab=tmp_path / name, format_name="siemens_twix", output=tmp_path / "u.nii.gz", edit_scheme="mega"
        )
    lies, true = record.values()
    assert lies["te_ms"] == true["te_ms"] == 68
    assert scans.read_scan(tmp_path / "u.nii.gz").header["EchoTime"] == pytest.approx(0.068)
    assert "file name says 80, EchoTime is 68 ms: the name is not used" in lies["notes"]
    assert "file name" not in true["notes"]
    assert [
        (r["check"], r["verdict"], r["found"], r["expected"]) for r in checks.conversion_rows({"unit": "u"} | lies)
    ][1:] == [("echo_time_in_name", "warn", "80", "68, which is used")]
    assert len(checks.conversion_rows({"unit": "u"} | true)) == 1


def test_unclipped_integers_of_few_levels_are_no_clipping():
    rng = np.random.default_rng(8)
    quiet = np.round(0.7 * rng.standard_normal((3, 1024))) + 1j * np.round(0.7 * rng.standard_normal((3, 1024)))
    assert np.count_nonzero(np.abs(quiet[0].real) == np.abs(quiet[0].real).max()) > checks_raw.FEWEST_CLIPPED
    checks_raw.check_clipped(quiet, "x")
    loud = np.round(1000 * fid(OFF)) + quiet[0]
    checks_raw.check_clipped(loud[None], "x")
