"""How long a whole study takes, and how much memory, as subjects grow: phantom studies through the real workflow.

    python tests/benchmarks/bench_scale.py --subjects 100 300 1000 --cores 2
    python tests/benchmarks/bench_scale.py --subjects 10000 --dry-run

Studies are small per subject (12 transients, one filling, one replicate), so that their number is what counts. Writes
`results/benchmarks/scale.tsv`: one row per study and stage, from the study's own table of run times, and one row for
the call of snakemake with its wall time, the largest memory of any of its processes and the scans that failed. Finished
studies are kept in the folder, and not run again.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).resolve().parents[2]
COLUMNS = ["subject", "site", "vendor", "format", "sequence", "edit_scheme", "edit_order", "metab", "water"]
COLUMNS += ["water_role", "split"]
SITES = 10
CALL = "call of snakemake"
NODES, CORES_OF_NODE = 50, 32  # of the cluster that is reckoned with
MANY = 100_000


def sheet(study: str, subjects: int) -> str:
    """Return the sample sheet of a phantom study: 60 % to learn from, 10 % to validate, 30 % to test."""
    lines = ["\t".join(COLUMNS)]
    for k in range(subjects):
        siemens = k % 2 == 0
        vendor = "siemens" if siemens else "philips"
        stem = f"results/{study}/sourcedata/{vendor}/sub-{k:06d}"
        files = [f"{stem}_megapress.dat", f"{stem}_water.dat"] if siemens else [f"{stem}_act.SDAT", f"{stem}_ref.SDAT"]
        row = [f"{k:06d}", f"{vendor}{k % SITES}", vendor, "siemens_twix" if siemens else "philips_sdat", "megapress"]
        row += ["mega", "from_header" if siemens else "interleaved_on_off", *files, "both"]
        split = "train" if k // 2 % 10 < 6 else "validation" if k // 2 % 10 < 7 else "test"
        lines.append("\t".join([*row, split]))
    return "\n".join(lines) + "\n"


def config(study: str, shard_size: int) -> dict:
    """Return the config of a small study."""
    frequencies = {"mega123": 123.25, "mega128": 127.74}
    sets = [
        {"name": name, "simulate": {"sequence": "mega-press", "te_ms": 68, "frequency_mhz": mhz}}
        for name, mhz in frequencies.items()
    ]
    return {
        "study": study,
        "samples": f"{study}.tsv",
        "seed": 2603,
        "shard_size": shard_size,
        "phantom": {"transients": 12, "basis": {"siemens": "mega123", "philips": "mega128"}},
        "train": {"model": "subject"},
        "synthesise": {"modes": ["interpolation"], "decoders": ["sampled"]},
        "augment": {"n_real": 2, "n_total": 8, "replicates": 1, "real_curve": [2, 8]},
        "basis": {"sets": sets},
        "evaluate": {"ratios": ["DIFF:GABA+", "OFF:tNAA"], "bootstrap": 200},
    }


def run(folder: Path, study: str, subjects: int, shard_size: int, cores: int, dry: bool) -> dict[str, float]:
    """Run one study; return wall and CPU seconds, the largest memory of a process in MB, and how many scans failed."""
    (folder / f"{study}.tsv").write_text(sheet(study, subjects))
    (folder / f"{study}.yaml").write_text(yaml.safe_dump(config(study, shard_size)))
    call = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    call += ["--cores", str(cores), "--quiet", "all", "--configfile", str(folder / f"{study}.yaml")]
    call += ["--dry-run"] if dry else []
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    with open(folder / f"{study}.log", "w") as log:
        done = subprocess.run(call, env=environment, stdout=log, stderr=subprocess.STDOUT, check=False)
    wall, after = time.monotonic() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    failures = folder / "results" / study / "tables" / "failures.tsv"
    lost = 0 if dry or not failures.exists() else pd.read_csv(failures, sep="\t")["unit"].nunique()
    # A scan with too few transients left ends the call with an error, after all else
    if done.returncode and (dry or not lost or not (folder / "results" / study / "report.html").exists()):
        raise SystemExit(f"{folder / study}.log: snakemake ended with {done.returncode}; see there")
    return {"wall_s": wall, "cpu_s": cpu, "max_mb": after.ru_maxrss / 1024, "scans_failed": lost}


def slopes(table: pd.DataFrame) -> pd.Series:
    """Return by stage the exponent of CPU time against subjects, between the two largest studies."""
    small, large = sorted(table["subjects"].unique())[-2:]
    wide = table.pivot_table(index="stage", columns="subjects", values="cpu_s", sort=False)
    return (wide[large] / wide[small]).map(math.log) / math.log(large / small)


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--subjects", type=int, nargs="+", default=[30, 60])
    parser.add_argument("--shard-size", type=int, default=10)
    parser.add_argument("--cores", type=int, default=2)
    parser.add_argument("--dry-run", action="store_true", help="only build the graph")
    parser.add_argument("--folder", type=Path, default=ROOT / "results" / "benchmarks" / "scale")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "scale.tsv")
    a = parser.parse_args()
    a.folder.mkdir(parents=True, exist_ok=True)
    parts = []
    for subjects in a.subjects:
        study = f"scale{subjects}"
        record = a.folder / f"{study}.json"
        if a.dry_run or not record.exists():
            total = run(a.folder, study, subjects, a.shard_size, a.cores, a.dry_run)
            print(
                f"{subjects} subjects: {' '.join(f'{name} {value:.1f}' for name, value in total.items())}", flush=True
            )
            if a.dry_run:
                continue
            record.write_text(json.dumps(total))
        stages = pd.read_csv(a.folder / "results" / study / "tables" / "run_times.tsv", sep="\t", na_values="n/a")
        parts.append(pd.concat([stages, pd.DataFrame([{"stage": CALL, **json.loads(record.read_text())}])]))
        parts[-1].insert(0, "subjects", subjects)
    if not parts:
        return
    table = pd.concat(parts)
    table.to_csv(a.output, sep="\t", index=False, na_rep="n/a", float_format="%.3f")
    print(table.to_string(index=False, na_rep="", float_format="%.1f"))
    if len(a.subjects) > 1:
        print("exponent of CPU time against subjects:")
        print(slopes(table).to_string(float_format="%.2f"))
        rows = table[table["stage"] == CALL].set_index("subjects")["cpu_s"].sort_index()
        (n1, s1), (n2, s2) = list(rows.items())[-2:]
        each = (s2 - s1) / (n2 - n1)
        hours = each * MANY / 3600
        print(
            f"{each:.1f} CPU s for each further subject: {MANY} such subjects take {hours:.0f} CPU hours, on {NODES} "
            f"nodes of {CORES_OF_NODE} cores {hours / NODES / CORES_OF_NODE:.1f} h if all cores had work all the time"
        )


if __name__ == "__main__":
    main()
