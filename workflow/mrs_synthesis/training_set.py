"""The assembled training set, read in batches, and what is held out from it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.files import read_table, sha256
from mrs_synthesis.stage import InputError, SkippedError, require

if TYPE_CHECKING:
    import pandas as pd
    import torch

INDEX_COLUMNS = ("row", "unit", "subject", "site", "condition", "transient", "split", "scale", "noise_sd")


class TrainingSet:
    """The assembled training set; spectra stay on disk and are read in batches."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        try:
            self.grid = json.loads(require(self.folder / "grid.json").read_text(encoding="utf-8"))
            self.index: pd.DataFrame = read_table(require(self.folder / "index.tsv"), INDEX_COLUMNS)
            self.spectra = np.load(require(self.folder / "spectra.npy"), mmap_mode="r", allow_pickle=False)
            conditions = {name: i for i, name in enumerate(self.grid["conditions"])}
            self.condition = self.index["condition"].map(conditions).to_numpy(np.int64)
            if not np.array_equal(self.index["row"], np.arange(len(self.index))):
                raise ValueError("index.tsv: rows are not 0, 1, 2, ...")
        except (KeyError, ValueError) as error:
            raise InputError(f"{folder}: not a training set ({error}); assemble it again") from None
        expected = (len(self.index), len(self.grid["ppm"]))
        if self.spectra.shape != expected or self.spectra.dtype != np.complex64:
            raise InputError(
                f"{self.folder / 'spectra.npy'}: {self.spectra.dtype} {self.spectra.shape}, expected complex64 "
                f"{expected} as in index.tsv and grid.json; assemble it again"
            )

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split, increasing."""
        return self.index.loc[self.index["split"] == split, "row"].to_numpy(np.int64)

    def batches(self, rows: np.ndarray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield spectra (batch, 2, W) and condition indices (batch,) of `rows`, in their order."""
        import torch

        from mrs_synthesis.vae import to_channels

        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            yield to_channels(self.spectra[chosen]), torch.from_numpy(self.condition[chosen])

    def counts(self) -> dict[str, dict[str, int]]:
        """Return numbers of subjects, units, transients and spectra of each split."""
        result = {}
        for split in ("train", "validation", "test"):
            part = self.index[self.index["split"] == split]
            if part.empty:  # test subjects are no part of a training set
                continue
            result[split] = {
                "subjects": int(part["subject"].nunique()),
                "units": int(part["unit"].nunique()),
                "transients": len(part[["unit", "transient"]].drop_duplicates()),
                "spectra": len(part),
            }
        return result

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the training set's files."""
        return {name: sha256(self.folder / name) for name in ("grid.json", "index.tsv", "spectra.npy")}


def read_index(training: Path, heldout: Path, columns: Sequence[str]) -> pd.DataFrame:
    """Return the index of a study: the training and validation rows of one folder, the test rows of the other.

    The column ``row`` counts within ``spectra.npy`` of the row's own folder.

    Parameters
    ----------
    training, heldout
        Folders of the training set and of the held-out set; equal if the split is by transients.
    columns
        That the index must have, ``split`` among them.

    Raises
    ------
    InputError
        If a table is absent or lacks a column.
    """
    import pandas as pd

    try:
        seen, held = (read_table(require(Path(folder) / "index.tsv"), columns) for folder in (training, heldout))
    except ValueError as error:
        raise InputError(str(error)) from None
    parts = [part for part in (seen[seen["split"] != "test"], held[held["split"] == "test"]) if len(part)]
    return pd.concat(parts, ignore_index=True) if parts else seen.iloc[:0]


def held_out(training: Path, unit: str, n_transients: int, split_unit: str) -> tuple[list[int], float | None]:
    """Return the transients of a test unit that no model has seen, and its scale in the training set.

    A test subject is not in the training set: all of its transients count, and its scale is None. So nothing that is
    made of it depends on other test subjects.

    Parameters
    ----------
    training
        Folder of the training set.
    unit, n_transients
        The unit, and how many transients its preprocessed scan has.
    split_unit
        ``subject`` or ``transient``, as in grid.json.

    Raises
    ------
    SkippedError
        If the unit was trained on, or failed before the training set was assembled.
    InputError
        If there is no index, or it is of other transients.
    """
    path = Path(training) / "index.tsv"
    try:
        index = read_table(require(path), ("unit", "transient", "split", "scale"))
    except ValueError as error:
        raise InputError(str(error)) from None
    own = index[index["unit"] == unit]
    eligible = sorted({int(number) for number in own.loc[own["split"] == "test", "transient"]})
    if len(own) and not eligible:
        raise SkippedError(f"{unit} is not in the test split: synthetic transients would be made of training data")
    if split_unit == "subject":
        return list(range(n_transients)), None
    if own.empty:
        raise SkippedError(f"{unit} is not in {path}: it failed before the training set was assembled")
    if n_transients <= own["transient"].max():
        raise InputError(
            f"{unit}: {n_transients} transients, but {path} names number {own['transient'].max()}; assemble it again"
        )
    return eligible, float(own["scale"].iloc[0])
