"""Time of 500 fits: ``PYTHONPATH=workflow python tests/benchmarks/bench_lcm.py``.

Prints seconds of wall time and of CPU for analytic bases of 26 metabolites, one or six line-shape groups, 523 points,
at two noise levels (averaged and single transients). ``--device cuda`` uses a GPU. Not a test.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch

from mrs_synthesis import lcm, lcm_model
from mrs_synthesis.basis import Basis
from mrs_synthesis.seeds import generator

MHZ, DWELL, N = 127.7, 5e-4, 2048
BROAD_PPM = (0.9, 1.2, 1.4, 1.7, 2.08)


def random_basis(n_metabolites: int) -> Basis:
    """Return metabolites of 2 to 5 random lines between 1 and 4.2 ppm, and five broad resonances."""
    rng = generator(1, "bench_lcm", "basis")
    t = np.arange(N) * DWELL
    fids = []
    for _ in range(n_metabolites - len(BROAD_PPM)):
        lines = zip(rng.uniform(1, 4.2, rng.integers(2, 6)), rng.uniform(0.5, 3, 5), strict=False)
        fids.append(sum(a * np.exp(2j * np.pi * (ppm - 4.65) * MHZ * t) for ppm, a in lines) * np.exp(-6 * t))
    fids += [3 * np.exp(2j * np.pi * (ppm - 4.65) * MHZ * t - 50 * t - (20 * t) ** 2) for ppm in BROAD_PPM]
    return Basis([f"M{i}" for i in range(n_metabolites)], np.array(fids), DWELL, MHZ)


def main() -> None:
    """Print one row per case."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spectra", type=int, default=500)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    basis = random_basis(26)
    rng = generator(1, "bench_lcm", "data")
    t = np.arange(1, N + 1) * DWELL
    c = rng.uniform(0.5, 8, (args.spectra, 26))
    clean = (c @ basis.fids) * np.exp(-(8 + 100 * t) * t)
    noise = rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape)
    print(f"{args.spectra} spectra, {args.device}, {torch.get_num_threads()} threads")
    print("groups  noise  wall_s  cpu_s  iterations  converged")
    for n_groups in (1, 6):
        groups = [0] * 21 + (list(range(1, 6)) if n_groups == 6 else [0] * 5)
        model = lcm_model.build(basis, N, DWELL, MHZ, groups=groups)
        for sd in (0.5, 4.0):
            wall, cpu = time.perf_counter(), time.process_time()
            result = lcm.fit(clean + sd * noise, model, device=args.device)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            share = f"{result.converged.mean():9.3f}"
            print(
                f"{n_groups:6d} {sd:6.1f} {wall:7.1f} {cpu:6.1f} {result.iterations.mean():11.1f}  {share}", flush=True
            )


if __name__ == "__main__":
    main()
