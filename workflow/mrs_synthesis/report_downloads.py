"""The page's tables: what is shown of each, and the whole of it inside the page, compressed, as far as there is room.

The page's script unpacks a table when the reader saves it, so that one file still holds the numbers of many subjects.
"""

from __future__ import annotations

import base64
import gzip
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from mrs_synthesis.report_data import SHOWN_ROWS

if TYPE_CHECKING:
    import pandas as pd

MOST_FIELDS = 1_000_000  # of a table; even compressed, a larger one takes megabytes
EMBEDDED_BYTES = 1_000_000  # of all tables together, as base64: leaves the page below 15 MB


def table_view(table: pd.DataFrame, dictionary: dict[str, Any]) -> dict[str, Any]:
    """Return what the template needs to show a table: ``columns``, ``rows`` of the first ones, ``total``, ``about``."""
    from mrs_synthesis.files import MISSING
    from mrs_synthesis.report_words import short

    columns = []
    for column in table.columns:
        about = dictionary.get(column)
        text = about.get("Description", "") if isinstance(about, dict) else about or ""
        columns.append({"name": str(column), "number": table[column].dtype.kind in "fiub", "about": str(text)})
    rows = [
        [
            {"text": short(value, 4) if column["number"] else MISSING if value != value else str(value), "value": value}
            for column, value in zip(columns, row, strict=True)
        ]
        for row in table.head(SHOWN_ROWS).itertuples(index=False)
    ]
    about = str(dictionary.get("TableDescription", ""))
    return {"about": about, "columns": columns, "rows": rows, "total": len(table)}


def packed(table: pd.DataFrame) -> str:
    """Return a table's TSV, as the stages write it, compressed by gzip, in base64."""
    from mrs_synthesis.files import MISSING

    whole = table.to_csv(sep="\t", index=False, na_rep=MISSING, float_format="%.8g", lineterminator="\n").encode()
    return base64.b64encode(gzip.compress(whole, mtime=0)).decode()


def table_views(
    tables: dict[str, pd.DataFrame],
    dictionaries: dict[str, dict],
    titles: dict[str, str],
    names: Iterable[str],
    room: int = EMBEDDED_BYTES,
    totals: Mapping[str, int] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Return the view of every named table that has rows.

    Parameters
    ----------
    tables, dictionaries
        Tables and their data dictionaries by name.
    titles
        Headings by name; other tables are headed by their name.
    names
        The order.
    room
        Most characters of all embedded tables together. The smallest are embedded first; a table without room is
        ``link``, the path of its file beside the page, and its ``packed`` is empty.
    totals
        Numbers of rows of the tables of which `tables` has the first ones only; they are linked.
    """
    names = [name for name in names if len(tables[name])]
    contents = {name: packed(tables[name]) for name in names if name not in totals and tables[name].size <= MOST_FIELDS}
    kept, used = set(), 0
    for name in sorted(contents, key=lambda name: len(contents[name])):
        used += len(contents[name])
        if used <= room:
            kept.add(name)
    views = []
    for name in names:
        view = table_view(tables[name], dictionaries.get(name, {}))
        view |= {"name": name, "title": titles.get(name, name.replace("_", " ").capitalize())}
        view["total"] = totals.get(name, view["total"])
        view |= {"packed": contents[name] if name in kept else "", "link": f"tables/{name}.tsv"}
        views.append(view)
    return views
