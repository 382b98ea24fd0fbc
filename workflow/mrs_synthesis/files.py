"""Whole-file writing, tables, hashes: outputs appear complete under their name or not at all."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

MISSING = "n/a"  # BIDS: the only spelling of a missing value in a table


@contextmanager
def write_whole(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success, remove it on failure.

    The temporary name keeps all of the path's suffixes, since writers choose a format by suffix.
    The file's mode follows the umask, whatever the writer did (fslpy writes 0600).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    stem, dot, suffixes = path.name.partition(".")
    temporary = path.with_name(f".{stem}.{os.getpid()}{dot}{suffixes}")
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path | str, text: str) -> None:
    """Write text as UTF-8."""
    with write_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes. NaN is refused."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a TSV table; missing values become ``n/a``."""
    with write_whole(path) as temporary:
        table.to_csv(temporary, sep="\t", index=False, na_rep=MISSING, float_format="%.8g", lineterminator="\n")


def read_table(path: Path | str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a TSV table; only ``n/a`` and the empty field mean missing; identifiers stay text.

    Raises
    ------
    ValueError
        If one of `columns` is absent.
    """
    import pandas as pd

    text = dict.fromkeys(("subject", "session", "site", "unit", "condition", "source", "metabolite"), str)
    table = pd.read_csv(path, sep="\t", na_values=[MISSING, ""], keep_default_na=False, dtype=text)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
