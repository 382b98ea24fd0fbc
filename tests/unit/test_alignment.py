"""Alignment against known shifts and phases, and against the Cramer-Rao bound."""

import numpy as np
import pytest

from mrs_synthesis import alignment, spectra
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

MHZ, DWELL, N = 127.7, 5e-4, 1024
T = np.arange(N) * DWELL
LINES = ((2.008, 10.0), (3.027, 7.0), (3.21, 5.0))  # ppm, amplitude: NAA, tCr, tCho
WINDOW = (1.8, 3.4)


def line(ppm, amplitude, fwhm=5.0, phase=0.0):
    return amplitude * np.exp(2j * np.pi * (ppm - 4.65) * MHZ * T - np.pi * fwhm * T + 1j * phase)


def brain(fwhm=5.0):
    return sum(line(ppm, amplitude, fwhm) for ppm, amplitude in LINES)


def noise(rng, *shape):
    return rng.normal(size=(*shape, N)) + 1j * rng.normal(size=(*shape, N))


def drifting(rng, n, sd, drift_hz=15.0, phase_sd=1.0):
    shift = np.linspace(-drift_hz, drift_hz, n) + rng.normal(0, 0.5, n)
    phase = rng.normal(0, phase_sd, n)
    return spectra.shift_and_phase(brain(), DWELL, shift, phase) + sd * noise(rng, n), shift, phase


def cramer_rao(signal, sd):
    """Lowest SD of (shift, phase) of a known signal in white noise of SD `sd` in each part."""
    weight = np.abs(signal) ** 2 / sd**2
    turn = 2 * np.pi * T
    fisher = np.array([[np.sum(weight * turn**2), np.sum(weight * turn)], [np.sum(weight * turn), np.sum(weight)]])
    return np.sqrt(np.diag(np.linalg.inv(fisher)))


def test_register_is_exact_without_noise():
    shift, phase = np.array([-14.2, 0.0, 3.3, 25.0]), np.array([0.4, -3.0, 2.0, 1.0])
    moved = spectra.shift_and_phase(brain(), DWELL, -shift, -phase)
    found = alignment.register(moved, brain(), DWELL)
    np.testing.assert_allclose(found[0], shift, atol=1e-5)
    np.testing.assert_allclose(np.exp(1j * found[1]), np.exp(1j * phase), atol=1e-5)


def test_align_undoes_drift_to_the_cramer_rao_bound():
    rng, sd = generator(1, "align"), 2.0
    fids, shift, phase = drifting(rng, 96, sd)
    first = alignment.align(fids, DWELL, MHZ, WINDOW)
    moved = spectra.shift_and_phase(fids, DWELL, *first)
    second = alignment.align(moved, DWELL, MHZ, WINDOW, coarse=False, max_shift_hz=8.0)
    error_hz = first[0] + second[0] + shift
    error_rad = np.angle(np.exp(1j * (first[1] + second[1] + phase)))
    error_rad = np.angle(np.exp(1j * (error_rad - error_rad[0])))
    bound = cramer_rao(brain(), sd)
    assert 0.75 < np.std(error_hz) / bound[0] < 1.25
    assert 0.75 < np.std(error_rad) / bound[1] < 1.25


def test_first_alignment_captures_drift_beside_unstable_water():
    rng = generator(2, "water")
    fids, shift, _ = drifting(rng, 48, 2.0)
    water = spectra.shift_and_phase(line(4.68, 300.0, 8.0), DWELL, shift, rng.uniform(-np.pi, np.pi, 48))
    found, _ = alignment.align(fids + water, DWELL, MHZ, WINDOW)
    error = found + shift
    assert np.max(np.abs(error - np.median(error))) < 2.5


def test_align_ignores_bad_transients():
    rng = generator(3, "bad")
    fids, shift, _ = drifting(rng, 40, 1.0, drift_hz=3.0)
    fids[::8] = 30 * noise(rng, 5) * np.exp(-20 * T)
    found, _ = alignment.align(fids, DWELL, MHZ, WINDOW)
    error = np.delete(found + shift, np.s_[::8])
    assert np.std(error) < 0.3


def test_single_transient_is_left_alone():
    shift, phase = alignment.align(brain()[None], DWELL, MHZ, WINDOW)
    assert shift.tolist() == [0.0]
    assert phase.tolist() == [0.0]


def test_decimated_fids_are_moved_by_the_same_shifts_and_phases():
    """Two rasters, one answer: on the coarse one the FIDs have an eighth of the points."""
    shift, phase = np.array([-7.3, 0.0, 2.1]), np.array([0.4, -3.0, 2.0])
    moved = spectra.shift_and_phase(brain() + line(4.65, 200.0), DWELL, -shift, -phase)
    coarse, dwell, window = alignment.decimated(moved, DWELL, MHZ, WINDOW, 10.0)
    assert coarse.shape[-1] < N / 6
    assert coarse.shape[-1] * dwell == pytest.approx(N * DWELL, rel=0.01)
    target = alignment.confine(coarse[1] * np.exp(-3.0j), dwell, MHZ, window)
    found = alignment.register(coarse, target, dwell, 10.0)
    np.testing.assert_allclose(found[0], shift, atol=0.02)
    np.testing.assert_allclose(np.degrees(np.angle(np.exp(1j * (found[1] - phase)))), 0.0, atol=0.3)


def test_a_window_as_wide_as_the_spectrum_is_not_decimated():
    coarse, dwell, window = alignment.decimated(brain()[None], DWELL, MHZ, (-3.0, 12.0), 10.0)
    assert coarse.shape[-1] == N
    assert (dwell, window) == (DWELL, (-3.0, 12.0))


@pytest.mark.parametrize("reference", ["tCr", "NAA"])
def test_fit_lines_measures_place_width_height_and_phase(reference):
    ppm = spectra.ppm_axis(N, DWELL, MHZ)
    shift, phase, fwhm = 1.7, 0.6, 6.5
    fid = spectra.shift_and_phase(brain(fwhm), DWELL, np.asarray(shift), np.asarray(phase))
    found = alignment.fit_lines(spectra.to_spectrum(fid), ppm, MHZ, reference)
    position, amplitude = {"tCr": LINES[1], "NAA": LINES[0]}[reference]
    assert float(found.ppm) == pytest.approx(position + shift / MHZ, abs=5e-4)
    assert float(found.fwhm_hz) == pytest.approx(fwhm, rel=0.02)
    assert float(found.phase_rad) == pytest.approx(phase, abs=0.02)
    assert float(found.height) == pytest.approx(amplitude / (np.pi * fwhm * DWELL), rel=0.02)


def test_fit_lines_takes_many_spectra_at_once():
    rng = generator(4, "fit")
    ppm = spectra.ppm_axis(N, DWELL, MHZ)
    many = spectra.to_spectrum(brain() + 0.5 * noise(rng, 2, 3))
    together = alignment.fit_lines(many, ppm, MHZ)
    alone = alignment.fit_lines(many[1, 2], ppm, MHZ)
    assert together.fwhm_hz.shape == (2, 3)
    assert float(together.fwhm_hz[1, 2]) == pytest.approx(float(alone.fwhm_hz), rel=1e-6)


def test_reference_offset_finds_the_singlets_beside_water_and_lipid():
    fid = brain() + line(4.65, 2000.0, 8.0, 1.0) + line(1.3, 40.0, 20.0)
    moved = spectra.shift_and_phase(fid, DWELL, np.asarray(0.12 * MHZ), np.asarray(2.0))
    assert alignment.reference_offset(moved[None], DWELL, MHZ) == pytest.approx(0.12, abs=0.015)


def test_implausible_reference_offset_is_an_error():
    moved = spectra.shift_and_phase(brain(), DWELL, np.asarray(-0.35 * MHZ), np.asarray(0.0))
    with pytest.raises(InputError, match=r"-0\.3\d ppm from their places"):
        alignment.reference_offset(moved[None], DWELL, MHZ)


def test_unlike_finds_planted_transients_and_hardly_any_other():
    rng = generator(5, "unlike")
    fids = np.tile(brain(), (64, 1)) + noise(rng, 64)
    fids[7] += line(1.3, 20.0, 15.0)  # lipid
    fids[20] *= np.exp(-np.pi * 15 * T)  # motion
    fids[33] = 0.0
    fids[50] *= np.exp(1j * 2.0)  # a phase that could not be corrected
    found = np.flatnonzero(alignment.unlike(fids, DWELL, MHZ, 3.5))
    assert {7, 20, 33, 50} <= set(found.tolist())
    assert found.size <= 6


def test_few_transients_are_never_unlike():
    fids = np.stack([brain()] * 4 + [5 * brain()])
    assert not alignment.unlike(fids, DWELL, MHZ, 3.5).any()
