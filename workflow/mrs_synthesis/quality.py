"""Signal quality of averaged spectra, each metric by a published definition and named after it.

``challenge_...`` is the calculator of the Edited-MRS reconstruction challenge, ISBI 2023 (doi
10.1007/s10334-024-01156-9), in its last version, of 21 January 2023; ``spectrovit_...`` is that of Spectro-ViT (Dias et
al. 2024, arXiv 2311.15386), which won it, where it differs; ``fslmrs_...`` is FSL-MRS 2.4's. With the calculator's
quirks: a region lacks its lowest bin (the end of a falling axis, which a Python slice leaves out); the linewidth lies
between the *outermost* bins above half of the maximum, so that noise can only widen it and smoothing narrows it.

What the metrics cannot see: whether the spectrum is the subject's. Noise is measured where nothing resonates, and a
decoder writes nothing there, so that filling up divides the SD by the number of transients whatever was filled in.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrs_synthesis import spectra

GABA_PPM = (2.8, 3.2)
GLX_PPM = (3.6, 3.9)
MSE_PPM = (2.5, 4.0)
CHALLENGE_NOISE_PPM = (9.8, 10.8)
SPECTROVIT_NOISE_PPM = (10.0, 12.0)
SPECTROVIT_MSE_PPM = (2.79, 4.1)
FIT_PPM = (0.2, 4.2)  # FSL-MRS's default range
TCR_SEARCH_PPM = (2.9, 3.15)
NOISE_FREE = 1e-6  # a noise SD below this fraction of the largest value is rounding, not noise
FEWEST_BINS = 4
FEWEST_NOISE_BINS = 16
ZERO_FILL = 8
DIFFERENCE_METRICS = (
    "challenge_snr",
    "challenge_linewidth_ppm",
    "challenge_linewidth_hz",
    "challenge_shape",
    "challenge_mse",
    "spectrovit_snr",
    "spectrovit_shape",
    "spectrovit_mse",
)


def challenge_region(ppm: np.ndarray, low: float, high: float, fewest: int = FEWEST_BINS) -> slice:
    """Return the bins of `low`-`high` on an increasing `ppm` axis, as the challenge crops them: without the lowest.

    Raises
    ------
    ValueError
        If fewer than `fewest` are left.
    """
    inside = np.flatnonzero((ppm >= low) & (ppm <= high))
    if inside.size <= fewest:
        raise ValueError(f"{inside.size} bins in {low}-{high} ppm: the axis is too short or too coarse")
    return slice(int(inside[0]) + 1, int(inside[-1]) + 1)


def _normalised(x: np.ndarray) -> np.ndarray:
    """Return x (..., n) moved and scaled to 0-1 along its last axis, NaN where it is constant."""
    span = np.ptp(x, axis=-1, keepdims=True)
    return (x - x.min(axis=-1, keepdims=True)) / np.where(span > 0, span, np.nan)


def challenge_mse(x: np.ndarray, y: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return the mean squared difference of real spectra in 2.5-4.0 ppm, each min-max normalised there.

    Parameters
    ----------
    x, y
        Spectra and references, (..., n_points), which broadcast.
    ppm
        Increasing axis, (n_points,).

    Returns
    -------
    numpy.ndarray
        (...,), as of all metrics here.
    """
    region = challenge_region(ppm, *MSE_PPM)
    return np.mean((_normalised(x[..., region]) - _normalised(y[..., region])) ** 2, axis=-1)


def spectrovit_mse(x: np.ndarray, y: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return the mean squared difference of real spectra in 2.79-4.1 ppm, not normalised: in squared units of theirs.

    As Spectro-ViT's evaluation has it (``mse_range="gannet"``); the arguments are those of `challenge_mse`.
    """
    region = challenge_region(ppm, *SPECTROVIT_MSE_PPM)
    return np.mean((x[..., region] - y[..., region]) ** 2, axis=-1)


def challenge_snr(x: np.ndarray, ppm: np.ndarray, noise_ppm: tuple[float, float] = CHALLENGE_NOISE_PPM) -> np.ndarray:
    """Return the maximum of real spectra in 2.8-3.2 ppm over twice their SD in `noise_ppm` after a quadratic fit.

    The sum of squares is divided by n - 1, although the fit takes three degrees of freedom. Spectro-ViT measures noise
    in 10-12 ppm. NaN if the axis lacks that region or the spectrum is noise-free there.
    """
    try:
        noise = challenge_region(ppm, *noise_ppm, fewest=FEWEST_NOISE_BINS)
    except ValueError:
        return np.full(x.shape[:-1], np.nan)
    design = np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, noise.stop - noise.start), 2)
    q, _ = np.linalg.qr(design)
    values = x[..., noise]
    residual = values - (values @ q) @ q.T
    sd = np.sqrt(np.sum(residual**2, axis=-1) / (residual.shape[-1] - 1))
    peak = x[..., challenge_region(ppm, *GABA_PPM)].max(axis=-1)
    return peak / (2 * np.where(sd > NOISE_FREE * np.abs(x).max(axis=-1), sd, np.nan))


def challenge_linewidth(x: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return the ppm between the outermost bins above half of the maximum in 2.8-3.2 ppm, min-max normalised.

    Where no bin on the high side is above half, the calculator stops; here, as in Spectro-ViT, the maximum ends there.
    """
    region = challenge_region(ppm, *GABA_PPM)
    normalised = _normalised(x[..., region])
    above = normalised > 0.5
    first, last = above.argmax(axis=-1), above.shape[-1] - 1 - above[..., ::-1].argmax(axis=-1)
    return np.where(above.any(axis=-1), ppm[region][last] - ppm[region][first], np.nan)


def shape_correlations(x: np.ndarray, y: np.ndarray, ppm: np.ndarray) -> list[np.ndarray]:
    """Return Pearson's correlation of real spectra in 2.8-3.2 and in 3.6-3.9 ppm, NaN where one is constant."""
    found = []
    for window in (GABA_PPM, GLX_PPM):
        region = challenge_region(ppm, *window)
        u, v = (_normalised(part[..., region]) for part in (x, y))
        u, v = (part - part.mean(axis=-1, keepdims=True) for part in (u, v))
        found.append(np.sum(u * v, axis=-1) / np.sqrt(np.sum(u**2, axis=-1) * np.sum(v**2, axis=-1)))
    return found


def challenge_shape(x: np.ndarray, y: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return 0.6 r(x, y in 2.8-3.2 ppm) + 0.4 r(x, y in 3.6-3.9 ppm), r being Pearson's correlation."""
    gaba, glx = shape_correlations(x, y, ppm)
    return 0.6 * gaba + 0.4 * glx


def spectrovit_shape(x: np.ndarray, y: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return `challenge_shape` with negative correlations set to 0."""
    gaba, glx = (np.maximum(r, 0) for r in shape_correlations(x, y, ppm))
    return 0.6 * gaba + 0.4 * glx


def difference_metrics(x: np.ndarray, y: np.ndarray, ppm: np.ndarray, frequency_mhz: float) -> dict[str, np.ndarray]:
    """Return the metrics of real difference spectra (cells, n_points), `y` (n_points,) being the reference."""
    width = challenge_linewidth(x, ppm)
    values = (
        challenge_snr(x, ppm),
        width,
        width * frequency_mhz,
        challenge_shape(x, y, ppm),
        challenge_mse(x, y, ppm),
        challenge_snr(x, ppm, SPECTROVIT_NOISE_PPM),
        spectrovit_shape(x, y, ppm),
        spectrovit_mse(x, y, ppm),
    )
    return dict(zip(DIFFERENCE_METRICS, values, strict=True))


def fslmrs_snr(fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return FSL-MRS's SNR of whole spectra: max |Re| in 0.2-4.2 ppm over sqrt(2) SD(Re) of the noise.

    Noise are the points below -2 and above 10 ppm or, where Levene's test finds the outer quarters of the bandwidth
    different (oversampling), what `lcm_quality.noise_points` says. It is not detrended, so that tails of the signal and
    of water bound this SNR. The window ends before the bin nearest to 4.2 ppm. NaN if there is no noise.

    Parameters
    ----------
    fids
        (cells, n_points).
    dwell_s, frequency_mhz
        Acquisition.

    Returns
    -------
    numpy.ndarray
        (cells,).
    """
    from mrs_synthesis.lcm_quality import noise_points

    n = fids.shape[-1]
    ppm = np.linspace(-0.5 / dwell_s, 0.5 / dwell_s, n) / frequency_mhz + spectra.WATER_PPM  # FSL-MRS's own axis
    spectrum = spectra.to_spectrum(fids)
    first, last = (int(np.argmin(np.abs(ppm - end))) for end in FIT_PPM)
    height = np.abs(spectrum.real[:, first:last]).max(axis=1)
    noise = noise_points(spectrum, ppm)
    sd = np.sqrt(2) * np.array([row[where].std() for row, where in zip(spectrum.real, noise, strict=True)])
    return height / np.where(sd > NOISE_FREE * np.abs(spectrum.real).max(axis=1), sd, np.nan)


def noise_sd(fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the noise SD of `spectra.noise_sd`, NaN where there is no region to measure it in, or no noise."""
    try:
        sd = np.asarray(spectra.noise_sd(fids, dwell_s, frequency_mhz))
    except ValueError:
        return np.full(fids.shape[:-1], np.nan)
    return np.where(sd > NOISE_FREE * np.abs(fids).max(axis=-1), sd, np.nan)


def tcr_snr_and_fwhm(
    fids: np.ndarray, noise: np.ndarray, dwell_s: float, frequency_mhz: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return tCr's SNR and full width at half maximum in Hz, (cells,) each, from unedited or edit-OFF FIDs.

    SNR is the maximum of the real spectrum in 2.9-3.15 ppm over the noise SD of the real spectrum (one SD, not two).
    The width lies between the nearest half-height crossings, without a baseline, on an 8-fold zero-filled spectrum;
    NaN if the line has no half-height crossing on one side.

    Parameters
    ----------
    fids
        (cells, n_points).
    noise
        `noise_sd` of them, (cells,).
    dwell_s, frequency_mhz
        Acquisition.
    """
    cells, n = fids.shape
    spectrum = spectra.to_spectrum(np.concatenate([fids, np.zeros((cells, (ZERO_FILL - 1) * n))], axis=1)).real
    ppm = spectra.ppm_axis(ZERO_FILL * n, dwell_s, frequency_mhz)
    inside = np.flatnonzero((ppm >= TCR_SEARCH_PPM[0]) & (ppm <= TCR_SEARCH_PPM[1]))
    if inside.size == 0:
        return np.full(cells, np.nan), np.full(cells, np.nan)
    row, index = np.arange(cells), np.arange(ppm.size)
    top = inside[spectrum[:, inside].argmax(axis=1)]
    height = spectrum[row, top]
    half = height / 2
    below = spectrum < half[:, None]
    left = np.where(below & (index < top[:, None]), index, -1).max(axis=1)
    right = np.where(below & (index > top[:, None]), index, ppm.size).min(axis=1)
    found = (height > 0) & (left >= 0) & (right < ppm.size)
    left, right = np.where(found, left, 0), np.where(found, right, 1)

    def crossing(outside: np.ndarray, step: int) -> np.ndarray:
        low, high = spectrum[row, outside], spectrum[row, outside + step]
        with np.errstate(divide="ignore", invalid="ignore"):
            return outside + step * (half - low) / (high - low)

    width = (crossing(right, -1) - crossing(left, 1)) / (ZERO_FILL * n * dwell_s)
    return height / (noise * np.sqrt(n)), np.where(found, width, np.nan)


def cells_quality(
    fids: np.ndarray,
    reference: np.ndarray,
    share: np.ndarray,
    conditions: Sequence[str],
    dwell_s: float,
    frequency_mhz: float,
) -> dict[str, np.ndarray]:
    """Return the columns that the spectra of the cells give.

    Parameters
    ----------
    fids, reference
        The cells, (conditions, cells, n_points), and the scan's reference, (conditions, n_points).
    share
        What the noise SD of each cell would be, over the reference's, if all its transients were real, (cells,).
    conditions
        ("OFF", "ON") or ("UNEDITED",).
    dwell_s, frequency_mhz
        Acquisition.

    Returns
    -------
    dict
        Columns (cells,): those of `difference_metrics` (NaN if unedited); of each condition, DIFF included, FSL-MRS's
        SNR, the noise SD and its ratio to the expected one; tCr's SNR and width in OFF or UNEDITED.
    """
    axis = (dwell_s, frequency_mhz)
    signals = {name: (fids[i], reference[i]) for i, name in enumerate(conditions)}
    columns = {name: np.full(fids.shape[1], np.nan) for name in DIFFERENCE_METRICS}
    if "ON" in signals:
        signals["DIFF"] = tuple(on - off for off, on in zip(signals["OFF"], signals["ON"], strict=True))
        x, y = (spectra.to_spectrum(part).real for part in signals["DIFF"])
        columns |= difference_metrics(x, y, spectra.ppm_axis(fids.shape[-1], *axis), frequency_mhz)
    for name, (cells, own) in signals.items():
        suffix, noise = name.lower(), noise_sd(cells, *axis)
        columns[f"fslmrs_snr_{suffix}"] = fslmrs_snr(cells, *axis)
        if name in ("OFF", "UNEDITED"):
            columns[f"tcr_snr_{suffix}"], columns[f"tcr_fwhm_hz_{suffix}"] = tcr_snr_and_fwhm(cells, noise, *axis)
        columns[f"noise_sd_{suffix}"] = noise
        columns[f"noise_ratio_{suffix}"] = noise / (noise_sd(own[None], *axis) * share)
    return columns
