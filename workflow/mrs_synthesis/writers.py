"""One writer of a result at a time: one run of the workflow, and no job that an earlier run left.

Snakemake's own lock is a file that a killed run leaves and that `--unlock` or `--nolock` pass over, also while the run
goes on; two runs then delete and make each other's files. The lock of `only_run` ends with the run.

Killing Snakemake does not end its jobs, here or on a cluster's nodes. The next run starts some of them again, perhaps
with other settings: what the old job writes must not come after what the new one wrote. Locks of byte ranges are seen
by all processes that share a disk, network disks included, and end with the process that holds them, however it ends.
"""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

FILE = Path(".snakemake") / "writers.lock"  # of the workflow's folder, in which all its jobs run
AGAIN = "MRS_SYNTHESIS_INSIDE_FSL_MRS"  # set by `mrs_synthesis.fslmrs` for the interpreter that it starts
STARTED_BY_ITS_LIKE = ("RANK", AGAIN)  # so is one of several processes that train together: the first has the lock


def only_writer(names: Iterable[str]) -> None:
    """Wait until no other job writes what has these names, and keep others from it until this process ends.

    Outside a folder of Snakemake's nothing is locked. Where a disk knows no locks, this is said, and work goes on:
    files are still written whole or not at all.
    """
    places = {_place(name): name for name in names}
    if not places or not FILE.parent.is_dir():
        return
    try:
        file = os.open(FILE, os.O_RDWR | os.O_CREAT, 0o666)  # never closed: that would free all locks of this process
        for place in sorted(places):  # in one order, so that no two jobs wait for each other
            _lock(file, place, places[place])
    except OSError as error:
        print(f"no lock on {FILE} ({error}): end what a killed run left running before the next", file=sys.stderr)


def only_run(results: Path | str, keep: bool = True) -> bool:
    """Tell whether no other run of the workflow makes these results; keep others from it until this process ends.

    Without `keep`, others are not kept from it. Where a disk knows no locks, the answer is yes.
    """
    place = _place(f"run {Path(results).resolve()}")
    try:
        FILE.parent.mkdir(exist_ok=True)
        file = os.open(FILE, os.O_RDWR | os.O_CREAT, 0o666)  # never closed, as above
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
        except (BlockingIOError, PermissionError):
            return False
        if not keep:
            fcntl.lockf(file, fcntl.LOCK_UN, 1, place)
    except OSError as error:
        print(f"no lock on {FILE} ({error}): start no second run in this folder", file=sys.stderr)
    return True


def _place(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest()[:12], 16)


def _lock(file: int, place: int, name: str) -> None:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
    except (BlockingIOError, PermissionError):
        print(f"waiting for a job that an earlier run left: {name}; end it if it is not wanted", flush=True)
        fcntl.lockf(file, fcntl.LOCK_EX, 1, place)


def outputs(argv: Sequence[str]) -> list[str]:
    """Return program and values of ``--output`` in a command line; none for what another process of the job started."""
    if any(name in os.environ for name in STARTED_BY_ITS_LIKE):
        return []
    words = list(argv[: argv.index("--")]) if "--" in argv else list(argv)
    program = Path(words[0]).stem  # several may write into one folder
    return [f"{program} {Path(value).resolve()}" for flag, value in itertools.pairwise(words) if flag == "--output"]
