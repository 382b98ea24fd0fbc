"""The report's main figures as SVG files, for documents and for `snakemake --report`; equal input gives equal bytes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_agreement import measures
from mrs_synthesis.report_bound import N_TICKS, bound_lines
from mrs_synthesis.report_data import CONTROLS
from mrs_synthesis.report_effective import LOG_TICKS, has_slopes, ordered
from mrs_synthesis.report_figures import pooled
from mrs_synthesis.report_sites import ALL_SITES, site_rows
from mrs_synthesis.report_style import (
    BLACK,
    BLUE,
    COLOURS,
    GREEN,
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
from mrs_synthesis.report_words import SLOPE_LIMIT
from mrs_synthesis.svg_figure import svg_figure

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.report_scans import Transients

PANELS, ACROSS = 6, 3
SHAPES = {"duplicated": "s", "population_mean": "D", "population_mean_noisy": "D", "shrinkage": "^", "low_rank": "v"}


def _nothing(figure: Any, text: str) -> None:
    figure.text(0.5, 0.5, text, ha="center", va="center", color=GREY)


def write_spectra(path: Path, statistics: dict[str, Transients]) -> None:
    """Write mean and SD of single transients, real and synthetic, of the first unit, a row per condition.

    Where every unit is one averaged spectrum, the mean and SD are those over units.
    """
    with svg_figure(path, 9, 6.2) as figure:
        if not statistics:
            _nothing(figure, "no spectra")
            return
        unit, (ppm, found, _) = next(iter(statistics.items()))
        title = f"Single transients, real and synthetic: {unit}"
        if single := all(each.single for each in statistics.values()):
            ppm, found, _ = pooled(statistics)
            title = f"Averaged spectra, real and reconstructed: {len(statistics)} scans"
        conditions = by_default(conditions_in(condition for _, condition in found))[:3]
        series = sorted({name for name, _ in found}, key=lambda name: (series_rank(name.split("|")[0]), name))
        wanted = [s for s in series if s.endswith("|sampled")] or [s for s in series if s != "real"]
        shown = ["real", *wanted[-1:]]
        figure.set_size_inches(9, 2.2 * len(conditions) + 0.9)
        figure.suptitle(title, x=0.01, ha="left", fontsize=11, fontweight="bold")
        grid = figure.subplots(len(conditions), 2, squeeze=False, sharex=True)
        for row, condition in zip(grid, conditions, strict=True):
            for name in (s for s in shown if (s, condition) in found):
                mean, sd, n = found[name, condition]
                source, _, decoder = name.partition("|")
                colour = COLOURS.get(source, GREY)
                label = f"{'real' if source == 'real' else series_name(source, decoder)}, n = {n}"
                row[0].fill_between(ppm, mean - sd, mean + sd, color=colour, alpha=0.16, linewidth=0)
                row[0].plot(ppm, mean, color=colour, linewidth=1, label=label)
                row[1].plot(ppm, sd, color=colour, linewidth=1)
            row[0].set_title(f"{condition}: mean and SD band")
            row[1].set_title(f"{condition}: SD over {'scans' if single else 'transients'}")
            row[1].set_ylim(bottom=0)
            row[0].set_xlim(ppm.max(), ppm.min())
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
        for axes in grid[-1]:
            axes.set_xlabel("chemical shift / ppm")
        figure.supylabel(f"real part / maximum{'' if 'UNEDITED' in conditions else ' of OFF'}", fontsize=9)


def write_bias(
    path: Path, table: pd.DataFrame | None, margin: float | None, by_site: pd.DataFrame | None = None
) -> None:
    """Write forest plots of the bias of up to six metabolites: interval thick, limits of agreement thin.

    A line is a source, or, with the table `by_site`, a site.
    """
    with svg_figure(path, 10, 4) as figure:
        if table is None:
            _nothing(figure, "no table of biases")
            return
        shown = measures(table)[:PANELS]
        if by_site is None:
            rows = [(cell_name(row), row) for row in table.to_dict("records")]
            order = sorted(names := {name: cell_rank(row) for name, row in rows}, key=names.get, reverse=True)
        else:
            rows = [(row["name"], row) for row in site_rows(table, by_site)]
            order = list(dict.fromkeys(name for name, _ in rows))[::-1]
            figure.suptitle("Bias of the reconstruction by site", x=0.01, ha="left", fontsize=11, fontweight="bold")
        for axes, measure in zip(_panels(figure, len(shown), 1 + 0.2 * len(order), True), shown, strict=True):
            if margin is not None:
                axes.axvspan(-margin, margin, color=SKY, alpha=0.18, linewidth=0)
            axes.axvline(0, color=GREY, linewidth=0.8)
            for name, row in ((name, row) for name, row in rows if row["measure"] == measure):
                y = order.index(name)
                colour = BLACK if row.get("site") == ALL_SITES else COLOURS.get(row["source"], GREY)
                for low, high, width in (("loa_low", "loa_high", 0.7), ("bias_ci_low", "bias_ci_high", 2.4)):
                    if not missing(row.get(low)) and not missing(row.get(high)):
                        axes.plot([row[low], row[high]], [y, y], color=colour, linewidth=width, solid_capstyle="butt")
                face = "white" if row.get("decoder") == "mean" else colour
                axes.plot(row["bias_percent"], y, "o", color=colour, markerfacecolor=face, markersize=4.5)
            axes.set_title(measure)
            axes.set_xlabel("bias / %")
            axes.set_yticks(range(len(order)), order)
            axes.set_ylim(-0.6, len(order) - 0.4)


def _panels(figure: Any, count: int, height: float, share_y: bool, share_x: bool = False) -> list[Any]:
    """Return axes for up to `PANELS` panels of this height, in rows of three; unused places stay empty."""
    down = 1 if count <= ACROSS else 2
    across = min(count, ACROSS)
    figure.set_size_inches(9.2 if across == ACROSS else 2 + 2.6 * across, down * height + 0.4)
    grid = figure.subplots(down, across, sharey=share_y, sharex=share_x, squeeze=False).ravel()
    for axes in grid[count:]:
        axes.set_axis_off()
    return list(grid[:count])


def write_effective(path: Path, table: pd.DataFrame | None, n_real: float, n_total: float) -> None:
    """Write N_eff against the slope of every filling and control, one panel per ratio.

    Where no slope is known, N_eff is shown by source.

    Parameters
    ----------
    path
        The SVG file.
    table
        The table of effective transients with a column ``measure``, or None.
    n_real, n_total
        Real transients of a filled-up cell, and all of its transients, per edit condition.
    """
    with svg_figure(path, 9.2, 6) as figure:
        if table is None:
            figure.set_size_inches(9.2, 1.2)
            _nothing(figure, "This study fills nothing up with synthetic transients: no effective transients.")
        else:
            draw_effective(figure, table, n_real, n_total)


def draw_effective(figure: Any, table: pd.DataFrame, n_real: float, n_total: float) -> None:
    """Draw what `write_effective` writes on a matplotlib figure."""
    shown, slopes = measures(table)[:PANELS], has_slopes(table)
    span = (min(-0.2, table["slope"].min() - 0.1), max(1.45, table["slope"].max() + 0.1)) if slopes else None
    rows = {measure: ordered(table, measure) for measure in shown}
    names = {cell_name(row): cell_rank(row) for own in rows.values() for row in own}
    order = sorted(names, key=names.get)
    subjects = int(table["n"].max()) if "n" in table and table["n"].notna().any() else None
    people = "" if subjects is None else f", {subjects} subject{'s' * (subjects != 1)}"
    title = f"What {n_real:g} real + {n_total - n_real:g} synthetic transients per condition are worth{people}"
    figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
    grid = _panels(figure, len(shown), 2.75 if slopes else 2.6, True, True)
    figure.set_figheight(figure.get_figheight() + (1.1 if slopes else 1.4))  # for the legend, or the names
    handles: dict[str, Any] = {}
    for i, (axes, measure) in enumerate(zip(grid, shown, strict=True)):
        useful = _levels(axes, n_real, n_total, span, i % ACROSS == ACROSS - 1 or i == len(shown) - 1)
        for row in rows[measure]:
            name = cell_name(row)
            x = row.get("slope") if slopes else order.index(name)
            if not missing(x):
                handles[name] = _worth(axes, x, row, row["source"] == "real" and row["n_real"] == n_real)
        axes.set_title(measure, fontweight="bold")
        if slopes and not i:
            style = {"color": GREEN, "ha": "center", "va": "center", "fontsize": 8.5}
            axes.text((SLOPE_LIMIT + span[1]) / 2, (n_real * n_total) ** 0.5, "useful", **style)
        if slopes:
            last = i + ACROSS >= len(shown)
            axes.tick_params(labelbottom=last)
            axes.set_xlabel("slope of estimate on reference" if last else "")
        else:
            axes.set_xticks(range(len(order)), order, rotation=90)
            axes.tick_params(labelbottom=i + ACROSS >= len(shown))
    figure.supylabel("effective transients N$_{eff}$ (real transients of equal error)", fontsize=9.5)
    if slopes:
        controls = {series_name(source) for source in CONTROLS}
        entries = {f"control: {n}" if n in controls else n: handles[n] for n in order if n in handles}
        entries["more than the few real, slope ≥ 0.8"] = useful
        figure.legend(entries.values(), entries, loc="outside lower center", ncols=4, fontsize=8.5, columnspacing=1.4)


def write_bound(path: Path, table: pd.DataFrame) -> None:
    """Write the RMS error against the truth by n_real, beside the physical limit, one panel per ratio.

    `table`: `share_of_bound` with a column ``measure``.
    """
    with svg_figure(path, 9.2, 6) as figure:
        shown, handles = measures(table)[:PANELS], {}
        title = "Errors against the truth beside the physical limit"
        figure.suptitle(title, x=0.01, ha="left", fontsize=11.5, fontweight="bold")
        grid = _panels(figure, len(shown), 2.75, False)
        figure.set_figheight(figure.get_figheight() + 0.9)  # for the legend
        for i, (axes, measure) in enumerate(zip(grid, shown, strict=True)):
            for line in bound_lines(table, measure):
                x, y = ([row[name] for row in line.rows] for name in ("n_real", line.value))
                style = {"color": line.colour, "linestyle": {"dot": ":", "dash": "--"}.get(line.dash, "-")}
                if line.source:
                    ends = [(row["n_real"], row["rmse_ci_low"], row["rmse_ci_high"]) for row in line.rows]
                    for n, low, high in ends:
                        axes.plot([n, n], [low, high], color=line.colour, linewidth=1, alpha=0.4)
                    style |= {"marker": SHAPES.get(line.source, "o"), "markersize": 4.5, "linewidth": 1.2}
                    style["markerfacecolor"] = "white" if line.decoder == "mean" else line.colour
                handles[line.name] = axes.plot(x, y, zorder=3, **style)[0]
            for scale, axis, ticks in (("x", axes.xaxis, N_TICKS), ("y", axes.yaxis, LOG_TICKS)):
                getattr(axes, f"set_{scale}scale")("log")
                low, high = getattr(axes, f"get_{scale}lim")()
                inside = [tick for tick in ticks if low <= tick <= high]
                axis.set_ticks(inside, [f"{tick:g}" for tick in inside])
            axes.minorticks_off()
            axes.grid(color="#eceef1", linewidth=0.7)
            axes.set_title(measure, fontweight="bold")
            axes.set_xlabel("real transients per condition" if i + ACROSS >= len(shown) else "")
        figure.supylabel("RMS error against the truth / %", fontsize=9.5)
        style = {"ncols": min(4, 1 + len(shown)), "fontsize": 8.5, "columnspacing": 1.4}
        figure.legend(handles.values(), handles, loc="outside lower center", **style)


def _levels(axes: Any, n_real: float, n_total: float, span: tuple[float, float] | None, named: bool) -> Any:
    """Draw the lines of the real transients alone and of as many real ones as the cell holds, and the region aimed at.

    Returns the region's handle.
    """
    axes.set_yscale("log")
    low, high = 0.27, max(3.8 * n_total, 10)  # beyond where N_eff is cut, so that arrows have room
    axes.set_ylim(low, high)
    ticks = [tick for tick in LOG_TICKS if low <= tick <= high]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.grid(color="#eceef1", linewidth=0.7)
    axes.set_axisbelow(True)
    useful = None
    if span:
        axes.set_xlim(span)
        axes.set_xticks([0, 0.5, 1], ["0\n(differences lost)", "0.5", "1\n(kept)"])
        useful = axes.fill_between([SLOPE_LIMIT, span[1]], n_real, high, color=GREEN, alpha=0.13, linewidth=0)
    for level, style in ((n_real, "-"), (n_total, "--")):
        axes.axhline(level, color=BLUE, linewidth=0.9, linestyle=style, alpha=0.75, zorder=1)
        if named:
            place = {"xycoords": ("axes fraction", "data"), "xytext": (3, 0), "textcoords": "offset points"}
            axes.annotate(f"{level:g} real", (1, level), color=BLUE, fontsize=8, va="center", **place)
    return useful


def _worth(axes: Any, x: float, row: dict[str, Any], few_real: bool) -> Any:
    """Draw N_eff of one row with its interval, with an arrow where it was cut; return its handle."""
    value, colour = row["n_eff"], COLOURS.get(row["source"], GREY)
    if not missing(row.get("n_eff_ci_low")) and not missing(row.get("n_eff_ci_high")):
        axes.plot([x, x], [row["n_eff_ci_low"], row["n_eff_ci_high"]], color=colour, linewidth=1.1, alpha=0.4)
    hollow = row.get("decoder") == "mean" or row["source"] == "population_mean_noisy"
    style = {"marker": SHAPES.get(row["source"], "o"), "markersize": 6, "linestyle": "none", "markeredgewidth": 1.3}
    style |= {"color": colour, "markeredgecolor": colour, "markerfacecolor": "white" if hollow else colour}
    if few_real:
        style |= {"marker": "*", "markersize": 13, "markeredgecolor": BLACK, "markeredgewidth": 0.8}
    direction = {"low": -1, "high": 1}.get(row.get("n_eff_clipped"))
    if direction:
        arrow = {"arrowstyle": "<-", "color": colour, "linewidth": 1.1, "shrinkA": 0, "shrinkB": 2}
        axes.annotate("", (x, value), (0, 14 * direction), "data", "offset points", arrow)
    if row["source"] == "duplicated":  # lies on the few real transients, which it repeats
        style["markersize"] = 4
    return axes.plot(x, value, zorder=4 + 2 * few_real + 3 * (row["source"] == "duplicated"), **style)[0]
