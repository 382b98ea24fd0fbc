"""The report's figure of effective transients: what each filling and control is worth, beside the slope it keeps.

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_agreement import measures, metabolite_choice
from mrs_synthesis.report_data import filled_numbers
from mrs_synthesis.report_style import (
    COLOURS,
    GREY,
    SKY,
    Figure,
    cell_name,
    cell_rank,
    error_bars,
    marker,
    missing,
    number,
    number_choice,
    number_when,
)
from mrs_synthesis.report_words import marked

if TYPE_CHECKING:
    import pandas as pd

LOG_TICKS = [0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500]
CUT = {"low": ("≤", "middle left", "↓", "bottom center"), "high": ("≥", "middle right", "↑", "top center")}


def ordered(effective: pd.DataFrame, measure: str) -> list[dict[str, Any]]:
    """Return a measure's rows whose N_eff is known, in the usual order of sources."""
    rows = effective[effective["measure"] == measure].to_dict("records")
    return sorted((row for row in rows if not missing(row["n_eff"])), key=cell_rank)


def has_slopes(effective: pd.DataFrame) -> bool:
    """Say whether any slope is known; with fewer than three subjects none is."""
    return "slope" in effective and bool(effective["slope"].notna().any())


def learning_line(
    measure: str, curve: pd.DataFrame | None, bias: pd.DataFrame | None
) -> tuple[list[dict[str, Any]], str, str]:
    """Return the learning curve's rows of a measure by n_real, and the columns of their interval.

    Of the table of that name, else of the table of biases, which has no interval.
    """
    if curve is not None:
        rows = curve[curve["measure"] == measure].sort_values("n_real")
        return rows.to_dict("records"), "ci_low", "ci_high"
    if bias is None or not {"n_real", "rmse_percent"} <= set(bias.columns):
        return [], "", ""
    rows = bias[(bias["measure"] == measure) & (bias["source"] == "real")].sort_values("n_real")
    return rows.to_dict("records"), "", ""


def effective_figure(
    effective: pd.DataFrame | None, bias: pd.DataFrame | None, curve: pd.DataFrame | None = None
) -> Figure | None:
    """Learning curve of real transients with every source's place on it, and N_eff against the slope.

    Where no slope is known, N_eff is shown by source. Numbers that were cut are marked ``≥`` and ``↑``, or the reverse.
    """
    if effective is None:
        return None
    traces, slopes = [], has_slopes(effective)
    several = len(filled_numbers(effective)) > 1
    few = filled_numbers(effective)
    for measure in measures(effective):
        when = {"measure": measure}
        line, low, high = learning_line(measure, curve, bias)
        if line:
            traces.append(
                {
                    "when": when,
                    "x": [number(row["n_real"]) for row in line],
                    "y": [number(row["rmse_percent"]) for row in line],
                    "error_y": error_bars(line, "rmse_percent", low, high)
                    | {"color": COLOURS["real"], "thickness": 1.2},
                    "mode": "lines+markers",
                    "name": "real transients",
                    "marker": marker("real"),
                    "line": {"color": COLOURS["real"], "width": 1.6},
                    "hovertemplate": "%{x} real transients: RMS error %{y:.3g} %<extra></extra>",
                }
            )
        for row in ordered(effective, measure):
            name, value = cell_name(row), marked(row["n_eff"], row.get("n_eff_clipped"))
            hover = f"{name}<br>N<sub>eff</sub> {value}"
            if not missing(row.get("slope")):
                hover += f", slope {number(row['slope']):.3g}"
            colour = COLOURS.get(row["source"], GREY)
            own = when | number_when(row)
            if row["source"] == "real" and several and row.get("n_real") in few:
                own = when | {"n_real": str(int(row["n_real"]))}  # alone: those that the cells are filled up from
            common = {"when": own, "mode": "markers", "name": name, "hovertemplate": hover + "<extra></extra>"}
            common["marker"] = marker(row["source"], row.get("decoder"))
            if row.get("n_real") in few:  # copies lie on the real ones
                common["marker"] |= {"real": {"size": 15}, "duplicated": {"size": 6}}.get(row["source"], {})
            bars = error_bars([row], "n_eff", "n_eff_ci_low", "n_eff_ci_high") | {"color": colour, "thickness": 1.2}
            right, right_place, up, up_place = CUT.get(row.get("n_eff_clipped"), ("", "", "", ""))
            sign = {"mode": "markers+text", "textfont": {"color": colour, "size": 15}} if right else {}
            at = [number(row["n_eff"])]
            if not missing(row.get("rmse_percent")) and row["source"] != "real":
                error = {"x": at, "y": [number(row["rmse_percent"])], "error_x": bars}
                if right:
                    error |= {"text": [right], "textposition": right_place}
                traces.append(common | sign | error)
            beside = number(row.get("slope")) if slopes else name
            if beside is not None:
                extra = {"x": [beside], "y": at, "error_y": bars, "xaxis": "x2", "yaxis": "y2", "showlegend": False}
                if up:
                    extra |= {"text": [up], "textposition": up_place}
                traces.append(common | sign | extra)
    one = {"type": "line", "xref": "x2", "yref": "paper", "x0": 1, "x1": 1, "y0": 0, "y1": 1, "layer": "below"}
    slope_axis = {"title": {"text": "slope on the reference (1: kept, 0: lost)"}}
    source_axis = {"type": "category", "tickangle": -60}
    return {
        "id": "effective",
        "arrays": {},
        "traces": traces,
        "controls": [metabolite_choice(effective), *number_choice(effective)],
        "layout": {
            "height": 620 if slopes else 680,
            "showlegend": True,
            "legend": {"y": -0.16 if slopes else -0.42, "yanchor": "top"},
            "shapes": [one | {"line": {"color": SKY, "width": 2}}] if slopes else [],
            "xaxis": {
                "domain": [0, 0.46],
                "type": "log",
                "title": {"text": "real transients, or N<sub>eff</sub>"},
                "tickvals": LOG_TICKS,
            },
            "yaxis": {"type": "log", "title": {"text": "RMS error / %"}, "tickvals": LOG_TICKS},
            "xaxis2": {"domain": [0.56, 1], "anchor": "y2", **(slope_axis if slopes else source_axis)},
            "yaxis2": {"type": "log", "title": {"text": "N<sub>eff</sub>"}, "anchor": "x2", "tickvals": LOG_TICKS},
        },
    }
