"""A matplotlib figure that is written as SVG: the style that all have, and equal input gives equal bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrs_synthesis.files import write_whole

STYLE = {"svg.hashsalt": "mrs-synthesis", "svg.fonttype": "path", "font.size": 9, "axes.spines.top": False}
STYLE |= {"axes.spines.right": False, "axes.titlesize": 10, "axes.titlelocation": "left", "legend.frameon": False}


@contextmanager
def svg_figure(path: Path, width: float | None = None, height: float | None = None) -> Iterator[Any]:
    """Yield a matplotlib figure and write it, without a date, when the block ends.

    Parameters
    ----------
    path
        The file.
    width, height
        In inches; None: the block sets the size.
    """
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    size = None if width is None or height is None else (width, height)
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure
        with write_whole(path) as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
