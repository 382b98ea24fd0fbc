"""One stage over many scans in one process, measured after each of them: what `bench_long_runs.py` starts.

    python tests/benchmarks/long_run_worker.py JOB.json

The job holds the shard's words, its scans (more than fit into a command) and where the measurements go; with
`follow`, the measurements of the stage before, each scan waits until that stage has done it.
"""

import ctypes
import gc
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

COLUMNS = ("scans", "rss_mb", "peak_mb", "malloc_mb", "blocks", "handles", "threads", "cpu_s")
OWN_HANDLES = 2  # the folder being listed, and the file that measurements go to
MB = 2**20
POLL_S = 0.05


class Mallinfo2(ctypes.Structure):
    """What glibc says of its heap, in bytes (mallinfo(3))."""

    names = ("arena", "ordblks", "smblks", "hblks", "hblkhd", "usmblks", "fsmblks", "uordblks", "fordblks", "keepcost")
    _fields_ = [(name, ctypes.c_size_t) for name in names]


def malloc_mb() -> float:
    """Return what is allocated and not freed, numpy's arrays and torch's tensors included; nan without glibc 2.33."""
    ask = getattr(ctypes.CDLL(None), "mallinfo2", None)
    if ask is None:
        return float("nan")
    ask.restype = Mallinfo2
    found = ask()
    return (found.uordblks + found.hblkhd) / MB


def resident(process: int | str) -> dict[str, float]:
    """Return resident memory now and at most (MB), open handles and threads of a process."""
    proc = Path("/proc") / str(process)
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    pages = int((proc / "statm").read_text().split()[1])
    return {
        "rss_mb": pages * os.sysconf("SC_PAGE_SIZE") / MB,
        "peak_mb": int(status["VmHWM"].split()[0]) / 1024,
        "handles": sum(1 for _ in (proc / "fd").iterdir()),
        "threads": int(status["Threads"]),
    }


@contextmanager
def measured(path: Path, follow: Path | None = None, collect: bool = False) -> Iterator[None]:
    """Write a row before each scan of a shard that is done in this block, and one at its end.

    With `collect`, Python's garbage collector runs before each: what is left is held by something.
    """
    from mrs_synthesis import shard

    done = 0
    with open(path, "w") as file:

        def measure() -> None:
            if collect:
                gc.collect()
            found = resident("self") | {"scans": done, "malloc_mb": malloc_mb(), "blocks": sys.getallocatedblocks()}
            found |= {"handles": found["handles"] - OWN_HANDLES, "cpu_s": time.process_time()}
            file.write("\t".join(f"{found[name]:.10g}" for name in COLUMNS) + "\n")
            file.flush()

        def key(self: shard.Shard, unit: shard.Unit) -> dict:
            nonlocal done
            while follow and (not follow.exists() or follow.read_bytes().count(b"\n") < done + 2):
                time.sleep(POLL_S)
            measure()
            done += 1
            return original(self, unit)

        original, shard.Shard.key = shard.Shard.key, key
        try:
            yield
            measure()
        finally:
            shard.Shard.key = original


def main() -> None:
    """Command line."""
    job = json.loads(Path(sys.argv[1]).read_text())
    from mrs_synthesis import shard

    with measured(Path(job["measurements"]), job["follow"] and Path(job["follow"])):
        shard.main(["--units", json.dumps(job["units"]), *job["words"]])


if __name__ == "__main__":
    main()
