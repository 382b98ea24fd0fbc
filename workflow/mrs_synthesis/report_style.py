"""What the report's figures share: colours, symbols, names, and the choices (buttons) of a figure.

Colours are those of Okabe & Ito (2008), which colour-blind readers can tell apart; line style and symbol repeat them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mrs_synthesis.report_data import CONDITION_ORDER, CONTROLS, SOURCE_NAMES, SOURCE_ORDER, WINDOW_PPM

BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, RED, PURPLE = (
    "#000000",
    "#E69F00",
    "#56B4E9",
    "#009E73",
    "#F0E442",
    "#0072B2",
    "#D55E00",
    "#CC79A7",
)
GREY = "#6b7580"
COLOURS = {
    "reference": BLACK,
    "real": BLUE,
    "reconstruction": PURPLE,
    "random": ORANGE,
    "interpolation": GREEN,
    "hybrid": RED,
    **dict.fromkeys(CONTROLS, GREY),
}
SYMBOLS = {
    "duplicated": "square",
    "population_mean": "diamond",
    "population_mean_noisy": "diamond-open",
    "shrinkage": "triangle-up",
    "low_rank": "triangle-down",
}
PPM_AXIS = {"title": {"text": "chemical shift / ppm"}, "range": [WINDOW_PPM[1], WINDOW_PPM[0]], "dtick": 0.5}
Figure = dict[str, Any]


def missing(value: Any) -> bool:
    """Say whether a table's field is empty."""
    return value is None or value != value or value in ("", "n/a")


def series_name(source: str, decoder: Any = None) -> str:
    """Return words for a source of spectra, e.g. ``interpolation (decoder mean)``."""
    name = SOURCE_NAMES.get(source, source)
    return name if missing(decoder) else f"{name} ({decoder})"


def series_rank(source: str) -> int:
    """Return the position of a source in every figure and table."""
    return SOURCE_ORDER.index(source) if source in SOURCE_ORDER else len(SOURCE_ORDER)


def marker(source: str, decoder: Any = None) -> dict[str, Any]:
    """Return plotly's marker of a source: colour by source, hollow for the decoder's mean."""
    symbol = SYMBOLS.get(source, "circle-open" if decoder == "mean" else "circle")
    return {
        "color": COLOURS.get(source, GREY),
        "symbol": symbol,
        "size": 9,
        "line": {"width": 2 if "open" in symbol else 0},
    }


def control(key: str, label: str, options: Iterable[tuple[str, str]], **facts: Any) -> dict[str, Any]:
    """Return a choice of one view: buttons, or a list if there are many options."""
    options = [{"value": value, "label": text, "on": i == 0} for i, (value, text) in enumerate(options)]
    return {
        "key": key,
        "label": label,
        "options": options,
        "kind": "select" if len(options) > 6 else "buttons",
        **facts,
    }


def toggles(key: str, label: str, options: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return switches that show or hide a series each; an option has value, label, on, colour, dash."""
    return {"key": key, "label": label, "options": list(options), "kind": "buttons", "many": True}


def conditions_in(found: Iterable[str]) -> list[str]:
    """Return conditions in the usual order."""
    found = set(found)
    return [name for name in CONDITION_ORDER if name in found] + sorted(found - set(CONDITION_ORDER))


def by_default(conditions: Sequence[str]) -> list[str]:
    """Return conditions with the difference, if any, first, since it is what an edited study is about."""
    return sorted(conditions, key=lambda name: name != "DIFF")


def cell_name(row: dict[str, Any]) -> str:
    """Return words for a row's source, with the number of transients where sources differ by it."""
    if row["source"] == "real" and not missing(row.get("n_real")):
        n = int(row["n_real"])
        return f"{n} real transient{'s' * (n != 1)}"
    return series_name(row["source"], row.get("decoder"))


def cell_rank(row: dict[str, Any]) -> tuple:
    """Return the order of a row's source: reference, real by number, reconstruction, synthetic, controls."""
    n = row.get("n_real")
    return series_rank(row["source"]), str(row.get("decoder")), -1 if missing(n) else n


def number(value: Any) -> float | None:
    """Return a number to five digits for JSON, None if missing."""
    return None if missing(value) else float(f"{float(value):.5g}")


def error_bars(rows: Sequence[dict], value: str, low: str, high: str) -> dict[str, Any]:
    """Return plotly's error bars from columns of a value and its interval's ends; zero where unknown."""
    plus, minus = [], []
    for row in rows:
        known = not any(missing(row.get(name)) for name in (value, low, high))
        plus.append(number(row[high] - row[value]) if known else 0)
        minus.append(number(row[value] - row[low]) if known else 0)
    return {"type": "data", "symmetric": False, "array": plus, "arrayminus": minus, "thickness": 2.4, "width": 0}


def plain(text: str) -> str:
    """Return text without what plotly's little markup would read as a tag."""
    return text.replace("<", "‹").replace(">", "›")
