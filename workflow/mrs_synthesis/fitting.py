"""What the fitting engines share: their input, their output, and the table made of it.

Nothing here imports torch or FSL-MRS, since each engine's environment lacks the other. An engine is made once for a
`Task`, fits any number of chunks of spectra (``fit(fids) -> Fitted``), and is closed in the end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Protocol

import numpy as np

from mrs_synthesis import lcm_model, metabolites
from mrs_synthesis.basis import Basis

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = (
    "cell",
    "condition",
    "metabolite",
    "engine",
    "raw",
    "raw_sd",
    "per_tcr",
    "per_tcr_sd",
    "crlb_percent",
    "snr",
    "fwhm_hz",
    "converged",
    "molality_mmol_kg",
    "molality_sd_mmol_kg",
    "molarity_mmol_l",
    "note",
)
LARGEST_CRLB = 999.0
WITH_TCR = ("OFF", "UNEDITED")  # conditions whose tCr and water serve all conditions of a cell


@dataclass
class Task:
    """What is fitted to all spectra of one edit condition.

    Attributes
    ----------
    condition
        OFF, ON, DIFF or UNEDITED.
    n_points, dwell_s, frequency_mhz
        Raster of the data.
    basis
        What is fitted, at the data's frequency.
    groups
        Line-shape group of each basis spectrum.
    options
        Fit window, baseline, line shape.
    """

    condition: str
    n_points: int
    dwell_s: float
    frequency_mhz: float
    basis: Basis
    groups: list[int]
    options: lcm_model.Options

    def model(self) -> lcm_model.Model:
        """Return the model to be fitted.

        Raises
        ------
        InputError
            If the basis is shorter than the data, or zero.
        """
        raster = (self.n_points, self.dwell_s, self.frequency_mhz)
        return lcm_model.build(self.basis, *raster, groups=self.groups, options=self.options)


@dataclass
class Fitted:
    """An engine's answer to a `Task` with n basis spectra in G groups. NaN in cells that could not be fitted.

    Attributes
    ----------
    names
        Basis spectra, n.
    raw
        Amplitudes, (cells, n): data FID amplitude / basis FID amplitude.
    covariance
        Of `raw`, (cells, n, n).
    snr, fwhm_hz
        (cells, n), by `lcm_quality.per_metabolite`'s definitions.
    converged
        (cells,) booleans.
    objective
        What was minimised, for data scaled to norm 100: the sum of the squared residual, and the penalty of a spline
        baseline; (cells,).
    ppm
        Fit window, (W,).
    data, fit, baseline
        Spectra on the scale of `spectra.to_spectrum`, complex (cells, W).
    gamma, sigma
        Lorentzian and Gaussian width of each group, 1/s, (cells, G).
    eps
        Shift in rad/s, positive moves peaks down in ppm: of each group, (cells, G), with `free_shift` of each basis
        spectrum, (cells, n).
    phi0, phi1
        Phase in rad and in rad/Hz, (cells,).
    """

    names: list[str]
    raw: np.ndarray
    covariance: np.ndarray
    snr: np.ndarray
    fwhm_hz: np.ndarray
    converged: np.ndarray
    objective: np.ndarray
    ppm: np.ndarray
    data: np.ndarray
    fit: np.ndarray
    baseline: np.ndarray
    gamma: np.ndarray
    sigma: np.ndarray
    eps: np.ndarray
    phi0: np.ndarray
    phi1: np.ndarray

    def spread(self, found: Fitted, where: np.ndarray) -> Fitted:
        """Put the cells of `found` to the positions `where` (cells,) of this one; return this one."""
        for field in fields(self):
            if field.name not in ("names", "ppm"):
                getattr(self, field.name)[where] = getattr(found, field.name)
        return self


class Engine(Protocol):
    """What `quantify` expects of an engine; it is a context manager as well."""

    def fit(self, fids: np.ndarray) -> Fitted:
        """Fit finite FIDs (cells, n_points) other than zero."""

    def close(self) -> None:
        """Release what the engine holds."""


def missing(task: Task, ppm: np.ndarray, cells: int) -> Fitted:
    """Return the answer in which no cell was fitted; `ppm` is the fit window."""
    n, groups, width = len(task.basis.names), max(task.groups) + 1, len(ppm)
    shapes = {"raw": (n,), "covariance": (n, n), "snr": (n,), "fwhm_hz": (n,), "objective": (), "phi0": (), "phi1": ()}
    shapes |= {"gamma": (groups,), "sigma": (groups,), "eps": (n if task.options.free_shift else groups,)}
    arrays = {name: np.full((cells, *shape), np.nan) for name, shape in shapes.items()}
    arrays |= {name: np.full((cells, width), np.nan, complex) for name in ("data", "fit", "baseline")}
    return Fitted(names=list(task.basis.names), ppm=ppm, converged=np.zeros(cells, bool), **arrays)


def totals(names: Sequence[str], condition: str) -> tuple[list[str], np.ndarray]:
    """Return the names of basis spectra and their sums, m, and what each is a sum of: zeros and ones (m, n)."""
    sums = metabolites.sums(names, condition)
    weights = np.vstack([np.eye(len(names)), np.zeros((len(sums), len(names)))])
    for row, members in enumerate(sums.values(), len(names)):
        weights[row, [list(names).index(member) for member in members]] = 1
    return [*names, *sums], weights


def reference_condition(results: Mapping[str, Fitted] | Sequence[str]) -> str | None:
    """Return the condition whose tCr all conditions are divided by."""
    return next((condition for condition in WITH_TCR if condition in results), None)


def _crlb_percent(raw: np.ndarray, sd: np.ndarray) -> np.ndarray:
    percent = np.full(raw.shape, LARGEST_CRLB)
    np.divide(100 * sd, raw, out=percent, where=raw > 0)
    return np.where(np.isfinite(raw), np.minimum(percent, LARGEST_CRLB), np.nan)


def _tcr(results: Mapping[str, Fitted]) -> tuple[np.ndarray, np.ndarray, np.ndarray] | None:
    """Return tCr, its variance, both (cells,), and its covariance with the condition's basis spectra, (cells, n)."""
    condition = reference_condition(results)
    if condition is None:
        return None
    fitted = results[condition]
    names, weights = totals(fitted.names, condition)
    if "tCr" not in names:
        return None
    own = weights[names.index("tCr")]
    covariance = fitted.covariance @ own
    return np.where(fitted.raw @ own > 0, fitted.raw @ own, np.nan), covariance @ own, covariance


def table(
    results: Mapping[str, Fitted],
    engine: str,
    *,
    notes: Mapping[str, Sequence[str]] | None = None,
    per_raw: tuple[np.ndarray, np.ndarray] | None = None,
    first_cell: int = 0,
) -> pd.DataFrame:
    """Return the table of all conditions with the columns of `COLUMNS`, cell by cell.

    ``per_tcr`` is raw over raw of tCr in OFF or UNEDITED of the same cell; missing where that is not fitted or zero.
    Its SD is the first-order propagation of the fits' covariance; spectra of different conditions count as independent.

    Parameters
    ----------
    results
        Fits of the same cells in each condition.
    engine
        Its name.
    notes
        For each condition a text for each cell, possibly empty.
    per_raw
        mmol/kg and mmol/l for one unit of `raw`, (cells,) each. None: those columns stay empty.
    first_cell
        Number of the first cell.
    """
    import pandas as pd

    reference, tcr = reference_condition(results), _tcr(results)
    parts: dict[str, list[np.ndarray]] = {name: [] for name in COLUMNS}
    for condition, fitted in results.items():
        names, weights = totals(fitted.names, condition)
        raw = fitted.raw @ weights.T
        variance = np.einsum("mi,cij,mj->cm", weights, fitted.covariance, weights)
        sd, empty = np.sqrt(np.maximum(variance, 0)), np.full(raw.shape, np.nan)
        blank = np.full((len(raw), len(names) - len(fitted.names)), np.nan)  # sums have neither SNR nor width
        columns = {
            "condition": np.full(raw.shape, condition, object),
            "metabolite": np.broadcast_to(np.array(names, object), raw.shape),
            "raw": raw,
            "raw_sd": sd,
            "per_tcr": empty,
            "per_tcr_sd": empty,
            "crlb_percent": _crlb_percent(raw, sd),
            "snr": np.hstack([fitted.snr, blank]),
            "fwhm_hz": np.hstack([np.where(fitted.fwhm_hz > 0, fitted.fwhm_hz, np.nan), blank]),  # 0: no clear peak
            "converged": np.broadcast_to(fitted.converged.astype(int)[:, None], raw.shape),
            "molality_mmol_kg": empty,
            "molality_sd_mmol_kg": empty,
            "molarity_mmol_l": empty,
        }
        if tcr is not None:
            divisor, tcr_variance, tcr_covariance = tcr
            ratio = raw / divisor[:, None]
            shared = tcr_covariance @ weights.T if condition == reference else 0.0
            spread = variance + ratio**2 * tcr_variance[:, None] - 2 * ratio * shared
            columns["per_tcr"], columns["per_tcr_sd"] = ratio, np.sqrt(np.maximum(spread, 0)) / divisor[:, None]
        if per_raw is not None:
            molality, molarity = (factor[:, None] for factor in per_raw)
            columns["molality_mmol_kg"], columns["molality_sd_mmol_kg"] = raw * molality, sd * molality
            columns["molarity_mmol_l"] = raw * molarity
        known = np.isfinite(fitted.raw).all(axis=1)
        lacking = {"no tCr fitted" if tcr is None else "no tCr in this cell": "per_tcr"}
        if per_raw is not None:
            lacking["no peak in this cell to refer to water"] = "molality_mmol_kg"
        texts = [[text] for text in (notes or {}).get(condition, [""] * len(raw))]
        for why, column in lacking.items():
            for cell in np.flatnonzero(known & ~np.isfinite(columns[column]).all(axis=1)):
                texts[cell].append(why)
        texts = np.array(["; ".join(filter(None, each)) or None for each in texts], object)
        columns["note"] = np.broadcast_to(texts[:, None], raw.shape)
        columns["cell"] = np.broadcast_to(first_cell + np.arange(len(raw))[:, None], raw.shape)
        columns["engine"] = np.full(raw.shape, engine, object)
        for name in COLUMNS:
            parts[name].append(columns[name])
    return pd.DataFrame({name: np.hstack(arrays).ravel() for name, arrays in parts.items()})


def curves(results: Mapping[str, Fitted], first_cell: int = 0) -> dict[str, np.ndarray]:
    """Return the arrays of the file of curves: for each condition cell, ppm, objective, data, fit, baseline.

    All but ppm have one row per cell.
    """
    arrays = {}
    for condition, fitted in results.items():
        arrays[f"{condition}_cell"] = first_cell + np.arange(len(fitted.raw))
        arrays[f"{condition}_ppm"] = fitted.ppm
        arrays[f"{condition}_objective"] = fitted.objective
        for part in ("data", "fit", "baseline"):
            arrays[f"{condition}_{part}"] = getattr(fitted, part).astype(np.complex64)
    return arrays
