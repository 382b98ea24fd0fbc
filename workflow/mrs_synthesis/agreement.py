"""Bias and agreement of estimates with a reference, over subjects.

An observation is one scan: its reference and its replicates' estimates. Intervals come from a bootstrap over subjects,
all scans of a subject together. With one subject, its replicates are the observations: intervals and standard
deviations then describe the replicates, and whatever compares subjects is missing.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np

from mrs_synthesis import bland_altman
from mrs_synthesis.bland_altman import row_mean
from mrs_synthesis.concordance import (
    concordance,
    concordance_interval,
    icc_a1,
    icc_a1_interval,
    sd_ratio,
    sd_ratio_interval,
)

FEWEST = 3  # subjects, for anything that compares subjects
PERCENTILES = (2.5, 97.5)
STATISTICS = (
    *("bias_percent", "bias_ci_low", "bias_ci_high", "scale", "proportional_p"),
    *("loa_low", "loa_low_ci_low", "loa_low_ci_high", "loa_high", "loa_high_ci_low", "loa_high_ci_high"),
    *("slope", "slope_ci_low", "slope_ci_high", "sd_ratio", "sd_ratio_ci_low", "sd_ratio_ci_high"),
    *("ccc", "ccc_ci_low", "ccc_ci_high", "icc_a1", "icc_a1_ci_low", "icc_a1_ci_high"),
    *("cv_percent", "tost_p", "rmse_percent"),
)


@dataclass(frozen=True)
class Paired:
    """Estimates beside references.

    Attributes
    ----------
    estimate
        Shape (observations, replicates); NaN where missing.
    reference
        Shape (observations,).
    subject
        Number of the subject of each observation, 0 to ``n_subjects - 1``, shape (observations,).
    n_subjects
        Subjects of the study (also those that are missing here).
    """

    estimate: np.ndarray
    reference: np.ndarray
    subject: np.ndarray
    n_subjects: int

    @property
    def percent(self) -> np.ndarray:
        """Difference from the reference in percent of it, shape (observations, replicates)."""
        return 100.0 * (self.estimate / self.reference[:, None] - 1.0)

    def usable(self) -> Paired:
        """Return the observations that have a positive reference and an estimate; one subject: a row per replicate."""
        estimate, reference, subject = self.estimate, self.reference, self.subject
        if self.n_subjects == 1:
            reference = np.repeat(reference, estimate.shape[1])
            subject = np.zeros(reference.size, dtype=int)
            estimate = estimate.reshape(-1, 1)
        kept = (reference > 0) & np.isfinite(estimate).any(axis=1)
        return Paired(estimate[kept], reference[kept], subject[kept], self.n_subjects)


def resample(n_subjects: int, n_resamples: int, random: np.random.Generator) -> np.ndarray:
    """Return bootstrap weights, shape (n_resamples, n_subjects): how often each subject was drawn."""
    return random.multinomial(n_subjects, np.full(n_subjects, 1.0 / n_subjects), size=n_resamples).astype(float)


def weights_of(pairs: Paired, drawn: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the weights of the observations, shape (n_resamples, observations), for resampled subjects.

    With one subject the observations themselves (replicates) are resampled.
    """
    if pairs.n_subjects == 1:
        return resample(max(1, pairs.reference.size), len(drawn), random)[:, : pairs.reference.size]
    return drawn[:, pairs.subject]


def drawn_from(pairs: Paired) -> int:
    """Return how many subjects (one subject: observations) of usable pairs are resampled."""
    return pairs.reference.size if pairs.n_subjects == 1 else int(np.unique(pairs.subject).size)


def _weighted_mean(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    total = weights.sum(axis=-1)
    return np.divide(weights @ values, total, out=np.full(total.shape, np.nan), where=total > 0)


def bias(pairs: Paired, weights: np.ndarray) -> np.ndarray:
    """Return the mean over observations of their replicates' mean difference in percent, one per row of `weights`."""
    return _weighted_mean(weights, row_mean(pairs.percent))


def rmse(pairs: Paired, weights: np.ndarray) -> np.ndarray:
    """Return the root mean square difference in percent of single estimates, one per row of `weights`."""
    return np.sqrt(_weighted_mean(weights, row_mean(pairs.percent**2)))


def slope(pairs: Paired, weights: np.ndarray) -> np.ndarray:
    """Return the least-squares slope of the estimate (mean over replicates) on the reference, per row of `weights`.

    1: differences between subjects are kept; 0: every subject was drawn to one value. NaN where fewer than three
    subjects have weight: a line through two of them is no slope.
    """
    x, y = pairs.reference, row_mean(pairs.estimate)
    mean_x, mean_y = _weighted_mean(weights, x), _weighted_mean(weights, y)
    covariance = _weighted_mean(weights, x * y) - mean_x * mean_y
    variance = _weighted_mean(weights, x**2) - mean_x**2
    order = np.argsort(pairs.subject, kind="stable")
    starts = np.flatnonzero(np.diff(pairs.subject[order], prepend=-1))  # of each subject's observations
    present = np.logical_or.reduceat(weights[:, order] > 0, starts, axis=1)
    varied = (variance > 1e-12 * mean_x**2) & (present.sum(axis=1) >= FEWEST)
    return np.divide(covariance, variance, out=np.full(variance.shape, np.nan), where=varied)


def within_cv(estimate: np.ndarray) -> float:
    """Return the coefficient of variation between replicates in percent, as root mean square over observations.

    NaN unless an observation has two replicates.
    """
    present = np.isfinite(estimate)
    count = present.sum(axis=1)
    repeated = count > 1
    if not repeated.any():
        return float("nan")
    means = row_mean(estimate)[repeated]
    squares = np.sum(np.where(present, estimate - row_mean(estimate)[:, None], 0.0) ** 2, axis=1)[repeated]
    return float(100 * np.sqrt(np.mean(squares / (count[repeated] - 1) / means**2)))


def tost(differences: np.ndarray, margin: float) -> float:
    """Return the p-value of two one-sided t-tests (Schuirmann 1987) that the mean difference lies within +-`margin`.

    NaN with fewer than two differences.
    """
    from scipy import stats

    n = differences.size
    if n < 2:
        return float("nan")
    mean, error = differences.mean(), differences.std(ddof=1) / np.sqrt(n)
    if error == 0:
        return float(abs(mean) >= margin)
    return float(max(stats.t.sf((mean + margin) / error, n - 1), stats.t.sf((margin - mean) / error, n - 1)))


def interval(values: np.ndarray, n: int | None = None) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap values; NaN if fewer than half of them are finite.

    Parameters
    ----------
    values
        One per resample.
    n
        How many observations were resampled: widens the interval as Student's t does (the expanded percentile interval
        of Hesterberg, Am Stat 69:371, 2015), without which it covers 90 % rather than 95 % with few of them.
    """
    finite = values[np.isfinite(values)]
    if finite.size < max(2, values.size / 2):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, PERCENTILES if n is None else expanded(n))
    return float(low), float(high)


@functools.cache
def expanded(n: int) -> tuple[float, float]:
    """Return the percentiles of the expanded interval for `n` observations."""
    from scipy import stats

    if n < 2:
        return PERCENTILES
    tail = 100 * float(stats.norm.cdf(np.sqrt(n / (n - 1)) * stats.t.ppf(PERCENTILES[0] / 100, n - 1)))
    return tail, 100 - tail


def over_replicates(pairs: Paired, statistic) -> np.ndarray:
    """Return the mean over replicates, each taken as a study, of the numbers ``statistic(estimate, reference)``."""
    values = []
    for column in pairs.estimate.T:
        present = np.isfinite(column)
        if present.sum() >= FEWEST:
            values.append(statistic(column[present], pairs.reference[present]))
    return row_mean(np.array(values).T) if values else np.array(np.nan)


def _two_methods(x: np.ndarray, y: np.ndarray) -> tuple[float, ...]:
    """Return sd_ratio, ccc and icc_a1, each with its interval, of estimates `x` and references `y`."""
    both = np.column_stack([x, y])
    return (
        *(sd_ratio(x, y), *sd_ratio_interval(x, y)),
        *(concordance(x, y), *concordance_interval(x, y)),
        *(icc_a1(both), *icc_a1_interval(both)),
    )


def describe(pairs: Paired, margin_percent: float, drawn: np.ndarray, random: np.random.Generator) -> dict:
    """Return all columns of the table of bias and agreement for one source.

    Parameters
    ----------
    pairs
        Estimates and references.
    margin_percent
        Margin of the equivalence test.
    drawn
        Bootstrap weights of the subjects, of `resample`.
    random
        Random stream, used with one subject only.

    Returns
    -------
    dict
        The columns `STATISTICS`, n (subjects), n_replicates, n_missing. NaN: cannot be said. The intervals of
        sd_ratio, ccc and icc_a1 are those of a study with one replicate: the mean over replicates of their ends.
    """
    missing = int(np.count_nonzero(~np.isfinite(pairs.estimate)))
    pairs = pairs.usable()
    subjects = np.unique(pairs.subject)
    row: dict = dict.fromkeys(STATISTICS, float("nan"))
    row |= {"n": subjects.size, "n_replicates": int(np.isfinite(pairs.estimate).sum()), "n_missing": missing}
    if not subjects.size:
        return row
    percent, ones = pairs.percent, np.ones((1, pairs.reference.size))
    weights = weights_of(pairs, drawn, random)
    several = subjects.size > 1 or (pairs.n_subjects == 1 and pairs.reference.size > 1)
    n_drawn = drawn_from(pairs)
    row["bias_percent"] = float(bias(pairs, ones)[0])
    row["rmse_percent"] = float(rmse(pairs, ones)[0])
    if pairs.n_subjects == 1:
        row["cv_percent"] = within_cv(pairs.estimate.reshape(1, -1))
        tested = percent.ravel()
    else:
        row["cv_percent"] = within_cv(pairs.estimate)
        tested = row_mean(bland_altman.group_rows(row_mean(percent), pairs.subject))
    row["tost_p"] = tost(tested, margin_percent)
    if several:
        # With one subject each replicate is an observation of its own
        group = np.arange(pairs.reference.size) if pairs.n_subjects == 1 else pairs.subject
        row |= bland_altman.describe(pairs.estimate, pairs.reference, group)
        row["bias_ci_low"], row["bias_ci_high"] = interval(bias(pairs, weights), n_drawn)
    if subjects.size >= FEWEST:
        row["slope"] = float(slope(pairs, ones)[0])
        row["slope_ci_low"], row["slope_ci_high"] = interval(slope(pairs, weights), n_drawn)
        names = [f"{name}{end}" for name in ("sd_ratio", "ccc", "icc_a1") for end in ("", "_ci_low", "_ci_high")]
        row |= dict(zip(names, np.broadcast_to(over_replicates(pairs, _two_methods), len(names)).tolist(), strict=True))
    return row
