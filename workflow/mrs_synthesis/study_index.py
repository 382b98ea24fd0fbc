"""The index of a study's spectra in some 50 bytes for each, and the spectra themselves, row by row from their file."""

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


class Spectra:
    """The rows of ``spectra.npy``, read when they are asked for.

    Of a memory map, all pages that were ever looked at count as the process's memory; here none do.

    Parameters
    ----------
    path
        The file.

    Raises
    ------
    InputError
        If it is absent, or no array of rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = require(Path(path))
        try:
            mapped = np.load(self.path, mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: no array of spectra ({error}); assemble again") from None
        if mapped.ndim != 2 or not mapped.flags.c_contiguous:
            raise InputError(f"{path}: array of shape {mapped.shape}, expected rows of spectra; assemble again")
        self.shape, self.dtype, self._offset = mapped.shape, mapped.dtype, mapped.offset
        del mapped
        self._file = open(self.path, "rb", buffering=0)  # noqa: SIM115 - as long as this object lives

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        """Return rows by number: shape (..., W) for numbers of shape (...).

        Raises
        ------
        IndexError
            If there is no such row.
        InputError
            If the file is shorter than it says.
        """
        rows = np.asarray(rows)
        flat = rows.ravel()
        found = np.empty((flat.size, self.shape[1]), self.dtype)
        if flat.size and not 0 <= flat.min() <= flat.max() < self.shape[0]:
            raise IndexError(f"{self.path}: rows {flat.min()} to {flat.max()} of {self.shape[0]}")
        start = 0
        for end in [*np.flatnonzero(np.diff(flat) != 1) + 1, flat.size]:  # rows that follow each other at once
            if end > start:
                self._file.seek(self._offset + int(flat[start]) * found.strides[0])
                part = memoryview(found[start:end]).cast("B")
                while len(part):
                    if not (n := self._file.readinto(part)):
                        raise InputError(f"{self.path}: ends before its last row; assemble again")
                    part = part[n:]
            start = end
        return found.reshape(*rows.shape, self.shape[1])


def _codes(column: pd.Series, known: dict[str, int]) -> np.ndarray:
    """Return the numbers of names, -1 for a missing one; new names get the next number."""
    import pandas as pd

    codes, names = pd.factorize(column)
    table = np.array([*(known.setdefault(name, len(known)) for name in names), -1], np.int32)
    return table[codes]
