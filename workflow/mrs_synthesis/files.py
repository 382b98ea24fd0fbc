"""Whole-file writing, tables, hashes: outputs appear complete under their name or not at all.

What does not fit into memory grows on disk: `append_table` and `ArraySpool`.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import re
import secrets
import shutil
import tempfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas as pd

MISSING = "n/a"  # BIDS: the only spelling of a missing value in a table
TEXT = ("subject", "session", "site", "unit", "condition", "source", "metabolite")  # columns that are never numbers
BLOCK = 1 << 20
TEMPORARY = re.compile(r"\.([^.]*)\.[0-9a-f]{16}((?:\..*)?)")
NO_SPACE = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


@contextmanager
def write_whole(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path in the same folder; rename it to `path` on success, remove it on failure.

    The temporary name keeps all of the path's suffixes, since writers choose a format by suffix. It is nobody else's:
    a process number may be that of another node's process. What a killed writer of the same file left is removed.
    The file's mode follows the umask, whatever the writer did (fslpy writes 0600).

    Raises
    ------
    OSError
        If the disk is full: with the file's name.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for leftover in _leftovers(path.parent.resolve()).pop(path.name, ()):
        leftover.unlink(missing_ok=True)
    stem, dot, suffixes = path.name.partition(".")
    temporary = path.with_name(f".{stem}.{secrets.token_hex(8)}{dot}{suffixes}")
    try:
        with naming(path):
            yield temporary
            with open(temporary, "rb") as stream:  # on a network's disk, a full one is told no earlier
                os.fsync(stream.fileno())
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@functools.cache
def _leftovers(folder: Path) -> dict[str, list[Path]]:
    """Return the temporary files in a folder by the name that they never got; looked for once, as it may be large."""
    found: dict[str, list[Path]] = {}
    for one in folder.iterdir():
        if match := TEMPORARY.fullmatch(one.name):
            found.setdefault("".join(match.groups()), []).append(one)
    return found


def is_full(error: BaseException) -> bool:
    """Tell whether an error means a full disk, or a used-up share of it; not every library keeps the error's number."""
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
        return True
    text = str(error)
    return any(words in text for words in NO_SPACE) or bool(re.search(r"\d+ requested and \d+ written", text))  # numpy


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Let an error for want of space name the file."""
    try:
        yield
    except Exception as error:
        if is_full(error):
            raise OSError(errno.ENOSPC, NO_SPACE[0], str(path)) from error
        raise


def write_text(path: Path | str, text: str) -> None:
    """Write text as UTF-8."""
    with write_whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path | str, content: Any) -> None:
    """Write JSON with sorted keys, so that equal content gives equal bytes. NaN is refused."""
    write_text(path, json.dumps(content, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_table(path: Path | str, table: pd.DataFrame) -> None:
    """Write a TSV table; missing values become ``n/a``."""
    with append_table(path) as append:
        append(table)


@contextmanager
def append_table(path: Path | str) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Yield a function that appends the rows of a table to a TSV file, whose header is that of the first."""
    with write_whole(path) as temporary, open(temporary, "w", encoding="utf-8", newline="") as stream:

        def append(table: pd.DataFrame) -> None:
            layout = {"sep": "\t", "index": False, "na_rep": MISSING, "float_format": "%.8g", "lineterminator": "\n"}
            table.to_csv(stream, header=stream.tell() == 0, **layout)

        yield append


class ArraySpool:
    """Arrays that grow along their first axis, on disk, and become one ``.npz`` file in the end.

    Used as a context manager. The arrays lie in files without a name, on the disk of the ``.npz`` file: on success they
    are packed without being loaded, and whatever ends the process, nothing is left of them. Equal arrays give equal
    bytes.

    Parameters
    ----------
    path
        The ``.npz`` file.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._files: dict[str, IO[bytes]] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._types: dict[str, np.dtype] = {}

    def __enter__(self) -> ArraySpool:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        try:
            if kind is None:
                self._pack()
        finally:
            for stream in self._files.values():
                with suppress(OSError):  # what is left to write has no place on a full disk
                    stream.close()

    def append(self, name: str, array: np.ndarray) -> None:
        """Append rows to the array `name`.

        Raises
        ------
        ValueError
            If their type or the length of the other axes differs from what the array has.
        """
        array = np.ascontiguousarray(array)
        rows, *rest = self._shapes.get(name, (0, *array.shape[1:]))
        if tuple(rest) != array.shape[1:] or self._types.setdefault(name, array.dtype) != array.dtype:
            raise ValueError(f"{name}: {array.dtype} rows of shape {array.shape[1:]} to {self._types[name]} {rest}")
        with naming(self.path):
            if name not in self._files:
                self._files[name] = tempfile.TemporaryFile(dir=self.path.parent)  # noqa: SIM115 (closed by __exit__)
            self._files[name].write(memoryview(array).cast("B") if array.size else b"")
        self._shapes[name] = (rows + len(array), *rest)

    def _pack(self) -> None:
        with write_whole(self.path) as temporary, zipfile.ZipFile(temporary, "w", allowZip64=True) as archive:
            for name, shape in self._shapes.items():
                # Dated 1980, whatever the clock says; not compressed, which gains 6 % on spectra for 30 s per GB
                entry = zipfile.ZipInfo(f"{name}.npy")
                header = {"descr": np.lib.format.dtype_to_descr(self._types[name]), "fortran_order": False}
                with archive.open(entry, "w", force_zip64=True) as target, self._files[name] as source:
                    np.lib.format.write_array_header_1_0(target, header | {"shape": shape})
                    source.seek(0)
                    shutil.copyfileobj(source, target, BLOCK)


def read_table(path: Path | str, columns: Sequence[str] = ()) -> pd.DataFrame:
    """Read a TSV table; only ``n/a`` and the empty field mean missing; identifiers stay text.

    Raises
    ------
    ValueError
        If one of `columns` is absent.
    """
    import pandas as pd

    text = dict.fromkeys(TEXT, str)
    table = pd.read_csv(path, sep="\t", na_values=[MISSING, ""], keep_default_na=False, dtype=text)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        raise ValueError(f"{path}: no column {', '.join(missing)}; it has {', '.join(table.columns)}")
    return table


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
