"""The index of a study's spectra in some 50 bytes for each."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.files import MISSING
from mrs_synthesis.stage import InputError, require

if TYPE_CHECKING:
    import pandas as pd

NAMES = ("unit", "subject", "site", "condition", "split")
CHUNK = 100_000  # rows whose names are text at a time


def read(training: Path, heldout: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return what `training_set.read_index` does, of `columns` alone, with names as categories in alphabetical order.

    Raises
    ------
    InputError
        If a table is absent, lacks a column or is no table.
    """
    import pandas as pd

    known: dict[str, dict[str, int]] = {name: {} for name in NAMES if name in columns}
    parts: dict[str, list[np.ndarray]] = {name: [] for name in columns}
    for folder, is_test in ((training, False), (heldout, True)):
        path = require(Path(folder) / "index.tsv")
        options = {"sep": "\t", "na_values": [MISSING, ""], "keep_default_na": False, "chunksize": CHUNK}
        try:
            chunks = pd.read_csv(path, usecols=list(columns), dtype=dict.fromkeys(known, str), **options)
            for chunk in chunks:
                own = chunk[(chunk["split"] == "test") == is_test]
                for name in columns:
                    parts[name].append(_codes(own[name], known[name]) if name in known else own[name].to_numpy())
        except ValueError as error:
            raise InputError(f"{path}: {error}; assemble again") from None
    found = {}
    for name, arrays in parts.items():
        values = np.concatenate(arrays)
        if name in known:
            names = sorted(known[name])
            places = np.argsort(np.argsort(list(known[name]))) if names else np.zeros(0, int)
            codes = np.where(values < 0, -1, places[values]) if len(values) and names else values
            found[name] = pd.Categorical.from_codes(codes, names)
        else:
            found[name] = values
    return pd.DataFrame(found)


def _codes(column: pd.Series, known: dict[str, int]) -> np.ndarray:
    """Return the numbers of names, -1 for a missing one; new names get the next number."""
    import pandas as pd

    codes, names = pd.factorize(column)
    table = np.array([*(known.setdefault(name, len(known)) for name in names), -1], np.int32)
    return table[codes]
