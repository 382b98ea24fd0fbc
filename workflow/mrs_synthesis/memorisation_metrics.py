"""What tells copies from strangers, given distances to the nearest training spectra; see `memorisation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mrs_synthesis import seeds

LEVEL = 0.01  # the quantile of held-out distances below which a synthetic transient counts as nearer
SMALL_AUC = 0.56  # smallest effect that counts: Vargha & Delaney, J Educ Behav Stat 2000
SMALL_CHANGE = 0.02  # smallest relative change of a distance or of NNDR that counts
RESAMPLES = 2000
ROWS = 100  # resamples in memory, each with a weight for every held-out transient


@dataclass
class Group:
    """Spectra (rows, W) of one unit, condition and source, and the known SD of their noise, (rows,), per real part."""

    values: np.ndarray
    noise_sd: np.ndarray


@dataclass
class Compared:
    """Distances (rows, 2) to the two nearest training spectra, one entry per unit."""

    subjects: list[str] = field(default_factory=list)
    synthetic: list[np.ndarray] = field(default_factory=list)
    held_out: list[np.ndarray] = field(default_factory=list)


def raise_noise(group: Group, level: float, rng: np.random.Generator) -> np.ndarray:
    """Return a group's spectra with white noise added, so that its SD becomes `level` where it is lower."""
    lacking = np.sqrt(np.clip(level**2 - group.noise_sd**2, 0, None))[:, None]
    real, imaginary = rng.standard_normal((2, *group.values.shape))
    return group.values + lacking * (real + 1j * imaginary)


def resample(subjects: Sequence[str], seed: int) -> np.ndarray:
    """Return how often each unit counts, (1 + `RESAMPLES`, units): first as it is, then in bootstraps of the subjects.

    A subject's units share its weight. With one subject there are no resamples.
    """
    names, which, units = np.unique(subjects, return_inverse=True, return_counts=True)
    picks = seeds.generator(seed, "memorisation", "bootstrap").integers(len(names), size=(RESAMPLES, len(names)))
    counts = np.array([np.bincount(pick, minlength=len(names)) for pick in picks[: RESAMPLES * (len(names) > 1)]])
    return np.vstack([np.ones(len(names)), *([counts] if len(counts) else [])])[:, which] / units[which]


def weighted_mean(values: Sequence[float], weights: np.ndarray) -> np.ndarray:
    """Return the mean over units (units,) for each row of weights (rows, units)."""
    return weights @ np.asarray(values) / weights.sum(axis=1)


def share_below(synthetic: Sequence[np.ndarray], held_out: Sequence[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """Return, per row of weights, the share of synthetic values below the `LEVEL` quantile of all held-out ones."""
    units = np.repeat(np.arange(len(held_out)), [len(part) for part in held_out])
    values = np.concatenate(held_out)
    order = np.argsort(values)
    each = weights / [len(part) for part in held_out]
    limits = []
    for start in range(0, len(each), ROWS):
        cumulated = np.cumsum(each[start : start + ROWS, units[order]], axis=1)
        limits.append(values[order][np.argmax(cumulated >= LEVEL * cumulated[:, -1:], axis=1)])
    limits = np.concatenate(limits)
    shares = np.stack([np.searchsorted(np.sort(part), limits) / len(part) for part in synthetic], axis=1)
    return np.sum(weights * shares, axis=1) / weights.sum(axis=1)


def measures(compared: Compared, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Return every metric for each row of weights (rows, units); `nndr_held_out` is what `nndr` is held against."""
    from scipy.stats import mannwhitneyu

    pairs = list(zip(compared.synthetic, compared.held_out, strict=True))
    ratios = [np.median(one[:, 0]) / np.median(real[:, 0]) for one, real in pairs]
    larger = [mannwhitneyu(real[:, 0], one[:, 0], method="asymptotic").statistic for one, real in pairs]
    first = [[distances[:, 0] for distances in side] for side in (compared.synthetic, compared.held_out)]
    relative = [[nndr(distances) for distances in side] for side in (compared.synthetic, compared.held_out)]
    return {
        "distance_ratio": weighted_mean(ratios, weights),
        "share_nearer": share_below(*first, weights),
        "auc": weighted_mean(
            [n / (len(one) * len(real)) for n, (one, real) in zip(larger, pairs, strict=True)], weights
        ),
        "nndr": weighted_mean([np.median(part) for part in relative[0]], weights),
        "share_low_nndr": share_below(*relative, weights),
        "nndr_held_out": weighted_mean([np.median(part) for part in relative[1]], weights),
    }


def nndr(distances: np.ndarray) -> np.ndarray:
    """Return the ratio of the nearest to the second nearest distance, (rows,); 0 where both are 0."""
    return np.divide(distances[:, 0], distances[:, 1], out=np.zeros(len(distances)), where=distances[:, 1] > 0)


def is_flagged(name: str, value: float, low: float, high: float, held_out_nndr: float, n_held_out: int) -> bool:
    """Tell whether a metric lies on the side of memorisation; see the description of the column `flagged`."""
    low, high = (value, value) if np.isnan(low) else (low, high)
    if name == "auc":
        return bool(low > 0.5 and value >= SMALL_AUC)
    if name.startswith("share"):
        return bool(low > LEVEL + 2 * np.sqrt(LEVEL * (1 - LEVEL) / n_held_out))
    limit = held_out_nndr if name == "nndr" else 1.0
    return bool(high < (1 - SMALL_CHANGE) * limit)
