"""Tables of bias and agreement, of the learning curve, and of effective transients, a row per series."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import agreement, effective, paired_errors, seeds
from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.estimates import NO_CURVE, SERIES, number_subjects, paired, with_common_sizes

if TYPE_CHECKING:
    import pandas as pd

LEARNING = {
    "n_real": {"Description": "Real transients per edit condition, nothing else"},
    "ci_low": {
        "Description": "Lower end of the 95 % bootstrap interval of rmse_percent over subjects (one subject: over "
        "replicates)",
        "Units": "percent",
    },
    "ci_high": {"Description": "Upper end of this interval", "Units": "percent"},
}


def bias_table(
    rows: pd.DataFrame, margin: float, n_resamples: int, seed: int, leave_out: Sequence[str] = ("reference",)
) -> pd.DataFrame:
    """Return the table of bias and agreement, a row per series.

    Parameters
    ----------
    rows
        Concentrations with the column ``reference``.
    margin
        Margin of the equivalence test in percent.
    n_resamples
        Bootstrap resamples.
    seed
        Of the bootstrap.
    leave_out
        Sources without a row of their own.
    """
    import pandas as pd

    rows = with_common_sizes(rows[~rows["source"].isin(leave_out)])
    if rows.empty:
        return pd.DataFrame(columns=list(SERIES))
    subjects = number_subjects(rows)
    drawn = agreement.resample(len(set(subjects.values())), n_resamples, seeds.generator(seed, "evaluate", "subjects"))
    table = []
    for key, series in rows.groupby(list(SERIES), sort=False, dropna=False):
        random = seeds.generator(seed, "evaluate", "bias", *key)
        result = agreement.describe(paired(series, list(subjects), subjects), margin, drawn, random)
        # A scan without the whole series (it failed to be augmented) is not a missing estimate.
        result["n_missing"] = int(series["per_tcr"].isna().sum())
        of_fits = series.loc[series["per_tcr"].notna(), "crlb_percent"]  # of what the error is told of
        crlb = of_fits.replace([np.inf, -np.inf], np.nan).median()
        error = result["rmse_percent"] / crlb if crlb > 0 else float("nan")
        table.append(dict(zip(SERIES, key, strict=True)) | result | {"crlb_percent": crlb, "error_to_crlb": error})
    found = pd.DataFrame(table)
    place = found.columns.get_loc("tost_p") + 1
    found.insert(place, "tost_p_holm", paired_errors.holm(found["tost_p"], found["source"].map(kind_of_source)))
    return found


def kind_of_source(source: str) -> str:
    """Return what kind of source it is: the families of Holm's correction."""
    if source in ("real", *NO_CURVE):
        return source
    return "control" if source in CONTROLS else "synthetic"


def site_table(rows: pd.DataFrame, margin: float, n_resamples: int, seed: int) -> pd.DataFrame:
    """Return the table of bias and agreement within each site."""
    import pandas as pd

    parts = [
        bias_table(part, margin, n_resamples, seed).assign(site=site)
        for site, part in rows.groupby("site", sort=True, dropna=False)
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["site", *(column for column in table.columns if column != "site")]]


def learning_table(rows: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    """Return the learning curve of real transients alone, a row per ratio and number of them."""
    import pandas as pd

    rows = rows[~rows["source"].isin(NO_CURVE)]
    columns = ["metabolite", "condition", "n_real"]
    subjects = number_subjects(rows) if len(rows) else {}
    n_subjects = len(set(subjects.values()))
    drawn = agreement.resample(n_subjects or 1, n_resamples, seeds.generator(seed, "evaluate", "subjects"))
    table = []
    for key, part in rows[rows["source"] == "real"].groupby(columns, sort=False):
        random = seeds.generator(seed, "evaluate", "learning", *key)
        pairs = paired(part, list(subjects), subjects)
        errors = effective.errors(pairs, drawn, random)
        usable = pairs.usable()
        n = int(np.unique(usable.subject).size)
        low, high = (
            agreement.interval(errors[1:], agreement.drawn_from(usable))
            if n > 1 or n_subjects == 1
            else (np.nan, np.nan)
        )
        few = n < agreement.FEWEST
        slope = np.nan if few else float(agreement.slope(usable, np.ones((1, usable.reference.size)))[0])
        values = {"rmse_percent": float(errors[0]), "ci_low": low, "ci_high": high, "slope": slope, "n": n}
        table.append(dict(zip(columns, key, strict=True)) | values)
    order = [*columns, "rmse_percent", "ci_low", "ci_high", "slope", "n"]
    ratio = {key: i for i, key in enumerate(dict.fromkeys((row["metabolite"], row["condition"]) for row in table))}
    table.sort(key=lambda row: (ratio[row["metabolite"], row["condition"]], row["n_real"]))
    return pd.DataFrame(table, columns=order)


def effective_table(rows: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    """Return the table of effective transients, a row per series.

    Of the real series, those of the other series' sizes are listed: n_real real transients alone, and n_total.
    """
    import pandas as pd

    columns = list(SERIES)
    rows = rows[~rows["source"].isin(NO_CURVE)]
    filled = rows[rows["source"] != "real"]
    sizes = set(filled["n_real"]) | set(filled["n_total"])
    table = []
    subjects = number_subjects(rows) if len(rows) else {}
    units = list(subjects)
    drawn = agreement.resample(
        len(set(subjects.values())) or 1, n_resamples, seeds.generator(seed, "evaluate", "subjects")
    )
    for ratio, group in rows.groupby(["metabolite", "condition"], sort=False):
        real = group[group["source"] == "real"]
        curve = {int(n): paired(part, units, subjects) for n, part in real.groupby("n_real")}
        if len(curve) < 2:
            continue
        curves = effective.learning_curves(curve, drawn, seeds.generator(seed, "evaluate", "curve", *ratio))
        for key, series in group.groupby(columns, sort=False, dropna=False):
            if key[2] == "real" and key[4] not in sizes:
                continue
            random = seeds.generator(seed, "evaluate", "effective", *key)
            result = effective.effective_transients(curves, paired(series, units, subjects), drawn, random)
            table.append(dict(zip(columns, key, strict=True)) | result)
    order = [*columns, "n_eff", "n_eff_ci_low", "n_eff_ci_high", "n_eff_clipped", "slope", "rmse_percent", "n"]
    return pd.DataFrame(table, columns=order)
