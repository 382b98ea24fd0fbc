"""Cost of a training step on made-up MEGA-PRESS-like spectra: python tests/benchmarks/bench_train.py.

Milliseconds per step (encoding, decoding, gradient, Adam) of the default network, by batch size, in full and in mixed
precision (``--amp``), on one process and on several, each with one thread; on GPUs with ``--device cuda``. The median
over the steps, written with its ratios to full precision on one process to a JSON file. More processes than free cores
or GPUs make a step slower: read the load average beside it.

With ``--whole`` instead a training from beginning to end, of which options after ``--`` go to `mrs_synthesis.train`:
seconds, and how well held-out subjects are reconstructed: the error of the reconstruction against the noise-free
spectrum, as a share of the noise that was added. Not a test.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

from bench_engines import processor

from mrs_synthesis import processes, spectra, train, training_set
from mrs_synthesis.files import write_json, write_table
from mrs_synthesis.processes import Group

ROOT = Path(__file__).resolve().parents[2]
WARM_UP = 3  # steps that are not counted
FREQUENCY_MHZ, DWELL_S, POINTS, WIDTH = 127.74, 5e-4, 2048, 576
# ppm, mean amplitude, between-subject CV, and sign in OFF and ON
PEAKS = (
    (2.01, 10.0, 0.08, 1, 0),
    (2.03, 2.0, 0.2, 1, 0),
    (3.03, 7.0, 0.08, 1, 1),
    (3.92, 5.0, 0.08, 1, 1),
    (3.21, 6.0, 0.12, 1, 1),
    (3.56, 4.0, 0.15, 1, 1),
    (2.35, 3.0, 0.12, 1, 1),
    (3.75, 3.0, 0.12, 1, 1.3),
    (2.95, 0.5, 0.15, 0.5, 1.5),
    (3.06, 0.5, 0.15, 0.5, 1.5),
)


def make_training_set(folder: Path, subjects: int, transients: int, noise: float, seed: int = 1) -> np.ndarray:
    """Write a training set (60/20/20 by subject); return its noise-free spectra."""
    import pandas as pd

    rng = np.random.default_rng(seed)
    ppm = spectra.ppm_axis(POINTS, DWELL_S, FREQUENCY_MHZ)
    start = int(np.searchsorted(ppm, 0.0))
    t = spectra.time_axis(POINTS, DWELL_S)
    clean, rows = [], []
    n_train, n_validation = round(0.6 * subjects), max(1, round(0.2 * subjects))
    for s in range(subjects):
        split = "train" if s < n_train else "validation" if s < n_train + n_validation else "test"
        amplitudes = [a * (1 + cv * rng.standard_normal()) for _, a, cv, _, _ in PEAKS]
        width = rng.uniform(4, 8)
        shifts, phases = rng.normal(0, 1.0, (2, transients)), rng.normal(0, 0.05, (2, transients))
        for c, condition in enumerate(("OFF", "ON")):
            fid = np.zeros((transients, POINTS), complex)
            for (position, *_, off, on), amplitude in zip(PEAKS, amplitudes, strict=True):
                f = (position - spectra.WATER_PPM) * FREQUENCY_MHZ
                fid += (off, on)[c] * amplitude * np.exp((2j * np.pi * f - np.pi * width) * t)
            fid = spectra.shift_and_phase(fid, DWELL_S, shifts[c], phases[c])
            water = rng.normal(0, 8, (transients, 2)) @ np.array([1, 1j])
            fid += water[:, None] * np.exp(-np.pi * 10 * t)
            values = spectra.to_spectrum(fid)[:, start : start + WIDTH]
            if c == 0:
                scale = np.abs(values.mean(0)).max()
            clean.append(values / scale)
            for k in range(transients):
                rows.append((len(rows), f"sub-{s:02d}_acq-x", f"{s:02d}", "a", condition, k, split, scale, noise))
    clean = np.concatenate(clean)
    noisy = clean + noise * (rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / "spectra.npy", noisy.astype(np.complex64))
    write_table(folder / "index.tsv", pd.DataFrame(rows, columns=training_set.INDEX_COLUMNS))
    grid = {
        "ppm": ppm[start : start + WIDTH].tolist(),
        "frequency_mhz": FREQUENCY_MHZ,
        "dwell_s": DWELL_S,
        "n_points": POINTS,
        "conditions": ["OFF", "ON"],
        "split_unit": "subject",
        "window_ppm": [0.0, 4.4],
    }
    write_json(folder / "grid.json", grid)
    return clean


def time_steps(folder: Path, batch_size: int, amp: bool, steps: int, group: Group, device: str) -> float:
    """Return the median ms of a step in this process, one of those that train together."""
    import torch

    from mrs_synthesis import vae, vae_training

    data = training_set.TrainingSet(folder)
    options = vae_training.Options(seed=1, batch_size=batch_size, amp=amp)
    model = vae.SpectrumVAE(WIDTH, 2).to(device)
    vae_training.standardise(model, data, data.rows("train"))
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    ends = []

    def step(reconstruction: torch.Tensor, kl: torch.Tensor, done: int) -> None:
        vae_training.update(model, optimiser, options, 0.5, reconstruction, kl, group)
        if device == "cuda":
            torch.cuda.synchronize()
        ends.append(time.perf_counter())

    rows = np.resize(data.rows("train"), batch_size * (steps + WARM_UP))
    vae_training._epoch(model, data, rows, options, torch.Generator(), device, None, step, group)
    return 1000 * float(np.median(np.diff(ends)[WARM_UP - 1 :]))


def work(a: argparse.Namespace) -> None:
    """Time all batch sizes and precisions in this process; the first of several prints."""
    import torch

    torch.set_num_threads(1)
    with processes.group(a.device) as (group, device):
        rows = [
            {"batch_size": size, "amp": amp, "ms": time_steps(a.worker, size, amp, a.steps, group, device)}
            for size in a.batch_sizes
            for amp in (False, True)
        ]
        print(json.dumps(rows))


def measure(folder: Path, number: int, a: argparse.Namespace) -> list[dict]:
    """Return ms per step of all batch sizes and precisions on `number` processes."""
    words = ["--worker", folder, "--steps", a.steps, "--device", a.device, "--batch-sizes", *a.batch_sizes]
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", number] if number > 1 else []
    environment = os.environ | dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    call = [sys.executable, *map(str, [*start, __file__, *words])]
    lines = subprocess.run(call, env=environment, check=True, stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return json.loads(lines[-1])


def bench_steps(a: argparse.Namespace) -> None:
    """Measure, print and write all."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        make_training_set(Path(name), a.subjects, a.transients, a.noise)
        for number in a.processes:
            found += [row | {"processes": number} for row in measure(Path(name), number, a)]
    plain = {row["batch_size"]: row["ms"] for row in found if row["processes"] == 1 and not row["amp"]}
    load = os.getloadavg()[0]
    print(f"ms per step, {processor()}, {os.cpu_count()} cores, load average {load:.1f}")
    print(f"{'processes':>9s} {'amp':>5s} {'batch':>6s} {'ms/step':>9s} {'spectra/s':>10s} {'ratio':>6s}")
    for row in found:
        row["spectra_per_s"] = 1000 * row["batch_size"] / row["ms"]
        row["ratio"] = row["ms"] / plain[row["batch_size"]] if plain else None
        print(f"{row['processes']:9d} {row['amp']!s:>5s} {row['batch_size']:6d} {row['ms']:9.2f} ", end="")
        print(f"{row['spectra_per_s']:10.0f} {row['ratio'] or np.nan:6.2f}")
    facts = {"processor": processor(), "cores": os.cpu_count(), "load_average": load, "width": WIDTH, "steps": a.steps}
    write_json(a.output, facts | {"device": a.device, "rows": found})


def bench_whole(a: argparse.Namespace) -> None:
    """Make the data, train, report."""
    import torch

    from mrs_synthesis.vae import load_model, to_complex

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clean = make_training_set(folder / "training", a.subjects, a.transients, a.noise)
        begun = time.perf_counter()
        words = ["--training", f"{folder}/training", "--output", f"{folder}/model", "--seed", "1", "--model", "paper"]
        train.main([*words, *a.rest])
        seconds = time.perf_counter() - begun
        model, config = load_model(folder / "model")
        data = training_set.TrainingSet(folder / "training")
        print(f"{seconds:.1f} s for {config['training']['epochs_run']} epochs; decoder SD {model.sigma:.4f}")
        for split in ("train", "test"):
            rows = data.rows(split)
            x, condition = next(data.batches(rows, len(rows)))
            with torch.no_grad():
                output = to_complex(model.decode(model.encode(x, condition)[0], condition))
            error = np.sqrt(np.mean(np.abs(output - clean[rows]) ** 2) / 2)
            mean = to_complex(model.mean[condition])
            spread = np.sqrt(np.mean(np.abs(mean - clean[rows]) ** 2) / 2)
            print(f"{split}: error {error:.4f}; error of the population mean {spread:.4f}; noise {a.noise:.4f}")


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=13)
    parser.add_argument("--transients", type=int, default=80)
    parser.add_argument("--noise", type=float, default=0.05, help="SD, as a share of the largest peak")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[32, 64, 128])
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "train.json")
    parser.add_argument("--whole", action="store_true", help="train from beginning to end instead")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("rest", nargs="*", help="options of mrs_synthesis.train, after --")
    a = parser.parse_args()
    if a.worker:
        work(a)
    elif a.whole:
        bench_whole(a)
    else:
        bench_steps(a)


if __name__ == "__main__":
    main()
