"""Who trains, who stops the training, who is tested: by subject, stratified by site, or within subjects.

A subject's place depends on a random key of its own and on its rank within its site, not on the order of the sample
sheet. Adding one subject therefore moves only subjects whose rank lies at a border between two splits.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from mrs_synthesis import seeds
from mrs_synthesis.stage import InputError

SPLITS = ("train", "validation", "test")
FEWEST_SUBJECTS = 3


def check_fractions(fractions: Sequence[float]) -> None:
    """Refuse fractions that are not three positive numbers with the sum 1.

    Raises
    ------
    InputError
        If they are not.
    """
    if len(fractions) != 3 or min(fractions) <= 0 or not math.isclose(sum(fractions), 1.0, abs_tol=1e-6):
        raise InputError(
            f"--fractions: {' '.join(map(str, fractions))}, expected three positive numbers with the sum 1 "
            "(train, validation, test)"
        )


def split_counts(n: int, fractions: Sequence[float]) -> tuple[int, int, int]:
    """Return how many of `n` >= 3 items go to train, validation and test: rounded, and each at least 1."""
    validation = max(1, round(n * fractions[1]))
    test = max(1, round(n * fractions[2]))
    while n - validation - test < 1:
        if test >= validation:
            test -= 1
        else:
            validation -= 1
    return n - validation - test, validation, test


def stratified_order(sites: Mapping[str, str], seed: int, name: str) -> list[str]:
    """Return the subjects in a random order of which every stretch has its share of every site, to within rounding.

    Systematic sampling: within a site the subjects are ordered by their own random key; rank k of m gets the score
    ``(k + u) / m`` with one random start u per site; all subjects are then sorted by score.

    Parameters
    ----------
    sites
        Site of each subject.
    seed, name
        Of the random stream.
    """
    by_site = defaultdict(list)
    key = {subject: seeds.generator(seed, name, "subject", subject).random() for subject in sites}
    for subject in sites:
        by_site[sites[subject]].append(subject)
    score = {}
    for site, subjects in by_site.items():
        start = seeds.generator(seed, name, "site", site).random()
        for rank, subject in enumerate(sorted(subjects, key=lambda s: (key[s], s))):
            score[subject] = (rank + start) / len(subjects)
    return sorted(score, key=lambda s: (score[s], key[s], s))


def split_subjects(
    sites: Mapping[str, str], given: Mapping[str, str], fractions: Sequence[float], seed: int
) -> dict[str, str]:
    """Assign whole subjects to splits, stratified by site.

    Subjects in the order of `stratified_order` are cut into test, validation and train. Every split so gets its share
    of every site, to within rounding.

    Parameters
    ----------
    sites
        Site of each subject.
    given
        Split of those subjects whose split the sample sheet states. They keep it; the rest fills up the shares.
    fractions
        Shares of train, validation and test of all subjects.
    seed
        The configuration's seed.
    """
    free = stratified_order({subject: sites[subject] for subject in sites if subject not in given}, seed, "split")
    wanted = dict(zip(SPLITS, split_counts(len(sites), fractions), strict=True))
    for name in SPLITS:
        wanted[name] = max(0, wanted[name] - sum(split == name for split in given.values()))
    # The sheet may fill one split beyond its share; the others then share what is left.
    n_test = min(wanted["test"], len(free))
    n_validation = min(wanted["validation"], len(free) - n_test)
    result = dict(given)
    for place, subject in enumerate(free):
        result[subject] = "test" if place < n_test else "validation" if place < n_test + n_validation else "train"
    return result


def split_transients(n: int, fractions: Sequence[float], seed: int, unit: str) -> np.ndarray:
    """Return the split of each of a unit's `n` transients, shape (n,); a pair of edit conditions shares its index.

    Raises
    ------
    InputError
        If there are fewer than 3.
    """
    if n < 3:
        raise InputError(
            f"{unit}: {n} transient(s), expected at least 3 to split within the subject; add subjects (at least "
            f"{FEWEST_SUBJECTS}) so that whole subjects can be held out"
        )
    train, validation, test = split_counts(n, fractions)
    result = np.empty(n, dtype=object)
    order = seeds.generator(seed, "split", "transients", unit).permutation(n)
    result[order] = ["train"] * train + ["validation"] * validation + ["test"] * test
    return result


def given_splits(rows: Sequence[Mapping[str, str | None]]) -> dict[str, str]:
    """Return the split that the sample sheet states for a subject, from rows with ``unit``, ``subject``, ``split``.

    Raises
    ------
    InputError
        If a split has an unknown name, or two sessions of one subject are in two splits.
    """
    given: dict[str, str] = {}
    for row in rows:
        split, subject = row["split"], row["subject"]
        if split is None:
            continue
        if split not in SPLITS:
            raise InputError(f"units.tsv, {row['unit']}: split '{split}', expected one of {', '.join(SPLITS)} or n/a")
        if given.setdefault(subject, split) != split:
            raise InputError(
                f"units.tsv, {row['unit']}: split '{split}', but another session of subject {subject} is in "
                f"'{given[subject]}'; give all sessions of a subject the same split"
            )
    return given
