"""Signal-quality metrics against values worked out by hand."""

import numpy as np
import pytest

from mrs_synthesis import quality, spectra

PPM = np.round(np.arange(-4.0, 13.0, 0.01), 4)


def at(low, high):
    return np.abs(PPM - (low + high) / 2) <= (high - low) / 2 + 1e-9


def test_region_leaves_out_its_lowest_bin_only():
    axis = np.round(np.arange(0, 12, 0.1), 1)
    assert axis[quality.challenge_region(axis, 2.8, 3.2)].tolist() == [2.9, 3.0, 3.1, 3.2]


def test_challenge_snr_is_peak_over_twice_the_detrended_sd():
    noise = quality.challenge_region(PPM, 9.8, 10.8)
    u = np.linspace(-1, 1, noise.stop - noise.start)
    q, _ = np.linalg.qr(np.vander(u, 4, increasing=True))
    x = np.zeros(PPM.size)
    x[noise] = 3 * q[:, 3] + 5 + 2 * u - 7 * u**2  # only the part orthogonal to quadratics counts: its norm is 3
    x[at(3.0, 3.0)] = 40.0
    x[at(2.8, 2.8)] = 90.0  # the bin that the challenge leaves out
    expected = 40 / (2 * 3 / np.sqrt(u.size - 1))
    assert quality.challenge_snr(x, PPM) == pytest.approx(expected, rel=1e-9)


def test_challenge_snr_of_a_noise_free_spectrum_or_a_short_axis_is_missing():
    x = np.exp(-(((PPM - 3) / 0.05) ** 2))
    assert np.isnan(quality.challenge_snr(x, PPM))
    assert np.isnan(quality.challenge_snr(x[PPM < 9], PPM[PPM < 9]))


def test_linewidth_is_between_the_outermost_bins_above_half():
    x = np.zeros(PPM.size)
    x[at(2.98, 3.02)] = 1.0
    assert quality.challenge_linewidth(x, PPM) == pytest.approx(0.04, abs=1e-9)
    x[at(3.15, 3.15)] = 0.6  # a far spike widens it
    assert quality.challenge_linewidth(x, PPM) == pytest.approx(0.17, abs=1e-9)
    x[at(3.15, 3.15)] = 0.4
    assert quality.challenge_linewidth(x, PPM) == pytest.approx(0.04, abs=1e-9)


def test_linewidth_normalises_by_the_minimum_too():
    x = np.where(at(2.8, 3.2), 10.0, 0.0)
    x[at(2.95, 3.05)] = 10.4
    x[at(3.0, 3.0)] = 11.0  # half of the min-max range is 10.5
    assert quality.challenge_linewidth(x, PPM) == pytest.approx(0.0, abs=1e-9)


def test_shape_score_weights_gaba_and_glx():
    rng = np.random.default_rng(0)
    y = rng.standard_normal(PPM.size)
    x = y.copy()
    x[at(2.8, 3.2)] = 5 * y[at(2.8, 3.2)] + 3
    assert quality.challenge_shape(x, y, PPM) == pytest.approx(1.0)
    x[at(3.6, 3.9)] *= -1
    assert quality.challenge_shape(x, y, PPM) == pytest.approx(0.6 - 0.4)


def test_mse_is_of_min_max_normalised_spectra():
    region = quality.challenge_region(PPM, 2.5, 4.0)
    u = np.linspace(0, 1, region.stop - region.start)
    x, y = np.zeros(PPM.size), np.zeros(PPM.size)
    y[region], x[region] = 7 * u + 2, 3 * u**2 - 1
    n = u.size - 1
    sums = [sum(k**p for k in range(n + 1)) / n**p for p in (2, 3, 4)]
    assert quality.challenge_mse(x, y, PPM) == pytest.approx((sums[0] - 2 * sums[1] + sums[2]) / (n + 1))


def test_fslmrs_snr():
    spectrum = np.where(np.arange(PPM.size) % 2, 2.0, -2.0).astype(complex)  # SD 2
    spectrum[at(1.0, 1.0)] = -60
    spectrum[at(4.65, 4.65)] = 1e3  # water is outside the range
    assert quality.fslmrs_snr(spectrum, PPM) == pytest.approx(60 / (np.sqrt(2) * 2), rel=2e-3)


def test_tcr_width_and_snr_of_a_lorentzian():
    n, dwell, frequency, width, sd = 2048, 5e-4, 123.25, 6.0, 0.02
    t = spectra.time_axis(n, dwell)
    offset = 2 * np.pi * (spectra.TCR_PPM - spectra.WATER_PPM) * frequency
    fid = np.exp(1j * offset * t - np.pi * width * t)
    rng = np.random.default_rng(1)
    noise = sd * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    _, fwhm = quality.tcr_snr_and_fwhm(fid, dwell, frequency)
    assert fwhm == pytest.approx(width, rel=0.01)
    snr, _ = quality.tcr_snr_and_fwhm(fid + noise, dwell, frequency)
    height = 1 / (np.pi * width * dwell)  # integral of the decay in points
    assert snr == pytest.approx(height / (sd * np.sqrt(n)), rel=0.1)


def test_noise_ratio_exposes_spectra_that_are_too_clean():
    n, dwell, frequency = 2048, 5e-4, 123.25
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((2, 40, n)) + 1j * rng.standard_normal((2, 40, n))
    real = noise.mean(axis=1)
    mixed = noise[:, :2].sum(axis=1) / 40  # 2 real and 38 noise-free transients
    expected = 1 / np.sqrt(40)
    found = [quality.cell_quality(f, real, dwell, frequency, expected)["noise_ratio"] for f in (real, mixed)]
    assert found == pytest.approx([1.0, np.sqrt(2) / 40 / expected], rel=0.05)


def test_unedited_spectra_have_no_challenge_metrics():
    rng = np.random.default_rng(3)
    fid = rng.standard_normal((1, 2048)) + 1j * rng.standard_normal((1, 2048))
    columns = quality.cell_quality(fid, fid, 5e-4, 123.25, 1.0)
    assert np.isnan([value for name, value in columns.items() if name.startswith("challenge")]).all()
    assert columns["noise_sd"] == pytest.approx(1.0, rel=0.1)
