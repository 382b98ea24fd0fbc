"""The report's Bland-Altman figure.

As in `report_figures`, a figure is a dictionary for the page's script. On the log scale, which the table of biases
chooses where the error grows with the mean, a point is log(estimate / reference), shown in percent on an axis whose
steps are those of the logarithm, so that limits of agreement lie evenly about the bias (Bland & Altman 1999).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis.report_agreement import metabolite_choice, synthetic_first
from mrs_synthesis.report_data import spread
from mrs_synthesis.report_style import (
    BLACK,
    GREY,
    Figure,
    cell_name,
    cell_rank,
    control,
    marker,
    missing,
    number,
    number_choice,
    number_when,
    pack,
)
from mrs_synthesis.report_words import short

if TYPE_CHECKING:
    import pandas as pd

TICKS = (-90, -75, -50, -30, -20, -10, -5, 0, 5, 10, 20, 30, 50, 100, 200, 500, 1000)
LINES = (("bias_percent", "bias", "solid", 1.8), ("loa_low", "limit", "dash", 1.2), ("loa_high", "limit", "dash", 1.2))
MOST_POINTS, FEWEST_SCANS = 60_000, 40
BAND = "rgba(0, 0, 0, 0.08)"
NAMES = {"bias_percent": ("bias_ci_low", "bias_ci_high")}


def on_scale(percent: np.ndarray | float, log: bool) -> np.ndarray:
    """Return 100 log(1 + percent / 100) on the log scale, else the percents themselves; missing below -100 %."""
    percent = np.asarray(percent, dtype=float)
    if not log:
        return percent
    ratio = 1 + percent / 100
    return 100 * np.log(np.where(ratio > 0, ratio, np.nan))


def drawn_scans(estimates: pd.DataFrame | None, bias: pd.DataFrame | None) -> list[str]:
    """Return the scans whose estimates are drawn: all, or so many, evenly over their list, that the page stays small.

    As many views as rows of the table of biases share `MOST_POINTS` points; no fewer than `FEWEST_SCANS` are drawn.
    """
    if estimates is None or bias is None:
        return []
    units = list(dict.fromkeys(estimates["unit"]))
    points = len(estimates[estimates["source"] != "reference"]) or 1
    return spread(units, max(FEWEST_SCANS, len(units) * MOST_POINTS // points))


def agreement_figure(estimates: pd.DataFrame | None, bias: pd.DataFrame | None) -> Figure | None:
    """Bland-Altman plot per metabolite and source: difference in percent against the mean of estimate and reference.

    Points are single estimates (all replicates) of the `drawn_scans`; lines are bias and limits of agreement, bands
    their 95 % intervals, all from the table of biases.
    """
    if estimates is None or bias is None:
        return None
    estimates = estimates[estimates["unit"].isin(drawn_scans(estimates, bias))]
    traces, arrays, names, layouts = [], {}, {}, []
    parts = dict(iter(estimates.groupby("measure", sort=False)))
    for row in bias.to_dict("records"):
        found = _points(parts.get(row["measure"]), row)
        if found is None:
            continue
        mean, percent, units = found
        name = cell_name(row)
        names[name] = min(names.get(name, cell_rank(row)), cell_rank(row))
        when = {"measure": row["measure"], "series": name} | number_when(row)
        log = row.get("scale") == "log"
        key = f"units{len(units)}-{hash_of(units)}"
        arrays[key] = units
        ends = [float(f"{v:.5g}") for v in (mean.min() * 0.995, mean.max() * 1.005)]
        traces += [trace | {"when": when} for trace in _lines(row, ends, log)]
        traces.append(
            {
                "when": when,
                "x": pack(mean),
                "y": pack(on_scale(percent, log)),
                "customdata": pack(percent),
                "text": {"ref": key},
                "mode": "markers",
                "marker": marker(row["source"], row.get("decoder")) | {"size": 8},
                "hovertemplate": "%{text}<br>mean %{x:.4g}, difference %{customdata:.3g} %<extra></extra>",
            }
        )
        layouts.append({"when": when, "layout": _layout(row, log)})
    if not names:
        return None
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "layer": "below"}
    return {
        "id": "agreement",
        "arrays": arrays,
        "traces": traces,
        "layouts": layouts,
        "controls": [
            metabolite_choice(bias),
            control("series", "Source", [(n, n) for n in synthetic_first(names)], kind="select"),
            *number_choice(bias),
        ],
        "layout": {
            "height": 460,
            "shapes": [zero | {"line": {"color": GREY, "width": 1}}],
            "xaxis": {"title": {"text": "mean of estimate and reference / tCr"}},
        },
    }


def _points(own: pd.DataFrame | None, row: dict[str, Any]) -> tuple[np.ndarray, np.ndarray, list[str]] | None:
    """Return mean, difference in percent of the reference and scan of every estimate of a row of the biases."""
    if own is None:
        return None
    reference = own[own["source"] == "reference"].drop_duplicates("unit").set_index("unit")["per_tcr"]
    chosen = own[own["source"] == row["source"]]
    same = ("decoder",) if row["source"] == "reconstruction" else ("decoder", "n_real", "n_total")
    for column in same:
        if column in chosen and not missing(row.get(column)):
            chosen = chosen[chosen[column] == row[column]]
    x = chosen["per_tcr"].to_numpy(float)
    known = chosen["unit"].map(reference).to_numpy(float)
    usable = np.isfinite(x) & (known > 0)
    if not usable.any():
        return None
    mean, percent = (x + known)[usable] / 2, 100 * (x / np.where(known > 0, known, np.nan) - 1)[usable]
    return mean, percent, chosen["unit"].to_numpy()[usable].tolist()


def _lines(row: dict[str, Any], ends: Sequence[float], log: bool) -> list[dict[str, Any]]:
    """Return bias and limits of agreement as lines, after the bands of their intervals."""
    bands, lines = [], []
    for column, _, dash, width in LINES:
        if missing(row.get(column)):
            continue
        low, high = NAMES.get(column, (f"{column}_ci_low", f"{column}_ci_high"))
        if not missing(row.get(low)) and not missing(row.get(high)):
            edges = on_scale(np.array([row[low], row[high]]), log)
            if np.isfinite(edges).all():
                corners = {"x": [ends[0], ends[1], ends[1], ends[0]]}
                corners["y"] = [number(edges[i]) for i in (0, 0, 1, 1)]
                fill = {"mode": "lines", "fill": "toself", "fillcolor": BAND, "line": {"width": 0}, "hoverinfo": "skip"}
                bands.append(corners | fill)
        level = [number(on_scale(row[column], log))] * 2
        style = {"color": BLACK, "dash": dash, "width": width}
        words = f"{short(row[column])} %<extra></extra>"
        lines.append({"x": list(ends), "y": level, "mode": "lines", "line": style, "hovertemplate": words})
    return bands + lines


def _layout(row: dict[str, Any], log: bool) -> dict[str, Any]:
    """Return axis and the note on bias, limits and number of one row."""
    n = "" if missing(row.get("n")) else f"n = {int(row['n'])} subjects"
    if not missing(row.get("n_replicates")):
        n += f", {int(row['n_replicates'])} estimates"
    note = f"bias {_with(row, 'bias_percent', 'bias_ci_low', 'bias_ci_high')} %"
    for column, word in (("loa_low", "limits"), ("loa_high", "and")):
        note += (
            f"{', ' if word == 'limits' else ' '}{word} {_with(row, column, f'{column}_ci_low', f'{column}_ci_high')} %"
        )
    place = {"x": 0, "y": 1.02, "xref": "paper", "yref": "paper", "xanchor": "left", "yanchor": "bottom"}
    text = f"{note}<br>{n}{'; log scale' if log else ''}"
    axis: dict[str, Any] = {"title": {"text": "estimate − reference / % of reference" + (", log scale" if log else "")}}
    if log:
        axis |= {"tickvals": [number(v) for v in on_scale(np.array(TICKS), True)], "ticktext": [str(t) for t in TICKS]}
    style = {"text": text, "showarrow": False, "align": "left", "font": {"size": 12}}
    return {"annotations": [place | style], "margin": {"t": 60}, "yaxis": axis}


def _with(row: dict[str, Any], value: str, low: str, high: str) -> str:
    """Return a number with its interval where it is known."""
    text = short(row.get(value), 3)
    if missing(row.get(low)) or missing(row.get(high)):
        return text
    return f"{text} ({short(row[low], 2)} to {short(row[high], 2)})"


def hash_of(names: Sequence[str]) -> str:
    """Return a short name for a list of names."""
    import hashlib

    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]
