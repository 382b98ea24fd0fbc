"""Take a part of a training set: fewer subjects, or none of one site; a training set like the whole in every other way.

Subjects are taken in an order of their own, stratified by site, so that a smaller number of them is contained in a
larger one. Validation subjects, which choose settings or stop the training, become fewer in proportion: who has few
subjects to train on has few to choose with.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.sheet import NO_SITE
from mrs_synthesis.splits import stratified_order
from mrs_synthesis.stage import InputError, run
from mrs_synthesis.training_set import TrainingSet, write_spectra

if TYPE_CHECKING:
    import pandas as pd

BLOCK = 4096  # rows copied at once


def first_subjects(sites: Mapping[str, str], n: int, seed: int) -> list[str]:
    """Return the first `n` subjects (all, if there are not so many) of the order that `seed` gives to `sites`."""
    return stratified_order(sites, seed, "grid")[:n]


def fewer(n_validation: int, n_train: int, n: int) -> int:
    """Return how many of `n_validation` subjects go with `n` of `n_train` training subjects: in proportion, 1 at least.

    Rounded up.
    """
    return min(n_validation, max(1, math.ceil(n_validation * n / n_train)))


def chosen_rows(index: pd.DataFrame, n: int | None, without: str | None, seed: int) -> np.ndarray:
    """Return the rows of a training set's index that a part of it has, increasing.

    Parameters
    ----------
    index
        Of the training set; what is neither in train nor in validation is left out.
    n
        Training subjects; None: all.
    without
        Site without any row; None: all sites.
    seed
        Of the subjects' order.

    Raises
    ------
    InputError
        If no training or no validation subject is left, or `without` is no site of the training set.
    """
    site = index["site"].fillna(NO_SITE)
    if without is not None and without not in set(site):
        raise InputError(
            f"--without {without}: no such site in the training set, expected one of {', '.join(sorted(set(site)))}"
        )
    rows = index.assign(site=site)[(site != without) & index["split"].isin(("train", "validation"))]
    sites = {
        split: dict(zip(part["subject"], part["site"], strict=True)) for split, part in rows.groupby("split", sort=True)
    }
    for split in ("train", "validation"):
        if not sites.get(split):
            raise InputError(
                f"no {split} subject is left{f' without site {without}' if without else ''}; state the split in the "
                "sample sheet so that every site has one, or do not leave out sites"
            )
    n_train = len(sites["train"])
    if n is None:
        n = n_train
    elif n > n_train:
        print(f"{n_train} training subjects, {n} were asked for: all are taken", flush=True)
    numbers = {"train": n, "validation": fewer(len(sites["validation"]), n_train, n)}
    kept = [
        (rows["split"] == split) & rows["subject"].isin(first_subjects(sites[split], number, seed))
        for split, number in numbers.items()
    ]
    return rows.loc[kept[0] | kept[1], "row"].to_numpy(np.int64)


def write_part(training: Path, output: Path, *, n: int | None, without: str | None, seed: int) -> None:
    """Write ``spectra.npy``, ``index.tsv`` and ``grid.json`` of a part of the training set `training` into `output`.

    Raises
    ------
    InputError
        If the set is split by transients, or `chosen_rows` finds too few subjects.
    """
    from mrs_synthesis.files import write_json, write_table

    data = TrainingSet(training)
    if data.grid["split_unit"] != "subject":
        raise InputError(
            f"{training}/grid.json: split by {data.grid['split_unit']}, expected by subject; parts of the subjects "
            "make sense only where others are tested"
        )
    try:
        rows = chosen_rows(data.index, n, without, seed)
    except InputError as error:
        raise InputError(f"{training}/index.tsv: {error}") from None
    blocks = (data.spectra[rows[start : start + BLOCK]] for start in range(0, len(rows), BLOCK))
    digest = write_spectra(Path(output) / "spectra.npy", len(rows), data.spectra.shape[1], blocks)
    index = data.index.iloc[rows].assign(row=np.arange(len(rows)))
    write_table(Path(output) / "index.tsv", index)
    grid = data.grid | {"part_of": data.hashes()["spectra.npy"]}  # a model of it may be used in the whole study
    write_json(Path(output) / "grid.json", grid | {"spectra_sha256": digest})
    counts = index.groupby("split")["subject"].nunique()
    print(", ".join(f"{counts[split]} {split} subjects" for split in ("train", "validation")), flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.grid_training", description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=Path, required=True, help="folder of the whole training set")
    parser.add_argument("--n", type=int, help="training subjects (default: all)")
    parser.add_argument("--without", help="site to leave out")
    parser.add_argument("--seed", type=int, required=True, help="of the order that subjects are taken in")
    parser.add_argument("--output", type=Path, required=True, help="folder of the part")
    a = parser.parse_args(argv)
    if a.n is not None and a.n < 1:
        raise InputError(f"--n {a.n}: expected at least 1")
    write_part(a.training, a.output, n=a.n, without=a.without, seed=a.seed)


if __name__ == "__main__":
    run(main)
