"""How the peaks of residual water are distributed, real and drawn: histograms, the table `water_lines`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

BINS = 30
TAILS = (0.005, 0.995)  # quantiles of all sources together that the bins reach to
UNITS = {
    "amplitude": "log10 of the peak's height / subject's scale",
    "amplitude_change": "log10 of the peak's height / subject's mean height",
    "phase_deg": "phase relative to the subject's circular mean / °",
    "shift_ppm": "place of the peak's top / ppm",
    "width_ppm": "full width at half height of the magnitude / ppm",
}
COLUMNS = {
    "source": {
        "Description": "real (held-out subjects), training (real ones trained on), drawn (by the model of the "
        "nuisances, its first draw), none (no water: noise and metabolites' tails)"
    },
    "metric": {"Description": "What is measured of each transient's peak about water", "Levels": UNITS},
    "x": {"Description": "Middle of a bin, in the metric's units; the outermost bins hold what lies beyond, too"},
    "width": {"Description": "Width of the bin, in the metric's units"},
    "density": {"Description": "Share of the transients in the bin over its width; every subject counts the same"},
    "n": {"Description": "Subjects"},
}


def in_units(measured: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return the measures of `water_table.features` as plain numbers in the units of `UNITS`, shape (E n,)."""
    found = {
        "amplitude": measured["amplitude"][:, 0] / np.log(10),
        "amplitude_change": measured["amplitude_change"][:, 0] / np.log(10),
        "phase_deg": np.degrees(np.arctan2(measured["phase"][:, 1], measured["phase"][:, 0])),
        "shift_ppm": measured["shift"][:, 0],
        "width_ppm": measured["width"][:, 0],
    }
    return {name: found[name] for name in UNITS}


def histograms(groups: Mapping[str, Sequence[Mapping[str, np.ndarray]]]) -> pd.DataFrame:
    """Return the table.

    Parameters
    ----------
    groups
        By source, of each subject the measures of all its transients, as of `in_units`.
    """
    import pandas as pd

    rows = []
    for metric in UNITS:
        everything = np.concatenate([subject[metric] for group in groups.values() for subject in group])
        low, high = np.quantile(everything, TAILS)
        if not high > low:
            continue
        edges = np.linspace(low, high, BINS + 1)
        width = edges[1] - edges[0]
        for source, group in groups.items():
            shares = [np.histogram(np.clip(one[metric], low, high), edges)[0] / one[metric].size for one in group]
            density = np.mean(shares, axis=0) / width
            names = {"source": source, "metric": metric, "width": width, "n": len(group)}
            rows += [names | {"x": x, "density": y} for x, y in zip(edges[:-1] + width / 2, density, strict=True)]
    return pd.DataFrame(rows, columns=list(COLUMNS))
