"""CPU of preprocessing one edited scan with both engines, in one run: 2 x 160 transients x 4 coils x 2048 points.

Run: ``PYTHONPATH=workflow python tests/benchmarks/bench_preprocess.py``; FSL-MRS's commands must be on PATH for its
engine. Not a test.

Each engine has a process of its own, one thread, and does all steps that the workflow does: coil combination,
alignment, rejection, eddy-current correction, HLSVD, shift, phase, alignment of the conditions. Imports and the making
of the data (the digital phantom) are not counted. FSL-MRS gets its best settings: malloc thresholds that spare it page
faults, and the sparse decomposition of HLSVD; what its commands use, the dense one, is timed on a few transients and
extrapolated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

ENGINES = ("batched", "fsl-mrs")
STEPS = {
    "batched": {
        "noise of coils": "coils.noise_covariance",
        "coil combination": "_combine",
        "eddy currents": "eddy_phase",
        "alignment of transients": "alignment.align",
        "rejection": "alignment.unlike",
        "water": "hlsvd.water_signal",
        "shift and phase": "_reference",
        "alignment of conditions": "edit_alignment.match_edited",
    },
    "fsl-mrs": {
        "coil combination": "_combine",
        "alignment": "_align",
        "water": "_without_water",
    },
}
DENSE_SAMPLE = 4
ROOT = Path(__file__).resolve().parents[2]


def data(n_transients: int, seed: int) -> tuple[np.ndarray, np.ndarray, float, float]:
    """Return a phantom's scan (2, transients, 4, 2048), its water reference, the frequency (MHz) and the dwell (s)."""
    from mrs_synthesis import phantom, phantom_signal
    from mrs_synthesis.alignment_study import phantom_bases, phantom_basis_sets

    site = phantom.SITES["siemens"]
    fids, reference, _, _ = phantom.make_subject(
        "bench", site, phantom_bases(phantom_basis_sets(site.frequency_mhz)), seed, n_transients, snr=15.0
    )
    return fids, reference, site.frequency_mhz, phantom_signal.DWELL_S


def timed(module: object, name: str, spent: dict[str, float], label: str) -> None:
    """Make a function add the CPU seconds it takes to `spent`."""
    *path, last = name.split(".")
    for part in path:
        module = getattr(module, part)
    function: Callable = getattr(module, last)

    def wrapped(*args: object, **kwargs: object) -> object:
        start = time.process_time()
        try:
            return function(*args, **kwargs)
        finally:
            spent[label] = spent.get(label, 0.0) + time.process_time() - start

    setattr(module, last, wrapped)


def work(engine: str, path: Path, repeats: int) -> dict:
    """Preprocess the scan in this process and return CPU seconds, of all and of each step."""
    from mrs_synthesis import preprocess_batched
    from mrs_synthesis.scans import Scan

    if engine == "fsl-mrs":
        from fsl_mrs.utils import preproc
        from fsl_mrs.utils.preproc import combine  # noqa: F401

        from mrs_synthesis import preprocess_fsl as module
    else:
        module = preprocess_batched
    with np.load(path, allow_pickle=False) as stored:
        dwell, frequency = float(stored["dwell_s"]), float(stored["frequency_mhz"])
        scan = Scan(stored["fids"], frequency, dwell, conditions=("OFF", "ON"))
        water = Scan(stored["reference"][None], frequency, dwell)
    spent: dict[str, float] = {}
    for label, name in STEPS[engine].items():
        timed(module, name, spent, label)
    runs = []
    for _ in range(repeats):
        spent.clear()
        start = time.process_time()
        done = module.process(scan, water, preprocess_batched.Options())
        runs.append((time.process_time() - start, dict(spent)))
    total, steps = min(runs, key=lambda run: run[0])
    result = {"cpu_s": total, "steps_cpu_s": steps, "kept": int(np.all(done.reason == "", axis=0).sum())}
    if engine == "fsl-mrs":
        start = time.process_time()
        for fid in scan.fids[0, :DENSE_SAMPLE, 0]:
            preproc.hlsvd(fid, dwell, frequency, [-0.3, 0.3], numSingularValues=20)
        dense = (time.process_time() - start) / DENSE_SAMPLE
        result["cpu_s_with_dense_hlsvd"] = total - steps["water"] + dense * scan.fids.shape[0] * scan.fids.shape[1]
    return result


def start(engine: str, path: Path, repeats: int) -> dict | None:
    """Run `work` in a process of its own; None where FSL-MRS is not installed."""
    from mrs_synthesis import fslmrs

    interpreter = Path(sys.executable) if engine == "batched" else fslmrs.find_interpreter()
    if interpreter is None:
        return None
    environment = os.environ | fslmrs.ENVIRONMENT | {"PYTHONPATH": str(ROOT / "workflow")}
    call = [interpreter, __file__, "--worker", engine, "--data", path, "--repeats", str(repeats)]
    done = subprocess.run(list(map(str, call)), env=environment, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Time the engines and print and write the ratio."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--transients", type=int, default=160, help="per edit condition; default: %(default)s")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3, help="of engine batched; the quickest counts")
    parser.add_argument("--output", type=Path, default=ROOT / "results" / "benchmarks" / "preprocess.json")
    parser.add_argument("--worker", choices=ENGINES, help=argparse.SUPPRESS)
    parser.add_argument("--data", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.worker:
        print(json.dumps(work(args.worker, args.data, args.repeats)))
        return
    from mrs_synthesis.files import write_json

    result: dict = {"transients": 2 * args.transients, "coils": 4, "points": 2048}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "data.npz"
        fids, reference, frequency, dwell = data(args.transients, args.seed)
        np.savez(path, fids=fids, reference=reference, frequency_mhz=frequency, dwell_s=dwell)
        for engine in ENGINES:
            found = start(engine, path, args.repeats if engine == "batched" else 1)
            if found is None:
                print("FSL-MRS: not on PATH, left out", flush=True)
                continue
            result[engine] = found
            print(f"{engine}: {found['cpu_s']:.2f} s of CPU, {found['kept']} pairs kept", flush=True)
            for label, seconds in found["steps_cpu_s"].items():
                print(f"    {label:25s} {seconds:8.3f}", flush=True)
    if "fsl-mrs" in result:
        ours, theirs = result["batched"]["cpu_s"], result["fsl-mrs"]
        result["ratio"] = theirs["cpu_s"] / ours
        result["ratio_with_dense_hlsvd"] = theirs["cpu_s_with_dense_hlsvd"] / ours
        print(f"FSL-MRS with sparse HLSVD needs {result['ratio']:.1f} times the CPU; ", end="")
        print(f"with the dense one of its commands {result['ratio_with_dense_hlsvd']:.0f} times")
    write_json(args.output, result)


if __name__ == "__main__":
    main()
