"""Whether two groups of subjects, each with many transients, come from one distribution.

Transients of one subject are not independent, so that subjects are what is permuted, resampled and left out. Subjects
of a stratum (a site) are only exchanged for each other.

The energy distance 2 E|X - Y| - E|X - X'| - E|Y - Y'| (Szekely and Rizzo, J Stat Plan Inference 2013) is zero only for
equal distributions. Every subject has the same weight. The classifier two-sample test (Lopez-Paz and Oquab, ICLR 2017)
asks how often a classifier, trained on other subjects, tells which group a transient is from: 0.5 by chance. Time and
memory have a bound: of large groups, a fixed number of subjects and of transients is compared.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import comb

import numpy as np

from mrs_synthesis import subset

FEWEST_ARRANGEMENTS = 20  # for a p value of 0.05
MOST_TRANSIENTS = 96  # of a subject, evenly spaced: further ones hardly add to distances between subjects
# Distances between all pairs take a time that grows as the square of both numbers: intervals over so many subjects have
# half widths of 0.1 SDs, and of many subjects few transients of each say as much
MOST_SUBJECTS = 400  # of a group, every stratum its share
MOST_ROWS = 16384  # transients of both groups together, of each subject equally many
N_PRINCIPAL = 20
N_RANDOM = 200  # random cosines
RIDGE = 1.0  # logistic regression: penalty in transients
MOST_FOLDS = 6
SAME = 1e-9  # distances below are rounding


@dataclass(frozen=True)
class Distance:
    """An energy distance.

    Attributes
    ----------
    effect
        The energy distance over 2 E|X - Y|: 0 for equal distributions, 1 for two different constants.
    p
        Of the permutation of subjects; NaN if there are fewer arrangements than for 0.05.
    low, high
        95 % bootstrap interval of the effect over subjects. Resampled subjects repeat themselves, so that it lies too
        high where the effect is small.
    """

    effect: float
    p: float
    low: float
    high: float


def between(samples: Sequence[np.ndarray]) -> np.ndarray:
    """Return the mean distance of transients of any two subjects, (S, S), given samples of shape (n, dimensions).

    Within a subject a transient is not compared with itself.
    """
    most = min(MOST_TRANSIENTS, most_rows(len(samples)))
    thin = [part[np.unique(np.linspace(0, len(part) - 1, most).astype(int))] for part in samples]
    result = np.zeros((len(thin), len(thin)))
    for i, a in enumerate(thin):
        for j in range(i, len(thin)):
            total = _lengths(a[:, None] - thin[j]).sum()
            pairs = len(a) * (len(a) - 1 if i == j else len(thin[j]))
            result[i, j] = result[j, i] = total / max(pairs, 1)
    return result


def _lengths(differences: np.ndarray) -> np.ndarray:
    """Return the lengths of vectors along the last axis; of mere numbers without squares, which takes a third."""
    if differences.shape[-1] == 1:
        return np.abs(differences[..., 0])
    return np.sqrt((differences**2).sum(axis=-1))


def most_rows(n_subjects: int) -> int:
    """Return how many transients of each of so many subjects count."""
    return max(MOST_ROWS // n_subjects, 2)


def thinned(rows: np.ndarray, most: int) -> np.ndarray:
    """Return at most `most` rows, evenly spread."""
    return rows if len(rows) <= most else rows[subset.evenly(len(rows), most)]


def limited(
    groups: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    strata: tuple[Sequence[str], Sequence[str]],
    rng: np.random.Generator,
) -> tuple[tuple[Sequence[np.ndarray], ...], tuple[Sequence[str], ...]]:
    """Return at most `MOST_SUBJECTS` of each group of subjects and their strata: as they are if there are not more.

    Of groups with the same strata in the same order the same places are taken, since the subjects of one may have been
    made of the other's.
    """
    if max(map(len, groups)) <= MOST_SUBJECTS:
        return groups, strata
    seed = int(rng.integers(2**32))
    found = []
    for group, labels in zip(groups, strata, strict=True):
        names = {str(place): label for place, label in enumerate(labels)}
        places = [int(name) for name in subset.subjects(names, MOST_SUBJECTS, seed, "two_sample")]
        found.append(([group[place] for place in places], [labels[place] for place in places]))
    return tuple(zip(*found, strict=True))


def energy_effect(distances: np.ndarray, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the effect of `Distance` for two groups given as weights of the subjects, shapes (..., S)."""
    a, b = (group / np.sum(group, axis=-1, keepdims=True) for group in (first, second))
    across = 2 * np.sum(a @ distances * b, axis=-1)
    inside = np.sum(a @ distances * a, axis=-1) + np.sum(b @ distances * b, axis=-1)
    return np.where(across > 0, (across - inside) / np.where(across > 0, across, 1.0), 0.0)


def energy_test(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    strata: tuple[Sequence[str], Sequence[str]],
    rng: np.random.Generator,
    n_permutations: int = 2000,
) -> Distance:
    """Compare two groups of subjects.

    Parameters
    ----------
    first, second
        Of each subject, shape (transients, dimensions).
    strata
        Of each subject of both groups, the stratum it may be exchanged in.
    rng
        Random numbers.
    n_permutations
        How many permutations, and how many bootstrap resamples.

    Returns
    -------
    Distance
        NaN where all transients are the same, such as when each is compared relative to itself.
    """
    (first, second), strata = limited((first, second), strata, rng)
    distances = between([*first, *second])
    if distances.max() < SAME:
        return Distance(np.nan, np.nan, np.nan, np.nan)
    group = np.arange(len(distances)) < len(first)
    labels = np.array([*strata[0], *strata[1]])
    effect = float(energy_effect(distances, group, ~group))
    places = [np.flatnonzero(labels == label) for label in dict.fromkeys(labels)]
    arrangements = 1
    for place in places:
        arrangements *= comb(len(place), int(group[place].sum()))
    moved = np.zeros((n_permutations, len(group)), bool)
    weights = np.zeros((2, n_permutations, len(group)))
    rows = np.arange(n_permutations)[:, None]
    for place in places:
        moved[:, place] = rng.permuted(np.tile(group[place], (n_permutations, 1)), axis=1)
        for weight, mine in zip(weights, (group, ~group), strict=True):
            members = place[mine[place]]
            if members.size:
                np.add.at(weight, (rows, rng.choice(members, (n_permutations, members.size))), 1)
    larger = np.sum(energy_effect(distances, moved, ~moved) >= effect - 1e-12)
    p = float((1 + larger) / (1 + n_permutations)) if arrangements >= FEWEST_ARRANGEMENTS else np.nan
    if min(len(first), len(second)) < 2 or not n_permutations:
        return Distance(effect, p, np.nan, np.nan)
    return Distance(effect, p, *map(float, np.percentile(energy_effect(distances, *weights), [2.5, 97.5])))


def classify(
    first: Sequence[np.ndarray],
    second: Sequence[np.ndarray],
    strata: tuple[Sequence[str], Sequence[str]],
    rng: np.random.Generator,
    n_resamples: int = 1000,
) -> tuple[float, float, float]:
    """Return the accuracy of a classifier on left-out subjects, and its 95 % bootstrap interval over subjects.

    Logistic regression, with a ridge, on the strongest principal components of the features and on random cosines of
    these (Rahimi and Recht, NeurIPS 2007), so that it is not limited to straight boundaries. Folds leave out subjects
    of both groups: the k-th of a stratum in both go together, since synthetic subjects may have been made of real ones,
    in their order. A group counts half, whatever its number of transients, and within it every subject the same.

    Parameters
    ----------
    first, second
        Of each subject the features, shape (transients, features).
    strata, rng, n_resamples
        As in `energy_test`.

    Returns
    -------
    tuple
        NaN where a group has only one subject.
    """
    if min(len(first), len(second)) < 2:
        return np.nan, np.nan, np.nan
    (first, second), strata = limited((first, second), strata, rng)
    most = most_rows(len(first) + len(second))
    groups = [[thinned(rows, most) for rows in group] for group in (first, second)]
    folds = [_ranks(labels) for labels in strata]
    n_folds = min(MOST_FOLDS, len(first), len(second))
    folds = [fold % n_folds for fold in folds]
    right: list[list[float]] = [[np.nan] * len(group) for group in groups]
    for fold in range(n_folds):
        members = [(g, i) for g in (0, 1) for i in range(len(groups[g])) if folds[g][i] != fold]
        rows = np.concatenate([groups[g][i] for g, i in members])
        label = np.concatenate([np.full(len(groups[g][i]), g) for g, i in members])
        counts = [sum(g == mine for mine, _ in members) for g in (0, 1)]
        weight = np.concatenate([np.full(len(groups[g][i]), 1 / (counts[g] * len(groups[g][i]))) for g, i in members])
        predict = _logistic(rows, label, weight * len(rows) / 2, rng)
        for g in (0, 1):
            for i in np.flatnonzero(folds[g] == fold):
                score = predict(groups[g][i])
                right[g][i] = float(np.mean((score > 0) == (g == 1)))
    means = [np.array(values) for values in right]
    value = float(np.mean([mean.mean() for mean in means]))
    drawn = np.mean([rng.choice(mean, (n_resamples, mean.size)).mean(axis=1) for mean in means], axis=0)
    return value, *map(float, np.percentile(drawn, [2.5, 97.5]))


def _ranks(labels: Sequence[str]) -> np.ndarray:
    """Return numbers of the subjects by which those of one stratum spread over folds."""
    order = sorted(range(len(labels)), key=lambda i: (labels[i], i))
    ranks = np.zeros(len(labels), int)
    ranks[order] = np.arange(len(labels))
    return ranks


def _logistic(rows: np.ndarray, label: np.ndarray, weight: np.ndarray, rng: np.random.Generator):
    """Fit the classifier; return a function from rows to scores, positive for label 1."""
    mean, sd = rows.mean(axis=0), rows.std(axis=0)
    sd = np.where(sd > 1e-12 * np.abs(rows).max(initial=1e-300), sd, np.inf)
    standard = (rows - mean) / sd
    _, vectors = np.linalg.eigh(standard.T @ standard)
    axes = vectors[:, ::-1][:, :N_PRINCIPAL]
    size = max(float((standard @ axes).std(axis=0).max()), 1e-12)  # not each its own: that would blow up the weakest
    direction = rng.standard_normal((axes.shape[1], N_RANDOM)) / np.sqrt(axes.shape[1])
    turn = rng.uniform(0, 2 * np.pi, N_RANDOM)

    def expand(values: np.ndarray) -> np.ndarray:
        main = ((values - mean) / sd) @ axes / size
        return np.concatenate([np.ones((len(main), 1)), main, np.cos(main @ direction + turn)], axis=1)

    columns = expand(rows)
    penalty = np.full(columns.shape[1], RIDGE)
    penalty[0] = 1e-6
    coefficients = np.zeros(columns.shape[1])
    for _ in range(25):  # Newton's method
        chance = 1 / (1 + np.exp(-np.clip(columns @ coefficients, -30, 30)))
        gradient = columns.T @ (weight * (label - chance)) - penalty * coefficients
        curvature = (columns * (weight * chance * (1 - chance))[:, None]).T @ columns + np.diag(penalty)
        step = np.linalg.solve(curvature, gradient)
        coefficients += step * min(1.0, 10.0 / np.abs(step).max())
        if np.abs(step).max() < 1e-6:
            break
    return lambda values: expand(values) @ coefficients
