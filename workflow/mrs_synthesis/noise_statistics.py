"""What the noise of a block of transients is like: level, colour, circularity, independence, averaging.

Noise is read in

free
    the signal-free ends of the spectrum (below -2 and above 10 ppm), a quadratic removed from each;
window
    0.2 to 4.2 ppm, late in the FIDs (six to nine tenths of their duration), where the metabolites' signals have
    decayed, so that signals that vary between transients do not count as noise. Bands are cut out of the spectrum with
    a tapered edge, since a sharp one would ring over the whole duration;
fid
    the same part of the FIDs themselves, over the whole bandwidth.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.stage import SkippedError

WINDOW = (0.2, 4.2)  # ppm
PARTS = 4  # bands of the window, beside the two signal-free ends
LATE = (0.6, 0.9)  # of the FID's duration; the very end can hold what a window's sharp edge wraps around
LAGS = 20  # bins, for the spectral correlation length
SILENT = 1e-3  # of the real noise SD; below this there is no noise whose shape could be told

Values = dict[str, float | dict[int, float]]  # of a block: a number, or a curve over the number of averaged transients


class Noise:
    """The noise of one block of transients, in the places that the module's text names.

    Parameters
    ----------
    fids
        Shape (transients, points), in the order of acquisition.
    dwell_s, frequency_mhz
        Of the scan.

    Attributes
    ----------
    free
        Detrended residuals of each signal-free end of the spectrum, shapes (transients, bins).
    ends
        Both of them, shape (transients, bins).
    window
        The window's late noise, shape (transients, samples).
    bands
        SD of the late noise of each signal-free end and of each part of the window, by differences.
    late_free
        That of the signal-free ends together.
    fid
        Late part of the FIDs, differences between successive transients, shape (transients - 1, samples).
    levels
        Noise SD in the free region; in the window by differences of whole spectra, and of the late noise.

    Raises
    ------
    SkippedError
        If the spectral width leaves no signal-free region.
    """

    def __init__(self, fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> None:
        spectrum = spectra.to_spectrum(fids)
        ppm = spectra.ppm_axis(fids.shape[-1], dwell_s, frequency_mhz)
        self.free = free_residuals(spectrum, ppm)
        self.ends = np.concatenate(self.free, axis=1)
        self.window = late_noise(spectrum[:, within(ppm, WINDOW)])
        self.fid = differences(fids[:, late_part(fids.shape[-1])])
        edges = np.linspace(*WINDOW, PARTS + 1)
        parts = [within(ppm, part) for part in itertools.pairwise(edges)]
        ends = [end for end in (within(ppm, end) for end in spectra.NOISE_PPM) if end.sum() >= 4 * LAGS]
        sds = [sd(differences(late_noise(spectrum[:, band]))) for band in [*ends, *parts]]
        self.bands = np.array(sds)
        self.late_free = float(np.sqrt(np.mean(np.square(sds[: len(ends)]))))
        self.levels = {
            "sd_ratio_free": sd(self.ends),
            "sd_ratio_window": sd(differences(spectrum[:, within(ppm, WINDOW)])),
            "sd_ratio_window_late": sd(differences(self.window)),
        }


def within(ppm: np.ndarray, limits: tuple[float, float]) -> np.ndarray:
    """Return which bins lie between two ppm values."""
    return (ppm > limits[0]) & (ppm < limits[1])


def sd(values: np.ndarray) -> float:
    """Return the SD of a real part of complex noise of zero mean, both parts pooled."""
    return float(np.sqrt(np.mean(np.abs(values) ** 2) / 2.0))


def differences(values: np.ndarray) -> np.ndarray:
    """Return differences between successive rows over sqrt(2): of independent noise, its SD."""
    return np.diff(values, axis=0) / np.sqrt(2.0)


def late_part(n_points: int) -> slice:
    """Return which of a FID's points are late."""
    return slice(int(LATE[0] * n_points), int(LATE[1] * n_points))


def late_noise(band: np.ndarray) -> np.ndarray:
    """Return the late samples of a band of spectra (transients, bins), white noise scaled to the SD of its bins."""
    bins = band.shape[1]
    edge = np.minimum(np.arange(bins) + 0.5, bins - np.arange(bins) - 0.5) / (bins / 4)
    taper = np.sin(np.pi / 2 * np.minimum(edge, 1.0)) ** 2
    # The phase that fftshift would change is constant over the transients, and does not matter here.
    samples = np.fft.ifft(band * taper, axis=1) * bins / np.sqrt(np.sum(taper**2))
    return samples[:, late_part(bins)]


def free_residuals(spectrum: np.ndarray, ppm: np.ndarray) -> list[np.ndarray]:
    """Return the signal-free ends of spectra (transients, bins) after removing a quadratic from each end."""
    residuals = []
    for limits in spectra.NOISE_PPM:
        part = spectrum[:, within(ppm, limits)]
        bins = part.shape[1]
        if bins < 4 * LAGS:
            continue
        q, _ = np.linalg.qr(np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, bins), 2))
        residuals.append((part - (part @ q) @ q.T) * np.sqrt(bins / (bins - q.shape[1])))
    if not residuals:
        raise SkippedError("the spectral width leaves no signal-free region below -2 and above 10 ppm")
    return residuals


def correlation_length(parts: Sequence[np.ndarray]) -> float:
    """Return ``1 + 2 sum |r_k|^2`` in bins, r_k the correlation of noise k bins apart, k up to `LAGS`; 1 if white.

    By this factor an estimate of the variance has fewer degrees of freedom than bins (Bartlett, J R Stat Soc Suppl
    1946;8:27). All transients and parts count together.
    """
    power = sum(np.sum(np.abs(part) ** 2) for part in parts) / sum(part.size for part in parts)
    total = 1.0
    for lag in range(1, LAGS + 1):
        products = sum(np.vdot(part[:, :-lag], part[:, lag:]) for part in parts)
        pairs = sum(part[:, lag:].size for part in parts)
        total += 2.0 * abs(products / pairs / power) ** 2
    return float(total)


def pair_correlations(values: np.ndarray) -> np.ndarray:
    """Return the correlation (real part) of the noise of every two transients, from rows of complex noise."""
    rows = values / np.linalg.norm(values, axis=1, keepdims=True)
    return (rows @ rows.conj().T).real[np.triu_indices(len(rows), 1)]


def parts_correlation(values: np.ndarray) -> float:
    """Return the correlation of the real with the imaginary part of noise of zero mean."""
    return float(np.mean(values.real * values.imag) / np.sqrt(np.mean(values.real**2) * np.mean(values.imag**2)))


def parts_ratio(values: np.ndarray) -> float:
    """Return the SD of the real over that of the imaginary part of noise of zero mean."""
    return float(np.sqrt(np.mean(values.real**2) / np.mean(values.imag**2)))


def averaging_curve(values: np.ndarray, sizes: Sequence[int]) -> dict[int, float]:
    """Return ``SD(n) sqrt(n) / SD(1)`` by n; SD(n) is that of means of n successive rows; 1 for independent rows.

    As many disjoint means count as there are rows for.
    """
    single, curve = sd(values), {}
    for n in sizes:
        groups = len(values) // n
        means = values[: groups * n].reshape(groups, n, -1).mean(axis=1)
        curve[n] = sd(means) * float(np.sqrt(n)) / single
    return curve


def sizes_up_to(most: int, last: bool) -> list[int]:
    """Return 1, 2, 4, ... up to `most`, and `most` itself if it is to be the `last`."""
    powers = [2**k for k in range(most.bit_length()) if 2**k <= most]
    return sorted({*powers, most}) if last else powers


def shape_values(noise: Noise, real: Mapping[str, float], n_pairs: int, sizes: Sequence[int]) -> Values:
    """Return what one block's noise is like, apart from its level.

    Parameters
    ----------
    noise
        The block.
    real
        `Noise.levels` of the real transients; where a block has next to no noise beside them, it has no shape.
    n_pairs
        So many transients enter the largest correlation, which grows with their number.
    sizes
        Numbers of transients to average.
    """
    values: Values = {}
    if noise.levels["sd_ratio_free"] > SILENT * real["sd_ratio_free"]:
        values |= {
            "correlation_length_free": correlation_length(noise.free),
            "real_to_imaginary_free": parts_ratio(noise.ends),
            "correlation_real_imaginary_free": parts_correlation(noise.ends),
            "correlation_transients_free": float(np.mean(pair_correlations(noise.ends))),
            "correlation_transients_largest": float(np.max(np.abs(pair_correlations(noise.ends[:n_pairs])))),
            "averaging_free": averaging_curve(noise.ends, sizes),
        }
    if sd(noise.window) > SILENT * real["sd_ratio_window_late"]:
        values |= {
            "correlation_transients_window": float(np.mean(pair_correlations(noise.window))),
            "averaging_window": averaging_curve(noise.window, sizes),
        }
    if noise.levels["sd_ratio_window_late"] > SILENT * real["sd_ratio_window_late"]:  # by differences: no copies
        values |= {
            "band_sd_lowest_to_highest": float(noise.bands.min() / noise.bands.max()),
            "real_to_imaginary_fid": parts_ratio(noise.fid),
            "correlation_real_imaginary_fid": parts_correlation(noise.fid),
        }
        if noise.bands.min() > SILENT * noise.bands.max():
            values["sd_window_to_free"] = noise.levels["sd_ratio_window_late"] / noise.late_free
    return values


def real_values(fids: np.ndarray, dwell_s: float, frequency_mhz: float, n_pairs: int) -> tuple[dict, list[Values]]:
    """Return the noise SDs of held-out real transients (transients, points), and their values as a source."""
    whole = Noise(fids, dwell_s, frequency_mhz)
    one, other = (Noise(fids[start::2], dwell_s, frequency_mhz).levels for start in (0, 1))
    shape = shape_values(whole, whole.levels, n_pairs, sizes_up_to(len(fids), last=False))
    return whole.levels, [{name: one[name] / other[name] for name in one} | shape]


def synthetic_values(
    blocks: Sequence[np.ndarray], dwell_s: float, frequency_mhz: float, real: Mapping[str, float], n_pairs: int
) -> list[Values]:
    """Return the values of synthetic transients, one dictionary per block (transients, points)."""
    found = []
    for fids in blocks:
        noise = Noise(fids, dwell_s, frequency_mhz)
        ratios = {name: value / real[name] for name, value in noise.levels.items()}
        found.append(ratios | shape_values(noise, real, n_pairs, sizes_up_to(len(fids), last=True)))
    return found
