"""Signal-quality metrics against values worked out by hand.

Hand-computed spectra lie on an axis of 0.1 ppm: 2.8-3.2 ppm has the bins 2.8, 2.9, 3.0, 3.1, 3.2, of which the
challenge's calculator leaves out the lowest, 2.8.
"""

import numpy as np
import pytest

from mrs_synthesis import lcm_quality, quality, spectra

COARSE = np.round(np.arange(-40, 131) / 10, 1)
PPM = np.round(np.arange(-4.0, 13.0, 0.01), 4)


def spectrum(values, axis=COARSE):
    """Return a spectrum that is zero but for {ppm: value}."""
    x = np.zeros(axis.size)
    for ppm, value in values.items():
        x[int(np.argmin(np.abs(axis - ppm)))] = value
    return x


def test_region_leaves_out_its_lowest_bin_only():
    assert COARSE[quality.challenge_region(COARSE, 2.8, 3.2)].tolist() == [2.9, 3.0, 3.1, 3.2]
    assert COARSE[quality.challenge_region(COARSE, 2.5, 4.0)].tolist() == pytest.approx(np.arange(2.6, 4.05, 0.1))
    with pytest.raises(ValueError, match="too short or too coarse"):
        quality.challenge_region(COARSE, 2.85, 3.2)


def noisy(axis, low, high, pattern):
    """Return a spectrum with peaks of 36 and, left out, 99 at 3.0 and 2.8 ppm, and a pattern in low-high ppm."""
    x = spectrum({3.0: 36.0, 2.8: 99.0}, axis)
    inside = np.flatnonzero((axis >= low) & (axis <= high))[1:]
    x[inside] = pattern[: inside.size]
    return x, inside.size


def test_challenge_snr_by_hand():
    # 9.81 to 10.80 ppm are 100 bins. Noise +1, -1, -1, +1 repeated is orthogonal to a quadratic but for little: each
    # four have mean 0 and slope 0, and the sum of k^2 over the pattern is 0 - 1 - 4 + 9 = 4, of 25 fours alike 100.
    # The quadratic orthogonal to 1 and k has norm^2 = N (N^2 - 1)(N^2 - 4) / 180 = 5.5517e7, so that it takes
    # 100^2 / 5.5517e7 = 0.00018 of the sum of squares, 100: SD = sqrt(99.9998 / 99), SNR = 36 / (2 * 1.00504) = 17.910.
    x, n = noisy(PPM, 9.8, 10.8, np.tile([1.0, -1.0, -1.0, 1.0], 25))
    assert n == 100
    assert quality.challenge_snr(x, PPM) == pytest.approx(36 / (2 * np.sqrt(99.99982 / 99)), rel=1e-8)
    assert quality.challenge_snr(x, PPM) == pytest.approx(17.910, abs=5e-4)


def test_challenge_snr_ignores_a_quadratic_and_what_lies_outside():
    pattern = np.tile([1.0, -1.0, -1.0, 1.0], 25)
    x, _ = noisy(PPM, 9.8, 10.8, pattern)
    k = np.arange(100)
    curved, _ = noisy(PPM, 9.8, 10.8, pattern + 5 + 0.3 * k - 0.02 * k**2)
    curved[[int(np.argmin(np.abs(PPM - p))) for p in (9.8, 10.81, 3.21)]] = 1e3
    assert quality.challenge_snr(curved, PPM) == pytest.approx(quality.challenge_snr(x, PPM), rel=1e-9)
    # n - 1, not the n - 3 degrees of freedom that a quadratic leaves
    assert quality.challenge_snr(x, PPM) == pytest.approx(18 * np.sqrt(0.99), rel=1e-5)


def test_spectrovit_measures_noise_elsewhere():
    # 10.01 to 12.00 ppm: 200 bins of +-3, SD = 3 sqrt(200 / 199)
    x, n = noisy(PPM, 10.0, 12.0, np.tile([3.0, -3.0, -3.0, 3.0], 50))
    assert n == 200
    found = quality.challenge_snr(x, PPM, quality.SPECTROVIT_NOISE_PPM)
    assert found == pytest.approx(36 / (2 * 3 * np.sqrt(200 / 199)), rel=1e-5)


def test_snr_of_a_noise_free_spectrum_or_a_short_axis_is_missing():
    x = np.exp(-(((PPM - 3) / 0.05) ** 2))
    assert np.isnan(quality.challenge_snr(x, PPM))
    assert np.isnan(quality.challenge_snr(x[PPM < 9.9], PPM[PPM < 9.9]))


def test_linewidth_by_hand():
    # Bins 2.9 to 3.2 hold 1, 5, 3.2, 2: min-max normalised 0, 1, 0.55, 0.25. Above half: 3.0 and 3.1, 0.1 ppm apart.
    x = spectrum({2.8: 50, 2.9: 1, 3.0: 5, 3.1: 3.2, 3.2: 2})
    assert quality.challenge_linewidth(x, COARSE) == pytest.approx(0.1)
    # Exactly half (3 of 1 to 5) is not above it: only the maximum is left
    assert quality.challenge_linewidth(spectrum({2.9: 1, 3.0: 5, 3.1: 3, 3.2: 2}), COARSE) == 0
    # The *outermost* ones: a spike at 3.2 widens the line to 0.2 ppm although 3.1 lies below half
    assert quality.challenge_linewidth(spectrum({2.9: 1, 3.0: 5, 3.1: 2, 3.2: 4}), COARSE) == pytest.approx(0.2)
    # The highest ppm is the maximum: nothing on its left, where the original calculator stops with an error
    assert quality.challenge_linewidth(spectrum({2.9: 1, 3.0: 2, 3.1: 4, 3.2: 5}), COARSE) == pytest.approx(0.1)
    assert np.isnan(quality.challenge_linewidth(np.ones(COARSE.size), COARSE))


def test_shape_score_by_hand():
    # 2.9-3.2 ppm: x = 1 2 3 4 and y = 2 1 4 3, deviations -1.5 -0.5 0.5 1.5 and -0.5 -1.5 1.5 0.5:
    # sum of products 0.75 + 0.75 + 0.75 + 0.75 = 3, sums of squares 5 and 5: r = 0.6
    # 3.65-3.90 ppm, 0.05 apart as the axis below: five bins, x = 0 0 1 0 0, y = 0 0 0 0 5: deviations of x -0.2 -0.2
    # 0.8 -0.2 -0.2, of y -1 -1 -1 -1 4: products 0.2 + 0.2 - 0.8 + 0.2 - 0.8 = -1, squares 0.8 and 20: r = -1/4
    axis = np.round(np.arange(2.4, 4.2, 0.1), 1)
    axis = np.sort(np.concatenate([axis[(axis < 3.6)], [3.6, 3.65, 3.7, 3.75, 3.8, 3.9], axis[axis > 3.9]]))
    x = spectrum({2.8: 70, 2.9: 1, 3.0: 2, 3.1: 3, 3.2: 4, 3.6: 9, 3.7: 0, 3.75: 1}, axis)
    y = spectrum({2.8: -8, 2.9: 2, 3.0: 1, 3.1: 4, 3.2: 3, 3.6: 9, 3.9: 5}, axis)
    assert quality.challenge_shape(x, y, axis) == pytest.approx(0.6 * 0.6 + 0.4 * -0.25)
    assert quality.spectrovit_shape(x, y, axis) == pytest.approx(0.6 * 0.6)
    assert quality.challenge_shape(5 * x + 3, 0.1 * y - 2, axis) == pytest.approx(0.36 - 0.1)
    assert np.isnan(quality.challenge_shape(0.1 * np.ones(axis.size), y, axis))


def test_mse_by_hand():
    # 2.5-4.0 ppm without 2.5 are 15 bins. x is 8 in one and 4 in another of them, else 0: normalised 1, 0.5, 0.
    # y is 1 but for 3 where x is 4: normalised 1 there, else 0. Differences 1 and -0.5: (1 + 0.25) / 15.
    x = spectrum({2.5: 100, 3.0: 8, 3.5: 4, 4.1: 50})
    y = spectrum({2.5: -100, 3.5: 2}) + 1
    assert quality.challenge_mse(x, y, COARSE) == pytest.approx(1.25 / 15)
    # Not normalised, in 2.79-4.1 ppm without the lowest of 2.8 to 4.1: 13 bins. Differences 8 - 1, 4 - 3, 50 - 1, and
    # -1 in the other ten: (49 + 1 + 2401 + 10) / 13
    assert quality.spectrovit_mse(x, y, COARSE) == pytest.approx(2461 / 13)


def test_many_spectra_at_once_are_as_one_by_one():
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((2, 3, PPM.size))
    together = quality.difference_metrics(x, y[0], PPM, 123.25)
    assert set(together) == set(quality.DIFFERENCE_METRICS)
    for i in range(3):
        alone = quality.difference_metrics(x[i : i + 1], y[0], PPM, 123.25)
        assert {name: values[i] for name, values in together.items()} == pytest.approx(
            {name: values[0] for name, values in alone.items()}
        )
    assert together["challenge_linewidth_hz"] == pytest.approx(123.25 * together["challenge_linewidth_ppm"])


def test_fslmrs_snr_by_hand():
    # Spectrum +-2 in turn: SD 2 in any even number of neighbours, so the noise is sqrt(2) * 2 wherever it is measured.
    # The highest |Re| in 0.2-4.2 ppm is 60, negative; water at 4.65 ppm counts not. 60 / (2 sqrt(2)) = 21.2132
    n, dwell, frequency = 2048, 5e-4, 123.25
    ppm = spectra.ppm_axis(n, dwell, frequency)
    x = np.where(np.arange(n) % 2, 2.0, -2.0)
    x[np.argmin(np.abs(ppm - 1.0))], x[np.argmin(np.abs(ppm - 4.65))] = -60, 1e3
    found = quality.fslmrs_snr(spectra.to_fid(x + 5j * x)[None], dwell, frequency)
    assert found == pytest.approx(21.2132, rel=1e-4)


def test_tcr_width_and_snr_of_a_lorentzian():
    n, dwell, frequency, width, sd = 2048, 5e-4, 123.25, 6.0, 0.02
    t = spectra.time_axis(n, dwell)
    offset = 2 * np.pi * (spectra.TCR_PPM - spectra.WATER_PPM) * frequency
    fid = np.exp(1j * offset * t - np.pi * width * t)
    rng = np.random.default_rng(1)
    noise = sd * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    both = np.array([fid, fid + noise, 0 * fid])
    snr, fwhm = quality.tcr_snr_and_fwhm(both, quality.noise_sd(both, dwell, frequency), dwell, frequency)
    assert fwhm[0] == pytest.approx(width, rel=0.01) and np.isnan(fwhm[2])
    height = 1 / (np.pi * width * dwell)  # integral of the decay in points
    assert snr[1] == pytest.approx(height / (sd * np.sqrt(n)), rel=0.1)


def test_noise_ratio_exposes_spectra_that_are_too_clean():
    n, dwell, frequency = 2048, 5e-4, 123.25
    rng = np.random.default_rng(2)
    noise = rng.standard_normal((2, 40, n)) + 1j * rng.standard_normal((2, 40, n))
    real = noise.mean(axis=1)
    mixed = noise[:, :2].sum(axis=1) / 40  # 2 real and 38 noise-free transients
    cells = np.stack([real, mixed], axis=1)
    found = quality.cells_quality(cells, real, np.ones(2), ("OFF", "ON"), dwell, frequency)
    for condition in ("off", "on", "diff"):
        assert found[f"noise_ratio_{condition}"] == pytest.approx([1.0, np.sqrt(2 / 40)], rel=0.05)
    assert found["noise_sd_diff"][0] == pytest.approx(np.sqrt(2 / 40), rel=0.05)  # of a difference, sqrt(2) times


def test_unedited_spectra_have_no_challenge_metrics():
    rng = np.random.default_rng(3)
    fid = rng.standard_normal((1, 2, 2048)) + 1j * rng.standard_normal((1, 2, 2048))
    columns = quality.cells_quality(fid, fid[:, 0], np.ones(2), ("UNEDITED",), 5e-4, 123.25)
    assert np.isnan([columns[name] for name in quality.DIFFERENCE_METRICS]).all()
    assert columns["noise_sd_unedited"] == pytest.approx([1.0, 1.0], rel=0.1)
    assert not [name for name in columns if name.endswith(("_off", "_on", "_diff"))]


@pytest.mark.parametrize(("offset", "ends"), [(0.005, (-1.995, 10.005)), (0.015, (-2.005, 9.995))])
def test_fslmrs_noise_reaches_the_bins_nearest_to_its_limits(offset, ends):
    ppm = np.round(np.arange(-10, 18, 0.02) + offset, 3)
    white = np.random.default_rng(5).standard_normal((1, ppm.size)) + 0j
    noise = ppm[lcm_quality.noise_points(white, ppm)[0]]
    assert (noise[noise < 4].max(), noise[noise > 4].min()) == pytest.approx(ends)
    assert (noise[0], noise[-1]) == (ppm[0], ppm[-1])
