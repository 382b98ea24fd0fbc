"""Random streams: one seed drives everything, and no stream depends on how many others there are."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def seed_sequence(seed: int, *names: object) -> np.random.SeedSequence:
    """Return the seed sequence of the stream called `names` (stage, subject, cell, ...).

    The names are hashed, so that adding a subject changes no other subject's numbers.
    """
    import numpy as np

    digest = hashlib.sha256("\x1f".join(map(str, names)).encode()).digest()
    return np.random.SeedSequence([seed, *np.frombuffer(digest[:16], "<u4").tolist()])


def generator(seed: int, *names: object) -> np.random.Generator:
    """Return a numpy random generator for the stream called `names`."""
    import numpy as np

    return np.random.default_rng(seed_sequence(seed, *names))
