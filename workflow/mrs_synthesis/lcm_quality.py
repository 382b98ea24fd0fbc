"""Line width and signal-to-noise ratio of each metabolite in a fit, by the definitions of FSL-MRS 2.4."""

from __future__ import annotations

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.lcm_model import Model

PROMINENCE = 0.4
DETREND_ORDER = 4
FEWEST_NOISE_POINTS = 100
OVERSAMPLING_P = 0.05


def voigt_fwhm_hz(gamma: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Return the full width at half maximum of the decay exp(-(gamma + t sigma^2) t), by Olivero and Longbothum."""
    lorentz, gauss = gamma / np.pi, sigma * 2 * np.sqrt(np.log(2)) / np.pi
    return 0.5346 * lorentz + np.sqrt(0.2166 * lorentz**2 + gauss**2)


def noise_points(spectrum: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return which points of one spectrum (n_points,) FSL-MRS takes for noise.

    Those below -2 and above 10 ppm; with fewer than 100 of them, the outermost 50 on each side as well. Against
    oversampled receivers it compares (Levene's test, p < 0.05) noise in the outer quarters of the bandwidth with the
    points that are either noise or in the outer quarters, but not both, and takes the latter if they differ. At usual
    bandwidths these are the quarters' inner parts, next to the metabolites, and it does take them.
    """
    from scipy.stats import levene

    sides = (ppm <= -2, ppm >= 10)
    noise = sides[0] | sides[1]
    n = ppm.size
    if noise.sum() < FEWEST_NOISE_POINTS:
        noise[:50] = noise[-50:] = True
        return noise
    detrended = np.zeros(n)
    for side in sides:
        if side.sum() > DETREND_ORDER:
            detrended[side] = detrend(spectrum.real[side])
    outer = np.zeros(n, bool)
    outer[: n // 4] = outer[n - n // 4 :] = True
    either = noise ^ outer
    if min((noise & outer).sum(), either.sum()) > 2:
        p = levene(detrended[noise & outer], detrended[either], center="mean").pvalue
        return either if p < OVERSAMPLING_P else noise
    return noise


def detrend(values: np.ndarray) -> np.ndarray:
    """Return values minus their least-squares polynomial of order 4."""
    design = np.polynomial.legendre.legvander(np.linspace(-1, 1, values.size), DETREND_ORDER)
    q, _ = np.linalg.qr(design)
    return values - q @ (q.T @ values)


def peak_fwhm_hz(window: np.ndarray, widest_points: float, hz_per_point: float) -> float:
    """Return the width at half prominence of the most prominent peak of |Re| in a window; 0 if there is none.

    A peak has a prominence of at least 0.4 of the highest point, and is at most `widest_points` wide.
    """
    from scipy.signal import find_peaks

    magnitude = np.abs(window.real)
    highest = magnitude.max()
    if not highest > 0:
        return 0.0
    peaks, facts = find_peaks(magnitude / highest, prominence=PROMINENCE, width=(None, widest_points))
    if peaks.size == 0:
        return 0.0
    return float(facts["widths"][np.argmax(facts["prominences"])] * hz_per_point)


def per_metabolite(
    fid: np.ndarray,
    model: Model,
    c: np.ndarray,
    gamma: np.ndarray,
    sigma: np.ndarray,
    eps: np.ndarray,
    phi0: float,
    phi1: float,
) -> tuple[np.ndarray, np.ndarray]:
    """Return SNR and FWHM in Hz of each fitted metabolite of one spectrum, both (n,).

    SNR: highest |Re| of the fitted basis spectrum in the window, over sqrt(2) SD of the real part of the detrended
    noise of the data, both after exponential apodisation by the smallest FWHM of all metabolites (in Hz, taken as 1/s,
    as FSL-MRS does; 0 if one metabolite has no clear peak). FWHM: see `peak_fwhm_hz`, includes the basis' own width;
    0 where no peak is clear (multiplets).

    Parameters
    ----------
    fid
        The data, scaled as the model, (n_points,).
    model, c, gamma, sigma, eps, phi0, phi1
        The fit: (n,), three times (G,), two numbers.
    """
    t, n_points = model.time_s, model.n_points
    nu = np.linspace(-0.5 / model.dwell_s, 0.5 / model.dwell_s, n_points)
    ppm = nu / model.frequency_mhz + spectra.WATER_PPM
    decay = np.exp(-(gamma[:, None] + sigma[:, None] ** 2 * t + 1j * eps[:, None]) * t)
    # Common factors of the transforms cancel in the ratio
    fitted = spectra.to_spectrum(c[:, None] * model.basis * decay[model.groups]) * np.exp(-1j * (phi0 + phi1 * nu))
    window = slice(model.first, model.last)
    widest = 2 * float(voigt_fwhm_hz(gamma, sigma).max())
    hz_per_point = 1 / (model.dwell_s * n_points)
    fwhm = np.array([peak_fwhm_hz(one[window], widest, hz_per_point) for one in fitted])
    apodisation = np.exp(-fwhm.min() * t)
    noise = noise_points(spectra.to_spectrum(fid), ppm)
    noise_sd = np.std(detrend(spectra.to_spectrum(fid * apodisation).real[noise]))
    apodised = spectra.to_spectrum(spectra.to_fid(fitted) * apodisation)[:, window]
    height = np.abs(apodised.real).max(axis=1)
    snr = np.divide(height, np.sqrt(2) * noise_sd, out=np.zeros_like(height), where=noise_sd > 0)
    return snr, fwhm
