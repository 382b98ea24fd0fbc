"""Build one subject's study cells: few real transients filled up with synthetic ones, and null controls.

Every cell becomes one averaged FID per edit condition. `n_real` and `n_total` count transients per edit condition.

| source | mean of |
|---|---|
| reference | the transients that no other cell uses |
| real | n real transients (the learning curve) |
| random, interpolation, hybrid | n_real real and n_total - n_real synthetic transients |
| reconstruction | the reference's transients after the autoencoder |
| duplicated | the n_real real transients, repeated: equals them in the mean |
| population_mean | n_real real, the others the training subjects' mean times the scale of the n_real |
| population_mean_noisy | the same, the others with independent noise of the measured SD |
| shrinkage | w real + (1 - w) population mean, w the best scalar (instead of n_real / n_total) |
| low_rank | the n_real real transients' mean, projected on the training transients' principal components |
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import seeds, spectra
from mrs_synthesis.cells import COUNTS, Plan, per_condition, plan, reconstruction_path, synthetic_path
from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.stage import InputError, add_status_argument, require, run, run_subject

if TYPE_CHECKING:
    from mrs_synthesis.controls import Population
    from mrs_synthesis.scans import Scan

DESIGNS = ("augmentation", "reconstruction")
MODES = ("random", "interpolation", "hybrid")
DECODERS = ("mean", "sampled")
INDEX_COLUMNS = ("cell", "source", "decoder", "n_real", "n_total", "replicate")


class Cells:
    """The growing list of cells: one averaged FID per condition, and its row of the index."""

    def __init__(self) -> None:
        self.fids: list[np.ndarray] = []
        self.rows: list[dict] = []

    def add(self, fid: np.ndarray, source: str, n_real: int, n_total: int, replicate: int = 0, decoder="n/a") -> None:
        """Append a cell whose averaged FID has the shape (conditions, n_points)."""
        values = (len(self.rows), source, decoder, n_real, n_total, replicate)
        self.rows.append(dict(zip(INDEX_COLUMNS, values, strict=True)))
        self.fids.append(fid)


def filled(real: np.ndarray, n_real: int, filling: np.ndarray, n_total: int) -> np.ndarray:
    """Return the mean of `n_total` transients of which `n_real` have the mean `real` and the others `filling`."""
    return (n_real * real + (n_total - n_real) * filling) / n_total


def read_eligible(training: Path, unit: str) -> tuple[list[int], dict]:
    """Return the unit's test transients (positions in the preprocessed scan) and the content of grid.json.

    Raises
    ------
    InputError
        If the unit has none.
    """
    from mrs_synthesis.files import read_table

    path = require(Path(training) / "index.tsv")
    try:
        index = read_table(path, ("unit", "transient", "split"))
    except ValueError as error:
        raise InputError(str(error)) from None
    own = index[(index["unit"] == unit) & (index["split"] == "test")]
    if own.empty:
        raise InputError(f"{path}: no row of split test for {unit}; cells are made of test transients only")
    grid = json.loads(require(Path(training) / "grid.json").read_text())
    return sorted({int(value) for value in own["transient"]}), grid


def read_like(path: Path, scan: Scan, n_transients: int) -> np.ndarray:
    """Return FIDs, shape (conditions, transients, points), of a file that must match `scan`.

    Raises
    ------
    InputError
        If conditions, acquisition or the number of transients differ.
    """
    from mrs_synthesis.scans import read_scan

    other = read_scan(path)
    found = (other.conditions, other.n_points, round(other.dwell_s * 1e9), other.fids.shape[1], other.fids.shape[2])
    expected = (scan.conditions, scan.n_points, round(scan.dwell_s * 1e9), n_transients, 1)
    if found != expected:
        raise InputError(
            f"{path}: (conditions, points, dwell in ns, transients, coils) are {found}, expected {expected}; "
            "run its stage again with the same settings"
        )
    return other.fids[:, :, 0]


def check_plan(path: Path, expected: Plan) -> None:
    """Check that synthetic transients were made from the plan's real transients.

    Raises
    ------
    InputError
        If the sidecar of `path` names other transients.
    """
    from mrs_synthesis.scans import sidecar_path

    sidecar = sidecar_path(path)
    found = json.loads(require(sidecar).read_text()).get("Plan", {})
    real = [replicate.get("RealTransients") for replicate in found.get("Replicates", [])]
    wanted = [list(replicate) for replicate in expected.replicates]
    if real != wanted or found.get("Reference") != list(expected.reference):
        raise InputError(
            f"{sidecar}: made from the real transients {real}, expected {wanted} by the plan of seed, n_real, n_total, "
            "count and replicates; synthesise again with the same settings"
        )


def augmentation_cells(
    scan: Scan,
    prefix: Path,
    study: Plan,
    population: Population | None,
    *,
    n_real: int,
    n_total: int,
    modes: Sequence[str],
    decoders: Sequence[str],
    controls: Sequence[str],
    real_curve: Sequence[int],
    seed: int,
    unit: str,
) -> Cells:
    """Return all cells of the design `augmentation`; see the module's table for the sources."""
    transients = scan.fids[:, :, 0]

    def mean(numbers: Sequence[int]) -> np.ndarray:
        return transients[:, list(numbers)].mean(axis=1)

    cells = Cells()
    cells.add(mean(study.reference), "reference", len(study.reference), len(study.reference))
    for n in real_curve:
        for r, subset in enumerate(study.subsets(n)):
            cells.add(mean(subset), "real", n, n, r)
    real = [mean(numbers) for numbers in study.replicates]
    for mode in modes:
        for decoder in decoders:
            path = synthetic_path(prefix, mode, decoder)
            n_synthetic = n_total - n_real
            synthetic = read_like(path, scan, len(real) * n_synthetic)
            check_plan(path, study)
            for r, own in enumerate(real):
                filling = synthetic[:, r * n_synthetic : (r + 1) * n_synthetic].mean(axis=1)
                cells.add(filled(own, n_real, filling, n_total), mode, n_real, n_total, r, decoder)
    reconstructed = read_like(reconstruction_path(prefix), scan, transients.shape[1])
    n_reference = len(study.reference)
    cells.add(reconstructed[:, list(study.reference)].mean(axis=1), "reconstruction", n_reference, n_reference)
    for control in controls:
        for r, numbers in enumerate(study.replicates):
            fid = control_fid(control, transients[:, list(numbers)], scan, population, n_total, (seed, unit, r))
            cells.add(fid, control, n_real, n_total, r)
    return cells


def control_fid(
    control: str,
    transients: np.ndarray,
    scan: Scan,
    population: Population | None,
    n_total: int,
    stream: tuple[int, str, int],
) -> np.ndarray:
    """Return a control's averaged FID, shape (conditions, n_points).

    Parameters
    ----------
    control
        One of `CONTROLS`.
    transients
        The replicate's real ones, shape (conditions, n_real, n_points).
    scan
        For the acquisition's parameters.
    population
        Statistics of the training subjects; None is enough for ``duplicated``.
    n_total
        Nominal number of transients.
    stream
        Seed, unit and replicate of the random stream.
    """
    from mrs_synthesis.assemble import subject_scale, window_spectra
    from mrs_synthesis.controls import low_rank, population_fid, shrunken

    real, n_real = transients.mean(axis=1), transients.shape[1]
    if control == "duplicated":
        return real
    acquisition = (scan.dwell_s, scan.frequency_mhz)
    scale = subject_scale(window_spectra(transients[0], population.ppm, *acquisition), population.ppm)
    if control == "shrinkage":
        return shrunken(real, n_real, scale, population, *acquisition)
    if control == "low_rank":
        return low_rank(real, scale, population, *acquisition)
    filling = population_fid(population, scale, scan.n_points, *acquisition)
    if control == "population_mean_noisy" and n_total > n_real:
        try:
            sd = np.sqrt(np.mean(spectra.noise_sd(transients, *acquisition) ** 2, axis=1))
        except ValueError as error:
            raise InputError(f"{stream[1]}: {error}") from None
        seed, unit, replicate = stream
        random = seeds.generator(seed, "augment", unit, control, replicate)
        noise = random.standard_normal((2, *filling.shape))
        # The mean of n independent noises is one noise of 1/sqrt(n) times the SD.
        filling = filling + (noise[0] + 1j * noise[1]) * (sd / np.sqrt(n_total - n_real))[:, None]
    return filled(real, n_real, filling, n_total)


def reconstruction_cells(scan: Scan, prefix: Path, eligible: Sequence[int]) -> Cells:
    """Return the two cells of the design `reconstruction`: all eligible transients, as measured and reconstructed."""
    reconstructed = read_like(reconstruction_path(prefix), scan, scan.fids.shape[1])
    cells = Cells()
    for fids, source in ((scan.fids[:, :, 0], "reference"), (reconstructed, "reconstruction")):
        cells.add(fids[:, list(eligible)].mean(axis=1), source, len(eligible), len(eligible))
    return cells


def augment(a: argparse.Namespace) -> dict:
    """Write one unit's cells, their index and their sidecar; return facts for the status file."""
    import pandas as pd

    from mrs_synthesis import scans
    from mrs_synthesis.controls import read_population
    from mrs_synthesis.files import write_table

    scan = scans.read_scan(a.scan)
    eligible, grid = read_eligible(a.training, a.unit)
    if list(scan.conditions) != list(grid["conditions"]):
        raise InputError(
            f"{a.scan}: edit conditions {', '.join(scan.conditions)}, expected {', '.join(grid['conditions'])} as in "
            f"{a.training}/grid.json; assemble the training set again"
        )
    if scan.fids.shape[2] != 1 or eligible[-1] >= scan.fids.shape[1]:
        raise InputError(
            f"{a.scan}: {scan.fids.shape[1]} transients and {scan.fids.shape[2]} coils, expected more than "
            f"{eligible[-1]} transients by {a.training}/index.tsv and combined coils; assemble the training set again"
        )
    facts: dict = {"Design": a.design, "SplitUnit": grid["split_unit"], "EligibleTransients": len(eligible)}
    if a.design == "reconstruction":
        cells = reconstruction_cells(scan, a.prefix, eligible)
    else:
        n_conditions = len(scan.conditions)
        n_real, n_total = (per_condition(n, a.count, n_conditions) for n in (a.n_real, a.n_total))
        if min(a.real_curve) < 1:
            raise InputError(f"--real-curve {min(a.real_curve)}: expected numbers of at least 1")
        whole = [n for n in a.real_curve if a.count == "per_condition" or n % n_conditions == 0]
        # The real transients alone, and as many real ones as a filled cell has, are always compared with.
        curve = sorted({n_real, n_total, *(per_condition(n, a.count, n_conditions) for n in whole)})
        if a.modes and n_total == n_real:
            raise InputError(f"--n-total {a.n_total} leaves nothing to add to --n-real {a.n_real}")
        study = plan(eligible, n_real, n_total, a.replicates, a.seed, a.unit)
        population = read_population(a.training) if set(a.controls) - {"duplicated"} else None
        settings = {"n_real": n_real, "n_total": n_total, "real_curve": curve, "seed": a.seed, "unit": a.unit}
        settings |= {"modes": a.modes, "decoders": a.decoders, "controls": a.controls}
        cells = augmentation_cells(scan, a.prefix, study, population, **settings)
        facts |= {
            "Count": a.count,
            "ReferenceTransients": list(study.reference),
            "RealTransients": [list(numbers) for numbers in study.replicates],
        }
        if population is not None:
            facts |= {
                "PopulationSubjects": population.n_subjects,
                "PopulationIsSameSubject": grid["split_unit"] == "transient",
                "ShrinkageWeight": dict(zip(scan.conditions, population.weight(n_real).tolist(), strict=True)),
                "LowRankComponents": dict(zip(scan.conditions, map(len, population.components), strict=True)),
            }
    result = scan.with_fids(np.stack(cells.fids, axis=1)[:, :, None])
    result.header["Synthetic"] = {
        "Value": "partly",
        "Description": f"Some elements of DIM_DYN are made of synthetic spectra, not measured: see {a.index.name}",
    }
    scans.add_processing(
        result,
        "Signal averaging",
        f"study cells, design {a.design}: each DIM_DYN element is an average; see {a.index.name}",
    )
    scans.write_scan(a.output, result)
    inputs = [a.scan.name, reconstruction_path(a.prefix).name]
    if a.design == "augmentation":
        inputs += [synthetic_path(a.prefix, mode, decoder).name for mode in a.modes for decoder in a.decoders]
    scans.write_sidecar(a.output, result, inputs, **facts)
    write_table(a.index, pd.DataFrame(cells.rows, columns=list(INDEX_COLUMNS)))
    return {"cells": len(cells.rows)}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.augment", description=__doc__.splitlines()[0])
    parser.add_argument("--unit", required=True, help="name of the scan, e.g. sub-01_acq-megapress")
    parser.add_argument("--design", choices=DESIGNS, required=True, help="reconstruction: for averaged data")
    parser.add_argument("--scan", type=Path, required=True, help="preprocessed transients")
    parser.add_argument(
        "--prefix",
        type=Path,
        required=True,
        help="path and start of name of the synthetic and reconstructed transients",
    )
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--modes", nargs="*", choices=MODES, default=list(MODES))
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=list(DECODERS))
    parser.add_argument("--controls", nargs="*", choices=CONTROLS, default=list(CONTROLS))
    parser.add_argument("--n-real", type=int, default=2, help="real transients per cell")
    parser.add_argument("--n-total", type=int, default=40, help="transients per cell, synthetic ones included")
    parser.add_argument("--count", choices=COUNTS, default="per_condition", help="what the numbers count")
    parser.add_argument("--replicates", type=int, default=4, help="disjoint sets of n-real transients")
    parser.add_argument("--real-curve", type=int, nargs="+", default=[1, 2, 4, 8, 16, 40], help="learning curve")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="NIfTI-MRS of the cells (DIM_DYN)")
    parser.add_argument("--index", type=Path, required=True, help="TSV: what each cell is")
    add_status_argument(parser)
    a = parser.parse_args(argv)
    from mrs_synthesis.scans import sidecar_path

    outputs = [a.output, a.index, sidecar_path(a.output)]
    run_subject(lambda: augment(a), stage="augment", unit=a.unit, outputs=outputs, status=a.status)


if __name__ == "__main__":
    run(main)
