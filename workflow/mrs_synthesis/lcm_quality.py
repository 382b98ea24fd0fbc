"""Line width and signal-to-noise ratio of each metabolite in a fit, by the definitions of FSL-MRS 2.4."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.lcm_model import Model

if TYPE_CHECKING:
    from mrs_synthesis.lcm import Result

PROMINENCE = 0.4
DETREND_ORDER = 4
FEWEST_NOISE_POINTS = 100
OVERSAMPLING_P = 0.05
BLOCK = 16  # spectra at once


def voigt_fwhm_hz(gamma: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return the full width at half maximum of the decay exp(-(gamma + t sigma^2) t), by Olivero and Longbothum."""
    lorentz, gauss = gamma / np.pi, sigma * 2 * np.sqrt(np.log(2)) / np.pi
    return 0.5346 * lorentz + np.sqrt(0.2166 * lorentz**2 + gauss**2)


def noise_points(values: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return which points of spectra (cells, n_points) FSL-MRS takes for noise, as booleans of the same shape.

    Those below -2 and above 10 ppm; with fewer than 100 of them, the outermost 50 on each side as well. Against
    oversampled receivers it compares (Levene's test, p < 0.05) noise in the outer quarters of the bandwidth with the
    points that are either noise or in the outer quarters, but not both, and takes the latter if they differ. At usual
    bandwidths these are the quarters' inner parts, next to the metabolites, and it does take them.
    """
    n = ppm.size
    index = np.arange(n)
    # Up to the bins nearest to these limits, as FSL-MRS has it
    sides = (index <= np.abs(ppm + 2).argmin(), index >= np.abs(ppm - 10).argmin())
    noise = sides[0] | sides[1]
    if noise.sum() < FEWEST_NOISE_POINTS:
        noise[:50] = noise[-50:] = True
        return np.broadcast_to(noise, values.shape)
    detrended = np.zeros(values.shape)
    for side in sides:
        if side.sum() > DETREND_ORDER:
            detrended[:, side] = detrend(values.real[:, side])
    outer = np.zeros(n, bool)
    outer[: n // 4] = outer[n - n // 4 :] = True
    both, either = noise & outer, noise ^ outer
    if min(both.sum(), either.sum()) <= 2:
        return np.broadcast_to(noise, values.shape)
    differ = levene_p(detrended[:, both], detrended[:, either]) < OVERSAMPLING_P
    return np.where(differ[:, None], either, noise)


def levene_p(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the p-value of Levene's test (about means) of equal variance, of each row of two samples."""
    from scipy.special import fdtrc

    z = [np.abs(sample - sample.mean(axis=1, keepdims=True)) for sample in (first, second)]
    sizes, means = [sample.shape[1] for sample in z], [sample.mean(axis=1) for sample in z]
    total = (sizes[0] * means[0] + sizes[1] * means[1]) / sum(sizes)
    between = sum(size * (mean - total) ** 2 for size, mean in zip(sizes, means, strict=True))
    within = sum(((sample - mean[:, None]) ** 2).sum(axis=1) for sample, mean in zip(z, means, strict=True))
    ratio = (sum(sizes) - 2) * between / np.where(within > 0, within, np.inf)
    return fdtrc(1, sum(sizes) - 2, ratio)


def detrend(values: np.ndarray) -> np.ndarray:
    """Return values (..., n) minus their least-squares polynomial of order 4."""
    design = np.polynomial.legendre.legvander(np.linspace(-1, 1, values.shape[-1]), DETREND_ORDER)
    q, _ = np.linalg.qr(design)
    return values - (values @ q) @ q.T


def peak_fwhm_hz(window: np.ndarray, widest_points: np.ndarray, hz_per_point: float) -> np.ndarray:
    """Return the width at half prominence of the most prominent peak of |Re| in each window; 0 where there is none.

    A peak has a prominence of at least 0.4 of the highest point, and is at most `widest_points` wide.

    Parameters
    ----------
    window
        (rows, W).
    widest_points
        (rows,).
    """
    magnitude = np.abs(window.real)
    highest = magnitude.max(axis=1)
    magnitude = magnitude / np.where(highest > 0, highest, 1)[:, None]
    width, certain = _widths_of_highest(magnitude)
    certain &= width <= widest_points
    for row in np.flatnonzero(~certain & (highest > 0)):
        width[row] = _width_of_most_prominent(magnitude[row], widest_points[row])
    return np.where(highest > 0, width, 0.0) * hz_per_point


def _width_of_most_prominent(magnitude: np.ndarray, widest: float) -> float:
    from scipy.signal import find_peaks

    peaks, facts = find_peaks(magnitude, prominence=PROMINENCE, width=(None, widest))
    return float(facts["widths"][np.argmax(facts["prominences"])]) if peaks.size else 0.0


def _widths_of_highest(magnitude: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the width at half prominence of each row's highest point, and whether it is certainly the most prominent.

    All rows at once, `scipy.signal.find_peaks` needs them one by one. The highest point's prominence is its height over
    the higher of the two sides' minima; another peak's is at most its height over the lower one.
    """
    rows, n = magnitude.shape
    index = np.arange(n)
    top = magnitude.argmax(axis=1)
    left, right = index < top[:, None], index > top[:, None]
    lowest = [np.where(side, magnitude, np.inf).min(axis=1) for side in (left, right)]
    base = np.maximum(*lowest)
    certain = (top > 0) & (top < n - 1)
    base = np.where(certain, base, 0.0)
    peaks = np.zeros(magnitude.shape, bool)
    peaks[:, 1:-1] = (magnitude[:, 1:-1] > magnitude[:, :-2]) & (magnitude[:, 1:-1] >= magnitude[:, 2:])
    peaks[np.arange(rows), top] = False
    others = np.where(peaks, magnitude, 0.0).max(axis=1)
    certain &= (1 - base >= PROMINENCE) & (1 - base > others - np.minimum(*lowest))
    half = (1 + base) / 2
    below = magnitude < half[:, None]
    row = np.arange(rows)
    after = np.where(right & below, index, n - 1).min(axis=1)
    before = np.where(left & below, index, 0).max(axis=1)
    ends = []
    for end, inner in ((before, before + 1), (after, after - 1)):
        outside, inside = magnitude[row, end], magnitude[row, inner]
        share = np.divide(half - outside, inside - outside, out=np.zeros(rows), where=inside > outside)
        ends.append(end + share * (inner - end))
    return ends[1] - ends[0], certain


def per_metabolite(fids: np.ndarray, model: Model, result: Result) -> tuple[np.ndarray, np.ndarray]:
    """Return SNR and FWHM in Hz of each fitted metabolite, both (cells, n).

    SNR: highest |Re| of the fitted basis spectrum in the window, over sqrt(2) SD of the real part of the detrended
    noise of the data, both after exponential apodisation by the smallest FWHM of all metabolites (in Hz, taken as 1/s,
    as FSL-MRS does; 0 if one metabolite has no clear peak). FWHM: see `peak_fwhm_hz`, includes the basis' own width;
    0 where no peak is clear (multiplets).

    Parameters
    ----------
    fids
        The data, scaled as the model, (cells, n_points); neither zero nor NaN.
    model, result
        The fit.
    """
    blocks = [slice(start, start + BLOCK) for start in range(0, len(fids), BLOCK)]
    answers = [_block(fids[rows], model, result, rows) for rows in blocks]
    return np.concatenate([snr for snr, _ in answers]), np.concatenate([fwhm for _, fwhm in answers])


def _block(fids: np.ndarray, model: Model, result: Result, rows: slice) -> tuple[np.ndarray, np.ndarray]:
    t, n_points = model.time_s, model.n_points
    nu = np.linspace(-0.5 / model.dwell_s, 0.5 / model.dwell_s, n_points)
    ppm = nu / model.frequency_mhz + spectra.WATER_PPM
    window = slice(model.first, model.last)
    gamma, sigma, eps = result.gamma[rows], result.sigma[rows], result.eps[rows]
    size = np.exp(-(gamma[..., None] + sigma[..., None] ** 2 * t) * t)
    turn = np.exp(-1j * eps[..., None] * t)
    decay = size[:, model.groups] * turn if model.options.free_shift else (size * turn)[:, model.groups]
    phase = np.exp(-1j * (result.phi0[rows, None] + result.phi1[rows, None] * model.nu_hz))[:, None]
    fitted = result.c[rows, :, None] * model.basis * decay

    def shown(signals: np.ndarray) -> np.ndarray:
        return spectra.to_spectrum(signals)[..., window] * phase  # common factors cancel in the ratio

    cells, n = fitted.shape[:2]
    widest = np.repeat(2 * voigt_fwhm_hz(gamma, sigma).max(axis=1), n)  # in points, as FSL-MRS has it
    hz_per_point = 1 / (model.dwell_s * n_points)
    plain = shown(fitted)
    fwhm = peak_fwhm_hz(plain.reshape(cells * n, -1), widest, hz_per_point).reshape(cells, n)
    narrowest = fwhm.min(axis=1)
    apodised = narrowest > 0
    height = np.abs(plain.real).max(axis=2)
    apodisation = np.exp(-narrowest[:, None] * t)
    if apodised.any():
        again = spectra.to_spectrum(fitted[apodised] * apodisation[apodised, None])[..., window] * phase[apodised]
        height[apodised] = np.abs(again.real).max(axis=2)
    noise = noise_points(spectra.to_spectrum(fids), ppm)
    smooth = spectra.to_spectrum(fids * apodisation).real
    sd = np.array([np.std(detrend(spectrum[where])) for spectrum, where in zip(smooth, noise, strict=True)])
    return np.divide(height, np.sqrt(2) * sd[:, None], out=np.zeros_like(height), where=sd[:, None] > 0), fwhm
