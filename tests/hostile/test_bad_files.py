"""Broken scans, all in one shard with good ones: each fails alone, with one line that says what to do."""

import contextlib
import ctypes
import faulthandler
import io
import json
import os
import re
import resource
import signal
import time
from pathlib import Path

import broken_files
import pytest
from broken import CASES, DATA_CASES, REPEATED, row
from broken_files import DATA

from mrs_synthesis import convert_formats, shard
from mrs_synthesis.stage import InputError, KilledError

COLUMNS = ("format", "metab", "aux", "water", "water_role", "edit_scheme", "edit_order", "te_ms")
EVERY = 60  # broken scans between two good ones
SPARE = 1 << 30  # bytes of memory that the shard may take: no bomb fits
OVERRIDE = (1 << 1) | (1 << 2)  # capabilities to read and enter what the mode forbids


@contextlib.contextmanager
def no_override():
    """Let root, too, be stopped by files' modes; False where that cannot be had."""
    if os.geteuid():
        yield True
        return
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, now = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    library = ctypes.CDLL(None)
    good = getattr(library, "capget", lambda *_: 1)(header, before) == 0
    now[:] = before[:]
    now[0] &= ~OVERRIDE
    good = good and library.capset(header, now) == 0
    try:
        yield good
    finally:
        if good:
            assert library.capset(header, before) == 0


@contextlib.contextmanager
def spare_memory(size):
    """Limit what this process may take beyond what it has."""
    taken = int(Path("/proc/self/statm").read_text().split()[5]) * resource.getpagesize()
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (taken + size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def good(folder):
    return {"format": "philips_sdat", "metab": broken_files.sdat(folder)}


def convert_shard(rows, study):
    """Convert rows of a sheet by unit as the workflow does; return the scans' statuses by unit and what was said."""
    raw = f"{study}/rawdata/%folder/mrs/%unit"
    units = []
    for unit, one in rows.items():
        words = [word for c in COLUMNS if one[c] for word in (f"--{c.replace('_', '-')}", one[c])]
        words += ["--output-ref", f"{raw}_mrsref.nii.gz"] if one["water"] else []
        reads = {name: one[name] for name in ("metab", "aux", "water") if one[name]}
        units.append({"unit": unit, "folder": unit.partition("_")[0], "words": words, "reads": reads})
    record = study / "records" / "convert" / "seen-0001.json"
    writes = [f"{raw}{end}" for end in ("_svs.nii.gz", "_svs.json", "_mrsref.nii.gz?", "_mrsref.json?")]
    argv = ["--units", json.dumps(units), "--record", record, "--study", study, "--code", "1", "--writes", *writes]
    argv += ["--", "convert", "%own", "--output", f"{raw}_svs.nii.gz"]
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        shard.main([str(word) for word in argv])
    return {one["unit"]: one for one in json.loads(record.read_text())["units"]}, said.getvalue()


@pytest.fixture(scope="module")
def done(request, tmp_path_factory):
    """The statuses of this run's cases by name, those of good scans, what was said, and whether modes were heeded."""
    folder = tmp_path_factory.mktemp("raw")
    chosen = [getattr(item, "callspec", None) for item in request.session.items]
    chosen = {one.params["case"] for one in chosen if one and "case" in one.params} or {*CASES} - REPEATED
    cases = {name: case for name, case in (CASES | (DATA_CASES if DATA.is_dir() else {})).items() if name in chosen}
    rows, names, fine = {}, {}, []
    for number, (name, (make, _)) in enumerate(cases.items()):
        if number % EVERY == 0:
            fine.append(f"sub-good{len(fine)}_acq-x")
            (folder / fine[-1]).mkdir()
            rows[fine[-1]] = row(good(folder / fine[-1]))
        unit = names[name] = f"sub-{number:03d}_acq-x"
        (folder / unit).mkdir()
        rows[unit] = row(make(folder / unit))
    fine.append("sub-last_acq-x")
    (folder / fine[-1]).mkdir()
    rows[fine[-1]] = row(good(folder / fine[-1]))
    study = tmp_path_factory.mktemp("study")
    with no_override() as heeded, spare_memory(SPARE):
        statuses, said = convert_shard(rows, study)
    for path in folder.glob("*/in"):
        path.chmod(0o700)  # else pytest cannot remove it
    return {name: statuses[unit] for name, unit in names.items()}, [statuses[unit] for unit in fine], said, heeded


def marked(name):
    marks = [pytest.mark.data] if name in DATA_CASES else []
    return pytest.param(name, marks=[*marks, pytest.mark.slow] if name in REPEATED else marks)


@pytest.mark.parametrize("case", [marked(name) for name in (*CASES, *DATA_CASES)])
def test_a_broken_scan_fails_in_one_line(request, done, case):
    if case in DATA_CASES:
        request.getfixturevalue("shared_data")
    if case.startswith("no leave") and not done[3]:
        pytest.skip("root reads everything here: this system cannot take that right away")
    status = done[0][case]
    assert status["status"] == "failed"
    reason = status["reason"]
    assert re.fullmatch((CASES | DATA_CASES)[case][1], reason), reason
    assert reason.splitlines() == [reason] and len(reason) < 500
    assert status["files"] == {}


def test_there_are_enough_cases():
    assert len(CASES) >= 60


def test_the_good_scans_between_them_are_converted(done):
    assert len(done[1]) >= 2
    for status in done[1]:
        assert (status["status"], status["n_transients"]) == ("ok", 4)
        assert len(status["files"]) == 2


def test_no_traceback_and_no_fault_of_the_program_is_told(done):
    assert "Traceback" not in done[2] and "fault of the program" not in done[2]


# What spec2nii may do with a file


def wait(*_):
    input("Which file? ")


def spin(*_):
    while True:
        pass


def eat(*_):
    bytearray(1 << 33)


def crash(*_):
    faulthandler.disable()
    os.kill(os.getpid(), signal.SIGSEGV)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (wait, r"EOFError: EOF when reading a line, test_bad_files\.py line \d+"),
        (spin, r"it took more than 1 s of computing"),
        (eat, r"MemoryError, test_bad_files\.py line \d+"),
        (crash, r"it crashed, signal 11"),
    ],
)
def test_a_spec2nii_that_hangs_eats_or_crashes_fails_its_scan_alone(tmp_path, monkeypatch, fault, message):
    monkeypatch.setattr("spec2nii.spec2nii.main", fault)
    monkeypatch.setattr(convert_formats, "LIMITS", {"memory": (1 << 30, 0), "seconds": (1, 0)})
    started = time.monotonic()
    with pytest.raises(InputError, match=rf"could not read it as siemens_twix \({message}\)"):
        convert_formats.read_source(broken_files.twix(tmp_path), "siemens_twix")
    assert time.monotonic() - started < 60


def test_a_spec2nii_that_is_killed_ends_the_job(tmp_path, monkeypatch):
    monkeypatch.setattr("spec2nii.spec2nii.main", lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(KilledError):
        convert_formats.read_source(broken_files.twix(tmp_path), "siemens_twix")


def test_the_limits_grow_with_the_file():
    memory, seconds = convert_formats.LIMITS["memory"], convert_formats.LIMITS["seconds"]
    size = 3 << 30  # a twix with 64 coils
    assert memory[0] + memory[1] * size > 15 * size
    assert convert_formats.limit_seconds(size) > seconds[0] + 10 * 0.2e-6 * size


def test_measured_data_are_no_bomb(tmp_path):
    """Files of noise, of mostly zeros, and zeros of some size are read whatever they are compressed to."""
    import numpy as np

    from mrs_synthesis import raw_files

    rng = np.random.default_rng(1)
    noise = rng.standard_normal((64, 1024)) + 1j
    half = noise * (np.arange(64) < 8)[:, None]
    for number, data in enumerate((noise, half, np.zeros((2048, 1024), complex))):
        path = broken_files.nifti(tmp_path / f"{number}.nii.gz", data)
        raw_files.check_nifti(path, path)
        if number < 2:
            assert data.size * 8 < raw_files.LARGEST_RATIO * path.stat().st_size
