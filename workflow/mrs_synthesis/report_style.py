"""What the report's figures share: colours, symbols, names, packed numbers, and the choices (buttons) of a figure.

Colours are those of Okabe & Ito (2008), which colour-blind readers can tell apart; line style and symbol repeat them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis.report_data import (
    CONDITION_ORDER,
    CONTROLS,
    SOURCE_NAMES,
    SOURCE_ORDER,
    SYNTHETIC,
    WINDOW_PPM,
    filled_numbers,
)

if TYPE_CHECKING:
    import pandas as pd

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
GREY = "#545d68"
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


METRIC_SOURCES = {
    "real": "held-out real",
    "real_other": "other held-out real",
    "drawn": "drawn by the model",
    "none": "no water",
    "training": "training real",
    "copier_0": "copies",
    "copier_0.5": "copies + half the noise",
    "copier_1": "copies + noise",
    "copier_subject": "copies of a subject's mean + noise",
}


def metric_source(source: str, decoder: Any = None) -> str:
    """Return words for a source in tables of metrics, where ``real`` is the held-out one and copies are controls."""
    return METRIC_SOURCES.get(source) or series_name(source, decoder)


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


def number_when(row: dict[str, Any]) -> dict[str, str]:
    """Return the view of a row: fillings and controls belong to their n_real, all else to every view."""
    filled = row["source"] in SYNTHETIC or row["source"] in CONTROLS
    return {"n_real": str(int(row["n_real"]))} if filled and not missing(row.get("n_real")) else {}


def number_choice(*tables: pd.DataFrame | None) -> list[dict[str, Any]]:
    """Return the choice of n_real of tables with fillings of several, the smallest first; of one, no choice."""
    numbers = sorted({n for table in tables for n in filled_numbers(table)})
    options = [(str(n), f"{n} real") for n in numbers]
    return [control("n_real", "Filled up from", options)] if len(numbers) > 1 else []


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


def pack(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Return numbers as base64 of 16-bit integers with a scale; -32768 stands for a missing value.

    The error is at most 1/65534 of the largest number, far below a line's width.
    """
    values = np.asarray(values, dtype=float)
    finite = np.isfinite(values)
    largest = float(np.max(np.abs(values[finite]), initial=0.0))
    scale = float(f"{largest / 32767:.6g}") * (1 + 1e-5) if largest else 1.0
    whole = np.where(finite, np.rint(np.where(finite, values, 0) / scale), -32768).astype("<i2")
    return {"i2": base64.b64encode(whole.tobytes()).decode(), "scale": scale}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """Invert `pack`, as the page's script does."""
    whole = np.frombuffer(base64.b64decode(packed["i2"]), "<i2")
    return np.where(whole == -32768, np.nan, whole * packed["scale"])
