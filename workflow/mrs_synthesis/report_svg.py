"""The report's main figures as SVG files, for documents and for `snakemake --report`; equal input gives equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis.files import write_whole
from mrs_synthesis.report_style import (
    COLOURS,
    GREY,
    SKY,
    by_default,
    cell_name,
    cell_rank,
    conditions_in,
    missing,
    series_name,
    series_rank,
)

if TYPE_CHECKING:
    import pandas as pd

STYLE = {"svg.hashsalt": "mrs-synthesis", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False}
STYLE |= {"axes.spines.right": False, "axes.titlesize": 10, "axes.titlelocation": "left", "legend.frameon": False}
PANELS = 4


@contextmanager
def _svg(path: Path, width: float, height: float) -> Iterator[Any]:
    """Yield a matplotlib figure and write it, without a date, when the block ends."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height), layout="constrained")
        FigureCanvasSVG(figure)
        yield figure
        with write_whole(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


def _nothing(figure: Any, text: str) -> None:
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)


def write_spectra(path: Path, statistics: dict[str, tuple[np.ndarray, dict]]) -> None:
    """Write mean and SD band of single transients, real and synthetic, of the first unit, one panel per condition."""
    with _svg(path, 9, 6.2) as figure:
        if not statistics:
            _nothing(figure, "no spectra")
            return
        unit, (ppm, found) = next(iter(statistics.items()))
        conditions = by_default(conditions_in(condition for _, condition in found))[:3]
        series = sorted({name for name, _ in found}, key=lambda name: (series_rank(name.split("|")[0]), name))
        wanted = [s for s in series if s.endswith("|sampled")] or [s for s in series if s != "real"]
        shown = ["real", *wanted[-1:]]
        figure.set_size_inches(9, 2.3 * len(conditions) + 0.4)
        for row, condition in zip(
            figure.subplots(len(conditions), 2, squeeze=False, sharex=True), conditions, strict=True
        ):
            for name in (s for s in shown if (s, condition) in found):
                mean, sd, n = found[name, condition]
                source, _, decoder = name.partition("|")
                colour = COLOURS.get(source, GREY)
                label = f"{'real' if source == 'real' else series_name(source, decoder)}, n = {n}"
                row[0].fill_between(ppm, mean - sd, mean + sd, color=colour, alpha=0.16, linewidth=0)
                row[0].plot(ppm, mean, color=colour, linewidth=1, label=label)
                row[1].plot(ppm, sd, color=colour, linewidth=1)
            row[0].set_title(f"{condition}: mean and SD of single transients, {unit}")
            row[0].legend(fontsize=7)
            row[1].set_title(f"{condition}: SD of single transients")
            row[1].set_ylim(bottom=0)
            row[0].set_xlim(ppm.max(), ppm.min())
            row[0].set_ylabel("real part / OFF max.")
            if condition == conditions[-1]:
                for axes in row:
                    axes.set_xlabel("chemical shift / ppm")


def write_bias(path: Path, table: pd.DataFrame | None, margin: float | None) -> None:
    """Write forest plots of the bias of up to four metabolites: interval thick, limits of agreement thin."""
    from mrs_synthesis.report_agreement import measures

    with _svg(path, 10, 4) as figure:
        if table is None:
            _nothing(figure, "no table of biases")
            return
        shown = measures(table)[:PANELS]
        names = {cell_name(row): cell_rank(row) for row in table.to_dict("records")}
        order = sorted(names, key=names.get, reverse=True)
        figure.set_size_inches(2.1 + 2.4 * len(shown), 1 + 0.24 * len(order))
        for axes, measure in zip(figure.subplots(1, len(shown), sharey=True, squeeze=False)[0], shown, strict=True):
            if margin is not None:
                axes.axvspan(-margin, margin, color=SKY, alpha=0.18, linewidth=0)
            axes.axvline(0, color=GREY, linewidth=0.8)
            for row in table[table["measure"] == measure].to_dict("records"):
                y, colour = order.index(cell_name(row)), COLOURS.get(row["source"], GREY)
                for low, high, width in (("loa_low", "loa_high", 0.7), ("bias_ci_low", "bias_ci_high", 2.4)):
                    if not missing(row.get(low)) and not missing(row.get(high)):
                        axes.plot([row[low], row[high]], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
                face = "white" if row.get("decoder") == "mean" else colour
                axes.plot(row["bias_percent"], y, "o", color=colour, markerfacecolor=face, markersize=4.5)
            axes.set_title(measure)
            axes.set_xlabel("bias / %")
            axes.set_yticks(range(len(order)), order)
            axes.set_ylim(-0.6, len(order) - 0.4)
