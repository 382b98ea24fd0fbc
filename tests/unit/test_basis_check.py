"""Reading a basis' ppm axis from its lines, and what does not fit the data, against positions from the literature."""

from dataclasses import replace

import numpy as np
import pytest
from analytic_basis import LINES, MHZ, analytic_basis, edited, highest_ppm

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import basis_check, spectra
from mrs_synthesis.stage import InputError

RASTER = {"n_points": 2048, "dwell_s": 5e-4, "frequency_mhz": MHZ}


def test_check_finds_a_wrong_sign_of_the_imaginary_part():
    basis = analytic_basis()
    found = basis_sets.check_peaks(basis, "UNEDITED")
    assert found["NAA_ppm"] == pytest.approx(2.008, abs=0.005) and found["Cr_ppm"] == pytest.approx(3.027, abs=0.005)
    mirrored = replace(basis, fids=np.conj(basis.fids))
    with pytest.raises(InputError, match=r"NAA at 7\.29"):
        basis_sets.check_peaks(mirrored, "UNEDITED")
    oriented, facts = basis_sets.orient(mirrored, "UNEDITED")
    assert facts["conjugated"] and np.allclose(oriented.fids, basis.fids)


@pytest.mark.parametrize("carrier", [4.65, 4.68, 4.7, 3.0, 2.5])
@pytest.mark.parametrize("conjugated", [False, True])
@pytest.mark.parametrize("condition", ["OFF", "ON", "DIFF"])
def test_carrier_and_sign_are_found(carrier, conjugated, condition):
    off, on = edited(carrier_ppm=carrier)
    basis = {"OFF": off, "ON": on, "DIFF": basis_sets.difference(on, off)}[condition]
    if conjugated:
        basis = replace(basis, fids=np.conj(basis.fids))
    oriented, facts = basis_sets.orient(basis, condition)
    assert facts["conjugated"] == conjugated and facts["carrier_ppm"] == pytest.approx(carrier, abs=0.011)
    name, ppm = ("Cr", 3.027) if condition == "ON" else ("NAA", 2.008)
    assert highest_ppm(oriented, name) == pytest.approx(ppm, abs=0.012)


def test_a_basis_in_place_is_left_alone():
    basis = analytic_basis()
    assert np.array_equal(basis_sets.orient(basis, "OFF")[0].fids, basis.fids)


@pytest.mark.parametrize(
    ("condition", "factor"),
    [("OFF", 0.5), ("OFF", 0.9), ("OFF", 1.07), ("OFF", 2.3), ("DIFF", 0.9), ("DIFF", 1.07)],
)
def test_a_wrong_frequency_is_told_from_the_distances_of_lines(condition, factor):
    off, on = edited()
    basis = off if condition == "OFF" else basis_sets.difference(on, off)
    with pytest.raises(InputError, match=f"{MHZ * factor:.1f} MHz") as error:
        basis_sets.orient(replace(basis, frequency_mhz=MHZ * factor), condition)
    assert "\n" not in str(error.value) and "frequency or dwell time" in str(error.value)


def test_field_from_the_distances_of_lines():
    mhz, error = basis_check.field_mhz(analytic_basis(), "OFF")
    assert mhz == pytest.approx(MHZ, rel=0.005) and error < 0.02 * MHZ
    assert basis_check.field_mhz(analytic_basis().select(["NAA", "Ins"]), "OFF") is None


def test_lines_that_make_no_sense_are_an_error():
    lines = dict(LINES, NAA=[(3.3, 3)], PCh=[(1.1, 9)])
    with pytest.raises(InputError, match="NAA"):
        basis_sets.orient(analytic_basis(lines), "OFF")


def test_a_reference_signal_in_every_spectrum_is_not_taken_for_a_line():
    lines = {name: [*line, (0.0, 20)] for name, line in LINES.items()}
    basis = analytic_basis(lines, carrier_ppm=4.68)
    assert basis_check.find_axis(basis, "OFF") == basis_check.Axis(False, 4.68)


def test_gaba_must_be_positive_in_the_difference():
    off, on = edited()
    difference = basis_sets.difference(on, off)
    wrong = difference.fids.copy()
    wrong[difference.names.index("GABA")] *= -1
    with pytest.raises(InputError, match=r"GABA is not positive at 3\.0 ppm"):
        basis_sets.check_peaks(replace(difference, fids=wrong), "DIFF")


def test_fitting_data_pass():
    off, on = edited()
    basis_sets.check_against_data(off, "OFF", **RASTER, te_ms_data=68, te_ms_basis=69.9)
    basis_sets.check_against_data(basis_sets.difference(on, off), "DIFF", **RASTER)
    # 3 T scanners of two vendors: chemical shifts decide, not Hz
    basis_sets.check_against_data(off, "OFF", **(RASTER | {"frequency_mhz": 123.25, "n_points": 1900}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"frequency_mhz": 297.2}, r"127\.70 MHz, data at 297\.20 MHz: more than 5 %"),
        ({"frequency_mhz": MHZ / 1.06}, "more than 5 %"),
        ({"te_ms_data": 30.0, "te_ms_basis": 68.0}, "TE 68 ms, data with TE 30 ms"),
        ({"te_ms_data": 68.0, "te_ms_basis": 65.9}, r"TE 65\.9 ms"),
        ({"n_points": 4096}, r"lasts 1\.024 s, the data 2\.048 s"),
        ({"dwell_s": 1e-3, "n_points": 1024}, "data OFF: bandwidth 1000 Hz .* needs 1137 Hz"),
        ({"wanted": ("GABA+", "tCr", "GSH")}, "no GSH among Cr, GABA, Glu"),
    ],
)
def test_what_does_not_fit_the_data_is_one_line(change, message):
    with pytest.raises(InputError, match=message) as error:
        basis_sets.check_against_data(analytic_basis(), "OFF", **(RASTER | change))
    assert "\n" not in str(error.value)


def test_echo_time_that_the_basis_states_is_compared():
    with pytest.raises(InputError, match="TE 35 ms, data with TE 68 ms"):
        basis_sets.check_against_data(replace(analytic_basis(), te_ms=35.0), "OFF", **RASTER, te_ms_data=68.0)
    basis_sets.check_against_data(analytic_basis(), "OFF", **RASTER, te_ms_data=68.0)


def test_a_basis_narrower_than_the_fit_range():
    basis = analytic_basis(n_points=1024, dwell_s=1e-3)
    with pytest.raises(InputError, match="basis OFF: bandwidth 1000 Hz"):
        basis_sets.check_against_data(basis, "OFF", **(RASTER | {"n_points": 1900}))
    basis_sets.check_against_data(basis, "OFF", **(RASTER | {"n_points": 1900}), ppm_range=(1.8, 4.2))


@pytest.mark.parametrize(
    ("condition", "left_out", "message"),
    [
        ("OFF", ["Cr", "PCr"], r"no tCr \(Cr or PCr\)"),
        ("UNEDITED", ["NAA"], "no NAA"),
        ("DIFF", ["GABA"], r"no GABA\+ \(GABA\)"),
        ("DIFF", ["NAA"], "no NAA"),
        ("OFF", ["Cr"], None),
        ("DIFF", ["Cr", "PCr"], None),
    ],
)
def test_missing_metabolites_are_named(condition, left_out, message):
    basis = analytic_basis()
    basis = basis.select(name for name in basis.names if name not in left_out)
    if message is None:
        basis_sets.check_against_data(basis, condition, **RASTER)
        return
    with pytest.raises(InputError, match=message):
        basis_sets.check_against_data(basis, condition, **RASTER)


def test_macromolecules_alone_are_no_gaba():
    basis = analytic_basis({"MM3co": [(3.0, 2)], "NAA": LINES["NAA"]})
    with pytest.raises(InputError, match="GABA"):
        basis_sets.check_against_data(basis, "DIFF", **RASTER)


def height(basis, name, ppm):
    """Real spectrum, 12 Hz broadened, highest of +-0.1 ppm in magnitude."""
    axis, spectrum = basis.spectrum(name, 12.0)
    near = np.flatnonzero(np.abs(axis - ppm) < 0.1)
    return float(spectrum.real[near[np.argmax(np.abs(spectrum.real[near]))]])


FIDA, IU = "basis/mega-press-68-fida", "basis/mega-press-68-lcmodel/3t_IU_MP_te68_"
PHILIPS = "basis/press-35-lcmodel/3T_PRESS_Philips_35ms_noMM.BASIS"
REAL = [  # path, condition, spectra, MHz, TE, ppm at the carrier
    (FIDA, "OFF", 28, 127.731, 68, 3.0),
    (FIDA, "ON", 28, 127.731, 68, 3.0),
    (IU + "748_ppm_inv.basis", "OFF", 14, 123.261, 68, 4.65),
    (IU + "diff_yesNAAG_noLac_Kaiser.basis", "DIFF", 6, 123.261, 68, 4.65),
    (IU + "diff_yesNAAG_noLac_c.basis", "DIFF", 6, 123.261, 68, 4.65),
    (PHILIPS, "UNEDITED", 17, 127.731, 35, 4.68),
    ("fslmrs-reference/basis_press30", "UNEDITED", 20, 127.728, 30, 4.65),
    ("fslmrs-reference/basis_press30_mm", "UNEDITED", 25, 127.728, None, 4.65),
    ("fslmrs-reference/basis_mega68_off", "OFF", 20, 127.728, 68, 4.65),
    ("fslmrs-reference/basis_mega68_on", "ON", 20, 127.728, 68, 4.65),
    ("fslmrs-reference/basis_mega68_diff", "DIFF", 20, 127.728, None, 4.65),
    ("fslmrs-reference/basis_mega68_diff_mm", "DIFF", 21, 127.728, None, 4.65),
]


@pytest.mark.data
@pytest.mark.parametrize(("path", "condition", "count", "mhz", "te", "carrier"), REAL)
def test_real_basis_set(shared_data, path, condition, count, mhz, te, carrier):
    read = basis_sets.read(shared_data / path, condition)
    basis, facts = basis_sets.orient(read, condition)
    assert len(basis.names) == count and basis.frequency_mhz == pytest.approx(mhz, abs=1e-3) and basis.te_ms == te
    assert not facts["conjugated"] and facts["carrier_ppm"] == carrier
    assert facts["field_mhz"] == pytest.approx(mhz, rel=0.01)
    if condition != "ON":
        assert highest_ppm(basis, "NAA") == pytest.approx(2.008, abs=0.01)
        assert (height(basis, "NAA", 2.008) < 0) == (condition == "DIFF")
    if condition == "DIFF":
        assert height(basis, "GABA", 3.01) > 0 and height(basis, "Glu", 3.75) > 0
    elif "Cr" in basis.names:
        assert highest_ppm(basis, "Cr") == pytest.approx(3.027, abs=0.01)
    # The same set with the other sign and another carrier is read the same
    hz = np.full(count, (4.65 - 3.3) * read.frequency_mhz)
    moved = spectra.shift_and_phase(read.fids, read.dwell_s, hz, np.zeros(count))
    again, facts = basis_sets.orient(replace(read, fids=np.conj(moved)), condition)
    assert facts["conjugated"] and np.allclose(again.fids, basis.fids, atol=0.05 * np.abs(basis.fids).max())


@pytest.mark.data
def test_real_differences(shared_data):
    for pair in ((FIDA, FIDA), ("fslmrs-reference/basis_mega68_off", "fslmrs-reference/basis_mega68_on")):
        off, on = (
            basis_sets.orient(basis_sets.read(shared_data / path, condition), condition)[0]
            for path, condition in zip(pair, ("OFF", "ON"), strict=True)
        )
        difference = basis_sets.difference(on, off)
        assert basis_sets.check_peaks(difference, "DIFF")["NAA_ppm"] == pytest.approx(2.008, abs=0.01)
        assert height(difference, "NAA", 2.008) < 0 < height(difference, "GABA", 3.01)
        assert abs(height(difference, "Cr", 3.027)) < 0.02 * height(off, "Cr", 3.027)
