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
class Plan:
    """How the eligible transients of one unit are used.

    Attributes
    ----------
    reference
        Transients whose mean every cell is compared with; no cell uses them.
    pool
        Transients that cells may use, in random order; disjoint from `reference`.
    replicates
        Replicate r starts from these ``n_real`` transients: ``pool[r * n_real:(r + 1) * n_real]``, so disjoint.
    """

    reference: tuple[int, ...]
    pool: tuple[int, ...]
    replicates: tuple[tuple[int, ...], ...]

    def subsets(self, n: int) -> tuple[tuple[int, ...], ...]:
        """Return disjoint subsets of `n` pool transients, at most one per replicate; none if the pool is too small.

        With ``n = n_real`` they are `replicates`.
        """
        if n < 1:
            raise ValueError(f"n = {n}: a subset needs at least one transient")
        count = min(len(self.pool) // n, len(self.replicates))
        return tuple(self.pool[i * n : (i + 1) * n] for i in range(count))


def plan(eligible: Sequence[int], n_real: int, n_total: int, replicates: int, seed: int, unit: str) -> Plan:
    """Divide a unit's eligible transients at random into a pool for the cells and the reference.

    Parameters
    ----------
    eligible
        Distinct transient numbers; their order does not matter.
    n_real, n_total
        Transients per edit condition of a cell: real ones, and all (real and filled up).
    replicates
        How many disjoint sets of `n_real` transients.
    seed, unit
        Name the random stream; other units have no influence.

    Returns
    -------
    Plan
        The pool has ``max(n_total, n_real * replicates)`` transients, the reference all the others.

    Raises
    ------
    InputError
        If the numbers make no sense, or no transient is left for the reference.
    """
    if not 1 <= n_real <= n_total or replicates < 1:
        raise InputError(
            f"{unit}: n_real {n_real}, n_total {n_total}, replicates {replicates}: "
            "expected 1 <= n_real <= n_total and at least one replicate; correct the augmentation settings"
        )
    ordered = sorted({int(transient) for transient in eligible})
    size = max(n_total, n_real * replicates)
    if len(ordered) <= size:
        raise InputError(
            f"{unit}: {len(ordered)} eligible transients per edit condition, expected at least {size + 1} "
            f"(a pool of max(n_total {n_total}, n_real {n_real} x {replicates} replicates) = {size} and at least 1 for "
            "the reference); lower these numbers, or use the design `reconstruction` for averaged data"
        )
    shuffled = [ordered[i] for i in seeds.generator(seed, "cells", unit).permutation(len(ordered))]
    pool = tuple(shuffled[:size])
    return Plan(
        reference=tuple(sorted(shuffled[size:])),
        pool=pool,
        replicates=tuple(pool[r * n_real : (r + 1) * n_real] for r in range(replicates)),
    )


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


def synthetic_path(prefix: Path | str, mode: str, decoder: str) -> Path:
    """Return the path of a unit's synthetic transients; `prefix` is what all names of the unit begin with."""
    return Path(f"{prefix}_desc-synth{mode.capitalize()}{decoder.capitalize()}_svs.nii.gz")


def reconstruction_path(prefix: Path | str) -> Path:
    """Return the path of the reconstruction of a unit's preprocessed transients."""
    return Path(f"{prefix}_desc-recon_svs.nii.gz")
