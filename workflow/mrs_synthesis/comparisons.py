"""Is a synthetic filling worth it? Paired comparisons with the real transients alone and with every null control.

The errors are those of `bias`: percent differences of single estimates from the scan's own reference cell. Each
synthetic filling is compared, on the same subjects, with its n_real real transients alone, with every control of the
same n_real and n_total, and with n_total real transients. The ratio of the RMS errors has a bootstrap interval over
subjects, resampled together; its p-value is that of a two-sided sign-flip permutation of subjects' squared errors.

A filling is worth it if its error is shown to be smaller than that of the real transients alone and of every control
(an intersection-union test: the largest p decides, without correction among them; Holm's correction over metabolite
ratios x fillings), and if the slope of its estimates on the reference is at least 0.8. It is not if one of these fails
in the data themselves; else it is open.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import agreement, effective, estimates, paired_errors, seeds
from mrs_synthesis.agreement import Paired
from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.stage import InputError, run

if TYPE_CHECKING:
    import pandas as pd

ALPHA = 0.05
SLOPE_LIMIT = 0.8
EQUAL = 1e-3  # fits of equal spectra may differ in the last digits
BETTER, WORSE, ALIKE = "better", "worse", "no difference shown"
YES, NO, OPEN = "yes", "no", "open"
LOW, HIGH = "Lower end of its 95 % interval: bootstrap over subjects, paired", "Upper end of this interval"
PERCENT = {"Units": "percent"}
DESCRIPTIONS = {
    "against": {"Description": "What the filling is compared with: real transients or a null control"},
    "against_n_real": {
        "Description": "Its real transients per edit condition; of real ones n_real (these alone) or n_total (as many "
        "real ones as the filling has transients)"
    },
    "rmse_percent": {
        "Description": "Root mean square difference of single estimates from the reference, in scans that both have",
        **PERCENT,
    },
    "against_rmse_percent": {"Description": "The same of what it is compared with", **PERCENT},
    "rmse_ratio": {"Description": "rmse_percent / against_rmse_percent; below 1: the filling's error is smaller"},
    "rmse_ratio_ci_low": {"Description": LOW},
    "rmse_ratio_ci_high": {"Description": HIGH},
    "slope_difference": {"Description": "Slope of the filling less that of what it is compared with"},
    "slope_difference_ci_low": {"Description": LOW},
    "slope_difference_ci_high": {"Description": HIGH},
    "n_eff_difference": {"Description": "n_eff of the filling less that of what it is compared with"},
    "n_eff_difference_ci_low": {"Description": LOW},
    "n_eff_difference_ci_high": {"Description": HIGH},
    "p": {
        "Description": "Two-sided p-value that the errors are alike: sign-flip permutation of subjects' differences of "
        "squared errors (all flips up to 14 subjects, else 99,999); with n subjects at least 2 / 2^n"
    },
    "p_holm": {
        "Description": "p after Holm; family: all metabolite ratios x fillings of the study against one comparator (a "
        "control, the n_real real ones, or the n_total real ones)"
    },
    "verdict": {
        "Description": "By p_holm at 0.05 and rmse_ratio",
        "Levels": {BETTER: "Smaller error", WORSE: "Larger error", ALIKE: "Neither, or no test (under 3 subjects)"},
    },
}
WORTH = {
    "slope_ci_low": {"Description": "Lower end of its 95 % bootstrap interval over subjects"},
    "slope_ci_high": {"Description": HIGH},
    "slope_real": {"Description": "Slope of the n_real real transients alone"},
    "slope_real_total": {
        "Description": "Slope of n_total real transients: how much the noise of the reference alone lowers a slope"
    },
    "n_comparisons": {"Description": "Comparisons that decide: with the n_real real transients alone and each control"},
    "hardest": {"Description": "Of these the one with the largest p (real: the n_real real transients alone)"},
    "rmse_ratio": {"Description": "RMS error over that of `hardest`"},
    "p_worst": {
        "Description": "Largest p of these comparisons, 1 where the error is not smaller: the p-value that not all of "
        "them are won (intersection-union)"
    },
    "p_holm": {"Description": "p_worst after Holm; family: all metabolite ratios x fillings of the study"},
    "worth": {
        "Description": "Whether the filling is worth it",
        "Levels": {
            YES: "Smaller error than of the real transients alone and of every control, p_holm below 0.05, and a slope "
            "of at least 0.8",
            NO: "One of the errors is not larger than the filling's, or the slope is below 0.8, in the data themselves",
            OPEN: "Neither: not shown, or something is missing",
        },
    },
    "reason": {"Description": "Why"},
}
COMPARED = ("n", "rmse_percent", "against_rmse_percent", "rmse_ratio", "slope_difference", "n_eff_difference")


def compare(
    source: Paired,
    other: Paired,
    curves: Sequence[effective.LearningCurve] | None,
    drawn: np.ndarray,
) -> dict:
    """Return the columns of one comparison but for its p-value and verdict.

    Parameters
    ----------
    source, other
        The filling and what it is compared with.
    curves
        Learning curves of `effective.learning_curves`, with the same `drawn`; None: there are none.
    drawn
        Bootstrap weights of the subjects.
    """
    source, other = paired_errors.alike(source, other)
    n = paired_errors.count_subjects(source.usable())
    own, others = (paired_errors.errors(pairs, drawn) for pairs in (source, other))
    row = {"n": n, "rmse_percent": float(own[0]), "against_rmse_percent": float(others[0])}
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {"rmse_ratio": own / others, "slope_difference": paired_errors.slope_difference(source, other, drawn)}
    if curves is not None:
        found["n_eff_difference"] = effective.placed(curves, own) - effective.placed(curves, others)
    for name, values in found.items():
        parts = paired_errors.with_interval(values, n)
        row |= dict(zip((name, f"{name}_ci_low", f"{name}_ci_high"), parts, strict=True))
    return row


def comparators(key: tuple, series: Mapping[tuple, Paired]) -> list[tuple]:
    """Return the keys of the series that the filling `key` is compared with: real ones alone, controls, n_total real.

    Keys are source, decoder, n_real, n_total.
    """
    _, _, n_real, n_total = key
    found = [other for other in series if other[0] == "real" and other[2] == n_real]
    found += [other for name in CONTROLS for other in series if other[0] == name and other[2:] == (n_real, n_total)]
    return found + [other for other in series if other[0] == "real" and other[2] == n_total]


def judge(row: Mapping, against: Sequence[Mapping], n_tests: int) -> tuple[str, str]:
    """Return whether a filling is worth it, and why.

    Parameters
    ----------
    row
        slope, slope_real_total, n_total, n (subjects), p_worst, p_holm.
    against
        The comparisons that decide: against, against_n_real, rmse_ratio, p.
    n_tests
        Size of Holm's family.
    """
    names = [_name(one) for one in against]
    lost = [
        f"{name} (ratio {one['rmse_ratio']:.3g})"
        for name, one in zip(names, against, strict=True)
        if one["rmse_ratio"] >= 1 - EQUAL
    ]
    slope, reasons = row["slope"], []
    if lost:
        reasons.append(f"error not smaller than that of {_join(lost)}")
    if slope < SLOPE_LIMIT:
        real = row["slope_real_total"]
        beside = f"; {row['n_total']} real transients have {real:.3g}" if math.isfinite(real) else ""
        reasons.append(f"slope {slope:.3g}, below {SLOPE_LIMIT}{beside}")
    if reasons:
        return NO, "; ".join(reasons)
    if not any(one["against"] == "real" for one in against):
        reasons.append("the real transients alone were not fitted")
    if not any(one["against"] in CONTROLS for one in against):
        reasons.append("no null control was run")
    if not math.isfinite(slope):
        reasons.append(f"no slope with fewer than {agreement.FEWEST} subjects")
    if not math.isfinite(row["p_holm"]):
        reasons.append("not every comparison could be tested")
    elif row["p_holm"] >= ALPHA:
        weak = [name for name, one in zip(names, against, strict=True) if one["p"] >= ALPHA]
        words = f"not shown to be better than {_join(weak)}" if weak else "not shown after Holm's correction"
        if len(weak) == len(names) > 1:
            words = f"not shown to be better than any of the {len(weak)} comparators"
        least = 2.0 ** (1 - row["n"])
        if least * n_tests >= ALPHA:
            words += f" ({row['n']} subjects cannot show it: p is at least {least:.2g}, before Holm over {n_tests})"
        reasons.append(f"{words}; p {row['p_worst']:.2g}, after Holm {row['p_holm']:.2g}")
    if reasons:
        return OPEN, "; ".join(reasons)
    return YES, f"better than {_join(names)}; p {row['p_worst']:.2g}, after Holm {row['p_holm']:.2g}; slope {slope:.3g}"


def _name(one: Mapping) -> str:
    if one["against"] == "real":
        return f"the {one['against_n_real']} real transients alone"
    return f"the control {one['against']}"


def _join(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else ", ".join(names[:-1]) + " and " + names[-1]


def ratio_rows(rows: pd.DataFrame, drawn: np.ndarray, seed: int) -> tuple[list[dict], list[dict], list[np.ndarray]]:
    """Return comparisons, fillings, and the differences for the tests of the comparisons, of one metabolite ratio.

    Parameters
    ----------
    rows
        Estimates of the ratio with the column ``reference``, without reference and reconstruction cells.
    drawn, seed
        Bootstrap weights of the subjects, and seed.
    """
    subjects = estimates.number_subjects(rows)
    units, ratio = list(subjects), (rows["metabolite"].iloc[0], rows["condition"].iloc[0])
    series = {
        key: estimates.paired(part, units, subjects)
        for key, part in rows.groupby(list(estimates.SERIES[2:]), sort=False)
    }
    real = {key[2]: pairs for key, pairs in series.items() if key[0] == "real"}
    random = seeds.generator(seed, "evaluate", "curve", *ratio)
    curves = effective.learning_curves(real, drawn, random) if len(real) > 1 else None
    slopes = {key: agreement.describe(pairs, math.inf, drawn, random) for key, pairs in series.items()}
    table, fillings, differences = [], [], []
    for key, pairs in series.items():
        if key[0] == "real" or key[0] in CONTROLS:
            continue
        names = dict(zip(estimates.SERIES, (*ratio, *key), strict=True))
        filling = names | {name: slopes[key][name] for name in ("n", "slope", "slope_ci_low", "slope_ci_high")}
        for name, size in (("slope_real", key[2]), ("slope_real_total", key[3])):
            filling[name] = slopes.get(("real", "n/a", size, size), {}).get("slope", math.nan)
        if curves is not None:
            worth = effective.effective_transients(curves, pairs, drawn, random)
            filling |= {name: value for name, value in worth.items() if name.startswith("n_eff")}
        fillings.append(filling)
        for other in comparators(key, series):
            against = {"against": other[0], "against_n_real": other[2]}
            table.append(names | against | compare(pairs, series[other], curves, drawn))
            differences.append(paired_errors.square_differences(pairs, series[other]))
    return table, fillings, differences


def tables(rows: pd.DataFrame, n_resamples: int, seed: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables comparisons and worth.

    Parameters
    ----------
    rows
        Estimates with the column ``reference``.
    n_resamples, seed
        Bootstrap resamples and the study's seed.

    Raises
    ------
    InputError
        If there is no synthetic filling.
    """
    import pandas as pd

    rows = rows[~rows["source"].isin(estimates.NO_CURVE)]
    if rows[~rows["source"].isin(("real", *CONTROLS))].empty:
        raise InputError("no cell of synthetic transients among the estimates; expected the design augmentation")
    rows = rows.assign(decoder=rows["decoder"].astype(object).where(rows["decoder"].notna(), "n/a"))
    # The same draws as of the table effective_transients
    n_subjects = rows["subject"].nunique()
    drawn = agreement.resample(n_subjects, n_resamples, seeds.generator(seed, "evaluate", "subjects"))
    found, fillings, differences = [], [], []
    for _, part in rows.groupby(["metabolite", "condition"], sort=False):
        for whole, own in zip((found, fillings, differences), ratio_rows(part, drawn, seed), strict=True):
            whole += own
    table = pd.DataFrame(found).reindex(columns=list(_comparison_columns()))
    if len(table):
        table["p"] = paired_errors.sign_flip_p(differences, seeds.generator(seed, "comparisons", "flips"))
        table.loc[(table["n"] < agreement.FEWEST) | table["rmse_ratio"].isna(), "p"] = np.nan
        upper = (table["against"] == "real") & (table["against_n_real"] == table["n_total"])
        table["p_holm"] = paired_errors.holm(table["p"], list(zip(table["against"], upper, strict=True)))
        shown = (table["p_holm"] < ALPHA) & ((table["rmse_ratio"] - 1).abs() > EQUAL)
        table["verdict"] = np.where(shown, np.where(table["rmse_ratio"] < 1, BETTER, WORSE), ALIKE)
    return table, worth_table(fillings, table)


def worth_table(fillings: Sequence[dict], table: pd.DataFrame) -> pd.DataFrame:
    """Return the table worth, a row per ratio and filling, from the comparisons `table`."""
    import pandas as pd

    keys = list(estimates.SERIES)
    needed: dict[tuple, list[dict]] = {}
    for one in table.to_dict("records"):
        if one["against_n_real"] == one["n_real"]:  # not the n_total real ones
            needed.setdefault(tuple(one[name] for name in keys), []).append(one)
    rows = []
    for filling in fillings:
        against = needed.get(tuple(filling[name] for name in keys), [])
        row = filling | {"n_comparisons": len(against), "p_worst": math.nan}
        if against:
            p = [one["p"] if not one["rmse_ratio"] >= 1 - EQUAL else 1.0 for one in against]
            worst = max(range(len(p)), key=lambda i: (not math.isfinite(p[i]), p[i], against[i]["rmse_ratio"]))
            both = {"real", *CONTROLS} & {one["against"] for one in against}
            row |= {"hardest": against[worst]["against"], "rmse_ratio": against[worst]["rmse_ratio"]}
            row["p_worst"] = p[worst] if "real" in both and len(both) > 1 else math.nan
        rows.append(row)
    adjusted = paired_errors.holm([row["p_worst"] for row in rows])
    n_tests = int(np.isfinite(adjusted).sum())
    for row, p in zip(rows, adjusted.tolist(), strict=True):
        row["p_holm"] = p
        row["worth"], row["reason"] = judge(row, needed.get(tuple(row[name] for name in keys), []), n_tests)
    worth = ("n_eff", "n_eff_ci_low", "n_eff_ci_high", "n_eff_clipped", "slope", *list(WORTH)[:7], "p_worst", "p_holm")
    return pd.DataFrame(rows).reindex(columns=[*keys, *worth, "n", "worth", "reason"])


def _comparison_columns() -> tuple[str, ...]:
    parts = ("rmse_ratio", "slope_difference", "n_eff_difference")
    intervals = [f"{name}{end}" for name in parts for end in ("", "_ci_low", "_ci_high")]
    return (
        *(*estimates.SERIES, "against", "against_n_real", "rmse_percent", "against_rmse_percent"),
        *(*intervals, "p", "p_holm", "n", "verdict"),
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.comparisons", description=__doc__.splitlines()[0])
    parser.add_argument("--concentrations", type=Path, required=True, help="estimates of every study cell")
    parser.add_argument("--units", type=Path, required=True, help="units.tsv of the study")
    parser.add_argument("--ratios", nargs="+", help="CONDITION:METABOLITE, e.g. DIFF:GABA+ (default: the usual ones)")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the confidence intervals")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="table of comparisons (TSV)")
    parser.add_argument("--output-worth", type=Path, required=True, help="table of what is worth it (TSV)")
    a = parser.parse_args(argv)

    from mrs_synthesis.dictionary import write_described_table

    names = (*estimates.SERIES, "unit", "subject", "replicate", "per_tcr")
    concentrations = estimates.read_concentrations(
        a.concentrations, names, lambda part: estimates.of_ratios(part, estimates.wanted_ratios(a.ratios))
    )
    rows = estimates.with_reference(concentrations, estimates.choose_ratios(a.ratios, concentrations))
    units = estimates.test_units(a.units)
    table, worth = (estimates.with_left_out(found, units) for found in tables(rows, a.bootstrap, a.seed))
    about = "A synthetic filling of one ratio to tCr compared with real transients or a null control on the same scans"
    write_described_table(a.output, table, about, DESCRIPTIONS)
    about = "Whether a synthetic filling is worth it for one ratio to tCr"
    write_described_table(a.output_worth, worth, about, WORTH)
    for row in worth.to_dict("records"):
        name = f"{row['condition']}:{row['metabolite']}/tCr, {row['n_real']} real, {row['source']} {row['decoder']}"
        print(f"{name}: worth it: {row['worth']}: {row['reason']}", flush=True)


if __name__ == "__main__":
    run(main)
