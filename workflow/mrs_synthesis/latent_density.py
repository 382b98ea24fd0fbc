"""A Gaussian mixture for the codes of transient pairs: the density from which the mode `random` draws.

A VAE's codes do not fill its prior N(0, I); a density that is fitted to them after training does better as the source
of new samples (Ghosh et al., From variational to deterministic autoencoders, ICLR 2020). One sample is the joint code
of one transient pair: the codes of all edit conditions of one transient number, E x L numbers in a row, so that drawn
pairs belong together.

What is fitted is the aggregated posterior. A code is known as a Gaussian, mean and variances, and each enters as the
expectation over it, ``E log N(z; m, C) = log N(mean; m, C) - trace(C^-1 variances) / 2``, with nothing drawn: its
variances are added to the components' covariances in closed form. For a mixture, the logarithm of the weighted sum of
the exponentials of these expectations is a lower bound (Jensen) of the expected log density, equal to it with K = 1 or
variances of 0. It is what EM raises and what chooses K.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis import model_files, seeds
from mrs_synthesis.stage import InputError

if TYPE_CHECKING:
    from mrs_synthesis.training_set import TrainingSet
    from mrs_synthesis.vae import SpectrumVAE

FILE = "density.safetensors"
MAX_COMPONENTS = 8
STARTS = 2  # k-means++ starts of each K; the best on the training codes is kept
ITERATIONS = 100
TOLERANCE = 1e-4  # nats per code that one more iteration must gain
SITE_STRENGTH = 100.0  # codes that the pooled weights count for against a site's own, about one subject's transients
STRENGTHS = (1.0, 0.01, 0.1, 10.0)  # pseudo-codes for each dimension that have the covariance of all codes
MAX_CODES = 5_000  # more than these add time and hardly information: a seeded choice of them is fitted


@dataclass(frozen=True)
class LatentDensity:
    """A Gaussian mixture with K components in D dimensions, and its weights at each training site.

    Attributes
    ----------
    weights
        Pooled weights, shape (K,).
    means, covariances
        Of the components, shapes (K, D) and (K, D, D).
    sites
        Names of the training sites, shape (S,).
    site_weights
        Weights at each site, shape (S, K).
    scores
        Log likelihood of the validation codes (nats per code) with 1, 2, ... components; empty without such codes.
    """

    weights: np.ndarray
    means: np.ndarray
    covariances: np.ndarray
    sites: np.ndarray
    site_weights: np.ndarray
    scores: np.ndarray

    @property
    def components(self) -> int:
        """Number of components K."""
        return len(self.weights)

    def weights_at(self, site: str | None) -> np.ndarray:
        """Return the weights of a site, shape (K,), or the pooled ones if it is not a training site."""
        names = self.sites.tolist()
        return self.site_weights[names.index(site)] if site in names else self.weights

    def describe(self, site: str | None) -> str:
        """Return in words what is drawn for a unit of a site."""
        where = site if site in self.sites.tolist() else "all training sites"
        return f"fitted mixture, K = {self.components}, weights of {where}"

    def draw(self, rng: np.random.Generator, n: int, site: str | None = None) -> np.ndarray:
        """Return `n` codes, shape (n, D)."""
        component = rng.choice(self.components, size=n, p=self.weights_at(site))
        normal = rng.standard_normal((n, self.means.shape[1]))
        return self.means[component] + np.einsum("nij,nj->ni", np.linalg.cholesky(self.covariances)[component], normal)

    def log_likelihood(
        self, codes: np.ndarray, site: str | np.ndarray | None = None, variances: np.ndarray | float = 0.0
    ) -> np.ndarray:
        """Return the log density of codes (n, D) in nats, shape (n,).

        `site` is one for all or one for each code. With the codes' posterior variances (n, D) it is the lower bound of
        the expected log density that the module's top defines.
        """
        sites = np.full(len(codes), site, object) if site is None or isinstance(site, str) else site
        expected = _expected(codes, np.broadcast_to(variances, codes.shape), self.means, self.covariances)
        with np.errstate(divide="ignore"):
            weights = np.log([self.weights_at(one) for one in sites]).reshape(len(codes), self.components)
        return _log_sum(expected + weights)

    def tensors(self) -> dict[str, np.ndarray]:
        """Return everything as arrays, float64 but for the names of the sites."""
        return dict(vars(self))

    @classmethod
    def from_tensors(cls, tensors: Any) -> LatentDensity:
        """Invert `tensors`.

        Raises
        ------
        ValueError
            If an array is missing, or they do not belong together.
        """
        try:
            one = cls(**{name: np.asarray(tensors[name]) for name in cls.__dataclass_fields__})
        except KeyError as error:
            raise ValueError(f"no array {error}") from None
        k, d = one.means.shape
        expected = {"weights": (k,), "covariances": (k, d, d), "site_weights": (len(one.sites), k)}
        for name, shape in expected.items():
            if getattr(one, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(one, name).shape}, expected {shape}")
        return one


def _log_sum(terms: np.ndarray) -> np.ndarray:
    """Return the log of the sum of exponentials along the last axis."""
    top = terms.max(axis=-1)
    return top + np.log(np.exp(terms - top[..., None]).sum(axis=-1))


def _expected(codes: np.ndarray, variances: np.ndarray, means: np.ndarray, covariances: np.ndarray) -> np.ndarray:
    """Return E log N(z; means, covariances) over codes with `variances`, shape (n, K)."""
    result = np.empty((len(codes), len(means)))
    for k, (mean, covariance) in enumerate(zip(means, covariances, strict=True)):
        root = np.linalg.inv(np.linalg.cholesky(covariance))
        distance = np.square((codes - mean) @ root.T).sum(axis=1) + variances @ np.square(root).sum(axis=0)
        result[:, k] = -0.5 * (distance + codes.shape[1] * np.log(2 * np.pi)) + np.log(np.diag(root)).sum()
    return result


def _start(white: np.ndarray, k: int, rng: np.random.Generator) -> np.ndarray:
    """Return responsibilities 0 and 1, shape (n, k), of the nearest of k centres (k-means++) of whitened codes.

    Arthur and Vassilvitskii, k-means++: the advantages of careful seeding, SODA 2007.
    """
    distances = np.empty((len(white), k))
    centre = white[rng.integers(len(white))]
    for j in range(k):
        distances[:, j] = np.square(white - centre).sum(axis=1)
        nearest = distances[:, : j + 1].min(axis=1)
        total = nearest.sum()
        centre = white[rng.choice(len(white), p=nearest / total if total > 0 else None)]
    return np.eye(k)[distances.argmin(axis=1)]


def _mixture(
    codes: np.ndarray,
    variances: np.ndarray,
    at: np.ndarray,
    n_sites: int,
    pooled: tuple[np.ndarray, np.ndarray],
    responsibilities: np.ndarray,
    strength: float,
) -> tuple[float, tuple[np.ndarray, ...], np.ndarray]:
    """Run EM from responsibilities (n, K); return nats per code, the mixture's parameters, responsibilities.

    `at` is the index of each code's site, `n_sites` if that is not known; `pooled` the mean and covariance of all,
    which have `strength` times D pseudo-codes.
    """
    n, dimension = codes.shape
    # One row for each site and a last one, for unknown sites, that counts none of its own: the pooled weights.
    member = np.eye(n_sites + 1)[:, at]
    member[-1] = 0
    before, pseudo = -np.inf, strength * dimension
    for _ in range(ITERATIONS):
        number = responsibilities.sum(axis=0)
        weights = number / n
        site_weights = member @ responsibilities + SITE_STRENGTH * weights
        site_weights /= site_weights.sum(axis=1, keepdims=True)
        means = np.where(number[:, None] > 0, responsibilities.T @ codes / np.maximum(number, 1e-300)[:, None], 0.0)
        means[number < 1e-6] = pooled[0]
        covariances = np.empty((len(number), dimension, dimension))
        for k, share in enumerate(responsibilities.T):
            centred = codes - means[k]
            scatter = (share[:, None] * centred).T @ centred + np.diag(share @ variances)
            # The mode under an inverse Wishart prior
            covariances[k] = (scatter + pseudo * pooled[1]) / (number[k] + pseudo)
        with np.errstate(divide="ignore"):
            terms = _expected(codes, variances, means, covariances) + np.log(site_weights)[at]
        total = _log_sum(terms)
        responsibilities = np.exp(terms - total[:, None])
        after = float(total.mean())
        if after - before < TOLERANCE:
            break
        before = after
    return after, (weights, means, covariances, site_weights[:-1]), responsibilities


def fit_density(
    codes: np.ndarray,
    variances: np.ndarray,
    sites: np.ndarray,
    validation: tuple[np.ndarray, np.ndarray, np.ndarray] | None,
    seed: int,
    max_components: int = MAX_COMPONENTS,
) -> LatentDensity:
    """Fit a Gaussian mixture to codes, with the number of components that suits the validation codes.

    For each K, EM (Dempster, Laird and Rubin, J R Stat Soc B 39:1, 1977) with full covariances, shrunk towards that of
    all codes; how strongly is chosen for each K among `STRENGTHS` by the validation codes. A site's weights are the
    mode under a Dirichlet prior: its own codes and `SITE_STRENGTH` pseudo-codes that fall to the components as all
    codes do. K is the least whose validation log likelihood is within one standard error (of the paired differences,
    codes counted as independent) of the best: the rule of Breiman et al., Classification and regression trees, 1984.

    Parameters
    ----------
    codes, variances
        Posterior means of the training codes and their variances, shapes (n, D).
    sites
        Site of each code, shape (n,); None or NaN where it is not known.
    validation
        The same three of the validation subjects; None or none of them: one component.
    seed
        Of the starts. Equal input gives an equal result.
    max_components
        Largest K.

    Raises
    ------
    InputError
        If there are no codes, or they are not finite.
    """
    codes, variances = np.asarray(codes, float), np.asarray(variances, float)
    if codes.ndim != 2 or not codes.size or not (np.isfinite(codes).all() and np.isfinite(variances).all()):
        raise InputError(f"{codes.shape} codes: expected at least one, all finite; check the training set and losses")
    sites = _site_names(sites)
    chosen = choice(len(codes), seed)
    codes, variances, sites = codes[chosen], variances[chosen], sites[chosen]
    names = sorted({one for one in sites if one is not None})
    at = np.array([len(names) if one is None else names.index(one) for one in sites])
    mean = codes.mean(axis=0)
    covariance = (codes - mean).T @ (codes - mean) / len(codes) + np.diag(variances.mean(axis=0))
    covariance += (1e-9 * np.trace(covariance) / len(mean) + 1e-12) * np.eye(len(mean))  # also of equal codes
    white = (codes - mean) @ np.linalg.inv(np.linalg.cholesky(covariance)).T
    compared = validation is not None and len(validation[0]) > 0
    fixed = (codes, variances, at, len(names), (mean, covariance))
    found, scores = [], []
    for k in range(1, min(max_components, len(codes)) + 1 if compared else 2):
        starts = [_start(white, k, seeds.generator(seed, "density", k, i)) for i in range(STARTS if k > 1 else 1)]
        _, parameters, shares = max((_mixture(*fixed, one, STRENGTHS[0]) for one in starts), key=lambda one: one[0])
        tried = [parameters]
        if k > 1:
            tried += [_mixture(*fixed, shares, strength)[1] for strength in STRENGTHS[1:]]
        densities = [LatentDensity(*one[:3], np.array(names, str), one[3], np.empty(0)) for one in tried]
        if compared:
            own = [one.log_likelihood(validation[0], _site_names(validation[2]), validation[1]) for one in densities]
            best = int(np.argmax(np.mean(own, axis=1)))
            scores.append(own[best])
            found.append(densities[best])
        else:
            found = densities
    if not compared:
        return found[0]
    averages = np.mean(scores, axis=1)
    lost = scores[int(np.argmax(averages))] - np.array(scores)
    error = lost.std(axis=1) / np.sqrt(lost.shape[1])
    best = found[int(np.argmax(lost.mean(axis=1) <= error))]
    return LatentDensity(**vars(best) | {"scores": averages})


def _site_names(sites: np.ndarray) -> np.ndarray:
    return np.array([one if isinstance(one, str) else None for one in sites], object)


def choice(n: int, seed: int, *names: str) -> np.ndarray:
    """Return which of `n` codes are used, increasing: all, or a seeded choice of `MAX_CODES`."""
    if n <= MAX_CODES:
        return np.arange(n)
    return np.sort(seeds.generator(seed, "density", "choice", *names).permutation(n)[:MAX_CODES])


def pair_rows(data: TrainingSet, rows: np.ndarray) -> np.ndarray:
    """Return the transient pairs among `rows` of a training set, in the order of unit and transient.

    Returns
    -------
    ndarray
        Row numbers, shape (pairs, conditions). A transient that lacks a condition is left out.
    """
    part = data.index.iloc[rows]
    pairs = part.pivot_table(index=["unit", "transient"], columns="condition", values="row", aggfunc="first")
    return pairs.reindex(columns=data.grid["conditions"]).dropna().to_numpy().astype(np.int64)


def encode_pairs(
    model: SpectrumVAE, data: TrainingSet, pairs: np.ndarray, size: int = 1024
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return joint codes of transient pairs of a training set, as `pair_rows` gives them.

    Returns
    -------
    tuple
        Posterior means and variances, shapes (n, D) with D = conditions x latent (the first condition first), and
        sites (n,).
    """
    import torch

    flat = pairs.ravel()
    codes, variances = np.empty((2, len(flat), model.latent_size))
    done = 0
    with torch.no_grad():
        for x, condition in data.batches(flat, size):
            mean, log_variance = model.encode(x, condition)
            codes[done : done + len(x)] = mean.double().numpy()
            variances[done : done + len(x)] = log_variance.double().exp().numpy()
            done += len(x)
    sites = _site_names(data.index["site"].to_numpy()[pairs[:, 0]])
    return codes.reshape(len(pairs), -1), variances.reshape(len(pairs), -1), sites


def fit_to_model(model: SpectrumVAE, data: TrainingSet, folder: Path, seed: int) -> dict[str, Any]:
    """Fit the density to a trained model's training codes, write it into `folder`; return what config.json says of it.

    Of the training and of the validation pairs no more than `MAX_CODES` each are encoded.

    Raises
    ------
    InputError
        If the training split has no pair of transients.
    """
    train, validation = (pair_rows(data, data.rows(split)) for split in ("train", "validation"))
    chosen = train[choice(len(train), seed)], validation[choice(len(validation), seed, "validation")]
    density = fit_density(*encode_pairs(model, data, chosen[0]), encode_pairs(model, data, chosen[1]), seed)
    facts = {"components": density.components, "validation_log_likelihoods": density.scores.tolist()}
    return {"density_sha256": save(folder, density), "density": facts}


def save(folder: Path, density: LatentDensity) -> str:
    """Write ``density.safetensors`` into a folder; return its SHA-256. Equal densities give equal bytes."""
    names = json.dumps(density.sites.tolist()).encode()
    arrays = density.tensors() | {"sites": np.frombuffer(names, np.uint8)}  # no tensor holds text
    return model_files.write_arrays(Path(folder) / FILE, arrays)


def load(folder: Path, config: dict[str, Any]) -> LatentDensity:
    """Read ``density.safetensors`` beside a model whose config is given.

    Raises
    ------
    InputError
        If the file is missing, damaged, or not the one that the config names.
    """
    path = Path(folder) / FILE
    retrain = "train the model again, or use --prior standard"
    try:
        arrays = model_files.read_arrays(path, config["density_sha256"])
        sites = json.loads(arrays["sites"].tobytes())
        model_files.check_names(sites, "sites")
        return LatentDensity.from_tensors(arrays | {"sites": np.array(sites, str)})
    except (OSError, KeyError, ValueError) as error:
        reason = model_files.one_line(error)
        raise InputError(f"{path}: no usable density of codes ({reason}); {retrain}") from None
