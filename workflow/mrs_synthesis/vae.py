"""A variational autoencoder for complex spectra, conditioned on the edit condition.

Kingma and Welling, Auto-Encoding Variational Bayes, ICLR 2014, with convolutions along the ppm axis. A spectrum of W
complex points is two channels, real and imaginary part. Numbers enter divided by the subject's scale, so that their
peak is about 1; inside the network they are standardised by the training set's mean spectrum of their condition and
one overall spread.

The decoder is Gaussian with mean `decode` and one SD for all points: `sigma`, learned or the error's, or, with the
likelihood ``known``, the measured noise of each transient.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from mrs_synthesis import model_files
from mrs_synthesis.stage import InputError

LIKELIHOODS = ("analytic", "learned", "plain", "known")
LOG_SIGMA_FLOOR = -6.0  # Rybkin et al.: keeps the likelihood finite on spectra that are fitted without a rest
SIGMA_MOMENTUM = 0.05  # share of the newest batch in the running estimate of sigma^2


def width_multiple(channels: Sequence[int]) -> int:
    """Return what W must be a multiple of: each convolution halves the width."""
    return 2 ** len(channels)


class SpectrumVAE(nn.Module):
    """Convolutional VAE.

    Parameters
    ----------
    width
        Number of complex points W of a spectrum.
    conditions
        Number of edit conditions.
    latent_size
        Dimensions of a code.
    channels
        Feature channels after each halving of the width.
    kernel
        Odd length of the convolutions.
    likelihood
        ``plain``: half the sum of squared errors (a decoder SD of 1), as a VAE trained with squared error does.
        ``learned``: one decoder SD for all points, a parameter. ``analytic``: the same SD, at each batch set to its
        optimum, the root mean squared error; a running estimate is kept. Both after Rybkin, Daniilidis and Levine,
        Simple and effective VAE training with calibrated decoders, ICML 2021. ``known``: the SD of each spectrum is
        given with it, the noise measured on that transient; `sigma` is then its root mean square over the training set.
    """

    def __init__(
        self,
        width: int,
        conditions: int,
        latent_size: int = 16,
        channels: Sequence[int] = (16, 32, 32),
        kernel: int = 7,
        likelihood: str = "analytic",
    ):
        super().__init__()
        if width % width_multiple(channels) or kernel % 2 == 0 or likelihood not in LIKELIHOODS:
            raise ValueError(
                f"width {width}, {len(channels)} channels, kernel {kernel}, likelihood {likelihood}: expected a width "
                f"that is a multiple of {width_multiple(channels)}, an odd kernel, a likelihood of {LIKELIHOODS}"
            )
        self.width, self.conditions, self.latent_size, self.likelihood = width, conditions, latent_size, likelihood
        narrow = width // width_multiple(channels)
        self._shape = (channels[-1], narrow)
        down: list[nn.Module] = []
        previous = 2 + conditions
        for n in channels:
            down += [nn.Conv1d(previous, n, kernel, stride=2, padding=kernel // 2), nn.SiLU()]
            previous = n
        self.down = nn.Sequential(*down)
        self.to_code = nn.Linear(channels[-1] * narrow, 2 * latent_size)
        self.from_code = nn.Linear(latent_size + conditions, channels[-1] * narrow)
        up: list[nn.Module] = []
        for n in [*reversed(channels[:-1]), channels[0]]:
            up += [nn.ConvTranspose1d(previous, n, 4, stride=2, padding=1), nn.SiLU()]
            previous = n
        up.append(nn.Conv1d(previous, 2, kernel, padding=kernel // 2))
        self.up = nn.Sequential(*up)
        log_sigma = torch.zeros(())
        if likelihood == "learned":
            self.log_sigma = nn.Parameter(log_sigma)
        else:
            self.register_buffer("log_sigma", log_sigma)
        self.register_buffer("mean", torch.zeros(conditions, 2, width))
        self.register_buffer("spread", torch.ones(()))
        self.register_buffer("code_mean", torch.zeros(conditions, latent_size))
        self.register_buffer("code_covariance", torch.eye(latent_size).repeat(conditions, 1, 1))

    @property
    def sigma(self) -> float:
        """SD of the decoder's Gaussian, of the real and of the imaginary part, in units of normalised spectra."""
        return float(torch.exp(self._floored(self.log_sigma.detach())))

    def _floored(self, log_sigma: torch.Tensor) -> torch.Tensor:
        # A parameter needs a gradient below the floor; a measured value must not be biased above it.
        if self.likelihood == "learned":
            return LOG_SIGMA_FLOOR + functional.softplus(log_sigma - LOG_SIGMA_FLOOR)
        return log_sigma if self.likelihood == "known" else log_sigma.clamp_min(LOG_SIGMA_FLOOR)

    def encode(self, x: torch.Tensor, condition: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log variance of the code, each (batch, latent), of spectra (batch, 2, W).

        `condition` holds the index of each spectrum's edit condition, shape (batch,).
        """
        one_hot = functional.one_hot(condition, self.conditions).to(x.dtype)
        standardised = (x - self.mean[condition]) / self.spread
        planes = one_hot[:, :, None].expand(-1, -1, self.width)
        hidden = self.down(torch.cat([standardised, planes], dim=1))
        mean, log_variance = self.to_code(hidden.flatten(1)).chunk(2, dim=1)
        return mean, log_variance.clamp(-20.0, 10.0)

    def decode(self, z: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Return the mean spectra (batch, 2, W) of codes (batch, latent)."""
        one_hot = functional.one_hot(condition, self.conditions).to(z.dtype)
        hidden = self.from_code(torch.cat([z, one_hot], dim=1)).unflatten(1, self._shape)
        return self.mean[condition] + self.spread * self.up(functional.silu(hidden))

    def forward(
        self, x: torch.Tensor, condition: torch.Tensor, noise: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return reconstruction, code mean and code log variance; `noise` is standard normal, (batch, latent)."""
        mean, log_variance = self.encode(x, condition)
        return self.decode(reparameterise(mean, log_variance, noise), condition), mean, log_variance

    def reconstruction_loss(
        self,
        x: torch.Tensor,
        reconstruction: torch.Tensor,
        sd: torch.Tensor | None = None,
        mean: Callable[[torch.Tensor], torch.Tensor] = torch.mean,
    ) -> torch.Tensor:
        """Return the mean over the batch of the negative log likelihood, without its constant, in nats.

        In training with ``analytic``, sigma is the batch's optimum and the running estimate is updated. ``known`` needs
        `sd`, the noise SD of each spectrum's real part, shape (batch,), and no other likelihood uses it. `mean` takes
        means over the batch, of which this may be the part of one process (`processes.Group.mean`).
        """
        errors = (x - reconstruction).square().flatten(1)
        points = errors.shape[1]
        if self.likelihood == "plain":
            return 0.5 * mean(errors.sum(1))
        if self.likelihood == "known":
            return mean(0.5 * errors.sum(1) / sd.square() + points * sd.log())
        log_sigma = self.log_sigma
        if self.likelihood == "analytic" and self.training:
            optimum = mean(errors)
            with torch.no_grad():
                old = torch.exp(2 * self.log_sigma)
                new = old + SIGMA_MOMENTUM * (optimum.detach() - old)
                self.log_sigma.copy_(0.5 * torch.log(new.clamp_min(1e-12)))
            log_sigma = 0.5 * torch.log(optimum.clamp_min(1e-12))
        log_sigma = self._floored(log_sigma)
        return 0.5 * mean(errors.sum(1)) * torch.exp(-2 * log_sigma) + points * log_sigma


def reparameterise(mean: torch.Tensor, log_variance: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Return ``mean + SD * noise``."""
    return mean + torch.exp(0.5 * log_variance) * noise


def kl_divergence(
    mean: torch.Tensor,
    log_variance: torch.Tensor,
    average: Callable[[torch.Tensor], torch.Tensor] = torch.mean,
) -> torch.Tensor:
    """Return the mean over the batch of KL(N(mean, variance) || N(0, I)) in nats; Kingma and Welling, appendix B.

    `average` takes the mean over the batch, of which this may be the part of one process (`processes.Group.mean`).
    """
    return average(-0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum(1))


def to_channels(spectra: np.ndarray) -> torch.Tensor:
    """Return complex spectra (batch, W) as real tensors (batch, 2, W)."""
    return torch.from_numpy(np.stack([spectra.real, spectra.imag], axis=1).astype(np.float32))


def to_complex(channels: torch.Tensor) -> np.ndarray:
    """Invert `to_channels`."""
    values = channels.detach().cpu().numpy()
    return values[:, 0] + 1j * values[:, 1]


def architecture(model: SpectrumVAE, channels: Sequence[int], kernel: int) -> dict[str, Any]:
    """Return the arguments that build `model` again."""
    return {
        "width": model.width,
        "conditions": model.conditions,
        "latent_size": model.latent_size,
        "channels": list(channels),
        "kernel": kernel,
        "likelihood": model.likelihood,
    }


def save_model(folder: Path, model: SpectrumVAE, config: dict[str, Any]) -> str:
    """Write ``model.safetensors`` and ``config.json``, which holds `config`, and return the weights' SHA-256."""
    tensors = {name: value.detach().cpu().numpy() for name, value in model.state_dict().items()}
    return model_files.write(folder, tensors, config)


def load_model(folder: Path | str) -> tuple[SpectrumVAE, dict[str, Any]]:
    """Read a trained model, ready to use on the CPU, and its config.

    Raises
    ------
    InputError
        If a file is missing, the weights are not those that the config names, or do not fit its architecture.
    """
    config = model_files.read_config(folder, "paper")
    path, grid = Path(folder) / model_files.CONFIG, config["grid"]
    try:
        with torch.device("meta"):  # takes no memory, whatever sizes the config states
            model = SpectrumVAE(**config["architecture"])
        if (model.width, model.conditions) != (len(grid["ppm"]), len(grid["conditions"])):
            size = f"{len(grid['ppm'])} points, {len(grid['conditions'])} conditions"
            raise ValueError(f"the grid has {size}, the model {model.width}, {model.conditions}")
    except (LookupError, TypeError, ValueError, ArithmeticError, RuntimeError) as error:
        reason = model_files.one_line(error)
        raise InputError(f"{path}: no architecture of this model ({reason}); {model_files.RETRAIN}") from None
    layout = {
        name: (str(value.dtype).removeprefix("torch."), tuple(value.shape))
        for name, value in model.state_dict().items()
    }
    tensors = model_files.read_tensors(folder, config, layout)
    model.load_state_dict({name: torch.tensor(array) for name, array in tensors.items()}, assign=True)
    if not math.isfinite(model.sigma):
        raise InputError(f"{Path(folder) / model_files.WEIGHTS}: the decoder's SD is not finite; {model_files.RETRAIN}")
    return model.eval(), config
