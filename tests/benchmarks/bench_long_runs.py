"""Memory, file handles and threads of long runs: 1,000 subjects and 10,000 fits in one process of each stage.

    python tests/benchmarks/bench_long_runs.py --subjects 1000

A phantom study through the real workflow's own commands, but with all test subjects in one process of each per-scan
stage, where a job of the workflow has 128 at most: the worst case for whatever is kept from scan to scan. Stages follow
each other scan by scan. Each process measures itself before every scan. Then Snakemake's own process is measured over
as many jobs: one for each scan and stage, which keep what the stages made. With `--fsl-scans`, the engine `fsl-mrs`
too, on a few scans (`fsl_mrs` on PATH).

Writes `results/benchmarks/long_runs.tsv`, one row per stage: after 10, 50 and 100 % of the scans. Slopes are least
squares over all but the first tenth of the scans, per 1,000 scans: of resident memory in MB; of what is allocated and
not freed, which the allocator's habits do not move, in MB (glibc's count) and, for Python's small objects, in thousands
of blocks. A shard keeps the statuses of its scans until it writes its record. The last row is taken after that, so
that what is then left beyond the first tenth is what was kept for nothing.
"""

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from bench_scale import ROOT, config, sheet
from long_run_worker import COLUMNS, resident

STUDY = "long"
SEEN = 24  # subjects to learn from: a model of them is fitted first
SHARD_SIZE = 128  # the most that the config may ask for
STAGES = ("phantom", "convert", "preprocess", "synthesise", "augment", "quantify_batched")
KEPT = ("phantom", "convert")  # stages that Snakemake goes through again, a job for each scan
WORKER = Path(__file__).with_name("long_run_worker.py")
START_UP = 0.1  # part of the scans that slopes leave out


def write_study(folder: Path, subjects: int, shard_size: int, engine: str = "batched") -> None:
    """Write sheet and config: few subjects to learn from, `subjects` to test, few transients and controls."""
    rows = [line.split("\t") for line in sheet(STUDY, SEEN + subjects).splitlines()]
    for k, row in enumerate(rows[1:]):
        row[-1] = "test" if k >= SEEN else "validation" if k >= 0.8 * SEEN else "train"
    (folder / f"{STUDY}.tsv").write_text("".join("\t".join(row) + "\n" for row in rows))
    settings = config(STUDY, shard_size)
    settings["phantom"]["transients"] = 10
    settings["augment"] |= {"n_total": 4, "real_curve": [2, 4], "controls": ["duplicated", "shrinkage"]}
    settings["quantify"] = {"engine": engine}
    if engine == "fsl-mrs":
        settings["quantify"]["baseline"] = "poly, 2"  # its splines take half a minute for each fit
    (folder / f"{STUDY}.yaml").write_text(yaml.safe_dump(settings))


def environment() -> dict[str, str]:
    """Return the environment of all processes."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1"}


def snakemake(*words: str | int) -> list[str]:
    """Return the command of the workflow."""
    call = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile", "--configfile", f"{STUDY}.yaml"]
    return [str(word) for word in (*call, *words)]


def records(stage: str, number: int) -> list[str]:
    """Return the names of a stage's records of the test subjects."""
    return [f"results/{STUDY}/records/{stage}/heldout-{k:04d}.json" for k in range(1, number + 1)]


def commands(folder: Path, subjects: int, fits: str) -> tuple[dict[str, dict], list[str]]:
    """Return what the workflow would run for the test subjects, by stage (words, all shards' units), and their inputs.

    Inputs are those that stages share: basis sets, model, training set.
    """
    targets = records(fits, -(-subjects // SHARD_SIZE))
    call = snakemake("--dry-run", "--printshellcmds", "--forceall", "--cores", 2, *targets)
    done = subprocess.run(call, cwd=folder, env=environment(), text=True, capture_output=True, check=False)
    if done.returncode:
        raise SystemExit(f"{shlex.join(call)}\n{done.stdout[-1000:]}{done.stderr[-2000:]}")
    found: dict[str, list] = {}
    inputs: set[str] = set()
    for job in (done.stdout + done.stderr).split("\nrule ")[1:]:
        if "/heldout-" not in job or "mrs_synthesis.shard" not in job:
            continue
        inputs |= set(re.search(r"\n    input: (.*)", job)[1].split(", "))
        words = shlex.split(job.split("Shell command:")[1].split("2>&1")[0].replace("\\\n", " "))[3:]
        at = words.index("--units")
        units = json.loads(words.pop(at + 1))
        words.pop(at)
        found.setdefault(Path(words[words.index("--record") + 1]).parent.name, []).append((words, units))
    jobs = {}
    for stage, parts in found.items():
        parts.sort(key=lambda part: part[0][part[0].index("--record") + 1])
        jobs[stage] = {"words": parts[0][0], "units": [unit for _, units in parts for unit in units]}
    return jobs, sorted(name for name in inputs if "/records/" not in name)


def run_stages(folder: Path, jobs: dict[str, dict], python: str) -> dict[str, pd.DataFrame]:
    """Run one process for each stage, all at once; return what they measured."""
    running: dict[str, subprocess.Popen] = {}
    before, places = None, {}
    for stage in sorted(jobs, key=lambda name: [*STAGES, name].index(name)):
        places[stage] = folder / f"{stage}.measured"
        places[stage].unlink(missing_ok=True)
        job = folder / f"{stage}.job.json"
        job.write_text(json.dumps(jobs[stage] | {"measurements": str(places[stage]), "follow": before}))
        with open(folder / f"{stage}.log", "w") as log:
            call = [python, str(WORKER), str(job)]
            running[stage] = subprocess.Popen(call, cwd=folder, env=environment(), stdout=log, stderr=log)
        before = str(places[stage])
    try:
        while any(process.poll() is None for process in running.values()):
            for stage, process in running.items():
                if process.returncode:
                    raise SystemExit(f"{folder / stage}.log: ended with {process.returncode}; see there")
            time.sleep(1)
    finally:
        for process in running.values():
            if process.poll() is None:
                process.kill()
    tables = {stage: pd.read_csv(place, sep="\t", names=COLUMNS) for stage, place in places.items()}
    if short := [stage for stage, table in tables.items() if len(table) != len(jobs[stage]["units"]) + 1]:
        raise SystemExit(f"{folder}: {', '.join(short)}: not all scans were measured; see the logs there")
    return tables


def follow_snakemake(folder: Path, subjects: int, cores: int) -> pd.DataFrame:
    """Run a job for each scan and stage that keeps what is there; return measurements of Snakemake's own process."""
    write_study(folder, subjects, 1)
    targets = [name for stage in KEPT for name in records(stage, subjects)]
    call, rows = snakemake("--cores", cores, *targets), []
    with open(folder / "snakemake.log", "w") as log:
        process = subprocess.Popen(
            call, cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        for line in process.stdout:
            log.write(line)
            if match := re.match(r"(\d+) of \d+ steps", line):
                rows.append(resident(process.pid) | {"scans": int(match[1])})
    if process.wait():
        raise SystemExit(f"{folder}/snakemake.log: ended with {process.returncode}; see there")
    table = pd.DataFrame(rows).reindex(columns=COLUMNS)
    table.to_csv(folder / "snakemake.measured", sep="\t", index=False, header=False)
    return table


def slope(table: pd.DataFrame, column: str) -> float:
    """Return the growth per 1,000 scans after the first tenth of them."""
    late = table[table["scans"] >= START_UP * table["scans"].max()]
    return 1000 * float(np.polyfit(late["scans"], late[column], 1)[0])


def summary(stage: str, table: pd.DataFrame) -> dict:
    """Return a stage's row of the table."""
    table = table.sort_values("scans")
    total = int(table["scans"].max())
    at = {part: table[table["scans"] >= part * total].iloc[0] for part in (START_UP, 0.5, 1.0)}
    late = table[table["scans"] >= START_UP * total]
    row = {"stage": stage, "scans": total}
    row |= {f"rss_mb_{round(100 * part)}": found["rss_mb"] for part, found in at.items()}
    row |= {"peak_mb": table["peak_mb"].max(), "rss_slope": slope(table, "rss_mb")}
    row |= {"allocated_slope": slope(table, "malloc_mb"), "blocks_slope": slope(table, "blocks") / 1000}
    for part in (START_UP, 1.0):
        percent = round(100 * part)
        row |= {f"allocated_mb_{percent}": at[part]["malloc_mb"], f"blocks_{percent}": at[part]["blocks"] / 1000}
    for name in ("handles", "threads"):
        row |= {f"{name}_{round(100 * part)}": int(at[part][name]) for part in (START_UP, 1.0)}
        row |= {f"{name}_min": int(late[name].min()), f"{name}_max": int(late[name].max())}
    return row | {"cpu_s": table["cpu_s"].max()}


def count_fits(folder: Path, suffix: str) -> int:
    """Return how many spectra were fitted: cells and conditions with an amplitude, over all scans' tables."""
    total = 0
    for path in (folder / "results" / STUDY / "derivatives").glob(f"*/mrs/*_desc-{suffix}_mrsfit.tsv"):
        if path.stat().st_size:
            table = pd.read_csv(path, sep="\t", usecols=["cell", "condition", "raw"]).dropna()
            total += len(table[["cell", "condition"]].drop_duplicates())
    return total


def count_failed(folder: Path, stage: str) -> int:
    """Return how many scans a stage could not do."""
    record = json.loads((folder / records(stage, 1)[0]).read_text())
    return sum(one["status"] != "ok" for one in record["units"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, default=50, help="test subjects; default: %(default)s")
    parser.add_argument("--cores", type=int, default=2, help="of Snakemake's jobs; default: %(default)s")
    parser.add_argument("--fsl-scans", type=int, default=0, help="scans to fit with FSL-MRS; default: none")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "benchmarks" / "long_runs")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "long_runs.tsv")
    a = parser.parse_args()
    a.folder.mkdir(parents=True)  # what an earlier run made would be kept, not made
    write_study(a.folder, a.subjects, SHARD_SIZE)
    jobs, inputs = commands(a.folder, a.subjects, STAGES[-1])
    with open(a.folder / "training.log", "w") as log:
        call = snakemake("--cores", a.cores, *inputs)
        subprocess.run(call, cwd=a.folder, env=environment(), stdout=log, stderr=log, check=True)
    print(f"model fitted, {a.subjects} test subjects to go", flush=True)
    start, rows = time.monotonic(), []
    for stage, table in run_stages(a.folder, jobs, sys.executable).items():
        rows.append(summary(stage, table) | {"failed": count_failed(a.folder, stage)})
        rows[-1]["fits"] = count_fits(a.folder, "batched") if stage == STAGES[-1] else None
    print(f"{time.monotonic() - start:.0f} s for the stages", flush=True)
    if a.fsl_scans:
        from mrs_synthesis.fslmrs import find_interpreter

        write_study(a.folder, a.subjects, SHARD_SIZE, "fsl-mrs")
        stage = "quantify_fslmrs"
        job = commands(a.folder, a.subjects, stage)[0][stage]
        job["units"] = job["units"][: a.fsl_scans]
        table = run_stages(a.folder, {stage: job}, str(find_interpreter()))[stage]
        fits = count_fits(a.folder, "fslmrs")
        rows.append(summary(stage, table) | {"failed": count_failed(a.folder, stage), "fits": fits})
    rows.append(summary("snakemake (jobs)", follow_snakemake(a.folder, a.subjects, a.cores)))
    table = pd.DataFrame(rows)
    a.output.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(a.output, sep="\t", index=False, na_rep="n/a", float_format="%.2f")
    print(table.T.to_string(header=False, na_rep="", float_format="{:.1f}".format))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "workflow"))
    main()
