"""What the two models have in common for synthesis: noise-free spectra for a subject of whom some transients are known.

Modes, as the paper's model (`vae`) has them, from the codes z (posterior means) of the real transients, per condition:

random
    z from the standard normal prior, or from the mixture fitted to the training codes (`latent_density`).
interpolation
    (1 - l) z_i + l z_j, l uniform in (0, 1), i and j two different real transients (with one real transient: its z).
hybrid
    interpolation plus normal noise of `hybrid_sd` times the SD of the training codes in each dimension.

The k-th synthetic transients of the edit conditions form a pair, as real ones do: they share the random numbers
(prior draw, i, j, l, hybrid noise), each in its own condition's codes.

The model of subjects (`subject_model`) has one code for all transients and conditions of a subject:

random
    for each synthetic transient the code of a new subject of the same site.
interpolation
    the mean of the code's posterior given all of the real transients together: what they tell and no more.
hybrid
    draws from that posterior, which differ by what the real transients do not tell.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from mrs_synthesis import model_files
from mrs_synthesis.assemble import subject_scale

if TYPE_CHECKING:
    from mrs_synthesis.latent_density import LatentDensity
    from mrs_synthesis.subject_model import SubjectModel
    from mrs_synthesis.vae import SpectrumVAE

MODES = ("random", "interpolation", "hybrid")
NOISE_SOURCE = {"NoiseSource": "NoiseSD of the replicate's real transients, inside and outside the model's window"}


class Generator(Protocol):
    """A trained model, ready for one subject's site."""

    config: dict[str, Any]

    def reconstruct(self, values: np.ndarray, sd: np.ndarray, scale: float) -> np.ndarray:
        """Return each transient after the model, complex (conditions, n, W), in the units of `values`.

        `sd`: noise SD of the real part of a bin, (n,); `scale`: the subject's.
        """

    def synthesise(
        self, mode: str, real: np.ndarray, sd: np.ndarray, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """Return `n` noise-free synthetic spectra, complex (conditions, n, W) in the units of `real`, and their scale.

        `real`: the transients that may be used, complex (conditions, n_real, W); `sd` as in `reconstruct`, (n_real,).
        """

    def noise_sd(self, measured: np.ndarray, scale: float) -> np.ndarray | float:
        """Return the SD of the real part of a sampled transient's bin in the window, given the measured one."""

    def describe(self, mode: str, decoder: str) -> dict[str, Any]:
        """Return what a sidecar says of a mode and of the decoder's noise."""


def read_config(folder: Path, training: Path | None = None) -> dict[str, Any]:
    """Return a model's config.json; with the folder of a training set, check that the model was trained on it.

    Raises
    ------
    InputError
        If there is none, the model is of an unknown kind, or it is another study's.
    """
    config = model_files.read_config(folder)
    if training is not None:
        model_files.check_grid(folder, config, training)
    return config


def load(folder: Path, site: str | None, prior: str = "standard", hybrid_sd: float = 0.5) -> Generator:
    """Read a trained model.

    Raises
    ------
    InputError
        If it cannot be read, or is of an unknown kind.
    """
    if read_config(folder)["model"] == "subject":
        return SubjectGenerator.load(folder, site)
    return PaperGenerator.load(folder, site, prior, hybrid_sd)


def encode(model: SpectrumVAE, normalised: np.ndarray) -> np.ndarray:
    """Return posterior means, shape (conditions, transients, latent), of (conditions, transients, W) spectra."""
    import torch

    from mrs_synthesis.vae import to_channels

    with torch.no_grad():
        codes = [
            model.encode(to_channels(part), torch.full((len(part),), c))[0].numpy() for c, part in enumerate(normalised)
        ]
    return np.stack(codes).astype(float)


def decode(model: SpectrumVAE, codes: np.ndarray) -> np.ndarray:
    """Return decoder means, complex, shape (conditions, transients, W), of codes (conditions, transients, latent)."""
    import torch

    from mrs_synthesis.vae import to_complex

    with torch.no_grad():
        parts = [
            to_complex(model.decode(torch.from_numpy(part.astype(np.float32)), torch.full((len(part),), c)))
            for c, part in enumerate(codes)
        ]
    return np.stack(parts).astype(complex)


def draw_codes(
    mode: str,
    real_codes: np.ndarray,
    n: int,
    rng: np.random.Generator,
    *,
    code_covariance: np.ndarray,
    hybrid_sd: float,
    density: LatentDensity | None = None,
    site: str | None = None,
) -> np.ndarray:
    """Return codes of `n` synthetic transients of one replicate, shape (conditions, n, latent).

    Parameters
    ----------
    mode
        One of `MODES`, as defined at the top of the module.
    real_codes
        Codes of the replicate's real transients, shape (conditions, n_real, latent); ``random`` ignores them.
    n
        How many.
    rng
        Random numbers; the conditions share them.
    code_covariance
        Covariance of the training codes of each condition, shape (conditions, latent, latent).
    hybrid_sd
        Size of the noise of ``hybrid``, as a share of the SD of the training codes.
    density, site
        Fitted density that ``random`` draws from, with the weights of a site; None: the standard normal prior.
    """
    conditions, n_real, latent = real_codes.shape
    if mode == "random":
        if density is not None:
            return density.draw(rng, n, site).reshape(n, conditions, latent).swapaxes(0, 1)
        return np.broadcast_to(rng.standard_normal((n, latent)), (conditions, n, latent)).copy()
    first = rng.integers(n_real, size=n)
    second = (first + rng.integers(1, n_real, size=n)) % n_real if n_real > 1 else first
    weight = rng.uniform(size=n)[:, None]
    codes = (1 - weight) * real_codes[:, first] + weight * real_codes[:, second]
    if mode == "hybrid":
        sd = np.sqrt(np.diagonal(code_covariance, axis1=1, axis2=2))
        codes = codes + hybrid_sd * sd[:, None] * rng.standard_normal((n, latent))
    return codes


@dataclass(frozen=True)
class PaperGenerator:
    """The VAE of single transients; random numbers and codes as at the top of the module."""

    model: SpectrumVAE
    config: dict[str, Any]
    site: str | None
    density: LatentDensity | None
    hybrid_sd: float

    @classmethod
    def load(cls, folder: Path, site: str | None, prior: str, hybrid_sd: float) -> PaperGenerator:
        """Read weights, and the fitted density if `prior` is ``fitted``."""
        import torch

        from mrs_synthesis import latent_density
        from mrs_synthesis.vae import load_model

        torch.set_num_threads(1)
        model, config = load_model(folder)
        density = latent_density.load(folder, config) if prior == "fitted" else None
        return cls(model, config, site, density, hybrid_sd)

    def reconstruct(self, values: np.ndarray, sd: np.ndarray, scale: float) -> np.ndarray:
        """See `Generator`; the noise SD does not matter."""
        return decode(self.model, encode(self.model, values / scale)) * scale

    def synthesise(
        self, mode: str, real: np.ndarray, sd: np.ndarray, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """See `Generator`; the noise SD does not matter."""
        scale = subject_scale(real[0], np.asarray(self.config["grid"]["ppm"]))
        codes = draw_codes(
            mode,
            encode(self.model, real / scale),
            n,
            rng,
            code_covariance=self.model.code_covariance.numpy().astype(float),
            hybrid_sd=self.hybrid_sd,
            density=self.density,
            site=self.site,
        )
        return decode(self.model, codes) * scale, scale

    def noise_sd(self, measured: np.ndarray, scale: float) -> np.ndarray | float:
        """Return the decoder's SD, or the measured one if the likelihood knew it."""
        return measured if self.model.likelihood == "known" else self.model.sigma * scale

    def describe(self, mode: str, decoder: str) -> dict[str, Any]:
        """See `Generator`."""
        facts: dict[str, Any] = {"HybridSD": self.hybrid_sd} if mode == "hybrid" else {}
        if mode == "random":
            facts["Prior"] = self.density.describe(self.site) if self.density else "standard"
        if decoder != "mean":
            facts |= NOISE_SOURCE if self.model.likelihood == "known" else {"DecoderSD": self.model.sigma}
        return facts


@dataclass(frozen=True)
class SubjectGenerator:
    """The Gaussian model of subjects."""

    model: SubjectModel
    config: dict[str, Any]
    site: str | None

    @classmethod
    def load(cls, folder: Path, site: str | None) -> SubjectGenerator:
        """Read the model."""
        from mrs_synthesis import subject_model

        return cls(*subject_model.load(folder), site)

    def reconstruct(self, values: np.ndarray, sd: np.ndarray, scale: float) -> np.ndarray:
        """See `Generator`; each pair of transients by itself."""
        parts = [self.model.posterior(values[:, t], sd[t], 1, self.site).spectrum() for t in range(values.shape[1])]
        return np.stack(parts, axis=1)

    def synthesise(
        self, mode: str, real: np.ndarray, sd: np.ndarray, n: int, rng: np.random.Generator
    ) -> tuple[np.ndarray, float]:
        """See `Generator`."""
        own = self.model.posterior(real.mean(axis=1), np.sqrt(np.mean(sd**2)), real.shape[1], self.site)
        if mode == "random":
            drawn = own.gain * self.model.draw(rng, n, self.site)
        elif mode == "hybrid":
            drawn = own.draw(rng, n)
        else:
            drawn = np.broadcast_to(own.spectrum(), (n, *real[:, 0].shape))
        return np.moveaxis(drawn, 0, 1), own.gain

    def noise_sd(self, measured: np.ndarray, scale: float) -> np.ndarray | float:
        """Return the measured SD: the model has no noise of its own."""
        return measured

    def describe(self, mode: str, decoder: str) -> dict[str, Any]:
        """See `Generator`."""
        where = "of the site" if self.site in self.model.site_codes else "of all sites"
        facts = {"Prior": f"Gaussian fitted to the training subjects {where}"}
        return facts if decoder == "mean" else facts | NOISE_SOURCE
