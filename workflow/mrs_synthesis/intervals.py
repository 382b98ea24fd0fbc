"""An interval for every ratio of every test scan, from n_real transients, and how often it holds the truth.

How one is made:

crlb_real
    The n_real real transients alone: estimate +- 1.96 SD by the Cramer-Rao bound of the fit.
crlb_augmented
    The same of a cell that synthetic transients fill up. Too narrow by construction: their noise adds no information.
posterior
    Mean m and SD s of the fits of K spectra drawn from the posterior of the subject given the n_real transients. The
    truth is one more draw, so the interval is m +- t s sqrt(1 + 1/K), with t the quantile of K - 1 degrees of freedom.
posterior_and_fit
    The same with the fit's own systematic error f in quadrature: m +- t sqrt(s^2 (1 + 1/K) + f^2). Phantom only.

The fit's own error is calibrated on training and validation subjects of the phantom, whose truth is known; no test
subject has part in it. f is the SD over these subjects of the relative difference between the fit of the mean of all
transients and the truth, without the part that noise has in it by the Cramer-Rao bound. The mean difference, the fit's
bias, is stated in the table of calibration and not corrected in any interval.

With real data nothing is known of the truth: the table of coverage then counts how often an interval holds the scan's
own reference cell, once it is widened (in quadrature) by the reference's 1.96 SD by the Cramer-Rao bound.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import estimates, generator
from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.fit_truth import NORMAL_95, mean_interval
from mrs_synthesis.interval_statistics import BELIEVABLE, NARROW, WANTED, WIDE, clustered, posterior_interval, verdict
from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

METHODS = ("crlb_real", "crlb_augmented", "posterior", "posterior_and_fit")
RATIO = ["condition", "metabolite"]
SERIES = [*RATIO, "n_real", "method", "source", "decoder"]
INTERVALS = (
    *("unit", "subject", "site", "metabolite", "condition", "n_real", "replicate", "method", "source", "decoder"),
    *("estimate", "low", "high", "n_draws", "truth", "reference", "reference_sd"),
)
SUMMARY = ("value", "ci_low", "ci_high", "floor", "ceiling", "n", "n_subjects", "n_missing", "verdict")
COVERAGE = ("metric", "quantity", "metabolite", "condition", "n_real", "method", "source", "decoder", *SUMMARY)
PERCENT = {"Units": "percent"}
METHOD = {
    "Description": "How the interval is made",
    "Levels": {
        "crlb_real": "Real transients alone +- 1.96 SD by the Cramer-Rao bound",
        "crlb_augmented": "Filled cell +- 1.96 SD by the bound; too narrow by construction",
        "posterior": "Fits of draws from the posterior of the subject, as prediction of one more draw",
        "posterior_and_fit": "The same with the fit's own systematic error, calibrated on other subjects",
    },
}
INTERVAL_WORDS = {
    "n_real": {"Description": "Real transients per edit condition"},
    "method": METHOD,
    "source": {"Description": "real, the synthesis mode that fills the cell, or the method's name"},
    "estimate": {"Description": "Ratio to tCr; of the methods from the posterior the mean over fitted draws"},
    "low": {"Description": "Lower end of the 95 % interval"},
    "high": {"Description": "Upper end of the 95 % interval"},
    "n_draws": {"Description": "Fitted draws"},
    "truth": {"Description": "True ratio to tCr (phantom)"},
    "reference": {"Description": "Ratio to tCr of the scan's reference cell"},
    "reference_sd": {"Description": "Its SD by the Cramer-Rao bound"},
}
COVERAGE_WORDS = {
    "metric": {"Description": "Quantity, ratio and number of real transients"},
    "quantity": {
        "Description": "What value is",
        "Levels": {
            "coverage_truth": "Share of intervals that hold the truth",
            "coverage_reference": "Share that, widened in quadrature by 1.96 SD of the reference by the Cramer-Rao "
            "bound, hold the reference cell's estimate",
            "width_percent": "Mean width in percent of the truth (without truth: of the reference)",
        },
    },
    "n_real": INTERVAL_WORDS["n_real"],
    "method": METHOD,
    "source": INTERVAL_WORDS["source"],
    "value": {"Description": "Share or percent, see quantity"},
    "ci_low": {
        "Description": "Lower end of the 95 % interval of value: Wilson's with the number of scans reduced by what "
        "those of one subject have in common; of a width the t interval over subjects"
    },
    "ci_high": {"Description": "Upper end of this interval"},
    "floor": {"Description": "Least coverage that can be believed"},
    "ceiling": {"Description": "Largest coverage that can be believed; more means too wide"},
    "n": {"Description": "Intervals"},
    "n_subjects": {"Description": "Subjects"},
    "n_missing": {"Description": "Intervals without both ends, or without what they are compared with"},
    "verdict": {
        "Description": "By coverage. Few subjects have a wide confidence interval, which allows believable easily",
        "Levels": {
            BELIEVABLE: "90 to 98 %, or the confidence interval overlaps that range",
            NARROW: "Below",
            WIDE: "Above",
        },
    },
}
CALIBRATION_WORDS = {
    "n_subjects": {"Description": "Training and validation subjects of the phantom; no test subject is among them"},
    "bias_percent": {"Description": "Mean relative difference of the fit from the truth; not corrected", **PERCENT},
    "bias_ci_low": {"Description": "Lower end of its 95 % t interval over subjects", **PERCENT},
    "bias_ci_high": {"Description": "Upper end of this interval", **PERCENT},
    "sd_percent": {"Description": "SD over subjects of the relative difference", **PERCENT},
    "noise_percent": {"Description": "Part of the noise in it, by the Cramer-Rao bound", **PERCENT},
    "systematic_percent": {"Description": "The fit's own: sqrt(sd^2 - noise^2), at least 0", **PERCENT},
}


def calibration(fits: pd.DataFrame) -> pd.DataFrame:
    """Return the fit's own error by ratio.

    Parameters
    ----------
    fits
        Columns subject, condition, metabolite, per_tcr, per_tcr_sd and reference (the truth) of the means of all
        transients; a row per scan.
    """
    import pandas as pd

    rows = []
    for ratio, part in fits.groupby(RATIO, sort=False):
        relative = 100 * (part["per_tcr"] / part["reference"] - 1)
        noise = 100 * part["per_tcr_sd"] / part["reference"]
        known = np.isfinite(relative) & np.isfinite(noise)
        difference = relative[known].groupby(part.loc[known, "subject"]).mean().to_numpy(float)
        if difference.size < 3:
            continue
        sd, by_noise = float(difference.std(ddof=1)), float(np.sqrt(np.mean(noise[known] ** 2)))
        low, high = mean_interval(difference)
        rows.append(
            dict(zip(RATIO, ratio, strict=True))
            | {"n_subjects": difference.size, "bias_percent": difference.mean(), "bias_ci_low": low}
            | {"bias_ci_high": high, "sd_percent": sd, "noise_percent": by_noise}
            | {"systematic_percent": np.sqrt(max(sd**2 - by_noise**2, 0.0))}
        )
    return pd.DataFrame(rows, columns=[*RATIO, *CALIBRATION_WORDS])


def crlb_intervals(rows: pd.DataFrame, replicates: int) -> pd.DataFrame:
    """Return the intervals of the Cramer-Rao bound, of rows as of the table of concentrations.

    Controls and cells whose n_real no synthetic transients fill up have none.
    """
    made = ~rows["source"].isin((*CONTROLS, *estimates.NO_CURVE))
    filled = rows.loc[made & (rows["source"] != "real"), "n_real"]
    sizes = set(filled) or set(rows.loc[rows["source"].isin(CONTROLS), "n_real"])
    kept = rows[made & rows["n_real"].isin(sizes) & (rows["replicate"] < replicates)]
    half = NORMAL_95 * kept["per_tcr_sd"].where(kept["per_tcr_sd"] > 0)
    method = np.where(kept["source"] == "real", METHODS[0], METHODS[1])
    return kept.assign(
        method=method, estimate=kept["per_tcr"], low=kept["per_tcr"] - half, high=kept["per_tcr"] + half, n_draws=np.nan
    )


def posterior_intervals(fits: pd.DataFrame, systematic: Mapping[tuple[str, str], float] | None) -> pd.DataFrame:
    """Return the intervals from the posterior.

    Parameters
    ----------
    fits
        Columns unit, condition, metabolite, n_real, replicate, per_tcr: a row per draw.
    systematic
        The fit's own relative error by (condition, metabolite); None: not known.
    """
    import pandas as pd

    rows = []
    columns = ["unit", *RATIO, "n_real", "replicate"]
    for key, part in fits.groupby(columns, sort=False):
        named, values = dict(zip(columns, key, strict=True)), part["per_tcr"].to_numpy(float)
        for method in METHODS[2:] if systematic is not None else METHODS[2:3]:
            error = 0.0 if method == METHODS[2] else systematic.get(key[1:3], np.nan)
            found = dict(zip(("estimate", "low", "high", "n_draws"), posterior_interval(values, error), strict=True))
            rows.append(named | {"method": method, "source": method, "decoder": "n/a"} | found)
    return pd.DataFrame(rows)


def coverage_table(intervals: pd.DataFrame) -> pd.DataFrame:
    """Return coverage and width of the intervals with columns as of `INTERVALS`, three rows per series."""
    import pandas as pd

    table = []
    for key, part in intervals.groupby(SERIES, sort=False, dropna=False):
        named = dict(zip(SERIES, key, strict=True))
        low, high, truth, reference, sd = (
            part[name].to_numpy(float) for name in ("low", "high", "truth", "reference", "reference_sd")
        )
        if np.isfinite(truth).any():
            targets = {"coverage_truth": (truth, np.zeros_like(sd))}
        else:
            targets, truth = {}, reference
        targets["coverage_reference"] = (reference, NORMAL_95 * sd)
        words = f"{named['condition']}:{named['metabolite']}/tCr, {named['n_real']} real"
        for quantity, (target, wider) in targets.items():
            half = np.hypot((high - low) / 2, wider)
            known = np.isfinite(half) & np.isfinite(target)
            hits = (np.abs(target - (low + high) / 2) <= half)[known].astype(float)
            subject = part["subject"].to_numpy()[known]
            share, *limits = clustered(hits, subject)
            row = {"metric": f"{quantity.replace('_', ' of the ')}, {words}", "quantity": quantity, **named}
            row |= {"value": share, "ci_low": limits[0], "ci_high": limits[1], "floor": WANTED[0], "ceiling": WANTED[1]}
            row |= {"n": hits.size, "n_subjects": np.unique(subject).size, "n_missing": int(np.sum(~known))}
            table.append(row | {"verdict": verdict(share, *limits)})
        width = pd.Series(100 * (high - low) / truth, index=part.index)
        means = width.dropna().groupby(part["subject"]).mean().to_numpy(float)
        limits = mean_interval(means)
        row = {"metric": f"width in percent, {words}", "quantity": "width_percent", **named}
        row |= {"value": means.mean() if means.size else np.nan, "ci_low": limits[0], "ci_high": limits[1]}
        row |= {"n": int(width.notna().sum()), "n_subjects": means.size, "n_missing": int(width.isna().sum())}
        table.append(row)
    return pd.DataFrame(table, columns=list(COVERAGE))


def read_fits(base: Path, what: str) -> pd.DataFrame:
    """Return the fits of the file ``<base>_desc-<what>_mrsfit.tsv`` with its index.

    Raises
    ------
    InputError
        If they are absent or do not belong together.
    SkippedError
        If the unit failed earlier.
    """
    from mrs_synthesis.files import read_table

    path = Path(f"{base}_desc-{what}_mrsfit.tsv")
    try:
        fits = read_table(require(path), ("cell", "condition", "metabolite", "per_tcr", "per_tcr_sd"))
        index = read_table(
            require(Path(f"{base}_desc-{what}_index.tsv")), ("cell", "unit", "n_real", "replicate", "draw")
        )
    except ValueError as error:
        raise InputError(str(error)) from None
    if set(fits["cell"]) != set(index["cell"]):
        raise InputError(
            f"{path}: fits of {fits['cell'].nunique()} cells, the index has {len(index)}; quantify these again"
        )
    return index.merge(fits, on="cell")


def collect(units: pd.DataFrame, derivatives: Path, what: str, ratios: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the fits of all units, rows of units.tsv, that did not fail; only of the ratios."""
    import pandas as pd

    parts = []
    for row in units.to_dict("records"):
        try:
            parts.append(read_fits(Path(derivatives) / row["folder"] / "mrs" / row["unit"], what))
        except SkippedError as error:
            print(f"left out: {error}", flush=True)
    if not parts:
        raise InputError(f"{derivatives}: no unit has fits of {what}; see the table of failures")
    fits = pd.concat(parts, ignore_index=True).merge(units[["unit", "subject", "site"]], on="unit")
    return fits[pd.MultiIndex.from_frame(fits[RATIO]).isin(ratios)]


def interval_table(
    concentrations: pd.DataFrame,
    posterior: pd.DataFrame | None,
    systematic: Mapping[tuple[str, str], float] | None,
    truth: pd.DataFrame | None,
    ratios: Sequence[tuple[str, str]],
    replicates: int,
) -> pd.DataFrame:
    """Return all intervals, with truth and reference beside them; columns are `INTERVALS`.

    Parameters
    ----------
    concentrations
        That table.
    posterior, systematic
        Of `posterior_intervals`; None if there are none.
    truth
        Truth of the phantom's subjects; None with real data.
    ratios
        (condition, metabolite) pairs.
    replicates
        Replicates of each n_real that count.
    """
    import pandas as pd

    rows = estimates.with_reference(concentrations, ratios)
    own = rows[rows["source"] == "reference"][["unit", *RATIO, "per_tcr_sd"]]
    own = own.rename(columns={"per_tcr_sd": "reference_sd"})
    parts = [crlb_intervals(rows, replicates)]
    if posterior is not None:
        known = rows.drop_duplicates("unit")[["unit", "subject", "site"]]
        reference = rows[["unit", *RATIO, "reference"]].drop_duplicates(["unit", *RATIO])
        made = posterior_intervals(posterior, systematic).merge(known, on="unit")
        parts.append(made.merge(reference, on=["unit", *RATIO], how="left"))
    columns = [name for name in INTERVALS if name not in ("truth", "reference_sd")]
    table = pd.concat([part[columns] for part in parts], ignore_index=True)
    table["decoder"] = table["decoder"].astype(object).where(table["decoder"].notna(), "n/a")
    table["n_draws"] = table["n_draws"].astype("Int64")
    table = table.merge(own, on=["unit", *RATIO], how="left")
    if truth is None:
        table["truth"] = np.nan
    else:
        pairs = table[["subject", *RATIO]].drop_duplicates()
        true = estimates.with_truth(pairs, ratios, truth).rename(columns={"reference": "truth"})
        table = table.merge(true, on=["subject", *RATIO], how="left", validate="many_to_one")
    rank = {pair: i for i, pair in enumerate(ratios)}
    ratio = [rank[pair] for pair in zip(table["condition"], table["metabolite"], strict=True)]
    order = table.assign(_ratio=ratio, _method=table["method"].map(METHODS.index))
    order = order.sort_values(["unit", "_ratio", "n_real", "replicate", "_method"], kind="stable")
    return table.loc[order.index, list(INTERVALS)].reset_index(drop=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.intervals", description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set (for the splits)")
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--concentrations", type=Path, required=True, help="estimates of every study cell")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder with the fits of draws and of means")
    parser.add_argument("--truth", type=Path, help="phantom only: the true ratios")
    parser.add_argument("--ratios", nargs="+", help="CONDITION:METABOLITE, e.g. DIFF:GABA+ (default: the usual ones)")
    parser.add_argument("--replicates", type=int, default=1, help="sets of each n_real (default: 1)")
    parser.add_argument("--output", type=Path, required=True, help="table of intervals (TSV)")
    parser.add_argument("--coverage", type=Path, required=True, help="table of coverage (TSV)")
    parser.add_argument("--calibration", type=Path, required=True, help="table of the fit's own error (TSV)")
    a = parser.parse_args(argv)

    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table

    try:
        names = (*estimates.SERIES, "unit", "subject", "site", "replicate", "per_tcr", "per_tcr_sd")
        concentrations = read_table(require(a.concentrations), names)
        units = read_table(require(a.units), ("unit", "folder", "subject", "site", "split"))
        index = read_table(require(a.training / "index.tsv"), ("unit", "split"))
        truth = read_table(require(a.truth), ("subject", "metabolite", "per_tcr")) if a.truth else None
    except ValueError as error:
        raise InputError(str(error)) from None
    if not (concentrations["source"] == "real").any():
        raise InputError(f"{a.concentrations}: no cell of real transients alone; expected the design augmentation")
    ratios = estimates.choose_ratios(a.ratios, concentrations)
    posterior, fitted = None, concentrations.iloc[:0]
    if generator.read_config(a.model, a.training)["model"] == "subject":
        tested = set(concentrations["unit"])
        posterior = collect(units[units["unit"].isin(tested)], a.derivatives, "posterior", ratios)
        # Units that have a test transient take no part, nor do other units of the same subject
        used = set(units.loc[units["split"].isna() | (units["split"] == "test"), "subject"])
        others = units[units["unit"].isin(index["unit"]) & ~units["subject"].isin(used)]
        if truth is not None and len(others):
            fitted = estimates.with_truth(collect(others, a.derivatives, "mean", ratios), ratios, truth)
    else:
        print("no posterior of a subject: the model is paper; intervals are those of the Cramer-Rao bound", flush=True)
    own = calibration(fitted.assign(reference=np.nan) if fitted.empty else fitted)
    systematic = {
        (row["condition"], row["metabolite"]): row["systematic_percent"] / 100 for row in own.to_dict("records")
    }
    table = interval_table(concentrations, posterior, systematic or None, truth, ratios, a.replicates)
    coverage = coverage_table(table)
    about = "A 95 % interval for one ratio to tCr of one scan, from n_real transients"
    write_described_table(a.output, table, about, INTERVAL_WORDS)
    write_described_table(a.coverage, coverage, "Coverage or width of one kind of 95 % interval", COVERAGE_WORDS)
    about = "The fit's own error with one ratio to tCr, from training and validation subjects of the phantom"
    write_described_table(a.calibration, own, about, CALIBRATION_WORDS)
    counted = coverage[coverage["quantity"] != "width_percent"]
    for row in counted[counted["n"] > 0].to_dict("records"):
        words = f"{row['source']} {row['decoder']}".removesuffix(" n/a")
        print(f"{row['metric']}, {words}: {100 * row['value']:.0f} % of {row['n']}, {row['verdict']}", flush=True)


if __name__ == "__main__":
    run(main)
