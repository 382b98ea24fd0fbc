"""Parts of a study of fixed greatest size, for statistics that further subjects or transients hardly make better."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrs_synthesis import seeds


def evenly(n: int, most: int) -> np.ndarray:
    """Return at most `most` of the numbers 0 to n - 1, evenly spread: all of them if they are not more."""
    return np.round(np.linspace(0, n - 1, min(n, most))).astype(int)


def subjects(strata: Mapping[str, str], most: int, seed: int, *names: object, at_least: int = 1) -> list[str]:
    """Return at most `most` subjects, of every stratum its share, in the order of `strata`: all if they are not more.

    Means over subjects stay what they are over all of them, but for small strata: of each `at_least` subjects are taken
    as long as there is room. A subject's place in the draw depends on its own name alone, so that further subjects
    change the choice little.

    Parameters
    ----------
    strata
        By subject its stratum, such as the site.
    most
        Greatest number.
    seed, names
        Name the random stream, see `seeds.generator`.
    at_least
        See above.
    """
    if len(strata) <= most:
        return list(strata)
    drawn = {name: seeds.generator(seed, *names, name).random() for name in strata}
    members: dict[str, list[str]] = {}
    for name in sorted(strata, key=lambda one: (drawn[one], one)):
        members.setdefault(strata[name], []).append(name)
    order = []
    for group in members.values():
        for rank, name in enumerate(group):
            order.append((0.0 if rank < at_least else rank / len(group), rank, drawn[name], name))
    taken = {name for *_, name in sorted(order)[:most]}
    return [name for name in strata if name in taken]
