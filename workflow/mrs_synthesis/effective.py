"""The number of real transients that a source is worth: its place on the learning curve of real transients."""

from __future__ import annotations

import bisect
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mrs_synthesis import agreement
from mrs_synthesis.agreement import Paired

CLIP = (0.5, 2.0)  # how far beyond the learning curve's ends the effective number may lie


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


def errors(pairs: Paired, drawn: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Return the RMS error of the data themselves, then of each resample."""
    pairs = pairs.usable()
    if not pairs.reference.size:
        return np.full(1 + len(drawn), np.nan)
    ones = np.ones((1, pairs.reference.size))
    return agreement.rmse(pairs, np.concatenate([ones, agreement.weights_of(pairs, drawn, random)]))


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
    found = np.array([errors(real[size], drawn, random) for size in n])
    return [LearningCurve.of(n, column) for column in found.T.tolist()]


def placed(curves: Sequence[LearningCurve], errors: np.ndarray) -> np.ndarray:
    """Return the number of real transients that each error is worth on the curve of the same resample."""
    return np.array([curve.place(error)[0] for curve, error in zip(curves, errors.tolist(), strict=True)])


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
    found = errors(source, drawn, random)
    pairs = source.usable()
    n = int(np.unique(pairs.subject).size)
    value, flag = curves[0].place(float(found[0]))
    draws = placed(curves[1:], found[1:])
    known = n > 1 or source.n_subjects == 1
    low, high = agreement.interval(draws, agreement.drawn_from(pairs)) if known else (math.nan, math.nan)
    steep = float(agreement.slope(pairs, np.ones((1, pairs.reference.size)))[0]) if n >= agreement.FEWEST else math.nan
    return {
        "n_eff": value,
        "n_eff_ci_low": low,
        "n_eff_ci_high": high,
        "n_eff_clipped": flag,
        "slope": steep,
        "rmse_percent": float(found[0]),
        "n": n,
    }
