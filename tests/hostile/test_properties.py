"""Arbitrary sheets, configs, headers and arrays: a result, or an InputError of one line, and laws that always hold.

Examples are the same in each run (`derandomize`); `tests/fuzz/fuzz.py` looks further.
"""

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from mrs_synthesis import checks_raw, editing, header, names, sheet, spectra
from mrs_synthesis.convert_formats import Raw
from mrs_synthesis.stage import InputError

settings.register_profile(
    "same",
    derandomize=True,
    database=None,
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
settings.load_profile("same")

COLUMNS = list(json.loads(sheet.SCHEMA.read_text())["properties"])
GOOD = {"subject": "01", "site": "A", "vendor": "siemens", "format": "siemens_twix", "sequence": "press", "metab": "a"}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
ANY_FLOAT = st.floats(width=32)
SMALL = st.floats(-1e3, 1e3, width=32, allow_subnormal=False)


def fids(shape, elements=ANY_FLOAT):
    """Complex arrays, with NaN, infinity and zeros among them."""
    pair = arrays.arrays(np.float32, (2, *shape), elements=elements, fill=st.just(0.0))
    return pair.map(lambda two: np.stack(two, axis=-1).view(np.complex64)[..., 0])


def one_line(call, *arguments, **words):
    """Return what a call returns; None if it refuses in one line. Anything else is a fault."""
    try:
        with np.errstate(all="ignore"):
            return call(*arguments, **words)
    except InputError as error:
        text = str(error)
        assert text.splitlines() == [text] and len(text) < 1500, text
        return None


# The sample sheet


def check_rows(path):
    rows = one_line(sheet.read_samples, path)
    for row in rows or ():
        assert set(COLUMNS) <= set(row)
        assert row["unit"].startswith("sub-") and row["unit"].isascii() and "/" not in row["unit"]
        assert ".." not in row["folder"].split("/") and row["folder"].count("/") <= 1
    return rows


@given(content=st.binary(max_size=200))
def test_any_bytes_are_a_sheet_or_refused(tmp_path, content):
    (tmp_path / "samples.tsv").write_bytes(content)
    check_rows(tmp_path / "samples.tsv")


@given(header_words=st.lists(st.sampled_from(COLUMNS) | TEXT, max_size=8), cells=st.lists(TEXT, max_size=16))
def test_any_table_is_a_sheet_or_refused(tmp_path, header_words, cells):
    lines = ["\t".join([*GOOD, *header_words]), "\t".join([*GOOD.values(), *cells]), "\t".join(cells)]
    (tmp_path / "samples.tsv").write_text("\n".join(lines), encoding="utf-8")
    check_rows(tmp_path / "samples.tsv")


@given(column=st.sampled_from(COLUMNS), value=TEXT)
def test_any_value_in_a_good_row_is_taken_or_refused_by_its_row(tmp_path, column, value):
    row = GOOD | {column: value}
    (tmp_path / "samples.tsv").write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n", encoding="utf-8")
    check_rows(tmp_path / "samples.tsv")


@given(value=st.from_regex(r"[A-Za-z0-9]{1,20}", fullmatch=True))
def test_any_plain_subject_is_taken(tmp_path, value):
    assume(len(value) <= 20)
    row = GOOD | {"subject": value}
    (tmp_path / "samples.tsv").write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n", encoding="utf-8")
    rows = check_rows(tmp_path / "samples.tsv")
    assert rows is not None and rows[0]["unit"] == f"sub-{value}_acq-press"


# The config

CONFIG = {"study": "x", "samples": "x.tsv", "basis": {"sets": [{"name": "a", "files": {"unedited": "x.BASIS"}}]}}
KEYS = list(json.loads(names.CONFIG_SCHEMA.read_text())["properties"])


@given(config=st.dictionaries(st.sampled_from(KEYS) | TEXT, JSON, max_size=4))
def test_any_config_is_taken_or_refused(config):
    one_line(names.check_config, config)


@given(key=st.sampled_from(KEYS), inner=st.dictionaries(TEXT, JSON, max_size=2), value=JSON)
def test_any_value_of_a_key_is_taken_or_refused(key, inner, value):
    for content in (inner, value, [value]):
        one_line(names.check_config, CONFIG | {key: content})


# Arrays


@given(fid=fids((3, 64), SMALL))
def test_transforms_undo_each_other(fid):
    np.testing.assert_allclose(spectra.to_fid(spectra.to_spectrum(fid)), fid, atol=1e-3)


@given(spectrum=fids((2, 32), SMALL), start=st.integers(0, 96), dwell=st.floats(1e-4, 1e-3), mhz=st.floats(60, 500))
def test_a_window_of_own_bins_comes_back(spectrum, start, dwell, mhz):
    ppm = spectra.ppm_axis(128, dwell, mhz)[start : start + 32]
    fid = spectra.from_window(spectrum, ppm, 128, dwell, mhz)
    again = fid @ spectra.window_matrix(ppm, 128, dwell, mhz)
    np.testing.assert_allclose(again, spectrum, atol=2e-2, rtol=1e-4)
    assert fid.shape == (2, 128) and np.isfinite(fid).all()


@given(fid=fids((2, 64), SMALL), shift=st.floats(-50, 50), phase=st.floats(-7, 7))
def test_a_shift_is_undone_by_its_opposite(fid, shift, phase):
    there = spectra.shift_and_phase(fid, 5e-4, np.full(2, shift), np.full(2, phase))
    np.testing.assert_allclose(spectra.shift_and_phase(there, 5e-4, np.full(2, -shift), np.full(2, -phase)), fid,
                               atol=1e-2)  # fmt: skip
    np.testing.assert_allclose(np.abs(there), np.abs(fid), rtol=1e-4, atol=1e-3)


LENGTHS = st.tuples(st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), st.sampled_from([128, 130, 256]))


@given(data=st.data())
def test_any_scan_passes_the_checks_or_is_refused(data):
    scan = data.draw(LENGTHS.flatmap(fids))
    notes = []
    whole = one_line(checks_raw.whole_transients, scan, "x", notes)
    if whole is None:
        return
    assert np.isfinite(whole).all() and whole.any(axis=(0, 2, 3)).all()
    assert all(new <= old for new, old in zip(whole.shape, scan.shape, strict=True))
    one_line(checks_raw.check_clipped, whole, "x")
    one_line(checks_raw.check_decay, whole, 5e-4, 123.25, "x")
    one_line(checks_raw.check_water, whole, 5e-4, 123.25, "x")
    one_line(editing.check_axis, whole, 5e-4, 123.25, "x")
    if whole.shape[0] == 2:
        one_line(editing.check_edit_order, whole, 5e-4, 123.25, "x", "interleaved_on_off")


@given(mhz=st.floats())
def test_any_frequency_is_taken_or_refused(mhz):
    one_line(checks_raw.check_frequency, mhz, "x")


NUMBER = st.floats() | st.integers() | st.booleans() | st.none() | JSON.filter(lambda value: not isinstance(value, str))


@given(te=NUMBER, tr=NUMBER, stated=st.none() | st.floats(0, 1e9), edited=st.booleans())
def test_any_times_are_taken_or_refused(te, tr, stated, edited):
    header_times = {"EchoTime": te, "RepetitionTime": tr}
    words = {"edited": edited, "sampled_s": 0.5, "notes": []}
    found = one_line(checks_raw.times, header_times, {"EchoTime": stated, "RepetitionTime": None}, "x", **words)
    if found is not None:
        assert 1e-3 * 0.99 <= found["EchoTime"] <= 1.01 and all(map(math.isfinite, found.values()))


TAGS = st.sampled_from(["DIM_COIL", "DIM_DYN", "DIM_EDIT", "DIM_USER_0", "DIM_MEAS", None])
CONDITIONS = st.none() | st.lists(st.sampled_from(["ON", "OFF", "A", "EDIT_ON", "x"]), max_size=4) | JSON


@given(
    lengths=st.lists(st.integers(1, 6), max_size=3),
    tags=st.lists(TAGS, min_size=3, max_size=3),
    conditions=CONDITIONS,
    scheme=st.sampled_from(["none", "mega", "merge"]),
    order=st.sampled_from(editing.EDIT_ORDERS),
)
@settings(max_examples=150)
def test_any_dimensions_are_arranged_without_loss_or_refused(lengths, tags, conditions, scheme, order):
    shape = (4, *lengths)
    data = np.arange(1, math.prod(shape) + 1).reshape(shape).astype(np.complex64)
    tag_headers = [header.edit_conditions({"EditCondition": conditions}) for _ in lengths]
    raw = Raw(data, tags[: len(lengths)], tag_headers, {}, 123.25, 5e-4, np.eye(4))
    found = one_line(editing.arrange, raw, "x", scheme, order)
    if found is None:
        return
    fids_found, how, _ = found
    assert fids_found.ndim == 4 and fids_found.shape[-1] == 4
    assert fids_found.shape[0] == (2 if scheme == "mega" else 1)
    assert sorted(fids_found.real.ravel()) == sorted(data.real.ravel())
    # Points of one FID stay together
    assert {tuple(fid) for fid in fids_found.reshape(-1, 4)} == {tuple(fid) for fid in data.reshape(4, -1).T}
    assert (how == "none") == (scheme != "mega")


# Headers

PERSONAL = "QXJANEVZ"
LEAF = st.none() | st.booleans() | st.integers() | st.floats() | TEXT | st.just(PERSONAL)
NESTED = st.recursive(
    LEAF,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["ON", "OFF", "PulseOffset", "Method", "Program", "Version", "Time", PERSONAL]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=10,
)


@given(content=st.dictionaries(st.sampled_from([*header.KEPT, *header.ON_REQUEST, "PatientName"]), NESTED, max_size=6))
@settings(max_examples=150)
def test_nothing_unknown_survives_in_any_header(content):
    found, notes = header.kept(content)
    text = json.dumps([found, notes], allow_nan=False)
    assert PERSONAL not in text
    assert set(found) <= set(header.KEPT)
    assert header.kept(found)[0] == found  # what is kept is kept again


@given(value=NESTED)
def test_any_name_of_a_condition_is_a_usual_one(value):
    found = header.edit_conditions({"EditCondition": value})
    assert PERSONAL not in json.dumps(found)
    assert header.dimension(value) is None or str(value).startswith("DIM_")


@pytest.mark.parametrize("name", ["sub-01\x85x", "a\u2028b"])
def test_the_check_of_lines_sees_other_ends_of_lines(name):
    def refuse():
        raise InputError(f"{name}: x")

    with pytest.raises(AssertionError):
        one_line(refuse)
