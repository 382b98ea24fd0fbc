"""Are synthetic subjects of a site spread like its real ones? Random synthesis by site, fitted like measured spectra.

For every site the model draws new subjects: noise-free spectra of all edit conditions. Their fitted ratios to tCr are
compared with those of the site's real subjects: held-out ones (reference cells of the test subjects) and those that the
model was trained on (means of all transients). Real training against real test subjects is what two samples of one
population look like: the ceiling.

A real subject's estimate has the noise of its measurement in it, a synthetic one has none. So the real SD stands there
a second time without the median Cramer-Rao bound, and the energy test is made a second time with normal noise of that
size added to the synthetic subjects.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import estimates, generator, intervals, seeds
from mrs_synthesis.cohort_statistics import COMPARISONS, FEWEST, GROUPS, Group, compare
from mrs_synthesis.fit_truth import EVERY
from mrs_synthesis.interval_cells import INDEX_COLUMNS
from mrs_synthesis.sheet import NO_SITE, site_labels
from mrs_synthesis.stage import InputError, SkippedError, add_status_argument, require, run, run_subject

if TYPE_CHECKING:
    import pandas as pd

WHAT = "random"  # files are named <site>_desc-random_...
RESAMPLED = "bootstrap over subjects, which is too narrow for few; missing below 3"
WORDS = {
    "site": {"Description": f"Site; `{EVERY}`: all subjects. There synthetic ones count by the site's real subjects"},
    **{f"n_{g}": {"Description": f"{GROUPS[g].capitalize()} subjects with a fit"} for g in GROUPS},
    **{f"mean_{g}": {"Description": f"Mean of the ratio to tCr over {GROUPS[g]} subjects"} for g in GROUPS},
    **{f"sd_{g}": {"Description": f"SD of the ratio to tCr over {GROUPS[g]} subjects"} for g in GROUPS},
    **{
        f"crlb_{g}": {"Description": f"Median SD of {GROUPS[g]} subjects' ratios by the Cramer-Rao bound"}
        for g in GROUPS
    },
    **{
        f"sd_{g}_corrected": {"Description": f"sqrt(sd_{g}^2 - crlb_{g}^2), at least 0: without measurement noise"}
        for g in ("test", "train")
    },
    "mean_truth": {"Description": "Phantom: mean true ratio of the real (test and training) subjects"},
    "sd_truth": {"Description": "Phantom: SD of the true ratio over these"},
}
for _name, (_first, _second) in COMPARISONS.items():
    _words = f"{GROUPS[_first]} against {GROUPS[_second]} subjects"
    WORDS |= {
        f"difference_{_name}": {"Description": f"Difference of the means, {_words}, in percent", "Units": "percent"},
        f"difference_{_name}_low": {"Description": f"Lower end of its 95 % interval, {RESAMPLED}", "Units": "percent"},
        f"difference_{_name}_high": {"Description": "Upper end of this interval", "Units": "percent"},
        f"sd_ratio_{_name}": {"Description": f"Ratio of the SDs (uncorrected), {_words}"},
        f"sd_ratio_{_name}_low": {"Description": f"Lower end of its 95 % interval, {RESAMPLED}"},
        f"sd_ratio_{_name}_high": {"Description": "Upper end of this interval"},
        f"p_{_name}": {"Description": f"Energy test, {_words}; permutations within sites"},
    }
WORDS["p_test_noise"] = {"Description": "p_test with normal noise of SD crlb_test added to the synthetic subjects"}


def random_spectra(model: generator.Generator, n: int, rng: np.random.Generator) -> np.ndarray:
    """Return noise-free spectra of `n` new subjects, complex (conditions, n, W), divided by their scale."""
    if isinstance(model, generator.SubjectGenerator):
        return np.moveaxis(model.model.draw(rng, n, model.site), 0, 1)
    covariance = model.model.code_covariance.numpy().astype(float)
    about = {"code_covariance": covariance, "hybrid_sd": 0.0, "density": model.density, "site": model.site}
    nobody = np.zeros((len(covariance), 1, covariance.shape[-1]))  # `random` looks at no code
    return generator.decode(model.model, generator.draw_codes("random", nobody, n, rng, **about))


def draws(a: argparse.Namespace) -> dict:
    """Write synthetic subjects of one site as a file of cells; return their number.

    Raises
    ------
    InputError
        If the model cannot be read.
    SkippedError
        If no scan of the site was preprocessed.
    """
    import pandas as pd

    from mrs_synthesis import sidecars, spectra, synthesise
    from mrs_synthesis.files import write_table
    from mrs_synthesis.scans import Scan, write_scan, write_sidecar

    config = generator.read_config(a.model, a.training)
    grid, kind, digest = config["grid"], config["model"], config["weights_sha256"]
    site = str(np.nan) if a.site == NO_SITE else a.site  # as the training set's table is read
    model = generator.load(a.model, site, a.prior)
    drawn = random_spectra(model, a.draws, seeds.generator(a.seed, "cohort", a.site))
    raster = grid["n_points"], grid["dwell_s"], grid["frequency_mhz"]
    fids = spectra.from_window(drawn, np.asarray(grid["ppm"]), *raster)
    header = _header(a.scans, a.site)  # of a real scan: echo time and the like, by which a basis set is chosen
    empty = Scan(fids[:, :1, None], grid["frequency_mhz"], grid["dwell_s"], header, tuple(grid["conditions"]))
    details = f"Noise-free spectra of {a.draws} new subjects of site {a.site}. Weights {digest}."
    result = synthesise.derived(empty, fids, f"Random synthesis by the model {kind}", details)
    write_scan(a.output, result)
    facts = sidecars.model_facts(config)
    facts |= {"Mode": "random", "Decoder": "mean", "Site": a.site, "Seed": a.seed, **model.describe("random", "mean")}
    write_sidecar(a.output, result, [a.model / "model.safetensors"], **facts)
    rows = [(k, a.unit, 0, 0, k) for k in range(a.draws)]
    write_table(a.index, pd.DataFrame(rows, columns=list(INDEX_COLUMNS)))
    return {"cells": a.draws}


def _header(paths: Sequence[Path], site: str) -> dict:
    """Return the header of the first scan that did not fail."""
    from mrs_synthesis.scans import read_scan

    for path in paths:
        try:
            return read_scan(path).header
        except SkippedError:
            continue
    raise SkippedError(f"site {site}: no scan was preprocessed")


def cohort_table(
    fits: dict[str, pd.DataFrame], ratios: Sequence[tuple[str, str]], sites: Sequence[str], seed: int, n_resamples: int
) -> pd.DataFrame:
    """Return the table, one row per site and ratio.

    Parameters
    ----------
    fits
        By name as `GROUPS`: columns subject, site, condition, metabolite, per_tcr, per_tcr_sd; on the phantom those of
        real subjects have the truth as `reference`.
    ratios
        (condition, metabolite) pairs.
    sites
        Their names.
    seed, n_resamples
        Of bootstrap and permutations.
    """
    import pandas as pd

    rows = []
    for condition, metabolite in ratios:
        chosen, truth = {}, []
        for name, part in fits.items():
            own = part[(part["condition"] == condition) & (part["metabolite"] == metabolite)]
            own = own[np.isfinite(own["per_tcr"])]
            wanted = [column for column in ("per_tcr", "per_tcr_sd", "reference") if column in own]
            own = own.groupby(["site", "subject"], sort=True)[wanted].mean().reset_index()  # sessions
            chosen[name] = Group(
                own["per_tcr"].to_numpy(float), own["per_tcr_sd"].to_numpy(float), own["site"].to_numpy(str)
            )
            if "reference" in own:
                truth.append(own[["site", "reference"]].dropna())
        for site in [*sites, EVERY]:
            groups = chosen if site == EVERY else {name: group.of(site) for name, group in chosen.items()}
            rng = seeds.generator(seed, "cohort", condition, metabolite, site, "table")
            row = {"site": site, "condition": condition, "metabolite": metabolite, **compare(groups, rng, n_resamples)}
            if truth:
                true = pd.concat(truth)
                true = true.loc[(true["site"] == site) | (site == EVERY), "reference"]
                row |= {"mean_truth": true.mean(), "sd_truth": true.std(ddof=1)}
            rows.append(row)
    columns = ["site", "condition", "metabolite", *(name for name in WORDS if name != "site")]
    table = pd.DataFrame(rows)
    return table[[column for column in columns if column in table]]


def read_groups(a: argparse.Namespace) -> tuple[dict[str, pd.DataFrame], list[tuple[str, str]], list[str]]:
    """Read the fits of `cohort_table`; return them, the ratios and the sites.

    Raises
    ------
    InputError
        If a table is absent, lacks a column, or does not belong to the others.
    """
    import pandas as pd

    from mrs_synthesis.files import read_table

    try:
        names = ("unit", "subject", "source", "condition", "metabolite", "per_tcr", "per_tcr_sd")
        concentrations = read_table(require(a.concentrations), names)
        units = read_table(require(a.units), ("unit", "folder", "subject", "site", "split"))
        index = read_table(require(a.training / "index.tsv"), ("unit", "split"))
        truth = read_table(require(a.truth), ("subject", "metabolite", "per_tcr")) if a.truth else None
    except ValueError as error:
        raise InputError(str(error)) from None
    units["site"] = units["site"].fillna(NO_SITE)
    ratios = estimates.choose_ratios(a.ratios, concentrations)
    keys = pd.MultiIndex.from_frame(concentrations[["condition", "metabolite"]])
    reference = concentrations[keys.isin(ratios) & (concentrations["source"] == "reference")]
    test = reference.drop(columns="site", errors="ignore").merge(units[["unit", "site"]], on="unit")
    if test.empty:
        raise InputError(f"{a.concentrations}: no reference cell of a scan in {a.units}; evaluate this study first")
    used = set(units.loc[units["split"].isna() | (units["split"] == "test"), "subject"])
    trained = units["unit"].isin(index.loc[index["split"] == "train", "unit"]) & ~units["subject"].isin(used)
    train = intervals.collect(units[trained], a.derivatives, "mean", ratios) if trained.any() else test.iloc[:0]
    known, parts = site_labels(units["site"]), []
    for site, label in known.items():
        try:
            own = intervals.read_fits(a.cohort / label, WHAT)
        except SkippedError as error:
            print(f"left out: {error}", flush=True)
            continue
        parts.append(own.assign(site=site, subject=own["draw"].astype(str)))
    if not parts:
        raise InputError(f"{a.cohort}: no site has synthetic subjects; see the logs of draw_cohort")
    fits = {"test": test, "train": train, "synthetic": pd.concat(parts, ignore_index=True)}
    if truth is not None:
        for name in ("test", "train"):
            fits[name] = estimates.with_truth(fits[name].drop(columns="reference", errors="ignore"), ratios, truth)
    return fits, ratios, list(known)


def table(a: argparse.Namespace) -> None:
    """Write the table that compares real and synthetic subjects."""
    from mrs_synthesis.dictionary import write_described_table

    fits, ratios, sites = read_groups(a)
    result = cohort_table(fits, ratios, sites, a.seed, a.bootstrap)
    about = "Real and synthetic subjects of one site: the distribution of one fitted ratio to tCr over subjects"
    write_described_table(a.output, result, about, WORDS)
    for row in result[result["site"] == EVERY].to_dict("records"):
        print(
            f"{row['condition']}:{row['metabolite']}/tCr, SD over synthetic subjects / held-out real ones "
            f"{row['sd_ratio_test']:.2f} ({row['sd_ratio_test_low']:.2f} to {row['sd_ratio_test_high']:.2f}), "
            f"means differ by {row['difference_test']:+.1f} %, p {row['p_test']:.3f}",
            flush=True,
        )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.cohort", description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    part = commands.add_parser("draws", help="synthetic subjects of one site")
    part.add_argument("--unit", required=True, help="what the site's files are called, for the record")
    part.add_argument("--site", required=True, help=f"as in the sample sheet; {NO_SITE}: not stated")
    part.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    part.add_argument("--training", type=Path, required=True, help="folder of the training set that it was trained on")
    part.add_argument("--scans", type=Path, nargs="+", required=True, help="preprocessed scans of the site, for TE, TR")
    part.add_argument("--draws", type=int, default=100, help="synthetic subjects (default: 100)")
    part.add_argument("--prior", choices=("standard", "fitted"), default="standard", help="of the model paper")
    part.add_argument("--seed", type=int, required=True)
    part.add_argument("--output", type=Path, required=True, help="NIfTI-MRS file with DIM_DYN")
    part.add_argument("--index", type=Path, required=True, help="TSV: what each element of DIM_DYN is")
    add_status_argument(part)
    part = commands.add_parser("table", help="compare their fits with those of real subjects")
    part.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    part.add_argument("--training", type=Path, required=True, help="folder of the training set (for the splits)")
    part.add_argument("--concentrations", type=Path, required=True, help="estimates of every study cell")
    part.add_argument(
        "--derivatives", type=Path, required=True, help="folder with the fits of training subjects' means"
    )
    part.add_argument("--cohort", type=Path, required=True, help="folder with the fits of synthetic subjects")
    part.add_argument("--truth", type=Path, help="phantom only: the true ratios")
    part.add_argument("--ratios", nargs="+", help="CONDITION:METABOLITE, e.g. DIFF:GABA+ (default: the usual ones)")
    part.add_argument("--bootstrap", type=int, default=1000, help="resamples, and permutations (default: 1000)")
    part.add_argument("--seed", type=int, required=True)
    part.add_argument("--output", type=Path, required=True, help="table (TSV)")
    a = parser.parse_args(argv)
    if a.command == "table":
        if a.bootstrap < 100:
            raise InputError(f"--bootstrap {a.bootstrap}: expected at least 100")
        table(a)
        return
    if a.draws < FEWEST:
        raise InputError(f"--draws {a.draws}: expected at least {FEWEST}")
    from mrs_synthesis.scans import sidecar_path

    outputs = [a.output, sidecar_path(a.output), a.index]
    run_subject(lambda: draws(a), stage="cohort", unit=a.unit, outputs=outputs, status=a.status)


if __name__ == "__main__":
    run(main)
