"""The report's figures of signal quality, and of metrics that have a ceiling and a floor.

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_style import (
    COLOURS,
    GREY,
    Figure,
    cell_name,
    cell_rank,
    control,
    error_bars,
    marker,
    number,
    plain,
)

if TYPE_CHECKING:
    import pandas as pd

QUALITY = {
    "challenge_snr": "SNR (challenge)",
    "challenge_shape": "shape score (challenge)",
    "challenge_linewidth_ppm": "line width (challenge) / ppm",
    "challenge_mse": "mean squared error (challenge)",
    "fslmrs_snr": "SNR (FSL-MRS), first condition",
    "fslmrs_snr_diff": "SNR (FSL-MRS), difference",
    "tcr_snr": "SNR of tCr",
    "tcr_fwhm_hz": "FWHM of tCr / Hz",
    "noise_ratio": "noise SD / expected",
}


def quality_figure(table: pd.DataFrame | None) -> Figure | None:
    """Box plots of every metric of signal quality, by source; points are single cells."""
    if table is None:
        return None
    metrics = {column: label for column, label in QUALITY.items() if column in table and table[column].notna().any()}
    groups: dict[str, list] = {}
    for position, row in enumerate(table.to_dict("records")):
        groups.setdefault(cell_name(row), [cell_rank(row), row, []])[2].append(position)
    traces = []
    for metric in metrics:
        for name, (_, row, positions) in sorted(groups.items(), key=lambda item: item[1][0]):
            values = table[metric].iloc[positions].dropna()
            if len(values):
                colour = COLOURS.get(row["source"], GREY)
                traces.append(
                    {
                        "when": {"metric": metric},
                        "type": "box",
                        "y": [number(v) for v in values],
                        "name": name,
                        "boxpoints": "all",
                        "jitter": 0.5,
                        "pointpos": 0,
                        "marker": marker(row["source"], row.get("decoder")) | {"size": 4, "opacity": 0.6},
                        "line": {"color": colour, "width": 1.3},
                        "fillcolor": "rgba(0,0,0,0)",
                        "hovertemplate": f"%{{y:.4g}}<extra>{plain(name)}</extra>",
                    }
                )
    if not traces:
        return None
    return {
        "id": "quality",
        "arrays": {},
        "traces": traces,
        "controls": [control("metric", "Metric", metrics.items(), kind="select")],
        "layouts": [{"when": {"metric": m}, "layout": {"yaxis": _axis(table[m], t)}} for m, t in metrics.items()],
        "layout": {"height": 470, "xaxis": {"tickangle": -35}},
    }


def _axis(values: pd.Series, title: str) -> dict[str, Any]:
    """Return an axis with this title, logarithmic where positive values differ more than a hundredfold."""
    low, high = values.min(), values.max()
    return {"title": {"text": title}} | ({"type": "log", "dtick": 1} if 0 < 100 * low < high else {})


def metrics_figure(tables: dict[str, pd.DataFrame]) -> Figure | None:
    """Metrics with a ceiling and a floor (fidelity, noise, water, memorisation), by source."""
    traces, layouts, options = [], [], []
    for table_name, table in tables.items():
        for metric in dict.fromkeys(table["metric"]):
            key = f"{table_name}: {metric}"
            options.append((key, key))
            rows = sorted(table[table["metric"] == metric].to_dict("records"), key=cell_rank)
            shapes = []
            for limit, dash in (("ceiling", "dash"), ("floor", "dot")):
                values = {number(row.get(limit)) for row in rows} - {None}
                shapes += [
                    {
                        "type": "line",
                        "xref": "paper",
                        "x0": 0,
                        "x1": 1,
                        "y0": v,
                        "y1": v,
                        "line": {"color": GREY, "dash": dash},
                    }
                    for v in sorted(values)
                ]
            for row in rows:
                colour = COLOURS.get(row["source"], GREY)
                traces.append(
                    {
                        "when": {"metric": key},
                        "x": [cell_name(row)],
                        "y": [number(row["value"])],
                        "mode": "markers",
                        "marker": marker(row["source"], row.get("decoder")),
                        "error_y": error_bars([row], "value", "ci_low", "ci_high") | {"color": colour},
                    }
                )
            layouts.append(
                {"when": {"metric": key}, "layout": {"shapes": shapes, "yaxis": {"title": {"text": str(metric)}}}}
            )
    if not traces:
        return None
    return {
        "id": "metrics",
        "arrays": {},
        "traces": traces,
        "layouts": layouts,
        "controls": [control("metric", "Metric", options, kind="select")],
        "layout": {"height": 420, "xaxis": {"tickangle": -35, "type": "category"}},
    }
