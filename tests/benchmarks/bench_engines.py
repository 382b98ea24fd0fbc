"""CPU per fitted spectrum of FSL-MRS and of the batched engine, in one run on one machine.

Run: ``PYTHONPATH=workflow python tests/benchmarks/bench_engines.py`` with FSL-MRS's `fsl_mrs` on PATH and
``../shared/data/fslmrs-reference`` beside the project. Prints a table and writes a JSON file. Not a test.

Data: the noise-free signals of the 30 PRESS spectra in that folder (from their true parameters: 20 metabolites, five
macromolecules with shapes of their own, baseline, phases), again and again with fresh noise of the folder's five levels
in turn; 2048 points, 2000 Hz, 127.7 MHz, fitted over 0.2 to 4.2 ppm. The same spectra are fitted in four ways: 20
metabolites in one group or 20 and 5 macromolecules in six groups, polynomial of order 2 or moderate spline. With 20
metabolites the macromolecules are thus left to the baseline, which is hard on a polynomial; two more cases
(``--cases``) have data without macromolecules, where the model is right.

Measured is CPU (user and system) of one process with one thread for each engine:

- batched: `quantify.BatchedEngine` on all spectra: making the model, fits, covariance, SNR and FWHM, curves.
- FSL-MRS, plain: `fit_FSLModel` on the first few spectra (it needs seconds for each): start point, optimisation,
  covariance, SNR and FWHM, nothing else. The ratio that counts is to this one.
- FSL-MRS, cached: what `quantify_fsl` does for each of those, from FID to results, with the basis resampled once.

Both engines get their best settings: no threads; for FSL-MRS also the malloc thresholds that spare it page faults
(`fslmrs.ENVIRONMENT`). Not measured: imports (2 s for FSL-MRS), starting processes, reading and writing files, the
first fit in a process. Mean CPU is compared, since a study's cost is the sum; FSL-MRS's varies by a factor of 2 or 3
from spectrum to spectrum, so that a handful gives its mean to some 20 %. Other load on the machine adds to both: run it
on a quiet one; the file says how busy it was. For the spectra that both fitted, the ratio of objectives (batched over
FSL-MRS) is given: at most 1 + 1e-6 where the batched fit is as good, far below 1 where FSL-MRS ended in a worse one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT.parent / "shared" / "data" / "fslmrs-reference"
MACROMOLECULES = ("MM09", "MM12", "MM14", "MM17", "MM21")
MHZ, DWELL, N = 127.728, 5e-4, 2048
CASES = {  # name: basis, baseline, macromolecules in the data
    "1group-poly2": ("basis_press30", "poly, 2", True),
    "6groups-poly2": ("basis_press30_mm", "poly, 2", True),
    "1group-spline": ("basis_press30", "spline, moderate", True),
    "6groups-spline": ("basis_press30_mm", "spline, moderate", True),
    "1group-poly2-nomm": ("basis_press30", "poly, 2", False),
    "1group-spline-nomm": ("basis_press30", "spline, moderate", False),
}
USUAL = list(CASES)[:4]
THREADS = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def make_task(data: Path, case: str):
    """Return the `fitting.Task` of a case."""
    from mrs_synthesis import basis as basis_sets
    from mrs_synthesis import fitting, lcm_model

    folder, baseline, _ = CASES[case]
    basis = basis_sets.read_json_folder(data / folder)
    groups = [MACROMOLECULES.index(name) + 1 if name in MACROMOLECULES else 0 for name in basis.names]
    return fitting.Task("UNEDITED", N, DWELL, MHZ, basis, groups, lcm_model.Options(baseline=baseline))


def clean_signals(data: Path, macromolecules: bool) -> tuple[np.ndarray, np.ndarray]:
    """Return the noise-free FIDs (30, N) and the noise's SD (30,) in real and imaginary part, noise levels in turn."""
    import pandas as pd

    model = make_task(data, "6groups-poly2").model()
    truth = json.loads((data / "press" / "true_parameters.json").read_text())
    concentrations = pd.read_csv(data / "press" / "true_concentrations.csv", index_col="id")
    t, nu = model.time_s, np.linspace(-0.5 / DWELL, 0.5 / DWELL, N)
    x = np.linspace(-1, 1, model.last - model.first)
    shapes = np.stack([x**0, x, x**2 - np.mean(x**2)])
    fids, noise = [], []
    for spectrum in sorted(truth, key=lambda name: (name[-1], name)):
        p = truth[spectrum]
        gamma, sigma, eps = (np.array(p[name])[model.groups, None] for name in ("gamma", "sigma", "eps"))
        amplitudes = concentrations.loc[spectrum, model.names].to_numpy(float)
        if not macromolecules:
            amplitudes[np.isin(model.names, MACROMOLECULES)] = 0
        fid = amplitudes @ (model.basis * np.exp(-(1j * eps + gamma + t * sigma**2) * t))
        fid[0] /= 2
        full = np.fft.fftshift(np.fft.fft(fid, norm="ortho")) * np.exp(-1j * (p["phi0"] + p["phi1"] * nu))
        coefficients = np.array(p["baseline"])
        full[model.first : model.last] += (coefficients[::2] + 1j * coefficients[1::2]) @ shapes
        fid = np.fft.ifft(np.fft.ifftshift(full), norm="ortho")
        fid[0] *= 2
        fids.append(fid)
        noise.append(p["noise_sd"])
    return np.array(fids), np.array(noise)


def make_spectra(data: Path, count: int, seed: int, macromolecules: bool) -> np.ndarray:
    """Return FIDs (count, N) in single precision, as files have them."""
    from mrs_synthesis.seeds import generator

    clean, sd = clean_signals(data, macromolecules)
    which = np.arange(count) % len(clean)
    noise = generator(seed, "bench_engines").normal(size=(count, N, 2)) @ (1, 1j)  # the first few whatever the count
    return (clean[which] + sd[which, None] * noise).astype(np.complex64)


def batched_side(args: argparse.Namespace, fids: np.ndarray) -> dict:
    """Fit all spectra, in this process."""
    import resource

    import torch

    from mrs_synthesis import quantify

    torch.set_num_threads(1)
    fids = fids.astype(complex)
    task = make_task(args.data, args.case)
    quantify.BatchedEngine(task, "cpu").fit(fids[:2])  # whatever is loaded at a first use
    begin = time.process_time()
    engine = quantify.BatchedEngine(task, "cpu")
    ready = time.process_time()
    fitted = engine.fit(fids)
    end = time.process_time()
    return {
        "setup_s": ready - begin,
        "per_spectrum_s": (end - begin) / len(fids),
        "converged": float(np.mean(fitted.converged)),
        "peak_memory_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "objective": fitted.objective[: args.fits].tolist(),
        "torch": torch.__version__,
    }


def fsl_side(args: argparse.Namespace, fids: np.ndarray) -> dict:
    """Fit the first spectra, in this process: FSL-MRS's."""
    import fsl_mrs

    from mrs_synthesis import quantify_fsl

    task = make_task(args.data, args.case)
    plain, cached = quantify_fsl.Fitter(task, cache_basis=False), quantify_fsl.Fitter(task)
    mrs = cached.spectrum(fids[0])
    cached.fitting.fit_FSLModel(mrs, **cached.options | {"method": "init"})  # whatever is loaded at a first use
    plain_s, cached_s, objective = [], [], []
    for fid in fids[: args.fits]:
        mrs = plain.spectrum(fid)
        begin = time.process_time()
        _, verdict = plain.minimise(mrs)
        middle = time.process_time()
        answer = cached.fit(fid)
        end = time.process_time()
        plain_s.append(middle - begin)
        cached_s.append(end - middle)
        objective.append(float(verdict.fun))
        if answer["objective"] != objective[-1]:
            raise RuntimeError(f"{args.case}: the cached basis changes FSL-MRS's result")
        print(f"  {args.case}: FSL-MRS {len(plain_s)} of {args.fits}: {plain_s[-1]:.2f} s", flush=True)
    return {"plain_s": plain_s, "cached_s": cached_s, "objective": objective, "fsl_mrs": fsl_mrs.__version__}


SIDES = {"batched": batched_side, "fsl-mrs": fsl_side}


def run_side(side: str, case: str, fits: int, args: argparse.Namespace, folder: Path) -> dict:
    """Run one engine on one case in a process of its own and return what it measured."""
    from mrs_synthesis import fslmrs

    interpreter = sys.executable if side == "batched" else fslmrs.find_interpreter()
    environment = os.environ | (THREADS if side == "batched" else fslmrs.ENVIRONMENT)
    environment["PYTHONPATH"] = str(ROOT / "workflow")
    command = [interpreter, __file__, "--side", side, "--case", case, "--data", args.data, "--fits", fits]
    command += ["--work", folder]
    subprocess.run(list(map(str, command)), env=environment, check=True)
    return json.loads((folder / f"{side}.json").read_text())


def compare(args: argparse.Namespace) -> dict:
    """Run both engines on all cases; return the JSON file's content."""
    from mrs_synthesis import fslmrs

    if fslmrs.find_interpreter() is None:
        raise SystemExit("no `fsl_mrs` on PATH; " + fslmrs.HOW_TO_GET_IT)
    results = {}
    load = [os.getloadavg()[0]]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for case in args.cases:
            np.save(folder / "fids.npy", make_spectra(args.data, args.spectra, args.seed, CASES[case][2]))
            fits = args.fsl_spline if "spline" in case else args.fsl
            batched = run_side("batched", case, fits, args, folder)
            fsl = run_side("fsl-mrs", case, fits, args, folder)
            ratios = np.array(batched["objective"]) / np.array(fsl["objective"])
            results[case] = {
                "batched": batched,
                "fsl_mrs": fsl,
                "ratio": float(np.mean(fsl["plain_s"]) / batched["per_spectrum_s"]),
                "ratio_of_median": float(np.median(fsl["plain_s"]) / batched["per_spectrum_s"]),
                "ratio_cached": float(np.mean(fsl["cached_s"]) / batched["per_spectrum_s"]),
                "objective_ratios": ratios.tolist(),
            }
            load.append(os.getloadavg()[0])
    facts = {"spectra": args.spectra, "seed": args.seed, "processor": processor(), "cores": os.cpu_count()}
    return facts | {"load_average": load, "python": platform.python_version(), "cases": results}


def processor() -> str:
    """Return the processor's name."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def print_table(content: dict) -> None:
    """Print one row per case."""
    load = max(content["load_average"])
    print(f"\n{content['spectra']} spectra, {content['processor']}, load average up to {load:.1f}")
    print("CPU s per spectrum; n: fits of FSL-MRS; objective: batched / FSL-MRS")
    head = ("case", "batched", "plain (range)", "cached", "n", "ratio", "objective (range)", "converged", "GB")
    formats = "{:22s} {:>9s} {:>22s} {:>7s} {:>3s} {:>7s} {:>25s} {:>9s} {:>5s}"
    print(formats.format(*head))
    for case, result in content["cases"].items():
        plain, ratios, batched = result["fsl_mrs"]["plain_s"], result["objective_ratios"], result["batched"]
        row = [case, f"{batched['per_spectrum_s']:.5f}"]
        row += [f"{np.mean(plain):.2f} ({min(plain):.2f} to {max(plain):.2f})"]
        row += [f"{np.mean(result['fsl_mrs']['cached_s']):.2f}", str(len(plain)), f"{result['ratio']:.0f}"]
        row += [f"1{min(ratios) - 1:+.1e} to 1{max(ratios) - 1:+.1e}"]
        row += [f"{batched['converged']:.3f}", f"{batched['peak_memory_gb']:.2f}"]
        print(formats.format(*row), flush=True)


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description="CPU per spectrum of both fitting engines.")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder fslmrs-reference")
    parser.add_argument("--spectra", type=int, default=1000, help="for the batched engine; default: %(default)s")
    parser.add_argument("--fsl", type=int, default=6, metavar="N", help="fits of FSL-MRS with polynomials")
    parser.add_argument("--fsl-spline", type=int, default=3, metavar="N", help="fits of FSL-MRS with splines")
    help_cases = f"of {', '.join(CASES)}; default: the first four"
    parser.add_argument("--cases", nargs="+", choices=CASES, metavar="CASE", default=USUAL, help=help_cases)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "engines.json")
    for name in ("--side", "--case", "--work", "--fits"):  # one engine's process
        parser.add_argument(name, help=argparse.SUPPRESS, type={"--work": Path, "--fits": int}.get(name, str))
    args = parser.parse_args()
    if args.side:
        measured = SIDES[args.side](args, np.load(args.work / "fids.npy"))
        (args.work / f"{args.side}.json").write_text(json.dumps(measured))
        return
    content = compare(args)
    print_table(content)
    args.output.parent.mkdir(parents=True, exist_ok=True)
    args.output.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
