"""What every stage's command line shares: one-line errors, and a recorded failure that stops only its own subject."""

from __future__ import annotations

import argparse
import json
import platform
import signal
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from mrs_synthesis import __version__, writers
from mrs_synthesis.files import is_full, write_json, write_whole


class InputError(Exception):
    """Bad input. The message is one line: which file or row, what was expected, what to do."""


class SkippedError(Exception):
    """An earlier stage already failed for this subject; the failure is recorded there."""


class KilledError(OSError):
    """A process of a job was killed: by a person or the machine (memory), not by what its subject's data are."""


def not_killed(status: int, name: str) -> int:
    """Return the exit status of a process that was started for a subject, negative for a signal.

    Raises
    ------
    KilledError
        If it was killed: the subject is not to blame, as it may be for a crash.
    """
    if -status in (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        raise KilledError(f"{name} was killed (signal {-status}); if nobody did, memory may have run out: start again")
    return status


def run(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run a stage's `main` as a program: bad input, a full disk or a kill becomes one line on stderr, exit status 1.

    It waits for what an earlier run left writing the same output.
    """
    try:
        writers.only_writer(writers.outputs(sys.argv))
        main(None)
        print(f"versions: {json.dumps(versions(), sort_keys=True)}", file=sys.stderr, flush=True)
    except BrokenPipeError:
        raise SystemExit(1) from None
    except Exception as error:
        if is_full(error):
            where = getattr(error, "filename", None) or f"{str(error).partition(': ')[0]}, or {tempfile.gettempdir()}"
            text = f"{where}: no space left on the disk; make room and start again, what is done is kept"
        elif isinstance(error, InputError | SkippedError | KilledError):
            text = str(error)
        else:
            raise
        print(f"error: {text}", file=sys.stderr)
        raise SystemExit(1) from None


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of every other package that was imported."""
    found = {"Python": platform.python_version(), "mrs-synthesis": __version__}
    for name, module in sorted(sys.modules.items()):
        version = getattr(module, "__dict__", {}).get("__version__")
        if "." not in name and name not in sys.stdlib_module_names and name not in found and isinstance(version, str):
            found[name] = version
    return {name: version for name, version in found.items() if name != __name__.partition(".")[0]}


def add_status_argument(parser: argparse.ArgumentParser) -> None:
    """Add `--status`, with which a bad subject is recorded and the program still succeeds."""
    parser.add_argument(
        "--status",
        type=Path,
        help="JSON file that records success or the reason of failure; with it, bad input does not end the whole run",
    )


def run_subject(
    work: Callable[[], dict | None], *, stage: str, unit: str, outputs: Sequence[Path], status: Path | None
) -> None:
    """Do one subject's work; on bad input record the reason and leave empty outputs, so that other subjects go on.

    Parameters
    ----------
    work
        Does the work and writes every path in `outputs`; may return facts to keep in the status file.
    stage, unit
        Names for the record, e.g. ``"convert"`` and ``"sub-01_acq-mega"``.
    outputs
        The files that `work` writes. After a failure each is an empty file, which no reader accepts.
    status
        Where the record goes. None: errors are raised instead.
    """
    record: dict = {"stage": stage, "unit": unit, "status": "ok", "reason": ""}
    try:
        record.update(work() or {})
    except (InputError, SkippedError) as error:
        if status is None or is_full(error):  # the scan is not to blame
            raise
        kind = "skipped" if isinstance(error, SkippedError) else "failed"
        record.update(status=kind, reason=" ".join(str(error).split()))
        print(f"{kind}: {unit}: {record['reason']}", file=sys.stderr)
        for path in outputs:
            with write_whole(path) as temporary:
                temporary.touch()
    if status is not None:
        write_json(status, record)


def require(path: Path) -> Path:
    """Return `path` if it holds data.

    Raises
    ------
    SkippedError
        If the file is empty, which is how an earlier stage marks a subject that failed.
    InputError
        If it does not exist.
    """
    path = Path(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; check the path, or run the stage that writes it")
    if path.is_file() and path.stat().st_size == 0:
        raise SkippedError(f"{path} is empty: an earlier stage failed for this subject")
    return path
