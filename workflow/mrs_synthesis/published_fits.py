"""A folder of simulated spectra with FSL-MRS's own fits and the truth, turned into this project's files.

The folder holds, for each kind of data (``press``, ``mega``), spectra ``KIND/data/ID.nii.gz``, the truth
``KIND/true_concentrations.csv`` and ``KIND/true_parameters.json``, and fits ``KIND/fits_TAG/ID/`` with FSL-MRS's
``qc.csv`` and a ``trace.npz``: end point ``x``, objective ``fun``, covariance, names, groups, scales. A case is
``KIND_TAG``; its tag names the baseline (``poly2``, ``spline_stiff``). FSL-MRS is not needed to read them.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fitting, lcm_model, metabolites, seeds, spectra
from mrs_synthesis.files import read_table, write_table, write_whole
from mrs_synthesis.fitting import Fitted, Task
from mrs_synthesis.scans import Scan, add_processing, read_scan, write_scan
from mrs_synthesis.stage import InputError, require, run

if TYPE_CHECKING:
    import pandas as pd

KINDS = {"press": ("UNEDITED", "basis_press30_mm"), "mega": ("DIFF", "basis_mega68_diff_mm")}
ACTIONS = ("read", "simulate", "fit")
WINDOW_PPM = (0.2, 4.2)


def cases(folder: Path) -> list[str]:
    """Return the names of the cases in a folder, e.g. ``press_poly2``."""
    return [
        f"{kind}_{path.name.removeprefix('fits_')}"
        for kind in KINDS
        for path in sorted(Path(folder).glob(f"{kind}/fits_*"))
        if path.is_dir()
    ]


def baseline_of(tag: str) -> str:
    """Return the baseline in FSL-MRS's words that a tag starts with.

    Raises
    ------
    InputError
        If it names none.
    """
    found = re.match(r"poly(\d+)|spline_([a-z]+(?:-[a-z]+)?)", tag)
    if not found:
        raise InputError(f"fits_{tag}: expected a name that starts with polyORDER or spline_NAME; rename the folder")
    return f"poly, {found[1]}" if found[1] else f"spline, {found[2]}"


@dataclass(frozen=True)
class Case:
    """Published fits of one kind of data with one set of options."""

    folder: Path
    kind: str
    tag: str

    @classmethod
    def named(cls, folder: Path, name: str) -> Case:
        """Return the case ``KIND_TAG`` of a folder.

        Raises
        ------
        InputError
            If the folder has no such case.
        """
        known = cases(folder)
        if name not in known:
            raise InputError(f"{folder}: no case {name}; it has {', '.join(known) or 'none'}")
        return cls(Path(folder), *name.split("_", 1))

    @property
    def condition(self) -> str:
        """Condition of the spectra."""
        return KINDS[self.kind][0]

    @cached_property
    def ids(self) -> list[str]:
        """Names of the fitted spectra."""
        return sorted(path.parent.name for path in (self.folder / self.kind / f"fits_{self.tag}").glob("*/trace.npz"))

    @cached_property
    def traces(self) -> list[dict[str, np.ndarray]]:
        """What FSL-MRS's fits left behind, one per spectrum."""
        found = []
        for name in self.ids:
            with np.load(self.folder / self.kind / f"fits_{self.tag}" / name / "trace.npz", allow_pickle=False) as file:
                found.append({key: file[key] for key in file.files})
        return found

    @cached_property
    def whole_basis(self) -> basis_sets.Basis:
        """The basis that the spectra were made of."""
        return basis_sets.read_json_folder(self.folder / KINDS[self.kind][1])

    @cached_property
    def parameters(self) -> dict[str, dict]:
        """The true parameters of every spectrum."""
        return json.loads((self.folder / self.kind / "true_parameters.json").read_text(encoding="utf-8"))

    @cached_property
    def concentrations(self) -> pd.DataFrame:
        """The true concentrations, a row per spectrum."""
        import pandas as pd

        return pd.read_csv(require(self.folder / self.kind / "true_concentrations.csv"), index_col="id")

    def scan(self) -> Scan:
        """Return the fitted spectra as one scan."""
        parts = [read_scan(self.folder / self.kind / "data" / f"{name}.nii.gz") for name in self.ids]
        scan = parts[0].with_fids(np.concatenate([part.fids for part in parts], axis=1))
        add_processing(scan, "Combination of spectra", f"{len(parts)} simulated spectra of {self.folder.name}")
        return scan

    def task(self, scan: Scan) -> Task:
        """Return what FSL-MRS was asked to fit, for spectra of the raster of `scan`."""
        trace = self.traces[0]
        return Task(
            condition=self.condition,
            n_points=scan.n_points,
            dwell_s=scan.dwell_s,
            frequency_mhz=scan.frequency_mhz,
            basis=self.whole_basis.select([str(name) for name in trace["names"]]),
            groups=[int(group) for group in trace["groups"]],
            options=lcm_model.Options(ppm_range=WINDOW_PPM, baseline=baseline_of(self.tag)),
        )

    @cached_property
    def holds_truth(self) -> bool:
        """Whether the fitted model contains the one that the spectra were made of: same basis, groups and baseline."""
        own, basis = next(iter(self.parameters.values()))["groups"], self.whole_basis
        groups = [1 + own.index(name) if name in own else 0 for name in basis.names]
        trace = self.traces[0]
        same = list(map(str, trace["names"])) == basis.names and [int(g) for g in trace["groups"]] == groups
        return same and baseline_of(self.tag) == "poly, 2"

    def unit_amplitude(self, scan: Scan) -> float:
        """Return the amplitude relative to the basis files of one unit of true concentration."""
        whole = lcm_model.build(self.whole_basis, scan.n_points, scan.dwell_s, scan.frequency_mhz)
        return whole.basis_scale


def published(case: Case, scan: Scan) -> Fitted:
    """Return FSL-MRS's fits as they were published.

    Raises
    ------
    InputError
        If they were not made in the fit window of `WINDOW_PPM`.
    """
    import pandas as pd

    model = case.task(scan).model()
    n, g = len(model.names), model.n_groups
    window = slice(model.first, model.last)
    rows = []
    for name, fid, trace in zip(case.ids, scan.fids[0, :, 0], case.traces, strict=True):
        if (int(trace["first"]), int(trace["last"])) != (model.first, model.last):
            raise InputError(f"{case.folder}: {name} was not fitted in {WINDOW_PPM[0]:g} to {WINDOW_PPM[1]:g} ppm")
        path = case.folder / case.kind / f"fits_{case.tag}" / name / "qc.csv"
        quality = pd.read_csv(path, index_col="Metab").loc[model.names]
        scale = float(trace["basis_scale"] / trace["fid_scale"])
        x = trace["x"]
        rows.append(
            {
                "raw": x[:n] * scale,
                "covariance": trace["cov"][:n, :n] * scale**2,
                "snr": quality["SNR"].to_numpy(float),
                "fwhm_hz": quality["FWHM"].to_numpy(float),
                "converged": True,
                "objective": float(trace["fun"]),
                "data": spectra.to_spectrum(fid)[window],
                "fit": spectra.to_spectrum(trace["pred"] / trace["fid_scale"])[window],
                "baseline": spectra.to_spectrum(trace["baseline"] / trace["fid_scale"])[window],
                "gamma": x[n : n + g],
                "sigma": x[n + g : n + 2 * g],
                "eps": x[n + 2 * g : n + 3 * g],
                "phi0": x[n + 3 * g],
                "phi1": x[n + 3 * g + 1],
            }
        )
    return Fitted(names=model.names, ppm=model.ppm, **{key: np.array([row[key] for row in rows]) for key in rows[0]})


def truth_table(case: Case, scan: Scan, ids: Sequence[str], noise_sd: Sequence[float]) -> pd.DataFrame:
    """Return the true amplitudes, sums included, of the spectra of `scan`, which have the concentrations of `ids`.

    Columns cell, id, noise_sd, objective, metabolite, raw. The objective is that of the true parameters, which the best
    fit cannot exceed; missing if the fitted model does not contain them.
    """
    import pandas as pd

    concentrations = case.concentrations
    fitted = [str(name) for name in case.traces[0]["names"]]
    members = {name: [name] for name in fitted} | metabolites.sums(fitted, case.condition)
    unit = case.unit_amplitude(scan)
    facts = {"cell": np.arange(len(ids)), "id": ids, "noise_sd": noise_sd, "objective": np.nan}
    if case.holds_truth:
        facts["objective"] = true_objectives(case, scan, ids)
    parts = []
    for name, parts_of in members.items():
        raw = unit * concentrations.loc[list(ids), parts_of].sum(axis=1).to_numpy(float)
        parts.append(pd.DataFrame(facts | {"metabolite": name, "raw": raw}))
    return pd.concat(parts, ignore_index=True).sort_values("cell", kind="stable")


def true_objectives(case: Case, scan: Scan, ids: Sequence[str]) -> np.ndarray:
    """Return the objective (cells,) of the true parameters: of the spectra's noise in the fit window."""
    model, fids = case.task(scan).model(), scan.fids[0, :, 0]
    clean = {name: noiseless(case, scan, name) for name in set(ids)}
    noise = spectra.to_spectrum(fids - np.array([clean[name] for name in ids]))[:, model.first : model.last]
    scale = lcm_model.TARGET_NORM / np.linalg.norm(fids, axis=1)
    return np.sum(np.abs(noise) ** 2, axis=1) / scan.n_points * scale**2


def noiseless(case: Case, scan: Scan, name: str) -> np.ndarray:
    """Return the FID that a published spectrum was made of, without its noise.

    Its parameters are those of FSL-MRS's model: line shapes of groups (metabolites, then each of ``groups``), phases,
    and a baseline of polynomials over the fit window, the quadratic one orthogonal to a constant over the whole
    spectrum.
    """
    model = lcm_model.build(case.whole_basis, scan.n_points, scan.dwell_s, scan.frequency_mhz)
    truth = case.parameters[name]
    own = truth["groups"]
    groups = [1 + own.index(metabolite) if metabolite in own else 0 for metabolite in model.names]
    gamma, sigma, eps = (np.array(truth[key])[groups, None] for key in ("gamma", "sigma", "eps"))
    t = model.time_s
    amplitude = case.concentrations.loc[name, model.names].to_numpy(float)
    fid = amplitude @ (model.basis * np.exp(-(1j * eps + gamma + t * sigma**2) * t))
    nu = np.linspace(-0.5 / scan.dwell_s, 0.5 / scan.dwell_s, scan.n_points)
    spectrum = spectra.to_spectrum(fid) * np.exp(-1j * (truth["phi0"] + truth["phi1"] * nu))
    x = np.linspace(-1, 1, model.last - model.first)
    shapes = [np.ones_like(x), x, x**2 - np.sum(x**2) / scan.n_points]
    b = np.array(truth["baseline"])
    baseline = sum((re + 1j * im) * shape for re, im, shape in zip(b[::2], b[1::2], shapes, strict=True))
    # The baseline belongs to the orthonormal transform
    spectrum[model.first : model.last] += baseline * np.sqrt(scan.n_points)
    return spectra.to_fid(spectrum)


def simulate(case: Case, scan: Scan, realisations: int, levels: int, seed: int) -> tuple[Scan, pd.DataFrame]:
    """Return new spectra with the published truths and new noise, and their `truth_table`.

    Parameters
    ----------
    case, scan
        Published case and its spectra.
    realisations
        Spectra per noise level; the published truths take turns.
    levels
        Noise levels, evenly picked from the published ones.
    seed
        Of the noise.
    """
    known = sorted({truth["noise_sd"] for truth in case.parameters.values()})
    chosen = [known[i] for i in np.unique(np.linspace(0, len(known) - 1, levels).round().astype(int))]
    truths = sorted(case.parameters)
    clean = np.array([noiseless(case, scan, name) for name in truths])
    which = np.arange(realisations) % len(truths)
    fids, ids, noise_sd = [], [], []
    for level in chosen:
        rng = seeds.generator(seed, "published_fits", case.kind, f"{level:g}")
        noise = rng.normal(0, level, (2, realisations, scan.n_points))
        fids.append(clean[which] + noise[0] + 1j * noise[1])
        ids += [truths[i] for i in which]
        noise_sd += [level] * realisations
    new = scan.with_fids(np.concatenate(fids)[None, :, None].astype(np.complex64))
    add_processing(new, "Simulation", f"{realisations} noise realisations at each of {len(chosen)} levels, seed {seed}")
    return new, truth_table(case, new, ids, noise_sd)


def write_fits(fitted: Fitted, condition: str, engine: str, cells: np.ndarray, output: Path, told: bool = True) -> None:
    """Write table and curves of fits of the given cells; `told`: the engine says whether it converged."""
    table = fitting.table({condition: fitted}, engine)
    table["cell"] = cells[table["cell"].to_numpy(int)]
    if not told:
        table["converged"] = np.nan
    write_table(output, table)
    curves = fitting.curves({condition: fitted})
    curves[f"{condition}_cell"] = cells
    with write_whole(output.with_name(output.name.replace("mrsfit.tsv", "fit.npz"))) as temporary:
        np.savez_compressed(temporary, **curves)


def fit(task: Task, fids: np.ndarray, engine: str, processes: int) -> Fitted:
    """Fit spectra (cells, n_points) with one of the engines."""
    if engine == "fsl-mrs":
        from mrs_synthesis import quantify_fsl

        with quantify_fsl.Engine(task, processes) as worker:
            return worker.fit(fids)
    from mrs_synthesis.quantify import BatchedEngine

    with BatchedEngine(task) as worker:
        return worker.fit(fids)


def spread(truth: pd.DataFrame, most: int | None) -> np.ndarray:
    """Return the cells to be fitted: all, or the first ones of every noise level, `most` in total."""
    firsts = truth.drop_duplicates("cell")
    if most is None or most >= len(firsts):
        return firsts["cell"].to_numpy(int)
    rank = firsts.groupby("noise_sd").cumcount()
    return np.sort(firsts["cell"].to_numpy(int)[np.argsort(rank, kind="stable")[:most]])


def parser() -> argparse.ArgumentParser:
    """Return the command line's parser."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.published_fits",
        description="Turn published FSL-MRS fits into this project's files (read), make further spectra with the same "
        "truths (simulate), or fit either with the published fits' options (fit).",
    )
    parser.add_argument("action", choices=ACTIONS)
    parser.add_argument("--folder", type=Path, required=True, help="published spectra, truth and fits")
    parser.add_argument("--case", required=True, help="e.g. press_poly2")
    parser.add_argument("--cells", type=Path, required=True, help="NIfTI-MRS of all spectra; written by read, simulate")
    parser.add_argument("--truth", type=Path, required=True, help="TSV of true amplitudes; written by read, simulate")
    parser.add_argument("--output", type=Path, help="table of fits ..mrsfit.tsv, curves go beside it (read, fit)")
    parser.add_argument("--realisations", type=int, default=300, help="spectra per noise level; default: %(default)s")
    parser.add_argument("--levels", type=int, default=3, help="noise levels; default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="of the noise; default: %(default)s")
    parser.add_argument("--engine", choices=("batched", "fsl-mrs"), default="batched", help="default: %(default)s")
    parser.add_argument("--most", type=int, help="fit so many spectra, evenly over the noise levels; default: all")
    parser.add_argument("--processes", type=int, default=1, help="of the engine fsl-mrs; default: %(default)s")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line."""
    args = parser().parse_args(argv)
    if args.action == "fit" and args.engine == "fsl-mrs":
        from mrs_synthesis.fslmrs import reexec_if_needed

        reexec_if_needed("mrs_synthesis.published_fits", argv)
    if args.action != "simulate" and args.output is None:
        raise InputError(f"published_fits {args.action}: --output is missing; name the table to be written")
    case = Case.named(args.folder, args.case)
    if args.action == "fit":
        scan = read_scan(args.cells)
        cells = spread(read_table(require(args.truth), ("cell", "noise_sd")), args.most)
        fitted = fit(case.task(scan), scan.fids[0, cells, 0], args.engine, args.processes)
        write_fits(fitted, case.condition, args.engine, cells, args.output)
        return
    scan = case.scan()
    if args.action == "simulate":
        scan, truth = simulate(case, scan, args.realisations, args.levels, args.seed)
    else:
        noise_sd = [case.parameters[name]["noise_sd"] for name in case.ids]
        truth = truth_table(case, scan, case.ids, noise_sd)
        fitted = published(case, scan)
        write_fits(fitted, case.condition, "fsl-mrs", np.arange(len(case.ids)), args.output, told=False)
    write_scan(args.cells, scan)
    write_table(args.truth, truth)
    print(f"{args.case}: {scan.fids.shape[1]} spectra of {case.condition}", flush=True)


if __name__ == "__main__":
    run(main)
