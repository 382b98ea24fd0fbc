"""Shards of a study, and the records that their jobs leave: which scan's files were made, of what, what failed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

NUMBERED = re.compile(r"(.*-)(\d{4,})(\.json)")
RUN = re.compile(r"(.*-)(\d{4,})\.\.(\d{4,})(\.json)")


def divide(units: Sequence[str], size: int, part: str) -> dict[str, list[str]]:
    """Return scans in shards of `size`, in their order, by name: ``<part>-0001`` and so on.

    A scan that is added at the end fills up the last shard or opens a new one; no other shard changes.
    """
    starts = range(0, len(units), size)
    return {f"{part}-{number:04d}": list(units[k : k + size]) for number, k in enumerate(starts, start=1)}


def is_whole(path: Path, about: Mapping) -> bool:
    """Tell whether a recorded file is there with its size."""
    return path.is_file() and path.stat().st_size == about["bytes"]


def lost(base: Path) -> dict[Path, list[str]]:
    """Return the records below a folder whose scans' files are gone, with the names of these scans.

    Only names are looked at, folder by folder: a study has many files.
    """
    listed: dict[Path, set[str]] = {}
    found: dict[Path, list[str]] = {}
    for record in records_below(base):
        units = [
            one for one in read_record(record) if not all(_is_listed(base / name, listed) for name in one["files"])
        ]
        if units:
            found[record] = [one["unit"] for one in units]
    return found


def _is_listed(path: Path, listed: dict[Path, set[str]]) -> bool:
    if path.parent not in listed:
        listed[path.parent] = {one.name for one in path.parent.iterdir()} if path.parent.is_dir() else set()
    return path.name in listed[path.parent]


def records_below(base: Path) -> list[Path]:
    """Return the records of a study and of its variants."""
    patterns = ("records/*/*.json", "grid/*/records/*/*.json", "ablation/*/*/records/*/*.json")
    return sorted(path for pattern in patterns for path in Path(base).glob(pattern))


def read_record(path: Path) -> list[dict]:
    """Return the statuses of a shard's scans."""
    return json.loads(Path(path).read_text())["units"]


def read_statuses(paths: Sequence[Path | str]) -> list[dict]:
    """Return the statuses of all scans of several records, also where `compact` names them."""
    return [status for path in expand(paths) for status in read_record(path)]


def compact(paths: Iterable[str]) -> list[str]:
    """Return paths with runs of numbers in one: ``seen-0001..0120.json``; a command cannot hold thousands of paths."""
    runs: list[tuple[str, int, int, str]] = []
    for path in paths:
        if not (match := NUMBERED.fullmatch(str(path))):
            raise ValueError(f"{path}: no number at the end of its name")
        start, number, end = match[1], int(match[2]), match[3]
        if runs and runs[-1][0] == start and runs[-1][2] + 1 == number and runs[-1][3] == end:
            runs[-1] = (start, runs[-1][1], number, end)
        else:
            runs.append((start, number, number, end))
    return [f"{start}{first:04d}..{last:04d}{end}" for start, first, last, end in runs]


def expand(paths: Iterable[Path | str]) -> list[Path]:
    """Return the paths that `compact` made shorter; others as they are."""
    found = []
    for path in map(str, paths):
        match = RUN.fullmatch(path)
        numbers = range(int(match[2]), int(match[3]) + 1) if match else ()
        found += [Path(f"{match[1]}{number:04d}{match[4]}") for number in numbers] if match else [Path(path)]
    return found


def forget(base: Path, rules: Iterable[str], everything: bool = False) -> None:
    """Remove the status files that rules wrote (or all), so that their next run makes every scan anew."""
    for path in sorted(Path(base).glob("**/status/*")):
        variant = path.parents[1] != Path(base)  # rules of variants are called <kind>_<stage>
        prefix = f"{path.relative_to(base).parts[0]}_" if variant else ""
        names = {f"{prefix}{path.name}", f"{prefix}{path.name.partition('_')[0]}"}
        if everything or names & set(rules):
            shutil.rmtree(path)
