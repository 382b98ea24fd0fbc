"""Axes and transforms against what a single Lorentzian must give."""

import numpy as np
import pytest

from mrs_synthesis import spectra

N, DWELL, MHZ = 2048, 5e-4, 127.7


def line(ppm: float, damping: float = 20.0, n: int = N, dwell: float = DWELL, mhz: float = MHZ) -> np.ndarray:
    t = np.arange(n) * dwell
    return np.exp((2j * np.pi * (ppm - 4.65) * mhz - damping) * t)


def test_ppm_axis_increases_and_holds_the_carrier():
    ppm = spectra.ppm_axis(N, DWELL, MHZ)
    assert np.all(np.diff(ppm) > 0)
    assert ppm[N // 2] == pytest.approx(4.65)
    assert np.diff(ppm)[0] == pytest.approx(1 / (N * DWELL) / MHZ)


@pytest.mark.parametrize("peak", [0.9, 2.008, 3.027, 4.65, 7.5])
def test_a_line_stands_at_its_ppm_and_points_up(peak):
    spectrum = spectra.to_spectrum(line(peak))
    top = np.argmax(np.abs(spectrum))
    assert spectra.ppm_axis(N, DWELL, MHZ)[top] == pytest.approx(peak, abs=0.5 / (N * DWELL) / MHZ + 1e-12)
    assert spectrum[top].real > 0.9 * abs(spectrum[top])


def test_height_of_a_line_is_its_integral_over_time():
    # A Lorentzian's height is amplitude / damping, in units of the dwell time.
    height = np.abs(spectra.to_spectrum(3.0 * line(4.65, damping=20.0))).max() * DWELL
    assert height == pytest.approx(3.0 / 20.0, rel=1e-3)


def test_to_fid_inverts_to_spectrum():
    fid = line(3.0) + 0.3j * line(2.0)
    assert np.allclose(spectra.to_fid(spectra.to_spectrum(fid)), fid, atol=1e-12)


def test_shift_and_phase_move_a_line_up_by_hertz():
    moved = spectra.shift_and_phase(line(3.0)[None], DWELL, np.array([12.77]), np.array([np.pi / 2]))[0]
    assert np.allclose(moved, 1j * line(3.1), atol=1e-9)


def test_noise_sd_is_that_of_the_real_part_and_ignores_signal():
    rng = np.random.default_rng(1)
    noise = rng.normal(scale=3.0, size=(200, N)) + 1j * rng.normal(scale=3.0, size=(200, N))
    measured = spectra.noise_sd(noise + 500 * line(2.0), DWELL, MHZ)
    assert measured.shape == (200,)
    assert measured.mean() == pytest.approx(3.0, rel=0.02)


def test_noise_sd_refuses_a_bandwidth_without_signal_free_ends():
    with pytest.raises(ValueError, match="spectral width"):
        spectra.noise_sd(np.ones(256, complex), 1 / 600, MHZ)


def test_window_matrix_is_the_fourier_transform_at_its_own_bins():
    fid = line(3.0) + line(1.3)
    ppm = spectra.ppm_axis(N, DWELL, MHZ)[900:1100]
    matrix = spectra.window_matrix(ppm, N, DWELL, MHZ)
    assert np.allclose(fid @ matrix, spectra.to_spectrum(fid)[900:1100], atol=1e-9)


def test_from_window_restores_the_window_and_leaves_nothing_outside():
    fid = line(3.0) + line(2.0) + line(6.0)
    ppm = spectra.ppm_axis(N, DWELL, MHZ)
    inside = (ppm > 0) & (ppm < 4.4)
    back = spectra.to_spectrum(spectra.from_window(spectra.to_spectrum(fid)[inside], ppm[inside], N, DWELL, MHZ))
    assert np.allclose(back[inside], spectra.to_spectrum(fid)[inside], atol=1e-9)
    assert np.abs(back[~inside]).max() < 1e-9


def test_window_of_another_raster_keeps_the_line_where_it_is():
    # A line seen on the grid of a 127.7 MHz scan and written back at 123.25 MHz with another dwell time.
    grid = spectra.ppm_axis(N, DWELL, MHZ)
    grid = grid[(grid > 1.0) & (grid < 5.0)]
    spectrum = line(3.0) @ spectra.window_matrix(grid, N, DWELL, MHZ)
    other = spectra.from_window(spectrum, grid, 4096, 4e-4, 123.25)
    top = np.argmax(np.abs(spectra.to_spectrum(other)))
    assert spectra.ppm_axis(4096, 4e-4, 123.25)[top] == pytest.approx(3.0, abs=0.005)
    # What rings ahead of the first point must not come back as a spike where the period ends
    period = 1 / ((grid[1] - grid[0]) * 123.25)
    near = np.abs(np.arange(4096) * 4e-4 - period) < 0.05
    assert np.abs(other[near]).max() < 0.04 * np.abs(other[0])


def test_a_window_of_own_bins_goes_back_as_by_its_matrix():
    n, dwell, frequency = 256, 5e-4, 123.25
    own = spectra.ppm_axis(n, dwell, frequency)
    rng = np.random.default_rng(0)
    values = rng.standard_normal((3, 32)) + 1j * rng.standard_normal((3, 32))
    part = spectra.own_bins(own[100:132], n, dwell, frequency)
    assert part == slice(100, 132)
    fids = spectra.from_window(values, own[100:132], n, dwell, frequency)
    np.testing.assert_allclose(fids @ spectra.window_matrix(own[100:132], n, dwell, frequency), values, atol=1e-9)
    np.testing.assert_allclose(np.delete(spectra.to_spectrum(fids), np.arange(100, 132), axis=1), 0, atol=1e-9)
    assert spectra.own_bins(own[100:132] + 0.3 * (own[1] - own[0]), n, dwell, frequency) is None
