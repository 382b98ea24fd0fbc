"""Order of edit conditions and dimensions of raw data: told from the spectra, or refused."""

import numpy as np
import pytest
from scan_files import DWELL, MHZ, OFF, POINTS, edited, fid, interleave

from mrs_synthesis import editing
from mrs_synthesis.convert_formats import Raw, Source, cut_points_before_echo
from mrs_synthesis.stage import InputError


@pytest.mark.parametrize(("coils", "noise", "drift"), [(1, 2.0, 8.0), (4, 4.0, 8.0), (1, 0.1, 0.0)])
def test_order_is_told_from_raw_transients(coils, noise, drift):
    fids = edited(16, coils, noise, drift)
    editing.check_edit_order(fids, DWELL, MHZ, "scan", "interleaved_off_on")
    with pytest.raises(InputError, match="set edit_order to interleaved_on_off"):
        editing.check_edit_order(fids[::-1], DWELL, MHZ, "scan", "interleaved_off_on")


def test_order_is_told_from_one_transient_each():
    fids = edited(1, noise=0.5, seed=3)
    editing.check_edit_order(fids, DWELL, MHZ, "scan", "interleaved_off_on")


def test_order_is_told_when_all_peaks_are_displaced():
    fids = edited() * np.exp(2j * np.pi * 0.15 * MHZ * np.arange(POINTS) * DWELL)
    editing.check_edit_order(fids, DWELL, MHZ, "scan", "interleaved_off_on")


@pytest.mark.parametrize("true", editing.EDIT_ORDERS[:4])
@pytest.mark.parametrize("stated", editing.EDIT_ORDERS[:4])
def test_wrong_order_is_named(true, stated):
    off, on = edited(6)
    pair = np.stack([on, off] if true.endswith("on_off") else [off, on])
    rows = interleave(pair[:, :, 0]) if true.startswith("inter") else pair[:, :, 0].reshape(12, -1)
    raw = Raw(rows.T, ["DIM_DYN"], [{}], {}, MHZ, DWELL, np.eye(4))
    fids, order, _ = editing.arrange(raw, "scan", "mega", stated)
    if stated == true:
        editing.check_edit_order(fids, DWELL, MHZ, "scan", order)
        np.testing.assert_array_equal(fids[0], off)
        np.testing.assert_array_equal(fids[1], on)
    else:
        with pytest.raises(InputError, match=f"set edit_order to {true}"):
            editing.check_edit_order(fids, DWELL, MHZ, "scan", order)


@pytest.mark.parametrize("content", ["noise", "unedited"])
def test_order_that_cannot_be_told_is_refused(content):
    fids = edited(6)
    fids[:] = fids[0] if content == "unedited" else np.random.default_rng(1).standard_normal(fids.shape)
    with pytest.raises(InputError, match="cannot be told"):
        editing.check_edit_order(fids, DWELL, MHZ, "scan", "interleaved_off_on")


def test_inverted_condition():
    fids = edited(6, noise=1.0)
    assert not editing.inverted_condition(fids, DWELL, MHZ)
    fids[1] *= -1
    assert editing.inverted_condition(fids, DWELL, MHZ)


# --- dimensions ---------------------------------------------------------------------------------------------------


def raw_of(shape, tags, headers=None):
    data = np.arange(np.prod((4, *shape)), dtype=np.float32).reshape(4, *shape).astype(np.complex64)
    return Raw(data, list(tags), headers or [{} for _ in tags], {}, MHZ, DWELL, np.eye(4))


def test_edit_dimension_by_its_header():
    raw = raw_of((3, 2, 5), ("DIM_COIL", "DIM_EDIT", "DIM_DYN"), [{}, {"EditCondition": ["EDIT_ON", "EDIT_OFF"]}, {}])
    fids, order, notes = editing.arrange(raw, "scan", "mega", "from_header")
    assert fids.shape == (2, 5, 3, 4)
    assert order == "dimension_on_off"
    assert fids[0, 4, 2, 3] == raw.data[3, 2, 1, 4]  # OFF is index 1
    assert fids[1, 0, 1, 2] == raw.data[2, 1, 0, 0]
    assert notes == []
    fids, order, notes = editing.arrange(raw, "scan", "mega", "interleaved_off_on")
    assert fids[0, 0, 0, 1] == raw.data[1, 0, 0, 0]
    assert "contradicts" in notes[0]


def test_untagged_pair_is_the_edit_dimension_and_loops_are_unrolled():
    raw = raw_of((5, 2), ("DIM_DYN", "DIM_USER_0"))
    fids, _, _ = editing.arrange(raw, "scan", "mega", "interleaved_off_on")
    assert fids.shape == (2, 5, 1, 4)
    assert fids[1, 3, 0, 2] == raw.data[2, 3, 1]
    raw = raw_of((2, 3), ("DIM_DYN", "DIM_DYN"))  # averages inside dynamics
    fids, _, _ = editing.arrange(raw, "scan", "none", "from_header")
    assert [int(v.real) for v in fids[0, :, 0, 0]] == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("shape", "tags", "scheme", "order", "message"),
    [
        ((7,), ("DIM_DYN",), "mega", "blocked_on_off", "7 transients, expected an even number"),
        ((8,), ("DIM_DYN",), "mega", "from_header", "no edit dimension"),
        ((4, 2), ("DIM_DYN", "DIM_EDIT"), "mega", "from_header", "EditCondition of the edit dimension is missing"),
        ((4, 4), ("DIM_DYN", "DIM_EDIT"), "mega", "interleaved_on_off", "4 edit conditions"),
        ((4, 2), ("DIM_DYN", "DIM_EDIT"), "none", "from_header", "edit_scheme is none"),
        ((4, 6), ("DIM_DYN", "DIM_INDIRECT_0"), "none", "from_header", "DIM_INDIRECT_0 of length 6"),
    ],
)
def test_dimensions_that_are_refused(shape, tags, scheme, order, message):
    with pytest.raises(InputError, match=message):
        editing.arrange(raw_of(shape, tags), "scan", scheme, order)


def test_points_before_the_echo():
    late = np.zeros((POINTS, 3), np.complex64)
    late[8:] = fid(OFF)[: POINTS - 8, None]
    for shown, kept in ((late, POINTS - 8), (np.repeat(fid(OFF)[:, None], 3, 1).astype(np.complex64), POINTS)):
        raw = Raw(shown, ["DIM_DYN"], [{}], {}, MHZ, DWELL, np.eye(4))
        source = Source(raw, before_echo=8)
        cut_points_before_echo(source, None)
        assert source.main.data.shape[0] == kept
        assert len(source.notes) == 1
