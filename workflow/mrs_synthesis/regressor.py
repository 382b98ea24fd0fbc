"""A small convolutional network from averaged spectra to ratios, for `training_use`."""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import seeds
from mrs_synthesis.stage import InputError

if TYPE_CHECKING:
    import torch

    from mrs_synthesis.training_examples import Examples

# The best of a few on the phantom's validation subjects, means of 2 transients, sources real and synthetic_x10
BATCH, RATE, DECAY = 64, 1e-3, 0.3
STEPS, EVERY, PATIENCE = 600, 20, 8  # optimiser steps at most, between two validations, and validations of no gain


def channels(spectra: np.ndarray) -> np.ndarray:
    """Return complex (n, conditions, W) as float32 (n, channels, W): OFF and ON - OFF, real and imaginary."""
    parts = spectra if spectra.shape[1] == 1 else np.stack([spectra[:, 0], spectra[:, 1] - spectra[:, 0]], axis=1)
    return np.concatenate([parts.real, parts.imag], axis=1).astype(np.float32)


@dataclass(frozen=True)
class Regressor:
    """A trained network with the scales of its input and output; `predict` is all that it is for."""

    network: torch.nn.Module
    centre: np.ndarray
    spread: np.ndarray
    label_mean: np.ndarray
    label_sd: np.ndarray
    steps: int

    def inputs(self, spectra: np.ndarray) -> torch.Tensor:
        """Return spectra as the network takes them."""
        import torch

        return torch.from_numpy((channels(spectra) - self.centre) / self.spread)

    def predict(self, spectra: np.ndarray) -> np.ndarray:
        """Return ratios (n, ratios) of complex spectra (n, conditions, W)."""
        import torch

        with torch.no_grad():
            parts = [self.network(part).numpy() for part in self.inputs(spectra).split(1024)]
        return np.concatenate(parts).astype(float) * self.label_sd + self.label_mean

    def weights(self) -> bytes:
        """Return all numbers that decide the predictions."""
        arrays = [*(p.numpy() for p in self.network.state_dict().values()), self.centre, self.spread]
        return b"".join(np.ascontiguousarray(a).tobytes() for a in [*arrays, self.label_mean, self.label_sd])


def build(n_channels: int, width: int, outputs: int) -> torch.nn.Module:
    """Return the network."""
    from torch import nn

    length = math.ceil(math.ceil(width / 4) / 2)
    return nn.Sequential(
        nn.Conv1d(n_channels, 16, 9, stride=4, padding=4),
        nn.GELU(),
        nn.Conv1d(16, 16, 5, stride=2, padding=2),
        nn.GELU(),
        nn.Flatten(),
        nn.Linear(16 * length, 32),
        nn.GELU(),
        nn.Linear(32, outputs),
    )


def train(training: Examples, validation: Examples, seed: int, *names: object) -> Regressor:
    """Train one regressor; the validation examples choose the step at which it is taken.

    Parameters
    ----------
    training, validation
        Examples; missing labels do not count.
    seed, names
        Name the random stream.

    Raises
    ------
    InputError
        If a ratio has no label, or none that differs.
    """
    import torch

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    torch.manual_seed(int(seeds.generator(seed, "training_use", "weights", *names).integers(2**62)))
    rng = seeds.generator(seed, "training_use", "order", *names)
    for labels, which in ((training.labels, "training"), (validation.labels, "validation")):
        if not np.isfinite(labels).any(axis=0).all():
            raise InputError(f"{which} subjects: a ratio was fitted in none of them; leave it out of --ratios")
    mean, sd = np.nanmean(training.labels, axis=0), np.nanstd(training.labels, axis=0)
    if not (sd > 0).all():
        raise InputError("training subjects: all have the same label, expected at least two that differ; add subjects")
    values = channels(training.spectra)
    centre = values.mean(axis=0)
    spread = np.sqrt(((values - centre) ** 2).mean(axis=(0, 2)))[:, None]
    spread[spread == 0] = 1.0  # a channel that never varies
    network = build(values.shape[1], values.shape[2], len(mean))
    found = Regressor(network, centre, spread, mean, sd, 0)

    def prepared(part: Examples) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        target = (part.labels - mean) / sd
        known = np.isfinite(target)
        arrays = (np.where(known, target, 0.0), known)
        return found.inputs(part.spectra), *(torch.from_numpy(a.astype(np.float32)) for a in arrays)

    def loss(x: torch.Tensor, target: torch.Tensor, known: torch.Tensor) -> torch.Tensor:
        return (known * (network(x) - target) ** 2).sum() / known.sum().clamp(min=1)

    own, held_out = prepared(training), prepared(validation)
    optimiser = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=DECAY)
    best, best_step, weights, order = float("inf"), 0, {}, np.zeros(0, int)
    for step in range(1, STEPS + 1):
        if order.size < BATCH:
            order = np.concatenate([order, rng.permutation(len(training.labels))])
        batch, order = order[:BATCH], order[BATCH:]
        optimiser.zero_grad(set_to_none=True)
        loss(*(part[batch] for part in own)).backward()
        optimiser.step()
        if step % EVERY == 0:
            with torch.no_grad():
                now = float(loss(*held_out))
            if now < best:
                best, best_step, weights = now, step, copy.deepcopy(network.state_dict())
            if step - best_step >= EVERY * PATIENCE:
                break
    if not weights:
        raise InputError("the regressor's validation loss is not finite; check the spectra for infinite points")
    network.load_state_dict(weights)
    return Regressor(network.eval(), centre, spread, mean, sd, best_step)
