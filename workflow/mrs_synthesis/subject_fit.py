"""Fit the model of subjects (`mrs_synthesis.subject_model`): a prior for covariances, EM, and the sizes of both."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis import known_noise, seeds
from mrs_synthesis.metabolite_patterns import patterns
from mrs_synthesis.stage import InputError
from mrs_synthesis.subject_model import BLOCK, Means, SubjectModel, rotate, sum_and_difference
from mrs_synthesis.training_set import spool

if TYPE_CHECKING:
    from mrs_synthesis.training_set import TrainingSet

SMOOTH_PPM = 0.1  # half width over which variances are taken as equal: a few lines
SMOOTH_TIME = 0.02  # the same for the power in time, as a share of the period
STRENGTHS = (10.0, 30.0, 100.0)  # how many subjects the prior counts for
METABOLITE_CV = 0.15  # between subjects, of every metabolite, in the prior; usual are 0.05 to 0.25
SITE_SHARES = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)  # variance between sites over variance within
LEAST_GAIN = 3.0  # nats
MENTIONED = 0.03
ITERATIONS = 10
MOST_CODES = 768
NEGLIGIBLE = 0.02  # directions with less variance than this share of a training mean's noise are left out
TINY = 1e-300


@dataclass(frozen=True)
class Trial:
    """A strength of the prior, and the mean log likelihood per number that it gives training and validation means."""

    strength: float
    train: float
    validation: float


def subject_means(
    data: TrainingSet, rows: np.ndarray, folder: Path, subsets: Sequence[Callable[[int], np.ndarray]] = (np.arange,)
) -> Means:
    """Return the units' mean spectra over `rows`, on disk in `folder`.

    One mean of each unit for each of `subsets`, which pick from the numbers 0 to n - 1 of a unit's transients; all
    units' means of one subset, then those of the next.

    Raises
    ------
    InputError
        If a unit's conditions have different transients.
    """
    sd, conditions = known_noise.row_sd(data), list(data.grid["conditions"])
    units = []
    for unit, own in data.index.loc[rows].groupby("unit", sort=False):
        numbers = own.pivot(index="transient", columns="condition", values="row")[conditions]
        if numbers.isna().any(axis=None):
            raise InputError(f"{data.folder / 'index.tsv'}: {unit} lacks partners of transients; assemble it again")
        units.append((numbers.to_numpy(np.int64).T, str(own["site"].iloc[0])))
    variances, sites = [], []

    def means() -> Iterator[np.ndarray]:
        for subset in subsets:
            for numbers, site in units:
                chosen = numbers[:, subset(numbers.shape[1])]
                # Equal noise in all conditions, which alternate: what differs is the error of measuring it
                variances.append(float(np.mean(sd[chosen].astype(float) ** 2)) / chosen.shape[1])
                sites.append(site)
                yield np.array([data.spectra[part].mean(axis=0, dtype=complex) for part in chosen])

    shape = (len(subsets) * len(units), len(conditions), data.spectra.shape[1])
    return Means(spool(folder, shape, means()), np.array(variances), tuple(sites))


def validation_means(data: TrainingSet, seed: int, folder: Path) -> Means:
    """Return means of 1, 4, 16, ... and of all transients of the validation subjects, on disk in `folder`."""
    rows = data.rows("validation")
    most = int(data.index.loc[rows].groupby(["unit", "condition"]).size().max())
    sizes = [n for n in (1, 4, 16, 64, 256) if n < most] + [most]
    drawn = [(size, seeds.generator(seed, "train", "validation", size)) for size in sizes]
    subsets = [lambda n, k=size, r=rng: r.permutation(n)[:k] for size, rng in drawn]
    return subject_means(data, rows, folder, subsets)


def _smooth(values: np.ndarray, half_width: int) -> np.ndarray:
    """Return the running mean with a Hann window, mirrored at the ends."""
    kernel = np.hanning(2 * half_width + 3)[1:-1]
    padded = np.pad(values, half_width, mode="symmetric")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def local_covariance(deviations: Callable[[], Iterator[np.ndarray]], noise: float, half_width: int) -> np.ndarray:
    """Return the covariance of a local stationary process like the `deviations`, complex (W, W).

    ``cov(p, q) = a(p) k(p - q) a(q)``: a^2 is the smoothed variance along ppm, k the transform of the smoothed power of
    the deviations in time, both without their noise. As W points of a window are W points in time, k is periodic.

    Parameters
    ----------
    deviations
        Yields them in blocks, complex (any number of subjects, W); called twice.
    noise
        Their mean noise variance, of a real part.
    half_width
        In bins, of the window over which variances are averaged.
    """
    n, squares = total((len(part), (np.abs(part) ** 2).sum(axis=0)) for part in deviations())
    width = squares.size
    raw = _smooth(squares / n, min(half_width, width - 1)) - 2 * noise
    amplitude = np.sqrt(np.maximum(raw, 1e-3 * max(raw.max(), TINY)))
    (powers,) = total(((np.abs(np.fft.ifft(part / amplitude, axis=1)) ** 2).sum(axis=0),) for part in deviations())
    floor = 2 * noise * np.mean(amplitude**-2.0) / width
    steps = max(1, round(SMOOTH_TIME * width))
    power = _smooth(powers / n, steps) - floor
    power[power < 3 * floor / np.sqrt(n * (steps + 1))] = 0.0  # less than three SDs above the noise
    if raw.max() <= 0 or not power.any():
        return np.zeros((width, width), complex)
    correlation = np.fft.fft(power) / power.sum()
    apart = np.arange(width)[:, None] - np.arange(width)
    return amplitude[:, None] * correlation[apart % width] * amplitude


def total(parts: Iterator[tuple]) -> tuple:
    """Return the sums over blocks of the numbers or arrays that each yields."""
    return tuple(functools.reduce(lambda whole, part: [w + p for w, p in zip(whole, part, strict=True)], parts))


def prior_directions(
    deviations: Callable[[], Iterator[np.ndarray]], conditions: int, noise: float, half_width: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return directions (codes, 2 E W) and variances (codes,) of the covariances' prior, without negligible ones.

    `deviations` yields blocks of `sum_and_difference`, complex (any number of subjects, E, W), E of them `conditions`.
    These are independent, and each a proper complex process.
    """
    from scipy.linalg import eigh

    directions, variances = [], []
    for e in range(conditions):
        covariance = local_covariance(lambda e=e: (part[:, e] for part in deviations()), noise, half_width)
        values, vectors = eigh(covariance, driver="evd")
        kept = values > NEGLIGIBLE * 2 * noise
        for turn in (1, 1j):  # a complex direction is two real ones of half the variance
            part = np.zeros((int(kept.sum()), conditions, len(covariance)), complex)
            part[:, e] = turn * vectors[:, kept].T
            flat = part.reshape(len(part), conditions * len(covariance))
            directions.append(np.concatenate([flat.real, flat.imag], axis=1))
            variances.append(values[kept] / 2)
    variance = np.concatenate(variances)
    order = np.argsort(-variance, kind="stable")[:MOST_CODES]
    return np.concatenate(directions)[order], variance[order]


def with_patterns(
    directions: np.ndarray, variances: np.ndarray, patterns: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return directions and variances of a covariance to which metabolites are added.

    Parameters
    ----------
    directions, variances
        Of the covariance, (codes, 2 E W) and (codes,).
    patterns
        What each metabolite adds to the mean, complex (metabolites, E, W); varies by `METABOLITE_CV`.
    least
        Variances below this are left out.
    """
    rows = np.concatenate([directions * np.sqrt(variances)[:, None], METABOLITE_CV * rotate(patterns)])
    _, size, vectors = np.linalg.svd(rows, full_matrices=False)
    kept = np.flatnonzero(size**2 > least)[:MOST_CODES]
    return vectors[kept], size[kept] ** 2


def covariance_mode(codes: np.ndarray, noise: np.ndarray, prior: np.ndarray, strength: float) -> np.ndarray:
    """Return the covariance (codes, codes) of noise-free codes, by EM from noisy ones under an inverse Wishart prior.

    Parameters
    ----------
    codes
        Centred, (subjects, codes), with white noise.
    noise
        Its variance, (subjects,).
    prior
        Variances of the prior's diagonal matrix, (codes,).
    strength
        How many subjects the prior counts for.
    """
    n = len(codes)
    covariance = np.diag(prior)
    for _ in range(ITERATIONS):
        values, vectors = np.linalg.eigh(covariance)
        squares, left = _moments(codes, noise, np.maximum(values, 0.0), vectors)
        # The population's mean took one degree of freedom from the deviations
        scatter = squares * n / max(n - 1, 1) + np.diag(left)
        covariance = (vectors @ scatter @ vectors.T + strength * np.diag(prior)) / (n + strength)
        covariance = (covariance + covariance.T) / 2
    return covariance


def _moments(
    codes: np.ndarray, noise: np.ndarray, variances: np.ndarray, vectors: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the expected codes' sum of products, (codes, codes), and the sum of their posterior variances, (codes,).

    `vectors` turns the codes first. A block of subjects at a time.
    """

    def parts() -> Iterator[tuple]:
        for start in range(0, len(codes), BLOCK):
            own, level = codes[start : start + BLOCK], noise[start : start + BLOCK, None]
            share = variances / (variances + level)
            expected = (own if vectors is None else own @ vectors) * share
            yield expected.T @ expected, (share * level).sum(axis=0)

    return total(parts())


def site_shares(
    means: Mapping[str, np.ndarray], numbers: Mapping[str, int], noise: Mapping[str, float], variances: np.ndarray
) -> np.ndarray:
    """Return the variance between sites over the variance within, of each code, by the likelihood of the sites' means.

    0 unless that makes them likelier by `LEAST_GAIN` nats: of hundreds of codes some differ by chance.

    Parameters
    ----------
    means, numbers, noise
        By site: mean code (codes,), number of subjects, mean noise variance.
    variances
        Of the codes within sites, (codes,).
    """
    if len(means) < 2:
        return np.zeros(variances.size)
    likelihood = np.zeros((len(SITE_SHARES), variances.size))
    for name in sorted(means):
        for i, share in enumerate(SITE_SHARES):
            spread = variances * (share + 1 / numbers[name]) + noise[name] / numbers[name]
            likelihood[i] -= 0.5 * (means[name] ** 2 / spread + np.log(spread))
    best = likelihood.argmax(axis=0)
    return np.where(likelihood.max(axis=0) - likelihood[0] > LEAST_GAIN, np.array(SITE_SHARES)[best], 0.0)


def own_covariance(codes: np.ndarray, noise: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the covariance (codes, codes) of the training subjects' codes themselves, without their noise.

    A step of EM without the prior's share: where the data say much it is theirs, where they say little the model's.
    """
    squares, left = _moments(codes, noise, variances)
    return squares / (len(codes) - 1) + np.diag(left / len(codes))


def mean_of(data: Means) -> np.ndarray:
    """Return the mean spectrum over subjects, complex (conditions, W)."""
    return total((part.sum(axis=0),) for part in data.blocks())[0] / len(data.spectra)


def fit_means(
    train: Means, validation: Means, bin_ppm: float, patterns: np.ndarray | None = None
) -> tuple[SubjectModel, list[Trial]]:
    """Fit the model to subjects' means; the means of the validation subjects choose the strength of the prior.

    `patterns`: what each metabolite adds to the mean, if known, complex (metabolites, E, W).
    """
    n = len(train.spectra)
    mean = mean_of(train)
    sites = np.array(train.site or [""] * n)
    none = np.zeros(0)
    empty = SubjectModel(mean, np.zeros((0, 2 * mean.size)), none, np.zeros((0, 0)), none, n_subjects=n)
    if n < 2:
        return empty, []

    def deviations() -> Iterator[np.ndarray]:
        return (part - mean for part in train.blocks())

    half_width = max(1, round(SMOOTH_PPM / bin_ppm))
    noise = float(train.variance.mean())
    turned = functools.partial(map, sum_and_difference)
    directions, prior = prior_directions(lambda: turned(deviations()), len(mean), noise, half_width)
    if patterns is not None:
        directions, prior = with_patterns(directions, prior, patterns, NEGLIGIBLE * noise)
    if not prior.size:
        return empty, []
    codes = np.concatenate([rotate(part) @ directions.T for part in deviations()])
    models, trials = [], []
    for strength in STRENGTHS:
        model = _assemble(mean, directions, codes, train.variance, prior, strength, sites)
        models.append(model)
        trials.append(
            Trial(
                strength, *(m.log_likelihood(p) / p.spectra.size / 2 for m, p in ((model, train), (model, validation)))
            )
        )
        print(
            f"prior of {strength:g} subjects: log likelihood per number {trials[-1].train:.5f} (train), "
            f"{trials[-1].validation:.5f} (validation)",
            flush=True,
        )
    best = int(np.argmax([trial.validation for trial in trials]))
    return models[best], trials


def _assemble(mean, directions, codes, noise, prior, strength, sites) -> SubjectModel:
    """Return the model for one strength of the prior; what sites differ by is found first and taken off."""

    def turned(centred: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        values, vectors = np.linalg.eigh(covariance_mode(centred, noise, prior, strength))
        return np.maximum(values[::-1], 0.0), vectors[:, ::-1]

    variances, vectors = turned(codes)
    inside = codes @ vectors
    own = {name: sites == name for name in sorted(set(sites))}
    means = {name: inside[rows].mean(axis=0) for name, rows in own.items()}
    numbers = {name: int(rows.sum()) for name, rows in own.items()}
    levels = {name: noise[rows].mean() for name, rows in own.items()}
    for name, rows in own.items():
        inside[rows] -= means[name]
    within = np.diagonal(own_covariance(inside, noise, variances))
    shares = site_shares(means, numbers, levels, within)
    site_codes = {}
    if shares.any():
        codes, offsets = codes.copy(), {}
        for name, rows in own.items():
            spread = within * (shares + 1 / numbers[name]) + levels[name] / numbers[name]
            moved = (codes[rows] @ vectors).mean(axis=0)
            offsets[name] = vectors @ (shares * within / np.maximum(spread, TINY) * moved)
            codes[rows] -= offsets[name]
        turn = vectors
        variances, vectors = turned(codes)
        shares = (turn.T @ vectors).T ** 2 @ shares  # what of each old code is in a new one
        site_codes = {name: offset @ vectors for name, offset in offsets.items()}
    values, factor = np.linalg.eigh(own_covariance(codes @ vectors, noise, variances))
    spread = factor * np.sqrt(np.maximum(values, 0.0))
    return SubjectModel(mean, vectors.T @ directions, variances, spread, shares, site_codes, len(codes))


def fit(
    data: TrainingSet, seed: int, basis: Sequence[Path], folder: Path
) -> tuple[SubjectModel, list[Trial], dict[str, Any]]:
    """Fit the model to a training set.

    In memory at once are the spectra of `BLOCK` subjects, and of each training subject its codes: 8 bytes for each of
    at most `MOST_CODES`, three times over.

    Parameters
    ----------
    data, seed
        The training set; the seed chooses transients of the validation subjects.
    basis
        Folders of basis sets, none if no patterns are known.
    folder
        For a file of subjects' mean spectra, until the end.

    Returns
    -------
    model, trials
        The model, and what was tried.
    facts
        For the model's config.

    Raises
    ------
    InputError
        If there is no training or no validation row, or a noise level is missing.
    """
    train_rows, validation_rows = data.rows("train"), data.rows("validation")
    if not len(train_rows) or not len(validation_rows):
        raise InputError(
            f"{data.folder / 'index.tsv'}: {len(train_rows)} train and {len(validation_rows)} validation rows, "
            "expected some of each; assign subjects to both splits"
        )
    known_noise.check(data, known_noise.row_sd(data))
    ppm = data.grid["ppm"]
    train = subject_means(data, train_rows, folder)
    known = patterns(mean_of(train), data.grid, basis) if basis else None
    if known is not None:
        print(f"{len(known.names)} metabolites, {100 * known.explained:.1f} % of the mean explained", flush=True)
    validation = validation_means(data, seed, folder)
    model, trials = fit_means(train, validation, ppm[1] - ppm[0], known and known.spectra)
    best = max(trials, key=lambda trial: trial.validation, default=None)
    facts = {
        "codes": int(model.variances.size),
        "codes_above_noise": int(np.sum(model.variances > train.variance.mean())),
        "prior_strength": best.strength if best else None,
        "codes_that_differ_between_sites": int(np.sum(model.site_shares > MENTIONED)),
        "metabolites": list(known.names) if known else [],
        "explained": known.explained if known else None,
        "trials": [vars(trial) for trial in trials],
    }
    if best is None:
        print("no variation between training subjects is known: all synthetic spectra are their mean", flush=True)
    return model, trials, facts
