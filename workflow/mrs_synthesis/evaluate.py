"""Collect the test scans' cells and fits into the result tables: concentrations, quality, bias, effective transients.

Every estimate is a ratio to tCr (``per_tcr``, in which quantification divides DIFF by OFF's tCr). The reference of a
scan is its own cell `reference`: real transients that no other cell uses. `bias_truth` (phantom) compares with the
truth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import agreement, fitting, seeds
from mrs_synthesis.agreement import Paired
from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

IDENTIFIERS = ("unit", "subject", "session", "site")
CELL = ("cell", "source", "decoder", "n_real", "n_total", "replicate")
SERIES = ("metabolite", "condition", "source", "decoder", "n_real", "n_total")  # one row of the tables of bias
FIT = tuple(column for column in fitting.COLUMNS if column != "raw_sd")
CONDITIONS = ("OFF", "ON", "DIFF", "UNEDITED")
COMMON = ("tNAA", "tCho", "Ins", "Glx")  # ratios of the condition that holds tCr, where none are named
NO_CURVE = ("reference", "reconstruction")  # they hold the reference's own transients: no place on the learning curve


def read_units(units: Path, training: Path) -> tuple[list[dict], str]:
    """Return the scans with test transients, as rows of units.tsv, and the split unit of the study."""
    from mrs_synthesis.files import read_table

    try:
        table = read_table(require(units), ("unit", "folder", "subject", "session", "site"))
        index = read_table(require(Path(training) / "index.tsv"), ("unit", "split"))
    except ValueError as error:
        raise InputError(str(error)) from None
    tested = set(index.loc[index["split"] == "test", "unit"])
    table = table[table["unit"].isin(tested)].astype(object)
    if table.empty:
        raise InputError(f"{training}/index.tsv: no row of split test of a unit in {units}; nothing can be evaluated")
    split_unit = json.loads((Path(training) / "grid.json").read_text())["split_unit"]
    return table.where(table.notna(), "n/a").to_dict("records"), split_unit


def read_cells(base: Path, unit: str) -> pd.DataFrame:
    """Return the cells index of a unit whose derivatives start with ``base/unit``."""
    from mrs_synthesis.files import read_table

    cells = read_table(require(base / f"{unit}_desc-cells_index.tsv"), CELL)[list(CELL)]
    return cells.assign(decoder=cells["decoder"].astype(object).where(cells["decoder"].notna(), "n/a"))


def read_fit(base: Path, unit: str, engine: str) -> pd.DataFrame:
    """Return a unit's fitted concentrations by `engine`."""
    from mrs_synthesis.files import read_table

    path = require(base / f"{unit}_desc-{engine.replace('-', '')}_mrsfit.tsv")
    try:
        return read_table(path, FIT)[list(FIT)]
    except ValueError as error:
        raise InputError(str(error)) from None


def collect(units: Sequence[dict], derivatives: Path, engine: str) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, str]]:
    """Return the tables of concentrations and of quality, and the units left out with the reason.

    Raises
    ------
    InputError
        If a unit's files are absent or contradict each other, or no unit is left.
    """
    import pandas as pd

    fits, qualities, left_out = [], [], {}
    for row in units:
        base = Path(derivatives) / row["folder"] / "mrs"
        names = {name: row[name] for name in IDENTIFIERS}
        try:
            cells = read_cells(base, row["unit"])
            fit = read_fit(base, row["unit"], engine)
            quality = unit_quality(base / f"{row['unit']}_desc-cells_svs.nii.gz", cells)
        except SkippedError as error:
            left_out[row["unit"]] = str(error)
            print(f"left out: {error}", flush=True)
            continue
        unknown = set(fit["cell"]) - set(cells["cell"])
        if unknown:
            raise InputError(
                f"{base}/{row['unit']}: fits of cells {sorted(unknown)} that the cells index lacks; quantify again"
            )
        fits.append(cells.merge(fit, on="cell", how="left").assign(**names))
        qualities.append(cells.merge(quality, on="cell").assign(**names))
    if not fits:
        raise InputError(f"all {len(units)} test units failed earlier; see the table of failures")
    concentrations = pd.concat(fits, ignore_index=True)
    quality = pd.concat(qualities, ignore_index=True)
    measured = [column for column in quality.columns if column not in (*IDENTIFIERS, *CELL)]
    return (
        concentrations[[*IDENTIFIERS, *CELL, *FIT[1:]]],
        quality[[*IDENTIFIERS, *CELL, *measured]],
        left_out,
    )


def unit_quality(path: Path, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the quality of each cell of a unit's cells file, a row per cell."""
    import pandas as pd

    from mrs_synthesis.quality import cell_quality, noise_sd
    from mrs_synthesis.scans import read_scan

    scan = read_scan(path)
    if scan.fids.shape[1] != len(cells) or cells["source"].tolist().count("reference") != 1:
        raise InputError(
            f"{path}: {scan.fids.shape[1]} spectra, the index has {len(cells)} cells of which "
            f"{cells['source'].tolist().count('reference')} are the reference, expected as many and one; augment again"
        )
    fids = scan.fids[:, :, 0]
    first = cells[cells["source"] == "reference"].iloc[0]
    reference = fids[:, first["cell"]]
    sd = noise_sd(reference[0], scan.dwell_s, scan.frequency_mhz)
    rows = []
    for cell in cells.to_dict("records"):
        expected = sd * np.sqrt(first["n_total"] / cell["n_total"])
        values = cell_quality(fids[:, cell["cell"]], reference, scan.dwell_s, scan.frequency_mhz, expected)
        rows.append({"cell": cell["cell"], **values})
    return pd.DataFrame(rows)


def choose_ratios(asked: Sequence[str] | None, concentrations: pd.DataFrame) -> list[tuple[str, str]]:
    """Return (condition, metabolite) pairs; `asked` are texts like ``DIFF:GABA+``, None means the usual ones.

    Raises
    ------
    InputError
        If a text is not of this form, or no pair was fitted.
    """
    fitted = set(zip(concentrations["condition"], concentrations["metabolite"], strict=True))
    if asked is None:
        wanted = [("DIFF", "GABA+"), ("DIFF", "Glx")] + [(c, m) for c in ("OFF", "UNEDITED") for m in COMMON]
    else:
        wanted = [tuple(text.split(":")) for text in asked]
        for text, pair in zip(asked, wanted, strict=True):
            if len(pair) != 2 or pair[0] not in CONDITIONS or not pair[1]:
                raise InputError(f"--ratios {text}: expected CONDITION:METABOLITE, e.g. DIFF:GABA+ or UNEDITED:tNAA")
    found = [pair for pair in dict.fromkeys(wanted) if pair in fitted]
    for pair in dict.fromkeys(wanted):
        if asked is not None and pair not in fitted:
            print(f"not fitted, left out: {':'.join(pair)}", flush=True)
    if not found:
        raise InputError(f"--ratios: none of {' '.join(map(':'.join, wanted))} was fitted; name fitted ones")
    return found


def with_reference(concentrations: pd.DataFrame, ratios: Sequence[tuple[str, str]]) -> pd.DataFrame:
    """Return the rows of `ratios` with a column ``reference``: per_tcr of the scan's reference cell."""
    import pandas as pd

    keys = pd.MultiIndex.from_frame(concentrations[["condition", "metabolite"]])
    rows = concentrations[keys.isin(ratios)]
    own = rows[rows["source"] == "reference"]
    own = own[["unit", "condition", "metabolite", "per_tcr"]].rename(columns={"per_tcr": "reference"})
    return rows.merge(own, on=["unit", "condition", "metabolite"], how="left", validate="many_to_one")


def with_truth(concentrations: pd.DataFrame, ratios: Sequence[tuple[str, str]], truth: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `ratios` with a column ``reference``: the true ratio to tCr; sums are formed if absent."""
    import pandas as pd

    from mrs_synthesis.metabolites import DIFF_SUMS, SUMS, canonical

    wide = truth.assign(metabolite=truth["metabolite"].map(canonical)).pivot(
        index="subject", columns="metabolite", values="per_tcr"
    )
    for name, members in (SUMS | DIFF_SUMS).items():
        present = [member for member in members if member in wide]
        if name not in wide and present:
            wide[name] = wide[present].sum(axis=1, min_count=1)
    long = wide.reset_index().melt(id_vars="subject", var_name="metabolite", value_name="reference")
    keys = pd.MultiIndex.from_frame(concentrations[["condition", "metabolite"]])
    rows = concentrations[keys.isin(ratios)]
    return rows.merge(long, on=["subject", "metabolite"], how="inner", validate="many_to_one")


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
        crlb = series["crlb_percent"].replace([np.inf, -np.inf], np.nan).median()
        error = result["rmse_percent"] / crlb if crlb > 0 else float("nan")
        table.append(dict(zip(SERIES, key, strict=True)) | result | {"crlb_percent": crlb, "error_to_crlb": error})
    return pd.DataFrame(table)


def site_table(rows: pd.DataFrame, margin: float, n_resamples: int, seed: int) -> pd.DataFrame:
    """Return the table of bias and agreement within each site."""
    import pandas as pd

    parts = [
        bias_table(part, margin, n_resamples, seed).assign(site=site)
        for site, part in rows.groupby("site", sort=True, dropna=False)
    ]
    table = pd.concat(parts, ignore_index=True)
    return table[["site", *(column for column in table.columns if column != "site")]]


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
        curves = agreement.learning_curves(curve, drawn, seeds.generator(seed, "evaluate", "curve", *ratio))
        for key, series in group.groupby(columns, sort=False, dropna=False):
            if key[2] == "real" and key[4] not in sizes:
                continue
            random = seeds.generator(seed, "evaluate", "effective", *key)
            result = agreement.effective_transients(curves, paired(series, units, subjects), drawn, random)
            table.append(dict(zip(columns, key, strict=True)) | result)
    order = [*columns, "n_eff", "n_eff_ci_low", "n_eff_ci_high", "n_eff_clipped", "slope", "rmse_percent", "n"]
    return pd.DataFrame(table, columns=order)


def evaluate(a: argparse.Namespace) -> None:
    """Write all tables into the folder ``a.output``."""
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table, write_json

    units, split_unit = read_units(a.units, a.training)
    concentrations, quality, left_out = collect(units, a.derivatives, a.engine)
    ratios = choose_ratios(a.ratios, concentrations)
    rows = with_reference(concentrations, ratios)
    settings = (a.tost_margin_percent, a.bootstrap, a.seed)
    scope = ", within one subject" if rows["subject"].nunique() == 1 else ""
    if split_unit == "transient":
        scope += "; training and test transients are of the same subjects"
    write_described_table(
        a.output / "concentrations.tsv", concentrations, "A metabolite fitted in one condition of one study cell"
    )
    write_described_table(a.output / "quality.tsv", quality, "Signal quality of one study cell")
    about = f"Bias and agreement of one ratio to tCr from one source with the scans' own reference cell{scope}"
    write_described_table(a.output / "bias.tsv", bias_table(rows, *settings), about)
    write_described_table(a.output / "bias_by_site.tsv", site_table(rows, *settings), f"{about}, one site")
    write_described_table(
        a.output / "effective_transients.tsv",
        effective_table(rows, a.bootstrap, a.seed),
        f"How many real transients one source is worth for one ratio to tCr{scope}",
    )
    if a.truth is not None:
        try:
            truth = read_table(require(a.truth), ("subject", "metabolite", "concentration_mm", "per_tcr"))
        except ValueError as error:
            raise InputError(str(error)) from None
        table = bias_table(with_truth(concentrations, ratios, truth), *settings, leave_out=())
        write_described_table(a.output / "bias_truth.tsv", table, f"As bias, against the phantom's truth{scope}")
    write_json(
        a.output / "summary.json",
        {
            "engine": a.engine,
            "split_unit": split_unit,
            "n_subjects": int(concentrations["subject"].nunique()),
            "n_units": int(concentrations["unit"].nunique()),
            "n_sites": int(concentrations["site"].nunique()),
            "units_left_out": left_out,
            "ratios": [":".join(pair) for pair in ratios],
            "sources": list(dict.fromkeys(concentrations["source"])),
            "converged_fraction": float(concentrations["converged"].astype(float).mean()),
            "tost_margin_percent": a.tost_margin_percent,
            "bootstrap": a.bootstrap,
            "seed": a.seed,
        },
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.evaluate", description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder with cells and fits")
    parser.add_argument("--engine", choices=("batched", "fsl-mrs"), required=True, help="whose fits to read")
    parser.add_argument("--output", type=Path, required=True, help="folder of the tables")
    parser.add_argument(
        "--ratios", nargs="+", help="CONDITION:METABOLITE, e.g. DIFF:GABA+ OFF:tNAA (default: the usual ones)"
    )
    parser.add_argument("--tost-margin-percent", type=float, default=10.0, help="margin of the equivalence test")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the confidence intervals")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--truth", type=Path, help="phantom only: TSV of subject, metabolite, concentration_mm, per_tcr"
    )
    evaluate(parser.parse_args(argv))


if __name__ == "__main__":
    run(main)
