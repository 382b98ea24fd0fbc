"""Limits of agreement after Bland & Altman, in percent or on the log scale, with intervals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

ALPHA = 0.05  # of the test that decides for the log scale
NORMAL = 1.96
SCALES = ("percent", "log")


@dataclass(frozen=True)
class Limits:
    """Limits of agreement with their 95 % intervals, all in the units of the values or, transformed back, in percent.

    Attributes
    ----------
    low, high
        The limits.
    low_interval, high_interval
        Lower and upper end of the interval of each.
    """

    low: float
    high: float
    low_interval: tuple[float, float]
    high_interval: tuple[float, float]


def row_mean(values: np.ndarray) -> np.ndarray:
    """Return the mean over the last axis without the missing values; NaN where all are missing."""
    present = np.isfinite(values)
    count = present.sum(axis=-1)
    total = np.where(present, values, 0.0).sum(axis=-1)
    return np.divide(total, count, out=np.full(count.shape, np.nan), where=count > 0)


def components(groups: np.ndarray) -> tuple[float, float, int, int, float]:
    """Return what the one-way analysis of variance of `groups`, shape (groups, values), NaN where missing, starts from.

    Returns
    -------
    tuple
        Variance of the groups' means, variance within groups (0 without repeated values), number of groups, number
        of values, harmonic mean of the groups' sizes. Each group has a value.
    """
    present = np.isfinite(groups)
    count = present.sum(axis=1)
    n, total = len(groups), int(count.sum())
    means = row_mean(groups)
    squares = float(np.sum(np.where(present, groups - means[:, None], 0.0) ** 2))
    between = float(np.var(means, ddof=1)) if n > 1 else float("nan")
    return between, squares / (total - n) if total > n else 0.0, n, total, n / float(np.sum(1.0 / count))


def single_estimate_sd(groups: np.ndarray) -> float:
    """Return the SD of single values, shape (groups, values), within and between groups together.

    Variance components of a one-way analysis of variance, as Bland & Altman (J Biopharm Stat 17:571, 2007) take them
    for limits of agreement with repeated measurements. With one value per group it is the ordinary SD.
    """
    present = np.isfinite(groups)
    count = present.sum(axis=1)
    n, total = len(groups), int(count.sum())
    if n == 1:
        return float(np.std(groups[present], ddof=1)) if total > 1 else float("nan")
    _, within, *_ = components(groups)
    means = row_mean(groups)
    grand = float(np.sum(count * means) / total)
    between_squares = float(np.sum(count * (means - grand) ** 2) / (n - 1))
    size = (total - np.sum(count**2) / total) / (n - 1)
    return float(np.sqrt(within + max(0.0, (between_squares - within) / size)))


def limits(mean: float, groups: np.ndarray) -> Limits:
    """Return ``mean +- 1.96 SD`` of single values, with intervals.

    The intervals are those of Zou (Stat Methods Med Res 22:630, 2013) for repeated values per subject: the intervals
    of the mean (t) and of the two variances (chi-square) put together (MOVER). With one value per group they are
    those of ordinary limits.

    Parameters
    ----------
    mean
        Mean difference.
    groups
        Differences, shape (subjects, values), NaN where missing; each subject has one. Needs two subjects.
    """
    from scipy import stats

    sd = single_estimate_sd(groups)
    between, within, n, total, size = components(groups)
    whole = between + (1 - 1 / size) * within
    down = (between * (1 - (n - 1) / stats.chi2.ppf(0.975, n - 1))) ** 2
    up = (between * ((n - 1) / stats.chi2.ppf(0.025, n - 1) - 1)) ** 2
    if total > n:
        repeated = (1 - 1 / size) * within
        down += (repeated * (1 - (total - n) / stats.chi2.ppf(0.975, total - n))) ** 2
        up += (repeated * ((total - n) / stats.chi2.ppf(0.025, total - n) - 1)) ** 2
    of_mean = stats.t.ppf(0.975, n - 1) ** 2 * between / n
    inner = np.sqrt(of_mean + NORMAL**2 * (np.sqrt(whole) - np.sqrt(max(0.0, whole - np.sqrt(down)))) ** 2)
    outer = np.sqrt(of_mean + NORMAL**2 * (np.sqrt(whole + np.sqrt(up)) - np.sqrt(whole)) ** 2)
    low, high = mean - NORMAL * sd, mean + NORMAL * sd
    return Limits(
        float(low), float(high), (float(low - outer), float(low + inner)), (float(high - inner), float(high + outer))
    )


def back_to_percent(found: Limits) -> Limits:
    """Return limits of the logarithm of estimate over reference as percent of the reference."""
    low, high = (float(100 * np.expm1(value)) for value in (found.low, found.high))
    ends = [tuple(float(100 * np.expm1(end)) for end in pair) for pair in (found.low_interval, found.high_interval)]
    return Limits(low, high, *ends)


def proportional_p(difference: np.ndarray, mean: np.ndarray) -> float:
    """Return the one-sided p-value that the size of the difference grows with the mean of the two methods.

    Kendall's rank correlation of ``|difference|`` with `mean`, one value per subject, exact where there are few: no
    shape of the growth is presumed, and an outlier counts little. NaN with fewer than three subjects or no variation.
    """
    from scipy import stats

    if difference.size < 3 or np.ptp(difference) == 0 or np.ptp(mean) == 0:
        return float("nan")
    return float(stats.kendalltau(np.abs(difference), mean, alternative="greater").pvalue)


def group_rows(values: np.ndarray, group: np.ndarray) -> np.ndarray:
    """Return values, shape (observations[, replicates]), as one row per group (increasing), padded with NaN."""
    order = np.argsort(group, kind="stable")
    parts = [part.ravel() for part in np.split(values[order], np.flatnonzero(np.diff(group[order])) + 1)]
    rows = np.full((len(parts), max(part.size for part in parts)), np.nan)
    for row, part in zip(rows, parts, strict=True):
        row[: part.size] = part
    return rows


def describe(estimate: np.ndarray, reference: np.ndarray, subject: np.ndarray) -> dict:
    """Return the columns of the limits of agreement of estimates with their references.

    The limits are those of the percent difference, or, if the difference itself is shown to grow with the mean
    (`proportional_p` below 0.05) and all estimates are positive, those of the logarithm of their ratio.

    Parameters
    ----------
    estimate
        Shape (observations, replicates), NaN where missing; each observation has one.
    reference
        Shape (observations,), positive.
    subject
        Of each observation, shape (observations,); its observations and their replicates are repeated values.

    Returns
    -------
    dict
        scale, proportional_p, and loa_low, loa_high with their intervals in percent; NaN with one subject.
    """
    difference = group_rows(np.abs(estimate - reference[:, None]), subject)
    size = group_rows((estimate + reference[:, None]) / 2, subject)
    # Within one subject the mean varies by the error alone, and tells nothing of how the error depends on it
    p = proportional_p(row_mean(difference), row_mean(size)) if np.ptp(reference) > 0 else float("nan")
    known = estimate[np.isfinite(estimate)]
    scale = SCALES[bool(p < ALPHA and (known > 0).all())]
    row = {"scale": scale, "proportional_p": p}
    if scale == "log":
        with np.errstate(invalid="ignore"):
            values = np.log(estimate / reference[:, None])
    else:
        values = 100.0 * (estimate / reference[:, None] - 1.0)
    if len(difference) > 1:
        found = limits(float(row_mean(values).mean()), group_rows(values, subject))
        found = back_to_percent(found) if scale == "log" else found
        row |= {"loa_low": found.low, "loa_low_ci_low": found.low_interval[0], "loa_low_ci_high": found.low_interval[1]}
        row |= {
            "loa_high": found.high,
            "loa_high_ci_low": found.high_interval[0],
            "loa_high_ci_high": found.high_interval[1],
        }
    return row
