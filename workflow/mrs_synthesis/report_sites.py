"""The report's figure and table of biases by site, of a study of reconstructions.

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_agreement import MARGIN_FILL, forest_rows, measures
from mrs_synthesis.report_style import BLACK, GREY, Figure, missing, number, plain

if TYPE_CHECKING:
    import pandas as pd

ALL_SITES = "all sites"


def site_rows(bias: pd.DataFrame, by_site: pd.DataFrame) -> list[dict[str, Any]]:
    """Return rows of bias with a ``site``: every site in order, after them all sites together.

    Their ``name`` has the number of the site's subjects, the largest over metabolites, too.
    """
    rows = by_site.sort_values("site", kind="stable").to_dict("records")
    rows += bias.assign(site=ALL_SITES).to_dict("records")
    counts: dict[str, int] = {}
    for row in rows:
        counts[row["site"]] = max(counts.get(row["site"], 0), 0 if missing(row.get("n")) else int(row["n"]))
    return [row | {"n_site": counts[row["site"]], "name": f"{row['site']}, n = {counts[row['site']]}"} for row in rows]


def site_panels(bias: pd.DataFrame | None, by_site: pd.DataFrame | None, margin: float | None) -> Figure | None:
    """Forest plots side by side, a panel per metabolite and a line per site, of a study of reconstructions only."""
    if bias is None or by_site is None:
        return None
    shown = measures(bias)
    rows = site_rows(bias, by_site)
    sites = list(dict.fromkeys(plain(row["name"]) for row in rows))[::-1]
    across = min(len(shown), 3)
    down = -(-len(shown) // across)
    gap = 0.44 / down
    high = (1 - gap * (down - 1)) / down
    traces, shapes, notes, axes = [], [], [], {}
    for i, measure in enumerate(shown):
        end = str(i + 1) if i else ""
        column, line = i % across, i // across
        x_domain = [column / across + 0.012 * (column > 0), (column + 1) / across - 0.012 * (column < across - 1)]
        top = 1 - line * (high + gap)
        y_domain = [max(top - high, 0), top]
        own = [row for row in rows if row["measure"] == measure]
        for together in (False, True):
            group = [row for row in own if (row["site"] == ALL_SITES) == together]
            for trace in forest_rows(group, [plain(row["name"]) for row in group]) if group else ():
                if together:
                    trace = recoloured(trace, BLACK)
                traces.append(trace | {"xaxis": f"x{end}", "yaxis": f"y{end}"})
        axes[f"xaxis{end}"] = {"domain": x_domain, "anchor": f"y{end}", "title": {"text": "bias / %"}, "nticks": 7}
        axes[f"yaxis{end}"] = {
            "domain": y_domain,
            "anchor": f"x{end}",
            "type": "category",
            "categoryorder": "array",
            "categoryarray": sites,
            "range": [-0.6, len(sites) - 0.4],
            "showticklabels": column == 0,
            "gridcolor": "#f4f5f7",
        }
        place = {"xref": f"x{end}", "yref": f"y{end} domain", "y0": 0, "y1": 1, "layer": "below"}
        if margin is not None:
            fill = {"fillcolor": MARGIN_FILL, "line": {"width": 0}}
            shapes.append(place | {"type": "rect", "x0": -margin, "x1": margin} | fill)
        shapes.append(place | {"type": "line", "x0": 0, "x1": 0, "line": {"color": GREY, "width": 1}})
        note = {"x": x_domain[0], "y": y_domain[1], "xref": "paper", "yref": "paper", "xanchor": "left"}
        note |= {"yanchor": "bottom", "text": f"<b>{plain(measure)}</b>", "showarrow": False}
        notes.append(note)
    layout = {"height": 100 + down * (60 + 27 * len(sites)), "shapes": shapes, "annotations": notes, **axes}
    return {"id": "bias_by_site", "arrays": {}, "traces": traces, "controls": [], "layout": layout}


def recoloured(trace: dict[str, Any], colour: str) -> dict[str, Any]:
    """Return a trace in another colour."""
    parts = {key: trace[key] | {"color": colour} for key in ("line", "marker", "error_x") if key in trace}
    return trace | parts


def site_table(bias: pd.DataFrame, by_site: pd.DataFrame) -> dict[str, Any]:
    """Return biases by site as a table: ``measures`` and ``rows`` (site, n, cells: text, interval, value)."""
    rows = site_rows(bias, by_site)
    table = []
    for site, n in dict.fromkeys((row["site"], row["n_site"]) for row in rows):
        own = {row["measure"]: row for row in rows if row["site"] == site}
        cells = []
        for measure in measures(bias):
            row = own.get(measure, {})
            low, high = row.get("bias_ci_low"), row.get("bias_ci_high")
            cell = {"text": signed(row.get("bias_percent")), "value": number(row.get("bias_percent"))}
            known = not missing(low) and not missing(high)
            cells.append(cell | {"interval": f"({signed(low)} to {signed(high)})" if known else ""})
        table.append({"site": str(site), "n": n, "cells": cells})
    return {"measures": measures(bias), "rows": table}


def signed(value: Any) -> str:
    """Return a percentage to one decimal place with its sign."""
    return "n/a" if missing(value) else f"{value:+.1f}".replace("-", "−")
