"""How the whole-study stages grow with the number of subjects: python tests/benchmarks/bench_scale_study.py.

On made-up inputs (few transients, points, cells and metabolites of each subject, so that a thousand of them take
seconds): CPU seconds and peak resident memory of assemble, train (both models; `paper` for two epochs), evaluate,
comparisons, mixed_model, minimum_reporting and report, each in a process of its own. Beside them the straight line
through the sizes (seconds to start, milliseconds and kilobytes per subject), and the slope of log against log of what
the two largest sizes need beyond the smallest, seconds against subjects: start-up cancels, 1 is a straight line, 1.66 a
square (of 40, 120 and 360 subjects). Printed, and written to results/benchmarks/scale_study.json. Not a test.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "unit"))

from bench_engines import processor
from test_report_downloads import Many

from mrs_synthesis import assemble, spectra, training_set
from mrs_synthesis.evaluate import FIT
from mrs_synthesis.files import append_table, write_json, write_table
from mrs_synthesis.scans import Scan, write_scan

ROOT = Path(__file__).resolve().parents[2]
FREQUENCY_MHZ, DWELL_S, POINTS, TRANSIENTS, WIDTH = 127.74, 5e-4, 1024, 8, 288
PEAKS = np.array([2.01, 3.03, 3.2, 3.55, 2.35, 3.75])
EDITED = np.array([0.0, 1.0, 1.0, 1.0, 1.0, 1.4])
FITTED = [(m, c) for m in ("GABA+", "Glx", "tNAA", "tCho", "Ins", "tCr") for c in ("OFF", "DIFF")]
SITES = 5
NOISE = 0.05
# A process starts with the peak memory of the one that it was forked from: that of this program, but for this small one
LAUNCH = """
import json, resource, subprocess, sys
code = subprocess.call(sys.argv[1:], stdout=sys.stderr)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
LEAST_S = 1.0  # a smaller difference of two processes' seconds says nothing


def unit_rows(n: int) -> pd.DataFrame:
    """Return units.tsv of `n` subjects, one half to train and to stop the training."""
    names = [f"{i:05d}" for i in range(n)]
    table = pd.DataFrame({"unit": [f"sub-{s}_acq-x" for s in names], "folder": [f"sub-{s}" for s in names]})
    table = table.assign(subject=names, session=None, site=[f"site{i % SITES}" for i in range(n)], vendor="siemens")
    split = ["validation" if i % 4 == 3 else "train" for i in range(n)]
    return table.assign(format="siemens_twix", sequence="megapress", edit_scheme="mega", split=split, te_ms=68)


def write_scans(folder: Path, units: pd.DataFrame) -> None:
    """Write preprocessed scans."""
    rng = np.random.default_rng(0)
    t = spectra.time_axis(POINTS, DWELL_S)
    lines = np.exp((2j * np.pi * (PEAKS[:, None] - spectra.WATER_PPM) * FREQUENCY_MHZ - 15) * t)
    for row in units.itertuples():
        size = 1 + 0.15 * rng.standard_normal(PEAKS.size)
        clean = np.stack([size @ lines, (size * EDITED) @ lines])[:, None]
        noise = rng.standard_normal((2, TRANSIENTS, POINTS)) + 1j * rng.standard_normal((2, TRANSIENTS, POINTS))
        scan = Scan((clean + NOISE * noise)[:, :, None], FREQUENCY_MHZ, DWELL_S, {"EchoTime": 0.068}, ("OFF", "ON"))
        path = assemble.preprocessed_path(folder / "derivatives", row.folder, row.unit)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_scan(path, scan)


def write_training(folder: Path, units: pd.DataFrame, transients: int) -> None:
    """Write a training set, `transients` per edit condition of each subject."""
    rng = np.random.default_rng(1)
    ppm = spectra.ppm_axis(POINTS, DWELL_S, FREQUENCY_MHZ)
    start = int(np.searchsorted(ppm, 0.0))
    ppm = ppm[start : start + WIDTH]
    lines = 1 / (1 + 1j * (ppm - PEAKS[:, None]) / 0.04)
    with append_table(folder / "index.tsv") as append:

        def blocks() -> Iterator[np.ndarray]:
            for i, row in enumerate(units.itertuples()):
                size = 1 + 0.15 * rng.standard_normal(PEAKS.size)
                clean = np.stack([size @ lines, (size * EDITED) @ lines])[:, None]
                shape = (2, transients, WIDTH)
                entries = {"row": 2 * transients * i + np.arange(2 * transients), "unit": row.unit}
                entries |= {"subject": row.subject, "site": row.site, "condition": np.repeat(["OFF", "ON"], transients)}
                entries |= {"transient": np.tile(np.arange(transients), 2), "split": row.split, "scale": 1.0}
                append(pd.DataFrame(entries | {"noise_sd": NOISE / np.sqrt(POINTS), "n_points": POINTS}))
                yield clean + NOISE * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))

        n_rows = 2 * transients * len(units)
        digest = training_set.write_spectra(folder / "spectra.npy", n_rows, WIDTH, blocks())
    grid = {"ppm": ppm.tolist(), "frequency_mhz": FREQUENCY_MHZ, "dwell_s": DWELL_S, "n_points": POINTS}
    grid |= {"conditions": ["OFF", "ON"], "split_unit": "subject", "window_ppm": [0.0, 4.4], "spectra_sha256": digest}
    write_json(folder / "grid.json", grid)


def write_fits(folder: Path, units: pd.DataFrame) -> None:
    """Write cells and fits of every subject, and the tables and headers that minimum_reporting reads."""
    rng = np.random.default_rng(2)
    cells = [("reference", None, 40, 40, 0), ("reconstruction", None, 40, 40, 0)]
    cells += [("real", None, n, n, r) for n in (2, 8, 40) for r in range(2)]
    cells += [(s, "mean", 2, 40, r) for s in ("random", "interpolation", "hybrid") for r in range(2)]
    cells += [(s, None, 2, 40, r) for s in ("population_mean", "shrinkage", "duplicated") for r in range(2)]
    names = ["source", "decoder", "n_real", "n_total", "replicate"]
    index = pd.DataFrame(cells, columns=names).rename_axis("cell").reset_index()
    grown = index.merge(pd.DataFrame(FITTED, columns=["metabolite", "condition"]), how="cross")
    spread = 0.3 / np.sqrt(grown["n_real"])
    for row in units.itertuples():
        base = folder / "derivatives" / row.folder / "mrs"
        write_table(base / f"{row.unit}_desc-cells_index.tsv", index)
        value = (1 + 0.15 * rng.standard_normal()) * (1 + spread * rng.standard_normal(len(grown)))
        fit = grown[["cell", "condition", "metabolite"]].assign(per_tcr=value, raw=value, converged=1, note=None)
        fit = fit.assign(engine="batched", **dict.fromkeys(set(FIT) - set(fit.columns) - {"engine"}, 1.5))
        write_table(base / f"{row.unit}_desc-batched_mrsfit.tsv", fit.reindex(columns=[*FIT]))
    facts = {"n_transients": TRANSIENTS, "n_conditions": 2, "n_coils": 1, "n_points": POINTS, "dwell_s": DWELL_S}
    conversion = units[["unit"]].assign(**facts, te_ms=68, tr_ms=2000)
    write_table(folder / "tables" / "conversion.tsv", conversion)
    transients = units[["unit"]].merge(pd.DataFrame({"transient": range(2 * TRANSIENTS)}), how="cross")
    write_table(folder / "tables" / "preprocessing.tsv", transients.assign(kept=1, snr=10.0, fwhm_hz=6.0))
    config = {"preprocess": {"align_ppm": [1.8, 3.4], "reject_sd": 3, "ecc": True, "remove_water": True}}
    config["preprocess"] |= {"reference": "tCr", "engine": "batched"}
    config["quantify"] = {"line_shape": "voigt", "baseline": "poly, 2", "ppm_range": [0.2, 4.2], "engine": "batched"}
    config["quantify"]["diff_baseline"] = "poly, 2"
    config |= {"basis": {"sets": [{"name": "a"}]}, "evaluate": {"ratios": ["DIFF:GABA+", "OFF:tNAA"]}}
    write_json(folder / "config.json", config)


def commands(folder: Path, train: Path, page: Path, bootstrap: int) -> dict[str, list]:
    """Return the arguments of each stage, in an order in which they find each other's results."""
    units, tables, ratios = folder / "units.tsv", folder / "tables", ["--ratios", "DIFF:GABA+", "OFF:tNAA"]
    estimates = ["--concentrations", tables / "concentrations.tsv"]
    fits = ["--units", units, "--training", train, "--derivatives", folder / "derivatives", "--engine", "batched"]
    drawn = ["--seed", 1, "--bootstrap", bootstrap, *ratios]
    vae = ["--model", "paper", "--epochs", 2, "--device", "cpu"]
    assembled = ["--units", folder / "seen.tsv", "--derivatives", folder / "derivatives", "--seed", 1]
    compared = ["--output", tables / "comparisons.tsv", "--output-worth", tables / "worth.tsv"]
    reporting = ["--units", units, "--rawdata", folder / "rawdata", "--tables", tables]
    shown = ["--study", "fake", "--results", page, "--engine", "batched", "--output", page / "report.html"]
    return {
        "assemble": ["assemble", *assembled, "--output", folder / "training"],
        "train subject": ["train", "--training", train, "--output", folder / "subject", "--seed", 1],
        "train paper": ["train", "--training", train, "--output", folder / "paper", "--seed", 1, *vae],
        "evaluate": ["evaluate", *fits, *drawn, "--output", tables],
        "comparisons": ["comparisons", *estimates, "--units", units, *drawn, *compared],
        "mixed_model": ["mixed_model", *estimates, "--units", units, *ratios, "--output", tables / "mixed_model.tsv"],
        "minimum_reporting": [
            *("minimum_reporting", *reporting, "--config", folder / "config.json"),
            *("--output", tables / "minimum_reporting.tsv"),
        ],
        "report": ["report", *shown],
    }


def make_study(folder: Path, n: int, transients: int, stages: set[str]) -> None:
    """Write everything that the stages read."""
    units = unit_rows(n)
    write_table(folder / "seen.tsv", units)
    write_table(folder / "units.tsv", units.assign(split="test"))
    if stages & {"assemble", "minimum_reporting"}:
        write_scans(folder, units)
    write_training(folder / "train", units, transients)
    if stages & {"evaluate", "comparisons", "mixed_model", "minimum_reporting"}:
        write_fits(folder, units)
    if "minimum_reporting" in stages:
        for row in units.itertuples():
            raw = folder / "rawdata" / row.folder / "mrs" / f"{row.unit}_svs.nii.gz"
            raw.parent.mkdir(parents=True)
            raw.symlink_to(assemble.preprocessed_path(folder / "derivatives", row.folder, row.unit))
    if "report" in stages:
        Many(folder / "page", subjects=n)


def measure(words: list) -> tuple[float, float]:
    """Run a stage; return its CPU seconds and its largest resident memory in MB."""
    environment = os.environ | {"PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1"}
    stage = [sys.executable, "-m", f"mrs_synthesis.{words[0]}", *map(str, words[1:])]
    call = [sys.executable, "-S", "-c", LAUNCH, *stage]
    done = subprocess.run(call, env=environment, check=True, text=True, capture_output=True)
    code, seconds, megabytes = json.loads(done.stdout)
    if code:
        raise SystemExit(f"{' '.join(stage)}\n{done.stderr[-2000:]}")
    return seconds, megabytes


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, nargs="+", default=[40, 120, 360])
    parser.add_argument("--transients", type=int, default=TRANSIENTS, help="of a training subject, per edit condition")
    parser.add_argument("--stages", nargs="+", help="only these, e.g. evaluate comparisons (which reads evaluate's)")
    parser.add_argument("--bootstrap", type=int, default=1000)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "scale_study.json")
    a = parser.parse_args()
    sizes = sorted(set(a.subjects))
    if len(sizes) < 2:
        parser.error("--subjects: expected two numbers at least")
    found: dict[str, list[dict]] = {}
    for n in sizes:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            words_of = commands(folder, folder / "train", folder / "page", a.bootstrap)
            stages = [stage for stage in words_of if stage in (a.stages or words_of)]
            make_study(folder, n, a.transients, set(stages))
            for stage in stages:
                words = words_of[stage]
                seconds, megabytes = measure(words)
                row = {"subjects": n, "cpu_s": round(seconds, 2), "peak_mb": round(megabytes, 1)}
                if stage == "report":
                    row["page_mb"] = round((folder / "page" / "report.html").stat().st_size / 1e6, 2)
                found.setdefault(stage, []).append(row)
                print(stage, json.dumps(row), flush=True)
    table = []
    print(f"\n{'stage':>18s} {'start s':>8s} {'ms/subject':>11s} {'kB/subject':>11s} {'slope':>6s}")
    for stage, rows in found.items():
        n, cpu, memory = (np.array([row[key] for row in rows]) for key in ("subjects", "cpu_s", "peak_mb"))
        (per, start), (kilobytes, _) = np.polyfit(n, cpu, 1), np.polyfit(n, 1024 * memory, 1)
        more, beyond = cpu[-2:] - cpu[0], n[-2:] - n[0]
        known = len(sizes) > 2 and more[0] > LEAST_S
        slope = round(float(np.log(more[1] / more[0]) / np.log(beyond[1] / beyond[0])), 3) if known else None
        print(f"{stage:>18s} {start:8.2f} {1000 * per:11.2f} {kilobytes:11.1f} {slope or 'n/a':>6}")
        line = {"start_s": round(start, 2), "ms_per_subject": round(1000 * per, 3), "slope": slope}
        table.append({"stage": stage, **line, "kb_per_subject": round(float(kilobytes), 1), "rows": rows})
    facts = {"processor": processor(), "cores": os.cpu_count(), "load_average": os.getloadavg()[0]}
    write_json(a.output, facts | {"transients": a.transients, "bootstrap": a.bootstrap, "stages": table})


if __name__ == "__main__":
    main()
