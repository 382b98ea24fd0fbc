"""Agreement of two measurements over subjects: ratio of SDs, Lin's concordance and ICC(A,1), each with its interval."""

from __future__ import annotations

import numpy as np

UNKNOWN = (float("nan"), float("nan"))


def sd_ratio(estimate: np.ndarray, reference: np.ndarray) -> float:
    """Return the SD of `estimate` over subjects divided by the SD of `reference`."""
    spread = float(np.std(reference, ddof=1))
    return float(np.std(estimate, ddof=1)) / spread if spread > 0 else float("nan")


def sd_ratio_interval(estimate: np.ndarray, reference: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of `sd_ratio` for correlated measurements, shape (subjects,) each.

    The ratios that the test of Pitman and Morgan (Biometrika 31:9 and 31:13, 1939) does not reject.
    """
    from scipy import stats

    ratio, n = sd_ratio(estimate, reference), estimate.size
    if n < 3 or not ratio > 1e-12:
        return UNKNOWN
    correlation = float(np.corrcoef(estimate, reference)[0, 1])
    k = 1 + 2 * (1 - min(1.0, correlation**2)) * float(stats.t.ppf(0.975, n - 2)) ** 2 / (n - 2)
    width = np.sqrt(k**2 - 1)
    return ratio * float(np.sqrt(1 / (k + width))), ratio * float(np.sqrt(k + width))


def concordance(x: np.ndarray, y: np.ndarray) -> float:
    """Return Lin's concordance correlation coefficient (Biometrics 45:255, 1989), variances divided by n."""
    total = np.var(x) + np.var(y) + (np.mean(x) - np.mean(y)) ** 2
    return float(2 * np.mean((x - np.mean(x)) * (y - np.mean(y))) / total) if total > 0 else float("nan")


def concordance_interval(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of `concordance`, shape (subjects,) each, by Lin's z-transform.

    Asymptotic variance of Lin 1989 as corrected in Biometrics 56:324 (2000). NaN if there are fewer than four subjects
    or one of the measurements does not vary.
    """
    c, n = concordance(x, y), x.size
    if n < 4 or not np.std(x) > 1e-12 * abs(np.mean(x)) or not np.std(y) > 1e-12 * abs(np.mean(y)):
        return UNKNOWN
    if abs(c) > 1 - 1e-12:
        return c, c
    r = float(np.corrcoef(x, y)[0, 1])
    if abs(r) < 1e-12:
        return UNKNOWN
    u2 = (np.mean(x) - np.mean(y)) ** 2 / (np.std(x) * np.std(y))
    left = 1 - c**2
    variance = (1 - r**2) * c**2 / (left * r**2) + 2 * c**3 * (1 - c) * u2 / (r * left**2)
    variance = (variance - c**4 * u2**2 / (2 * r**2 * left**2)) / (n - 2)
    half = 1.959964 * np.sqrt(max(0.0, variance))
    return float(np.tanh(np.arctanh(c) - half)), float(np.tanh(np.arctanh(c) + half))


def _mean_squares(ratings: np.ndarray) -> tuple[float, float, float]:
    """Return the mean squares of rows, columns and error of a two-way table without repeats."""
    n, k = ratings.shape
    rows, columns, mean = ratings.mean(axis=1), ratings.mean(axis=0), ratings.mean()
    residual = ratings - rows[:, None] - columns + mean
    return (
        float(k * np.sum((rows - mean) ** 2) / (n - 1)),
        float(n * np.sum((columns - mean) ** 2) / (k - 1)),
        float(np.sum(residual**2) / ((n - 1) * (k - 1))),
    )


def icc_a1(ratings: np.ndarray) -> float:
    """Return ICC(A,1) of `ratings`, shape (subjects, methods): absolute agreement of single ratings, two-way model.

    McGraw & Wong, Psychol Methods 1:30 (1996); the ICC(2,1) of Shrout & Fleiss, Psychol Bull 86:420 (1979).
    """
    n, k = ratings.shape
    rows, columns, error = _mean_squares(ratings)
    total = rows + (k - 1) * error + k / n * (columns - error)
    return float((rows - error) / total) if total > 0 else float("nan")


def icc_a1_interval(ratings: np.ndarray) -> tuple[float, float]:
    """Return the 95 % interval of `icc_a1`, by table 7 of McGraw & Wong 1996 (Satterthwaite's degrees of freedom)."""
    from scipy import stats

    n, k = ratings.shape
    rows, columns, error = _mean_squares(ratings)
    icc = icc_a1(ratings)
    if not np.isfinite(icc):
        return UNKNOWN
    if icc > 1 - 1e-12:
        return 1.0, 1.0
    a, b = k * icc / (n * (1 - icc)), 1 + k * icc * (n - 1) / (n * (1 - icc))
    weights = (a * columns) ** 2 / (k - 1) + (b * error) ** 2 / ((n - 1) * (k - 1))
    if not weights > 0:
        return UNKNOWN
    freedom = (a * columns + b * error) ** 2 / weights
    upper, lower = stats.f.ppf(0.975, n - 1, freedom), stats.f.ppf(0.975, freedom, n - 1)
    if not np.isfinite([upper, lower]).all():
        return UNKNOWN
    rest = k * columns + (k * n - k - n) * error
    low = n * (rows - upper * error) / (upper * rest + n * rows)
    return float(low), float(n * (lower * rows - error) / (rest + n * lower * rows))
