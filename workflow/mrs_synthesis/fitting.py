"""What the fitting engines share: their input, their output, and the table made of it.

Nothing here imports torch or FSL-MRS, since each engine's environment lacks the other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import metabolites, spectra
from mrs_synthesis.basis import Basis
from mrs_synthesis.stage import InputError

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
    "crlb_percent",
    "snr",
    "fwhm_hz",
    "converged",
)
LARGEST_CRLB = 999.0
POSITION_TOLERANCE_PPM = 0.1


@dataclass
class Task:
    """Spectra of one edit condition to be fitted.

    Attributes
    ----------
    condition
        OFF, DIFF or UNEDITED.
    fids
        Complex (cells, n_points), in the project's convention.
    dwell_s, frequency_mhz
        Their raster.
    basis
        What is fitted, at the data's frequency.
    groups
        Line-shape group of each basis spectrum.
    ppm_range, baseline_order
        Fit window and order of the polynomial baseline.
    """

    condition: str
    fids: np.ndarray
    dwell_s: float
    frequency_mhz: float
    basis: Basis
    groups: list[int]
    ppm_range: tuple[float, float]
    baseline_order: int


@dataclass
class Fitted:
    """An engine's answer to a `Task` with n basis spectra.

    Attributes
    ----------
    names
        Basis spectra, n.
    raw
        Amplitudes, (cells, n): data FID amplitude / basis FID amplitude. NaN in cells that could not be fitted.
    covariance
        Of `raw`, (cells, n, n).
    snr, fwhm_hz
        (cells, n), by `lcm_quality.per_metabolite`'s definitions.
    converged
        (cells,) booleans.
    objective
        Sum of the squared residual for data scaled to norm 100, (cells,).
    ppm
        Fit window, (W,).
    data, fit, baseline
        Spectra on the scale of `spectra.to_spectrum`, complex (cells, W).
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


def _crlb_percent(raw: np.ndarray, sd: np.ndarray) -> np.ndarray:
    percent = np.full(raw.shape, LARGEST_CRLB)
    np.divide(100 * sd, raw, out=percent, where=raw > 0)
    return np.where(np.isfinite(raw), np.minimum(percent, LARGEST_CRLB), np.nan)


def rows(fitted: Fitted, condition: str, engine: str) -> pd.DataFrame:
    """Return one row per cell and metabolite (and sum of metabolites) of one condition, without `per_tcr`."""
    import pandas as pd

    totals = metabolites.sums(fitted.names, condition)
    names = fitted.names + list(totals)
    weights = np.zeros((len(names), len(fitted.names)))
    weights[: len(fitted.names)] = np.eye(len(fitted.names))
    for i, members in enumerate(totals.values(), len(fitted.names)):
        weights[i, [fitted.names.index(member) for member in members]] = 1
    raw = fitted.raw @ weights.T
    sd = np.sqrt(np.einsum("mi,cij,mj->cm", weights, fitted.covariance, weights))
    missing = np.full((len(raw), len(totals)), np.nan)
    width = np.where(fitted.fwhm_hz > 0, fitted.fwhm_hz, np.nan)  # 0: no clear peak
    cells = np.arange(len(raw))
    return pd.DataFrame(
        {
            "cell": np.repeat(cells, len(names)),
            "condition": condition,
            "metabolite": names * len(raw),
            "engine": engine,
            "raw": raw.ravel(),
            "raw_sd": sd.ravel(),
            "crlb_percent": _crlb_percent(raw, sd).ravel(),
            "snr": np.hstack([fitted.snr, missing]).ravel(),
            "fwhm_hz": np.hstack([width, missing]).ravel(),
            "converged": np.repeat(fitted.converged.astype(int), len(names)),
        }
    )


def table(results: dict[str, Fitted], engine: str) -> pd.DataFrame:
    """Return the table of all conditions with the columns of `COLUMNS`.

    ``per_tcr`` is raw over raw of tCr in OFF or UNEDITED of the same cell; missing where that is not fitted or zero.
    """
    import pandas as pd

    joined = pd.concat([rows(fitted, condition, engine) for condition, fitted in results.items()], ignore_index=True)
    reference = joined[(joined["metabolite"] == "tCr") & (joined["condition"] != "DIFF") & (joined["raw"] > 0)]
    tcr = joined["cell"].map(reference.set_index("cell")["raw"])
    joined["per_tcr"] = joined["raw"] / tcr.astype(float)
    return joined[list(COLUMNS)]


def curves(results: dict[str, Fitted]) -> dict[str, np.ndarray]:
    """Return the arrays of the file of curves: for each condition ppm, data, fit, baseline, objective, cell."""
    arrays = {}
    for condition, fitted in results.items():
        arrays[f"{condition}_cell"] = np.arange(len(fitted.raw))
        arrays[f"{condition}_ppm"] = fitted.ppm
        arrays[f"{condition}_objective"] = fitted.objective
        for part in ("data", "fit", "baseline"):
            arrays[f"{condition}_{part}"] = getattr(fitted, part).astype(np.complex64)
    return arrays


def _edges(fid: np.ndarray, dwell_s: float, frequency_mhz: float, ppm: np.ndarray) -> np.ndarray:
    """Return a magnitude spectrum's steepness at `ppm`, which narrow lines dominate, not baselines."""
    decay = np.exp(-np.pi * 5 * spectra.time_axis(fid.size, dwell_s))
    matrix = spectra.window_matrix(ppm, fid.size, dwell_s, frequency_mhz)
    return np.abs(np.gradient(np.abs((fid * decay) @ matrix)))


def check_positions(task: Task, path: str) -> float:
    """Check that the data's singlets lie where the basis has them, and return how far off they are in ppm.

    The mean of all cells is compared with Cr + NAA (+ GPC) of the basis between 1.7 and 3.5 ppm. Nothing is checked if
    the basis has neither.

    Raises
    ------
    InputError
        If they are more than 0.1 ppm off, or the spectrum's mirror image fits better.
    """
    names = [name for name in ("NAA", "Cr", "PCr", "GPC", "PCh") if name in task.basis.names]
    if not {"NAA", "Cr", "PCr"} & set(names):
        return 0.0
    weight = {"NAA": 1.0, "Cr": 0.4, "PCr": 0.4, "GPC": 0.1, "PCh": 0.1}
    model = sum(weight[name] * fid for name, fid in zip(names, task.basis.select(names).fids, strict=True))
    ppm = np.arange(1.3, 3.9, 0.004)
    wanted = _edges(model, task.basis.dwell_s, task.basis.frequency_mhz, ppm)
    inside = (ppm > 1.7) & (ppm < 3.5)
    offsets = np.arange(-100, 101)  # of 0.004 ppm

    def best(fid: np.ndarray) -> tuple[float, float]:
        seen = _edges(fid, task.dwell_s, task.frequency_mhz, ppm)
        centre = np.flatnonzero(inside)
        scores = [seen[centre + k] @ wanted[centre] / max(np.linalg.norm(seen[centre + k]), 1e-300) for k in offsets]
        k = int(np.argmax(scores))
        return float(offsets[k] * 0.004), float(scores[k])

    mean = task.fids.mean(axis=0)
    (offset, score), (_, mirrored) = best(mean), best(np.conj(mean))
    if mirrored > 1.2 * score:
        raise InputError(
            f"{path}: the mirror image of {task.condition} fits the basis better; "
            "the sign of the imaginary part is wrong: convert the file again or conjugate it"
        )
    if abs(offset) > POSITION_TOLERANCE_PPM:
        raise InputError(
            f"{path}: NAA and tCr of {task.condition} are {offset:+.2f} ppm from 2.008 and 3.027 ppm; "
            "shift the spectra to their reference first"
        )
    return offset
