"""What made each result: inputs, config, versions and command, as one JSON file that programs can read.

Goes from a study's results back to its raw files, by what is on disk anyway: Snakemake's record of each output (rule,
inputs, command, log), and the last line of each job's log (versions of what the job had imported). The files of single
scans are not repeated here, since a study has tens of them for each: they are in the records of shards, which are
outputs of jobs and say of every scan's file its hash and the hashes of what it was made of. Raw files are named by
scan, role and hash alone, since their paths may hold a person's name; no absolute path, user or machine is named.
"""

from __future__ import annotations

import argparse
import base64
import json
import os
import re
import shlex
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import count, pairwise
from pathlib import Path
from typing import Any

from mrs_synthesis.files import sha256, write_json
from mrs_synthesis.stage import InputError, run

FORMATS = (5, 6)  # of Snakemake's records; what is read here is the same in both
VERSIONS = "versions: "  # how the last line of a job's log begins
SHARD = "mrs_synthesis.shard"
SCANS = (
    "Files of scans, with their SHA-256 and those of what they were made of, are listed in the records among the "
    "outputs of the jobs that name these scans: records/<stage>/<shard>.json"
)
NAMES = {"provenance.json", "ro-crate-metadata.json", "manifest.sha256"}  # made from the results, and no result
ROOT = Path(__file__).resolve().parents[2]
ABSOLUTE = re.compile(r"(?<![\w./:-])/(?:[^\s/'\":,=]+/)+")


@dataclass
class Job:
    """One job of the workflow.

    Attributes
    ----------
    rule, log
        Its rule; its log, as Snakemake knows the path.
    command
        Words of its command line, without raw files' paths.
    inputs
        Paths of what it read, without raw files.
    outputs
        Paths of what it declared.
    started, ended
        UTC, as ISO 8601.
    units
        Scans of a shard.
    """

    rule: str
    log: str
    command: list[str]
    inputs: list[str]
    started: str | None
    ended: str | None
    outputs: list[str] = field(default_factory=list)
    units: list[str] = field(default_factory=list)


class Metadata:
    """Snakemake's records of outputs, one JSON file each, named by the output's path in base64.

    Parameters
    ----------
    folder
        ``.snakemake/metadata``.

    Raises
    ------
    InputError
        If it does not exist.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise InputError(
                f"{folder}: no such folder, expected Snakemake's records of the study's outputs; run in the folder in "
                "which the study ran, without --drop-metadata and with the persistence backend `file`"
            )
        self.folder = folder
        self.longest = os.pathconf(folder, "PC_NAME_MAX") - 1

    def of(self, path: Path) -> dict[str, Any] | None:
        """Return the record of an output, None if there is none, or half of one as a killed Snakemake leaves.

        Raises
        ------
        InputError
            If it is of a format that is not known.
        """
        name = base64.urlsafe_b64encode(str(path).encode()).decode()
        *first, last = (name[k : k + self.longest] for k in range(0, len(name), self.longest))
        file = self.folder.joinpath(*(f"@{part}" for part in first), last)
        if not file.is_file():
            return None
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
        except ValueError:
            return None
        if record.get("record_format_version") not in FORMATS:
            raise InputError(
                f"{file}: format {record.get('record_format_version')} of Snakemake's record of {path}, expected one "
                f"of {', '.join(map(str, FORMATS))}; make the study anew with the pinned Snakemake"
            )
        return record


def raw_paths(command: Sequence[str]) -> dict[str, str]:
    """Return ``<scan>:<role>`` of every raw file that a shard's command names, by path."""
    found = {}
    for flag, word in pairwise(command):
        if flag == "--units" and SHARD in command:
            for unit in json.loads(word):
                found |= {path: f"{unit['unit']}:{role}" for role, path in unit.get("reads", {}).items()}
    return found


def words_of(shellcmd: str) -> list[str]:
    """Return the words of a job's command line, without the log that it is piped into."""
    words = shlex.split(shellcmd.replace("\\\n", " "))
    return words[: words.index("2>&1")] if "2>&1" in words else words


def without_paths(content: Any, raw: Mapping[str, str]) -> Any:
    """Return words or what JSON holds: raw files by their scan and role, other absolute paths by their last name."""
    if isinstance(content, str):
        if content in raw:
            return raw[content]
        if content.startswith("/"):
            return Path(content).name
        if content[:1] in "[{" and content:
            try:
                inside = json.loads(content)
            except ValueError:
                return ABSOLUTE.sub("", content)
            return json.dumps(without_paths(inside, raw), sort_keys=True)
        return ABSOLUTE.sub("", content)
    if isinstance(content, list):
        return [without_paths(one, raw) for one in content]
    if isinstance(content, dict):
        return {key: without_paths(value, raw) for key, value in content.items()}
    return content


def utc(seconds: float | None) -> str | None:
    """Return seconds since 1970 as UTC in ISO 8601."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def results_of(study: Path) -> list[Path]:
    """Return the files that a study is made for: the page, tables, figures, model, descriptions of its datasets."""
    folders = (study, *(study / name for name in ("tables", "figures", "model", "rawdata", "derivatives")))
    found = [path for folder in folders if folder.is_dir() for path in folder.iterdir()]
    return sorted(path for path in found if path.is_file() and path.name not in NAMES and path.name[0] != ".")


class History:
    """The jobs behind a study's results, and the files between them.

    Parameters
    ----------
    study
        Folder of the study's results, as the workflow names it.
    metadata
        Snakemake's records.

    Attributes
    ----------
    jobs
        By name: the path of the job's log below ``logs/``, without its suffix.
    files
        Facts of each file or folder but those of single scans, by its name (see `name`): hash, size, the job that made
        it; ``sha256`` is None if it is gone, as temporary ones are.
    """

    def __init__(self, study: Path, metadata: Metadata) -> None:
        self.study, self.metadata = study, metadata
        self.jobs: dict[str, Job] = {}
        self.files: dict[str, dict[str, Any]] = {}
        self._todo: list[Path] = []
        self._outside: dict[Path, str] = {}

    def name(self, path: Path) -> str:
        """Return a path relative to the study's folder, or ``outside/`` and a path below the working directory.

        Of files elsewhere only the last name is told, with a number where another file has it too.
        """
        if path.is_relative_to(self.study):
            return path.relative_to(self.study).as_posix()
        if path not in self._outside:
            inside = not path.is_absolute() and ".." not in path.parts
            name = f"outside/{path.as_posix() if inside else path.name}"
            others = list(self._outside.values())
            numbered = (name if n == 1 else f"{name}~{n}" for n in count(1))
            self._outside[path] = next(one for one in numbered if one not in others)
        return self._outside[path]

    def follow(self, paths: Iterable[Path]) -> None:
        """Go from these files back to everything that they were made of."""
        self._todo += paths
        while self._todo:
            path = self._todo.pop()
            if self.name(path) not in self.files:
                self._add(path)
        for job in self.jobs.values():
            job.inputs.sort()
            job.outputs.sort()

    def _add(self, path: Path) -> None:
        about = self.files.setdefault(self.name(path), content(path))
        record = self.metadata.of(path)
        if record is None:
            return
        name = about["job"] = self._job(record)
        self.jobs[name].outputs.append(self.name(path))
        if "records" in path.parts and path.suffix == ".json" and path.is_file():
            units = json.loads(path.read_text(encoding="utf-8"))["units"]
            self.jobs[name].units = [unit["unit"] for unit in units]

    def _job(self, record: Mapping[str, Any]) -> str:
        log = Path(record["log"][0]) if record["log"] else Path(record["rule"])
        name = self.name(log).removeprefix("logs/").removesuffix(".log")
        if name not in self.jobs:
            words = words_of(record["shellcmd"] or "")
            raw = raw_paths(words)
            inputs = [Path(path) for path in record["input"] if path not in raw]
            self.jobs[name] = Job(
                record["rule"],
                str(log),
                without_paths(words, raw),
                [self.name(path) for path in inputs],
                utc(record["starttime"]),
                utc(record["endtime"]),
            )
            self._todo += inputs
        return name


def content(path: Path) -> dict[str, Any]:
    """Return hash and size of a file; of a folder the hash of its files' names and hashes, and their number."""
    from mrs_synthesis.shard import content_hash

    if path.is_dir():
        return {"sha256": content_hash(path), "files": sum(one.is_file() for one in path.rglob("*"))}
    if not path.exists():
        return {"sha256": None}
    return {"sha256": sha256(path), "bytes": path.stat().st_size}


def versions_in(log: Path) -> dict[str, str] | None:
    """Return the versions that the last line of a job's log states; None if it states none."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    found = [line.removeprefix(VERSIONS) for line in lines if line.startswith(VERSIONS)]
    return json.loads(found[-1]) if found else None


def program(snakemake: str) -> dict[str, Any]:
    """Return version, commit (None if unknown, or if files differ from it) and hash of the workflow's own files."""
    import hashlib

    from mrs_synthesis import __version__

    paths = [ROOT / "Snakefile", *(path for path in (ROOT / "workflow").rglob("*") if "__pycache__" not in path.parts)]
    parts = [f"{path.relative_to(ROOT).as_posix()} {sha256(path)}" for path in sorted(paths) if path.is_file()]
    code = hashlib.sha256("\n".join(parts).encode()).hexdigest()
    return {
        "name": "mrs-synthesis",
        "version": __version__,
        "commit": commit(),
        "sha256": code,
        "snakemake": snakemake,
    }


def commit() -> str | None:
    """Return the commit that the workflow's files are of; None if they differ from it or git does not know."""
    git = ["git", "-C", str(ROOT)]
    try:
        top, head = (
            subprocess.run([*git, "rev-parse", word], capture_output=True, text=True, check=True).stdout.strip()
            for word in ("--show-toplevel", "HEAD")
        )
        call = [*git, "status", "--porcelain", "--", "Snakefile", "workflow", "envs"]
        changed = subprocess.run(call, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    return head if Path(top) == ROOT and not changed else None


def gather(study: str, history: History, workflow: Mapping[str, Any]) -> dict[str, Any]:
    """Return the whole provenance of a study's results.

    Keys: ``study``; ``workflow``; ``config`` (file and hash); ``environments`` (versions of programs, by a short
    name); ``scans`` (where their files are); ``jobs`` (rule, command, inputs with hashes, outputs, environment, start
    and end, scans); ``files``.
    """
    environments: dict[str, dict[str, str]] = {}
    names: dict[str, str] = {}
    jobs = {}
    for name, job in sorted(history.jobs.items()):
        versions = versions_in(Path(job.log))
        environment = None
        if versions is not None:
            text = json.dumps(versions, sort_keys=True)
            environment = names.setdefault(text, f"environment-{len(names) + 1}")
            environments[environment] = versions
        jobs[name] = {
            "rule": job.rule,
            "command": job.command,
            "inputs": {path: history.files[path]["sha256"] for path in job.inputs},
            "outputs": job.outputs,
            "environment": environment,
            "started": job.started,
            "ended": job.ended,
        } | ({"units": job.units} if job.units else {})
    config = "config.json"
    return {
        "study": study,
        "workflow": dict(workflow),
        "config": {"path": config, "sha256": history.files.get(config, {}).get("sha256")},
        "environments": environments,
        "scans": SCANS,
        "jobs": jobs,
        "files": dict(sorted(history.files.items())),
    }


def main(argv: Sequence[str] | None = None) -> None:
    """Write the provenance of a study's results."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.provenance", description=main.__doc__)
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument("--results", type=Path, required=True, help="folder of its results")
    parser.add_argument("--metadata", type=Path, default=Path(".snakemake/metadata"), help="Snakemake's records")
    parser.add_argument("--snakemake", required=True, help="version of Snakemake")
    parser.add_argument("--output", type=Path, required=True)
    a = parser.parse_args(argv)
    history = History(a.results, Metadata(a.metadata))
    history.follow(results_of(a.results))
    found = gather(a.study, history, program(a.snakemake))
    write_json(a.output, found)
    made = sum("job" in about for about in found["files"].values())
    print(
        f"{a.output}: {len(found['jobs'])} jobs, {len(found['files'])} files, {made} of them made by a job", flush=True
    )


if __name__ == "__main__":
    run(main)
