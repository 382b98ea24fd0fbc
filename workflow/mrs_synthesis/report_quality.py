"""The report's figure of signal quality.

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis.report_style import (
    COLOURS,
    GREY,
    Figure,
    cell_name,
    cell_rank,
    control,
    marker,
    missing,
    number_choice,
    number_when,
    pack,
    plain,
)
from mrs_synthesis.report_words import short

if TYPE_CHECKING:
    import pandas as pd

IDENTIFIERS = ("unit", "subject", "session", "site", "cell", "source", "decoder", "n_real", "n_total", "replicate")
WORDS = {"challenge": "ISBI challenge:", "spectrovit": "Spectro-ViT:", "fslmrs": "FSL-MRS:", "snr": "SNR", "mse": "MSE"}
WORDS |= {"fwhm": "FWHM", "hz": "/ Hz", "ppm": "/ ppm", "sd": "SD", "tcr": "tCr", "tnaa": "tNAA", "tcho": "tCho"}
WORDS |= {"gaba": "GABA", "off": "(OFF)", "on": "(ON)", "diff": "(DIFF)", "unedited": ""}
MOST_POINTS = 96  # of a source and metric in the figure
WIDE = 100  # so many times between largest and smallest value call for a logarithmic axis


def metrics_of(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table of signal quality that are metrics with some value."""
    own = [c for c in table.columns if c not in IDENTIFIERS and table[c].dtype.kind in "fi"]
    return [column for column in own if table[column].notna().any()]


def metric_name(column: str) -> str:
    """Return a column's name in words, e.g. ``FSL-MRS: SNR (OFF)`` for ``fslmrs_snr_off``."""
    words = [WORDS.get(part, part) for part in column.replace("gaba_plus", "GABA+").split("_")]
    return " ".join(sorted((word for word in words if word), key=lambda word: word[0] in "(/"))


def quality_figure(table: pd.DataFrame | None) -> Figure | None:
    """Box plots of every metric of signal quality, by source; points are single cells."""
    if table is None:
        return None
    metrics = metrics_of(table)
    wide = {metric: _wide(table[metric]) for metric in metrics}
    groups: dict[tuple, list] = {}
    for position, row in enumerate(table.to_dict("records")):
        key = cell_name(row), *number_when(row).values()
        groups.setdefault(key, [cell_rank(row), row, []])[2].append(position)
    traces = []
    for metric in metrics:
        for (name, *_), (_, row, positions) in sorted(groups.items(), key=lambda item: item[1][0]):
            values = thinned(table[metric].iloc[positions].dropna().to_numpy(float))
            if not len(values):
                continue
            traces.append(
                {
                    "when": {"metric": metric} | number_when(row),
                    "type": "box",
                    "y": [float(f"{v:.4g}") for v in values] if wide[metric] else pack(values),
                    "name": name,
                    "boxpoints": "all",
                    "jitter": 0.5,
                    "pointpos": 0,
                    "marker": marker(row["source"], row.get("decoder")) | {"size": 4, "opacity": 0.6},
                    "line": {"color": COLOURS.get(row["source"], GREY), "width": 1.3},
                    "fillcolor": "rgba(0,0,0,0)",
                    "hovertemplate": f"%{{y:.4g}}<extra>{plain(name)}</extra>",
                }
            )
    if not traces:
        return None
    axes = {m: {"title": {"text": metric_name(m)}} | ({"type": "log", "dtick": 1} if wide[m] else {}) for m in metrics}
    options = [(m, metric_name(m)) for m in metrics]
    return {
        "id": "quality",
        "arrays": {},
        "traces": traces,
        "controls": [control("metric", "Metric", options, kind="select"), *number_choice(table)],
        "layouts": [{"when": {"metric": metric}, "layout": {"yaxis": axis}} for metric, axis in axes.items()],
        "layout": {"height": 490, "xaxis": {"tickangle": -35}},
    }


def thinned(values: np.ndarray) -> np.ndarray:
    """Return the values, or of many so many evenly along their order: a page must not grow with the study."""
    if len(values) <= MOST_POINTS:
        return values
    return np.sort(values)[np.linspace(0, len(values) - 1, MOST_POINTS).round().astype(int)]


def _wide(values: pd.Series) -> bool:
    """Whether positive values differ so much that the axis must be logarithmic."""
    low, high = values.min(), values.max()
    return bool(0 < WIDE * low < high)


def definitions(table: pd.DataFrame | None, dictionary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return name and definition of every metric that the figure shows, as the data dictionary has it."""
    found = []
    for column in [] if table is None else metrics_of(table):
        about = dictionary.get(column)
        text = about.get("Description", "") if isinstance(about, dict) else str(about or "")
        found.append({"name": metric_name(column), "column": column, "text": text})
    return [item for item in found if item["text"]]


def quality_rows(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Return medians of every metric by source for the smallest n_real, as a table: ``sources`` and ``rows``."""
    if table is None or not (metrics := metrics_of(table)):
        return None
    groups: dict[str, list] = {}
    for position, row in enumerate(table.to_dict("records")):
        groups.setdefault(cell_name(row), [cell_rank(row), []])[1].append(position)
    order = sorted(groups.items(), key=lambda item: item[1][0])
    rows = []
    for metric in metrics:
        medians = [table[metric].iloc[positions].median() for _, (_, positions) in order]
        cells = [{"text": short(v, 3), "value": None if missing(v) else float(v)} for v in medians]
        rows.append({"name": metric_name(metric), "column": metric, "cells": cells})
    return {"sources": [name for name, _ in order], "rows": rows}
