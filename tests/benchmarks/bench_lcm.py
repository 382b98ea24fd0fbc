"""Where the batched fit's time goes, and how far it is from the processor's arithmetic.

    PYTHONPATH=workflow python tests/benchmarks/bench_lcm.py

Prints, for an analytic basis of 26 metabolites in one or six line-shape groups with a polynomial or a spline baseline
(523 points in the window), milliseconds per spectrum and iterations; beside them the arithmetic that one spectrum needs
at the least (the transforms of the derivatives, their product matrix, the solution of the linear systems, each as often
as there were iterations) at the speed of large matrix products in single precision on this processor; and then the
shares of the parts of the fit, from a profile. ``--device cuda`` uses a GPU (no profile then). Not a test.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats
import time

import numpy as np
import torch

from mrs_synthesis import lcm, lcm_model, lcm_quality
from mrs_synthesis.basis import Basis
from mrs_synthesis.seeds import generator

MHZ, DWELL, N, METABOLITES = 127.7, 5e-4, 2048, 26
BROAD_PPM = (0.9, 1.2, 1.4, 1.7, 2.08)
# Functions whose own time, with that of the library calls in them, makes up a part
PARTS = {
    "transforms": ("fft_fft",),
    "derivatives": ("jacobian",),
    "line shapes": ("decay", "turn", "phase"),
    "product matrices": ("normal_equations",),
    "curvature": ("curvature",),
    "trial spectra": ("signal", "_signal"),
    "bounded steps": ("bounded_quadratic",),
    "bookkeeping of steps": ("minimise",),
    "start points": ("points", "shortlist", "tied", "broad"),
    "covariance": ("_covariance",),
    "SNR and line width": ("per_metabolite", "_block", "peak_fwhm_hz", "noise_points", "_widths_of_highest"),
}


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


def gigaflops() -> float:
    """Return 1e9 operations per second of a large matrix product in single precision."""
    a = torch.randn(1024, 1024)
    a @ a
    begin = time.process_time()
    for _ in range(20):
        a @ a
    return 20 * 2 * 1024**3 / (time.process_time() - begin) / 1e9


def operations(model: lcm_model.Model, iterations: float) -> float:
    """Return the floating-point operations that a spectrum's iterations need at the least."""
    rows = len(model.names) + 2 * model.n_groups
    parameters = len(model.names) + 3 * model.n_groups + 2
    transforms = rows * 5 * model.n_points * np.log2(model.n_points)
    product = 2 * parameters**2 * 2 * (model.last - model.first)
    return iterations * (transforms + product + parameters**3 / 3)


def shares(profile: cProfile.Profile) -> dict[str, float]:
    """Return the share of each of `PARTS` in the time of a profile; a built-in counts for its caller."""
    of_part = {name: part for part, names in PARTS.items() for name in names}
    total, found = 0.0, dict.fromkeys([*PARTS, "other"], 0.0)
    for (file, _, name), (_, _, own, _, callers) in pstats.Stats(profile).stats.items():
        total += own
        if "fft_fft" in name:
            found["transforms"] += own
        elif file == "~":
            for (_, _, caller), (_, _, part, _) in callers.items():
                found[of_part.get(caller, "other")] += part
        else:
            found[of_part.get(name, "other")] += own
    return {part: seconds / total for part, seconds in found.items()}


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spectra", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    torch.set_num_threads(1)
    basis = random_basis(METABOLITES)
    rng = generator(1, "bench_lcm", "data")
    t = np.arange(1, N + 1) * DWELL
    c = rng.uniform(0.5, 8, (args.spectra, METABOLITES))
    clean = (c @ basis.fids) * np.exp(-(8 + 100 * t) * t)
    fids = clean + 2.0 * (rng.normal(size=clean.shape) + 1j * rng.normal(size=clean.shape))
    speed = gigaflops()
    print(f"{args.spectra} spectra, {args.device}, one thread; matrix products: {speed:.0f} GFlop/s")
    print("groups  baseline          ms  iterations  converged  arithmetic alone, ms  share")
    profiles = {}
    for n_groups in (1, 6):
        groups = [0] * 21 + (list(range(1, 6)) if n_groups == 6 else [0] * 5)
        for baseline in ("poly, 2", "spline, moderate"):
            options = lcm_model.Options(baseline=baseline)
            fitter = lcm.Fitter(lcm_model.build(basis, N, DWELL, MHZ, groups=groups, options=options), args.device)
            fitter.fit(fids[:8])
            profile = cProfile.Profile(time.process_time)
            for profiled in (False, True) if args.device == "cpu" else (False,):
                begin = time.perf_counter() if args.device != "cpu" else time.process_time()
                if profiled:
                    profile.enable()
                result = fitter.fit(fids)
                lcm_quality.per_metabolite(fids * result.fid_scale[:, None], fitter.model, result)
                profile.disable()
                if not profiled:
                    now = time.perf_counter() if args.device != "cpu" else time.process_time()
                    each = 1e3 * (now - begin) / args.spectra
            if args.device == "cpu":
                profiles[f"{n_groups} groups, {baseline}"] = shares(profile)
            iterations = result.iterations.mean()
            least = operations(fitter.model, iterations) / speed / 1e6
            print(
                f"{n_groups:6d}  {baseline:16s} {each:6.1f}  {iterations:10.1f}  {result.converged.mean():9.3f}"
                f"  {least:20.2f}  {least / each:5.2f}",
                flush=True,
            )
    for case, parts in profiles.items():
        print(case + ": " + ", ".join(f"{part} {100 * share:.0f} %" for part, share in parts.items() if share > 0.005))


if __name__ == "__main__":
    main()
