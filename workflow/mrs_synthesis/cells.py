"""Study cells: which transients of a subject are the reference, which may be used, and by which replicate.

A cell is (subject, source of the filling, n_real, n_total, replicate). Transients are numbered along DIM_DYN of the
preprocessed scan; edit conditions share the numbers, since transients are acquired and kept in pairs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mrs_synthesis import seeds
from mrs_synthesis.stage import InputError

COUNTS = ("per_condition", "total")


@dataclass(frozen=True)
class RealSet:
    """The real transients that one replicate of one n_real starts from.

    Attributes
    ----------
    n_real, n_total
        Transients per edit condition of its cells: real ones, and all.
    replicate
        0-based, within its `n_real`.
    transients
        Its real ones.
    first
        Where its synthetic transients begin in a file of synthetic transients.
    """

    n_real: int
    n_total: int
    replicate: int
    transients: tuple[int, ...]
    first: int

    @property
    def n_synthetic(self) -> int:
        """How many synthetic transients fill it up."""
        return self.n_total - self.n_real

    @property
    def dyn_range(self) -> tuple[int, int]:
        """First and last (exclusive) position of its synthetic transients along DIM_DYN of their file."""
        return self.first, self.first + self.n_synthetic


@dataclass(frozen=True)
class Plan:
    """How the eligible transients of one unit are used.

    Attributes
    ----------
    reference
        Transients whose mean every cell is compared with; no cell uses them.
    pool
        Transients that cells may use, in random order; disjoint from `reference`.
    sets
        The replicates of the first n_real, then those of the next; replicate r starts from the transients
        ``pool[r * n_real:(r + 1) * n_real]``. Those of one n_real are disjoint; those of another contain the same.
    n_replicates
        Most replicates of one number of transients.
    """

    reference: tuple[int, ...]
    pool: tuple[int, ...]
    sets: tuple[RealSet, ...]
    n_replicates: int

    @property
    def replicates(self) -> tuple[tuple[int, ...], ...]:
        """The real transients of each of `sets`."""
        return tuple(one.transients for one in self.sets)

    def subsets(self, n: int) -> tuple[tuple[int, ...], ...]:
        """Return disjoint subsets of `n` pool transients, at most one per replicate; none if the pool is too small.

        With `n` one of n_real they are its sets.
        """
        if n < 1:
            raise ValueError(f"n = {n}: a subset needs at least one transient")
        count = min(len(self.pool) // n, self.n_replicates)
        return tuple(self.pool[i * n : (i + 1) * n] for i in range(count))


def amounts(
    n_real: int | Sequence[int], n_total: int | Sequence[int], count: str = "per_condition", n_conditions: int = 1
) -> list[tuple[int, int]]:
    """Return the pairs of n_real and n_total per edit condition that the configured numbers mean.

    Parameters
    ----------
    n_real
        A number of real transients, or several different ones.
    n_total
        One number for all of them, or one for each.
    count, n_conditions
        As for `per_condition`.

    Raises
    ------
    InputError
        If the numbers do not fit together.
    """
    real, total = ([n] if isinstance(n, int) else list(n) for n in (n_real, n_total))
    words = f"n_real {' '.join(map(str, real))}, n_total {' '.join(map(str, total))}"
    if not real or len(total) not in (1, len(real)) or len(set(real)) < len(real):
        raise InputError(
            f"{words}: expected different numbers in n_real, and in n_total one for all or one for each of them; "
            "correct the augmentation settings"
        )
    pairs = list(zip(real, total * len(real) if len(total) == 1 else total, strict=True))
    if any(not 1 <= few < all_of_them for few, all_of_them in pairs):
        raise InputError(f"{words}: expected 1 <= n_real < n_total of each; correct the augmentation settings")
    return [tuple(per_condition(n, count, n_conditions) for n in pair) for pair in pairs]


def pool_size(pairs: Sequence[tuple[int, int]], replicates: int) -> int:
    """Return how many transients cells may use; `pairs` as of `amounts`."""
    real, total = zip(*pairs, strict=True)
    return max(*total, *real, replicates * min(real))


def plan(
    eligible: Sequence[int],
    n_real: int | Sequence[int],
    n_total: int | Sequence[int],
    replicates: int,
    seed: int,
    unit: str,
) -> Plan:
    """Divide a unit's eligible transients at random into a pool for the cells and the reference.

    Parameters
    ----------
    eligible
        Distinct transient numbers; their order does not matter.
    n_real, n_total
        Transients per edit condition of a cell, as for `amounts`: real ones, and all (real and filled up).
    replicates
        How many disjoint sets of each n_real, as far as the pool has so many.
    seed, unit
        Name the random stream; other units have no influence.

    Returns
    -------
    Plan
        The pool has as many transients as the largest of n_total, of n_real, and of ``replicates`` times the smallest
        n_real; the reference has all the others.

    Raises
    ------
    InputError
        If the numbers make no sense, or no transient is left for the reference.
    """
    try:
        pairs = amounts(n_real, n_total)
    except InputError as error:
        raise InputError(f"{unit}: {error}") from None
    if replicates < 1:
        raise InputError(f"{unit}: replicates {replicates}: expected at least one; correct the augmentation settings")
    ordered = sorted({int(transient) for transient in eligible})
    size = pool_size(pairs, replicates)
    if len(ordered) <= size:
        raise InputError(
            f"{unit}: {len(ordered)} eligible transients per edit condition, expected at least {size + 1} "
            f"(a pool of max(n_total {max(n for _, n in pairs)}, n_real {min(n for n, _ in pairs)} x {replicates} "
            f"replicates) = {size} and at least 1 for the reference); lower these numbers, or use the design "
            "`reconstruction` for averaged data"
        )
    shuffled = [ordered[i] for i in seeds.generator(seed, "cells", unit).permutation(len(ordered))]
    pool = tuple(shuffled[:size])
    sets, first = [], 0
    for few, total in pairs:
        for r in range(min(replicates, size // few)):
            sets.append(RealSet(few, total, r, pool[r * few : (r + 1) * few], first))
            first += total - few
    return Plan(tuple(sorted(shuffled[size:])), pool, tuple(sets), replicates)


def real_sizes(
    pairs: Sequence[tuple[int, int]], real_curve: Sequence[int], count: str = "per_condition", n_conditions: int = 1
) -> list[int]:
    """Return the numbers of real transients, per edit condition, of the cells of real ones alone.

    Beside the learning curve's those of every filled cell are there: its real transients alone, and as many real ones
    as it has. `pairs` as of `amounts`. What `count` cannot divide is left out.
    """
    whole = [n for n in real_curve if count == "per_condition" or n % n_conditions == 0]
    return sorted({n for pair in pairs for n in pair} | {per_condition(n, count, n_conditions) for n in whole})


def count_cells(
    pairs: Sequence[tuple[int, int]], sizes: Sequence[int], replicates: int, n_kinds: int, n_controls: int
) -> int:
    """Return the number of cells of one unit.

    Parameters
    ----------
    pairs, replicates
        As for `pool_size`.
    sizes
        Of `real_sizes`.
    n_kinds, n_controls
        Pairs of mode and decoder, and controls.
    """
    pool = pool_size(pairs, replicates)
    filled = sum(min(replicates, pool // few) for few, _ in pairs)
    return 2 + sum(min(replicates, pool // n) for n in sizes) + filled * (n_kinds + n_controls)


def per_condition(n: int, count: str, n_conditions: int) -> int:
    """Return how many transients per edit condition the configured number `n` means.

    Parameters
    ----------
    n
        A number of transients as configured.
    count
        ``"per_condition"``: `n` is meant per edit condition; ``"total"``: over all conditions together.
    n_conditions
        1 (unedited) or 2 (OFF and ON).

    Raises
    ------
    InputError
        If `count` is unknown, or `n` cannot be divided equally.
    """
    if count not in COUNTS:
        raise InputError(f"count {count!r}: expected {' or '.join(COUNTS)}")
    if count == "per_condition":
        return n
    if n < n_conditions or n % n_conditions:
        raise InputError(
            f"{n} transients in total cannot be divided equally over {n_conditions} edit conditions; "
            "choose a multiple, or set count to per_condition"
        )
    return n // n_conditions


def headline(replicates: Sequence[dict]) -> list[dict]:
    """Return the entries of the smallest n_real of the list ``Replicates`` in the sidecar of synthetic transients.

    Files that state no n_real have but one.
    """
    fewest = min((one.get("NReal", 0) for one in replicates), default=0)
    return [one for one in replicates if one.get("NReal", 0) == fewest]


def synthetic_path(prefix: Path | str, mode: str, decoder: str) -> Path:
    """Return the path of a unit's synthetic transients; `prefix` is what all names of the unit begin with."""
    return Path(f"{prefix}_desc-synth{mode.capitalize()}{decoder.capitalize()}_svs.nii.gz")


def reconstruction_path(prefix: Path | str) -> Path:
    """Return the path of the reconstruction of a unit's preprocessed transients."""
    return Path(f"{prefix}_desc-recon_svs.nii.gz")
