"""The report's figure of studies over the number of training subjects, models, seeds and left-out sites (table `grid`).

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrs_synthesis.grid import ALL, NO_TRAINING, NONE
from mrs_synthesis.report_agreement import metabolite_choice
from mrs_synthesis.report_data import CONTROLS, SYNTHETIC, filled_numbers
from mrs_synthesis.report_style import (
    COLOURS,
    GREY,
    Figure,
    control,
    error_bars,
    marker,
    missing,
    number,
    number_choice,
    series_name,
    series_rank,
    toggles,
)

if TYPE_CHECKING:
    import pandas as pd

STYLES = ("solid", "dash", "dashdot", "longdash")  # by model


def variants(table: pd.DataFrame) -> list[str]:
    """Return the views of a grid: all sites, then each left-out site, of those that the table has."""
    left_out = table["left_out_site"].astype(str) if "left_out_site" in table else None
    sites = sorted(set(left_out) - {NONE}) if left_out is not None else []
    return [ALL, *sites]


def grid_figure(table: pd.DataFrame | None) -> Figure | None:
    """RMS error and slope of every filling and control against the number of training subjects.

    One line for each source, decoder, model and seed. Where sites were left out, the test subjects of such a site are
    views of their own, with the model that knew the site beside those that did not (hollow).
    """
    if table is None:
        return None
    table = table[table["source"].isin([*SYNTHETIC, *CONTROLS, "real"]) & (table["source"] != NO_TRAINING)]
    numbers = filled_numbers(table)
    views, traces = variants(table), []
    models = list(dict.fromkeys(table["model"].astype(str))) if "model" in table else []
    several = len(numbers) > 1
    for view in views:
        own = table if "test_site" not in table else table[table["test_site"].astype(str) == view]
        keys = [k for k in ("measure", "source", "decoder", "model", "seed", "n_real", "left_out_site") if k in own]
        for values, rows in own.groupby(keys, sort=False, dropna=False):
            about = dict(zip(keys, values, strict=True))
            if about["source"] == "real" and about.get("n_real") not in numbers:
                continue
            when = {"measure": about["measure"], "view": view}
            if several:
                when["n_real"] = str(int(about["n_real"]))
            traces += _lines(rows.sort_values("n_training").to_dict("records"), about, models, when)
    if not traces:
        return None
    named = set()
    for trace in traces:  # a control has a line for each model's study, but one name
        key = (trace["name"], *trace["when"].values())
        if key in named:
            trace["showlegend"] = False
        named.add(key)
    titles = [(v, "all sites" if v == ALL else f"subjects of {v}") for v in views]
    middle = {"type": "line", "xref": "x2 domain", "yref": "y2", "x0": 0, "x1": 1, "y0": 1, "y1": 1, "layer": "below"}
    axis = {"title": {"text": "training subjects"}, "rangemode": "tozero"}
    return {
        "id": "grid",
        "arrays": {},
        "traces": traces,
        "controls": [
            metabolite_choice(table),
            *number_choice(table),
            *([control("view", "Test subjects", titles)] if len(views) > 1 else []),
            toggles("series", "Show", _chips(table)),
        ],
        "layout": {
            "height": 560,
            "showlegend": True,
            "legend": {"y": -0.18, "yanchor": "top"},
            "shapes": [middle | {"line": {"color": GREY, "width": 1}}],
            "xaxis": axis | {"domain": [0, 0.46]},
            "yaxis": {"title": {"text": "RMS error / %"}, "rangemode": "tozero"},
            "xaxis2": axis | {"domain": [0.56, 1], "anchor": "y2"},
            "yaxis2": {"title": {"text": "slope"}, "anchor": "x2"},
        },
    }


def _chips(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the switches of the series: at first real transients, the fillings with noise and two controls are on."""
    pairs = {(row["source"], None if missing(row["decoder"]) else row["decoder"]) for row in _series(table)}
    decoders = {decoder for source, decoder in pairs if source in SYNTHETIC}
    first = "sampled" if "sampled" in decoders else next(iter(sorted(decoders, key=str)), None)
    found = []
    for source, decoder in sorted(pairs, key=lambda pair: (series_rank(pair[0]), str(pair[1]))):
        on = source in ("real", "population_mean", "shrinkage") or (source in SYNTHETIC and decoder == first)
        name = series_name(source, decoder)
        chip = {"value": name, "label": name, "on": on, "colour": COLOURS.get(source, GREY)}
        found.append(chip | {"dash": decoder == "mean" or source in CONTROLS})
    return found


def _series(table: pd.DataFrame) -> list[dict[str, Any]]:
    return table.reindex(columns=["source", "decoder"]).drop_duplicates().to_dict("records")


def _lines(
    rows: list[dict[str, Any]], about: dict[str, Any], models: list[str], when: dict[str, str]
) -> list[dict[str, Any]]:
    """Return the two lines of one series: error and slope along the number of training subjects."""
    source, decoder = about["source"], None if missing(about.get("decoder")) else about["decoder"]
    left_out = str(about.get("left_out_site", NONE))
    name = series_name(source, decoder)
    when = when | {"series": name}
    parts = [str(about["model"])] if len(models) > 1 and source in SYNTHETIC else []
    parts += [f"without {left_out}"] if left_out not in (NONE, "None", "nan") else []
    name += f", {', '.join(parts)}" if parts else ""
    colour = COLOURS.get(source, GREY)
    style = STYLES[models.index(str(about["model"])) % len(STYLES)] if models else "solid"
    if decoder == "mean" or source in CONTROLS:
        style = "dot"
    point = marker(source, decoder)
    if parts and left_out != NONE and "open" not in point["symbol"]:
        point |= {"symbol": f"{point['symbol']}-open", "line": {"width": 2}}
    seed = "" if missing(about.get("seed")) else f", seed {about['seed']}"
    found = []
    for value, low, high, axes in (
        ("rmse_percent", "rmse_ci_low", "rmse_ci_high", {}),
        ("slope", "slope_ci_low", "slope_ci_high", {"xaxis": "x2", "yaxis": "y2", "showlegend": False}),
    ):
        known = [row for row in rows if not missing(row.get(value))]
        if not known:
            continue
        bars = error_bars(known, value, low, high) | {"color": colour, "thickness": 1.1}
        found.append(
            {
                "when": when,
                "x": [number(row["n_training"]) for row in known],
                "y": [number(row[value]) for row in known],
                "error_y": bars,
                "mode": "lines+markers",
                "name": name,
                "legendgroup": name,
                "legendrank": 1000 + series_rank(source),
                "marker": point,
                "line": {"color": colour, "dash": style, "width": 1.5},
                "hovertemplate": f"{name}{seed}<br>%{{x}} training subjects: %{{y:.3g}}<extra></extra>",
            }
            | axes
        )
    return found
