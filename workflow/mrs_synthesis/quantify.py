"""Concentrations of the metabolites in every study cell, by a linear-combination fit."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fit_cells, fit_checks, fitting, lcm_model, metabolites, sequences, water
from mrs_synthesis.dictionary import write_table_sidecar
from mrs_synthesis.files import read_table
from mrs_synthesis.fitting import Fitted, Task
from mrs_synthesis.stage import InputError, SkippedError, add_status_argument, run, run_subject

ENGINES = ("batched", "fsl-mrs")
CONDITIONS = ("OFF", "ON", "DIFF", "UNEDITED")
ROLES = ("ecc", "concentration", "both", "embedded", "none")
CHUNK = 1024  # cells; 2048 points: 0.2 GB for all that is kept of them
CHUNK_PER_PROCESS = 16  # of FSL-MRS, which takes seconds for each


def _seconds(cells: fit_cells.Cells, key: str, stated_ms: float | None) -> float | None:
    """Return a time in s: as stated, else the header's; None if it is missing or senseless."""
    value = cells.reader.header.get(key) if stated_ms is None else stated_ms / 1e3
    try:
        value = float(value)
    except (TypeError, ValueError):
        return None
    return value if np.isfinite(value) and value > 0 else None


def check_index(path: Path, cells: fit_cells.Cells) -> None:
    """Check that an index has one row for each of the cells, in order; InputError otherwise."""
    try:
        numbers = read_table(path, ["cell"])["cell"].tolist()
    except ValueError as error:
        raise InputError(str(error)) from None
    if numbers != list(range(cells.count)):
        raise InputError(
            f"{path}: {len(numbers)} cells, expected 0 to {cells.count - 1} as in {cells.path}; make both again"
        )


def check_sequence(args: argparse.Namespace, cells: fit_cells.Cells, tasks: Sequence[Task]) -> str:
    """Compare the scan's sequence, as the sheet or else the header names it, with what its basis set is for.

    Returns a warning or an empty text; InputError as `sequences.check`.
    """
    names = (args.sequence, cells.reader.header.get("SequenceName"))
    own = next((name for name in names if any(sequences.recognise(name))), args.sequence)
    edited = args.conditions != ["UNEDITED"]
    return sequences.check(own, tasks[0].basis.sequence, edited=edited, name=f"basis {tasks[0].condition}")


def make_tasks(args: argparse.Namespace, cells: fit_cells.Cells | None = None) -> list[Task]:
    """Read the basis, check it against the data's raster, and return one task per condition.

    Raises
    ------
    InputError
        If data, index and basis do not fit together.
    """
    if cells is None:
        with fit_cells.Cells(args.cells, args.conditions) as cells:
            return make_tasks(args, cells)
    if args.index is not None:
        check_index(args.index, cells)
    raster = {name: getattr(cells.reader, name) for name in ("n_points", "dwell_s", "frequency_mhz")}
    te_s = _seconds(cells, "EchoTime", args.te_ms)
    te_ms = None if te_s is None else te_s * 1e3
    folder, bases = basis_sets.choose_set(args.basis, raster["frequency_mhz"], args.conditions, te_ms)
    asked = {*(args.ignore or ()), *args.diff_ignore}
    missing = sorted(asked - {name for basis in bases.values() for name in basis.names})
    if missing:
        raise InputError(f"--ignore {' '.join(missing)}: not in {folder}; check the spelling")
    always = metabolites.UNUSUAL if args.ignore is None else args.ignore
    tasks = []
    for condition, basis in bases.items():
        difference = condition == "DIFF"
        options = lcm_model.Options(
            ppm_range=tuple(args.diff_ppm_range if difference else args.ppm_range),
            baseline=args.diff_baseline if difference else args.baseline,
            line_shape=args.line_shape,
            free_shift=args.free_shift,
        )
        ignored = [*always, *(args.diff_ignore if difference else ())]
        try:
            if difference and args.mm3co == "tied":
                basis = metabolites.tie_co_edited(basis)
            basis = metabolites.fitted(basis, condition, ignored, options.ppm_range)
            wanted = [name for where, _, name in (word.partition(":") for word in args.wanted) if where == condition]
            basis_sets.check_against_data(
                basis, condition, **raster, te_ms_data=te_ms, wanted=wanted, ppm_range=options.ppm_range
            )
            basis, warnings = fit_checks.regular(basis, condition, options.ppm_range)
        except InputError as error:
            raise InputError(f"{folder}: {error}") from None
        task = Task(
            condition, **raster, basis=basis, groups=metabolites.groups(basis.names, condition), options=options
        )
        tasks.append(task)
        for warning in warnings:
            print(f"warning: {folder}: {warning}", flush=True)
        print(
            f"{condition}: {cells.count} spectra, {folder}: {len(basis.names)} basis spectra in "
            f"{max(task.groups) + 1} groups, baseline {options.baseline}",
            flush=True,
        )
    return tasks


class BatchedEngine:
    """The engine `batched`: `mrs_synthesis.lcm` on a device.

    Parameters
    ----------
    task
        What to fit.
    device
        ``"auto"`` (a CUDA device if there is one), ``"cpu"`` or ``"cuda"``.

    Raises
    ------
    InputError
        If the basis is shorter than the data.
    """

    def __init__(self, task: Task, device: str = "auto") -> None:
        import torch

        from mrs_synthesis import lcm

        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            raise InputError("--device cuda: no CUDA device found; use --device cpu")
        self.task, self.model = task, task.model()
        self._fitter, self._failure = lcm.Fitter(self.model, device), torch.linalg.LinAlgError

    def __enter__(self) -> BatchedEngine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Release the device's memory."""
        self._fitter = None

    def fit(self, fids: np.ndarray, cells: Sequence[int] | None = None) -> Fitted:
        """Fit finite FIDs (cells, n_points) other than zero; their numbers `cells` are of no use here.

        Raises
        ------
        numpy.linalg.LinAlgError
            If a matrix of one of them cannot be inverted.
        """
        from mrs_synthesis import lcm_quality

        try:
            result = self._fitter.fit(fids)
        except self._failure as error:
            raise np.linalg.LinAlgError(str(error)) from None
        snr, fwhm = lcm_quality.per_metabolite(fids * result.fid_scale[:, None], self.model, result)
        scale = self.model.basis_scale / result.fid_scale
        # From the orthonormal transform of scaled data to `spectra.to_spectrum` of the data
        spectrum_scale = (np.sqrt(fids.shape[1]) / result.fid_scale)[:, None]
        return Fitted(
            names=self.model.names,
            raw=result.c * scale[:, None],
            covariance=result.covariance * scale[:, None, None] ** 2,
            snr=snr,
            fwhm_hz=fwhm,
            converged=result.converged,
            objective=result.objective,
            ppm=self.model.ppm,
            data=result.data * spectrum_scale,
            fit=result.fit * spectrum_scale,
            baseline=result.baseline * spectrum_scale,
            gamma=result.gamma,
            sigma=result.sigma,
            eps=result.eps,
            phi0=result.phi0,
            phi1=result.phi1,
        )


def make_engine(name: str, task: Task, device: str = "auto", processes: int = 1) -> fitting.Engine:
    """Return the engine `name` for a task; see `BatchedEngine` and `quantify_fsl.Engine`."""
    if name == "fsl-mrs":
        from mrs_synthesis import quantify_fsl

        return quantify_fsl.Engine(task, processes)
    return BatchedEngine(task, device)


def water_scale(args: argparse.Namespace, cells: fit_cells.Cells, tasks: Sequence[Task]) -> fit_cells.PerRaw | str:
    """Return what gives the factors from amplitudes to absolute concentrations, or why there are none.

    A water reference that cannot be used is told and costs the absolute concentrations, not the fits.
    """
    reference = next((task for task in tasks if task.condition in fitting.WITH_TCR), None)
    te_s, tr_s = _seconds(cells, "EchoTime", args.te_ms), _seconds(cells, "RepetitionTime", args.tr_ms)
    tissue = None if args.tissue is None else water.Tissue(*args.tissue)
    reason = water.why_not(
        water="of the scan" if args.water_role == "ecc" else args.water,  # which need not be given
        role=args.water_role,
        te_s=te_s,
        tr_s=tr_s,
        frequency_mhz=cells.reader.frequency_mhz,
        names=None if reference is None else reference.basis.names,
    )
    if reason:
        return reason
    try:
        signal = water.read_reference(args.water, cells.reader.frequency_mhz)
        print(f"{args.water}: water area {signal.area:.6g}", flush=True)  # a signal that is no water is noticed here
    except (InputError, SkippedError) as error:
        print(f"warning: no absolute concentrations: {error}", flush=True)
        return "water reference cannot be used"
    return lambda task, fitted: water.molality_factor(task, fitted, signal, te_s, tr_s, tissue)


def quantify(args: argparse.Namespace) -> dict[str, Any]:
    """Fit, write the table and the curves, and return facts for the status file."""
    chunk = CHUNK if args.engine == "batched" else CHUNK_PER_PROCESS * args.processes
    with ExitStack() as stack:
        cells = stack.enter_context(fit_cells.Cells(args.cells, args.conditions))
        tasks = make_tasks(args, cells)
        if unlike := check_sequence(args, cells, tasks):
            print(f"warning: basis set: {unlike}", flush=True)
        # Offsets are looked for where the singlets are: not in the difference, unless there is nothing else
        first = min(tasks, key=lambda task: ("OFF", "UNEDITED", "ON", "DIFF").index(task.condition))
        positions = fit_checks.Positions(first)
        common = positions.check(cells.survey(first.condition, chunk), str(args.cells))
        if abs(common) > fit_checks.SMALLEST_OFFSET_PPM:
            print(f"{args.cells}: lies {common:+.3f} ppm from the basis; moved back before the fit", flush=True)
        per_raw = water_scale(args, cells, tasks)
        if isinstance(per_raw, str):
            print(f"no absolute concentrations: {per_raw}", flush=True)
        engines = {
            task.condition: stack.enter_context(make_engine(args.engine, task, args.device, args.processes))
            for task in tasks
        }
        work = fit_cells.Run(tasks, engines, positions, common)
        outputs = {"output": args.output, "curves": args.curves}
        fit_cells.fit(cells, work, engine=args.engine, chunk=chunk, per_raw=per_raw, **outputs)
        used = [path for path in (args.cells, args.index, args.water) if path is not None]
        write_table_sidecar(args.output, "One row per study cell, fitted condition and metabolite", used)
        counts = {name: work.counts[name] for name in ("fitted", "not_converged", "missing", "moved")}
        print(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in counts.items()), flush=True)
        return counts | {
            "offset_ppm": None if np.isnan(common) else round(common, 4),
            "absolute_concentrations": per_raw if isinstance(per_raw, str) else "yes",
            "basis_sequence": unlike,
        }


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
        help="what to fit; DIFF is ON - OFF of the file. Only OFF and UNEDITED give tCr and absolute concentrations",
    )
    parser.add_argument(
        "--wanted",
        nargs="*",
        default=(),
        metavar="CONDITION:NAME",
        help="what must come out, e.g. OFF:tCr DIFF:GABA+; a basis that lacks it is refused",
    )
    parser.add_argument("--output", type=Path, required=True, help="table (TSV)")
    parser.add_argument("--curves", type=Path, help="data, fit and baseline in the fit range (NPZ)")
    limits = {"type": float, "nargs": 2, "metavar": ("LOW", "HIGH")}
    parser.add_argument("--ppm-range", default=(0.2, 4.2), **limits, help="fit range; not of DIFF")
    parser.add_argument("--diff-ppm-range", default=(0.5, 4.2), **limits, help="fit range of DIFF")
    words = "off, 'poly, ORDER' or 'spline, very-stiff|stiff|moderate|flexible|very-flexible|NUMBER'"
    parser.add_argument("--baseline", default="spline, stiff", help=f"{words}; not of DIFF; default: %(default)s")
    parser.add_argument(
        "--diff-baseline",
        default="poly, 2",
        help="of DIFF; default: %(default)s, since the subtraction removes most of what is broad, and a flexible "
        "baseline takes from GABA+",
    )
    parser.add_argument("--line-shape", choices=lcm_model.LINE_SHAPES, default="voigt", help="default: %(default)s")
    parser.add_argument(
        "--free-shift",
        action=argparse.BooleanOptionalAction,
        default=False,
        help="a shift of its own for every basis spectrum, not for every group",
    )
    parser.add_argument(
        "--mm3co",
        choices=("free", "tied"),
        default="free",
        help="co-edited macromolecules at 3.0 ppm: fitted on their own, or tied to MM09; default: %(default)s",
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
    parser.add_argument("--water", type=Path, help="NIfTI-MRS of unsuppressed water, on the scan's scale")
    parser.add_argument("--water-role", choices=ROLES, default="both", help="what it may be used for")
    parser.add_argument("--sequence", help="pulse sequence, compared with the basis set's; default: the header's")
    parser.add_argument("--te-ms", type=float, help="echo time; default: the header's")
    parser.add_argument("--tr-ms", type=float, help="repetition time; default: the header's")
    parser.add_argument(
        "--tissue",
        type=float,
        nargs=3,
        metavar=("WM", "GM", "CSF"),
        help="volume fractions of the voxel; without them no tissue correction",
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
    sidecar = args.output.with_suffix(".json")
    outputs = [path for path in (args.output, sidecar, args.curves) if path is not None]
    run_subject(lambda: quantify(args), stage="quantify", unit=args.unit, outputs=outputs, status=args.status)


if __name__ == "__main__":
    run(main)
