"""Null controls: fillings of a study cell that know nothing of the subject beyond its few real transients.

A generative model is worth something only where it beats these. All statistics come from training subjects.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrs_synthesis.assemble import window_spectra
from mrs_synthesis.spectra import from_window
from mrs_synthesis.stage import InputError, require
from mrs_synthesis.training_set import RowFile

CONTROLS = ("duplicated", "population_mean", "population_mean_noisy", "shrinkage", "low_rank")
PCA_ROWS = 1024  # transients per condition that the components are computed from


@dataclass(frozen=True)
class Population:
    """What training transients tell about a new subject, in units of a subject's scale, per edit condition.

    Attributes
    ----------
    ppm
        Window's chemical shifts, shape (W,).
    mean
        Mean over subjects of the subjects' mean spectra, shape (conditions, W).
    between, within
        Variance between the subjects' true means, and between the transients of one subject, summed over the window;
        shape (conditions,). Both unbiased, `between` not below zero.
    components
        Orthonormal principal components above the noise, one array of shape (k, W) per condition.
    n_subjects
        Number of training subjects.
    """

    ppm: np.ndarray
    mean: np.ndarray
    between: np.ndarray
    within: np.ndarray
    components: tuple[np.ndarray, ...]
    n_subjects: int

    def weight(self, n_real: int) -> np.ndarray:
        """Return the best weight of the mean of `n_real` transients against the population mean, per condition.

        ``between / (between + within / n_real)`` minimises the expected squared error, summed over the window, among
        all scalar weights. With one training subject `between` cannot be known, and is 0.
        """
        total = self.between + self.within / n_real
        return np.divide(self.between, total, out=np.ones_like(total), where=total > 0)


def hard_threshold(n_rows: int, n_columns: int, variance: float) -> float:
    """Return the optimal hard threshold for singular values in white noise of known variance per entry.

    Gavish & Donoho, IEEE Trans Inf Theory 60:5040 (2014): ``lambda(beta) sqrt(n) sigma`` with beta = m / n <= 1, where
    lambda is 4 / sqrt(3) for a square matrix.
    """
    n = max(n_rows, n_columns)
    beta = min(n_rows, n_columns) / n
    factor = np.sqrt(2 * (beta + 1) + 8 * beta / ((beta + 1) + np.sqrt(beta**2 + 14 * beta + 1)))
    return float(factor * np.sqrt(n * variance))


def principal_components(rows: np.ndarray, variance: float) -> np.ndarray:
    """Return the orthonormal components, shape (k, W), of centred complex `rows` above the hard threshold.

    Parameters
    ----------
    rows
        Shape (n, W), centred.
    variance
        Complex noise variance of one entry.
    """
    from scipy.linalg import eigh

    n, width = rows.shape
    limit = hard_threshold(n, width, variance) ** 2
    # The smaller Gram matrix, and of its eigenvectors only those above the threshold: a fraction of an SVD's time.
    if n < width:
        values, vectors = eigh(rows @ rows.conj().T, subset_by_value=(limit, np.inf))
        return (vectors.conj().T @ rows) / np.sqrt(values)[:, None]
    _, vectors = eigh(rows.conj().T @ rows, subset_by_value=(limit, np.inf))
    return vectors.conj().T


def read_population(training: Path, n_components_from: int = PCA_ROWS) -> Population:
    """Compute the population statistics from the rows of the split "train", one subject in memory at a time.

    All scans of a shard ask for the same ones, which take the longer the more subjects there are: they are kept.

    Raises
    ------
    InputError
        If there is no such row, or no subject has two transients.
    """
    files = [Path(training) / name for name in ("grid.json", "index.tsv", "spectra.npy")]
    states = tuple(
        (about.st_ino, about.st_size, about.st_mtime_ns) for about in (require(file).stat() for file in files)
    )
    return _population(Path(training), n_components_from, states)


@functools.lru_cache(maxsize=1)
def _population(training: Path, n_components_from: int, _states: tuple) -> Population:
    import json

    from mrs_synthesis.files import read_table

    grid = json.loads((training / "grid.json").read_text())
    index = read_table(training / "index.tsv", ("row", "unit", "subject", "condition", "split", "scale", "noise_sd"))
    index = index[index["split"] == "train"]
    if index.empty:
        raise InputError(f"{training}/index.tsv: no row of split train, which the population controls need")
    data = RowFile(training / "spectra.npy")
    results = [
        _condition_statistics(data, rows, grid["n_points"], n_components_from)
        for rows in (index[index["condition"] == condition] for condition in grid["conditions"])
    ]
    if not all(np.isfinite(within) for _, _, within, _ in results):
        raise InputError(
            f"{training}/index.tsv: every training subject has one transient, so the noise between transients is "
            "unknown; use the design `reconstruction`"
        )
    mean, between, within, components = zip(*results, strict=True)
    return Population(
        np.array(grid["ppm"]),
        np.array(mean),
        np.array(between),
        np.array(within),
        tuple(components),
        index["subject"].nunique(),
    )


def _condition_statistics(data, rows, n_points: int, n_components_from: int):
    means, weights, squares, freedom = [], [], 0.0, 0
    for _, subject in rows.groupby("subject", sort=True):
        values = np.asarray(data[np.sort(subject["row"].to_numpy())], dtype=np.complex128)
        means.append(values.mean(axis=0))
        weights.append(1.0 / len(values))
        squares += np.sum(np.abs(values - means[-1]) ** 2)
        freedom += len(values) - 1
    means = np.array(means)
    mean = means.mean(axis=0)
    within = squares / freedom if freedom else float("nan")
    between = 0.0
    if len(means) > 1:
        spread = np.sum(np.abs(means - mean) ** 2) / (len(means) - 1)
        between = max(0.0, float(spread - within * np.mean(weights)))
    chosen = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, min(len(rows), n_components_from)).astype(int))]
    # A spectral bin is a sum over the FID's points, each with variance 2 sd^2; rows are divided by the scale.
    variance = float(np.mean(2 * n_points * (chosen["noise_sd"] / chosen["scale"]) ** 2))
    centred = np.asarray(data[np.sort(chosen["row"].to_numpy())], dtype=np.complex128) - mean
    return mean, between, within, principal_components(centred, variance)


def population_fid(population: Population, scale: float, n_points: int, dwell_s: float, frequency_mhz: float):
    """Return FIDs, shape (conditions, n_points), of the population mean times `scale`, zero outside the window."""
    return from_window(scale * population.mean, population.ppm, n_points, dwell_s, frequency_mhz)


def shrunken(
    real: np.ndarray, n_real: int, scale: float, population: Population, dwell_s: float, frequency_mhz: float
) -> np.ndarray:
    """Return ``w real + (1 - w) population mean``, shape (conditions, n_points); outside the window ``w real``.

    Parameters
    ----------
    real
        Mean FID of `n_real` transients, shape (conditions, n_points).
    scale
        Scale of these transients.
    """
    w = population.weight(n_real)[:, None]
    return w * real + (1 - w) * population_fid(population, scale, real.shape[-1], dwell_s, frequency_mhz)


def low_rank(
    real: np.ndarray, scale: float, population: Population, dwell_s: float, frequency_mhz: float
) -> np.ndarray:
    """Return `real` projected on the population's mean and components inside the window.

    Outside the window `real` is multiplied by sqrt(k / W), the share of white noise that survives a projection on k of
    W dimensions, so that noise measured outside stands for the noise inside.

    Parameters
    ----------
    real
        Mean FID of the real transients, shape (conditions, n_points).
    scale
        Scale of these transients.
    """
    spectrum = window_spectra(real, population.ppm, dwell_s, frequency_mhz)
    result = np.empty_like(real)
    for c, components in enumerate(population.components):
        centred = spectrum[c] / scale - population.mean[c]
        projected = scale * (population.mean[c] + (centred @ components.conj().T) @ components)
        outside = np.sqrt(len(components) / population.ppm.size)
        change = projected - outside * spectrum[c]
        result[c] = outside * real[c] + from_window(change, population.ppm, real.shape[-1], dwell_s, frequency_mhz)
    return result
