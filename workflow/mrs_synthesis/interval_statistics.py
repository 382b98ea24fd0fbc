"""Intervals from draws and from proportions: quantiles, Wilson's interval for clustered scans, and a verdict."""

from __future__ import annotations

import numpy as np

from mrs_synthesis.fit_truth import NORMAL_95

WANTED = (0.90, 0.98)  # coverage of a 95 % interval that can be believed
BELIEVABLE, NARROW, WIDE = "believable", "too narrow", "too wide"


def t_factor(k: int) -> float:
    """Return t sqrt(1 + 1/k): half the width, in SDs of `k` draws, of the 95 % interval for one more draw."""
    from scipy.stats import t

    return float(t.ppf(0.975, k - 1) * np.sqrt(1 + 1 / k)) if k > 1 else float("nan")


def posterior_interval(values: np.ndarray, systematic: float = 0.0) -> tuple[float, float, float, int]:
    """Return estimate, low, high and the number of usable draws.

    Parameters
    ----------
    values
        Fits of the draws; NaN where one failed. With fewer than half of them there is no interval.
    systematic
        SD of the fit's own error as a share of the estimate.
    """
    usable = values[np.isfinite(values)]
    k = usable.size
    if k < max(2, values.size / 2):
        return float("nan"), float("nan"), float("nan"), k
    mean, sd, factor = float(usable.mean()), float(usable.std(ddof=1)), t_factor(k)
    # One quantile for both parts, though the second is known from another number of subjects
    half = float(np.hypot(factor * sd, factor / np.sqrt(1 + 1 / k) * systematic * mean))
    return mean, mean - half, mean + half, k


def wilson(hits: float, n: float) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a proportion (J Am Stat Assoc 22:209, 1927); `n` may be a fraction."""
    if not n > 0:
        return float("nan"), float("nan")
    share, square = hits / n, NORMAL_95**2
    middle = (share + square / (2 * n)) / (1 + square / n)
    half = NORMAL_95 / (1 + square / n) * np.sqrt(share * (1 - share) / n + square / (4 * n**2))
    return float(max(middle - half, 0.0)), float(min(middle + half, 1.0))


def clustered(hits: np.ndarray, cluster: np.ndarray) -> tuple[float, float, float]:
    """Return a proportion and its 95 % interval, where the members of a cluster are not independent.

    Wilson's interval with n divided by the design effect (the variance of the proportion from the clusters' totals over
    the binomial one), which is taken to lie between 1 and the mean size of a cluster; where all agree, at the latter.
    """
    n = hits.size
    if not n:
        return float("nan"), float("nan"), float("nan")
    share = float(hits.mean())
    _, number = np.unique(cluster, return_inverse=True)
    m = int(number.max()) + 1
    size = n / m
    if size == 1:
        effect = 1.0
    elif 0 < share < 1 and m > 1:
        rest = np.bincount(number, hits - share)
        effect = float(np.clip(np.sum(rest**2) * m / (m - 1) / (n * share * (1 - share)), 1.0, size))
    else:
        effect = size
    return share, *wilson(share * n / effect, n / effect)


def verdict(share: float, low: float, high: float) -> str | float:
    """Return what a coverage with this confidence interval says of a 95 % interval; NaN if it is not known."""
    if not np.isfinite(share):
        return float("nan")
    if WANTED[0] <= share <= WANTED[1] or (low <= WANTED[1] and high >= WANTED[0]):
        return BELIEVABLE
    return NARROW if share < WANTED[0] else WIDE
