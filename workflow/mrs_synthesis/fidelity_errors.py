"""Errors of reconstructions: complex, by edit condition and part of the spectrum, of transients and of their mean."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from mrs_synthesis import fidelity_metrics as metrics
from mrs_synthesis import seeds
from mrs_synthesis.fidelity_data import NOISE, POPULATION, REAL, RECONSTRUCTION, Study, Unit, by_condition

WHOLE = (0.2, 4.2)
REGIONS = (WHOLE, (0.2, 1.8), (1.8, 2.2), (2.2, 2.8), (2.8, 3.2), (3.2, 3.6), (3.6, 4.2), (4.2, 4.4))


@dataclass
class Errors:
    """NMSE of many scans, as a row of numbers each.

    Attributes
    ----------
    places
        Number of the column of each metric, source, condition and region.
    rows, subjects
        Of each scan the numbers and the subject; a row ends where later ones go on.
    """

    places: dict[tuple, int] = field(default_factory=dict)
    rows: list[np.ndarray] = field(default_factory=list)
    subjects: list[str] = field(default_factory=list)

    def add(self, subject: str, found: Mapping[tuple, float]) -> None:
        """Add what `reconstruction_errors` found in a scan."""
        columns = [self.places.setdefault(where, len(self.places)) for where in found]
        row = np.full(len(self.places), np.nan)
        row[columns] = list(found.values())
        self.rows.append(row)
        self.subjects.append(subject)

    def means(self, where: tuple) -> np.ndarray:
        """Return the means over scans of each subject that has the metric, in the order of the subjects' coming."""
        groups: dict[str, list[float]] = {}
        place = self.places[where]
        for subject, row in zip(self.subjects, self.rows, strict=True):
            if place < len(row) and not np.isnan(row[place]):
                groups.setdefault(subject, []).append(row[place])
        return np.array([np.mean(scans) for scans in groups.values()])


def region_bins(ppm: np.ndarray, low: float, high: float) -> np.ndarray | None:
    """Return which bins lie in a region; None if the window ends before, by more than a bin."""
    step = ppm[1] - ppm[0]
    inside = low >= ppm[0] - step and high <= ppm[-1] + step
    return np.flatnonzero((ppm >= low) & (ppm <= high)) if inside else None


def whole_region(ppm: np.ndarray) -> tuple[float, float]:
    """Return the region that points are made of: all of `WHOLE` that the window has."""
    return max(WHOLE[0], round(float(ppm[0]), 2)), min(WHOLE[1], round(float(ppm[-1]), 2))


def reconstruction_errors(
    unit: Unit, made: np.ndarray, mean: np.ndarray, study: Study, rng: np.random.Generator
) -> dict:
    """Return NMSE by (metric, source, condition, region) of the reconstruction `made` of a scan's transients.

    `mean` is the training subjects' mean, (conditions, W), in the training set's scale; `rng` draws the noise.
    """
    real, imaginary = rng.standard_normal((2, *unit.spectra.shape))
    variances = by_condition(unit.noise_sd**2, study.conditions)
    if "DIFF" in variances:  # noise adds
        variances["DIFF"] = variances["OFF"] + variances["ON"]
    estimates = {
        RECONSTRUCTION: made,
        POPULATION: np.broadcast_to(mean[:, None], made.shape),
        NOISE: unit.noise_sd[..., None] * (real + 1j * imaginary),
    }
    targets = by_condition(unit.spectra, study.conditions)
    parts = {key: by_condition(values, study.conditions) for key, values in estimates.items()}
    regions = dict.fromkeys([whole_region(study.ppm), *REGIONS[1:]])
    found = {}
    for low, high in regions:
        if (bins := region_bins(study.ppm, low, high)) is None:
            continue
        for condition, whole in targets.items():
            target, sd = whole[:, bins], np.sqrt(variances[condition])
            n = len(target)
            levels = {"nmse_transients": (target, sd, lambda values: values)}
            if n > 1:
                average = (target.mean(axis=0)[None], np.array([np.sqrt(np.mean(sd**2) / n)]), _average)
                levels["nmse_averages"] = average
            for metric, (truth, level, reduced) in levels.items():
                place = (condition, f"{low:g}-{high:g}")
                found[metric, REAL, *place] = metrics.noise_share(level, truth)
                for key, values in parts.items():
                    found[metric, key, *place] = metrics.nmse(reduced(values[condition][:, bins]), truth)
    return found


def _average(values: np.ndarray) -> np.ndarray:
    return values.mean(axis=0)[None]


def error_rows(errors: Errors, by_subject: bool, n_resamples: int, seed: int) -> list[dict]:
    """Return the table's rows of NMSE: means over subjects, with bootstrap intervals."""
    rows = []
    for where in errors.places:
        metric, key, condition, region = where
        values = errors.means(where)
        low = high = np.nan
        if by_subject and len(values) >= metrics.FEWEST_SUBJECTS:
            rng = seeds.generator(seed, "fidelity", metric, condition, region, *key)
            low, high = np.percentile(rng.choice(values, (n_resamples, len(values))).mean(axis=1), [2.5, 97.5])
        names = {"metric": metric, "source": key[0], "decoder": key[1], "condition": condition, "region_ppm": region}
        rows.append(names | {"value": values.mean(), "ci_low": low, "ci_high": high, "n": len(values)})
    return rows
