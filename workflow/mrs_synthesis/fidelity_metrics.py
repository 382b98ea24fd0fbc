"""How like two groups of spectra are: nearest neighbours, kernels, moments, and errors of reconstructions.

Transients of one subject are not independent: wherever subjects are told apart here, they are what counts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

NEIGHBOURS = 3  # Kynkaanniemi et al., NeurIPS 2019
MOST_GROUPS = 10  # of subjects, that the jackknife leaves out in turn
COARSE = 8  # bins that the classifier sees as one
FEWEST_SUBJECTS = 3  # for an interval
FEWEST_ARRANGEMENTS = 20  # for a p value of 0.05
BOUNDS = {"precision": (0, 1), "recall": (0, 1), "coverage": (0, 1), "density": (0, np.inf), "frechet": (0, np.inf)}
Values = dict[str, float]


@dataclass(frozen=True)
class Axes:
    """Principal axes of real spectra.

    Attributes
    ----------
    mean, basis
        Mean (features,) and orthonormal axes (features, k), strongest first.
    share
        Part of the total variance, noise included, along each of them, (k,).
    """

    mean: np.ndarray
    basis: np.ndarray
    share: np.ndarray

    def scores(self, spectra: np.ndarray) -> np.ndarray:
        """Return the scores (rows, k) of complex spectra (rows, W)."""
        return (stacked(spectra) - self.mean) @ self.basis


def stacked(spectra: np.ndarray) -> np.ndarray:
    """Return complex spectra (rows, W) as real vectors (rows, 2 W): real parts, then imaginary parts."""
    return np.concatenate([spectra.real, spectra.imag], axis=1).astype(float)


def fit_axes(spectra: np.ndarray, noise_sd: float, most: int) -> Axes:
    """Return the principal axes with more variance than white noise can have, at least 2 and at most `most`.

    Parameters
    ----------
    spectra
        Complex, (rows, W).
    noise_sd
        SD of the real part of their noise. Its largest variance along an axis is
        ``noise_sd**2 (1 + sqrt(2 W / rows))**2`` (Marchenko and Pastur 1967).
    most
        Most axes.
    """
    rows = stacked(spectra)
    mean = rows.mean(axis=0)
    _, singular, vectors = np.linalg.svd(rows - mean, full_matrices=False)
    variances = singular**2 / len(rows)
    edge = noise_sd**2 * (1 + np.sqrt(rows.shape[1] / len(rows))) ** 2
    count = int(np.clip(np.count_nonzero(variances > edge), min(2, len(singular)), max(most, 2)))
    basis = vectors[:count].T
    # An axis has no sign of its own
    largest = basis[np.abs(basis).argmax(axis=0), np.arange(count)]
    return Axes(mean, basis * np.where(largest < 0, -1.0, 1.0), variances[:count] / max(variances.sum(), 1e-300))


def classifier_features(spectra: np.ndarray) -> np.ndarray:
    """Return of complex spectra (rows, W) real part, imaginary part and log roughness, `COARSE` bins as one."""
    width = spectra.shape[1] // COARSE * COARSE
    blocks = spectra[:, :width].reshape(len(spectra), -1, COARSE)
    mean = blocks.mean(axis=-1)
    # Second differences: noise is rough where signals are smooth
    rough = np.log(np.maximum(np.abs(np.diff(blocks, 2, axis=-1)), 1e-12)).mean(axis=-1)
    return np.concatenate([mean.real, mean.imag, rough], axis=1).astype(float)


def distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the Euclidean distances (n, m) of points (n, k) and (m, k)."""
    from scipy.spatial.distance import cdist

    return cdist(first, second)


def radii(within: np.ndarray, subjects: np.ndarray, k: int) -> np.ndarray:
    """Return the distance of each point to its k-th nearest point of another subject.

    `within` are the distances (n, n) of one group's points, `subjects` numbers the subject of each.
    """
    others = np.where(subjects[:, None] == subjects, np.inf, within)
    return np.partition(others, k - 1, axis=1)[:, k - 1]


def neighbours(
    real: np.ndarray,
    across: np.ndarray,
    other: np.ndarray,
    subjects: tuple[np.ndarray, np.ndarray],
    k: int = NEIGHBOURS,
) -> Values:
    """Return precision, recall, density and coverage; NaN where a group has not more than k points, or one subject.

    Precision and recall (Kynkaanniemi et al., NeurIPS 2019): share of the other points inside any real point's ball,
    and the reverse; a ball reaches to the k-th nearest neighbour of the same group. Density and coverage (Naeem et al.,
    ICML 2020): mean number of real balls that another point is in, over k; share of real balls with another point.

    Neighbours are points of other subjects, which with one point of each is the published definition. Else balls were
    as small as one subject's noise, and no real subject would be inside those of any other.

    Parameters
    ----------
    real, across, other
        Distances among the real points (n, n), from real to other ones (n, m), among the other ones (m, m).
    subjects
        Number of the subject of each real and of each other point.
    k
        Which neighbour.
    """
    names = ("precision", "recall", "density", "coverage")
    if min(across.shape) <= k or min(len(np.unique(group)) for group in subjects) < 2:
        return dict.fromkeys(names, np.nan)
    inside = across <= radii(real, subjects[0], k)[:, None]
    reverse = across <= radii(other, subjects[1], k)
    found = inside.any(axis=0).mean(), reverse.any(axis=1).mean(), inside.sum() / (k * inside.shape[1])
    return dict(zip(names, map(float, (*found, inside.any(axis=1).mean())), strict=True))


def frechet(real: np.ndarray, other: np.ndarray) -> float:
    """Return the squared Frechet distance of two Gaussians fitted to points (n, k), over the real points' variance.

    ``|m1 - m2|^2 + Tr(S1 + S2 - 2 (S1 S2)^(1/2))`` (Dowson and Landau, J Multivariate Anal 1982) over Tr S1. NaN with
    fewer than two points in a group.
    """
    if min(len(real), len(other)) < 2:
        return np.nan
    first, second = (np.atleast_2d(np.cov(points, rowvar=False)) for points in (real, other))
    values, vectors = np.linalg.eigh(first)
    root = (vectors * np.sqrt(np.clip(values, 0, None))) @ vectors.T
    crossed = np.sqrt(np.clip(np.linalg.eigvalsh(root @ second @ root), 0, None)).sum()
    apart = np.sum((real.mean(axis=0) - other.mean(axis=0)) ** 2)
    total = np.trace(first)
    return float((apart + total + np.trace(second) - 2 * crossed) / total) if total > 0 else np.nan


def mean_kernel(points: np.ndarray, subjects: np.ndarray, bandwidth: float) -> np.ndarray:
    """Return the mean of ``exp(-d^2 / (2 bandwidth^2))`` over the pairs of points of any two subjects, (S, S).

    `subjects` numbers the subject of each point from 0.
    """
    kernel = np.exp(-(distances(points, points) ** 2) / (2 * bandwidth**2))
    member = np.eye(subjects.max() + 1)[:, subjects]
    member /= member.sum(axis=1, keepdims=True)
    return member @ kernel @ member.T


def mmd(
    kernel: np.ndarray, first: np.ndarray, second: np.ndarray, strata: np.ndarray | None = None
) -> float | np.ndarray:
    """Return the squared maximum mean discrepancy of two groups of subjects, unbiased; NaN without two in each.

    Gretton et al., JMLR 2012, equation 3, with subjects in place of points: two transients of one subject are alike in
    any population, so that within a group only pairs of different subjects count.

    Parameters
    ----------
    kernel
        Of `mean_kernel`, (S, S).
    first, second
        Which subjects each group has, booleans (S,); or (n, S) for n pairs of groups, all with as many of each stratum.
    strata
        Number of the stratum of every subject. Then both groups' pairs of strata count alike: as the strata's shares in
        the first group. Else, of groups with as many subjects of each site, a subject's pairs within its own group were
        less often of one site than those with the other group, and the value too low. A stratum with fewer than two
        subjects in a group is left out.
    """
    strata = np.zeros(len(kernel), int) if strata is None else strata
    groups = [np.atleast_2d(group).astype(float) for group in (first, second)]
    counts = [np.bincount(strata, group[0]) for group in groups]
    used = np.min(counts, axis=0) > 1
    if not used.any():
        return np.full(len(groups[0]), np.nan) if np.ndim(first) > 1 else np.nan
    shares = np.where(used, counts[0], 0) / counts[0][used].sum()
    weights = [group * (shares / np.maximum(count, 1))[strata] for group, count in zip(groups, counts, strict=True)]
    total = -2 * np.sum(weights[0] @ kernel * weights[1], axis=1)
    same = strata[:, None] == strata
    for weight, count in zip(weights, counts, strict=True):
        # A subject with itself is no pair; its stratum's other pairs get its weight
        more = (np.maximum(count, 2) / (np.maximum(count, 2) - 1))[strata]
        pairs = kernel * np.where(same, more * (1 - np.eye(len(kernel))), 1)
        total += np.sum(weight @ pairs * weight, axis=1)
    return total if np.ndim(first) > 1 else float(total[0])


def usable_strata(labels: Sequence[str], n_first: int) -> np.ndarray | None:
    """Return numbers of the subjects' strata for `mmd`, or None if one has fewer than 3 of either group's subjects."""
    names, numbers = np.unique(np.asarray(labels), return_inverse=True)
    counts = [np.bincount(part, minlength=len(names)) for part in (numbers[:n_first], numbers[n_first:])]
    return numbers if np.min(counts) > 2 else None


def permutation_p(
    kernel: np.ndarray, n_first: int, labels: Sequence[str], n_permutations: int, rng: np.random.Generator
) -> float:
    """Return the p value of `mmd` of the first subjects against the rest, exchanged only with those of equal label.

    NaN if there are too few arrangements for a p of 0.05.
    """
    from math import comb

    numbers, group = np.unique(np.asarray(labels), return_inverse=True)[1], np.arange(len(kernel)) < n_first
    strata = usable_strata(labels, n_first)
    places = [np.flatnonzero(numbers == label) for label in np.unique(numbers)]
    arrangements = np.prod([float(comb(len(place), int(group[place].sum()))) for place in places])
    moved = np.tile(group, (1 + n_permutations, 1))  # the first as it is
    for place in places:
        moved[1:, place] = rng.permuted(moved[1:, place], axis=1)
    values = mmd(kernel, moved, ~moved, strata)
    if arrangements < FEWEST_ARRANGEMENTS or np.isnan(values[0]):
        return np.nan
    return float(np.mean(values >= values[0] - 1e-12))


def jackknife(
    statistic: Callable[[np.ndarray, np.ndarray], Values], n_first: int, n_second: int
) -> dict[str, tuple[float, float, float]]:
    """Return each value of a statistic of two groups of subjects with its 95 % interval.

    A bootstrap would draw a subject twice, which is then its own nearest neighbour; leaving subjects out makes no
    copies. At most `MOST_GROUPS` groups of subjects are left out in turn, on each side (delete-a-group jackknife, Kott,
    J Off Stat 2001); the half width is that of Student's t. NaN with fewer than `FEWEST_SUBJECTS` on a side.

    Parameters
    ----------
    statistic
        Takes two arrays of booleans, which subjects of each side to use.
    n_first, n_second
        Number of subjects.
    """
    from scipy.stats import t

    sizes = (n_first, n_second)
    every = [np.ones(n, bool) for n in sizes]
    values = statistic(*every)
    if min(sizes) < FEWEST_SUBJECTS:
        return {name: (value, np.nan, np.nan) for name, value in values.items()}
    variance = dict.fromkeys(values, 0.0)
    for side, n in enumerate(sizes):
        n_groups = min(n, MOST_GROUPS)
        left = []
        for group in range(n_groups):
            keep = list(every)
            keep[side] = np.arange(n) % n_groups != group
            left.append(statistic(*keep))
        for name in values:
            variance[name] += (n_groups - 1) * np.var([one[name] for one in left])
    half = t.ppf(0.975, min(*sizes, MOST_GROUPS) - 1)
    found = {}
    for name, value in values.items():
        margin, (low, high) = half * np.sqrt(variance[name]), BOUNDS.get(name, (-np.inf, np.inf))
        ends = value - margin, value + margin
        found[name] = value, *(end if np.isnan(end) else float(np.clip(end, low, high)) for end in ends)
    return found


def nmse(estimate: np.ndarray, target: np.ndarray) -> float:
    """Return the normalised mean squared error ``sum |estimate - target|^2 / sum |target|^2`` of complex spectra."""
    return float(np.sum(np.abs(estimate - target) ** 2) / np.sum(np.abs(target) ** 2))


def noise_share(noise_sd: np.ndarray, target: np.ndarray) -> float:
    """Return the part of the energy of spectra (rows, W) that is white noise: the NMSE of the signal without it.

    `noise_sd` is the SD of the real part of each row's noise, (rows,).
    """
    return float(2 * target.shape[-1] * np.sum(np.square(noise_sd)) / np.sum(np.abs(target) ** 2))
