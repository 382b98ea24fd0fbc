"""Fit the model of subjects (`mrs_synthesis.subject_model`): a prior for covariances, EM, and the sizes of both."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis import known_noise, seeds
from mrs_synthesis.metabolite_patterns import patterns
from mrs_synthesis.stage import InputError
from mrs_synthesis.subject_model import Means, SubjectModel, rotate, sum_and_difference

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


def subject_means(data: TrainingSet, rows: np.ndarray, subset: Callable[[int], np.ndarray] | None = None) -> Means:
    """Return the units' mean spectra over `rows`; `subset` picks from the numbers 0 to n - 1 of a unit's transients.

    Raises
    ------
    InputError
        If a unit's conditions have different transients.
    """
    sd = known_noise.row_sd(data)
    table = data.index.loc[rows]
    spectra, variances, sites = [], [], []
    for unit, own in table.groupby("unit", sort=False):
        numbers = own.pivot(index="transient", columns="condition", values="row")[list(data.grid["conditions"])]
        if numbers.isna().any(axis=None):
            raise InputError(f"{data.folder / 'index.tsv'}: {unit} lacks partners of transients; assemble it again")
        chosen = numbers.to_numpy(np.int64).T
        if subset is not None:
            chosen = chosen[:, subset(chosen.shape[1])]
        # Equal noise in all conditions, which alternate: what differs is the error of measuring it
        variances.append(float(np.mean(sd[chosen].astype(float) ** 2)) / chosen.shape[1])
        spectra.append(np.array([data.spectra[part].mean(axis=0, dtype=complex) for part in chosen]))
        sites.append(str(own["site"].iloc[0]))
    return Means(np.array(spectra), np.array(variances), tuple(sites))


def validation_means(data: TrainingSet, seed: int) -> Means:
    """Return means of 1, 4, 16, ... and of all transients of the validation subjects."""
    rows = data.rows("validation")
    most = int(data.index.loc[rows].groupby(["unit", "condition"]).size().max())
    sizes = [n for n in (1, 4, 16, 64, 256) if n < most] + [most]
    parts = []
    for size in sizes:
        rng = seeds.generator(seed, "train", "validation", size)
        parts.append(subject_means(data, rows, lambda n, k=size, r=rng: r.permutation(n)[:k]))
    return Means(
        np.concatenate([part.spectra for part in parts]),
        np.concatenate([part.variance for part in parts]),
        tuple(site for part in parts for site in part.site),
    )


def _smooth(values: np.ndarray, half_width: int) -> np.ndarray:
    """Return the running mean with a Hann window, mirrored at the ends."""
    kernel = np.hanning(2 * half_width + 3)[1:-1]
    padded = np.pad(values, half_width, mode="symmetric")
    return np.convolve(padded, kernel / kernel.sum(), mode="valid")


def local_covariance(deviations: np.ndarray, noise: float, half_width: int) -> np.ndarray:
    """Return the covariance of a local stationary process like the `deviations`, complex (W, W).

    ``cov(p, q) = a(p) k(p - q) a(q)``: a^2 is the smoothed variance along ppm, k the transform of the smoothed power of
    the deviations in time, both without their noise. As W points of a window are W points in time, k is periodic.

    Parameters
    ----------
    deviations
        Complex (subjects, W).
    noise
        Their mean noise variance, of a real part.
    half_width
        In bins, of the window over which variances are averaged.
    """
    n, width = deviations.shape
    raw = _smooth((np.abs(deviations) ** 2).mean(axis=0), min(half_width, width - 1)) - 2 * noise
    amplitude = np.sqrt(np.maximum(raw, 1e-3 * max(raw.max(), TINY)))
    in_time = np.fft.ifft(deviations / amplitude, axis=1)
    floor = 2 * noise * np.mean(amplitude**-2.0) / width
    steps = max(1, round(SMOOTH_TIME * width))
    power = _smooth((np.abs(in_time) ** 2).mean(axis=0), steps) - floor
    power[power < 3 * floor / np.sqrt(n * (steps + 1))] = 0.0  # less than three SDs above the noise
    if raw.max() <= 0 or not power.any():
        return np.zeros((width, width), complex)
    correlation = np.fft.fft(power) / power.sum()
    apart = np.arange(width)[:, None] - np.arange(width)
    return amplitude[:, None] * correlation[apart % width] * amplitude


def prior_directions(deviations: np.ndarray, noise: float, half_width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return directions (codes, 2 E W) and variances (codes,) of the covariances' prior, without negligible ones.

    `deviations`: complex (subjects, E, W), of `sum_and_difference`. These are independent, and each a proper complex
    process.
    """
    from scipy.linalg import eigh

    _, conditions, width = deviations.shape
    directions, variances = [], []
    for e in range(conditions):
        values, vectors = eigh(local_covariance(deviations[:, e], noise, half_width), driver="evd")
        kept = values > NEGLIGIBLE * 2 * noise
        for turn in (1, 1j):  # a complex direction is two real ones of half the variance
            part = np.zeros((int(kept.sum()), conditions, width), complex)
            part[:, e] = turn * vectors[:, kept].T
            flat = part.reshape(len(part), conditions * width)
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
        values = np.maximum(values, 0.0)
        share = values / (values + noise[:, None])
        expected = (codes @ vectors) * share
        # The population's mean took one degree of freedom from the deviations
        scatter = expected.T @ expected * n / max(n - 1, 1) + np.diag((share * noise[:, None]).sum(axis=0))
        covariance = (vectors @ scatter @ vectors.T + strength * np.diag(prior)) / (n + strength)
        covariance = (covariance + covariance.T) / 2
    return covariance


def site_shares(codes: np.ndarray, noise: np.ndarray, variances: np.ndarray, sites: np.ndarray) -> np.ndarray:
    """Return the variance between sites over the variance within, of each code, by the likelihood of the sites' means.

    0 unless that makes them likelier by `LEAST_GAIN` nats: of hundreds of codes some differ by chance.
    """
    names = sorted(set(sites))
    if len(names) < 2:
        return np.zeros(variances.size)
    likelihood = np.zeros((len(SITE_SHARES), variances.size))
    for name in names:
        own = sites == name
        mean = codes[own].mean(axis=0)
        for i, share in enumerate(SITE_SHARES):
            spread = variances * (share + 1 / own.sum()) + noise[own].mean() / own.sum()
            likelihood[i] -= 0.5 * (mean**2 / spread + np.log(spread))
    best = likelihood.argmax(axis=0)
    return np.where(likelihood.max(axis=0) - likelihood[0] > LEAST_GAIN, np.array(SITE_SHARES)[best], 0.0)


def own_covariance(codes: np.ndarray, noise: np.ndarray, variances: np.ndarray) -> np.ndarray:
    """Return the covariance (codes, codes) of the training subjects' codes themselves, without their noise.

    A step of EM without the prior's share: where the data say much it is theirs, where they say little the model's.
    """
    share = variances / (variances + noise[:, None])
    expected = codes * share
    return expected.T @ expected / (len(codes) - 1) + np.diag((share * noise[:, None]).mean(axis=0))


def fit_means(
    train: Means, validation: Means, bin_ppm: float, patterns: np.ndarray | None = None
) -> tuple[SubjectModel, list[Trial]]:
    """Fit the model to subjects' means; the means of the validation subjects choose the strength of the prior.

    `patterns`: what each metabolite adds to the mean, if known, complex (metabolites, E, W).
    """
    n = len(train.spectra)
    mean = train.spectra.mean(axis=0)
    sites = np.array(train.site or [""] * n)
    none = np.zeros(0)
    empty = SubjectModel(mean, np.zeros((0, 2 * mean.size)), none, np.zeros((0, 0)), none, n_subjects=n)
    if n < 2:
        return empty, []
    deviations = train.spectra - mean
    half_width = max(1, round(SMOOTH_PPM / bin_ppm))
    noise = float(train.variance.mean())
    directions, prior = prior_directions(sum_and_difference(deviations), noise, half_width)
    if patterns is not None:
        directions, prior = with_patterns(directions, prior, patterns, NEGLIGIBLE * noise)
    if not prior.size:
        return empty, []
    codes = rotate(deviations) @ directions.T
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
    for name in set(sites):
        inside[sites == name] -= inside[sites == name].mean(axis=0)
    within = np.diagonal(own_covariance(inside, noise, variances))
    shares = site_shares(codes @ vectors, noise, within, sites)
    offsets = np.zeros_like(codes)
    if shares.any():
        for name in set(sites):
            own = sites == name
            spread = within * (shares + 1 / own.sum()) + noise[own].mean() / own.sum()
            offsets[own] = vectors @ (shares * within / np.maximum(spread, TINY) * (codes[own] @ vectors).mean(axis=0))
        turn = vectors
        variances, vectors = turned(codes - offsets)
        shares = (turn.T @ vectors).T ** 2 @ shares  # what of each old code is in a new one
    site_codes = {name: offsets[sites == name][0] @ vectors for name in sorted(set(sites))} if shares.any() else {}
    values, factor = np.linalg.eigh(own_covariance((codes - offsets) @ vectors, noise, variances))
    spread = factor * np.sqrt(np.maximum(values, 0.0))
    return SubjectModel(mean, vectors.T @ directions, variances, spread, shares, site_codes, len(codes))


def fit(data: TrainingSet, seed: int, basis: Sequence[Path] = ()) -> tuple[SubjectModel, list[Trial], dict[str, Any]]:
    """Fit the model to a training set; `basis`: folders of basis sets, none if no patterns are known.

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
    train = subject_means(data, train_rows)
    known = patterns(train.spectra.mean(axis=0), data.grid, basis) if basis else None
    if known is not None:
        print(f"{len(known.names)} metabolites, {100 * known.explained:.1f} % of the mean explained", flush=True)
    validation = validation_means(data, seed)
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
