"""Twix files of the VB line that end too early, written here from the layout of their headers: no real one was at hand.

A protocol of a stated length, then for every FID and channel a header of 128 bytes (flags and length in the first
number, whose low 25 bits are the length; what it is at byte 20; points and channels at 28 and 30) and its points; the
last header has the lowest bit of what it is set.
"""

import io
import struct

import pytest

from mrs_synthesis import raw_files
from mrs_synthesis.stage import InputError

PROTOCOL = 10_240
END, SYNC, ONLINE = 1 << 0, 1 << 5, 1 << 3
FLAGS = 0x5A << 25  # above the length


def header(kind, points, channels, length):
    """128 bytes before a channel's points."""
    out = bytearray(128)
    struct.pack_into("<I", out, 0, FLAGS | length)
    struct.pack_into("<I", out, 20, kind)
    struct.pack_into("<HH", out, 28, points, channels)
    return bytes(out)


def fid(points=64, channels=3, length=None):
    stated = 128 + 8 * points if length is None else length
    return (header(ONLINE, points, channels, stated) + b"\x11" * (8 * points)) * channels


def sync(size=96):
    """What the scanner keeps among FIDs of its physiological signals."""
    return header(SYNC, 7, 9, 128 + size) + b"\x22" * size


LAST = header(END, 16, 3, 128 + 8 * 16) + bytes(8 * 16)
PARTS = [fid(), sync(), fid(), fid(length=7), sync(0), fid()]  # of equal content, 4 transients


def vb(folder, content):
    path = folder / "meas.dat"
    path.write_bytes(struct.pack("<II", PROTOCOL, 5).ljust(PROTOCOL, b"x") + content)
    return path


def test_a_whole_file_of_the_vb_line_passes(tmp_path):
    raw_files.check_twix(vb(tmp_path, b"".join(PARTS) + LAST))
    raw_files.check_twix(vb(tmp_path, b"".join(PARTS) + LAST[:128]))  # nothing of what follows is read
    raw_files.check_twix(vb(tmp_path, LAST + b"garbage"))


ENDS = {
    "before the mark": (b"".join(PARTS), 4),
    "within the mark": (b"".join(PARTS) + LAST[:127], 4),
    "within the last points": (b"".join(PARTS)[:-1], 3),
    "within a channel's header": (b"".join(PARTS[:3]) + fid()[:700], 2),
    "within what belongs to no FID": (PARTS[0] + sync()[:150], 1),
    "after the first header": (fid()[:128], 0),
    "filled with zeros": (b"".join(PARTS[:3]) + bytes(1 << 20), 2),
    "a FID of stated length 0": (b"".join(PARTS[:3]) + fid(length=0) + LAST, 2),
    "a FID without channels": (PARTS[0] + header(ONLINE, 64, 0, 640) + b"".join(PARTS) + LAST, 1),
    "signals without length": (PARTS[0] + header(SYNC, 0, 0, 0) + b"".join(PARTS) + LAST, 1),
}


@pytest.mark.parametrize("case", ENDS)
def test_a_file_of_the_vb_line_that_is_cut_is_refused(tmp_path, case):
    content, whole = ENDS[case]
    path = vb(tmp_path, content)
    with pytest.raises(InputError) as caught:
        raw_files.check_twix(path)
    assert str(caught.value) == (
        f"{path}: {whole} transients and no mark that ends the measurement after them, expected one; the file is cut "
        "short or damaged: copy it again"
    )


BEGUN = {"within the last points", "within a channel's header", "after the first header"}
STOPS = {"filled with zeros", "a FID of stated length 0"}  # for the reader the end as good as any
ENDLESS = {"a FID without channels", "signals without length"}


@pytest.mark.parametrize("case", ["whole", *(case for case in ENDS if case not in ENDLESS)])
@pytest.mark.filterwarnings("ignore:[\\s\\S]*unexpected read error")
def test_the_reader_goes_the_same_way_but_only_warns(tmp_path, case):
    """mapVBVD, on which spec2nii builds; of what ends in no mark it leaves the last FID out, whole or not."""
    reader = pytest.importorskip("mapvbvd.mapVBVD")
    content, whole = ENDS.get(case, (b"".join(PARTS) + LAST, 4))
    with open(vb(tmp_path, content), "rb") as stream:
        stream.seek(PROTOCOL)
        blob, _, is_cut = reader.loop_mdh_read(stream, "vb", 1, 0, PROTOCOL, len(content), print_prog=False)
    assert is_cut == (case not in {"whole"} | STOPS)
    assert blob.shape[1] == whole + (case in BEGUN) - is_cut


@pytest.mark.parametrize("size", [0, 3, 8, 5000, PROTOCOL, PROTOCOL + 127])
def test_what_ends_within_the_protocol_is_left_to_the_reader(tmp_path, size):
    path = vb(tmp_path, LAST)
    path.write_bytes(path.read_bytes()[:size])
    raw_files.check_twix(path)


def test_only_headers_are_read(tmp_path, monkeypatch):
    """Of the points, which are all but some thousandths of a real file, nothing."""
    n_read = 0

    class Counted(io.FileIO):
        def read(self, size=-1):
            nonlocal n_read
            found = super().read(size)
            n_read += len(found)
            return found

    path = vb(tmp_path, fid(points=4096, channels=8) * 20 + LAST)
    monkeypatch.setattr(raw_files, "open", lambda path, *_, **__: Counted(path), raising=False)
    raw_files.check_twix(path)
    head = 8 + raw_files.MOST_MEASUREMENTS * 152
    assert n_read == head + 21 * 128
    assert path.stat().st_size > 300 * n_read
