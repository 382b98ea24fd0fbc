"""What every stage's command line shares: one-line errors, and a recorded failure that stops only its own subject."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from mrs_synthesis.files import write_json, write_whole


class InputError(Exception):
    """Bad input. The message is one line: which file or row, what was expected, what to do."""


class SkippedError(Exception):
    """An earlier stage already failed for this subject; the failure is recorded there."""


def run(main: Callable[[Sequence[str] | None], None]) -> None:
    """Run a stage's `main` as a program: an `InputError` becomes one line on stderr and exit status 1."""
    try:
        main(None)
    except (InputError, SkippedError) as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:
        raise SystemExit(1) from None


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
        if status is None:
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


def read_statuses(paths: Sequence[Path]) -> list[dict]:
    """Read status files written by `run_subject`."""
    return [json.loads(Path(path).read_text()) for path in paths]
