"""The report's figures of metrics that have a ceiling and a floor: fidelity, noise, water, memorisation; embedding.

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_data import SYNTHETIC
from mrs_synthesis.report_style import (
    BLACK,
    BLUE,
    COLOURS,
    GREY,
    Figure,
    by_default,
    cell_rank,
    conditions_in,
    control,
    error_bars,
    marker,
    metric_source,
    missing,
    number,
    pack,
    plain,
    series_name,
    toggles,
)

if TYPE_CHECKING:
    import pandas as pd

LIMITS = {"ceiling": "line-ew-open", "wanted": "line-ew-open", "floor": "x-thin-open"}
WIDE = 100  # so many times between largest and smallest value call for a logarithmic axis
LIMIT_WORDS = {"ceiling": "real (ceiling)", "wanted": "wanted", "floor": "floor"}
METHODS = {"pca": "principal components", "tsne": "t-SNE"}
SPLITS = {"training": (GREY, "circle"), "held-out": (BLUE, "circle"), "noise": (BLACK, "cross-thin-open")}


def is_metrics(table: pd.DataFrame) -> bool:
    """Whether a table is one of metrics by source."""
    return {"metric", "source", "value"} <= set(table.columns) and len(table) > 0


def metrics_figure(table: pd.DataFrame | None, identifier: str) -> Figure | None:
    """Values of one table's metrics by source, each between its ceiling and its floor, where it has them.

    Metric, condition and region of the spectrum are choices, the latter two only of metrics that differ by them. The
    metrics of synthetic transients come first.
    """
    if table is None or not is_metrics(table):
        return None
    traces, layouts, regions, conditions = [], [], {}, set()
    synthetic = set(table.loc[table["source"].isin(SYNTHETIC), "metric"].astype(str))
    metrics = sorted(dict.fromkeys(table["metric"].astype(str)), key=lambda metric: metric not in synthetic)
    for metric in metrics:
        own = table[table["metric"].astype(str) == metric]
        rows = sorted(own.to_dict("records"), key=cell_rank)
        keys = [k for k in ("condition", "region_ppm") if k in own and own[k].nunique() > 1]
        views: dict[tuple, list[dict]] = {}
        for row in rows:
            views.setdefault(tuple(str(row[k]) for k in keys), []).append(row)
        for values, members in views.items():
            when = {"metric": metric} | {k.removesuffix("_ppm"): v for k, v in zip(keys, values, strict=True)}
            conditions |= {when["condition"]} if "condition" in when else set()
            regions |= {when["region"]: None} if "region" in when else {}
            traces += _limits(members, when)
            for row in members:
                name = _name(row)
                traces.append(
                    {
                        "when": when,
                        "x": [name],
                        "y": [number(row["value"])],
                        "mode": "markers",
                        "marker": marker(row["source"], row.get("decoder")),
                        "error_y": error_bars([row], "value", "ci_low", "ci_high")
                        | {"color": COLOURS.get(row["source"], GREY)},
                        "showlegend": False,
                        "hovertemplate": f"%{{y:.4g}}{_ends(row)}<extra>{plain(name)}</extra>",
                    }
                )
        order = list(dict.fromkeys(_name(row) for row in rows))
        axis = {"title": {"text": plain(metric.replace("_", " "))}} | ({"type": "log"} if _wide(own) else {})
        categories = {"categoryorder": "array", "categoryarray": order, "range": [-0.6, len(order) - 0.4]}
        layouts.append({"when": {"metric": metric}, "layout": {"yaxis": axis, "xaxis": categories}})
    choices = [control("metric", "Metric", [(m, m.replace("_", " ")) for m in metrics], kind="select")]
    if conditions:
        choices.append(control("condition", "Condition", [(c, c) for c in by_default(conditions_in(conditions))]))
    if regions:
        widest = sorted(regions, key=_width, reverse=True)[0]
        ordered = sorted(regions, key=lambda region: (region != widest, region))
        choices.append(control("region", "Region", [(r, f"{r} ppm") for r in ordered], kind="select"))
    return {
        "id": identifier,
        "arrays": {},
        "traces": traces,
        "layouts": layouts,
        "controls": choices,
        "layout": {
            "height": 460,
            "showlegend": True,
            "legend": {"y": 1.02, "yanchor": "bottom"},
            "xaxis": {"tickangle": -35, "type": "category"},
        },
    }


def _name(row: dict[str, Any]) -> str:
    return metric_source(row["source"], row.get("decoder"))


def _limits(rows: list[dict], when: dict[str, str]) -> list[dict[str, Any]]:
    """Return traces of the ceilings and floors, short bars at each source, since they may differ between sources."""
    found = []
    for limit, symbol in LIMITS.items():
        known = [row for row in rows if not missing(row.get(limit))]
        if known:
            style = {"symbol": symbol, "size": 26 if symbol.startswith("line") else 9, "color": BLACK}
            style["line"] = {"width": 1.6 if limit != "wanted" else 3, "color": BLACK if limit != "wanted" else GREY}
            found.append(
                {
                    "when": when,
                    "x": [_name(row) for row in known],
                    "y": [number(row[limit]) for row in known],
                    "mode": "markers",
                    "marker": style,
                    "name": LIMIT_WORDS[limit],
                    "hovertemplate": f"{LIMIT_WORDS[limit]}: %{{y:.4g}}<extra></extra>",
                }
            )
    return found


def _ends(row: dict[str, Any]) -> str:
    if missing(row.get("ci_low")) or missing(row.get("ci_high")):
        return ""
    return f" ({number(row['ci_low']):.3g} to {number(row['ci_high']):.3g})"


def _width(region: str) -> float:
    """Return the width in ppm of a region like ``0.2-4.2``; 0 of anything else."""
    try:
        low, high = (float(end) for end in region.split("-"))
    except ValueError:
        return 0.0
    return high - low


def _wide(own: pd.DataFrame) -> bool:
    """Whether a metric's values, ceilings and floors are positive and differ more than a hundredfold."""
    values = [v for c in ("value", "ci_low", "ceiling", "floor") if c in own for v in own[c].dropna()]
    return bool(values) and 0 < WIDE * min(values) < max(values)


def definitions(table: pd.DataFrame | None, dictionary: Mapping[str, Any]) -> list[dict[str, str]]:
    """Return what the metrics mean: ``name`` (may be empty) and ``text``, as the data dictionary has it."""
    about = dictionary.get("metric") if table is not None else None
    if not isinstance(about, dict):
        return []
    found = [{"name": "", "text": str(about.get("Description", ""))}] if about.get("Description") else []
    levels = about.get("Levels") or {}
    return found + [{"name": str(name).replace("_", " "), "text": str(text)} for name, text in levels.items()]


def embedding_figure(table: pd.DataFrame | None) -> Figure | None:
    """Points of real, synthetic and noise transients in two dimensions; methods are a choice, groups can be hidden."""
    if table is None:
        return None
    traces, groups = [], {}
    for (method, split, source, decoder), rows in table.groupby(
        ["method", "split", "source", "decoder"], sort=False, dropna=False
    ):
        decoder = None if missing(decoder) else decoder
        synthetic = split not in SPLITS
        name = series_name(source, decoder) if synthetic else f"{split} real" if split != "noise" else "noise"
        style = marker(source, decoder) | {"size": 6, "opacity": 0.75}
        if not synthetic:
            colour, symbol = SPLITS[split]
            style = {"color": colour, "symbol": symbol, "size": 6, "opacity": 0.6}
        rank = {"training": 0, "held-out": 1, "noise": 3}.get(split, 2)
        groups.setdefault(name, (rank, cell_rank({"source": source, "decoder": decoder}), style["color"], decoder))
        where = rows["unit"].astype(str) + (", " + rows["site"].astype(str) if "site" in rows else "")
        traces.append(
            {
                "when": {"method": str(method), "series": name},
                "x": pack(rows["x"]),
                "y": pack(rows["y"]),
                "text": [plain(text) for text in where],
                "mode": "markers",
                "marker": style,
                "name": name,
                "hovertemplate": f"%{{text}}<extra>{plain(name)}</extra>",
            }
        )
    if not traces:
        return None
    order = sorted(groups, key=lambda name: groups[name][:2])
    synthetic = [name for name in order if groups[name][0] == 2]
    first = next((name for name in synthetic if groups[name][3] == "sampled"), next(iter(synthetic), None))
    on = {name for name in order if groups[name][0] in (0, 1)} | {first}
    chips = [
        {"value": n, "label": n, "on": n in on, "colour": groups[n][2], "dash": groups[n][3] == "mean"} for n in order
    ]
    methods = list(dict.fromkeys(trace["when"]["method"] for trace in traces))
    return {
        "id": "embedding",
        "arrays": {},
        "traces": traces,
        "controls": [
            control("method", "Projection", [(m, METHODS.get(m, m)) for m in methods]),
            toggles("series", "Show", chips),
        ],
        "layout": {
            "height": 560,
            "showlegend": True,
            "legend": {"y": 1.02, "yanchor": "bottom"},
            "xaxis": {"title": {"text": "first coordinate"}},
            "yaxis": {"title": {"text": "second coordinate"}},
        },
    }
