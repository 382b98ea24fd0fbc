"""Memory and CPU of the stage quantify for a study of any size, files included.

    python tests/benchmarks/bench_quantify.py --spectra 100000 --engine nothing

writes a gzipped NIfTI-MRS file of simulated-like spectra (20 metabolites, 2048 points) and runs the stage on it in a
process of its own. The engine `nothing` imports torch and returns arrays of the right size without fitting: it shows
what all the rest needs.
"""

import argparse
import gzip
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "workflow"), str(ROOT / "tests" / "unit")]

import nibabel as nib  # noqa: E402
import numpy as np  # noqa: E402
from analytic_basis import MHZ, analytic_basis  # noqa: E402

from mrs_synthesis import basis as basis_sets  # noqa: E402
from mrs_synthesis.scans import Scan, write_scan  # noqa: E402

N, DWELL, BLOCK = 2048, 5e-4, 1000
STAGE = """
import sys, numpy as np
from mrs_synthesis import fitting, quantify

class Nothing:
    def __init__(self, task):
        import torch
        self.task, self.ppm = task, task.model().ppm
    def __enter__(self):
        return self
    def __exit__(self, *_):
        pass
    def fit(self, fids, cells):
        answer = fitting.missing(self.task, self.ppm, len(fids))
        answer.raw[:], answer.covariance[:] = 1.0, np.eye(answer.raw.shape[1])
        answer.data[:] = answer.fit[:] = answer.baseline[:] = fids[:, : self.ppm.size]
        answer.snr[:], answer.fwhm_hz[:], answer.converged[:] = 20.0, 6.0, True
        return answer

if sys.argv.pop(1) == "nothing":
    quantify.make_engine = lambda name, task, *_: Nothing(task)
quantify.main(sys.argv[1:])
"""


def lines(n=20):
    """Return a basis of `n` metabolites of three lines each, with the singlets that positions are checked by."""
    known = {"Cr": [(3.027, 3), (3.913, 2)], "NAA": [(2.008, 3), (2.6, 1.5)], "GPC": [(3.2, 9)]}
    places = np.random.default_rng(1).uniform(1.0, 4.1, (n - len(known), 3))
    return known | {f"M{i:02d}": [(float(p), 1.0) for p in row] for i, row in enumerate(places)}


def write_study(folder, spectra):
    """Write a basis set and a gzipped scan of `spectra` cells, block by block."""
    basis = analytic_basis(lines())
    basis_sets.write_json_folder(folder / "set" / "UNEDITED", basis)
    t = np.arange(N) * DWELL
    amplitudes = np.array([8.0, 10.0, 1.2, *[2.0] * (len(basis.names) - 3)])
    clean = amplitudes @ basis.fids * np.exp(-(8 + 100 * t) * t)
    write_scan(folder / "one.nii", Scan(clean[None, None, None], MHZ, DWELL, {}))
    header = nib.load(folder / "one.nii").header
    header.set_data_shape((1, 1, 1, N, spectra))
    header["vox_offset"] = 0
    random = np.random.default_rng(2)
    noise = random.normal(size=(BLOCK, 2 * N)).astype(np.float32).view(np.complex64)
    with gzip.open(folder / "cells.nii.gz", "wb", compresslevel=1) as stream:
        header.write_to(stream)
        for start in range(0, spectra, BLOCK):
            block = clean + 0.4 * np.roll(noise, random.integers(N), axis=1)
            stream.write(np.conj(block[: min(BLOCK, spectra - start)]).astype(np.complex64).tobytes())


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--spectra", type=int, default=20_000)
    parser.add_argument("--engine", choices=("batched", "nothing"), default="batched")
    parser.add_argument("--folder", type=Path, help="where to work; default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        write_study(folder, args.spectra)
        words = ["--unit", "x", "--cells", folder / "cells.nii.gz", "--basis", folder / "set", "--device", "cpu"]
        words += ["--conditions", "UNEDITED", "--output", folder / "fit.tsv", "--curves", folder / "fit.npz"]
        begin = time.monotonic()
        call = [sys.executable, "-c", STAGE, args.engine, *map(str, words)]
        subprocess.run(call, check=True, env={"PYTHONPATH": str(ROOT / "workflow"), "OMP_NUM_THREADS": "1"})
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        sizes = {
            path.name: f"{path.stat().st_size / 1e6:.0f} MB" for path in sorted(folder.iterdir()) if path.is_file()
        }
        print(
            f"{args.spectra} spectra, engine {args.engine}: peak resident memory {used.ru_maxrss / 1024:.0f} MiB, "
            f"{used.ru_utime + used.ru_stime:.1f} s CPU, {time.monotonic() - begin:.0f} s; {sizes}"
        )


if __name__ == "__main__":
    main()
