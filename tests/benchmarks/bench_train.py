"""Time a training of the demo's size on made-up MEGA-PRESS-like spectra: python tests/benchmarks/bench_train.py.

Options after `--` go to `mrs_synthesis.train`. Prints seconds, and how well held-out subjects are reconstructed: the
error of the reconstruction against the noise-free spectrum, as a share of the noise that was added. Not a test.
"""

import argparse
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "workflow"))

from mrs_synthesis import spectra, train, training_set
from mrs_synthesis.files import write_json, write_table

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


def main() -> None:
    """Make the data, train, report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--subjects", type=int, default=13)
    parser.add_argument("--transients", type=int, default=80)
    parser.add_argument("--noise", type=float, default=0.05, help="SD, as a share of the largest peak")
    parser.add_argument("rest", nargs="*", help="options of mrs_synthesis.train, after --")
    a = parser.parse_args()

    import torch

    from mrs_synthesis.vae import load_model, to_complex

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        clean = make_training_set(folder / "training", a.subjects, a.transients, a.noise)
        begun = time.perf_counter()
        train.main(["--training", f"{folder}/training", "--output", f"{folder}/model", "--seed", "1", *a.rest])
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


if __name__ == "__main__":
    main()
