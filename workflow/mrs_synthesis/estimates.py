"""Estimates of the study cells beside the reference of their scan, by series: what all tables of bias start from.

A series is one metabolite ratio from one source with one n_real and n_total (`SERIES`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.agreement import Paired
from mrs_synthesis.stage import InputError, require

if TYPE_CHECKING:
    import pandas as pd

SERIES = ("metabolite", "condition", "source", "decoder", "n_real", "n_total")  # one row of the tables of bias
CHUNK = 200_000  # rows
CONDITIONS = ("OFF", "ON", "DIFF", "UNEDITED")
COMMON = ("tNAA", "tCho", "Ins", "Glx")  # ratios of the condition that holds tCr, where none are named
NO_CURVE = ("reference", "reconstruction")  # they hold the reference's own transients: no place on the learning curve


def choose_ratios(asked: Sequence[str] | None, concentrations: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (condition, metabolite) pairs; `asked` are texts like ``DIFF:GABA+``, None means the usual ones.

    Raises
    ------
    InputError
        If a text is not of this form, or no pair was fitted.
    """
    fitted = set(zip(concentrations["condition"], concentrations["metabolite"], strict=True))
    wanted = wanted_ratios(asked)
    found = [pair for pair in dict.fromkeys(wanted) if pair in fitted]
    for pair in dict.fromkeys(wanted):
        if asked is not None and pair not in fitted:
            print(f"not fitted, left out: {':'.join(pair)}", flush=True)
    if not found:
        raise InputError(f"--ratios: none of {' '.join(map(':'.join, wanted))} was fitted; name fitted ones")
    return found


def wanted_ratios(asked: Sequence[str] | None) -> list[tuple[str, str]]:
    """Return the (condition, metabolite) pairs that `choose_ratios` looks for.

    Raises
    ------
    InputError
        If a text is not of the form CONDITION:METABOLITE.
    """
    if asked is None:
        return [("DIFF", "GABA+"), ("DIFF", "Glx")] + [(c, m) for c in ("OFF", "UNEDITED") for m in COMMON]
    wanted = [tuple(text.split(":")) for text in asked]
    for text, pair in zip(asked, wanted, strict=True):
        if len(pair) != 2 or pair[0] not in CONDITIONS or not pair[1]:
            raise InputError(f"--ratios {text}: expected CONDITION:METABOLITE, e.g. DIFF:GABA+ or UNEDITED:tNAA")
    return wanted


def of_ratios(concentrations: pd.DataFrame, ratios: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the rows of these (condition, metabolite) pairs."""
    import pandas as pd

    return concentrations[pd.MultiIndex.from_frame(concentrations[["condition", "metabolite"]]).isin(ratios)]


def read_concentrations(
    path: Path, columns: Sequence[str], kept: Callable[[pd.DataFrame], pd.DataFrame]
) -> pd.DataFrame:
    """Return `columns` of the table of concentrations, and of its rows those that `kept` returns of each part.

    The table has a row for every metabolite of every cell of every scan; `CHUNK` rows are in memory at once.

    Raises
    ------
    InputError
        If the table is absent or lacks a column.
    """
    import pandas as pd

    from mrs_synthesis.files import MISSING, TEXT

    with open(require(path), encoding="utf-8") as stream:
        found = stream.readline().rstrip("\n").split("\t")
    if missing := [column for column in columns if column not in found]:
        raise InputError(f"{path}: no column {', '.join(missing)}; it has {', '.join(found)}")
    layout = {"sep": "\t", "na_values": [MISSING, ""], "keep_default_na": False, "dtype": dict.fromkeys(TEXT, str)}
    chunks = pd.read_csv(path, usecols=list(dict.fromkeys(columns)), chunksize=CHUNK, **layout)
    return pd.concat([kept(chunk) for chunk in chunks], ignore_index=True)


def with_reference(concentrations: pd.DataFrame, ratios: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the rows of `ratios` with a column ``reference``: per_tcr of the scan's reference cell."""
    rows = of_ratios(concentrations, ratios)
    own = rows[rows["source"] == "reference"]
    own = own[["unit", "condition", "metabolite", "per_tcr"]].rename(columns={"per_tcr": "reference"})
    return rows.merge(own, on=["unit", "condition", "metabolite"], how="left", validate="many_to_one")


def with_truth(concentrations: pd.DataFrame, ratios: Sequence[tuple[str, str]], truth: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `ratios` with a column ``reference``: the true ratio to tCr; sums are formed if absent."""
    from mrs_synthesis.metabolites import DIFF_SUMS, SUMS, canonical

    wide = truth.assign(metabolite=truth["metabolite"].map(canonical)).pivot(
        index="subject", columns="metabolite", values="per_tcr"
    )
    for name, members in (SUMS | DIFF_SUMS).items():
        present = [member for member in members if member in wide]
        if name not in wide and present:
            wide[name] = wide[present].sum(axis=1, min_count=1)
    long = wide.reset_index().melt(id_vars="subject", var_name="metabolite", value_name="reference")
    return of_ratios(concentrations, ratios).merge(
        long, on=["subject", "metabolite"], how="inner", validate="many_to_one"
    )


def paired(rows: pd.DataFrame, units: Sequence[str], subjects: dict[str, int]) -> Paired:
    """Return one series' estimates and references, a line for each of `units`, whose subjects are numbered."""
    table = rows.pivot(index="unit", columns="replicate", values="per_tcr").reindex(units)
    reference = rows.drop_duplicates("unit").set_index("unit")["reference"].reindex(units)
    return Paired(
        table.to_numpy(float),
        reference.to_numpy(float),
        np.array([subjects[unit] for unit in units]),
        len(set(subjects.values())),
    )


def number_subjects(rows: pd.DataFrame) -> dict[str, int]:
    """Return the number of each unit's subject, 0-based, by unit."""
    subject = rows.drop_duplicates("unit").set_index("unit")["subject"].sort_index()
    numbers = {name: i for i, name in enumerate(sorted(subject.unique()))}
    return {unit: numbers[name] for unit, name in subject.items()}


def with_common_sizes(rows: pd.DataFrame) -> pd.DataFrame:
    """Return `rows` with n_real and n_total of reference and reconstruction replaced by the median over scans.

    Scans differ in how many transients are left for the reference, and would else be series of their own.
    """
    rows = rows.copy()
    for source in NO_CURVE:
        own = rows["source"] == source
        for column in ("n_real", "n_total"):
            if own.any():
                rows.loc[own, column] = int(rows.loc[own].drop_duplicates("unit")[column].median())
    return rows


def test_units(units: Path) -> list[dict]:
    """Return the scans with test transients, as rows of units.tsv.

    Raises
    ------
    InputError
        If there is none, or a column is missing.
    """
    from mrs_synthesis.files import read_table

    try:
        table = read_table(require(units), ("unit", "folder", "subject", "session", "site", "split"))
    except ValueError as error:
        raise InputError(str(error)) from None
    # Without a split every scan has test transients of its own
    table = table[table["split"].isna() | (table["split"] == "test")].astype(object)
    if table.empty:
        raise InputError(f"{units}: no scan of split test; nothing can be evaluated")
    return table.where(table.notna(), "n/a").to_dict("records")


def with_left_out(table: pd.DataFrame, units: Sequence[dict], visits: bool = False) -> pd.DataFrame:
    """Return the table with a column ``n_left_out`` beside ``n``: test subjects (of the row's site) that n lacks.

    Parameters
    ----------
    table
        One without ``n`` is returned as it is.
    units
        Rows of `test_units`.
    visits
        A subject who was measured at two sites counts twice, as in ``n``.
    """
    if "n" not in table:
        return table
    everybody = {(row["site"], row["subject"]) for row in units}
    by_site = Counter(site for site, _ in everybody)
    whole = len(everybody if visits else {subject for _, subject in everybody})
    table = table.copy()
    total = table["site"].map(by_site) if "site" in table else whole
    table.insert(table.columns.get_loc("n") + 1, "n_left_out", total - table["n"])
    return table
