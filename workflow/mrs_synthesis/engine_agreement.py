"""Agreement of two fitting engines on the same spectra: amplitudes, Cramer-Rao bounds, and the objectives reached.

Two optimisers of one model must agree where they reach the same minimum; elsewhere the lower objective is the better
answer. All statistics are thus given twice, over all spectra and over those in the same minimum, and the table of
objectives says which engine sits in a worse one.
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

SAME_MINIMUM = 1e-5  # relative difference of the objectives
NO_WORSE = 1e-6  # relative excess of an objective that counts as none
CLOSE_CRLB, CLOSE_RATIO = 0.05, 1e-3
KEY = ["cell", "condition", "metabolite"]
EVERY = "all"
SUBSETS = ("all", "same minimum")
REFERENCE = "reference engine"
STATISTICS = (
    "n",
    "n_same_minimum",
    "correlation",
    "mean_difference_crlb",
    "loa_low_crlb",
    "loa_high_crlb",
    "p99_abs_difference_crlb",
    "max_abs_difference_crlb",
    "close_share",
    "crlb_ratio_median",
    "crlb_ratio_extreme",
    "crlb_close_share",
)
DESCRIPTIONS = {
    "set": {"Description": "Spectra that were fitted alike: a study's cells, or published fits"},
    "metabolite": {"Description": f"Basis spectrum or sum; `{EVERY}`: all basis spectra together, without the sums"},
    "spectra": {
        "Description": f"All spectra, or only those in the same minimum: objectives within {SAME_MINIMUM:g}, relative"
    },
    "n": {"Description": "Pairs of fits, both finite"},
    "n_same_minimum": {"Description": f"Those whose objectives are within {SAME_MINIMUM:g}, relative"},
    "correlation": {"Description": "Pearson correlation of the two engines' amplitudes over spectra"},
    "mean_difference_crlb": {
        "Description": f"Mean difference of amplitudes, ours minus the {REFERENCE}'s, in SDs by its Cramer-Rao bound"
    },
    "loa_low_crlb": {"Description": "Lower limit of agreement: mean difference - 1.96 SD, same unit"},
    "loa_high_crlb": {"Description": "Upper limit of agreement: mean difference + 1.96 SD, same unit"},
    "p99_abs_difference_crlb": {"Description": "99th percentile of the absolute difference, same unit"},
    "max_abs_difference_crlb": {"Description": "Largest absolute difference, same unit"},
    "close_share": {"Description": f"Share of absolute differences below {CLOSE_CRLB} of the bound's SD"},
    "crlb_ratio_median": {"Description": f"Median ratio of the Cramer-Rao bounds, ours over the {REFERENCE}'s"},
    "crlb_ratio_extreme": {"Description": "The ratio farthest from 1, by its logarithm"},
    "crlb_close_share": {"Description": f"Share of these ratios within {100 * CLOSE_RATIO:g} % of 1"},
    "objective_ratio_median": {"Description": f"Median ratio of the objectives, ours over the {REFERENCE}'s"},
    "objective_ratio_min": {"Description": "Smallest ratio"},
    "objective_ratio_max": {"Description": "Largest ratio"},
    "no_worse_share": {"Description": f"Share of spectra where our objective is no higher, by {NO_WORSE:g} relative"},
    "n_reference_worse": {
        "Description": f"Spectra where the {REFERENCE} sits in a worse minimum, by more than {SAME_MINIMUM:g} relative"
    },
    "n_ours_worse": {"Description": "Spectra where ours does"},
    "reference_worse_cells": {"Description": f"Cells where the {REFERENCE} sits in a worse minimum, with the ratio"},
    "n_not_converged": {"Description": "Spectra that ours did not fit to convergence, failures included"},
    "n_not_converged_reference": {"Description": f"The same of the {REFERENCE}; missing where it does not tell"},
}


def objectives(path: Path) -> pd.DataFrame:
    """Return condition, cell and objective of every fit in a file of curves.

    Raises
    ------
    InputError
        If the file holds no objectives.
    """
    import pandas as pd

    with np.load(require(path), allow_pickle=False) as stored:
        names = [name for name in stored.files if name.endswith("_objective")]
        if not names:
            raise InputError(f"{path}: no objectives; fit again with `python -m mrs_synthesis.quantify --curves`")
        parts = []
        for name in names:
            condition = name.removesuffix("_objective")
            cells = stored.get(f"{condition}_cell", np.arange(stored[name].size))
            parts.append(pd.DataFrame({"condition": condition, "cell": cells, "objective": stored[name]}))
    return pd.concat(parts, ignore_index=True)


def read_fits(table: Path) -> pd.DataFrame:
    """Return an engine's table of fits with the objectives of the file of curves beside it (``.._fit.npz``).

    Raises
    ------
    InputError
        If a column or the file of curves is absent.
    """
    from mrs_synthesis.files import read_table

    try:
        fits = read_table(require(table), (*KEY, "engine", "raw", "raw_sd", "snr", "converged"))
    except ValueError as error:
        raise InputError(str(error)) from None
    curves = table.with_name(table.name.replace("mrsfit.tsv", "fit.npz"))
    return fits.merge(objectives(curves), on=["condition", "cell"], how="left", validate="many_to_one")


def pair(ours: Path, reference: Path) -> pd.DataFrame:
    """Return the rows that two engines' tables have in common, columns of the second with the suffix ``_reference``.

    Raises
    ------
    InputError
        If they have none in common.
    """
    first, second = read_fits(ours), read_fits(reference)
    columns = [*KEY, "engine", "raw", "raw_sd", "converged", "objective"]
    both = first[columns].merge(second[columns], on=KEY, suffixes=("", "_reference"), validate="one_to_one")
    if both.empty:
        raise InputError(f"{ours} and {reference} have no condition and metabolite in common; fit the same cells alike")
    return both


def farthest(ratios: np.ndarray) -> float:
    """Return the ratio farthest from 1 by its logarithm; NaN of nothing."""
    usable = ratios[np.isfinite(ratios) & (ratios > 0)]
    return float(usable[np.argmax(np.abs(np.log(usable)))]) if usable.size else float("nan")


def statistics(rows: pd.DataFrame, *, single: bool = True) -> dict[str, float]:
    """Return the agreement of the two engines over `rows`, which are finite; `single`: they are of one metabolite."""
    n = len(rows)
    result = dict.fromkeys(STATISTICS, float("nan")) | {"n": n, "n_same_minimum": int(rows["same"].sum())}
    if n == 0:
        return result
    difference = ((rows["raw"] - rows["raw_reference"]) / rows["raw_sd_reference"]).to_numpy(float)
    ratio = (rows["raw_sd"] / rows["raw_sd_reference"]).to_numpy(float)
    mean, size = float(difference.mean()), np.abs(difference)
    result |= {
        "mean_difference_crlb": mean,
        "p99_abs_difference_crlb": float(np.percentile(size, 99)),
        "max_abs_difference_crlb": float(size.max()),
        "close_share": float(np.mean(size < CLOSE_CRLB)),
        "crlb_ratio_median": float(np.median(ratio)),
        "crlb_ratio_extreme": farthest(ratio),
        "crlb_close_share": float(np.mean(np.abs(ratio - 1) <= CLOSE_RATIO)),
    }
    if n > 1:
        spread = 1.96 * float(difference.std(ddof=1))
        result |= {"loa_low_crlb": mean - spread, "loa_high_crlb": mean + spread}
    if n > 2 and single and rows["raw"].nunique() > 1 and rows["raw_reference"].nunique() > 1:
        result["correlation"] = float(np.corrcoef(rows["raw"], rows["raw_reference"])[0, 1])
    return result


def _finite(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the pairs that both engines fitted, with a column that says whether they are in the same minimum."""
    columns = ["raw", "raw_reference", "raw_sd", "raw_sd_reference"]
    kept = np.isfinite(pairs[columns].to_numpy(float)).all(axis=1) & (pairs["raw_sd_reference"] > 0)
    difference = (pairs["objective"] - pairs["objective_reference"]).abs()
    return pairs.assign(same=difference <= SAME_MINIMUM * pairs["objective_reference"])[kept]


def agreement_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per set, condition, metabolite (and all together) and choice of spectra.

    Parameters
    ----------
    pairs
        Rows of `pair` with a column ``set``.
    """
    import pandas as pd

    from mrs_synthesis.metabolites import DIFF_SUMS, SUMS

    finite, rows = _finite(pairs), []
    for (name, condition), part in finite.groupby(["set", "condition"], sort=False):
        together = part[~part["metabolite"].isin([*SUMS, *DIFF_SUMS])]
        groups = [(EVERY, together), *part.groupby("metabolite", sort=False)]
        for metabolite, group in groups:
            for spectra, chosen in zip(SUBSETS, (group, group[group["same"]]), strict=True):
                key = {"set": name, "condition": condition, "metabolite": metabolite, "spectra": spectra}
                rows.append(key | statistics(chosen, single=metabolite != EVERY))
    return pd.DataFrame(rows, columns=["set", "condition", "metabolite", "spectra", *STATISTICS])


def objective_table(pairs: pd.DataFrame) -> pd.DataFrame:
    """Return one row per set and condition: which engine reached the lower objective, and how often."""
    import pandas as pd

    rows = []
    for (name, condition), part in pairs.groupby(["set", "condition"], sort=False):
        fits = part.drop_duplicates(["unit", "cell"])
        usable = fits[np.isfinite(fits["objective"]) & np.isfinite(fits["objective_reference"])]
        ours, theirs = usable["objective"].to_numpy(float), usable["objective_reference"].to_numpy(float)
        ratio = np.divide(ours, theirs, out=np.ones_like(ours), where=theirs > 0)
        worse = theirs > ours * (1 + SAME_MINIMUM)
        told = fits["converged_reference"].notna().any()
        rows.append(
            {
                "set": name,
                "condition": condition,
                "n": len(usable),
                "n_same_minimum": int(np.sum(np.abs(ours - theirs) <= SAME_MINIMUM * theirs)),
                "objective_ratio_median": float(np.median(ratio)) if ratio.size else float("nan"),
                "objective_ratio_min": ratio.min(initial=np.inf) if ratio.size else float("nan"),
                "objective_ratio_max": ratio.max(initial=-np.inf) if ratio.size else float("nan"),
                "no_worse_share": float(np.mean(ours <= theirs * (1 + NO_WORSE))) if ratio.size else float("nan"),
                "n_reference_worse": int(worse.sum()),
                "n_ours_worse": int(np.sum(ours > theirs * (1 + SAME_MINIMUM))),
                "reference_worse_cells": _worst(usable[worse], ratio[worse]),
                "n_not_converged": int((fits["converged"].fillna(0) == 0).sum()),
                "n_not_converged_reference": int((fits["converged_reference"] == 0).sum()) if told else float("nan"),
            }
        )
    return pd.DataFrame(rows)


def _worst(fits: pd.DataFrame, ratio: np.ndarray, most: int = 5) -> str | float:
    """Name the cells with the smallest ratios of objectives."""
    order = np.argsort(ratio)[:most]
    names = [
        " ".join(str(part) for part in (fits["unit"].iloc[i], fits["cell"].iloc[i]) if part != "")
        + f" ({ratio[i]:.5g})"
        for i in order
    ]
    return "; ".join(names) + (" ..." if ratio.size > most else "") if names else float("nan")


def collect(sets: Sequence[str], ours: Sequence[Path], reference: Sequence[Path]) -> pd.DataFrame:
    """Return the pairs of all files with columns ``set`` and ``unit``; scans that failed earlier are left out.

    Raises
    ------
    InputError
        If the lists have different lengths, the files do not belong together, or nothing is left.
    """
    import pandas as pd

    names = list(sets) * len(ours) if len(sets) == 1 else list(sets)
    if not len(names) == len(ours) == len(reference):
        raise InputError(
            f"--sets, --ours, --reference: {len(sets)}, {len(ours)} and {len(reference)} values; expected as many of "
            "each (or one set for all)"
        )
    parts = []
    for name, first, second in zip(names, ours, reference, strict=True):
        unit = first.name.partition("_desc-")[0] if "_desc-" in first.name else ""
        try:
            parts.append(pair(first, second).assign(set=name, unit=unit))
        except SkippedError as error:
            print(f"left out: {error}", flush=True)
    if not parts:
        raise InputError("every scan failed earlier, nothing can be compared; see the table of failures")
    return pd.concat(parts, ignore_index=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare two engines' fits of the same spectra: amplitudes and bounds per metabolite, and the objectives."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.engine_agreement", description=main.__doc__)
    parser.add_argument("--sets", nargs="+", required=True, help="name of each pair of tables, or one for all")
    parser.add_argument("--ours", type=Path, nargs="+", required=True, help="tables of fits (..mrsfit.tsv)")
    parser.add_argument(
        "--reference", type=Path, nargs="+", required=True, help="the other engine's, in the same order"
    )
    parser.add_argument("--output", type=Path, required=True, help="table of agreement (TSV)")
    parser.add_argument("--objectives", type=Path, required=True, help="table of objectives (TSV)")
    args = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table

    pairs = collect(args.sets, args.ours, args.reference)
    engines = " and ".join(pairs[name].iloc[0] for name in ("engine", "engine_reference"))
    about = f"Agreement of the engines {engines} (the reference) over spectra; one row per set, condition, metabolite"
    write_described_table(args.output, agreement_table(pairs), about, DESCRIPTIONS)
    about = f"Objectives that the engines {engines} (the reference) reached; one row per set and condition"
    table = objective_table(pairs)
    write_described_table(args.objectives, table, about, DESCRIPTIONS)
    for row in table.to_dict("records"):
        print(
            f"{row['set']} {row['condition']}: {row['n']} spectra, {row['n_same_minimum']} in the same minimum; "
            f"{row['n_reference_worse']} where the reference is worse, {row['n_ours_worse']} where ours is",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
