"""Collect the test scans' cells and fits into the result tables: concentrations, bias, effective transients.

Every estimate is a ratio to tCr (``per_tcr``, in which quantification divides DIFF by OFF's tCr). The reference of a
scan is its own cell `reference`: real transients that no other cell uses. `bias_truth` (phantom) compares with the
truth.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mrs_synthesis import estimates, fitting
from mrs_synthesis.bias_tables import LEARNING, bias_table, effective_table, learning_table, site_table
from mrs_synthesis.estimates import choose_ratios, with_left_out, with_reference, with_truth
from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

IDENTIFIERS = ("unit", "subject", "session", "site")
CELL = ("cell", "source", "decoder", "n_real", "n_total", "replicate")
NEEDED = (*estimates.SERIES, "unit", "subject", "site", "replicate", "per_tcr", "crlb_percent")  # held of all scans
LEARNING_ABOUT = "Error of so many real transients alone for one ratio to tCr"
EFFECTIVE_ABOUT = "How many real transients one source is worth for one ratio to tCr"
FIT = tuple(column for column in fitting.COLUMNS if column != "raw_sd")


def read_units(units: Path, training: Path) -> tuple[list[dict], str]:
    """Return the scans with test transients, as rows of units.tsv, and the split unit of the study."""
    split_unit = json.loads((Path(training) / "grid.json").read_text())["split_unit"]
    return estimates.test_units(units), split_unit


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


def by_unit(units: Sequence[dict], derivatives: Path, engine: str, left_out: dict[str, str]) -> Iterator[pd.DataFrame]:
    """Yield the rows of the table of concentrations of one unit after the other; add those left out, with the reason.

    Raises
    ------
    InputError
        If a unit's files are absent or contradict each other, or no unit is left.
    """
    for row in units:
        base = Path(derivatives) / row["folder"] / "mrs"
        names = {name: row[name] for name in IDENTIFIERS}
        try:
            cells = read_cells(base, row["unit"])
            fit = read_fit(base, row["unit"], engine)
        except SkippedError as error:
            left_out[row["unit"]] = str(error)
            print(f"left out: {error}", flush=True)
            continue
        unknown = set(fit["cell"]) - set(cells["cell"])
        if unknown:
            raise InputError(
                f"{base}/{row['unit']}: fits of cells {sorted(unknown)} that the cells index lacks; quantify again"
            )
        yield cells.merge(fit, on="cell", how="left").assign(**names)[[*IDENTIFIERS, *CELL, *FIT[1:]]]
    if len(left_out) == len(units):
        raise InputError(f"all {len(units)} test units failed earlier; see the table of failures")


def collect(units: Sequence[dict], derivatives: Path, engine: str) -> tuple[pd.DataFrame, dict[str, str]]:
    """Return the table of concentrations, and the units left out with the reason; raises as `by_unit`."""
    import pandas as pd

    left_out: dict[str, str] = {}
    return pd.concat(list(by_unit(units, derivatives, engine, left_out)), ignore_index=True), left_out


def model_of(units: Sequence[dict], derivatives: Path) -> str | None:
    """Return the SHA-256 of the model that the units' cells are made by; None if they do not state it.

    Raises
    ------
    InputError
        If there are several.
    """
    paths = (Path(derivatives) / row["folder"] / "mrs" / f"{row['unit']}_desc-cells_svs.json" for row in units)
    stated = (json.loads(path.read_text(encoding="utf-8")).get("ModelSHA256") for path in paths if path.is_file())
    found = {one: None for one in stated if one}
    if len(found) > 1:
        raise InputError(f"{derivatives}: study cells of {len(found)} models ({', '.join(found)}); synthesise again")
    return next(iter(found), None)


def write_concentrations(a: argparse.Namespace, units: Sequence[dict]) -> tuple[pd.DataFrame, dict]:
    """Write the table of concentrations, unit by unit; return the rows that may be evaluated, and facts of all."""
    import pandas as pd

    from mrs_synthesis.dictionary import describe
    from mrs_synthesis.files import append_table, write_json

    path, wanted = a.output / "concentrations.tsv", estimates.wanted_ratios(a.ratios)
    left_out: dict[str, str] = {}
    kept, sources, converged = [], {}, [0.0, 0]
    with append_table(path) as append:
        for table in by_unit(units, a.derivatives, a.engine, left_out):
            append(table)
            kept.append(estimates.of_ratios(table, wanted)[[*NEEDED]])
            sources |= dict.fromkeys(table["source"])
            known = table["converged"].astype(float).dropna()
            converged = [converged[0] + float(known.sum()), converged[1] + len(known)]
    about = {"TableDescription": "A metabolite fitted in one condition of one study cell", "MissingValue": "n/a"}
    write_json(path.with_suffix(".json"), about | describe(path, [*IDENTIFIERS, *CELL, *FIT[1:]]))
    evaluated = [row for row in units if row["unit"] not in left_out]
    return pd.concat(kept, ignore_index=True), {
        "n_subjects": len({row["subject"] for row in evaluated}),
        "n_units": len(evaluated),
        "n_sites": len({row["site"] for row in evaluated}),
        "units_left_out": left_out,
        "sources": list(sources),
        "converged_fraction": converged[0] / converged[1] if converged[1] else None,
        "model_sha256": model_of(evaluated, a.derivatives),
    }


def evaluate(a: argparse.Namespace) -> None:
    """Write all tables into the folder ``a.output``."""
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table, write_json

    units, split_unit = read_units(a.units, a.training)
    concentrations, facts = write_concentrations(a, units)
    ratios = choose_ratios(a.ratios, concentrations)
    rows = with_reference(concentrations, ratios)
    settings = (a.tost_margin_percent, a.bootstrap, a.seed)
    scope = ", within one subject" if rows["subject"].nunique() == 1 else ""
    if split_unit == "transient":
        scope += "; training and test transients are of the same subjects"

    def write(name: str, table: pd.DataFrame, about: str, extra: dict | None = None) -> None:
        write_described_table(a.output / f"{name}.tsv", with_left_out(table, units), f"{about}{scope}", extra)

    about = "Bias and agreement of one ratio to tCr from one source with the scans' own reference cell"
    write("bias", bias_table(rows, *settings), about)
    write("learning_curve", learning_table(rows, a.bootstrap, a.seed), LEARNING_ABOUT, LEARNING)
    write("effective_transients", effective_table(rows, a.bootstrap, a.seed), EFFECTIVE_ABOUT)
    if a.truth is not None:
        try:
            truth = read_table(require(a.truth), ("subject", "metabolite", "concentration_mm", "per_tcr"))
        except ValueError as error:
            raise InputError(str(error)) from None
        table = bias_table(with_truth(concentrations, ratios, truth), *settings, leave_out=())
        write("bias_truth", table, "As bias, against the phantom's truth")
    scope += ", one site"
    write("bias_by_site", site_table(rows, *settings), about)
    settings = {"tost_margin_percent": a.tost_margin_percent, "bootstrap": a.bootstrap, "seed": a.seed}
    ratios = [":".join(pair) for pair in ratios]
    write_json(
        a.output / "summary.json",
        {"engine": a.engine, "split_unit": split_unit, "ratios": ratios} | facts | settings,
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
