"""Controls of `memorisation`: what no model made, from the training spectra or from held-out ones of other subjects."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.memorisation_metrics import Group
from mrs_synthesis.neighbours import Training
from mrs_synthesis.training_set import RowFile

if TYPE_CHECKING:
    import pandas as pd

COPIER_NOISE = (0.0, 0.5, 1.0)


def control_groups(held_out: Group, training: Training, rng: np.random.Generator) -> dict[str, Group]:
    """Return the controls that are made of training spectra, as many of each as there are held-out transients."""
    n, level = len(held_out.values), np.sqrt(np.mean(held_out.noise_sd**2))
    groups = {}
    for share in COPIER_NOISE:
        picks = rng.integers(len(training.rows), size=n)
        real, imaginary = rng.standard_normal((2, *held_out.values.shape))
        values = training.spectra[training.rows[picks]] + share * level * (real + 1j * imaginary)
        groups[f"copier_{share:g}"] = Group(values, np.hypot(training.noise_sd[picks], share * level))
    means = training.subject_means(rng.integers(training.n_subjects, size=n))
    groups["copier_subject"] = Group(means, np.zeros(n))
    mean = np.broadcast_to(training.population_mean, held_out.values.shape)
    groups["population_mean_noisy"] = Group(mean, np.zeros(n))
    return groups


def other_subjects(
    unit: str, subject: str, tests: pd.DataFrame, rows: RowFile, rng: np.random.Generator
) -> Group | None:
    """Return held-out transients of other subjects, as many as the unit has (`tests`: one condition); None without."""
    others = tests[tests["subject"] != subject]
    if others.empty:
        return None
    n = int((tests["unit"] == unit).sum())
    picked = others.iloc[np.sort(rng.choice(len(others), size=min(n, len(others)), replace=False))]
    return Group(rows[picked["row"].to_numpy()], picked["sd"].to_numpy())
