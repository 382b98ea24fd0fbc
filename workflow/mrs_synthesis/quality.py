"""Signal quality of averaged spectra: the metrics of the ISBI 2023 challenge, FSL-MRS's SNR, and tCr's SNR and width.

The challenge metrics follow the published calculator of the Edited-MRS reconstruction challenge, ISBI 2023 (doi
10.1007/s10334-024-01156-9), with its quirks: a region leaves out its lowest bin (the calculator crops a falling axis
without its right end); the linewidth is the distance between the *outermost* bins above half of the maximum, so noise
can only widen it; noise is measured in 9.8-10.8 ppm (others use 10-12 ppm). The mean squared error is that of min-max
normalised spectra, as in the tutorial; one version of the calculator leaves out the normalisation.
"""

from __future__ import annotations

import numpy as np

from mrs_synthesis import spectra

GABA_PPM = (2.8, 3.2)
GLX_PPM = (3.6, 3.9)
MSE_PPM = (2.5, 4.0)
CHALLENGE_NOISE_PPM = (9.8, 10.8)
FIT_PPM = (0.2, 4.2)  # FSL-MRS's default range
TCR_SEARCH_PPM = (2.9, 3.15)
NOISE_FREE = 1e-6  # a noise SD below this fraction of the largest value is rounding, not noise
ZERO_FILL = 8


def challenge_region(ppm: np.ndarray, low: float, high: float) -> slice:
    """Return the bins of `low`-`high` on an increasing `ppm` axis, as the challenge crops them: without the lowest."""
    inside = np.flatnonzero((ppm >= low) & (ppm <= high))
    if inside.size < 4:
        raise ValueError(f"{inside.size} bins in {low}-{high} ppm: the axis is too short or too coarse")
    return slice(int(inside[0]) + 1, int(inside[-1]) + 1)


def _normalised(spectrum: np.ndarray) -> np.ndarray:
    span = spectrum.max() - spectrum.min()
    return (spectrum - spectrum.min()) / span if span > 0 else np.full_like(spectrum, np.nan)


def challenge_mse(x: np.ndarray, y: np.ndarray, ppm: np.ndarray) -> float:
    """Return the mean squared difference of real spectra `x` and `y` in 2.5-4.0 ppm, each min-max normalised there."""
    region = challenge_region(ppm, *MSE_PPM)
    return float(np.mean((_normalised(x[region]) - _normalised(y[region])) ** 2))


def challenge_snr(x: np.ndarray, ppm: np.ndarray) -> float:
    """Return the maximum in 2.8-3.2 ppm over twice the SD in 9.8-10.8 ppm after a quadratic fit (n - 1 in the SD).

    NaN if the axis does not reach that region or the spectrum is noise-free there.
    """
    try:
        noise = challenge_region(ppm, *CHALLENGE_NOISE_PPM)
    except ValueError:
        return float("nan")
    position = ppm[noise] - np.mean(CHALLENGE_NOISE_PPM)
    residual = x[noise] - np.polyval(np.polyfit(position, x[noise], 2), position)
    sd = np.sqrt(np.sum(residual**2) / (residual.size - 1))
    peak = x[challenge_region(ppm, *GABA_PPM)].max()
    return float(peak / (2 * sd)) if sd > NOISE_FREE * np.abs(x).max() else float("nan")


def challenge_linewidth(x: np.ndarray, ppm: np.ndarray) -> float:
    """Return the distance in ppm of the outermost bins above half of the maximum in 2.8-3.2 ppm, min-max normalised."""
    region = challenge_region(ppm, *GABA_PPM)
    above = np.flatnonzero(_normalised(x[region]) > 0.5)
    return float(ppm[region][above[-1]] - ppm[region][above[0]]) if above.size else float("nan")


def challenge_shape(x: np.ndarray, y: np.ndarray, ppm: np.ndarray) -> float:
    """Return 0.6 r(x, y in 2.8-3.2 ppm) + 0.4 r(x, y in 3.6-3.9 ppm), r being Pearson's correlation."""
    score = 0.0
    for weight, window in ((0.6, GABA_PPM), (0.4, GLX_PPM)):
        region = challenge_region(ppm, *window)
        if np.ptp(x[region]) == 0 or np.ptp(y[region]) == 0:
            return float("nan")
        score += weight * np.corrcoef(x[region], y[region])[0, 1]
    return float(score)


def fslmrs_snr(spectrum: np.ndarray, ppm: np.ndarray) -> float:
    """Return FSL-MRS's whole-spectrum SNR: max |Re| in 0.2-4.2 ppm over sqrt(2) SD(Re) below -2 and above 10 ppm.

    The noise is not detrended, so tails of the signal and of water bound this SNR. NaN if there is no noise.
    """
    noise = (ppm < -2.0) | (ppm > 10.0)
    if np.count_nonzero(noise) < 50:
        return float("nan")
    sd = np.sqrt(2.0) * spectrum.real[noise].std()
    inside = (ppm > FIT_PPM[0]) & (ppm < FIT_PPM[1])
    if not sd > NOISE_FREE * np.abs(spectrum.real).max():
        return float("nan")
    return float(np.abs(spectrum.real[inside]).max() / sd)


def noise_sd(fid: np.ndarray, dwell_s: float, frequency_mhz: float) -> float:
    """Return the noise SD of `spectra.noise_sd`, NaN where there is no region to measure it in, or no noise."""
    try:
        sd = float(spectra.noise_sd(fid, dwell_s, frequency_mhz))
    except ValueError:
        return float("nan")
    return sd if sd > NOISE_FREE * np.abs(fid).max() else float("nan")


def tcr_snr_and_fwhm(fid: np.ndarray, dwell_s: float, frequency_mhz: float) -> tuple[float, float]:
    """Return tCr's SNR and full width at half maximum in Hz, from an unedited or edit-OFF FID of shape (n_points,).

    SNR is the maximum of the real spectrum in 2.9-3.15 ppm over the noise SD of the real spectrum (one SD, not two).
    The width lies between the nearest half-height crossings, without a baseline, on an 8-fold zero-filled spectrum;
    NaN if the line has no half-height crossing on one side.
    """
    n = fid.shape[-1]
    spectrum = spectra.to_spectrum(np.concatenate([fid, np.zeros((ZERO_FILL - 1) * n)])).real
    ppm = spectra.ppm_axis(ZERO_FILL * n, dwell_s, frequency_mhz)
    inside = np.flatnonzero((ppm >= TCR_SEARCH_PPM[0]) & (ppm <= TCR_SEARCH_PPM[1]))
    if inside.size == 0:
        return float("nan"), float("nan")
    top = int(inside[np.argmax(spectrum[inside])])
    half = spectrum[top] / 2
    snr = float(spectrum[top] / (noise_sd(fid, dwell_s, frequency_mhz) * np.sqrt(n)))
    below_left = np.flatnonzero(spectrum[:top] < half)
    below_right = np.flatnonzero(spectrum[top:] < half)
    if spectrum[top] <= 0 or not below_left.size or not below_right.size:
        return snr, float("nan")
    left, right = int(below_left[-1]), top + int(below_right[0])
    start = left + (half - spectrum[left]) / (spectrum[left + 1] - spectrum[left])
    stop = right - (half - spectrum[right]) / (spectrum[right - 1] - spectrum[right])
    return snr, float((stop - start) / (ZERO_FILL * n * dwell_s))


def cell_quality(
    fids: np.ndarray, reference: np.ndarray, dwell_s: float, frequency_mhz: float, expected_noise_sd: float
) -> dict[str, float]:
    """Return the quality columns of one cell.

    Parameters
    ----------
    fids, reference
        The cell and the subject's reference, shape (conditions, n_points); two conditions mean OFF and ON.
    dwell_s, frequency_mhz
        Acquisition.
    expected_noise_sd
        What the noise SD of the first condition would be if all `n_total` transients were real and independent.

    Returns
    -------
    dict
        Challenge metrics of the real difference spectrum (NaN if unedited), and for the first condition (OFF or
        UNEDITED) fslmrs_snr, tcr_snr, tcr_fwhm_hz, noise_sd, noise_ratio.
    """
    ppm = spectra.ppm_axis(fids.shape[-1], dwell_s, frequency_mhz)
    columns = dict.fromkeys(
        ("challenge_snr", "challenge_linewidth_ppm", "challenge_shape", "challenge_mse", "fslmrs_snr_diff"),
        float("nan"),
    )
    if fids.shape[0] == 2:
        x, y = (spectra.to_spectrum(f[1] - f[0]) for f in (fids, reference))
        columns.update(
            challenge_snr=challenge_snr(x.real, ppm),
            challenge_linewidth_ppm=challenge_linewidth(x.real, ppm),
            challenge_shape=challenge_shape(x.real, y.real, ppm),
            challenge_mse=challenge_mse(x.real, y.real, ppm),
            fslmrs_snr_diff=fslmrs_snr(x, ppm),
        )
    columns["fslmrs_snr"] = fslmrs_snr(spectra.to_spectrum(fids[0]), ppm)
    columns["tcr_snr"], columns["tcr_fwhm_hz"] = tcr_snr_and_fwhm(fids[0], dwell_s, frequency_mhz)
    columns["noise_sd"] = noise_sd(fids[0], dwell_s, frequency_mhz)
    columns["noise_ratio"] = columns["noise_sd"] / expected_noise_sd
    return columns
