"""Studies over models, seeds, numbers of training subjects and left-out sites: the table `grid`.

A variant trains a model of its own on a part of the study's training set and fills up the study's own cells: the same
test subjects, the same real transients, so that variants are paired. Its null controls know the same part of the
training set. Real transients alone are the study's. A variant without a site is tested on that site's subjects, and
those that know all sites are then listed for each site's test subjects, too.
"""

from __future__ import annotations

import argparse
import itertools
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import agreement, bias_tables, estimates, evaluate, seeds
from mrs_synthesis.sheet import NO_SITE, site_labels
from mrs_synthesis.stage import InputError, require, run

if TYPE_CHECKING:
    import pandas as pd

# As of Variant.name
NAME = re.compile(r"model-(?P<model>[a-z]+)_seed-(?P<seed>\d+)(_n-(?P<n>\d+))?(_without-(?P<without>[A-Za-z0-9]+))?")
ALL, NONE = "all", "none"
NO_TRAINING = "duplicated"  # the one control that knows nothing of other subjects: equals the real transients alone
COLUMNS = {
    "model": {"Description": "Generative model: subject or paper"},
    "seed": {"Description": "Seed of training and synthesis; split, cells and the subjects' order are the study's"},
    "n_training": {"Description": "Subjects that the model was trained on, and that the null controls know"},
    "n_validation": {"Description": "Validation subjects: fewer in proportion to n_training"},
    "left_out_site": {"Description": f"Site of which no subject was in the training set; {NONE}: all sites were"},
    "test_site": {"Description": f"Site of the test subjects that the row is about; {ALL}: of all sites"},
    "rmse_ci_low": {
        "Description": "Lower end of the 95 % bootstrap interval of rmse_percent over subjects (one subject: "
        "replicates)",
        "Units": "percent",
    },
    "rmse_ci_high": {"Description": "Upper end of this interval", "Units": "percent"},
}
VARIANT_COLUMNS = ("model", "seed", "n_training", "n_validation", "left_out_site", "test_site")


@dataclass(frozen=True)
class Variant:
    """One point of the grid.

    Attributes
    ----------
    model, seed
        Of training; the seed of synthesis, too.
    n
        Training subjects; None: all.
    without
        Label of the site that is left out; empty: none.
    """

    model: str
    seed: int
    n: int | None = None
    without: str = ""

    @property
    def part(self) -> str:
        """Name of the part of the training set; empty: the whole."""
        named = ("n", self.n), ("without", self.without)
        return "_".join(f"{key}-{value}" for key, value in named if value)

    @property
    def name(self) -> str:
        """Name of the folder, e.g. ``model-subject_seed-2603_n-8_without-A``."""
        return "_".join(filter(None, (f"model-{self.model}", f"seed-{self.seed}", self.part)))

    @classmethod
    def of(cls, name: str) -> Variant:
        """Return the variant of this name.

        Raises
        ------
        InputError
            If it is none's.
        """
        match = NAME.fullmatch(name)
        if not match:
            raise InputError(f"--variants {name}: expected a name like model-subject_seed-1_n-8_without-A")
        n = match["n"] and int(match["n"])
        return cls(match["model"], int(match["seed"]), n, match["without"] or "")


def variants(
    models: Sequence[str],
    seeds_: Sequence[int],
    numbers: Sequence[int],
    n_training: Mapping[str, int],
) -> tuple[list[Variant], list[Variant]]:
    """Return the variants of a grid, and those that are left out since they ask for more subjects than there are.

    A number of which there are exactly so many means all.

    Parameters
    ----------
    models, seeds_
        The axes.
    numbers
        Of training subjects; none: all.
    n_training
        Training subjects there are, by the label of the site that is left out (empty: none).

    Raises
    ------
    InputError
        If a number is larger than that of all training subjects.
    """
    most = n_training[""]
    if numbers and max(numbers) > most:
        raise InputError(
            f"grid: training_subjects {max(numbers)}, but the study has {most} training subjects; lower the number"
        )
    possible, too_few = [], []
    for model, seed, n, (without, most) in itertools.product(models, seeds_, numbers or (None,), n_training.items()):
        point = Variant(model, seed, n if n != most else None, without)
        (too_few if n and n > most else possible).append(point)
    return possible, too_few


def take_part(training: Path, folder: Path, variant: Variant) -> pd.DataFrame:
    """Return the index of the part of the training set that a variant was trained on.

    `folder` is the grid's; the whole training set is the study's own.
    """
    from mrs_synthesis.files import read_table

    path = (Path(folder) / "training" / variant.part if variant.part else Path(training)) / "index.tsv"
    try:
        return read_table(require(path), ("subject", "site", "split"))
    except ValueError as error:
        raise InputError(str(error)) from None


def pooled(
    study: pd.DataFrame, own: pd.DataFrame, ratios: Sequence[tuple[str, str]], truth: pd.DataFrame | None
) -> pd.DataFrame:
    """Return a variant's estimates and the study's of real transients alone, with their ``reference``.

    Scans that failed in the variant are left out of both.

    Parameters
    ----------
    study
        The study's table of concentrations.
    own
        The variant's; may be the study's itself.
    ratios
        (condition, metabolite) pairs.
    truth
        The phantom's; None: the scans' reference cells are what estimates are compared with.
    """
    import pandas as pd

    real = study[study["source"].isin(("reference", "real")) & study["unit"].isin(own["unit"])]
    filled = own[~own["source"].isin(("real", *estimates.NO_CURVE, NO_TRAINING))]
    rows = pd.concat([real, filled], ignore_index=True)
    rows = estimates.with_reference(rows, ratios) if truth is None else estimates.with_truth(rows, ratios, truth)
    return rows[rows["source"] != "reference"]


def with_intervals(rows: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    """Return bias, and the bootstrap intervals of bias, slope and RMS error, of every series.

    The subjects drawn are those of the study's tables of bias and effective transients.
    """
    import pandas as pd

    subjects = estimates.number_subjects(rows)
    count = len(set(subjects.values()))
    resampled = agreement.resample(count, n_resamples, seeds.generator(seed, "evaluate", "subjects"))
    table = []
    for key, series in rows.groupby(list(estimates.SERIES), sort=False, dropna=False):
        pairs = estimates.paired(series, list(subjects), subjects).usable()
        found, size, drawn = np.unique(pairs.subject).size, pairs.reference.size, agreement.drawn_from(pairs)
        weights = agreement.weights_of(pairs, resampled, seeds.generator(seed, "grid", "intervals", *key))
        row = dict(zip(estimates.SERIES, key, strict=True))
        row["bias_percent"] = float(agreement.bias(pairs, np.ones((1, size)))[0]) if size else np.nan
        for name, statistic, known in (
            ("bias", agreement.bias, drawn > 1),
            ("rmse", agreement.rmse, drawn > 1),
            ("slope", agreement.slope, found >= agreement.FEWEST),
        ):
            ends = agreement.interval(statistic(pairs, weights), drawn) if known else (np.nan, np.nan)
            row |= dict(zip((f"{name}_ci_low", f"{name}_ci_high"), ends, strict=True))
        table.append(row)
    return pd.DataFrame(table)


def series_table(rows: pd.DataFrame, n_resamples: int, seed: int) -> pd.DataFrame:
    """Return worth, bias, slope and error, with intervals, of every series of one variant; `rows` of `pooled`."""
    table = bias_tables.effective_table(rows, n_resamples, seed)
    return table.merge(with_intervals(rows, n_resamples, seed), on=list(estimates.SERIES), how="left")


def sites_tested(variant: Variant, labels: Mapping[str, str], by_site: bool) -> Iterable[tuple[str, str | None]]:
    """Yield the name, and the site (None: every), of the test subjects that a variant has rows for.

    `labels` are those of the sites with test subjects; `by_site`: some other variant leaves out a site.
    """
    if not variant.without:
        yield ALL, None
    for site, label in labels.items():
        if variant.without == label or (by_site and not variant.without):
            yield site, site


def grid_table(
    study: pd.DataFrame,
    own: Mapping[Variant, pd.DataFrame],
    parts: Mapping[Variant, pd.DataFrame],
    ratios: Sequence[tuple[str, str]],
    truth: pd.DataFrame | None,
    *,
    n_resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Return the table of the grid, a row per variant, group of test subjects, ratio and series.

    Parameters
    ----------
    study
        The study's table of concentrations.
    own
        That of each variant.
    parts
        The index of each variant's training set.
    ratios, truth
        As for `pooled`.
    n_resamples, seed
        Of the intervals.
    """
    import pandas as pd

    site = study["site"].fillna(NO_SITE)
    labels = site_labels(site)
    names = {label: name for name, label in labels.items()}
    by_site = any(variant.without for variant in own)
    table = []
    for variant, concentrations in own.items():
        counts = parts[variant].groupby("split")["subject"].nunique()
        about = {
            "model": variant.model,
            "seed": variant.seed,
            "n_training": int(counts["train"]),
            "n_validation": int(counts["validation"]),
            "left_out_site": names.get(variant.without, NONE),
        }
        rows = pooled(study, concentrations, ratios, truth)
        rows = rows.assign(site=rows["site"].fillna(NO_SITE))
        for name, tested in sites_tested(variant, labels, by_site):
            part = rows if tested is None else rows[rows["site"] == tested]
            series = series_table(part, n_resamples, seed)
            table.append(series.assign(**about, test_site=name))
    whole = pd.concat(table, ignore_index=True)
    return whole[[*VARIANT_COLUMNS, *(name for name in whole.columns if name not in VARIANT_COLUMNS)]]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.grid",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the study's training set")
    parser.add_argument("--concentrations", type=Path, required=True, help="the study's")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the variants")
    parser.add_argument("--variants", nargs="+", required=True, help="e.g. model-subject_seed-1_n-8_without-A")
    parser.add_argument("--study", default="", help="the variant that the study itself is, whose cells are its own")
    parser.add_argument("--engine", choices=("batched", "fsl-mrs"), required=True, help="whose fits to read")
    parser.add_argument("--ratios", nargs="+", help="CONDITION:METABOLITE, e.g. DIFF:GABA+ (default: the usual ones)")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the confidence intervals")
    parser.add_argument("--seed", type=int, required=True, help="of the intervals")
    parser.add_argument("--truth", type=Path, help="phantom only: the true ratios")
    parser.add_argument("--output", type=Path, required=True, help="table of the grid (TSV)")
    a = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table

    try:
        units = read_table(require(a.units), ("unit", "folder", "subject", "session", "site")).astype(object)
        study = read_table(require(a.concentrations), (*estimates.SERIES, "unit", "subject", "site", "per_tcr"))
        truth = read_table(require(a.truth), ("subject", "metabolite", "per_tcr")) if a.truth else None
    except ValueError as error:
        raise InputError(str(error)) from None
    split_unit = json.loads(require(a.training / "grid.json").read_text())["split_unit"]
    study = study.assign(decoder=study["decoder"].astype(object).where(study["decoder"].notna(), "n/a"))
    units = units[units["unit"].isin(study["unit"])]
    units = units.where(units.notna(), NO_SITE)
    labels = site_labels(units["site"])
    points = [Variant.of(name) for name in a.variants]
    own = {}
    for point in points:
        tested = [row for row in units.to_dict("records") if point.without in ("", labels[row["site"]])]
        derivatives = a.folder / point.name / "derivatives"
        own[point] = study if point.name == a.study else evaluate.collect(tested, derivatives, a.engine)[0]
    parts = {point: take_part(a.training, a.folder, point) for point in points}
    ratios = estimates.choose_ratios(a.ratios, study)
    table = grid_table(study, own, parts, ratios, truth, n_resamples=a.bootstrap, seed=a.seed)
    scope = "; training and test transients are of the same subjects" if split_unit == "transient" else ""
    about = (
        f"One ratio to tCr from one source of one variant, against {'the truth' if a.truth else 'the reference'}{scope}"
    )
    write_described_table(a.output, table, about, COLUMNS)


if __name__ == "__main__":
    run(main)
