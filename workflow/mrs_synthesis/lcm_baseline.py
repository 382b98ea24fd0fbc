"""Baselines of the linear-combination fit: none, polynomials, penalised splines, as FSL-MRS has them.

A baseline is linear in its coefficients, which are real and separate for the real and the imaginary part, and its
shapes do not depend on anything fitted. So the best baseline of a residual r is a smoother ``H r = U diag(h) U' r``
with orthonormal shapes U and 0 < h <= 1 (h = 1: not penalised), and the least objective over the coefficients, penalty
included, is ``r' (I - H) r`` (variable projection, Golub & Pereyra 1973). The solver works with ``(I - H)^(1/2) r`` and
never sees a coefficient.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrs_synthesis.stage import InputError

# FSL-MRS's names of effective dimensions
DIMENSIONS = {"very-stiff": 3.0, "stiff": 10.0, "moderate": 20.0, "flexible": 30.0, "very-flexible": 50.0}
INTERVALS_PER_PPM = 15
DEGREE = 3
LARGEST_PENALTY = 1e7
LARGEST_ORDER = 10
HELP = "expected off, 'poly, ORDER', or 'spline, NAME' with NAME " + ", ".join(DIMENSIONS) + " or a number from 2"


@dataclass
class Baseline:
    """A baseline over W points of the fit window.

    Attributes
    ----------
    shapes
        U, orthonormal, real, (W, k); k may be 0.
    kept
        h, the part of each shape that the penalty leaves, (k,).
    columns, penalty
        The shapes whose coefficients enter the covariance, (W, K), and what is added to their information matrix,
        (K, K).
    """

    shapes: np.ndarray
    kept: np.ndarray
    columns: np.ndarray
    penalty: np.ndarray


def parse(text: str) -> tuple[str, float]:
    """Return the kind, ``off``, ``poly`` or ``spline``, and the order or effective dimension.

    Raises
    ------
    InputError
        If `text` is none of FSL-MRS's forms.
    """
    kind, *rest = (word.strip().lower() for word in str(text).split(","))
    if kind == "off" and not rest:
        return "off", 0.0
    try:
        (word,) = rest
        value = DIMENSIONS[word] if kind == "spline" and word in DIMENSIONS else float(word)
    except ValueError:
        raise InputError(f"baseline {text!r}: {HELP}") from None
    if kind == "poly" and value == int(value) and 0 <= value <= LARGEST_ORDER:
        return kind, value
    if kind == "spline" and value >= 2:
        return kind, value
    raise InputError(f"baseline {text!r}: {HELP} (orders 0 to {LARGEST_ORDER})")


def make(text: str, n_window: int, width_ppm: float) -> Baseline:
    """Return the baseline that `text` names (`parse`) over a window of `n_window` points and `width_ppm`."""
    kind, value = parse(text)
    if kind == "spline":
        return _spline(n_window, int(INTERVALS_PER_PPM * width_ppm), value)
    order = int(value) if kind == "poly" else 0
    columns = np.polynomial.legendre.legvander(np.linspace(-1, 1, n_window), order)
    if n_window <= columns.shape[1]:
        raise InputError(f"baseline {text!r}: {n_window} points in the fit range; widen it or use more points")
    q, _ = np.linalg.qr(columns)
    # FSL-MRS's "off" is a constant bound to zero, which its covariance knows of all the same
    fitted = q if kind == "poly" else q[:, :0]
    return Baseline(fitted, np.ones(fitted.shape[1]), columns, np.zeros((columns.shape[1],) * 2))


def spline_columns(n_window: int, n_intervals: int) -> np.ndarray:
    """Return cubic B-splines with evenly spaced knots (Eilers & Marx 1996), (n_window, n_intervals + 3)."""
    from scipy.interpolate import BSpline

    knots = np.arange(-DEGREE, n_intervals + DEGREE + 1, dtype=float)
    x = np.linspace(0, n_intervals, n_window)
    return BSpline.design_matrix(x, knots, DEGREE, extrapolate=False).toarray()


def _spline(n_window: int, n_intervals: int, dimension: float) -> Baseline:
    """Return P-splines with a second-difference penalty of a given effective dimension."""
    from scipy.optimize import fminbound

    if n_window <= n_intervals + DEGREE:
        raise InputError(f"spline baseline: {n_window} points in the fit range, expected over {n_intervals + DEGREE}")
    columns = spline_columns(n_window, n_intervals)
    differences = np.diff(np.eye(columns.shape[1]), n=2)
    roughness = differences @ differences.T
    q, r = np.linalg.qr(columns)
    inverse = np.linalg.inv(r)
    values, vectors = np.linalg.eigh(inverse.T @ roughness @ inverse)
    values = values.clip(min=0)

    def excess(penalty: float) -> float:
        return float((np.sum(1 / (1 + penalty * values)) - dimension) ** 2)

    penalty = float(fminbound(excess, 1 / LARGEST_PENALTY, LARGEST_PENALTY))
    # FSL-MRS doubles the penalty in the information matrix, and does not divide it by the noise variance
    return Baseline(q @ vectors, 1 / (1 + penalty * values), columns, 2 * penalty * roughness)
