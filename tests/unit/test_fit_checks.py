"""What is looked at before a fit, on spectra whose place, sign and rank are known."""

import numpy as np
import pytest
from analytic_basis import LINES, MHZ, analytic_basis

from mrs_synthesis import fit_checks, lcm_model
from mrs_synthesis.fitting import Task
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

N, DWELL = 2048, 5e-4
TIME = np.arange(N) * DWELL
AMPLITUDES = {"Cr": 4.0, "GABA": 1.5, "Glu": 9.0, "Ins": 5.0, "NAA": 10.0, "PCh": 1.2, "PCr": 4.0}


def task(lines=LINES, **raster):
    basis = analytic_basis(lines, **raster)
    return Task("OFF", N, DWELL, MHZ, basis, [0] * len(basis.names), lcm_model.Options())


def brain(offset_ppm=0.0, phase=0.0, width_hz=6.0):
    """A spectrum with all metabolites, `offset_ppm` too high."""
    basis = analytic_basis()
    fid = sum(AMPLITUDES[name] * fid for name, fid in zip(basis.names, basis.fids, strict=True))
    return fid * np.exp(2j * np.pi * offset_ppm * MHZ * TIME - np.pi * width_hz * TIME + 1j * phase)


def noise(cells, sd, *names):
    parts = generator(3, "test_fit_checks", *names).normal(size=(2, cells, N))
    return sd * (parts[0] + 1j * parts[1])


def test_zero_nan_and_infinite_spectra_are_named():
    fids = np.ones((4, 8), complex)
    fids[1] = 0
    fids[2, :3] = np.nan
    fids[3, 0] = np.inf
    assert fit_checks.defects(fids) == [
        "",
        "zero everywhere",
        "3 points NaN or infinite",
        "1 points NaN or infinite",
    ]


def test_the_tiniest_and_the_largest_amplitudes_are_no_defects():
    assert fit_checks.defects(np.array([[1e-150], [1e150]]) * np.ones((2, 8), complex)) == ["", ""]


@pytest.mark.parametrize("raster", [{}, {"n_points": 4096, "dwell_s": 2.5e-4}])
def test_offsets_are_found_at_any_phase(raster):
    offsets = np.array([-0.24, -0.1, 0.0, 0.05, 0.15, 0.2, 0.25])
    fids = np.array([brain(offset, phase) for offset, phase in zip(offsets, np.linspace(0, 6, 7), strict=True)])
    found = fit_checks.Positions(task(**raster)).find(fids + noise(7, 0.5))
    assert np.abs(found - offsets).max() < 0.008


def test_nothing_is_found_in_noise_and_without_singlets():
    assert np.isnan(fit_checks.Positions(task()).find(noise(200, 1.0))).all()
    gaba = {"GABA": LINES["GABA"]}
    assert np.isnan(fit_checks.Positions(task(gaba)).find(brain(0.2)[None])).all()
    assert np.isnan(fit_checks.Positions(task(gaba)).check(brain(0.4), "x"))


def test_a_spectrum_of_creatine_alone_is_located_by_creatine():
    lines = {"Cr": LINES["Cr"]}
    fid = analytic_basis(lines).fids[0] * np.exp(2j * np.pi * 0.12 * MHZ * TIME - 20 * TIME)
    assert fit_checks.Positions(task(lines)).find(fid[None])[0] == pytest.approx(0.12, abs=0.008)


def test_too_far_off_and_mirrored_scans_are_refused():
    positions = fit_checks.Positions(task())
    assert positions.check(brain(-0.2), "file") == pytest.approx(-0.2, abs=0.008)
    with pytest.raises(InputError, match=r"file: OFF lies \+0\.31 ppm .* shift the spectra") as error:
        positions.check(brain(0.31), "file")
    assert "\n" not in str(error.value)
    with pytest.raises(InputError, match="file: the mirror image of OFF"):
        positions.check(np.conj(brain(0.1)), "file")


def test_which_spectra_are_moved():
    own = np.array([0.01, 0.04, 0.1, np.nan, 0.3, -0.2])
    # The scan is fine: cells that clearly differ are moved, what is beyond 0.25 ppm is not fitted
    expected = [0, 0, -0.1, 0, np.nan, 0.2]
    assert np.allclose(fit_checks.moves(own, 0.0), expected, equal_nan=True)
    assert np.allclose(fit_checks.moves(own, np.nan), expected, equal_nan=True)
    # The scan is 0.12 ppm too high: so is every cell that does not differ from that by more than 0.05 ppm
    expected = [0, 0, -0.12, -0.12, np.nan, 0.2]
    assert np.allclose(fit_checks.moves(own, 0.12), expected, equal_nan=True)


def test_moving_undoes_an_offset():
    fids = np.array([brain(0.2), brain(0.0)])
    moved = fit_checks.move(fids, np.array([-0.2, 0.0]), task())
    assert np.allclose(moved, brain(), atol=1e-9)


def test_equal_basis_spectra_are_named_and_empty_ones_left_out():
    basis = analytic_basis(LINES | {"Twin": LINES["NAA"], "Empty": [(1.0, 0.0)], "Far": [(12.0, 1.0)]})
    kept, warnings = fit_checks.regular(basis, "OFF", (0.2, 4.2))
    assert kept.names == [*LINES, "Twin", "Far"]  # a line's tail reaches everywhere
    assert len(warnings) == 2 and "Empty left out" in warnings[0]
    assert "NAA and Twin cannot be told apart" in warnings[1]
    assert fit_checks.regular(analytic_basis(), "OFF", (0.2, 4.2))[1] == []  # Cr and PCr are different enough


def test_a_spectrum_that_is_a_sum_of_others_is_named_with_them():
    basis = analytic_basis(LINES | {"Sum": LINES["PCh"] + LINES["Ins"]})
    _, warnings = fit_checks.regular(basis, "OFF", (0.2, 4.2))
    assert len(warnings) == 1 and "Ins and PCh and Sum cannot" in warnings[0]


def test_an_empty_basis_is_refused():
    basis = analytic_basis()
    basis.fids[:] = 0
    with pytest.raises(InputError, match="nothing but zero"):
        fit_checks.regular(basis, "OFF", (0.2, 4.2))
