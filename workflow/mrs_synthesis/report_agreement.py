"""The report's forest plot of biases, and names and choices of metabolite ratios.

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_data import SYNTHETIC, at_number, filled_numbers
from mrs_synthesis.report_style import (
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
    number_choice,
    number_when,
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
    "icc_a1": "ICC(A,1)",
    "tost_p": "TOST p",
    "tost_p_holm": "TOST p (Holm)",
    "n": "n",
}
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
        own = table[table["measure"] == measure]
        views: dict[tuple, list[dict]] = {}
        numbers = filled_numbers(table) if len(filled_numbers(table)) > 1 and not by else [None]
        for n_real in numbers:
            for row in (own if by else at_number(own, n_real)).to_dict("records"):
                key = (cell_name(row), str(number_when(row))) if by else ("", n_real)
                views.setdefault(key, []).append(row)
        for (view, n_real), rows in views.items():
            when = {"measure": measure} | ({"n_real": str(n_real)} if n_real and not by else {})
            when |= {"series": view} | number_when(rows[0]) if by else {}
            series.setdefault(view, cell_rank(rows[0]))
            rows.sort(key=lambda row: str(row[by]) if by else cell_rank(row), reverse=True)
            labels = [plain(str(row[by])) if by else cell_name(row) for row in rows]
            most = max(most, len(rows))
            groups = [(rows, labels)] if by else [([row], [label]) for row, label in zip(rows, labels, strict=True)]
            traces += [trace | {"when": when} for group in groups for trace in forest_rows(*group)]
            notes = [_side_note(label, short(row.get("slope"), 2)) for row, label in zip(rows, labels, strict=True)]
            axis = {"categoryorder": "array", "categoryarray": labels, "range": [-0.6, len(labels) - 0.4]}
            layout = {"annotations": [_side_note(None, "<b>slope</b>"), *notes], "yaxis": axis}
            layouts.append({"when": when, "layout": layout})
    choices = [metabolite_choice(table), *number_choice(table)]
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


def forest_rows(rows: Sequence[dict[str, Any]], labels: Sequence[str]) -> list[dict[str, Any]]:
    """Return the limits of agreement (where known) and the biases with their intervals of one source, as two traces."""
    source, decoder = rows[0]["source"], rows[0].get("decoder")
    colour = COLOURS.get(source, GREY)
    x, y, hovers = [], [], []
    for row, label in zip(rows, labels, strict=True):
        if not missing(row.get("loa_low")) and not missing(row.get("loa_high")):
            x += [number(row["loa_low"]), number(row["loa_high"]), None]
            y += [label, label, None]
        hovers.append("<br>".join(f"{text} {short(row[column])}" for column, text in HOVERED.items() if column in row))
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
