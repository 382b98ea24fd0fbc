"""How long each stage took, from Snakemake's benchmarks and what the jobs of many scans counted themselves."""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from mrs_synthesis.records import expand
from mrs_synthesis.stage import InputError, run

if TYPE_CHECKING:
    import pandas as pd

TOTAL = "total"
START_UP = "start-up"  # the last line of a shard's times
UNITS = ".units"
VARIANTS = ("grid", "ablation")  # their stages are named after them
FOLDERS = ("benchmarks", "grid/*/benchmarks", "ablation/*/*/benchmarks")
NOT_YET = ("report",)  # runs after this table; its benchmark is of an earlier run
NAN = math.nan
COLUMNS = {
    "stage": {"Description": "Stage, named as its folder of benchmarks; of variants of the study after their kind"},
    "jobs": {"Description": "Jobs: each is one process, of a whole data set or of a shard of scans"},
    "units": {"Description": "Scans that went through the stage; missing where a job is not of scans"},
    "kept": {"Description": "Of these the scans that a job found done by an earlier, unfinished or smaller run"},
    "wall_s": {"Description": "Wall time of all jobs, as if one ran after the other", "Units": "s"},
    "cpu_s": {
        "Description": "CPU time of all jobs: as Snakemake saw it (it looks every 0.5 s, after half a minute every "
        "30 s, so that the end of a job is missing), or as the job counted it if that is more; missing if no job was "
        "long enough to be seen",
        "Units": "s",
    },
    "work_cpu_s": {"Description": "CPU time spent on scans, as the jobs counted it", "Units": "s"},
    "start_up_cpu_s": {
        "Description": "CPU time of the jobs' start: interpreter and imports, which a shard pays once. Snakemake's own "
        "time is not in it",
        "Units": "s",
    },
    "work_per_start_up": {"Description": "CPU seconds of work per CPU second of start-up"},
    "max_rss_mb": {"Description": "Largest resident memory of a job, as Snakemake saw it", "Units": "MiB"},
    "longest_job_s": {"Description": "Wall time of the longest job", "Units": "s"},
}
ABOUT = (
    "One row per stage, the longest first, and their sum. Each job's last run counts, so that a run that went on where "
    "another one stopped shows what the rest took. The jobs that end a study (this table's and the report's) are "
    "missing. Times differ from run to run: this table, and the page and the provenance that hold it, are the only "
    "results that do."
)


@dataclass
class Job:
    """Times of one job.

    Attributes
    ----------
    wall, cpu, memory
        Seconds, CPU seconds, MiB; NaN if unknown.
    work, start_up
        CPU seconds that the job counted itself; NaN for a job that does not.
    units, kept
        Scans, and those that were done before.
    """

    wall: float = NAN
    cpu: float = NAN
    memory: float = NAN
    work: float = NAN
    start_up: float = NAN
    units: int = 0
    kept: int = 0


@dataclass
class Stage:
    """The jobs of one stage by name."""

    jobs: dict[str, Job] = field(default_factory=dict)


def rows_of(path: Path) -> list[dict[str, str]]:
    """Return the rows of a TSV file as text by column.

    Raises
    ------
    InputError
        If a row has more or fewer fields than the header.
    """
    header, *lines = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines() if line] or [[]]
    if any(len(line) != len(header) for line in lines):
        raise InputError(f"{path}: a row has not the {len(header)} fields of the header; remove the file and run again")
    return [dict(zip(header, line, strict=True)) for line in lines]


def number(text: str) -> float:
    """Return a field of Snakemake's benchmarks as a number; what it could not measure is NaN."""
    return NAN if text in ("NA", "-", "") else float(text)


def place(path: Path, results: Path) -> tuple[str, str]:
    """Return the stage and the job that a file of times is of, from where it lies.

    ``benchmarks/train.tsv`` is of (train, train), ``benchmarks/convert/seen-0001.tsv`` of (convert, seen-0001),
    ``benchmarks/grid/train/<variant>.tsv`` of (grid/train, <variant>), and both
    ``benchmarks/grid/<variant>/cells/<shard>.tsv`` and ``grid/<variant>/benchmarks/cells/<shard>.tsv`` of
    (grid/cells, <variant>/<shard>).
    """
    parts = list(path.relative_to(results).parts)
    parts[-1] = parts[-1].removesuffix(".tsv").removesuffix(UNITS)
    at = parts.index("benchmarks")
    kind, *variant = parts[:at] or [None]
    *folders, job = parts[at + 1 :]
    if kind is None and folders and folders[0] in VARIANTS:
        kind, *variant = folders
        folders = [variant.pop()] if variant else []
    stage = folders[0] if folders else job
    return f"{kind}/{stage}" if kind else stage, "/".join([*variant, *folders[1:], job])


def read_jobs(results: Path, records: Iterable[Path]) -> dict[str, Stage]:
    """Return the jobs of every stage with files of times below a study's results.

    Parameters
    ----------
    results
        Folder of the study's results.
    records
        Records of the study's shards, ``<results>/records/<stage>/<shard>.json``. Times of another shard of these
        stages are left over from an earlier division into shards, and not read.
    """
    present: dict[str, set[str]] = {}
    for record in expand(records):
        present.setdefault(record.parent.name, set()).add(record.stem)
    stages: dict[str, Stage] = {}
    for path in sorted(path for pattern in FOLDERS for path in results.glob(f"{pattern}/**/*.tsv")):
        stage, name = place(path, results)
        if stage in NOT_YET or (stage in present and name not in present[stage]):
            continue
        job = stages.setdefault(stage, Stage()).jobs.setdefault(name, Job())
        rows = rows_of(path)
        if path.stem.endswith(UNITS):
            scans = [row for row in rows if row["unit"] != START_UP]
            job.units, job.kept = len(scans), sum(int(row["kept"]) for row in scans)
            job.work = sum(float(row["cpu_seconds"]) for row in scans)
            job.start_up = sum(float(row["cpu_seconds"]) for row in rows if row["unit"] == START_UP)
        elif rows and "max_rss" in rows[0]:
            job.wall, job.cpu, job.memory = (number(rows[0][key]) for key in ("s", "cpu_time", "max_rss"))
    for stage in stages.values():  # times that a killed shard left are of no job yet
        stage.jobs = {name: job for name, job in stage.jobs.items() if not math.isnan(job.wall)}
    return {name: stage for name, stage in stages.items() if stage.jobs}


def known(values: Iterable[float]) -> list[float]:
    """Return the values that are known."""
    return [value for value in values if not math.isnan(value)]


def total(values: Iterable[float]) -> float:
    """Return the sum of the known values; NaN if none is."""
    found = known(values)
    return math.fsum(found) if found else NAN


def summary(name: str, jobs: Sequence[Job]) -> dict[str, object]:
    """Return one row of the table."""
    counted = [job for job in jobs if not math.isnan(job.work)]
    work, start_up = total(job.work for job in counted), total(job.start_up for job in counted)
    cpu = total(max(known([job.cpu, job.work + job.start_up]), default=NAN) for job in jobs)
    return {
        "stage": name,
        "jobs": len(jobs),
        "units": sum(job.units for job in counted) if counted else None,
        "kept": sum(job.kept for job in counted) if counted else None,
        "wall_s": total(job.wall for job in jobs),
        "cpu_s": cpu,
        "work_cpu_s": work,
        "start_up_cpu_s": start_up,
        "work_per_start_up": work / start_up if start_up > 0 else NAN,
        "max_rss_mb": max(known(job.memory for job in jobs), default=NAN),
        "longest_job_s": max(job.wall for job in jobs),
    }


def run_times(stages: dict[str, Stage]) -> pd.DataFrame:
    """Return the table of run times, the stage with the most wall time first, and the sum over stages last."""
    import pandas as pd

    rows = [summary(name, list(stage.jobs.values())) for name, stage in stages.items()]
    rows.sort(key=lambda row: (-row["wall_s"], row["stage"]))
    everything = summary(TOTAL, [job for stage in stages.values() for job in stage.jobs.values()])
    everything |= {"units": None, "kept": None}  # a scan goes through several stages
    table = pd.DataFrame([*rows, everything], columns=list(COLUMNS))
    return table.astype({"units": "Int64", "kept": "Int64"}).round(3)


def main(argv: Sequence[str] | None = None) -> None:
    """Write the table of run times."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.run_times", description=main.__doc__)
    parser.add_argument("--results", type=Path, required=True, help="folder of the study's results")
    parser.add_argument("--records", type=Path, nargs="*", default=[], help="records of the study's shards")
    parser.add_argument("--output", type=Path, required=True, help="the table")
    a = parser.parse_args(argv)

    from mrs_synthesis.dictionary import write_described_table

    stages = read_jobs(a.results, a.records)
    if not stages:
        raise InputError(f"{a.results}: no benchmark of any job, expected some in benchmarks/; run the study first")
    write_described_table(a.output, run_times(stages), ABOUT, COLUMNS)


if __name__ == "__main__":
    run(main)
