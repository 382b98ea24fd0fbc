"""How near each source comes to the physical limit on the digital phantom, by number of real transients.

Estimates are compared with the phantom's truth and their RMS error with the Bayesian Cramer-Rao bound from as many real
transients (`bayes_bound`). All comparisons of two sources are paired: one bootstrap of the subjects serves all of them.
A source is *better* than another if the 95 % interval of the ratio of their RMS errors lies below 1, *worse* if it lies
above (by a thousandth, since fits of equal spectra may differ in the last digits), else *not shown different*. What a
synthetic source gains is, by rule:

none
    not better than the n_real real transients alone.
information beyond shrinkage
    better than these and than every control of the same n_real and n_total.
shrinkage to the population
    better than these, but with a lower slope (interval of the difference below 0), and not better than the control
    `shrinkage` or the control `population_mean`.
not shown which
    better than these, and neither of the last two.

The fit's own systematic error is common to all sources and hides what they differ in. Debiased errors are those without
the series' mean relative error over subjects, which only who knows the truth can remove.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import agreement, effective, estimates, seeds
from mrs_synthesis.agreement import Paired
from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.dictionary import GAINS
from mrs_synthesis.paired_errors import alike, count_subjects, error_ratio, errors, slope_difference, with_interval
from mrs_synthesis.stage import InputError, require, run

if TYPE_CHECKING:
    import pandas as pd

SHRINKERS = ("shrinkage", "population_mean")
BETTER, WORSE, ALIKE = "better", "worse", "not shown different"
NONE, SHRINKAGE, BEYOND, OPEN = GAINS
EQUAL = 1e-3
PERCENT = {"Units": "percent"}
LOW, HIGH = "Lower end of the 95 % bootstrap interval over subjects", "Upper end of this interval"
DESCRIPTIONS = {
    "rmse_percent": {"Description": "Root mean square difference of single estimates from the truth", **PERCENT},
    "rmse_ci_low": {"Description": LOW, **PERCENT},
    "rmse_ci_high": {"Description": HIGH, **PERCENT},
    "bound_rmse_percent": {
        "Description": "Bayesian Cramer-Rao bound from n_real real transients: least RMS error of any method",
        **PERCENT,
    },
    "crb_rmse_percent": {
        "Description": "Cramer-Rao bound without knowing the population: least RMS error without shrinkage",
        **PERCENT,
    },
    "share_of_bound": {"Description": "bound_rmse_percent / rmse_percent; 1: the limit is reached"},
    "share_ci_low": {"Description": LOW},
    "share_ci_high": {"Description": HIGH},
    "ratio_to_real": {"Description": "rmse_percent over that of the n_real real transients alone; below 1: smaller"},
    "ratio_ci_low": {"Description": "Lower end of its 95 % interval: bootstrap over subjects, paired"},
    "ratio_ci_high": {"Description": HIGH},
    "verdict": {
        "Description": "Against the n_real real transients alone, by the interval of ratio_to_real",
        "Levels": {BETTER: "Below 1", WORSE: "Above 1", ALIKE: "Neither, or unknown"},
    },
    "rmse_debiased_percent": {
        "Description": "rmse_percent without the series' mean relative error over subjects, most of which is the fit's",
        **PERCENT,
    },
    "share_debiased": {"Description": "bound_rmse_percent / rmse_debiased_percent"},
    "share_debiased_ci_low": {"Description": LOW},
    "share_debiased_ci_high": {"Description": HIGH},
    "ratio_debiased": {"Description": "As ratio_to_real, of rmse_debiased_percent"},
    "ratio_debiased_ci_low": {"Description": "Lower end of its 95 % interval: bootstrap over subjects, paired"},
    "ratio_debiased_ci_high": {"Description": HIGH},
    "verdict_debiased": {"Description": "As verdict, of rmse_debiased_percent"},
    "bias_percent": {"Description": "Mean difference from the truth; replicates are averaged first", **PERCENT},
    "tost_p": {
        "Description": "p-value of two one-sided t-tests on subjects' mean percent differences from the truth; small: "
        "equivalent within the margin named in summary.json"
    },
    "slope": {"Description": "Least-squares slope over subjects of the estimate (mean over replicates) on the truth"},
    "bound_slope": {"Description": "Slope of the estimator that reaches the bound; less than 1 by its shrinkage"},
    "sd_ratio": {"Description": "SD over subjects of the estimate over that of the truth; mean over replicates"},
    "n_eff": {
        "Description": "Number of real transients per edit condition whose estimates have the same RMS error against "
        "the truth"
    },
    "n_controls": {"Description": "Controls of the same n_real and n_total, of synthetic sources"},
    "controls_beaten": {"Description": "How many of these the source is better than (as in verdict, of rmse_percent)"},
    "gain": {
        "Description": "What a synthetic source adds to the n_real real transients, from rmse_percent and slope; "
        "intervals are not corrected for the number of comparisons",
        "Levels": {
            NONE: "Not better than the real transients alone",
            BEYOND: "Better than these and than every control",
            SHRINKAGE: "Better than these by a lower slope, not better than the control shrinkage or population_mean",
            OPEN: "Better than the real transients alone, and neither of the last two",
        },
    },
}


def compare(
    source: Paired, other: Paired, drawn: np.ndarray, debiased: bool = False
) -> tuple[tuple[float, float, float], str]:
    """Return the ratio of the RMS errors of `source` and `other` with its paired interval, and the verdict."""
    n = count_subjects(alike(source, other)[0].usable())
    found = with_interval(error_ratio(source, other, drawn, debiased), n)
    return found, BETTER if found[2] < 1 - EQUAL else WORSE if found[1] > 1 + EQUAL else ALIKE


def loses_slope(source: Paired, other: Paired, drawn: np.ndarray) -> bool:
    """Tell whether the slope of `source` is shown to be lower than that of `other`."""
    n = count_subjects(alike(source, other)[0].usable())
    return agreement.interval(slope_difference(source, other, drawn)[1:], n)[1] < 0


def gain(verdict: str, against: Mapping[str, str], lower_slope: bool) -> str:
    """Return what a synthetic source gains, by the module's rule.

    Parameters
    ----------
    verdict
        Against the n_real real transients alone.
    against
        Verdicts against the controls, by their names.
    lower_slope
        Whether the slope is shown to be lower than that of the real transients alone.
    """
    if verdict != BETTER:
        return NONE
    if against and all(found == BETTER for found in against.values()):
        return BEYOND
    if lower_slope and any(against.get(name, BETTER) != BETTER for name in SHRINKERS):
        return SHRINKAGE
    return OPEN


def ratio_rows(
    rows: pd.DataFrame, limits: Mapping[int, Mapping[str, float]], margin: float, drawn: np.ndarray, seed: int
) -> list[dict]:
    """Return the table's rows of one ratio.

    Parameters
    ----------
    rows
        Its estimates, with the truth in the column ``reference``; without reference and reconstruction cells.
    limits
        The bound's columns by n_real.
    margin, drawn, seed
        Margin of the equivalence test in percent, bootstrap weights of the subjects, and seed.
    """
    subjects = estimates.number_subjects(rows)
    units, columns = list(subjects), list(estimates.SERIES)
    series = {
        key: estimates.paired(part, units, subjects) for key, part in rows.groupby(columns, sort=False, dropna=False)
    }
    real = {key[4]: pairs for key, pairs in series.items() if key[2] == "real"}
    random = seeds.generator(seed, "share_of_bound", "one subject")  # with several subjects nothing is drawn from it
    curves = effective.learning_curves(real, drawn, random) if len(real) > 1 else None
    table = []
    for key, pairs in series.items():
        row = dict(zip(columns, key, strict=True))
        n, limit = count_subjects(pairs.usable()), limits.get(key[4], {})
        row |= {name: limit.get(name, np.nan) for name in ("bound_rmse_percent", "crb_rmse_percent")}
        row["bound_slope"] = limit.get("slope", np.nan)
        described = agreement.describe(pairs, margin, drawn, random)
        kept = ("n", "bias_percent", "bias_ci_low", "bias_ci_high", "tost_p", "slope", "slope_ci_low", "slope_ci_high")
        row |= {name: described[name] for name in (*kept, "sd_ratio")}
        for debiased, rmse, share in ((False, "rmse", "share"), (True, "rmse_debiased", "share_debiased")):
            found = errors(pairs, drawn, debiased)
            value, low, high = with_interval(found, n)
            row[f"{rmse}_percent"] = value
            if not debiased:
                row |= {"rmse_ci_low": low, "rmse_ci_high": high}
            with np.errstate(divide="ignore"):
                parts = with_interval(row["bound_rmse_percent"] / found, n)
            names = ("share_debiased" if debiased else "share_of_bound", f"{share}_ci_low", f"{share}_ci_high")
            row |= dict(zip(names, parts, strict=True))
        if curves is not None:
            worth = effective.effective_transients(curves, pairs, drawn, random)
            row |= {name: value for name, value in worth.items() if name.startswith("n_eff")}
        alone = real.get(key[4])
        if key[2] != "real" and alone is not None:
            for debiased, ratio, label in ((False, "ratio", "verdict"), (True, "ratio_debiased", "verdict_debiased")):
                parts, row[label] = compare(pairs, alone, drawn, debiased)
                names = (ratio if debiased else "ratio_to_real", f"{ratio}_ci_low", f"{ratio}_ci_high")
                row |= dict(zip(names, parts, strict=True))
            if key[2] not in CONTROLS:
                controls = {k[2]: other for k, other in series.items() if k[2] in CONTROLS and k[4:] == key[4:]}
                against = {name: compare(pairs, other, drawn)[1] for name, other in controls.items()}
                row["n_controls"] = len(against)
                row["controls_beaten"] = sum(found == BETTER for found in against.values())
                row["gain"] = gain(row["verdict"], against, loses_slope(pairs, alone, drawn))
        table.append(row)
    return table


def share_table(
    concentrations: pd.DataFrame,
    truth: pd.DataFrame,
    bound: pd.DataFrame,
    ratios: Sequence[str] | None,
    margin: float,
    n_resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return the table, a row per ratio, source, decoder, n_real and n_total.

    Parameters
    ----------
    concentrations, truth, bound
        The tables of these names; of `bound` the rows of all sites together count.
    ratios
        Texts like ``DIFF:GABA+``; None: the usual ones.
    margin, n_resamples, seed
        Margin of the equivalence test in percent, bootstrap resamples, and the study's seed.

    Raises
    ------
    InputError
        If no estimate has a truth.
    """
    import pandas as pd

    from mrs_synthesis.bayes_bound import TOGETHER

    rows = estimates.with_truth(concentrations, estimates.choose_ratios(ratios, concentrations), truth)
    rows = rows[~rows["source"].isin(estimates.NO_CURVE)]
    if rows.empty:
        raise InputError("no estimate of a filled cell has a truth: expected subjects of the phantom; check --truth")
    rows = rows.assign(decoder=rows["decoder"].astype(object).where(rows["decoder"].notna(), "n/a"))
    n_subjects = rows["subject"].nunique()
    drawn = agreement.resample(n_subjects, n_resamples, seeds.generator(seed, "share_of_bound", "subjects"))
    together = bound[bound["site"] == TOGETHER]
    limits: dict = {}
    for row in together.to_dict("records"):
        limits.setdefault((row["metabolite"], row["condition"]), {})[int(row["n_real"])] = row
    table = []
    for ratio, part in rows.groupby(["metabolite", "condition"], sort=False):
        table += ratio_rows(part, limits.get(ratio, {}), margin, drawn, seed)
    columns = [*estimates.SERIES, "n", *COLUMNS]
    found = pd.DataFrame(table).reindex(columns=columns)
    for name in ("n_controls", "controls_beaten"):
        found[name] = found[name].astype("Int64")
    order = {name: i for i, name in enumerate(found["source"].drop_duplicates())}
    keys = found["source"].map(order)
    ratio = found.groupby(["metabolite", "condition"], sort=False).ngroup()
    ranked = found.assign(_ratio=ratio, _source=keys)
    ranked = ranked.sort_values(["_ratio", "n_real", "n_total", "_source"], kind="stable", ignore_index=True)
    return ranked[columns]


COLUMNS = (
    *("rmse_percent", "rmse_ci_low", "rmse_ci_high", "bound_rmse_percent", "crb_rmse_percent"),
    *("share_of_bound", "share_ci_low", "share_ci_high"),
    *("ratio_to_real", "ratio_ci_low", "ratio_ci_high", "verdict", "gain", "controls_beaten", "n_controls"),
    *("rmse_debiased_percent", "share_debiased", "share_debiased_ci_low", "share_debiased_ci_high"),
    *("ratio_debiased", "ratio_debiased_ci_low", "ratio_debiased_ci_high", "verdict_debiased"),
    *("bias_percent", "bias_ci_low", "bias_ci_high", "tost_p"),
    *("slope", "slope_ci_low", "slope_ci_high", "bound_slope", "sd_ratio"),
    *("n_eff", "n_eff_ci_low", "n_eff_ci_high", "n_eff_clipped"),
)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.share_of_bound", description=__doc__.splitlines()[0])
    parser.add_argument("--concentrations", type=Path, required=True, help="estimates of every study cell")
    parser.add_argument("--units", type=Path, required=True, help="units.tsv of the study")
    parser.add_argument("--truth", type=Path, required=True, help="the phantom's true ratios")
    parser.add_argument("--bound", type=Path, required=True, help="table of bayes_bound")
    parser.add_argument("--ratios", nargs="+", help="CONDITION:METABOLITE, e.g. DIFF:GABA+ (default: the usual ones)")
    parser.add_argument("--tost-margin-percent", type=float, default=10.0, help="margin of the equivalence test")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the confidence intervals")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="table (TSV)")
    a = parser.parse_args(argv)

    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table

    names = (*estimates.SERIES, "unit", "subject", "replicate", "per_tcr")
    concentrations = estimates.read_concentrations(
        a.concentrations, names, lambda part: estimates.of_ratios(part, estimates.wanted_ratios(a.ratios))
    )
    try:
        truth = read_table(require(a.truth), ("subject", "metabolite", "per_tcr"))
        names = ("metabolite", "condition", "site", "n_real", "bound_rmse_percent", "crb_rmse_percent", "slope")
        bound = read_table(require(a.bound), names)
    except ValueError as error:
        raise InputError(str(error)) from None
    table = share_table(concentrations, truth, bound, a.ratios, a.tost_margin_percent, a.bootstrap, a.seed)
    table = estimates.with_left_out(table, estimates.test_units(a.units))
    about = "One ratio to tCr from one source with n_real real transients, against the phantom's truth and the bound"
    write_described_table(a.output, table, about, DESCRIPTIONS)
    for row in table[table["gain"].notna()].to_dict("records"):
        name = f"{row['condition']}:{row['metabolite']}/tCr, {row['n_real']} real, {row['source']} {row['decoder']}"
        print(f"{name}: share {row['share_of_bound']:.2f}; against real alone {row['verdict']}; gain: {row['gain']}")


if __name__ == "__main__":
    run(main)
