"""Bias and agreement of estimates with a reference, over subjects, and the number of real transients they are worth.

An observation is one scan: its reference and its replicates' estimates. Intervals come from a bootstrap over subjects,
all scans of a subject together. With one subject, its replicates are the observations: intervals and standard
deviations then describe the replicates, and whatever compares subjects is missing.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FEWEST = 3  # subjects, for anything that compares subjects
CLIP = (0.5, 2.0)  # how far beyond the learning curve's ends the effective number may lie
PERCENTILES = (2.5, 97.5)
STATISTICS = (
    "bias_percent",
    "bias_ci_low",
    "bias_ci_high",
    "loa_low",
    "loa_high",
    "slope",
    "slope_ci_low",
    "slope_ci_high",
    "sd_ratio",
    "ccc",
    "icc_a1",
    "cv_percent",
    "tost_p",
    "rmse_percent",
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


def row_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without the missing values; NaN where all are missing."""
    present = np.isfinite(values)
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


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

    1: differences between subjects are kept; 0: every subject was drawn to one value.
    """
    x, y = pairs.reference, row_mean(pairs.estimate)
    mean_x, mean_y = _weighted_mean(weights, x), _weighted_mean(weights, y)
    covariance = _weighted_mean(weights, x * y) - mean_x * mean_y
    variance = _weighted_mean(weights, x**2) - mean_x**2
    varied = variance > 1e-12 * mean_x**2
    return np.divide(covariance, variance, out=np.full(variance.shape, np.nan), where=varied)


def sd_ratio(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Return the SD of `estimate` over subjects divided by the SD of `reference`."""
    spread = float(np.std(reference, ddof=1))
    return float(np.std(estimate, ddof=1)) / spread if spread > 0 else float("nan")


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """Return Lin's concordance correlation coefficient (Biometrics 45:255, 1989), variances divided by n."""
    total = np.var(x) + np.var(y) + (np.mean(x) - np.mean(y)) ** 2
    return float(2 * np.mean((x - np.mean(x)) * (y - np.mean(y))) / total) if total > 0 else float("nan")


def icc_a1(ratings: np.ndarray) -> float:
    """Return ICC(A,1) of `ratings`, shape (subjects, methods): absolute agreement of single ratings, two-way model.

    McGraw & Wong, Psychol Methods 1:30 (1996); the ICC(2,1) of Shrout & Fleiss, Psychol Bull 86:420 (1979).
    """
    n, k = ratings.shape
    rows, columns, mean = ratings.mean(axis=1), ratings.mean(axis=0), ratings.mean()
    between_rows = k * np.sum((rows - mean) ** 2) / (n - 1)
    between_columns = n * np.sum((columns - mean) ** 2) / (k - 1)
    residual = ratings - rows[:, None] - columns + mean
    error = np.sum(residual**2) / ((n - 1) * (k - 1))
    total = between_rows + (k - 1) * error + k / n * (between_columns - error)
    return float((between_rows - error) / total) if total > 0 else float("nan")


def single_estimate_sd(groups: np.ndarray) -> float:
    """Return the SD of single values, shape (observations, replicates), within and between observations together.

    Variance components of a one-way analysis of variance, as Bland & Altman (J Biopharm Stat 17:571, 2007) take them
    for limits of agreement with repeated measurements. With one replicate it is the ordinary SD.
    """
    present = np.isfinite(groups)
    count = present.sum(axis=1)
    n, total = len(groups), int(count.sum())
    if n == 1:
        return float(np.std(groups[present], ddof=1)) if total > 1 else float("nan")
    means = row_mean(groups)
    within = 0.0
    if total > n:
        within = float(np.sum(np.where(present, groups - means[:, None], 0.0) ** 2) / (total - n))
    grand = float(np.sum(count * means) / total)
    between_squares = float(np.sum(count * (means - grand) ** 2) / (n - 1))
    size = (total - np.sum(count**2) / total) / (n - 1)
    return float(np.sqrt(within + max(0.0, (between_squares - within) / size)))


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


def interval(values: np.ndarray) -> tuple[float, float]:
    """Return the 95 % percentile interval of bootstrap values; NaN if fewer than half of them are finite."""
    finite = values[np.isfinite(values)]
    if finite.size < max(2, values.size / 2):
        return float("nan"), float("nan")
    low, high = np.percentile(finite, PERCENTILES)
    return float(low), float(high)


def over_replicates(pairs: Paired, statistic) -> float:
    """Return the mean over replicates, each taken as a study, of ``statistic(estimate, reference)``."""
    values = []
    for column in pairs.estimate.T:
        present = np.isfinite(column)
        if present.sum() >= FEWEST:
            values.append(statistic(column[present], pairs.reference[present]))
    values = [value for value in values if np.isfinite(value)]
    return float(np.mean(values)) if values else float("nan")


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
        bias_percent, bias_ci_low, bias_ci_high, loa_low, loa_high (percent), slope with its interval, sd_ratio, ccc,
        icc_a1, cv_percent, tost_p, rmse_percent, n (subjects), n_replicates, n_missing. NaN: cannot be said.
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
    row["bias_percent"] = float(bias(pairs, ones)[0])
    row["rmse_percent"] = float(rmse(pairs, ones)[0])
    if pairs.n_subjects == 1:
        row["cv_percent"] = within_cv(pairs.estimate.reshape(1, -1))
        tested = percent.ravel()
    else:
        row["cv_percent"] = within_cv(pairs.estimate)
        tested = np.array([row_mean(row_mean(percent)[pairs.subject == s]) for s in subjects])
    row["tost_p"] = tost(tested, margin_percent)
    if several:
        spread = single_estimate_sd(percent)
        row["loa_low"], row["loa_high"] = (row["bias_percent"] + sign * 1.96 * spread for sign in (-1, 1))
        row["bias_ci_low"], row["bias_ci_high"] = interval(bias(pairs, weights))
    if subjects.size >= FEWEST:
        row["slope"] = float(slope(pairs, ones)[0])
        row["slope_ci_low"], row["slope_ci_high"] = interval(slope(pairs, weights))
        row["sd_ratio"] = over_replicates(pairs, sd_ratio)
        row["ccc"] = over_replicates(pairs, concordance)
        row["icc_a1"] = over_replicates(pairs, lambda x, y: icc_a1(np.column_stack([x, y])))
    return row


def monotone(values: Sequence[float]) -> list[list[int]]:
    """Return consecutive groups of indices whose means fall strictly (pool-adjacent-violators, equal weights)."""
    blocks: list[tuple[float, list[int]]] = []
    for i, value in enumerate(values):
        blocks.append((float(value), [i]))
        while len(blocks) > 1 and blocks[-1][0] >= blocks[-2][0]:
            (a, first), (b, second) = blocks[-2:]
            merged = (a * len(first) + b * len(second)) / (len(first) + len(second))
            blocks[-2:] = [(merged, first + second)]
    return [block for _, block in blocks]


@dataclass(frozen=True)
class LearningCurve:
    """RMS error against the number of real transients, made to fall.

    Attributes
    ----------
    log_error, log_n
        Points of the curve, `log_error` increasing; groups of numbers whose error does not fall are averaged.
    ends
        Smallest and largest number of real transients.
    """

    log_error: tuple[float, ...]
    log_n: tuple[float, ...]
    ends: tuple[float, float]

    @classmethod
    def of(cls, n: Sequence[float], errors: Sequence[float]) -> LearningCurve:
        """Make the curve of the errors at the increasing numbers `n`; missing and zero errors are left out."""
        known = [(math.log(size), math.log(e)) for size, e in zip(n, errors, strict=True) if math.isfinite(e) and e > 0]
        groups = monotone([level for _, level in known])[::-1]
        return cls(
            tuple(math.fsum(known[i][1] for i in group) / len(group) for group in groups),
            tuple(math.fsum(known[i][0] for i in group) / len(group) for group in groups),
            (math.exp(known[0][0]), math.exp(known[-1][0])) if known else (math.nan, math.nan),
        )

    def place(self, error: float) -> tuple[float, str]:
        """Return the number of real transients whose error is `error`, and whether it was clipped.

        Linear in log n against log error; beyond the ends the outermost segment goes on, to at most half of the
        smallest and twice the largest number. The flag is ``low`` or ``high`` (clipped there), ``extrapolated`` or
        ``no``; NaN and ``n/a`` if the curve has fewer than two different points.
        """
        if len(self.log_n) < 2 or not math.isfinite(error):
            return math.nan, "n/a"
        low, high = self.ends[0] * CLIP[0], self.ends[1] * CLIP[1]
        if error <= 0:
            return high, "high"
        x, y, target = self.log_error, self.log_n, math.log(error)
        k = min(max(bisect.bisect_left(x, target) - 1, 0), len(x) - 2)
        exponent = y[k] + (target - x[k]) * (y[k + 1] - y[k]) / (x[k + 1] - x[k])
        if exponent <= math.log(low):
            return low, "low"
        if exponent >= math.log(high):
            return high, "high"
        value = math.exp(exponent)
        inside = self.ends[0] * (1 - 1e-9) <= value <= self.ends[1] * (1 + 1e-9)
        return value, "no" if inside else "extrapolated"


def _errors(pairs: Paired, drawn: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the RMS error of the data themselves, then of each resample."""
    pairs = pairs.usable()
    if not pairs.reference.size:
        return np.full(1 + len(drawn), np.nan)
    ones = np.ones((1, pairs.reference.size))
    return rmse(pairs, np.concatenate([ones, weights_of(pairs, drawn, random)]))


def learning_curves(real: Mapping[int, Paired], drawn: np.ndarray, random: np.random.Generator) -> list[LearningCurve]:
    """Return the learning curve of the data, then that of each resample.

    Parameters
    ----------
    real
        For each number of real transients, the estimates from so many.
    drawn
        Bootstrap weights of the subjects, of `resample`.
    random
        Random stream, used with one subject only.
    """
    n = sorted(real)
    errors = np.array([_errors(real[size], drawn, random) for size in n])
    return [LearningCurve.of(n, column) for column in errors.T.tolist()]


def effective_transients(
    curves: Sequence[LearningCurve], source: Paired, drawn: np.ndarray, random: np.random.Generator
) -> dict:
    """Return n_eff with its bootstrap interval, and the slope, of one source.

    Parameters
    ----------
    curves
        Of `learning_curves`, with the same `drawn`, since curve and source share the subjects.
    source
        The estimates to be placed on the curve.
    drawn, random
        As for `learning_curves`.
    """
    errors = _errors(source, drawn, random)
    pairs = source.usable()
    n = int(np.unique(pairs.subject).size)
    value, flag = curves[0].place(float(errors[0]))
    draws = [curve.place(error)[0] for curve, error in zip(curves[1:], errors[1:].tolist(), strict=True)]
    low, high = interval(np.array(draws)) if n > 1 or source.n_subjects == 1 else (math.nan, math.nan)
    steep = float(slope(pairs, np.ones((1, pairs.reference.size)))[0]) if n >= FEWEST else math.nan
    return {
        "n_eff": value,
        "n_eff_ci_low": low,
        "n_eff_ci_high": high,
        "n_eff_clipped": flag,
        "slope": steep,
        "rmse_percent": float(errors[0]),
        "n": n,
    }
