"""Draw error and slope against the number of training subjects (table `grid`); equal input gives equal bytes."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.files import read_table
from mrs_synthesis.grid import ALL, NO_TRAINING, NONE
from mrs_synthesis.report_style import BLACK, COLOURS, GREY, series_name, series_rank
from mrs_synthesis.stage import InputError, require, run
from mrs_synthesis.svg_figure import svg_figure

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("model", "seed", "n_training", "left_out_site", "test_site", "metabolite", "condition", "source")
COLUMNS += ("decoder", "n_real", "n_total", "slope", "rmse_percent", "rmse_ci_low", "slope_ci_low", "n")
PANELS = (("rmse_percent", "rmse", "RMS error / %"), ("slope", "slope", "slope"))
ACROSS, MOST = 3, 6
DASHES, SYMBOLS = ("-", "--"), ("o", "s")  # by model
CONTROL_STYLES = {
    "population_mean": ("D", (0, (4, 2))),
    "population_mean_noisy": ("P", (0, (1, 1))),
    "shrinkage": ("^", "-."),
    "low_rank": ("v", ":"),
}
APART = 0.02  # of the axis between two lines, so that their intervals lie side by side
SLOPES = (-0.5, 2.0)  # intervals of few subjects reach far beyond


def shown_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that the figure shows: all sites, smallest n_real, and of the decoders the one with noise.

    Where there is no decoder `sampled`, it is the first one.
    """
    rows = table[(table["test_site"] == ALL) & (table["left_out_site"] == NONE)]
    filled = rows[rows["source"] != "real"]
    few = rows["n_real"] == filled["n_real"].min()
    decoders = list(dict.fromkeys(filled["decoder"].dropna()))
    decoder = "sampled" if "sampled" in decoders else decoders[0] if decoders else None
    return rows[few & (rows["decoder"].isna() | (rows["decoder"] == decoder))]


def lines(rows: pd.DataFrame) -> list[tuple[str, dict[str, Any], pd.DataFrame]]:
    """Return name, style and points of every line: the controls, then the fillings of each model.

    Controls do not depend on the model; a control of several models is one line.
    """
    models = sorted(set(rows["model"]), reverse=True)
    found = []
    made = rows[(rows["source"] != "real") & ~rows["source"].isin(CONTROLS)]
    for control in (name for name in CONTROLS if name != NO_TRAINING):
        points = rows[rows["source"] == control].drop_duplicates(["metabolite", "condition", "n_training"])
        symbol, dash = CONTROL_STYLES[control]
        style = {"color": GREY, "marker": symbol, "linestyle": dash}
        found.append((series_name(control), style, points))
    for place, model in enumerate(models):
        own = made[made["model"] == model]
        for source in sorted(set(own["source"]), key=lambda name: (series_rank(name), name)):
            points = own[own["source"] == source]
            name = series_name(source, points["decoder"].iloc[0])
            style = {
                "color": COLOURS.get(source, GREY),
                "marker": SYMBOLS[place % 2],
                "linestyle": DASHES[place % 2],
            }
            found.append((f"{name}, model {model}" if len(models) > 1 else name, style, points))
    return [line for line in found if len(line[2])]


def _draw(axes: Any, value: str, interval: str, rows: pd.DataFrame, ratio: tuple[str, str], ticks: list[int]) -> None:
    def of_ratio(part: pd.DataFrame) -> pd.DataFrame:
        return part[(part["metabolite"] == ratio[0]) & (part["condition"] == ratio[1])]

    real = of_ratio(rows[rows["source"] == "real"]).head(1)
    n_real = int(rows["n_real"].min())
    for row in real.to_dict("records"):
        axes.axhline(row[value], color=BLACK, linewidth=1, label=f"{n_real} real transient{'s' * (n_real > 1)} alone")
        axes.axhspan(row[f"{interval}_ci_low"], row[f"{interval}_ci_high"], color=BLACK, alpha=0.1, linewidth=0)
    series = lines(rows)
    apart = APART * (math.log(ticks[-1] / ticks[0]) or 1)
    for place, (name, style, points) in enumerate(series):
        points = of_ratio(points).sort_values("n_training")
        factor = math.exp(apart * (place - (len(series) - 1) / 2))
        mean = points.groupby("n_training")[value].mean()  # over seeds, each of which has its own point
        axes.plot(mean.index * factor, mean, linewidth=1.2, **(style | {"marker": ""}))
        axes.plot([], [], linewidth=1.2, markersize=3.5, label=name, **style)
        ends = [points[value] - points[f"{interval}_ci_low"], points[f"{interval}_ci_high"] - points[value]]
        axes.errorbar(
            points["n_training"] * factor,
            points[value],
            yerr=[end.clip(lower=0).fillna(0) for end in ends],
            linestyle="",
            markersize=3.5,
            elinewidth=1,
            color=style["color"],
            marker=style["marker"],
        )
    if ticks[0] < ticks[-1]:
        axes.set_xscale("log")
    axes.set_xticks(ticks, ticks, minor=False)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("training subjects")
    if value == "slope":
        axes.axhline(1, color=GREY, linewidth=0.6)
        low, high = axes.get_ylim()
        axes.set_ylim(max(min(0, low), SLOPES[0]), min(max(1.05, high), SLOPES[1]))
    else:
        axes.set_ylim(bottom=0)


def write_figure(path: Path, table: pd.DataFrame) -> None:
    """Write the figure of up to six ratios: above the error, below the slope, with their intervals."""
    rows = shown_rows(table)
    if rows.empty:
        raise InputError("no row of all sites trained with all sites; make the table of the grid again")
    found = dict.fromkeys(zip(rows["metabolite"], rows["condition"], strict=True))
    ratios = sorted(found, key=lambda ratio: ratio[1] != "DIFF")[:MOST]
    ticks = sorted({int(n) for n in rows["n_training"]})
    blocks, across = -(-len(ratios) // ACROSS), min(len(ratios), ACROSS)
    with svg_figure(path) as figure:
        figure.set_size_inches(3.3 * across + 0.4, 4.2 * blocks + 1.1)
        panels = figure.subplots(2 * blocks, across, squeeze=False)
        for place, ratio in enumerate(ratios):
            block, column = divmod(place, across)
            for below, (value, interval, label) in enumerate(PANELS):
                axes = panels[2 * block + below, column]
                _draw(axes, value, interval, rows, ratio, ticks)
                if column == 0:
                    axes.set_ylabel(label)
            panels[2 * block, column].set_title(f"{ratio[0]} ({ratio[1]})")
        for place in range(len(ratios), blocks * across):
            block, column = divmod(place, across)
            for below in range(2):
                panels[2 * block + below, column].set_axis_off()
        few, total = int(rows["n_real"].min()), int(rows["n_total"].max())
        subjects = int(rows["n"].max())
        title = f"{few} real transients filled up to {total}: what further training subjects are worth"
        figure.suptitle(f"{title} ({subjects} test subjects)", x=0.01, ha="left", fontsize=11, fontweight="bold")
        handles, labels = panels[0, 0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=3)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.grid_figure", description=__doc__.splitlines()[0])
    parser.add_argument("--table", type=Path, required=True, help="table of the grid (TSV)")
    parser.add_argument("--output", type=Path, required=True, help="figure (SVG)")
    a = parser.parse_args(argv)
    try:
        table = read_table(require(a.table), COLUMNS)
    except ValueError as error:
        raise InputError(str(error)) from None
    write_figure(a.output, table)


if __name__ == "__main__":
    run(main)
