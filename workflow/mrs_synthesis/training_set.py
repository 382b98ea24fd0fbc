"""The assembled training set, read in batches, and what is held out from it."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import math
import mmap
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.files import naming, read_table, sha256, write_whole
from mrs_synthesis.stage import InputError, SkippedError, require

if TYPE_CHECKING:
    import pandas as pd
    import torch

FILES = ("grid.json", "index.tsv", "spectra.npy")
INDEX_COLUMNS = ("row", "unit", "subject", "site", "condition", "transient", "split", "scale", "noise_sd")


def write_spectra(path: Path, n_rows: int, width: int, blocks: Iterable[np.ndarray]) -> str:
    """Write rows as a ``.npy`` file, one block of them in memory at a time; return the SHA-256 of the file's bytes.

    Parameters
    ----------
    path
        The file.
    n_rows, width
        Its shape; it may have no rows.
    blocks
        Complex, (any number of rows, width), which have `n_rows` rows together; kept as complex64.

    Raises
    ------
    ValueError
        If they have not.
    """
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, {"descr": "<c8", "fortran_order": False, "shape": (n_rows, width)})
    digest = hashlib.sha256(header.getvalue())
    done = 0
    # Not a memory map, which cannot have no rows
    with write_whole(path) as temporary, open(temporary, "wb") as stream:
        stream.write(header.getvalue())
        for block in blocks:
            part = np.ascontiguousarray(block, "<c8").reshape(-1, width)
            digest.update(part)
            stream.write(part)
            done += len(part)
        if done != n_rows:
            raise ValueError(f"{path}: {done} rows, expected {n_rows}")
    return digest.hexdigest()


class RowFile:
    """Rows (first axis) of a ``.npy`` file, read from disk when asked for by ``file[rows]``; nothing of it is kept.

    Not a memory map, whose pages count as the memory of the process once they were touched.

    Attributes
    ----------
    shape, dtype
        Of the whole array.
    """

    def __init__(self, path: Path) -> None:
        try:
            mapped = np.load(require(path), mmap_mode="r", allow_pickle=False)
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: no array of rows ({error}); assemble it again") from None
        if not mapped.ndim or not mapped.flags.c_contiguous:
            raise InputError(f"{path}: array of shape {mapped.shape}, expected row after row; assemble it again")
        self.path, self.shape, self.dtype = Path(path), mapped.shape, mapped.dtype
        self._start = int(getattr(mapped, "offset", 0))
        self._file = os.open(path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)

    def __len__(self) -> int:
        return self.shape[0]

    @property
    def size(self) -> int:
        """Number of values."""
        return math.prod(self.shape)

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Return the rows of these numbers, shape (*rows.shape, *shape[1:]), each run of neighbours in one reading.

        Raises
        ------
        IndexError
            If there is no such row.
        InputError
            If the file has become shorter.
        """
        wanted = np.arange(*rows.indices(len(self))) if isinstance(rows, slice) else np.asarray(rows, np.int64)
        flat = wanted.ravel()
        if flat.size and not 0 <= flat.min() <= flat.max() < len(self):
            raise IndexError(f"{self.path}: rows {flat.min()} to {flat.max()}, it has {len(self)}")
        found = np.empty((flat.size, *self.shape[1:]), self.dtype)
        size = math.prod(self.shape[1:]) * self.dtype.itemsize
        bounds = [0, *(np.flatnonzero(np.diff(flat) != 1) + 1).tolist(), flat.size]
        for first, last in itertools.pairwise(bounds):
            target = memoryview(found[first:last]).cast("B") if last > first else b""
            done = 0
            while done < len(target):
                read = os.preadv(self._file, [target[done:]], self._start + int(flat[first]) * size + done)
                if not read:
                    raise InputError(f"{self.path}: it ends before row {int(flat[last - 1])}; assemble it again")
                done += read
        return found.reshape(*wanted.shape, *self.shape[1:])


def spool(folder: Path, shape: tuple[int, ...], blocks: Iterable[np.ndarray]) -> RowFile:
    """Return complex rows of this shape that lie on disk, in a file without a name, and no longer than they are used.

    `blocks` have so many rows together.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    with naming(Path(folder)), tempfile.TemporaryFile(dir=folder) as stream:  # a kill leaves nothing of it either
        header = {"descr": "<c16", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(stream, header)
        for block in blocks:
            stream.write(np.ascontiguousarray(block, "<c16"))
        stream.flush()
        return RowFile(Path(f"/dev/fd/{stream.fileno()}"))


class TrainingSet:
    """The assembled training set; spectra stay on disk and are read in batches."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        try:
            self.grid = json.loads(require(self.folder / "grid.json").read_text(encoding="utf-8"))
            self.index: pd.DataFrame = read_table(require(self.folder / "index.tsv"), INDEX_COLUMNS)
            self.spectra = RowFile(self.folder / "spectra.npy")
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
        """Return the SHA-256 of the training set's files; that of the spectra as grid.json states it, if it does."""
        known = {"spectra.npy": self.grid["spectra_sha256"]} if "spectra_sha256" in self.grid else {}
        return {name: known.get(name) or sha256(self.folder / name) for name in FILES}


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


def _mentions(path: Path, unit: str) -> bool:
    """Tell whether a field of a TSV file is `unit`."""
    name, ends, at = unit.encode(), (b"", b"\t", b"\n"), -1
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        while (at := content.find(name, at + 1)) >= 0:
            after = at + len(name)
            if content[max(0, at - 1) : at] in ends and content[after : after + 1] in ends:
                return True
    return False


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
    path = require(Path(training) / "index.tsv")
    if split_unit == "subject" and not _mentions(path, unit):  # every test scan asks: far quicker than reading a table
        return list(range(n_transients)), None
    try:
        index = read_table(path, ("unit", "transient", "split", "scale"))
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
