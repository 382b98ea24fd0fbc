"""The report's figures of the spectrum of the noise, and of residual water.

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mrs_synthesis.report_style import (
    BLUE,
    COLOURS,
    GREY,
    ORANGE,
    PURPLE,
    SKY,
    Figure,
    by_default,
    conditions_in,
    control,
    missing,
    pack,
    series_name,
    series_rank,
    toggles,
)
from mrs_synthesis.water_lines import UNITS

if TYPE_CHECKING:
    import pandas as pd

WATERS = {
    "real": ("held-out real", BLUE, "solid"),
    "training": ("training real", SKY, "dash"),
    "drawn": ("drawn by the model", ORANGE, "solid"),
    "none": ("no water", GREY, "dot"),
}


def noise_figure(table: pd.DataFrame | None) -> Figure | None:
    """Noise SD of every source over that of held-out real transients by ppm, with its interval as a band."""
    if table is None:
        return None
    traces, groups = [], {}
    for (source, decoder, condition), rows in table.groupby(
        ["source", "decoder", "condition"], sort=False, dropna=False
    ):
        rows = rows.sort_values("ppm")
        decoder = None if missing(decoder) else decoder
        name = "held-out real" if source == "real" else series_name(source, decoder)
        colour = COLOURS.get(source, PURPLE)
        groups.setdefault(name, (series_rank(source), str(decoder), colour, decoder))
        when = {"condition": str(condition), "series": name}
        ppm = pack(rows["ppm"])
        style = {"color": colour, "width": 1.8, "dash": "dot" if decoder == "mean" else "solid"}
        if {"ratio_ci_low", "ratio_ci_high"} <= set(rows.columns):
            edge = {"when": when, "x": ppm, "mode": "lines", "showlegend": False, "hoverinfo": "skip"}
            edge |= {"line": {"width": 0, "color": colour}}
            traces.append(edge | {"y": pack(rows["ratio_ci_low"])})
            fill = {"fill": "tonexty", "fillcolor": _faint(colour)}
            traces.append(edge | {"y": pack(rows["ratio_ci_high"])} | fill)
        traces.append(
            {
                "when": when,
                "x": ppm,
                "y": pack(rows["ratio"]),
                "mode": "lines",
                "line": style,
                "name": name,
                "hovertemplate": "%{x:.2f} ppm: %{y:.3g}<extra>" + name + "</extra>",
            }
        )
    if not traces:
        return None
    order = sorted(groups, key=lambda name: groups[name][:2])
    shown = [n for n in order if groups[n][3] in (None, "sampled")][:3] or order[:3]
    mean = [n for n in order if groups[n][3] == "mean"][:1]
    chips = [
        {"value": n, "label": n, "on": n in (*shown, *mean), "colour": groups[n][2], "dash": groups[n][3] == "mean"}
        for n in order
    ]
    one = {"type": "line", "xref": "paper", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "layer": "below"}
    low, high = float(table["ppm"].min()), float(table["ppm"].max())
    conditions = by_default(conditions_in(table["condition"].astype(str)))
    return {
        "id": "noise_spectrum",
        "arrays": {},
        "traces": traces,
        "controls": [
            control("condition", "Condition", [(c, c) for c in conditions]),
            toggles("series", "Show", chips),
        ],
        "layout": {
            "height": 430,
            "showlegend": True,
            "shapes": [one | {"line": {"color": GREY, "width": 1}}],
            "xaxis": {"title": {"text": "chemical shift / ppm"}, "range": [high, low]},
            "yaxis": {"title": {"text": "noise SD / that of real transients"}, "rangemode": "tozero"},
        },
    }


def _faint(colour: str) -> str:
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red}, {green}, {blue}, 0.15)"


def water_figure(table: pd.DataFrame | None) -> Figure | None:
    """Histograms of residual water's amplitude, phase, place and width over single transients, as steps, by source."""
    if table is None:
        return None
    traces = []
    metrics = list(dict.fromkeys(table["metric"].astype(str)))
    for (metric, source), rows in table.groupby(["metric", "source"], sort=False):
        rows = rows.sort_values("x")
        name, colour, dash = WATERS.get(source, (str(source), GREY, "dashdot"))
        traces.append(
            {
                "when": {"metric": str(metric), "series": name},
                "x": pack(rows["x"]),
                "y": pack(rows["density"]),
                "mode": "lines",
                "line": {"shape": "hvh", "color": colour, "width": 1.8, "dash": dash},
                "name": name,
                "hovertemplate": "%{x:.3g}: %{y:.3g}<extra>" + name + "</extra>",
            }
        )
    sources = [s for s in WATERS if s in set(table["source"])]
    chips = [
        {
            "value": WATERS[s][0],
            "label": WATERS[s][0],
            "on": True,
            "colour": WATERS[s][1],
            "dash": s in ("training", "none"),
        }
        for s in sources
    ]
    layouts = [
        {"when": {"metric": metric}, "layout": {"xaxis": {"title": {"text": UNITS.get(metric, metric)}}}}
        for metric in metrics
    ]
    return {
        "id": "water_lines",
        "arrays": {},
        "traces": traces,
        "controls": [
            control("metric", "Measure", [(m, UNITS.get(m, m).split(" / ")[0]) for m in metrics], kind="select"),
            toggles("series", "Show", chips),
        ],
        "layouts": layouts,
        "layout": {"height": 400, "showlegend": True, "yaxis": {"title": {"text": "density"}, "rangemode": "tozero"}},
    }
