"""What each metabolite adds to the population's mean spectrum: known patterns of lines that vary together.

A basis set holds the patterns; the fit of the mean gives their amounts and the line shape. The model of subjects takes
them into the prior of its covariance (`mrs_synthesis.subject_fit`): what is known of the chemistry need not be learned
from a few subjects.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis import lcm_model, metabolites, spectra
from mrs_synthesis.assemble import window_spectra
from mrs_synthesis.basis import choose_set
from mrs_synthesis.stage import InputError

if TYPE_CHECKING:
    from mrs_synthesis.basis import Basis
    from mrs_synthesis.lcm import Result

DIFF_PPM = (0.5, 4.2)  # as quantification fits DIFF by default
LEAST_EXPLAINED = 0.8  # of the mean's power within the fit range; less, and the basis is not that of these data


@dataclass(frozen=True)
class Patterns:
    """Patterns of M metabolites.

    Attributes
    ----------
    names
        Of the metabolites.
    spectra
        What each adds to the population's mean, complex (M, conditions, W).
    explained
        Share of the mean's power that they and the baseline explain in the first condition.
    """

    names: tuple[str, ...]
    spectra: np.ndarray
    explained: float


def _amounts(fid: np.ndarray, basis: Basis, condition: str, grid: dict[str, Any]) -> tuple[dict, Result]:
    """Return amount and its SD by metabolite, on the data's scale, and the fit of one FID (points,)."""
    from mrs_synthesis import lcm

    limits = DIFF_PPM if condition == "DIFF" else lcm_model.METABOLITE_RANGE_PPM
    limits = (max(limits[0], grid["ppm"][0]), min(limits[1], grid["ppm"][-1]))
    basis = metabolites.fitted(basis, condition, metabolites.UNUSUAL, limits)
    model = lcm_model.build(
        basis, fid.size, grid["dwell_s"], grid["frequency_mhz"], options=lcm_model.Options(ppm_range=limits)
    )
    result = lcm.fit(fid[None], model)
    scale = model.basis_scale / float(result.fid_scale[0])
    sd = np.sqrt(np.diagonal(result.covariance[0])) * scale
    found = {name: (result.c[0, i] * scale, sd[i]) for i, name in enumerate(model.names)}
    return found, result


def patterns(mean: np.ndarray, grid: dict[str, Any], folders: Sequence[Path]) -> Patterns:
    """Return the patterns in a mean spectrum.

    Parameters
    ----------
    mean
        Complex (conditions, W), on the grid.
    grid
        Of the training set: ppm, dwell_s, n_points, frequency_mhz, conditions.
    folders
        Basis sets; the one nearest in frequency is taken.

    Raises
    ------
    InputError
        If no basis fits the grid, or it does not explain the mean.
    """
    conditions = tuple(grid["conditions"])
    edited = conditions == ("OFF", "ON")
    folder, bases = choose_set(folders, grid["frequency_mhz"], [*conditions, "DIFF"] if edited else conditions)
    ppm = np.asarray(grid["ppm"])
    raster = (grid["n_points"], grid["dwell_s"], grid["frequency_mhz"])
    fids = spectra.from_window(mean, ppm, *raster)
    found, result = _amounts(fids[0], bases[conditions[0]], conditions[0], grid)
    explained = 1 - float(np.sum(np.abs(result.data - result.fit) ** 2) / np.sum(np.abs(result.data) ** 2))
    if explained < LEAST_EXPLAINED:
        raise InputError(
            f"{folder}: explains {100 * explained:.0f} % of the training subjects' mean spectrum, expected at least "
            f"{100 * LEAST_EXPLAINED:.0f} %; give the basis of this sequence, or set patterns to false"
        )
    if edited:  # of what is seen in both, the amount that is known better
        for name, (amount, sd) in _amounts(fids[1] - fids[0], bases["DIFF"], "DIFF", grid)[0].items():
            if name not in found or sd < found[name][1]:
                found[name] = (amount, sd)

    t = spectra.time_axis(grid["n_points"], grid["dwell_s"])
    decay = np.exp(-(result.gamma[0, 0] + result.sigma[0, 0] ** 2 * t) * t)
    names = tuple(name for name, (amount, _) in found.items() if amount > 0)
    spectrum = np.zeros((len(names), len(conditions), ppm.size), complex)
    for e, condition in enumerate(conditions):
        basis = bases[condition]
        resampled = lcm_model.resample(basis.fids, basis.dwell_s, grid["dwell_s"], grid["n_points"])
        whole = window_spectra(resampled * decay, ppm, grid["dwell_s"], grid["frequency_mhz"])
        for m, name in enumerate(names):
            if name in basis.names:
                spectrum[m, e] = found[name][0] * whole[basis.names.index(name)]
    return Patterns(names, spectrum, explained)
