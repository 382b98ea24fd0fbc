"""Errors of two sources compared on the same subjects: ratios with a paired bootstrap, and a sign-flip test."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from mrs_synthesis import agreement
from mrs_synthesis.agreement import Paired

EXACT = 14  # subjects up to which all sign flips are tried
FLIPS = 99_999  # else so many at random: p goes down to 1e-5
BLOCK = 4096


def count_subjects(pairs: Paired) -> int:
    """Return how many subjects have an observation."""
    return int(np.unique(pairs.subject).size)


def errors(pairs: Paired, drawn: np.ndarray, debiased: bool = False) -> np.ndarray:
    """Return the RMS error in percent of the data themselves, then of each resample, ``1 + len(drawn)`` values.

    `debiased`: without the mean relative error of the series (in each resample its own).
    """
    pairs = pairs.usable()
    if not pairs.reference.size:
        return np.full(1 + len(drawn), np.nan)
    weights = np.concatenate([np.ones((1, pairs.reference.size)), drawn[:, pairs.subject]])
    found = agreement.rmse(pairs, weights)
    return np.sqrt(np.maximum(found**2 - agreement.bias(pairs, weights) ** 2, 0.0)) if debiased else found


def alike(first: Paired, second: Paired) -> tuple[Paired, Paired]:
    """Return both without the observations that one of them lacks."""
    known = np.isfinite(first.estimate).any(axis=1) & np.isfinite(second.estimate).any(axis=1)
    return tuple(replace(p, estimate=np.where(known[:, None], p.estimate, np.nan)) for p in (first, second))


def with_interval(values: np.ndarray, n_subjects: int) -> tuple[float, float, float]:
    """Return the value of the data and its interval, given those of the data and of each resample."""
    few = n_subjects < agreement.FEWEST
    return float(values[0]), *((np.nan, np.nan) if few else agreement.interval(values[1:], n_subjects))


def error_ratio(source: Paired, other: Paired, drawn: np.ndarray, debiased: bool = False) -> np.ndarray:
    """Return the RMS error of `source` over that of `other`, of the data, then of each resample of the subjects."""
    source, other = alike(source, other)
    with np.errstate(divide="ignore", invalid="ignore"):
        return errors(source, drawn, debiased) / errors(other, drawn, debiased)


def slope_difference(source: Paired, other: Paired, drawn: np.ndarray) -> np.ndarray:
    """Return the slope of `source` less that of `other`, of the data, then of each resample; NaN with few subjects."""
    source, other = (pairs.usable() for pairs in alike(source, other))
    if count_subjects(source) < agreement.FEWEST:
        return np.full(1 + len(drawn), np.nan)
    first, second = (
        agreement.slope(pairs, np.concatenate([np.ones((1, pairs.reference.size)), drawn[:, pairs.subject]]))
        for pairs in (source, other)
    )
    return first - second


def square_differences(source: Paired, other: Paired) -> np.ndarray:
    """Return each subject's part in the difference of the mean squared errors, shape (subjects,); 0 where missing.

    The sum over a subject's scans of the mean over replicates of the squared percent difference, of `source` less that
    of `other`. Its sum over subjects is negative exactly where the RMS error of `source` is the smaller one.
    """
    source, other = alike(source, other)
    kept = (source.reference > 0) & np.isfinite(source.estimate).any(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = agreement.row_mean(source.percent**2) - agreement.row_mean(other.percent**2)
    return np.bincount(source.subject[kept], weights=found[kept], minlength=source.n_subjects)


def sign_flip_p(differences: Sequence[np.ndarray] | np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return two-sided p-values that subjects' differences have no preferred sign, one per row.

    Sign-flip permutation test of the sum: if two sources are exchangeable within subjects, each subject's difference
    has either sign with equal probability. All flips with up to 14 subjects, so that p is at least 2 / 2^n; with more
    of them 99,999 random ones beside the data.

    Parameters
    ----------
    differences
        Shape (comparisons, subjects); 0 where a subject is missing.
    random
        Random stream.
    """
    values = np.asarray(differences, dtype=float)
    n = values.shape[1]
    observed = np.abs(values.sum(axis=1)) * (1 - 1e-12)
    exact = n <= EXACT
    total, reached = 2**n if exact else FLIPS, np.zeros(len(values))
    for start in range(0, total, BLOCK):
        numbers = np.arange(start, min(start + BLOCK, total))
        if exact:
            signs = 1.0 - 2.0 * ((numbers[:, None] >> np.arange(n)) & 1)
        else:
            signs = 1.0 - 2.0 * random.integers(0, 2, size=(numbers.size, n))
        reached += (np.abs(signs @ values.T) >= observed).sum(axis=0)
    return reached / total if exact else (1 + reached) / (1 + total)


def holm(p: np.ndarray, family: Sequence[object] | None = None) -> np.ndarray:
    """Return p-values adjusted after Holm (Scand J Stat 6:65, 1979) within each family; missing ones stay missing.

    Parameters
    ----------
    p
        Shape (tests,); NaN where there was no test, which then counts for nothing.
    family
        Name of the family of each test; None: all are one.
    """
    from statsmodels.stats.multitest import multipletests

    p = np.asarray(p, dtype=float)
    names = np.zeros(p.size, dtype=int)
    if family is not None:
        order: dict = {}
        names = np.array([order.setdefault(name, len(order)) for name in family], dtype=int)
    adjusted = np.full(p.size, np.nan)
    for name in np.unique(names):
        own = (names == name) & np.isfinite(p)
        if own.any():
            adjusted[own] = multipletests(p[own], method="holm")[1]
    return adjusted
