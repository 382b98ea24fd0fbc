"""Time per FID of water removal, and how far the result is from a converged one.

Run: ``PYTHONPATH=workflow OMP_NUM_THREADS=1 python tests/benchmarks/bench_hlsvd.py``. Not a test.
"""

from __future__ import annotations

import time

import numpy as np

from mrs_synthesis import hlsvd
from mrs_synthesis.seeds import generator

MHZ, DWELL, TRANSIENTS = 127.7, 5e-4, 32
BAND = (-0.3 * MHZ, 0.3 * MHZ)
LINES = [
    (4.66, 100, 9),
    (4.72, 30, 25),
    (2.01, 10, 6),
    (2.3, 3, 9),
    (3.03, 7, 6),
    (3.2, 5, 6),
    (3.75, 4, 8),
    (0.9, 3, 25),
]


def transients(n_points: int) -> np.ndarray:
    """Return FIDs with water of varying phase, metabolites, and noise of SD 1 in each part."""
    rng = generator(1, "bench_hlsvd", n_points)
    t = np.arange(n_points) * DWELL
    lines = np.stack([a * np.exp(2j * np.pi * (p - 4.65) * MHZ * t - np.pi * width * t) for p, a, width in LINES])
    turn = np.exp(1j * rng.uniform(-np.pi, np.pi, (TRANSIENTS, 1)))
    noise = rng.normal(size=(TRANSIENTS, n_points)) + 1j * rng.normal(size=(TRANSIENTS, n_points))
    return turn * lines[:2].sum(axis=0) + lines[2:].sum(axis=0) + noise


def main() -> None:
    """Print one row per length of FID."""
    print("points  ms_per_fid  rms_to_converged (noise SDs)")
    for n_points in (1024, 2048, 4096):
        fids = transients(n_points)
        start = time.process_time()
        found = hlsvd.water_signal(fids, DWELL, BAND)
        spent = (time.process_time() - start) / TRANSIENTS
        steps, hlsvd.N_STEPS = hlsvd.N_STEPS, 160
        converged = hlsvd.water_signal(fids[:8], DWELL, BAND)
        hlsvd.N_STEPS = steps
        rms = np.sqrt(np.mean(np.abs(found[:8] - converged) ** 2) / 2)
        print(f"{n_points:6d}  {1e3 * spent:10.1f}  {rms:.2g}")


if __name__ == "__main__":
    main()
