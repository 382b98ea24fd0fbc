"""Concentrations of the metabolites in every study cell, by a linear-combination fit."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fitting, metabolites
from mrs_synthesis.files import read_table, write_table, write_whole
from mrs_synthesis.fitting import Fitted, Task
from mrs_synthesis.scans import Scan, read_scan
from mrs_synthesis.stage import InputError, add_status_argument, run, run_subject

ENGINES = ("batched", "fsl-mrs")
CONDITIONS = ("OFF", "ON", "DIFF", "UNEDITED")


def choose_set(folders: Sequence[Path], frequency_mhz: float, conditions: Sequence[str]) -> tuple[Path, dict]:
    """Return the folder of the basis set nearest in frequency that has all conditions, and its bases.

    Raises
    ------
    InputError
        If no set has them, or the nearest is more than 5 % off.
    """
    candidates = []
    for folder in folders:
        if not all(any((Path(folder) / condition).glob("*.json")) for condition in conditions):
            continue
        summary = Path(folder) / "basis.json"
        if summary.exists():
            frequency = float(json.loads(summary.read_text())["frequency_mhz"])
        else:
            frequency = basis_sets.read_json_folder(Path(folder) / conditions[0]).frequency_mhz
        candidates.append((abs(frequency - frequency_mhz), str(folder)))
    if not candidates:
        raise InputError(
            f"{', '.join(map(str, folders))}: no basis set with {' and '.join(conditions)}; "
            "make one with `python -m mrs_synthesis.basis`"
        )
    folder = Path(min(candidates)[1])
    bases = {}
    for condition in conditions:
        basis = basis_sets.read_json_folder(folder / condition)
        try:
            basis_sets.check_peaks(basis, condition)
            bases[condition] = basis_sets.at_frequency(basis, frequency_mhz)
        except InputError as error:
            raise InputError(f"{folder / condition}: {error}") from None
    return folder, bases


def condition_fids(path: Path, scan: Scan, condition: str, only: bool) -> np.ndarray:
    """Return the FIDs (cells, n_points) of a condition; DIFF is ON - OFF.

    `only`: the file's only condition is taken as the one wanted, whatever its name (a difference stored as such).
    """
    fids = scan.fids[:, :, 0]
    if condition in scan.conditions:
        return fids[scan.conditions.index(condition)]
    if condition == "DIFF" and {"ON", "OFF"} <= set(scan.conditions):
        return fids[scan.conditions.index("ON")] - fids[scan.conditions.index("OFF")]
    if only and len(scan.conditions) == 1:
        return fids[0]
    raise InputError(
        f"{path}: has {', '.join(scan.conditions)}, not {condition}; change --conditions, "
        "or name the edit conditions in the file's EditCondition"
    )


def make_tasks(args: argparse.Namespace) -> list[Task]:
    """Read data and basis, check them, and return one task per condition.

    Raises
    ------
    InputError
        If data, index and basis do not fit together.
    """
    scan = read_scan(args.cells)
    if scan.fids.shape[2] != 1:
        raise InputError(f"{args.cells}: {scan.fids.shape[2]} coils, expected combined data; combine the coils first")
    if args.index is not None:
        try:
            cells = read_table(args.index, ["cell"])["cell"].tolist()
        except ValueError as error:
            raise InputError(str(error)) from None
        if cells != list(range(scan.fids.shape[1])):
            raise InputError(
                f"{args.index}: {len(cells)} cells, expected 0 to {scan.fids.shape[1] - 1} as in {args.cells}; "
                "make both again"
            )
    folder, bases = choose_set(args.basis, scan.frequency_mhz, args.conditions)
    asked = {*(args.ignore or ()), *args.diff_ignore}
    missing = sorted(asked - {name for basis in bases.values() for name in basis.names})
    if missing:
        raise InputError(f"--ignore {' '.join(missing)}: not in {folder}; check the spelling")
    always = metabolites.UNUSUAL if args.ignore is None else args.ignore
    tasks = []
    for condition in args.conditions:
        difference = condition == "DIFF"
        ppm_range = tuple(args.diff_ppm_range if difference else args.ppm_range)
        ignored = [*always, *(args.diff_ignore if difference else ())]
        basis = metabolites.fitted(bases[condition], condition, ignored, ppm_range)
        fids = condition_fids(args.cells, scan, condition, len(args.conditions) == 1)
        empty = np.flatnonzero(~(np.abs(fids).max(axis=-1) > 0))
        if empty.size:
            raise InputError(f"{args.cells}: {condition} of cell {empty[0]} is zero everywhere; leave it out")
        task = Task(
            condition,
            fids,
            scan.dwell_s,
            scan.frequency_mhz,
            basis,
            metabolites.groups(basis.names, condition),
            ppm_range,
            args.baseline_order,
        )
        if not difference:
            fitting.check_positions(task, str(args.cells))
        tasks.append(task)
        n_groups = max(task.groups) + 1
        print(f"{condition}: {len(fids)} spectra, {folder}: {len(basis.names)} in {n_groups} groups", flush=True)
    return tasks


def fit_batched(task: Task, device: str) -> Fitted:
    """Fit a task with `mrs_synthesis.lcm`."""
    import torch

    from mrs_synthesis import lcm, lcm_model, lcm_quality

    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    model = lcm_model.build(
        task.basis,
        task.fids.shape[1],
        task.dwell_s,
        task.frequency_mhz,
        groups=task.groups,
        ppm_range=task.ppm_range,
        baseline_order=task.baseline_order,
    )
    result = lcm.fit(task.fids, model, device=device)
    scale = model.basis_scale / result.fid_scale
    quality = [
        lcm_quality.per_metabolite(task.fids[i] * result.fid_scale[i], model, *parameters)
        for i, parameters in enumerate(
            zip(result.c, result.gamma, result.sigma, result.eps, result.phi0, result.phi1, strict=True)
        )
    ]
    # From the orthonormal transform of scaled data to `spectra.to_spectrum` of the data
    spectrum_scale = (np.sqrt(task.fids.shape[1]) / result.fid_scale)[:, None]
    print(
        f"{task.condition}: {np.count_nonzero(result.converged)} of {len(task.fids)} converged ({device})", flush=True
    )
    return Fitted(
        names=model.names,
        raw=result.c * scale[:, None],
        covariance=result.covariance * scale[:, None, None] ** 2,
        snr=np.array([snr for snr, _ in quality]),
        fwhm_hz=np.array([fwhm for _, fwhm in quality]),
        converged=result.converged,
        objective=result.objective,
        ppm=model.ppm,
        data=result.data * spectrum_scale,
        fit=result.fit * spectrum_scale,
        baseline=result.baseline * spectrum_scale,
    )


def quantify(args: argparse.Namespace) -> dict:
    """Fit, and write the table and the curves."""
    results: dict[str, Fitted] = {}
    for task in make_tasks(args):
        if args.engine == "fsl-mrs":
            from mrs_synthesis import quantify_fsl

            results[task.condition] = quantify_fsl.fit(task, args.processes)
        else:
            results[task.condition] = fit_batched(task, args.device)
    if not any(np.isfinite(fitted.raw).any() for fitted in results.values()):
        raise InputError(f"{args.cells}: no spectrum could be fitted; see the messages above")
    write_table(args.output, fitting.table(results, args.engine))
    if args.curves is not None:
        with write_whole(args.curves) as temporary:
            np.savez_compressed(temporary, **fitting.curves(results))
    return {"not_converged": int(sum(np.count_nonzero(~fitted.converged) for fitted in results.values()))}


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.quantify",
        description="Fit every spectrum of a NIfTI-MRS file (study cells, or any coil-combined transients).",
    )
    parser.add_argument("--unit", required=True, help="the scan's name, for the record")
    parser.add_argument("--engine", choices=ENGINES, default="batched", help="default: %(default)s")
    parser.add_argument("--cells", type=Path, required=True, help="NIfTI-MRS file with DIM_DYN (and DIM_EDIT)")
    parser.add_argument("--index", type=Path, help="TSV that says what each cell is; checked against --cells")
    parser.add_argument(
        "--basis", type=Path, nargs="+", required=True, help="basis sets; the nearest frequency is used"
    )
    parser.add_argument(
        "--conditions",
        nargs="+",
        choices=CONDITIONS,
        required=True,
        help="what to fit; DIFF is ON - OFF of the file. Only OFF and UNEDITED give tCr",
    )
    parser.add_argument("--output", type=Path, required=True, help="table (TSV)")
    parser.add_argument("--curves", type=Path, help="data, fit and baseline in the fit range (NPZ)")
    parser.add_argument(
        "--ppm-range", type=float, nargs=2, default=(0.2, 4.2), metavar=("LOW", "HIGH"), help="fit range; not of DIFF"
    )
    parser.add_argument(
        "--diff-ppm-range", type=float, nargs=2, default=(0.5, 4.2), metavar=("LOW", "HIGH"), help="fit range of DIFF"
    )
    parser.add_argument(
        "--baseline-order", type=int, default=2, help="of the polynomial baseline; default: %(default)s"
    )
    parser.add_argument(
        "--ignore",
        nargs="*",
        metavar="NAME",
        help=f"basis spectra to leave out; default: those not seen in healthy brain: {' '.join(metabolites.UNUSUAL)}",
    )
    parser.add_argument(
        "--diff-ignore", nargs="*", default=(), metavar="NAME", help="further ones to leave out of DIFF"
    )
    parser.add_argument("--processes", type=int, default=1, help="of the engine fsl-mrs; default: %(default)s")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto", help="of the engine batched")
    add_status_argument(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parser().parse_args(argv)
    if args.engine == "fsl-mrs":
        from mrs_synthesis.fslmrs import reexec_if_needed

        reexec_if_needed("mrs_synthesis.quantify", argv)
    outputs = [path for path in (args.output, args.curves) if path is not None]
    run_subject(lambda: quantify(args), stage="quantify", unit=args.unit, outputs=outputs, status=args.status)


if __name__ == "__main__":
    run(main)
