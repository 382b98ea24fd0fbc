"""The report's figure and words of errors beside the physical limit of the digital phantom (table `share_of_bound`).

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mrs_synthesis.dictionary import GAINS
from mrs_synthesis.report_agreement import measures, metabolite_choice
from mrs_synthesis.report_data import CONTROLS, SYNTHETIC
from mrs_synthesis.report_effective import LOG_TICKS
from mrs_synthesis.report_style import (
    BLACK,
    COLOURS,
    GREY,
    Figure,
    error_bars,
    marker,
    missing,
    number,
    series_name,
    series_rank,
)

if TYPE_CHECKING:
    import pandas as pd

N_TICKS = [1, 2, 4, 8, 16, 32, 64, 128, 256]
NONE, SHRINKAGE, BEYOND, OPEN = GAINS
WORDS = {
    BEYOND: "Information beyond shrinkage (smaller errors than the real transients alone and than every control)",
    SHRINKAGE: "Only shrinkage to the population (smaller errors at the price of the differences between subjects)",
    OPEN: "Smaller errors than the real transients alone, but not shown whether by more than shrinkage",
    NONE: "No smaller errors than the real transients alone",
}


@dataclass(frozen=True)
class Line:
    """One line of the figure: its name, colour, style, symbol's source, and the table's rows along n_real."""

    name: str
    colour: str
    dash: str
    rows: list[dict[str, Any]]
    value: str = "rmse_percent"
    source: str | None = None
    decoder: Any = None


def bound_lines(table: pd.DataFrame, measure: str) -> list[Line]:
    """Return the lines of a measure: limits, real transients alone, the best control at each n_real, and fillings.

    `table` is `share_of_bound` with a column ``measure``.
    """
    rows = table[table["measure"] == measure].sort_values("n_real", kind="stable")

    def known(part: pd.DataFrame, column: str = "rmse_percent") -> list[dict[str, Any]]:
        return part.dropna(subset=[column]).to_dict("records")

    each = rows.drop_duplicates("n_real")
    lines = [
        Line("Bayesian Cramér-Rao bound", BLACK, "solid", known(each, "bound_rmse_percent"), "bound_rmse_percent"),
        Line("the same without a prior", BLACK, "dot", known(each, "crb_rmse_percent"), "crb_rmse_percent"),
        Line("real transients alone", COLOURS["real"], "solid", known(rows[rows["source"] == "real"]), source="real"),
    ]
    best = rows[rows["source"].isin(CONTROLS)].sort_values(["n_real", "rmse_percent"], kind="stable")
    lines.append(Line("best control", GREY, "dash", known(best.drop_duplicates("n_real")), source="shrinkage"))
    filled = rows[rows["source"].isin(SYNTHETIC)].groupby(["source", "decoder"], sort=False, dropna=False)
    for source, decoder in sorted(filled.groups, key=lambda key: (series_rank(key[0]), str(key[1]))):
        own = known(filled.get_group((source, decoder)))
        dash = "dot" if decoder == "mean" else "solid"
        lines.append(Line(series_name(source, decoder), COLOURS[source], dash, own, source=source, decoder=decoder))
    return [line for line in lines if line.rows]


def bound_figure(table: pd.DataFrame | None) -> Figure | None:
    """RMS error against the truth by n_real, with the limits, the real transients alone and the best control."""
    if table is None:
        return None
    traces = []
    for measure in measures(table):
        for line in bound_lines(table, measure):
            trace = {
                "when": {"measure": measure},
                "x": [row["n_real"] for row in line.rows],
                "y": [number(row[line.value]) for row in line.rows],
                "name": line.name,
                "mode": "lines+markers" if line.source else "lines",
                "line": {"color": line.colour, "dash": line.dash, "width": 2.2 if line.source is None else 1.5},
                "text": [_hover(row) for row in line.rows] if line.source else [""] * len(line.rows),
                "hovertemplate": "%{x} real: %{y:.3g} %%{text}<extra>" + line.name + "</extra>",
            }
            if line.source:
                trace["marker"] = marker(line.source, line.decoder)
                bars = error_bars(line.rows, "rmse_percent", "rmse_ci_low", "rmse_ci_high")
                trace["error_y"] = bars | {"color": line.colour, "thickness": 1.1}
            traces.append(trace)
    return {
        "id": "bound",
        "arrays": {},
        "traces": traces,
        "controls": [metabolite_choice(table)],
        "layout": {
            "height": 560,
            "showlegend": True,
            "legend": {"y": -0.16, "yanchor": "top"},
            "xaxis": {"type": "log", "title": {"text": "real transients per edit condition"}, "tickvals": N_TICKS},
            "yaxis": {"type": "log", "title": {"text": "RMS error against the truth / %"}, "tickvals": LOG_TICKS},
        },
    }


def _hover(row: dict[str, Any]) -> str:
    parts = [series_name(row["source"])] if row["source"] in CONTROLS else []
    if not missing(row.get("share_of_bound")):
        parts.append(f"share of the bound {row['share_of_bound']:.2f}")
    if not missing(row.get("slope")):
        parts.append(f"slope {row['slope']:.2f}")
    if not missing(row.get("gain")):
        parts.append(f"gain: {row['gain']}")
    return "".join(f"<br>{part}" for part in parts)


def bound_sentences(table: pd.DataFrame | None) -> list[str]:
    """Return what each synthetic filling gains, by the table's words, one sentence for each kind that occurs."""
    if table is None:
        return []
    sentences = []
    several = table["n_real"].nunique() > 1
    for kind, words in WORDS.items():
        own = table[table["gain"] == kind]
        if own.empty:
            continue
        parts = []
        for measure, rows in own.groupby("measure", sort=False):
            names = []
            for (source, decoder), one in rows.groupby(["source", "decoder"], sort=False, dropna=False):
                names.append(series_name(source, decoder))
                if several:
                    names[-1] += f" from {', '.join(f'{n:g}' for n in sorted(one['n_real']))} real"
            parts.append(f"{measure}: {', '.join(names)}" if kind != NONE else f"{measure}: {len(rows)}")
        total = int(table["gain"].notna().sum())
        sentences.append(f"{words}: {len(own)} of {total}. {'; '.join(parts)}.")
    return sentences
