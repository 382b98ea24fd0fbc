"""The assembled training set, read in batches."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.files import read_table, sha256
from mrs_synthesis.stage import InputError, require

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
