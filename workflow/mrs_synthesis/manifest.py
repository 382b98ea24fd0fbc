"""SHA-256 of every file of a study's results, and what has changed since.

``manifest.sha256`` in the folder of the results is a list that ``sha256sum -c`` reads, too. The hashes are of what lies
on the disk; the manifest is refused if a scan's file is not what the job that made it recorded. Left out is what is no
result: logs, times, status files and checkpoints, by which runs go on, and `complete.json`, which ends a run.
"""

from __future__ import annotations

import argparse
import itertools
import os
import re
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mrs_synthesis import records
from mrs_synthesis.files import TEMPORARY, sha256, write_whole
from mrs_synthesis.stage import InputError, run

NAME = "manifest.sha256"
FOLDERS = ("logs", "benchmarks", "status", "checkpoint")
FILES = (NAME, "complete.json", ".snakemake_timestamp")
LINE = re.compile(rb"(\\?)([0-9a-f]{64}) [ *](.+)")
ESCAPES = {"\\": "\\\\", "\n": "\\n", "\r": "\\r"}  # as sha256sum writes them, with a backslash before the hash
THREADS = 4
NAMED = 20  # files that are named of each kind of change
EVERY_S = 5.0


def results(base: Path) -> Iterator[str]:
    """Yield the names of a study's result files relative to its folder, in no order."""
    for folder, folders, names in os.walk(base):
        inside = Path(folder).relative_to(base)
        folders[:] = [name for name in folders if name not in FOLDERS]
        for name in names:
            if name not in FILES and not TEMPORARY.fullmatch(name) and (Path(folder) / name).is_file():
                yield (inside / name).as_posix()


def hashes(base: Path, names: Iterable[str]) -> dict[str, str | None]:
    """Return the SHA-256 of files by name, None for those that cannot be read; with progress on stderr."""
    ordered = sorted(names)
    found: dict[str, str | None] = {}
    said = time.monotonic()
    with ThreadPoolExecutor(min(THREADS, os.cpu_count() or 1)) as threads:
        for name, digest in zip(ordered, threads.map(lambda name: _hash(base / name), ordered), strict=True):
            found[name] = digest
            if time.monotonic() - said > EVERY_S:
                said = time.monotonic()
                print(f"{len(found)} of {len(ordered)} files", file=sys.stderr, flush=True)
    return found


def _hash(path: Path) -> str | None:
    try:
        return sha256(path)
    except OSError:
        return None


def recorded(base: Path) -> dict[str, set[str]]:
    """Return the SHA-256 that records state of scans' files, by name: several where a scan was in another shard."""
    known: dict[str, set[str]] = {}
    for path in records.records_below(base):
        for unit in records.read_record(path):
            for name, about in unit["files"].items():
                known.setdefault(name, set()).add(about["sha256"])
    return known


def make(base: Path) -> int:
    """Write the manifest of a study; return the number of its files.

    Raises
    ------
    InputError
        If a scan's file is not what its record says, or a file cannot be read.
    """
    found = hashes(base, results(base))
    known = recorded(base)
    unread = [name for name, digest in found.items() if digest is None]
    if unread:
        raise InputError(f"{base}: {listing(unread)} cannot be read; give leave to read them and start again")
    other = [name for name, digest in found.items() if digest not in known.get(name, {digest})]
    if other:
        raise InputError(
            f"{base}: {listing(other)} not as the job left them that made them (records/); remove them and start again"
        )
    with write_whole(base / NAME) as temporary:
        temporary.write_bytes(b"".join(line(name, digest) for name, digest in found.items()))
    return len(found)


def line(name: str, digest: str) -> bytes:
    """Return a line of the manifest."""
    escaped = "".join(ESCAPES.get(one, one) for one in name)
    return os.fsencode(f"{'' if escaped == name else chr(92)}{digest}  {escaped}\n")


def read(path: Path) -> dict[str, str]:
    """Return the SHA-256 that a manifest states, by name.

    Raises
    ------
    InputError
        If there is none, or a line is no hash and name of a file inside the folder.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}, expected the manifest of a finished study; finish it") from None
    stated: dict[str, str] = {}
    for number, text in enumerate(content.removesuffix(b"\n").split(b"\n"), start=1):
        match = LINE.fullmatch(text)
        name = os.fsdecode(match[3]) if match else ""
        if match and match[1]:
            name = re.sub(r"\\(.)", lambda one: {"n": "\n", "r": "\r"}.get(one[1], one[1]), name)
        if not match or name in stated or name.startswith("/") or ".." in name.split("/"):
            raise InputError(
                f"{path}: line {number} is no SHA-256 and new name of a file in this folder; take the manifest from "
                "where the study was kept"
            )
        stated[name] = match[2].decode()
    return stated


def verify(base: Path) -> dict[str, list[str]]:
    """Return the names of a study's files that are changed, missing or unreadable, and added since the manifest.

    Raises
    ------
    InputError
        As `read`.
    """
    stated = read(base / NAME)
    there = set(results(base))
    found = hashes(base, stated.keys() & there)
    return {
        "changed": [name for name, digest in found.items() if digest not in (None, stated[name])],
        "missing": sorted(stated.keys() - there),
        "unreadable": [name for name, digest in found.items() if digest is None],
        "added": sorted(there - stated.keys()),
    }


def listing(names: Sequence[str]) -> str:
    """Return the first names in one line, printable, and how many more there are."""
    shown = ", ".join(printable(name) for name in itertools.islice(names, 3))
    return shown + (f" and {len(names) - 3} more" if len(names) > 3 else "")


def printable(name: str) -> str:
    """Return a name that can neither break a line nor steer a terminal."""
    return name if name.isprintable() else ascii(name)


def main(argv: Sequence[str] | None = None) -> None:
    """Make the manifest of a study's results, or check them against it."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.manifest", description=main.__doc__)
    parser.add_argument("action", choices=("make", "verify"), help="verify changes nothing")
    parser.add_argument("results", type=Path, help="folder of the study's results")
    a = parser.parse_args(argv)
    if a.action == "make":
        print(f"{a.results / NAME}: {make(a.results)} files", flush=True)
        return
    differing = verify(a.results)
    for kind, names in differing.items():
        for name in names[:NAMED]:
            print(f"{kind}: {printable(name)}", flush=True)
        if len(names) > NAMED:
            print(f"{kind}: {len(names) - NAMED} more", flush=True)
    if any(differing.values()):
        counts = ", ".join(f"{len(names)} {kind}" for kind, names in differing.items() if names)
        raise InputError(
            f"{a.results}: {counts}, expected the files of {NAME} alone, unchanged; take them from where the study was "
            "kept, or, if you made them, start the study again and list them with `--forcerun manifest`"
        )
    print(
        f"{a.results}: all {len(read(a.results / NAME))} files are as in {NAME}, whose own SHA-256 is "
        f"{sha256(a.results / NAME)}",
        flush=True,
    )


if __name__ == "__main__":
    run(main)
