"""Absolute concentrations: the fit's amplitudes referred to the tissue's own water, by FSL-MRS's definitions.

With S the areas of the reference metabolite and of the unsuppressed water, and T1, T2, TE, TR in s::

    R        = (1 - exp(-TR / T1)) exp(-TE / T2)                                share of a signal that is seen
    molality = S_M / S_W * 2 / protons * 55510 * sum_k x_k R_k / (1 - f_CSF) / R_M        mmol/kg of tissue water
    molarity = S_M / S_W * 2 / protons * 55510 * sum_k f_k d_k R_k / (1 - f_CSF) / R_M    mmol/l of tissue

over white and grey matter and CSF: volume fraction f, water density d, share of the voxel's water
x_k = f_k d_k / sum_j f_j d_j (Gasparovic et al., Magn Reson Med 2006; Near et al., NMR Biomed 2021, equations 4 to 6).
Without tissue fractions the voxel is pure water that relaxes with the mean T1 and T2 of grey and white matter. Other
metabolites follow the reference one by the ratio of amplitudes; the metabolites share one T1 and one T2.

Two things that FSL-MRS 2.4 does, and so does this module, are worth knowing. It divides both by 1 - f_CSF, where
equation 4 of Near et al. has 1 - x_CSF in the molality; since CSF holds more water than tissue, the molality is lower
by (1 - x_CSF) / (1 - f_CSF): 3 % at 10 % CSF. The molarity has no such difference. And the reference metabolite's area
is that of the basis after resampling (`lcm_model.resample`), which lowers a FID's first point where the basis has a
wider band than the data: with twice the data's band, concentrations come out 2.5 % too low. Bases with the data's dwell
time have no such error.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mrs_synthesis import lcm_model
from mrs_synthesis.relaxation import WATER_PROTONS, Tissue, relaxation, seen, visible_water
from mrs_synthesis.spectra import WATER_PPM
from mrs_synthesis.stage import InputError

if TYPE_CHECKING:
    from mrs_synthesis.fitting import Fitted, Task

WATER_RANGE_PPM = (1.65, 7.65)
LONGEST_TE_S, LONGEST_TR_S = 1.0, 60.0
LEAST_EXPLAINED = 0.5  # of the water FID's energy by one line; less is no unsuppressed water
CELLS_AT_ONCE = 128  # 2048 points: 4 MiB for each of a few arrays


class Reference(NamedTuple):
    """A metabolite (or two that share a spectrum) whose area stands for its protons in a range of ppm."""

    members: tuple[str, ...]
    protons: int
    ppm: tuple[float, float]


# In FSL-MRS's order of preference. Creatine: CH3 at 3.03 and CH2 at 3.91 ppm; NAA: its CH3 at 2.01 ppm
REFERENCES = (
    Reference(("Cr", "PCr"), 5, (2.0, 5.0)),
    Reference(("Cr",), 5, (2.0, 5.0)),
    Reference(("PCr",), 5, (2.0, 5.0)),
    Reference(("NAA",), 3, (1.8, 2.2)),
)


def _window(n_points: int, dwell_s: float, frequency_mhz: float, ppm: tuple[float, float]) -> slice:
    """Return FSL-MRS's points between two ppm: nearest to the limits on an even axis, the last one left out."""
    axis = np.linspace(-0.5 / dwell_s, 0.5 / dwell_s, n_points) / frequency_mhz + WATER_PPM
    return slice(*sorted(int(np.argmin(np.abs(axis - limit))) for limit in ppm))


def area(fids: np.ndarray, dwell_s: float, frequency_mhz: float, ppm: tuple[float, float]) -> np.ndarray:
    """Return the integral of the magnitude of the real spectrum between two ppm, shape (...,) for FIDs (..., n).

    About half the FID's first point for a line in phase well inside. FSL-MRS's integral over points of the orthonormal
    spectrum is this times the root of n; divided by it, water and scan need not have the same raster.
    """
    halved = np.array(fids, complex)
    halved[..., 0] *= 0.5
    spectrum = np.fft.fftshift(np.fft.fft(halved, axis=-1).real, axes=-1) / halved.shape[-1]
    return np.trapezoid(np.abs(spectrum[..., _window(halved.shape[-1], dwell_s, frequency_mhz, ppm)]), axis=-1)


def fit_line(fid: np.ndarray, dwell_s: float) -> tuple[np.ndarray, float]:
    """Fit one line ``a exp(-(gamma + i omega + sigma t) t)``, gamma and sigma not negative, a complex, to an FID.

    Least squares over all points, t from one dwell as in FSL-MRS; the amplitude is solved for at each step (variable
    projection). The search starts at the spectrum's highest point, where FSL-MRS starts at 4.65 ppm.

    Returns
    -------
    fid
        The line in phase and at 4.65 ppm, real, (n,).
    explained
        Share of the FID's energy that it holds.
    """
    from scipy.optimize import least_squares

    n = fid.size
    t = dwell_s * np.arange(1, n + 1)
    norm = np.linalg.norm(fid)
    unit = fid / norm
    peak = np.argmax(np.abs(np.fft.fft(unit, 4 * n)))
    start = [10.0, 10.0, -2 * np.pi * np.fft.fftfreq(4 * n, dwell_s)[peak]]

    def line(p: np.ndarray) -> tuple[np.ndarray, complex]:
        shape = np.exp(-(p[0] + 1j * p[2] + p[1] * t) * t)
        return shape, np.vdot(shape, unit) / np.vdot(shape, shape).real

    def residual(p: np.ndarray) -> np.ndarray:
        shape, amplitude = line(p)
        return (unit - amplitude * shape).view(float)

    low, high = (0, 0, -np.inf), (np.inf, np.inf, np.inf)
    found = least_squares(residual, start, bounds=(low, high), x_scale="jac", ftol=1e-12, xtol=1e-12, gtol=1e-12)
    _, amplitude = line(found.x)
    return norm * abs(amplitude) * np.exp(-(found.x[0] + found.x[1] * t) * t), 1 - 2 * float(found.cost)


def reference_area(fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the area of unsuppressed water, shape (...,) for FIDs (..., n): of a line fitted to each, 1.65-7.65 ppm.

    Raises
    ------
    InputError
        If an FID is zero or not finite, or one line explains less than half of its energy: this is no water.
    """
    fids = np.asarray(fids, complex)
    areas = []
    for fid in fids.reshape(-1, fids.shape[-1]):
        if not np.all(np.isfinite(fid)) or not fid.any():
            raise InputError("the water reference is zero or not finite; convert it again")
        line, explained = fit_line(fid, dwell_s)
        if explained < LEAST_EXPLAINED:
            raise InputError(
                f"one line explains {100 * explained:.0f} % of the water reference; expected unsuppressed water"
            )
        areas.append(area(line, dwell_s, frequency_mhz, WATER_RANGE_PPM))
    return np.array(areas).reshape(fids.shape[:-1])


@dataclass(frozen=True)
class WaterReference:
    """Unsuppressed water of a voxel, on the scale of its scan: FID (n,) and its raster."""

    fid: np.ndarray
    dwell_s: float
    frequency_mhz: float

    @cached_property
    def area(self) -> float:
        """Return `reference_area`."""
        return float(reference_area(self.fid, self.dwell_s, self.frequency_mhz))


def read_reference(path: Path | str, frequency_mhz: float) -> WaterReference:
    """Read a preprocessed water reference; several transients are averaged as they are.

    Raises
    ------
    InputError
        If the file cannot be read, holds coils, is empty of signal, or another field strength's.
    SkippedError
        If the file is empty: an earlier stage failed.
    """
    from mrs_synthesis.scans import read_scan

    scan = read_scan(path)
    if scan.fids.shape[2] != 1:
        raise InputError(f"{path}: {scan.fids.shape[2]} coils, expected combined water; preprocess it with its scan")
    if abs(scan.frequency_mhz / frequency_mhz - 1) > 0.01:
        raise InputError(
            f"{path}: water at {scan.frequency_mhz:.2f} MHz, scan at {frequency_mhz:.2f} MHz; give the scan's own water"
        )
    fid = scan.fids.mean(axis=(0, 1, 2))
    if not fid.any():
        raise InputError(f"{path}: the water reference is zero everywhere; convert it again")
    return WaterReference(fid, scan.dwell_s, scan.frequency_mhz)


def choose_reference(names: Sequence[str]) -> Reference | None:
    """Return the first of `REFERENCES` whose members were all fitted."""
    return next((reference for reference in REFERENCES if set(reference.members) <= set(names)), None)


def why_not(
    *,
    water: object | None,
    role: str,
    te_s: float | None,
    tr_s: float | None,
    frequency_mhz: float,
    names: Sequence[str] | None,
) -> str | None:
    """Say in a few words why there are no absolute concentrations; None if there can be.

    Parameters
    ----------
    water
        The reference or its path; None if there is none.
    role
        The sample sheet's water_role.
    te_s, tr_s
        Of the scan; None if not known.
    frequency_mhz
        Of the scan.
    names
        Basis spectra fitted in OFF or UNEDITED; None if neither is fitted.
    """
    if water is None or role == "none":
        return "no water reference"
    if role == "ecc":
        return "water reference is for eddy currents only"
    for value, longest, name in ((te_s, LONGEST_TE_S, "echo time"), (tr_s, LONGEST_TR_S, "repetition time")):
        if not value:
            return f"no {name}"
        if not 0 < value <= longest:
            return f"{name} of {value:g} s is impossible"
    try:
        relaxation(frequency_mhz)
    except InputError as error:
        return str(error).partition(";")[0]
    if names is None:
        return "neither OFF nor UNEDITED is fitted"
    if choose_reference(names) is None:
        return "none of Cr, PCr and NAA is fitted"
    return None


def _member_fids(task: Task, fitted: Fitted, members: Sequence[str], cells: slice) -> np.ndarray:
    """Return the fitted FIDs of some metabolites without phase, summed, (cells, n_points), on the data's scale."""
    t = task.dwell_s * np.arange(1, task.n_points + 1)
    basis = lcm_model.resample(task.basis.select(members).fids, task.basis.dwell_s, task.dwell_s, task.n_points)
    parts: dict[tuple[int, int], np.ndarray | float] = {}  # of one line shape
    for name, fid in zip(members, basis, strict=True):
        index = fitted.names.index(name)
        group = task.groups[index]
        shape = (group, index if task.options.free_shift else group)
        parts[shape] = parts.get(shape, 0.0) + fitted.raw[cells, index, None] * fid
    total = 0.0
    for (group, shift), part in parts.items():
        rate = fitted.sigma[cells, group, None] ** 2 * t + fitted.gamma[cells, group, None]
        total = total + part * np.exp(-(rate + 1j * fitted.eps[cells, shift, None]) * t)
    return total


def molality_factor(
    task: Task, fitted: Fitted, water: WaterReference, te_s: float, tr_s: float, tissue: Tissue | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return what one unit of `raw` is, in mmol/kg and in mmol/l, each of shape (cells,).

    From the fit of OFF or UNEDITED. The difference of the same cell takes the same factors, since its data and basis
    are ON - OFF alike, without a factor 1/2.

    Returns
    -------
    molality, molarity
        NaN in cells that failed and where the reference metabolite was fitted as zero.

    Raises
    ------
    InputError
        If the field strength is unknown, no reference metabolite was fitted, or the water is none.
    """
    times = relaxation(task.frequency_mhz)
    reference = choose_reference(fitted.names)
    if reference is None:
        raise InputError(f"{task.condition}: none of Cr, PCr and NAA is fitted, which water scaling needs")
    areas = np.full(len(fitted.raw), np.nan)
    for first in range(0, len(areas), CELLS_AT_ONCE):
        cells = slice(first, first + CELLS_AT_ONCE)
        fids = _member_fids(task, fitted, reference.members, cells)
        areas[cells] = area(fids, task.dwell_s, task.frequency_mhz, reference.ppm)
    amplitude = fitted.raw[:, [fitted.names.index(name) for name in reference.members]].sum(axis=1)
    per_raw = np.full(areas.shape, np.nan)
    np.divide(areas, amplitude, out=per_raw, where=amplitude > 0)
    per_raw *= WATER_PROTONS / reference.protons / water.area
    per_raw /= float(seen(times.metabolite_t1_s, times.metabolite_t2_s, te_s, tr_s))
    per_raw /= 1 - (tissue.csf if tissue else 0.0)
    molal, molar = visible_water(times, te_s, tr_s, tissue)
    return per_raw * molal, per_raw * molar
