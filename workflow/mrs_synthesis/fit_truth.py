"""Bias of fitted amplitudes, and coverage of the interval that the Cramer-Rao bound promises, against known truth.

Two kinds of truth: spectra made of known amplitudes (`mrs_synthesis.published_fits`), where amplitudes are compared;
and the digital phantom's study cells of real transients, where ratios to tCr are compared, with everything that
acquisition and preprocessing did to them.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

NORMAL_95 = 1.959963984540054
EVERY = "all"
REAL_SOURCES = ("real", "reference")
SERIES = ["set", "engine", "condition", "metabolite"]
LEVELS = ["source", "n_real", "noise_sd"]
COLUMNS = (
    *SERIES,
    *LEVELS,
    "snr",
    "n",
    "bias_percent",
    "bias_ci_low",
    "bias_ci_high",
    "z_mean",
    "z_sd",
    "coverage",
    "coverage_ci_low",
    "coverage_ci_high",
    "n_above_truth",
)
DESCRIPTIONS = {
    "set": {"Description": "Spectra that were fitted alike: published ones, simulated ones, or a study's cells"},
    "metabolite": {
        "Description": f"Basis spectrum or sum; `{EVERY}`: all basis spectra together. These are correlated within a "
        "spectrum, so no interval is given"
    },
    "source": {"Description": "Study cells: real (n_real transients alone) or reference; missing: simulated spectra"},
    "n_real": {"Description": "Study cells: transients per edit condition (of references the median)"},
    "noise_sd": {"Description": "SD of the real part of the noise of a FID; missing: all levels together, or cells"},
    "snr": {"Description": "Median over the fits of the metabolite's signal-to-noise ratio as the engine defines it"},
    "n": {"Description": "Fits with a finite amplitude and bound"},
    "bias_percent": {
        "Description": "Mean difference of the estimate (amplitude; of study cells the ratio to tCr) from the truth, "
        "in percent of it",
        "Units": "percent",
    },
    "bias_ci_low": {
        "Description": "Lower end of the bias's 95 % t interval over spectra; of study cells over subjects, whose "
        "replicates are averaged first",
        "Units": "percent",
    },
    "bias_ci_high": {"Description": "Upper end of this interval", "Units": "percent"},
    "z_mean": {"Description": "Mean of z = (estimate - truth) / SD by the Cramer-Rao bound"},
    "z_sd": {"Description": "SD of z; 1 if the bound tells the scatter"},
    "coverage": {"Description": "Share of estimates within 1.96 SD by the Cramer-Rao bound of the truth: 0.95 wanted"},
    "coverage_ci_low": {
        "Description": "Lower end of the coverage's exact binomial 95 % interval (Clopper and Pearson); fits count as "
        "independent, which replicates of one subject are not quite"
    },
    "coverage_ci_high": {"Description": "Upper end of this interval"},
    "n_above_truth": {
        "Description": "Fits whose objective exceeds that of the true parameters: certainly in a worse local minimum; "
        "missing where the model does not contain the truth"
    },
}


def binomial_interval(hits: int, n: int, level: float = 0.95) -> tuple[float, float]:
    """Return Clopper and Pearson's exact interval of a proportion (Biometrika 26:404, 1934)."""
    from scipy.stats import beta

    tail = (1 - level) / 2
    low = float(beta.ppf(tail, hits, n - hits + 1)) if hits > 0 else 0.0
    high = float(beta.ppf(1 - tail, hits + 1, n - hits)) if hits < n else 1.0
    return low, high


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float]:
    """Return the t interval of a mean; NaN of fewer than two values."""
    from scipy.stats import t

    if values.size < 2:
        return float("nan"), float("nan")
    half = float(t.ppf((1 + level) / 2, values.size - 1) * values.std(ddof=1) / np.sqrt(values.size))
    return float(values.mean()) - half, float(values.mean()) + half


def statistics(rows: pd.DataFrame, *, intervals: bool = True) -> dict[str, float]:
    """Return bias and coverage of the estimates in `rows`.

    Parameters
    ----------
    rows
        Columns cell, estimate, sd, truth, snr, objective, true_objective, and cluster: what is independent of each
        other. Estimates, SDs and truths are finite.
    intervals
        Whether the rows are independent enough for intervals.
    """
    n = len(rows)
    percent = 100 * (rows["estimate"] / rows["truth"] - 1)
    z = ((rows["estimate"] - rows["truth"]) / rows["sd"]).to_numpy(float)
    hits = int(np.sum(np.abs(z) <= NORMAL_95))
    by_cluster = percent.groupby(rows["cluster"]).mean().to_numpy(float)
    nothing = (float("nan"), float("nan"))
    snr, comparable = rows["snr"].dropna(), rows["true_objective"].notna()
    above = rows["cell"][comparable & (rows["objective"] > rows["true_objective"])].nunique()
    low, high = mean_interval(by_cluster) if intervals else nothing
    coverage_low, coverage_high = binomial_interval(hits, n) if intervals else nothing
    return {
        "snr": float(snr.median()) if len(snr) else float("nan"),
        "n": n,
        "bias_percent": float(by_cluster.mean()),
        "bias_ci_low": low,
        "bias_ci_high": high,
        "z_mean": float(z.mean()),
        "z_sd": float(z.std(ddof=1)) if n > 1 else float("nan"),
        "coverage": hits / n,
        "coverage_ci_low": coverage_low,
        "coverage_ci_high": coverage_high,
        "n_above_truth": above if comparable.any() else float("nan"),
    }


def truth_statistics(estimates: pd.DataFrame) -> pd.DataFrame:
    """Return one row per set, engine, condition, metabolite and level, and over all noise levels where there are many.

    Parameters
    ----------
    estimates
        Columns of `SERIES` and `LEVELS` (missing where they do not apply) and those that `statistics` needs.
    """
    import pandas as pd

    from mrs_synthesis.metabolites import DIFF_SUMS, SUMS

    values = estimates[["estimate", "sd", "truth"]].to_numpy(float)
    usable = estimates[np.isfinite(values).all(axis=1) & (estimates["sd"] > 0) & (estimates["truth"] > 0)]
    singles = usable[~usable["metabolite"].isin([*SUMS, *DIFF_SUMS])]
    parts = [usable, singles.assign(metabolite=EVERY)]
    levels = usable.groupby("set")["noise_sd"].nunique()
    many = set(levels.index[levels > 1])
    parts += [part[part["set"].isin(many)].assign(noise_sd=np.nan) for part in parts]
    rows = []
    for part in parts:
        for key, group in part.groupby([*SERIES, *LEVELS], sort=False, dropna=False):
            names = dict(zip([*SERIES, *LEVELS], key, strict=True))
            rows.append(names | statistics(group, intervals=names["metabolite"] != EVERY))
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    first = (table["metabolite"] != EVERY).astype(int)
    order = table.assign(first=first).sort_values(["first", "set", "condition", "metabolite", "engine", *LEVELS])
    return table.loc[order.index].reset_index(drop=True)


def _read(path: Path, columns: Sequence[str]) -> pd.DataFrame:
    from mrs_synthesis.files import read_table

    try:
        return read_table(require(path), columns)
    except ValueError as error:
        raise InputError(str(error)) from None


def simulated(sets: Sequence[str], fits: Sequence[Path], truths: Sequence[Path]) -> pd.DataFrame:
    """Return estimates beside the true amplitudes of simulated spectra.

    Raises
    ------
    InputError
        If the lists have different lengths or the files do not belong together.
    """
    import pandas as pd

    from mrs_synthesis.engine_agreement import read_fits

    if not len(sets) == len(fits) == len(truths):
        raise InputError(
            f"--sets, --fits, --cell-truths: {len(sets)}, {len(fits)} and {len(truths)} values; give as many of each"
        )
    parts = []
    for name, fit, truth in zip(sets, fits, truths, strict=True):
        estimates = read_fits(fit)
        known = _read(truth, ("cell", "noise_sd", "objective", "metabolite", "raw"))
        known = known.rename(columns={"raw": "truth", "objective": "true_objective"})
        joined = estimates.merge(known, on=["cell", "metabolite"], how="inner", validate="many_to_one")
        if joined.empty:
            raise InputError(f"{fit} and {truth} have no cell and metabolite in common; make both again")
        joined = joined.rename(columns={"raw": "estimate", "raw_sd": "sd"})
        parts.append(joined.assign(set=name, source=np.nan, n_real=np.nan, cluster=joined["cell"]))
    return pd.concat(parts, ignore_index=True)


def phantom(name: str, units: Path, derivatives: Path, engines: Sequence[str], truth: Path) -> pd.DataFrame:
    """Return ratios to tCr of the phantom's cells of real transients beside the true ratios.

    Scans that failed earlier, or that an engine did not fit, are left out.

    Raises
    ------
    InputError
        If a column is absent, or nothing is left.
    """
    import pandas as pd

    known = _read(truth, ("subject", "metabolite", "per_tcr")).rename(columns={"per_tcr": "truth"})
    known = known[["subject", "metabolite", "truth"]]
    parts = []
    for row in _read(units, ("unit", "folder", "subject")).to_dict("records"):
        base = Path(derivatives) / row["folder"] / "mrs"
        for engine in engines:
            path = base / f"{row['unit']}_desc-{engine.replace('-', '')}_mrsfit.tsv"
            if not path.exists():
                continue
            try:
                fits = _read(path, ("cell", "condition", "metabolite", "engine", "per_tcr", "per_tcr_sd", "snr"))
                cells = _read(base / f"{row['unit']}_desc-cells_index.tsv", ("cell", "source", "n_real"))
            except SkippedError as error:
                print(f"left out: {error}", flush=True)
                continue
            cells = cells[cells["source"].isin(REAL_SOURCES)][["cell", "source", "n_real"]]
            mine = known[known["subject"] == row["subject"]]
            parts.append(fits.merge(cells, on="cell").merge(mine, on="metabolite").assign(cluster=row["subject"]))
    if not parts or not sum(map(len, parts)):
        raise InputError(
            f"{derivatives}: no cell of real transients of a subject in {truth} was fitted; quantify first"
        )
    table = pd.concat(parts, ignore_index=True)
    table = table[table["metabolite"] != "tCr"]  # its own unit
    typical = table.loc[table["source"] == "reference", "n_real"].median()
    table["n_real"] = table["n_real"].where(table["source"] != "reference", typical)
    table = table.rename(columns={"per_tcr": "estimate", "per_tcr_sd": "sd"})
    return table.assign(set=name, noise_sd=np.nan, objective=np.nan, true_objective=np.nan)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare fits with the truth: bias, and coverage of the 95 % interval from the Cramer-Rao bound."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.fit_truth", description=main.__doc__)
    parser.add_argument("--sets", nargs="*", default=[], help="name of each table of fits; of the phantom the study's")
    parser.add_argument("--fits", type=Path, nargs="*", default=[], help="tables of fits (..mrsfit.tsv)")
    parser.add_argument("--cell-truths", type=Path, nargs="*", default=[], help="true amplitudes, in the same order")
    parser.add_argument("--units", type=Path, help="phantom: table of scans")
    parser.add_argument("--derivatives", type=Path, help="phantom: folder of the scans' cells and fits")
    parser.add_argument("--engines", nargs="*", default=["batched", "fsl-mrs"], help="phantom: taken where they fitted")
    parser.add_argument("--truth", type=Path, help="phantom: TSV of subject, metabolite, per_tcr")
    parser.add_argument("--output", type=Path, required=True, help="table (TSV)")
    args = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table

    if args.truth is not None:
        if args.units is None or args.derivatives is None or len(args.sets) != 1:
            raise InputError("--truth needs --units, --derivatives and one name in --sets")
        estimates = phantom(args.sets[0], args.units, args.derivatives, args.engines, args.truth)
    else:
        if not args.fits:
            raise InputError("nothing to compare: give --fits with --cell-truths, or --truth of the phantom")
        estimates = simulated(args.sets, args.fits, args.cell_truths)
    table = truth_statistics(estimates)
    about = "Bias and coverage of fitted amplitudes against the truth; one row per set, engine, metabolite and level"
    write_described_table(args.output, table, about, DESCRIPTIONS)
    pooled = table[table["metabolite"] == EVERY]
    for row in pooled.to_dict("records"):
        level = " ".join(f"{key} {row[key]}" for key in LEVELS if row[key] == row[key])
        print(
            f"{row['set']} {row['engine']} {row['condition']} {level or 'all levels'}: "
            f"SD of z {row['z_sd']:.2f}, coverage {100 * row['coverage']:.1f} % of {row['n']}",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
