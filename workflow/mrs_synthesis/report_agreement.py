"""The report's figures of bias, agreement and effective transients.

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis.report_data import SYNTHETIC, pack
from mrs_synthesis.report_style import (
    BLACK,
    COLOURS,
    GREY,
    SKY,
    Figure,
    cell_name,
    cell_rank,
    control,
    error_bars,
    marker,
    missing,
    number,
    plain,
    series_rank,
)
from mrs_synthesis.report_words import short

if TYPE_CHECKING:
    import pandas as pd

LOG_TICKS = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]
HOVERED = {
    "bias_percent": "bias / %",
    "slope": "slope",
    "sd_ratio": "SD ratio",
    "ccc": "CCC",
    "tost_p": "TOST p",
    "n": "n",
}
MARGIN_FILL = "rgba(86, 180, 233, 0.18)"


def with_measure(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the table with a column ``measure``: the ratio to tCr and the condition that it was fitted in."""
    if table is None:
        return None
    if "condition" not in table:
        return table.assign(measure=table["metabolite"] + "/tCr")
    pairs = zip(table["metabolite"], table["condition"], strict=True)
    return table.assign(measure=[f"{m}/tCr" + ("" if missing(c) else f" ({c})") for m, c in pairs])


def measures(table: pd.DataFrame) -> list[str]:
    """Return the measures of a table in its order."""
    return list(dict.fromkeys(table["measure"]))


def _choice(table: pd.DataFrame) -> dict[str, Any]:
    return control("measure", "Metabolite", [(m, m) for m in measures(table)])


def bias_figure(
    table: pd.DataFrame | None, margin: float | None, identifier: str = "bias", by: str | None = None
) -> Figure | None:
    """Forest plot per metabolite: bias with its interval (thick) and the limits of agreement (thin), and the slope.

    Parameters
    ----------
    table
        The table of biases.
    margin
        Margin of the equivalence test in percent, drawn as a band.
    identifier
        The figure's identifier.
    by
        Column whose values are the lines, e.g. ``site``; the source is then a choice. None: sources are the lines.
    """
    if table is None:
        return None
    traces, layouts, most, series = [], [], 1, {}
    for measure in measures(table):
        own = table[table["measure"] == measure].to_dict("records")
        views: dict[str, list[dict]] = {}
        for row in own:
            views.setdefault(cell_name(row) if by else "", []).append(row)
        for view, rows in views.items():
            when = {"measure": measure, "series": view} if by else {"measure": measure}
            series.setdefault(view, cell_rank(rows[0]))
            rows.sort(key=lambda row: str(row[by]) if by else cell_rank(row), reverse=True)
            labels = [plain(str(row[by])) if by else cell_name(row) for row in rows]
            most = max(most, len(rows))
            groups = [(rows, labels)] if by else [([row], [label]) for row, label in zip(rows, labels, strict=True)]
            traces += [trace | {"when": when} for group in groups for trace in _forest_rows(*group)]
            notes = [_side_note(label, short(row.get("slope"), 2)) for row, label in zip(rows, labels, strict=True)]
            axis = {"categoryorder": "array", "categoryarray": labels, "range": [-0.6, len(labels) - 0.4]}
            layout = {"annotations": [_side_note(None, "<b>slope</b>"), *notes], "yaxis": axis}
            layouts.append({"when": when, "layout": layout})
    choices = [_choice(table)]
    if by:
        choices.append(control("series", "Source", [(n, n) for n in synthetic_first(series)], kind="select"))
    band = []
    if margin is not None:
        band = [{"type": "rect", "xref": "x", "yref": "paper", "x0": -margin, "x1": margin, "y0": 0, "y1": 1}]
        band[0] |= {"fillcolor": MARGIN_FILL, "line": {"width": 0}, "layer": "below"}
    zero = {"type": "line", "xref": "x", "yref": "paper", "x0": 0, "x1": 0, "y0": 0, "y1": 1, "layer": "below"}
    return {
        "id": identifier,
        "arrays": {},
        "traces": traces,
        "controls": choices,
        "layouts": layouts,
        "layout": {
            "height": 110 + 25 * max(most, 4),
            "margin": {"r": 70},
            "shapes": [*band, zero | {"line": {"color": GREY, "width": 1}}],
            "xaxis": {"title": {"text": "bias / %"}},
            "yaxis": {"type": "category", "gridcolor": "#f4f5f7"},
        },
    }


def _forest_rows(rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the limits of agreement (where known) and the biases with their intervals of one source, as two traces."""
    source, decoder = rows[0]["source"], rows[0].get("decoder")
    colour = COLOURS.get(source, GREY)
    x, y, hovers = [], [], []
    for row, label in zip(rows, labels, strict=True):
        if not missing(row.get("loa_low")) and not missing(row.get("loa_high")):
            x += [number(row["loa_low"]), number(row["loa_high"]), None]
            y += [label, label, None]
        hovers.append("<br>".join(f"{text} {short(row.get(column))}" for column, text in HOVERED.items()))
    line = {"color": colour, "width": 1}
    limits = [{"x": x, "y": y, "mode": "lines", "line": line, "hoverinfo": "skip"}] if x else []
    points = {
        "x": [number(row.get("bias_percent")) for row in rows],
        "y": list(labels),
        "mode": "markers",
        "marker": marker(source, decoder),
        "error_x": error_bars(rows, "bias_percent", "bias_ci_low", "bias_ci_high") | {"color": colour},
        "text": hovers,
        "hovertemplate": "%{y}<br>%{text}<extra></extra>",
    }
    return [*limits, points]


def synthetic_first(series: dict[str, tuple]) -> list[str]:
    """Return names of series, given with their ranks, in order but for the synthetic ones, which come first."""
    first = {series_rank(source) for source in SYNTHETIC}
    return sorted(series, key=lambda name: (series[name][0] not in first, series[name]))


def _side_note(y: str | None, text: str) -> dict[str, Any]:
    place = (
        {"y": 1.0, "yref": "paper", "yanchor": "bottom"} if y is None else {"y": y, "yref": "y", "yanchor": "middle"}
    )
    return place | {
        "x": 1.01,
        "xref": "paper",
        "xanchor": "left",
        "text": text,
        "showarrow": False,
        "font": {"size": 12},
    }


def agreement_figure(estimates: pd.DataFrame | None, bias: pd.DataFrame | None) -> Figure | None:
    """Bland-Altman plot per metabolite and source: difference in percent against the mean of estimate and reference.

    Points are single estimates (all replicates); lines are bias and limits of agreement from the table of biases.
    """
    if estimates is None or bias is None:
        return None
    traces, arrays, names = [], {}, {}
    for row in bias.to_dict("records"):
        own = estimates[estimates["measure"] == row["measure"]]
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
            continue
        name = cell_name(row)
        names[name] = min(names.get(name, cell_rank(row)), cell_rank(row))
        when = {"measure": row["measure"], "series": name}
        mean, percent = (x + known)[usable] / 2, 100 * (x / np.where(known > 0, known, np.nan) - 1)[usable]
        units = chosen["unit"].to_numpy()[usable].tolist()
        key = f"units{len(units)}-{hash_of(units)}"
        arrays[key] = units
        traces.append(
            {
                "when": when,
                "x": pack(mean),
                "y": pack(percent),
                "text": {"ref": key},
                "mode": "markers",
                "marker": marker(row["source"], row.get("decoder")) | {"size": 8},
                "hovertemplate": "%{text}<br>mean %{x:.4g}, difference %{y:.3g} %<extra></extra>",
            }
        )
        ends = [float(f"{v:.5g}") for v in (mean.min() * 0.995, mean.max() * 1.005)]
        for column, dash, width in (
            ("bias_percent", "solid", 1.8),
            ("loa_low", "dash", 1.2),
            ("loa_high", "dash", 1.2),
        ):
            if not missing(row.get(column)):
                line = {"color": BLACK, "dash": dash, "width": width}
                level = [number(row[column])] * 2
                traces.append({"when": when, "x": ends, "y": level, "mode": "lines", "line": line, "hoverinfo": "y"})
    if not traces:
        return None
    zero = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 0, "y1": 0, "layer": "below"}
    return {
        "id": "agreement",
        "arrays": arrays,
        "traces": traces,
        "controls": [
            _choice(bias),
            control("series", "Source", [(n, n) for n in synthetic_first(names)], kind="select"),
        ],
        "layout": {
            "height": 430,
            "shapes": [zero | {"line": {"color": GREY, "width": 1}}],
            "xaxis": {"title": {"text": "mean of estimate and reference / tCr"}},
            "yaxis": {"title": {"text": "estimate − reference / % of reference"}},
        },
    }


def hash_of(names: Sequence[str]) -> str:
    """Return a short name for a list of names."""
    import hashlib

    return hashlib.sha256("\n".join(names).encode()).hexdigest()[:8]


def effective_figure(effective: pd.DataFrame | None, bias: pd.DataFrame | None) -> Figure | None:
    """Learning curve of real transients with every source's place on it, and N_eff against the slope."""
    if effective is None:
        return None
    traces = []
    for measure in measures(effective):
        when = {"measure": measure}
        if bias is not None and {"n_real", "rmse_percent"} <= set(bias.columns):
            real = bias[(bias["measure"] == measure) & (bias["source"] == "real")].sort_values("n_real")
            traces.append(
                {
                    "when": when,
                    "x": real["n_real"].tolist(),
                    "y": [number(v) for v in real["rmse_percent"]],
                    "mode": "lines+markers",
                    "name": "real transients",
                    "marker": marker("real"),
                    "line": {"color": COLOURS["real"], "width": 1.6},
                    "hovertemplate": "%{x} real transients: RMS error %{y:.3g} %<extra></extra>",
                }
            )
        rows = effective[effective["measure"] == measure].to_dict("records")
        for row in sorted((r for r in rows if not missing(r["n_eff"])), key=cell_rank):
            name = cell_name(row)
            hover = f"{name}<br>N<sub>eff</sub> {short(row['n_eff'])}, slope {short(row.get('slope'))}<extra></extra>"
            common = {"when": when, "mode": "markers", "name": name, "hovertemplate": hover}
            common["marker"] = marker(row["source"], row.get("decoder"))
            bars = error_bars([row], "n_eff", "n_eff_ci_low", "n_eff_ci_high")
            bars |= {"color": COLOURS.get(row["source"], GREY), "thickness": 1.2}
            at, beside = [number(row["n_eff"])], row.get("slope")
            if not missing(row.get("rmse_percent")) and row["source"] != "real":
                error = {"x": at, "y": [number(row["rmse_percent"])], "error_x": bars}
                traces.append(common | error)
            if not missing(beside):
                extra = {"x": [number(beside)], "y": at, "error_y": bars, "xaxis": "x2", "yaxis": "y2"}
                traces.append(common | extra | {"showlegend": False})
    one = {"type": "line", "xref": "x2", "yref": "paper", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "layer": "below"}
    return {
        "id": "effective",
        "arrays": {},
        "traces": traces,
        "controls": [_choice(effective)],
        "layout": {
            "height": 620,
            "showlegend": True,
            "legend": {"y": -0.14, "yanchor": "top"},
            "shapes": [one | {"line": {"color": SKY, "width": 2}}],
            "xaxis": {
                "domain": [0, 0.46],
                "type": "log",
                "title": {"text": "real transients, or N<sub>eff</sub>"},
                "tickvals": LOG_TICKS,
            },
            "yaxis": {"type": "log", "title": {"text": "RMS error / %"}, "tickvals": LOG_TICKS},
            "xaxis2": {
                "domain": [0.56, 1],
                "title": {"text": "slope on the reference (1: kept, 0: lost)"},
                "anchor": "y2",
            },
            "yaxis2": {"type": "log", "title": {"text": "N<sub>eff</sub>"}, "anchor": "x2", "tickvals": LOG_TICKS},
        },
    }
