"""The report's figures of bias and agreement.

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

HOVERED = {
    "bias_percent": "bias / %",
    "slope": "slope",
    "sd_ratio": "SD ratio",
    "ccc": "CCC",
    "tost_p": "TOST p",
    "n": "n",
}
ALL_SITES = "all sites"
MARGIN_FILL = "rgba(86, 180, 233, 0.18)"


def with_measure(table: pd.DataFrame | None, ratios: Sequence[str] = ()) -> pd.DataFrame | None:
    """Return the table with a column ``measure``, its rows in the order of `ratios` (``condition:metabolite``).

    A measure is the ratio to tCr and, in edited data, the condition that it was fitted in.
    """
    if table is None:
        return None
    conditions = table["condition"] if "condition" in table else [None] * len(table)
    pairs = zip(table["metabolite"], conditions, strict=True)
    table = table.assign(measure=[measure_name(metabolite, condition) for metabolite, condition in pairs])
    asked = [measure_name(*reversed(ratio.split(":", 1))) for ratio in ratios]
    rank = {name: position for position, name in enumerate(asked)}
    return table.sort_values("measure", key=lambda names: names.map(rank).fillna(len(rank)), kind="stable")


def measure_name(metabolite: str, condition: str | None = None) -> str:
    """Return a ratio's name, e.g. ``GABA+/tCr (DIFF)``."""
    return f"{metabolite}/tCr" + ("" if missing(condition) or condition == "UNEDITED" else f" ({condition})")


def measures(table: pd.DataFrame) -> list[str]:
    """Return the measures of a table in its order."""
    return list(dict.fromkeys(table["measure"]))


def metabolite_choice(table: pd.DataFrame) -> dict[str, Any]:
    """Return the buttons that choose a measure."""
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
    choices = [metabolite_choice(table)]
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


def site_rows(bias: pd.DataFrame, by_site: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows of bias with a ``site``: every site in order, after them all sites together.

    Their ``name`` has the number of the site's subjects, the largest over metabolites, too.
    """
    rows = by_site.sort_values("site", kind="stable").to_dict("records")
    rows += bias.assign(site=ALL_SITES).to_dict("records")
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["site"]] = max(counts.get(row["site"], 0), 0 if missing(row.get("n")) else int(row["n"]))
    return [row | {"n_site": counts[row["site"]], "name": f"{row['site']}, n = {counts[row['site']]}"} for row in rows]


def site_panels(bias: pd.DataFrame | None, by_site: pd.DataFrame | None, margin: float | None) -> Figure | None:
    """Forest plots side by side, a panel per metabolite and a line per site, of a study of reconstructions only."""
    if bias is None or by_site is None:
        return None
    shown = measures(bias)
    rows = site_rows(bias, by_site)
    sites = list(dict.fromkeys(plain(row["name"]) for row in rows))[::-1]
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    gap = 0.44 / down
    high = (1 - gap * (down - 1)) / down
    traces, shapes, notes, axes = [], [], [], {}
    for i, measure in enumerate(shown):
        end = str(i + 1) if i else ""
        column, line = i % across, i // across
        x_domain = [column / across + 0.012 * (column > 0), (column + 1) / across - 0.012 * (column < across - 1)]
        top = 1 - line * (high + gap)
        y_domain = [max(top - high, 0), top]
        own = [row for row in rows if row["measure"] == measure]
        for together in (False, True):
            group = [row for row in own if (row["site"] == ALL_SITES) == together]
            for trace in _forest_rows(group, [plain(row["name"]) for row in group]) if group else ():
                if together:
                    trace = recoloured(trace, BLACK)
                traces.append(trace | {"xaxis": f"x{end}", "yaxis": f"y{end}"})
        axes[f"xaxis{end}"] = {"domain": x_domain, "anchor": f"y{end}", "title": {"text": "bias / %"}, "nticks": 7}
        axes[f"yaxis{end}"] = {
            "domain": y_domain,
            "anchor": f"x{end}",
            "type": "category",
            "categoryorder": "array",
            "categoryarray": sites,
            "range": [-0.6, len(sites) - 0.4],
            "showticklabels": column == 0,
            "gridcolor": "#f4f5f7",
        }
        place = {"xref": f"x{end}", "yref": f"y{end} domain", "y0": 0, "y1": 1, "layer": "below"}
        if margin is not None:
            fill = {"fillcolor": MARGIN_FILL, "line": {"width": 0}}
            shapes.append(place | {"type": "rect", "x0": -margin, "x1": margin} | fill)
        shapes.append(place | {"type": "line", "x0": 0, "x1": 0, "line": {"color": GREY, "width": 1}})
        note = {"x": x_domain[0], "y": y_domain[1], "xref": "paper", "yref": "paper", "xanchor": "left"}
        note |= {"yanchor": "bottom", "text": f"<b>{plain(measure)}</b>", "showarrow": False}
        notes.append(note)
    layout = {"height": 100 + down * (60 + 27 * len(sites)), "shapes": shapes, "annotations": notes, **axes}
    return {"id": "bias_by_site", "arrays": {}, "traces": traces, "controls": [], "layout": layout}


def recoloured(trace: dict[str, Any], colour: str) -> dict[str, Any]:
    """Return a trace in another colour."""
    parts = {key: trace[key] | {"color": colour} for key in ("line", "marker", "error_x") if key in trace}
    return trace | parts


def site_table(bias: pd.DataFrame, by_site: pd.DataFrame) -> dict[str, Any]:
    """Return biases by site as a table: ``measures`` and ``rows`` (site, n, cells: text, interval, value)."""
    rows = site_rows(bias, by_site)
    table = []
    for site, n in dict.fromkeys((row["site"], row["n_site"]) for row in rows):
        own = {row["measure"]: row for row in rows if row["site"] == site}
        cells = []
        for measure in measures(bias):
            row = own.get(measure, {})
            low, high = row.get("bias_ci_low"), row.get("bias_ci_high")
            cell = {"text": signed(row.get("bias_percent")), "value": number(row.get("bias_percent"))}
            known = not missing(low) and not missing(high)
            cells.append(cell | {"interval": f"({signed(low)} to {signed(high)})" if known else ""})
        table.append({"site": str(site), "n": n, "cells": cells})
    return {"measures": measures(bias), "rows": table}


def signed(value: Any) -> str:
    """Return a percentage to one decimal place with its sign."""
    return "n/a" if missing(value) else f"{value:+.1f}".replace("-", "−")


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
            metabolite_choice(bias),
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
