"""Raw files before anything reads them: whether there is a file, of the size that it states, and not too large to read.

Readers of vendors' files pad, cut or wait where a file is not what it says; what is checked here would otherwise be
converted without some of its points, or fill the memory, or never end.
"""

from __future__ import annotations

import errno
import gzip
import math
import re
import stat
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from mrs_synthesis.stage import InputError

SUFFIXES = {
    "siemens_dicom": (".ima", ".dcm"),
    "siemens_twix": (".dat",),
    "siemens_rda": (".rda",),
    "philips_sdat": (".sdat",),
    "philips_data_list": (".data",),
    "ge_pfile": (".7",),
    "nifti_mrs": (".nii", ".nii.gz"),
}
PATHS = "check the path in the sample sheet"
# What is the machine's fault, or the program's, whatever file is read
NOT_THE_FILES = (errno.ENOMEM, errno.EAGAIN, errno.EMFILE, errno.ENFILE, errno.ENOSPC, errno.EDQUOT, errno.EINTR)
TWIX_BLOCK = 512
TWIX_ENTRY = struct.Struct("<IIQQ")  # measurement, file, offset, length; then 128 bytes of names
MOST_MEASUREMENTS = 64
SHORTEST_VB_HEADER = 10_000  # bytes; a smaller number at the start counts from the VD line on
MDH_VB = struct.Struct("<I16xI4xHH96x")  # flags and length, what it is, points, channels; before each channel's points
MDH_LENGTH = (1 << 25) - 1  # of the first
MDH_END, MDH_SYNC = 1 << 0, 1 << 5
RDA_END = re.compile(rb">>> End of header <<<[^\n]*\n")
LONGEST_RDA_HEADER = 1 << 20
LIST_TYPES = ("STD", "REJ", "PHX", "PHC", "FRX", "FRC", "NOI", "NAV")  # followed by 20 numbers, the last but one bytes
NIFTI_HEADERS = {348: ("8h", 40, 70, "f", 108), 540: ("8q", 16, 12, "q", 168)}  # lengths, type, start of data
LARGEST_BYTES = 1 << 28  # of data that a compressed file may hold whatever its own size
LARGEST_RATIO = 20  # noise cannot be compressed: measured data shrink to 0.9, half of them zeros to 0.5
LONGEST_EXTENSIONS = 1 << 26


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Let an error of the operating system be the file's fault within this block, unless it is the machine's."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.errno in NOT_THE_FILES:
            raise
        what = "give leave to read it, or copy it again" if error.errno == errno.EACCES else "check or copy it again"
        raise InputError(f"{path}: {error.strerror}, expected a file that can be read; {what}") from None


def check_path(path: Path, format_name: str) -> None:
    """Check that there is a file, or a folder of files, that may be read and can be of this format.

    Raises
    ------
    InputError
        With what is there instead.
    """
    wanted = SUFFIXES[format_name]
    with reading(path):
        if not path.exists():
            raise InputError(f"{path}: no such file; {PATHS}")
        check_ordinary(path)
        if path.is_dir():
            if format_name != "siemens_dicom":
                raise InputError(f"{path}: a folder, expected a {wanted[0]} file for format {format_name}; {PATHS}")
            _check_folder(path)
            return
        if not path.name.lower().endswith(wanted):
            raise InputError(
                f"{path}: suffix {path.suffix or 'missing'}, expected {' or '.join(wanted)} for format {format_name}; "
                "correct the format"
            )
        if path.stat().st_size == 0:
            raise InputError(f"{path}: an empty file; copy it again from the scanner")
        with open(path, "rb") as stream:
            stream.read(1)


def check_ordinary(path: Path) -> None:
    """Refuse what is neither file nor folder: reading it may never end."""
    mode = path.stat().st_mode
    if stat.S_ISREG(mode) or stat.S_ISDIR(mode):
        return
    kind = "a pipe" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
    raise InputError(f"{path}: no regular file or folder ({kind}), expected a scan's file; {PATHS}")


def _check_folder(folder: Path) -> None:
    """Refuse a folder without files, or with something in it that cannot be read."""
    empty = True
    for one in sorted(folder.rglob("*")):
        if not one.exists() or one.is_dir():  # a link to nowhere
            continue
        check_ordinary(one)
        empty = False
        with reading(one), open(one, "rb"):
            pass
    if empty:
        raise InputError(f"{folder}: an empty folder, expected the DICOM files of one series; {PATHS}")


def check_aux(path: Path) -> None:
    """Check that the file of the column `aux` is there."""
    where = "check the column aux in the sample sheet"
    with reading(path):
        if not path.exists():
            raise InputError(f"{path}: no such file; {where}")
        check_ordinary(path)
        if path.is_dir():
            raise InputError(f"{path}: a folder, expected a SPAR file; {where}")


def beside(path: Path, suffix: str) -> Path:
    """Return the file in the same folder with the same stem and `suffix`, in any case (SPAR, spar).

    Raises
    ------
    InputError
        If there is none.
    """
    with reading(path):
        for candidate in sorted(path.parent.iterdir()):
            if candidate.name.lower() == (path.stem + suffix).lower():
                check_ordinary(candidate)
                return candidate
    more = " or name it in the column aux" if suffix == ".SPAR" else ""
    raise InputError(f"{path}: no {suffix} file of the same name beside it; put it there{more}")


def check_sdat(sdat: Path, spar: Path) -> None:
    """Compare a SDAT with the size that its SPAR announces, so that a cut file is named as such."""
    with reading(sdat):
        lines = spar.read_text(encoding="latin-1").splitlines()
        size = sdat.stat().st_size
    found = [re.fullmatch(r"\s*(samples|rows)\s*:\s*(\d{1,12})\s*", line, re.ASCII) for line in lines]
    counts = {match[1]: int(match[2]) for match in found if match}
    if len(counts) < 2:
        raise InputError(
            f"{sdat}: its SPAR file has no samples and rows in it, expected their numbers; export the pair again"
        )
    expected = 8 * counts["samples"] * counts["rows"]
    if size != expected:
        raise InputError(
            f"{sdat}: {size} bytes, expected {expected} ({counts['rows']} rows of {counts['samples']} points in its "
            "SPAR file); copy the pair again"
        )


def check_list(data: Path, listing: Path) -> list[str]:
    """Compare Philips' data with its list; return notes.

    Raises
    ------
    InputError
        If the list names no data, or more than there are.
    """
    with reading(data):
        text = listing.read_text(encoding="latin-1")
        size = data.stat().st_size
    lines = [line.split() for line in text.splitlines()]
    found = [words[19] for words in lines if len(words) == 21 and words[0] in LIST_TYPES]
    sizes = [int(size) for size in found if re.fullmatch(r"\d{1,18}", size, re.ASCII)]
    if not sizes:
        raise InputError(f"{data}: its .list file has no lines of data, expected one per FID; export the pair again")
    if size < sum(sizes):
        raise InputError(f"{data}: {size} bytes, expected {sum(sizes)} as its .list file says; copy the pair again")
    return [f"{size - sum(sizes)} bytes after the last FID of the list are not read"] if size > sum(sizes) else []


def check_twix(path: Path) -> None:
    """Refuse a twix file that ends before its measurements do: readers keep the transients before."""
    with reading(path), open(path, "rb", buffering=0) as stream:
        head = stream.read(8 + MOST_MEASUREMENTS * 152)
        size = path.stat().st_size
        first, count = struct.unpack_from("<II", head) if len(head) >= 8 else (1 << 31, 0)
        if first >= SHORTEST_VB_HEADER:
            _check_twix_vb(stream, first, size, path)
            return
    if count > MOST_MEASUREMENTS or len(head) < 8 + count * 152:
        return  # no twix: its reader tells
    ends = [
        offset + length for _, _, offset, length in (TWIX_ENTRY.unpack_from(head, 8 + 152 * k) for k in range(count))
    ]
    if size < max(ends, default=0) - TWIX_BLOCK:  # the last block may be cut: it is filled up
        raise InputError(
            f"{path}: {size} bytes, expected {max(ends)} as its header says; the file is cut short: copy it again"
        )


def _check_twix_vb(stream: IO[bytes], place: int, size: int, path: Path) -> None:
    """Go through the headers of FIDs up to the mark that ends a measurement: the VB line states no length.

    The steps are those of its reader, mapVBVD: what is not told to be for synchronisation has as many points and
    channels as it says, whatever length it states if it states one.
    """
    if place + MDH_VB.size > size:
        return  # no twix, or cut within the protocol: its reader tells
    n_fids = 0
    while True:
        stream.seek(place)
        head = stream.read(MDH_VB.size)
        if len(head) < MDH_VB.size:
            break
        length, kind, points, channels = MDH_VB.unpack(head)
        if kind & MDH_END:
            return
        length &= MDH_LENGTH
        step = length if kind & MDH_SYNC else (MDH_VB.size + 8 * points) * channels
        if not length or step < MDH_VB.size:  # zeros from here on, where the reader ends; or damaged: it never would
            break
        place += step
        n_fids += not kind & MDH_SYNC and place <= size
    raise InputError(
        f"{path}: {n_fids} transients and no mark that ends the measurement after them, expected one; the file is cut "
        "short or damaged: copy it again"
    )


def check_rda(path: Path) -> None:
    """Refuse a RDA file whose data are not of the size that its header states: its FID would be shorter."""
    with reading(path), open(path, "rb") as stream:
        head = stream.read(LONGEST_RDA_HEADER)
        size = path.stat().st_size
    end = RDA_END.search(head)
    points = re.search(rb"^VectorSize: (\d{1,12})\r?$", head, re.M)
    voxels = re.findall(rb"^CSIMatrixSize\[[0-2]\]: (\d{1,9})\r?$", head, re.M)
    if end is None or points is None:
        return  # its reader tells
    expected = 16 * int(points[1]) * math.prod(map(int, voxels))
    if size - end.end() != expected:
        raise InputError(
            f"{path}: {size - end.end()} bytes of data, expected {expected} ({int(points[1])} points); the file is cut "
            "short or damaged: copy it again"
        )


def check_nifti(path: Path, label: Path) -> None:
    """Refuse a NIfTI file whose header announces more than it can hold, before memory is taken for it.

    A compressed file may be a bomb: some MB that inflate to many GB. What is read of it here is its header.

    Parameters
    ----------
    path
        The file.
    label
        What errors call it.

    Raises
    ------
    InputError
        With what the header announces; of what is no NIfTI at all, its reader tells.
    """
    packed = path.name.lower().endswith(".gz")
    size = path.stat().st_size
    try:
        with gzip.open(path) if packed else open(path, "rb") as stream:
            _check_nifti_stream(stream, size, packed, label)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return  # as above


def _check_nifti_stream(stream: IO[bytes], size: int, packed: bool, label: Path) -> None:
    from nibabel.nifti1 import data_type_codes

    head = stream.read(544)
    order = next(
        (one for one in "<>" if len(head) > 4 and struct.unpack(f"{one}i", head[:4])[0] in NIFTI_HEADERS), None
    )
    if order is None:
        return
    length = struct.unpack(f"{order}i", head[:4])[0]
    if len(head) < length + 4:
        return
    form, at_lengths, at_type, form_start, at_start = NIFTI_HEADERS[length]
    count, *lengths = struct.unpack_from(order + form, head, at_lengths)
    if not 1 <= count <= 7 or min(lengths[:count]) < 1:
        found = f"{count} dimensions" if not 1 <= count <= 7 else f"dimensions {tuple(lengths[:count])}"
        raise InputError(
            f"{label}: its header announces {found}, expected 1 to 7, each of length 1 or more; copy it again"
        )
    (start,) = struct.unpack_from(order + form_start, head, at_start)
    (code,) = struct.unpack_from(f"{order}h", head, at_type)
    try:
        item = data_type_codes.dtype[code].itemsize
    except KeyError:
        item = 1
    if not length + 4 <= start < 1 << 62:  # also if it is not a number
        raise InputError(
            f"{label}: its header announces data at byte {start:g}, expected {length + 4} or more; copy it again"
        )
    start, data = int(start), math.prod(lengths[:count]) * item
    if not packed and start + data > size:
        raise InputError(
            f"{label}: its header announces {start + data} bytes, but the file has {size}; it is cut short or damaged: "
            "copy it again"
        )
    if start - length > LONGEST_EXTENSIONS:
        raise InputError(
            f"{label}: its header announces {start - length} bytes of header extensions, expected at most "
            f"{LONGEST_EXTENSIONS}; convert it again"
        )
    most = max(LARGEST_BYTES, LARGEST_RATIO * size)
    if packed and data > most:
        raise InputError(
            f"{label}: its header announces {data} bytes of data, expected at most {most} in a compressed file of "
            f"{size} bytes; it is damaged: copy it again"
        )
    _check_extensions(stream, order, length, start, label)


def _check_extensions(stream: IO[bytes], order: str, length: int, start: int, label: Path) -> None:
    stream.seek(length)
    if stream.read(1) == b"\0":
        return
    place = length + 4
    while place + 16 <= start:
        stream.seek(place)
        head = stream.read(8)
        if len(head) < 8:
            return
        (whole,) = struct.unpack(f"{order}i", head[:4])
        if not 8 <= whole <= start - place:
            raise InputError(
                f"{label}: its header announces an extension of {whole} bytes, expected 8 to {start - place}; copy it "
                "again"
            )
        place += whole


def bytes_of(paths: list[Path]) -> int:
    """Return the size of files together."""
    return sum(path.stat().st_size for path in paths)
