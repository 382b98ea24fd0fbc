"""The report's figure and words of the time that each stage took (table `run_times`).

As in `report_figures`, a figure is a dictionary for the page's script.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_style import BLUE, GREY, ORANGE, Figure, control, missing, number
from mrs_synthesis.run_times import TOTAL

if TYPE_CHECKING:
    import pandas as pd

COLUMNS = ("stage", "wall_s", "cpu_s", "start_up_cpu_s", "max_rss_mb")
VIEWS = (("cpu", "CPU time / s"), ("wall", "wall time / s"), ("memory", "largest memory / MiB"))


def run_times_figure(table: pd.DataFrame | None) -> Figure | None:
    """Bars of every stage: CPU time, of it that of the jobs' start-up; wall time; largest memory of a job."""
    if table is None:
        return None
    rows = table[table["stage"] != TOTAL].to_dict("records")[::-1]  # plotly starts at the bottom
    start_up = [0 if missing(row["start_up_cpu_s"]) else row["start_up_cpu_s"] for row in rows]
    rest = [max(0, row["cpu_s"] - start) for row, start in zip(rows, start_up, strict=True)]  # missing stays so
    names = [row["stage"] for row in rows]
    traces = [
        _bars("cpu", "work", names, rest, BLUE),
        _bars("cpu", "start-up of jobs", names, start_up, ORANGE),
        _bars("wall", "wall time of all jobs", names, [row["wall_s"] for row in rows], GREY),
        _bars("memory", "largest memory of a job", names, [row["max_rss_mb"] for row in rows], GREY),
    ]
    layouts = [{"when": {"view": view}, "layout": {"xaxis": {"title": {"text": title}}}} for view, title in VIEWS]
    return {
        "id": "run_times",
        "arrays": {},
        "traces": traces,
        "layouts": layouts,
        "controls": [control("view", "Quantity", [(view, title.partition(" / ")[0]) for view, title in VIEWS])],
        "layout": {
            "height": max(240, 130 + 22 * len(rows)),
            "barmode": "stack",
            "bargap": 0.25,
            "showlegend": True,
            "xaxis": {"rangemode": "tozero", "title": {"text": VIEWS[0][1]}},
            "yaxis": {"type": "category"},
        },
    }


def _bars(view: str, name: str, stages: list[str], values: list[float], colour: str) -> dict[str, Any]:
    """Return the bars of one quantity."""
    return {
        "when": {"view": view},
        "type": "bar",
        "orientation": "h",
        "x": [number(value) for value in values],
        "y": stages,
        "name": name,
        "marker": {"color": colour},
        "hovertemplate": f"%{{y}}, {name}: %{{x:.4g}}<extra></extra>",
    }


def run_times_sentences(table: pd.DataFrame | None) -> list[str]:
    """Return what the table says in words: all jobs together, and what starting them cost."""
    if table is None:
        return []
    stages, everything = table[table["stage"] != TOTAL], table[table["stage"] == TOTAL].to_dict("records")
    if not len(stages) or not everything:
        return []
    row, longest = everything[0], stages.iloc[0]
    text = f"{row['jobs']:.0f} jobs took {_duration(row['wall_s'])} one after the other"
    text += "" if missing(row["cpu_s"]) else f", with {_duration(row['cpu_s'])} of CPU time"
    found = [f"{text}; the stage {longest['stage']} took most, {_duration(longest['wall_s'])}."]
    if not missing(row["work_per_start_up"]):
        found.append(
            f"Jobs of many scans did {row['work_per_start_up']:.3g} CPU seconds of work per CPU second of their "
            "start-up (interpreter and imports)."
        )
    return found


def _duration(seconds: float) -> str:
    """Return a time to three digits: in seconds below two minutes, in minutes below two hours, else in hours."""
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"
