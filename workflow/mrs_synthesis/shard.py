"""Many scans in one process: a stage's own command line for each scan of a shard, resumable scan by scan.

Start-up (interpreter, imports) is paid once for a shard. Each scan leaves a status file with the hashes of what it was
made from and of what was made; a shard that was killed, or to which a scan was added, keeps the scans whose key and
files are as they were. What the shard left behind stands in one record, which the workflow follows in place of the
scans' many files; it holds no times, so that equal input gives equal bytes.

Command line: the shard's own flags, then ``-- STAGE WORDS...`` once for each stage that a scan goes through. In paths
and words ``%unit`` and ``%folder`` are the scan's; the word ``%own`` stands for the scan's own words, ``%threads``
for the job's cores.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import os
import sys
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from mrs_synthesis.files import sha256, write_json, write_text, write_whole
from mrs_synthesis.records import is_whole
from mrs_synthesis.stage import InputError, run
from mrs_synthesis.writers import only_writer

OWN = "%own"
THREADS = "%threads"  # no part of what decides whether files are kept
OPTIONAL = "?"  # at the end of a written file's name: not every scan has it


@dataclass(frozen=True)
class Unit:
    """One scan of a shard.

    Attributes
    ----------
    unit, folder
        Its name, and the folder of its files inside a BIDS dataset.
    words
        Flags of its own.
    reads
        Files of its own, by role: their names may hold a person's, and are not recorded.
    writes
        Files of its own.
    """

    unit: str
    folder: str
    words: tuple[str, ...] = ()
    reads: Mapping[str, str] = field(default_factory=dict)
    writes: tuple[str, ...] = ()

    def fill(self, text: str) -> str:
        """Return a path or word with the scan's names in it."""
        return text.replace("%unit", self.unit).replace("%folder", self.folder)

    def command(self, words: Sequence[str], threads: str = THREADS) -> list[str]:
        """Return the words of a stage's command line for this scan."""
        filled = [self.fill(own) for word in words for own in (self.words if word == OWN else (word,))]
        return [threads if word == THREADS else word for word in filled]


@dataclass(frozen=True)
class Shard:
    """What is done with each scan, and where what is known of it lies.

    Attributes
    ----------
    record
        ``<base>/records/<stage>/<shard>.json``; status files and times lie in the same base's folders.
    study
        Folder that recorded paths are relative to.
    code
        Hash of the program: another one makes all anew.
    commands
        Stages, each with the words of its command line.
    reads, writes, temporary
        Files that a scan's commands read, leave, and leave to be removed.
    shared
        Hashes of what all scans read, by path.
    threads
        Cores that a command may use.
    """

    record: Path
    study: Path
    code: str
    commands: tuple[tuple[str, tuple[str, ...]], ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    temporary: tuple[str, ...]
    shared: Mapping[str, str | None]
    threads: int = 1

    @property
    def stage(self) -> str:
        """Name of the stage, as the record's folder has it."""
        return self.record.parent.name

    def status(self, unit: Unit) -> Path:
        """Return the scan's status file."""
        return self.record.parents[2] / "status" / self.stage / unit.folder / f"{unit.unit}.json"

    def files(self, unit: Unit, required: bool = False) -> list[Path]:
        """Return the files that a scan's commands leave, or those of them that every scan has."""
        names = [*self.writes, *unit.writes]
        if required:
            names = [name for name in names if not name.endswith(OPTIONAL)]
        return [Path(unit.fill(name.removesuffix(OPTIONAL))) for name in names]

    def key(self, unit: Unit) -> dict:
        """Return what decides whether a scan's files may be kept: its commands and the hashes of what it reads."""
        commands = [[stage, *unit.command(words)] for stage, words in self.commands]
        text = json.dumps([self.code, commands], sort_keys=True)
        own = {role: raw_hash(Path(path)) for role, path in unit.reads.items()}
        reads = {path: content_hash(Path(path)) for path in map(unit.fill, self.reads)}
        inside = {relative(path, self.study): content for path, content in (reads | dict(self.shared)).items()}
        return {"command": hashlib.sha256(text.encode()).hexdigest(), "reads": own | inside}


def relative(path: str | Path, folder: Path) -> str:
    """Return a path relative to a folder if it lies in it; else its name."""
    path = Path(path)
    return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else path.name


def content_hash(path: Path) -> str | None:
    """Return the SHA-256 of a file, or of a folder's names and files but hidden ones; None if there is no such file."""
    if path.is_dir():
        files = [one for one in sorted(path.rglob("*")) if one.is_file() and not one.name.startswith(".")]
        parts = [f"{one.relative_to(path)} {sha256(one)}" for one in files]
        return hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return sha256(path) if path.is_file() else None  # a pipe or a device may have no end


def raw_hash(path: Path) -> str | None:
    """Return `content_hash` of a raw file or folder; None also if it cannot be read, as its stage will tell."""
    try:
        return content_hash(path)
    except OSError:
        return None


def kept(shard: Shard, unit: Unit, key: Mapping) -> dict | None:
    """Return the status of a scan that needs nothing done; None if it does.

    The commands must be the same, the files that were made must be there, and what was read must have the same
    content. Files that were read and are gone, as raw ones may be, do not count: what was made of them is still true.
    """
    path = shard.status(unit)
    try:
        status = json.loads(path.read_text())
        before = status["key"]
    except (OSError, ValueError, KeyError):
        return None
    if status["status"] != "ok" or before["command"] != key["command"] or before["reads"].keys() != key["reads"].keys():
        return None
    changed = [name for name, content in key["reads"].items() if content not in (None, before["reads"][name])]
    if changed or not all(is_whole(shard.study / name, about) for name, about in status["files"].items()):
        return None
    return status


def do_unit(shard: Shard, unit: Unit, key: Mapping) -> dict:
    """Run a scan's commands; return its status, which is also written.

    A fault of the program costs only its scan, which is recorded as failed. What concerns the machine (disk, memory)
    ends the job instead: the scan is not to blame, and done ones are kept.
    """
    path = shard.status(unit)
    path.unlink(missing_ok=True)  # whatever was made before is no longer vouched for
    path.parent.mkdir(parents=True, exist_ok=True)
    statuses = []
    for stage, words in shard.commands:
        main = importlib.import_module(f"mrs_synthesis.{stage}").main
        try:
            main([*unit.command(words, str(shard.threads)), "--unit", unit.unit, "--status", str(path)])
            statuses.append(json.loads(path.read_text()))
            path.unlink()
        except (OSError, MemoryError, InputError):
            raise
        except Exception as error:
            if "OutOfMemory" in type(error).__name__:
                raise
            traceback.print_exc()
            reason = f"unexpected {type(error).__name__}: {error}; a fault of the program: please report it"
            statuses.append({"unit": unit.unit, "stage": stage, "status": "failed", "reason": " ".join(reason.split())})
            for file in shard.files(unit, required=True):
                with write_whole(file) as temporary:
                    temporary.touch()
    status = {key: value for one in statuses for key, value in one.items()}
    status |= next((one for one in statuses if one["status"] != "ok"), {})
    for name in shard.temporary:
        Path(unit.fill(name)).unlink(missing_ok=True)
    status["key"] = dict(key)
    status["files"] = {
        relative(file, shard.study): {"bytes": file.stat().st_size, "sha256": sha256(file)}
        for file in shard.files(unit)
        if status["status"] == "ok" and file.exists()
    }
    write_json(path, status)
    return status


def cpu_seconds() -> float:
    """Return the CPU time of this process and of those that it started and that ended."""
    return sum(os.times()[:4])


class ImportClock:
    """CPU seconds that import statements take, also those inside functions."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self._depth = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Count within this block."""
        import builtins

        original = builtins.__import__

        def timed(*arguments: object, **words: object) -> object:
            if self._depth:
                return original(*arguments, **words)
            start, self._depth = cpu_seconds(), 1
            try:
                return original(*arguments, **words)
            finally:
                self.seconds += cpu_seconds() - start
                self._depth = 0

        builtins.__import__ = timed
        try:
            yield
        finally:
            builtins.__import__ = original


def do_shard(shard: Shard, units: Sequence[Unit]) -> list[dict]:
    """Do or keep every scan of a shard; write its record and times; return the scans' statuses."""
    clock, statuses, times = ImportClock(), [], []
    # Until this process ends; scans of their own, since they may have been in other shards
    only_writer(str(path.resolve()) for path in (shard.record, *map(shard.status, units)))
    started = cpu_seconds()
    with clock.running():
        for number, unit in enumerate(units, start=1):
            wall, cpu, imports = time.monotonic(), cpu_seconds(), clock.seconds
            key = shard.key(unit)
            status = kept(shard, unit, key)
            word = "kept" if status else ""
            status = status or do_unit(shard, unit, key)
            statuses.append(status)
            took = time.monotonic() - wall
            times.append((unit.unit, int(bool(word)), took, cpu_seconds() - cpu - clock.seconds + imports))
            print(f"[{number}/{len(units)}] {unit.unit}: {word or status['status']} ({took:.1f} s)", flush=True)
    times.append(("start-up", 0, 0.0, started + clock.seconds))
    name = shard.record.stem
    rows = [f"{unit}\t{was_kept}\t{seconds:.3f}\t{cpu:.3f}" for unit, was_kept, seconds, cpu in times]
    text = "\n".join(["unit\tkept\tseconds\tcpu_seconds", *rows]) + "\n"
    variant = shard.record.parents[2].relative_to(shard.study)
    write_text(shard.study / "benchmarks" / variant / shard.stage / f"{name}.units.tsv", text)
    write_json(shard.record, {"stage": shard.stage, "shard": name, "units": statuses})
    return statuses


def split_commands(argv: Sequence[str]) -> tuple[list[str], tuple[tuple[str, tuple[str, ...]], ...]]:
    """Return the shard's own words, and each stage with its words, which ``--`` separates."""
    parts: list[list[str]] = [[]]
    for word in argv:
        if word == "--":
            parts.append([])
        else:
            parts[-1].append(word)
    return parts[0], tuple((part[0], tuple(part[1:])) for part in parts[1:] if part)


def read_units(text: str) -> list[Unit]:
    """Return the scans of a JSON list of objects with `unit`, `folder`, and optionally `words`, `reads`, `writes`."""
    return [
        Unit(
            one["unit"],
            one["folder"],
            tuple(map(str, one.get("words", ()))),
            one.get("reads", {}),
            tuple(one.get("writes", ())),
        )
        for one in json.loads(text)
    ]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    words = list(sys.argv[1:] if argv is None else argv)
    own, commands = split_commands(words)
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.shard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="%(prog)s [flags] -- STAGE WORDS... [-- STAGE WORDS...]",
    )
    parser.add_argument("--units", required=True, help="JSON list of scans: unit, folder, words, reads, writes")
    parser.add_argument("--record", type=Path, required=True, help="<base>/records/<stage>/<shard>.json")
    parser.add_argument("--study", type=Path, required=True, help="folder of the study's results")
    parser.add_argument("--code", required=True, help="hash of the program")
    parser.add_argument("--reads", nargs="*", default=[], help="files that a scan's commands read")
    parser.add_argument("--shared", nargs="*", default=[], help="files and folders that all scans read")
    parser.add_argument("--writes", nargs="*", default=[], help="files that they leave; with ? at the end: if any")
    parser.add_argument("--threads", type=int, default=1, help="in place of %%threads (default: %(default)s)")
    parser.add_argument("--temporary", nargs="*", default=[], help="files to remove when a scan is done")
    a = parser.parse_args(own)
    if not commands:
        parser.error("no stage; end with -- STAGE WORDS...")
    if any("fsl-mrs" in words_of for _, words_of in commands):
        from mrs_synthesis.fslmrs import reexec_if_needed

        reexec_if_needed("mrs_synthesis.shard", words)
    shared = {path: content_hash(Path(path)) for path in a.shared}
    lists = (tuple(names) for names in (a.reads, a.writes, a.temporary))
    do_shard(Shard(a.record, a.study, a.code, commands, *lists, shared, a.threads), read_units(a.units))


if __name__ == "__main__":
    run(main)
