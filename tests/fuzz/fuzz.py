"""Fuzz the parsers that are this project's own: whatever the bytes, a result or an InputError of one line.

    python tests/fuzz/fuzz.py --seconds 60                    each parser in turn
    python tests/fuzz/fuzz.py spar nifti --seconds 600 --keep found

With atheris (`pip install atheris`, which no pin of this project asks for) what is tried is led by which lines of the
parsers run; without it, by mutations of good files alone. An input that a parser falls over is named, made smaller,
and, with `--keep`, written.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import re
import signal
import struct
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests" / "unit"), str(ROOT / "tests" / "hostile")]

try:
    import atheris
except ImportError:
    atheris = None

LONGEST = 4096  # bytes of a mutated input; the good files are shorter where that is possible
SLOWEST_S = 10  # for one input
COST = 1 << 29  # bytes that one input may make a parser take


@contextmanager
def traced():
    """Instrument what is imported in this block, so that atheris sees its branches."""
    if atheris is None:
        yield
    else:
        with atheris.instrument_imports(include=["mrs_synthesis"]):
            yield


with traced():
    from mrs_synthesis import (
        basis_read,
        checks_raw,
        convert,
        header,
        manifest,
        model_files,
        names,
        raw_files,
        records,
        scans,
        sheet,
    )
    from mrs_synthesis.convert_formats import Source, load_raw, without_content
    from mrs_synthesis.stage import InputError, SkippedError

ACCEPTED = (InputError, SkippedError)


def spar(path: Path) -> None:
    """SPAR beside a SDAT."""
    sdat = path.with_suffix(".SDAT")
    sdat.write_bytes(bytes(64))
    raw_files.check_sdat(sdat, path)


def listing(path: Path) -> None:
    """Philips' list beside data."""
    data = path.with_suffix(".data")
    data.write_bytes(bytes(64))
    raw_files.check_list(data, path)


def rda(path: Path) -> None:
    """Siemens RDA's header."""
    raw_files.check_rda(path)


def twix(path: Path) -> None:
    """Siemens twix's list of measurements, and its headers of FIDs in the VB line."""
    raw_files.SHORTEST_VB_HEADER = 64  # as long ones are not tried
    raw_files.check_twix(path)


def nifti(path: Path) -> None:
    """NIfTI-MRS with all that lies in it, as a raw file and as a result."""
    with suppress(*ACCEPTED):
        scans.read_scan(path)
    raw = load_raw(path)
    fields, notes = header.kept(raw.header, list(header.ON_REQUEST))
    json.dumps([fields, notes])
    times = convert._header_times(Source(raw, files=[path]))
    checks_raw.times(times, {"EchoTime": 30.0}, "x", edited=False, sampled_s=0.5, notes=[])


def sidecar(path: Path) -> None:
    """The JSON beside a NIfTI-MRS file."""
    source = Source(None, files=[path.with_suffix(".nii")])  # type: ignore[arg-type]
    times = convert._sidecar_times(source)
    checks_raw.times(times, {}, "x", edited=False, sampled_s=0.5, notes=[])


def lcmodel(path: Path) -> None:
    """LCModel .BASIS."""
    basis_read.read_lcmodel(path)


def basis_json(path: Path) -> None:
    """FSL-MRS's JSON basis."""
    folder = path.parent / "basis"
    folder.mkdir(exist_ok=True)
    (folder / "NAA.json").write_bytes(path.read_bytes())
    basis_read.read_json_folder(folder)


def samples(path: Path) -> None:
    """The sample sheet."""
    rows = sheet.read_samples(path)
    sheet.unit_table(sheet.included(rows))
    with suppress(InputError):
        sheet.site_labels(row["site"] for row in rows)


def config(path: Path) -> None:
    """The config, as the workflow checks it."""
    with suppress(ValueError, RecursionError):  # Snakemake reads the file
        content = json.loads(path.read_bytes())
        if isinstance(content, dict):
            names.check_config(content)


def model_config(path: Path) -> None:
    """A model's config.json."""
    (path.parent / "config.json").write_bytes(path.read_bytes())
    model_files.read_config(path.parent)


def record(path: Path) -> None:
    """A record of a shard, which only this program writes: a ValueError, KeyError or TypeError says that it is none."""
    with suppress(ValueError, KeyError, TypeError, RecursionError):
        records.read_record(path)
    records.compact(records.expand([path.name]) and [])


def checksums(path: Path) -> None:
    """The manifest of a study."""
    for name in manifest.read(path):
        assert not name.startswith("/") and ".." not in name.split("/"), name


def said(path: Path) -> None:
    """What spec2nii says when it fails."""
    text = without_content(path.read_text(errors="replace"))
    assert len(text.splitlines()) <= 1, text


def seeds(folder: Path) -> dict[str, list[bytes]]:
    """Return good files by parser."""
    import broken_files
    import numpy as np
    from planted import data_list, twix_vb

    rows = broken_files.ROWS[:2, :128]
    sdat = broken_files.sdat(folder, rows)
    data = data_list(folder / "D.data", rows)
    plain = broken_files.nifti(folder / "S.nii", rows)
    config_seed = {"study": "x", "samples": "x.tsv", "train": {"epochs": 2}, "evaluate": {"ratios": ["DIFF:GABA+"]}}
    row = {"subject": "01", "site": "A", "vendor": "ge", "format": "nifti_mrs", "sequence": "a", "metab": "x"}
    table = "\t".join([*row, "wm", "gm", "csf"]) + "\n" + "\t".join([*row.values(), "0.3", "0.5", "0.2"]) + "\n"
    numbers = "\n".join(" ".join(f"{x:.4E}" for x in np.arange(4.0)) for _ in range(2))
    lcm = (
        " $SEQPAR\n FWHMBA = 0.013,\n HZPPPM = 123.25,\n ECHOT = 30.0,\n SEQ = 'PRESS'\n $END\n $BASIS1\n"
        " IDBASI = 'x',\n FMTBAS = '(6E13.5)',\n BADELT = 5.0E-04,\n NDATAB = 4\n $END\n $NMUSED\n $END\n $BASIS\n"
        f" ID = 'NAA',\n METABO = 'NAA',\n CONC = 1.,\n TRAMP = 1.,\n VOLUME = 1.,\n ISHIFT = 1\n $END\n{numbers}\n"
    )
    content = {"basis_re": [1.0, 2.0], "basis_im": [0.0, 1.0], "basis_dwell": 5e-4, "basis_centre": 123.0}
    ppm = [0.0, 0.1, 0.2, 0.3]
    grid = {
        "ppm": ppm, "frequency_mhz": 123.25, "dwell_s": 5e-4, "n_points": 4, "conditions": ["OFF"],
        "window_ppm": [0.0, 0.3], "split_unit": "subject",
    }  # fmt: skip
    model = {"model": "paper", "format": 1, "grid": grid, "weights_sha256": "0" * 64, "tensors": {}}
    vb = twix_vb(folder / "V.dat", rows, broken_files.NoPatch).read_bytes()
    vb = struct.pack("<II", 64, 5).ljust(64, b"x") + vb[struct.unpack_from("<I", vb)[0] :]
    fail = 'Traceback (most recent call last):\n  File "/x/philips.py", line 3, in f\n    d["x"]\nKeyError: \'x\'\n'
    return {
        "spar": [sdat.with_suffix(".SPAR").read_bytes()],
        "listing": [data.with_suffix(".list").read_bytes()],
        "rda": [
            b">>> Begin of header <<<\r\nVectorSize: 2\r\nCSIMatrixSize[0]: 1\r\n>>> End of header <<<\r\n" + bytes(32)
        ],
        "twix": [broken_files.twix(folder, rows[:, None]).read_bytes()[:LONGEST], vb],
        "nifti": [plain.read_bytes()],
        "sidecar": [b'{"EchoTime": 0.03, "RepetitionTime": 2.0}'],
        "lcmodel": [lcm.encode()],
        "basis_json": [json.dumps({"basis": content | {"basis_name": "NAA"}, "meta": {"TE": 30}}).encode()],
        "samples": [table.encode()],
        "config": [json.dumps(config_seed).encode()],
        "model_config": [json.dumps(model).encode()],
        "record": [json.dumps({"units": [{"unit": "x", "files": {}}]}).encode()],
        "checksums": [b"0" * 64 + b"  a/b\n\\" + b"1" * 64 + b"  a\\nb\n"],
        "said": [fail.encode()],
    }


PARSERS: dict[str, Callable[[Path], None]] = {
    one.__name__: one
    for one in (
        *(spar, listing, rda, twix, nifti, sidecar, lcmodel, basis_json, samples, config, model_config, record),
        *(checksums, said),
    )
}
ENDINGS = {"spar": ".SPAR", "listing": ".list", "nifti": ".nii", "sidecar": ".json", "samples": ".tsv", "twix": ".dat"}
PIECES = [
    b"", b"\0", b"\xff", b"\n", b"\r", b"\t", b"\x85", "\u2028".encode(), b'"', b"'", b"{", b"}", b"[", b"]", b"-1",
    b"0", b"1e999", b"NaN", b"-Infinity", b"9" * 30, b"9" * 5000, b"null", b"true", b"[]", b"{}", b"\xb2", b"../",
    b"\\", b",", b":", b"=", b"$END", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"[" * 3000,
    b"e400", b"0x1", b"\xef\xbb\xbf",
]  # fmt: skip


def mutated(rng: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """Return bytes with a few changes."""
    out = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 3, 6))):
        place = rng.randrange(len(out) + 1)
        length = min(rng.choice((1, 1, 2, 4, 8, 64)), len(out) - place)
        kind = rng.randrange(8)
        tokens = list(re.finditer(rb"\d+|\w+", out)) if kind > 5 else []
        if tokens:  # a number or word becomes something else
            token = rng.choice([one for one in tokens if one[0].isdigit()] or tokens if kind == 6 else tokens)
            out[token.start() : token.end()] = rng.choice(PIECES)
        elif kind == 0:
            out[place : place + length] = rng.choice(PIECES)
        elif kind == 1 and length:
            out[place] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del out[place : place + length]
        elif kind == 3:
            out[place:place] = out[rng.randrange(len(out) + 1) :][: rng.choice((4, 16, 200))]
        elif kind == 4:
            out[place : place + length] = rng.randbytes(length)
        else:
            other = rng.choice(others)
            start = rng.randrange(len(other) + 1)
            out[place : place + length] = other[start : start + rng.choice((4, 16, 200))]
    return bytes(out[: 4 * LONGEST])


class Slow(Exception):
    """An input took longer than `SLOWEST_S`."""


def fault(name: str, data: bytes, folder: Path) -> str:
    """Return where a parser fell over these bytes, and how; empty if it did not."""
    path = folder / f"input{ENDINGS.get(name, '.bin')}"
    path.write_bytes(data)

    def stop(*_: object) -> None:
        raise Slow(f"more than {SLOWEST_S} s")

    signal.signal(signal.SIGALRM, stop)
    signal.alarm(SLOWEST_S)
    try:
        with open(os.devnull, "w") as nowhere, redirect_stderr(nowhere), redirect_stdout(nowhere):
            PARSERS[name](path)
    except ACCEPTED as error:
        text = str(error)
        if len(text.splitlines()) > 1 or len(text) > 2000:
            return f"a message of several lines or many characters: {text[:200]!r}"
    except Exception as error:
        frames = [one for one in traceback.extract_tb(error.__traceback__) if "mrs_synthesis" in one.filename]
        place = f"{Path(frames[-1].filename).name} line {frames[-1].lineno}" if frames else "?"
        return f"{type(error).__name__} in {place}: {' '.join(str(error).split())[:160]}"
    finally:
        signal.alarm(0)
    return ""


def smaller(name: str, data: bytes, folder: Path, key: str) -> bytes:
    """Return fewer bytes with the same fault."""
    step = len(data) // 2
    while step:
        place = 0
        while place < len(data):
            less = data[:place] + data[place + step :]
            if fault(name, less, folder).partition(":")[0] == key:
                data = less
            else:
                place += step
        step //= 2
    return data


def fuzz(name: str, seconds: float, seed: int, folder: Path, keep: Path | None) -> int:
    """Fuzz one parser; return the number of its faults, which are printed."""
    good = seeds(folder)
    own, others = good[name], [one for some in good.values() for one in some]
    for data in own:
        if text := fault(name, data, folder):
            print(f"{name}: falls over a good file: {text}")
            return 1
    found: dict[str, bytes] = {}
    kept = keep or folder / "found"
    kept.mkdir(parents=True, exist_ok=True)
    before = len(list(kept.iterdir()))
    tried, end = 0, time.monotonic() + seconds

    def one(data: bytes) -> None:
        nonlocal tried
        tried += 1
        text = fault(name, data, folder)
        key = text.partition(":")[0]
        if text and key not in found:
            found[key] = smaller(name, data, folder, key)
            (kept / f"{name}-{abs(hash(key)):x}").write_bytes(found[key])
            print(f"{name}: {text}\n    {found[key][:200]!r}", flush=True)

    if atheris is None:
        rng = random.Random(f"{name} {seed}")
        pool = list(own)
        while time.monotonic() < end:
            one(mutated(rng, rng.choice(pool), others))
    else:
        corpus = folder / "corpus"
        corpus.mkdir()
        for number, data in enumerate(own):
            (corpus / f"{number}").write_bytes(data)
        rng = random.Random(f"{name} {seed}")

        def custom(data: bytes, size: int, number: int) -> bytes:
            rng.seed(number)
            change = atheris.Mutate(data, size) if rng.random() < 0.5 else mutated(rng, data or own[0], others)
            return change[:size]

        # libFuzzer ends the process, so it has one of its own
        child = os.fork()
        if child == 0:
            words = [f"-max_total_time={max(1, int(seconds))}", f"-seed={seed + 1}", f"-max_len={2 * LONGEST}"]
            words += ["-print_final_stats=1", "-verbosity=0", f"-rss_limit_mb={(COST >> 20) + 2048}", str(corpus)]
            atheris.Setup([sys.argv[0], *words], one, custom_mutator=custom)
            atheris.Fuzz()
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if code := os.waitstatus_to_exitcode(status):
            print(f"{name}: ended with {code}", flush=True)
            return 1
    faults = len(list(kept.iterdir())) - before
    print(f"{name}: {faults} faults" + (f" in {tried} inputs" if tried else ""), flush=True)
    return faults


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parsers", nargs="*", help=f"default: all of {', '.join(PARSERS)}")
    parser.add_argument("--seconds", type=float, default=20, help="for each parser (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of what is tried (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for inputs that a parser falls over")
    arguments = parser.parse_args()
    logging.disable()  # nibabel's
    if unknown := set(arguments.parsers) - set(PARSERS):
        parser.error(f"no parser {', '.join(sorted(unknown))}; there are {', '.join(PARSERS)}")
    print(f"led by {'atheris' if atheris else 'mutations alone'}", flush=True)
    faults = 0
    for name in arguments.parsers or PARSERS:
        with tempfile.TemporaryDirectory(prefix="fuzz_") as folder:
            faults += fuzz(name, arguments.seconds, arguments.seed, Path(folder), arguments.keep)
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
