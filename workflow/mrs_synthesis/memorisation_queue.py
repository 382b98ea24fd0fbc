"""Distances of many units' spectra to the training spectra, which are read once for many units (see `memorisation`)."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mrs_synthesis import seeds
from mrs_synthesis.memorisation_controls import control_groups
from mrs_synthesis.memorisation_metrics import Compared, Group, raise_noise
from mrs_synthesis.neighbours import QUERIES, SPACES, Training


@dataclass
class Waiting:
    """One unit's spectra of a condition, before the distances are known: held-out ones, then those of `keys`."""

    subject: str
    keys: list[tuple]
    as_made: list[np.ndarray]
    raised: list[np.ndarray]
    halves: list[np.ndarray]

    def __len__(self) -> int:
        return sum(map(len, self.as_made)) + sum(map(len, self.raised))


@dataclass
class Queue:
    """Units of one condition, whose distances are computed together: the training spectra are read once for many.

    Attributes
    ----------
    condition, training
        The condition and its training spectra.
    level
        The noise SD that all spectra are raised to.
    found
        Gathers `Compared` by (condition, source, decoder, space).
    """

    condition: str
    training: Training
    level: float
    found: dict
    waiting: list[Waiting] = field(default_factory=list)

    def add(self, subject: str, sources: dict[tuple, Group], held_out: Group, seed: int, unit: str) -> None:
        """Take one unit's groups by (source, decoder) and its held-out transients; `seed` and `unit` name streams."""

        def stream(*what: str) -> np.random.Generator:
            return seeds.generator(seed, "memorisation", unit, self.condition, *what)

        controls = control_groups(held_out, self.training, stream("controls"))
        groups = {(name, "n/a"): group for name, group in controls.items()} | sources
        raised = [
            raise_noise(held_out, self.level, stream("held out")),
            *(raise_noise(group, self.level, stream(*key)) for key, group in groups.items()),
        ]
        halves = np.array_split(stream("halves").permutation(len(held_out.values)), 2)
        as_made = [held_out.values, *(group.values for group in groups.values())]
        self.waiting.append(Waiting(subject, list(groups), as_made, raised, halves))

    def full(self) -> bool:
        """Tell whether to `flush`."""
        return sum(map(len, self.waiting)) >= QUERIES

    def flush(self) -> None:
        """Compute the distances of all that wait."""
        if not self.waiting:
            return
        as_made = self.training.nearest_of([part for one in self.waiting for part in one.as_made], ["window"])
        raised = self.training.nearest_of([part for one in self.waiting for part in one.raised])
        first = 0
        for one in self.waiting:
            part = slice(first, first + len(one.raised))
            for space in SPACES:
                real, *others = raised[space][part]
                self._put(one.subject, ("real", "n/a"), space, *(real[half] for half in one.halves))
                for key, distances in zip(one.keys, others, strict=True):
                    self._put(one.subject, key, space, distances, real)
            real, *others = as_made["window"][part]
            for key, distances in zip(one.keys, others, strict=True):
                self._put(one.subject, key, "as_made", distances, real)
            first = part.stop
        self.waiting.clear()

    def _put(self, subject: str, key: tuple, space: str, synthetic: np.ndarray, real: np.ndarray) -> None:
        entry = self.found.setdefault((self.condition, *key, space), Compared())
        entry.subjects.append(subject)
        entry.synthetic.append(synthetic)
        entry.held_out.append(real)
