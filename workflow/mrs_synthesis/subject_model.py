"""A Gaussian model of a subject's noise-free signal, which edit-OFF and edit-ON share.

A transient is gain x (population mean + deviation of the subject) + white noise of known SD. The deviation is a linear
function of a normal code with one number per direction: what a linear variational autoencoder with known noise becomes
at its optimum (Lucas et al., Don't blame the ELBO!, NeurIPS 2019), with the exact posterior in place of an encoder. The
mean of n transients is all that they tell, so the posterior given n of them needs no retraining for another n.

The covariance of the deviations has far more entries than there are training subjects. It is the mode of its posterior
under an inverse Wishart prior (Chen, Bayesian inference for a normal dispersion matrix, JRSS B 1979), found by EM,
since the means of the training subjects are noisy themselves. The prior's matrix is a local stationary process:
variances smooth along ppm, correlations those of a signal that decays; where a basis set is given, the lines of each
metabolite, which vary together, are added (`mrs_synthesis.metabolite_patterns`). How many subjects it counts for is
chosen by the likelihood of the validation subjects. Conditions are rotated to (OFF + ON) / sqrt 2 and
(ON - OFF) / sqrt 2: what editing leaves alone does not vary in the second.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis import model_files
from mrs_synthesis.stage import InputError

if TYPE_CHECKING:
    from mrs_synthesis.training_set import RowFile

BLOCK = 512  # subjects whose spectra are in memory at once


@dataclass(frozen=True)
class Means:
    """Mean spectra of subjects.

    Attributes
    ----------
    spectra
        Complex, (subjects, conditions, W), divided by the subject's scale; an array, or rows on disk.
    variance
        Noise variance of the real part of a bin of each mean, (subjects,).
    site
        Their sites.
    """

    spectra: np.ndarray | RowFile
    variance: np.ndarray
    site: Sequence[str] = ()

    def blocks(self) -> Iterator[np.ndarray]:
        """Yield the spectra of at most `BLOCK` subjects at a time."""
        for start in range(0, len(self.spectra), BLOCK):
            yield self.spectra[start : start + BLOCK]


def rotate(spectra: np.ndarray) -> np.ndarray:
    """Return complex (..., conditions, W) as real vectors (..., 2 conditions W), two conditions as sum and difference.

    Orthonormal, so that white noise stays white; `unrotate` inverts it.
    """
    turned = sum_and_difference(spectra)
    flat = turned.reshape(*turned.shape[:-2], -1)
    return np.concatenate([flat.real, flat.imag], axis=-1)


def sum_and_difference(spectra: np.ndarray) -> np.ndarray:
    """Return (OFF + ON) / sqrt 2 and (ON - OFF) / sqrt 2 of (..., 2, W); one condition alone is left as it is."""
    if spectra.shape[-2] == 1:
        return spectra
    off, on = spectra[..., 0, :], spectra[..., 1, :]
    return np.stack([off + on, on - off], axis=-2) / np.sqrt(2)


def unrotate(vectors: np.ndarray, conditions: int) -> np.ndarray:
    """Invert `rotate`."""
    real, imaginary = np.split(vectors, 2, axis=-1)
    spectra = (real + 1j * imaginary).reshape(*vectors.shape[:-1], conditions, -1)
    if conditions == 2:
        total, difference = spectra[..., 0, :], spectra[..., 1, :]
        spectra = np.stack([total - difference, total + difference], axis=-2) / np.sqrt(2)
    return spectra


@dataclass(frozen=True)
class Posterior:
    """What transients tell of their subject.

    Attributes
    ----------
    gain
        By which the model's units are multiplied.
    mean, variance
        Of the code, independent normal, (codes,).
    """

    model: SubjectModel
    gain: float
    mean: np.ndarray
    variance: np.ndarray

    def spectrum(self) -> np.ndarray:
        """Return the expected noise-free spectrum, complex (conditions, W), in the units of the transients."""
        return self.gain * self.model.decode(self.mean[None])[0]

    def draw(self, rng: np.random.Generator, n: int) -> np.ndarray:
        """Return `n` noise-free spectra that agree with the transients, complex (n, conditions, W)."""
        codes = self.mean + np.sqrt(self.variance) * rng.standard_normal((n, self.mean.size))
        return self.gain * self.model.decode(codes)


@dataclass(frozen=True)
class SubjectModel:
    """The fitted model; see the module.

    Attributes
    ----------
    mean
        Population's mean spectrum, complex (conditions, W), in units of a subject's scale.
    directions
        Orthonormal rows (codes, 2 conditions W) in the space of `rotate`.
    variances
        Of the codes within a site, decreasing, (codes,): the prior of a subject of whom something is to be learned. It
        is wide where the training subjects say little.
    spread
        Factor (codes, codes) of the covariance of the training subjects themselves, from which new ones are drawn.
    site_codes
        Mean code of each site that was trained on, (codes,), shrunk to 0.
    site_shares
        Variance between sites over that within, of each code, (codes,).
    n_subjects
        Number of training subjects.
    """

    mean: np.ndarray
    directions: np.ndarray
    variances: np.ndarray
    spread: np.ndarray
    site_shares: np.ndarray
    site_codes: dict[str, np.ndarray] = field(default_factory=dict)
    n_subjects: int = 1

    @property
    def conditions(self) -> int:
        """Number of edit conditions."""
        return len(self.mean)

    def prior(self, site: str | None) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and variance of the code of a new subject, each (codes,).

        The variance includes that the population's mean is known from few subjects. A site that was not trained on has
        a mean of its own that is not known.
        """
        variance = self.variances * (1 + 1 / self.n_subjects)
        if site in self.site_codes:
            return self.site_codes[site], variance
        return np.zeros_like(self.variances), variance + self.site_shares * self.variances

    def decode(self, codes: np.ndarray) -> np.ndarray:
        """Return noise-free spectra, complex (n, conditions, W), of codes (n, codes)."""
        return self.mean + unrotate(codes @ self.directions, self.conditions)

    def draw(self, rng: np.random.Generator, n: int, site: str | None = None) -> np.ndarray:
        """Return noise-free spectra of `n` new subjects of a site, complex (n, conditions, W), divided by the scale."""
        codes = rng.standard_normal((n, self.variances.size)) @ self.spread.T
        if site in self.site_codes:
            return self.decode(codes + self.site_codes[site])
        size = np.sqrt(self.site_shares * np.sum(self.spread**2, axis=1))
        return self.decode(codes + size * rng.standard_normal(codes.shape))

    def posterior(self, mean: np.ndarray, sd: float, n: int, site: str | None = None) -> Posterior:
        """Return what `n` transients tell of their subject.

        Parameters
        ----------
        mean
            Mean spectrum of the transients, complex (conditions, W), any units.
        sd
            Noise SD of the real part of a bin of one transient, in these units.
        n
            Number of transients.
        site
            Of the subject, if known.

        Raises
        ------
        ValueError
            If the spectrum is not finite, or has nothing of the population's mean in it.
        """
        data = rotate(mean)
        prior_mean, prior = self.prior(site)
        expected = rotate(self.mean) + prior_mean @ self.directions
        gain = float(data @ expected / (expected @ expected))
        code = self.directions @ data
        own = self.directions @ expected
        rest = (data @ expected - code @ own, expected @ expected - own @ own)
        for _ in range(3):  # deviations are in units of the gain, which the weights need
            if not gain > 0 or not np.isfinite(gain):
                raise ValueError("the spectrum does not resemble the population's")
            noise = sd**2 / n / gain**2
            weight = 1 / (prior + noise)
            gain = float((weight * code @ own + rest[0] / noise) / (weight * own @ own + rest[1] / noise))
        noise = sd**2 / n / gain**2
        deviation = prior / (prior + noise) * (code / gain - own)
        return Posterior(self, gain, prior_mean + deviation, prior * noise / (prior + noise))

    def log_likelihood(self, data: Means) -> float:
        """Return the log likelihood of subjects' means, with the gain at its best, summed, in nats."""
        total = 0.0
        sites = data.site or [None] * len(data.spectra)
        for spectrum, variance, site in zip(data.spectra, data.variance, sites, strict=True):
            own = self.posterior(spectrum, np.sqrt(variance), 1, site)
            mean, prior = self.prior(site)
            expected = rotate(self.mean) + mean @ self.directions
            rest = rotate(spectrum) - own.gain * expected
            code = self.directions @ rest
            spread = own.gain**2 * prior + variance
            outside = (rest @ rest - code @ code) / variance + (rest.size - code.size) * np.log(variance)
            total -= 0.5 * (np.sum(code**2 / spread + np.log(spread)) + outside + rest.size * np.log(2 * np.pi))
        return float(total)


def save(folder: Path, model: SubjectModel, config: dict[str, Any]) -> str:
    """Write ``model.safetensors`` and ``config.json``, as `vae.save_model` does; return the weights' SHA-256."""
    sites = sorted(model.site_codes)
    tensors = {
        "mean_real": model.mean.real,
        "mean_imaginary": model.mean.imag,
        "directions": model.directions.astype(np.float32),
        "variances": model.variances,
        "spread": model.spread.astype(np.float32),
        "site_shares": model.site_shares,
        "site_codes": np.array([model.site_codes[site] for site in sites]).reshape(len(sites), model.variances.size),
    }
    architecture = {"sites": sites, "n_subjects": model.n_subjects, "codes": model.variances.size}
    return model_files.write(folder, tensors, config | {"architecture": architecture})


def load(folder: Path | str) -> tuple[SubjectModel, dict[str, Any]]:
    """Read a model and its config.

    Raises
    ------
    InputError
        If a file is missing, damaged, or of another kind of model.
    """
    config = model_files.read_config(folder, "subject")
    grid = config["grid"]
    try:
        known = config["architecture"]
        sites, n_subjects, codes = known["sites"], known["n_subjects"], known["codes"]
        model_files.check_names(sites, "sites")
        if type(n_subjects) is not int or type(codes) is not int or n_subjects < 1 or codes < 0:
            raise ValueError(f"n_subjects {n_subjects}, codes {codes}")
    except (LookupError, TypeError, ValueError) as error:
        path, reason = Path(folder) / model_files.CONFIG, model_files.one_line(error)
        raise InputError(f"{path}: no architecture of this model ({reason}); {model_files.RETRAIN}") from None
    mean = len(grid["conditions"]), len(grid["ppm"])
    layout = {
        "mean_real": ("float64", mean),
        "mean_imaginary": ("float64", mean),
        "directions": ("float32", (codes, 2 * mean[0] * mean[1])),
        "variances": ("float64", (codes,)),
        "spread": ("float32", (codes, codes)),
        "site_shares": ("float64", (codes,)),
        "site_codes": ("float64", (len(sites), codes)),
    }
    arrays = model_files.read_tensors(folder, config, layout)
    model = SubjectModel(
        arrays["mean_real"] + 1j * arrays["mean_imaginary"],
        arrays["directions"].astype(float),
        arrays["variances"],
        arrays["spread"].astype(float),
        arrays["site_shares"],
        dict(zip(sites, arrays["site_codes"], strict=True)),
        n_subjects,
    )
    return model, config
