"""Build one subject's study cells: few real transients filled up with synthetic ones, and null controls.

Every cell becomes one averaged FID per edit condition. `n_real` and `n_total` count transients per edit condition.

| source | mean of |
|---|---|
| reference | the transients that no other cell uses |
| real | n real transients (the learning curve) |
| random, interpolation, hybrid | n_real real and n_total - n_real synthetic transients |
| reconstruction | the reference's transients after the model |
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
from mrs_synthesis.cells import COUNTS, Plan, amounts, plan, real_sizes, reconstruction_path, synthetic_path
from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.stage import InputError, add_status_argument, require, run, run_subject
from mrs_synthesis.training_set import held_out

if TYPE_CHECKING:
    from mrs_synthesis.controls import Population
    from mrs_synthesis.preprocess_batched import Options as PreprocessOptions
    from mrs_synthesis.scans import Scan

DESIGNS = ("augmentation", "reconstruction")
MODES = ("random", "interpolation", "hybrid")
DECODERS = ("mean", "sampled", "acquired")
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


def read_grid(training: Path) -> dict:
    """Return the content of a training set's grid.json.

    Raises
    ------
    InputError
        If it is absent or damaged.
    """
    path = require(Path(training) / "grid.json")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); assemble the training set again") from None


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


def model_of(synthetic: Sequence[Path]) -> dict[str, str]:
    """Return ModelSHA256 as the sidecars of synthetic files state it; nothing if there are none.

    Raises
    ------
    InputError
        If they are of several models.
    """
    from mrs_synthesis.scans import sidecar_path

    found = {}
    for path in map(sidecar_path, synthetic):
        stated = json.loads(path.read_text(encoding="utf-8")).get("ModelSHA256") if path.is_file() else None
        found |= {stated: path} if stated else {}
    if len(found) > 1:
        raise InputError(f"{', '.join(map(str, found.values()))}: made by {len(found)} models; synthesise again")
    return {"ModelSHA256": next(iter(found))} if found else {}


def preprocess_options(scan: Path) -> PreprocessOptions:
    """Return the options that a scan was preprocessed with, from its sidecar.

    Raises
    ------
    InputError
        If it does not state them.
    """
    from mrs_synthesis.preprocess_batched import Options
    from mrs_synthesis.scans import sidecar_path

    sidecar = sidecar_path(scan)
    try:
        stated = json.loads(require(sidecar).read_text())["Parameters"]
        return Options(**{name: tuple(v) if isinstance(v, list) else v for name, v in stated.items()} | {"ecc": False})
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{sidecar}: no Parameters of preprocessing ({error}); preprocess the scan again") from None


def preprocessed(fids: np.ndarray, scan: Scan, options: PreprocessOptions) -> np.ndarray:
    """Return the mean, (conditions, points), of transients as acquired, (conditions, n, points), after preprocessing.

    The engine `batched` aligns them, takes their water and rejects what is unlike the others, as it does with real
    ones.
    """
    from mrs_synthesis.preprocess_batched import process

    done = process(scan.with_fids(fids[:, :, None]), None, options)
    return done.fids[:, np.all(done.reason == "", axis=0)].mean(axis=1)


def augmentation_cells(
    scan: Scan,
    prefix: Path,
    study: Plan,
    population: Population | None,
    *,
    modes: Sequence[str],
    decoders: Sequence[str],
    controls: Sequence[str],
    real_curve: Sequence[int],
    seed: int,
    unit: str,
    options: PreprocessOptions | None = None,
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
    for mode in modes:
        for decoder in decoders:
            path = synthetic_path(prefix, mode, decoder)
            synthetic = read_like(path, scan, study.sets[-1].dyn_range[1])
            check_plan(path, study)
            for one in study.sets:
                drawn = synthetic[:, slice(*one.dyn_range)]
                filling = preprocessed(drawn, scan, options) if decoder == "acquired" else drawn.mean(axis=1)
                fid = filled(mean(one.transients), one.n_real, filling, one.n_total)
                cells.add(fid, mode, one.n_real, one.n_total, one.replicate, decoder)
    reconstructed = read_like(reconstruction_path(prefix), scan, transients.shape[1])
    n_reference = len(study.reference)
    cells.add(reconstructed[:, list(study.reference)].mean(axis=1), "reconstruction", n_reference, n_reference)
    for control in controls:
        for one in study.sets:
            own, stream = transients[:, list(one.transients)], (seed, unit, one.replicate)
            fid = control_fid(control, own, scan, population, one.n_total, stream)
            cells.add(fid, control, one.n_real, one.n_total, one.replicate)
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
    from mrs_synthesis.dictionary import write_table_sidecar
    from mrs_synthesis.files import write_table

    scan = scans.read_scan(a.scan)
    grid = read_grid(a.training)
    if list(scan.conditions) != list(grid["conditions"]):
        raise InputError(
            f"{a.scan}: edit conditions {', '.join(scan.conditions)}, expected {', '.join(grid['conditions'])} as in "
            f"{a.training}/grid.json; assemble the training set again"
        )
    if scan.fids.shape[2] != 1:
        raise InputError(f"{a.scan}: {scan.fids.shape[2]} coils, expected combined coils; preprocess it first")
    eligible, _ = held_out(a.training, a.unit, scan.fids.shape[1], grid["split_unit"])
    facts: dict = {"Design": a.design, "SplitUnit": grid["split_unit"], "EligibleTransients": len(eligible)}
    if a.design == "reconstruction":
        cells = reconstruction_cells(scan, a.prefix, eligible)
    else:
        n_conditions = len(scan.conditions)
        if min(a.real_curve) < 1:
            raise InputError(f"--real-curve {min(a.real_curve)}: expected numbers of at least 1")
        pairs = amounts(a.n_real, a.n_total, a.count, n_conditions)
        curve = real_sizes(pairs, a.real_curve, a.count, n_conditions)
        study = plan(eligible, *zip(*pairs, strict=True), a.replicates, a.seed, a.unit)
        population = read_population(a.training) if set(a.controls) - {"duplicated"} else None
        settings = {"real_curve": curve, "seed": a.seed, "unit": a.unit}
        settings |= {"modes": a.modes, "decoders": a.decoders, "controls": a.controls}
        if "acquired" in a.decoders:
            settings["options"] = preprocess_options(a.scan)
        cells = augmentation_cells(scan, a.prefix, study, population, **settings)
        facts |= {
            "Count": a.count,
            "ReferenceTransients": list(study.reference),
            "NReal": [n_real for n_real, _ in pairs],
            "NTotal": [n_total for _, n_total in pairs],
            "RealTransients": [list(numbers) for numbers in study.replicates],
        }
        if population is not None:
            facts |= {
                "PopulationSubjects": population.n_subjects,
                "PopulationIsSameSubject": grid["split_unit"] == "transient",
                "ShrinkageWeight": [
                    dict(zip(scan.conditions, population.weight(n_real).tolist(), strict=True)) for n_real, _ in pairs
                ],
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
    inputs = [a.scan, reconstruction_path(a.prefix)]
    if a.design == "augmentation":
        inputs += [synthetic_path(a.prefix, mode, decoder) for mode in a.modes for decoder in a.decoders]
    facts |= model_of(inputs[1:])
    scans.write_sidecar(a.output, result, inputs, **facts)
    write_table(a.index, pd.DataFrame(cells.rows, columns=list(INDEX_COLUMNS)))
    write_table_sidecar(a.index, "One row per study cell", inputs)
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
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=["mean", "sampled"])
    parser.add_argument("--controls", nargs="*", choices=CONTROLS, default=list(CONTROLS))
    parser.add_argument("--n-real", type=int, nargs="+", default=[2], help="real transients per cell (default: 2)")
    parser.add_argument(
        "--n-total",
        type=int,
        nargs="+",
        default=[40],
        help="transients per cell, synthetic ones included: one number, or one for each --n-real (default: 40)",
    )
    parser.add_argument("--count", choices=COUNTS, default="per_condition", help="what the numbers count")
    parser.add_argument("--replicates", type=int, default=4, help="disjoint sets of each n-real, if there are as many")
    curve = [2**k for k in range(8)]
    parser.add_argument("--real-curve", type=int, nargs="+", default=curve, help="learning curve (default: 1 to 128)")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="NIfTI-MRS of the cells (DIM_DYN)")
    parser.add_argument("--index", type=Path, required=True, help="TSV: what each cell is")
    add_status_argument(parser)
    a = parser.parse_args(argv)
    from mrs_synthesis.scans import sidecar_path

    outputs = [a.output, a.index, sidecar_path(a.output), sidecar_path(a.index)]
    run_subject(lambda: augment(a), stage="augment", unit=a.unit, outputs=outputs, status=a.status)


if __name__ == "__main__":
    run(main)
