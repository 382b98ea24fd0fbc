"""Transients per second of synthesis by model, mode and stage: python tests/benchmarks/bench_synthesis.py.

Both models are trained on made-up spectra of the demo's size (`bench_train`; the paper's for one epoch, which is enough
to time it). A transient is one FID of 2048 points of one edit condition, so that a MEGA-PRESS pair counts two; they are
made `--batch` pairs at a time from 2 real pairs, as the stage synthesise does. Stages, each with the ones before it:

- decode: codes drawn and decoded to noise-free spectra in the model's window
- fid: as FIDs of the full bandwidth (the decoder `mean`)
- noise: with fresh complex noise (the decoder `sampled`)
- file: written as a gzipped NIfTI-MRS file

One process with one thread; the quickest of `--repeats` counts. Prints a table and writes a JSON file. Not a test.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

from bench_engines import processor
from bench_train import DWELL_S, FREQUENCY_MHZ, POINTS, make_training_set

from mrs_synthesis import generator, synthesise, train, training_set
from mrs_synthesis.files import write_json
from mrs_synthesis.scans import Scan, write_scan
from mrs_synthesis.spectra import from_window

ROOT = Path(__file__).resolve().parents[2]
STAGES = ("decode", "fid", "noise", "file")
SITE, N_REAL, NOISE = "a", 2, 0.05


def train_models(folder: Path) -> dict[str, Path]:
    """Return the folders of both models, trained on made-up subjects."""
    make_training_set(folder / "training", 13, 80, NOISE)
    path = folder / "training" / "index.tsv"
    table = training_set.TrainingSet(folder / "training").index
    table["noise_sd"] = NOISE * table["scale"] / np.sqrt(POINTS)  # as the FID's, which the model of subjects needs
    table.to_csv(path, sep="\t", index=False)
    result = {}
    for model, more in (("paper", ["--epochs", "1"]), ("subject", [])):
        result[model] = folder / model
        words = ["--training", str(folder / "training"), "--output", str(result[model]), "--seed", "1"]
        train.main([*words, "--model", model, "--device", "cpu", *more])
    return result


def measure(model: generator.Generator, mode: str, real: np.ndarray, batch: int, repeats: int, path: Path) -> dict:
    """Return the transients per second after each stage."""
    ppm = np.asarray(model.config["grid"]["ppm"])
    sd = np.full(N_REAL, NOISE)
    scan = Scan(np.zeros((2, 1, 1, POINTS), complex), FREQUENCY_MHZ, DWELL_S, conditions=("OFF", "ON"))
    best = dict.fromkeys(STAGES, np.inf)
    for repeat in range(repeats + 1):
        rng = np.random.default_rng(repeat)
        times = [time.perf_counter()]
        spectra, scale = model.synthesise(mode, real, sd, batch, rng)
        times.append(time.perf_counter())
        fids = from_window(spectra, ppm, POINTS, DWELL_S, FREQUENCY_MHZ)
        times.append(time.perf_counter())
        inside, outside = np.full((2, 1), model.noise_sd(NOISE, scale)), np.full((2, 1), NOISE / np.sqrt(POINTS))
        fids = fids + synthesise.noise_fids((2, batch), scan, (ppm[0], ppm[-1]), inside, outside, rng)
        times.append(time.perf_counter())
        write_scan(path, scan.with_fids(fids[:, :, None], dimensions=("DIM_DYN", "DIM_EDIT")))
        times.append(time.perf_counter())
        if repeat:  # the first call warms up
            best = {stage: min(best[stage], t - times[0]) for stage, t in zip(STAGES, times[1:], strict=True)}
    return {stage: 2 * batch / seconds for stage, seconds in best.items()}


def main() -> None:
    """Train, measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--batch", type=int, default=38, help="pairs made at once; default: %(default)s, as in the demo"
    )
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "synthesis.json")
    a = parser.parse_args()
    result: dict = {"processor": processor(), "batch": a.batch, "points": POINTS, "transients_per_s": {}}
    with tempfile.TemporaryDirectory() as name:
        folders = train_models(Path(name))
        data = training_set.TrainingSet(Path(name) / "training")
        rows = data.rows("test").reshape(-1, 2, 80)[0, :, :N_REAL]  # of the first test subject, OFF and ON
        real = np.asarray(data.spectra[rows], complex)
        print(f"\n{'transients per second':24s}" + "".join(f"{stage:>12s}" for stage in STAGES))
        for kind, folder in folders.items():
            model = generator.load(folder, SITE)
            for mode in generator.MODES:
                rates = measure(model, mode, real, a.batch, a.repeats, Path(name) / "synthetic.nii.gz")
                result["transients_per_s"].setdefault(kind, {})[mode] = rates
                print(f"{kind + ' ' + mode:24s}" + "".join(f"{rates[stage]:12.0f}" for stage in STAGES), flush=True)
    rates = result["transients_per_s"]
    result["ratio_of_decoding_subject_to_paper"] = {
        mode: rates["subject"][mode]["decode"] / rates["paper"][mode]["decode"] for mode in generator.MODES
    }
    result["load_average"] = os.getloadavg()[0]
    write_json(a.output, result)


if __name__ == "__main__":
    main()
