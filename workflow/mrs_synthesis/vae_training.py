"""Train the variational autoencoder on single transients; the validation subjects decide when to stop.

Spectra are read from disk, batch by batch. A run that was killed goes on from its checkpoint and ends with the same
bytes as an undisturbed one: the order of the data follows from the seed and the epoch, and the state of the noise is
saved. Several processes (`processes`) see the same batches and the same noise as one, each its part of every batch.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis import finished, known_noise, seeds
from mrs_synthesis.processes import ALONE, Group
from mrs_synthesis.stage import InputError

if TYPE_CHECKING:
    import torch

    from mrs_synthesis.training_set import TrainingSet
    from mrs_synthesis.vae import SpectrumVAE

CODE = ("known_noise", "vae", "vae_training")  # modules that decide what is trained
CODES = 65_536  # codes held at once
WARM_UP = 0.15  # share of the epochs in which the weight of the KL rises from 0, lest all codes collapse to the prior


@dataclass(frozen=True)
class Options:
    """Everything that decides the weights, apart from the data and the machine."""

    seed: int
    latent_size: int = 16
    channels: tuple[int, ...] = (16, 32, 32)
    kernel: int = 7
    likelihood: str = "analytic"
    beta: float = 1.0
    epochs: int = 40
    batch_size: int = 64
    learning_rate: float = 2e-3
    patience: int = 10
    amp: bool = False


def standardise(model: SpectrumVAE, data: TrainingSet, rows: np.ndarray, size: int = 1024) -> None:
    """Set the model's mean spectrum of each condition, and its spread, to those of the training rows.

    Raises
    ------
    InputError
        If an edit condition has no training row.
    """
    import torch

    total = np.zeros(model.mean.shape)
    squares, number = 0.0, np.zeros(model.conditions)
    for x, condition in data.batches(rows, size):
        values = x.numpy().astype(float)
        np.add.at(total, condition.numpy(), values)
        np.add.at(number, condition.numpy(), 1)
        squares += float(np.sum(values**2))
    if not number.all():
        missing = data.grid["conditions"][int(np.argmin(number))]
        raise InputError(f"{data.folder}: no training spectrum of edit condition {missing}; assemble it again")
    mean = total / number[:, None, None]
    rest = squares - float(np.sum(number[:, None, None] * mean**2))
    spread = math.sqrt(max(rest, 0.0) / (len(rows) * mean[0].size))
    if not spread > 0 or not math.isfinite(spread):
        raise InputError(f"{data.folder}: the training spectra are all equal or not finite; check the preprocessing")
    model.mean.copy_(torch.from_numpy(mean))
    model.spread.fill_(spread)
    with torch.no_grad():
        model.log_sigma.fill_(math.log(spread))


class Gaussian:
    """Mean and covariance of vectors that come in parts, of which no more than `CODES` are held at once.

    Parts are joined as Chan, Golub and LeVeque do (Am Stat 37:242, 1983).
    """

    def __init__(self) -> None:
        self.n, self._parts, self._held = 0, [], 0

    def add(self, values: np.ndarray) -> None:
        """Add vectors, shape (any number, size)."""
        self._parts.append(values)
        self._held += len(values)
        if self._held >= CODES:
            self._join()

    def _join(self) -> None:
        values = np.concatenate(self._parts)
        n, mean = len(values), values.mean(axis=0)
        scatter = (values - mean).T @ (values - mean)
        if self.n:
            off, both = mean - self._mean, self.n + n
            scatter = self._scatter + scatter + np.outer(off, off) * (self.n * n / both)
            mean = self._mean + off * (n / both)
        self.n, self._mean, self._scatter = self.n + n, mean, scatter
        self._parts, self._held = [], 0

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and covariance of all of them; there must be one."""
        if self._held:
            self._join()
        return self._mean, self._scatter / max(1, self.n - 1)


def describe_codes(model: SpectrumVAE, data: TrainingSet, rows: np.ndarray, size: int = 1024) -> None:
    """Set the Gaussian of the training codes (posterior means) of each condition; for ``plain`` also the measured SD.

    The SD of the rest, data minus decoded code, stands in for the SD that such a decoder does not learn.
    """
    import torch

    codes, squares = [Gaussian() for _ in range(model.conditions)], 0.0
    for x, condition in data.batches(rows, size):
        mean, _ = model.encode(x, condition)
        for c, own in enumerate(codes):
            own.add(mean[condition == c].numpy().astype(float))
        squares += float((x - model.decode(mean, condition)).double().square().sum())
    for c, own in enumerate(codes):
        mean, covariance = own.moments()
        model.code_mean[c] = torch.from_numpy(mean)
        model.code_covariance[c] = torch.from_numpy(covariance)
    if model.likelihood == "plain":
        model.log_sigma.fill_(0.5 * math.log(max(squares / (len(rows) * 2 * model.width), 1e-12)))


def _epoch(
    model: SpectrumVAE,
    data: TrainingSet,
    rows: np.ndarray,
    options: Options,
    noise: torch.Generator,
    device: str,
    sd: np.ndarray | None,
    step: Callable[[torch.Tensor, torch.Tensor, int], None] | None = None,
    group: Group = ALONE,
) -> tuple[float, float, float]:
    """Go once through `rows`; `sd` is the known noise of all rows, `step(reconstruction, kl, done)` updates weights.

    Returns
    -------
    tuple
        Mean loss (with the full weight of the KL), reconstruction and KL.
    """
    import torch

    from mrs_synthesis.vae import kl_divergence, to_channels

    sums = torch.zeros(2, dtype=torch.float64, device=device)
    done = 0
    for start in range(0, len(rows), options.batch_size):
        batch = rows[start : start + options.batch_size]
        part = group.part(len(batch))
        own = batch[part]
        # The noise is drawn on the CPU and for all, so that it depends neither on the device nor on the processes.
        draws = torch.randn(len(batch), model.latent_size, generator=noise)[part].to(device)
        x, condition = to_channels(data.spectra[own]).to(device), torch.from_numpy(data.condition[own]).to(device)
        with torch.autocast(device, torch.bfloat16, enabled=options.amp):
            output, mean, log_variance = model(x, condition, draws)
        known = None if sd is None else torch.from_numpy(sd[own]).to(device)
        reconstruction = model.reconstruction_loss(x, output.float(), known, group.mean)
        kl = kl_divergence(mean.float(), log_variance.float(), group.mean)
        done += len(batch)
        if step is not None:
            step(reconstruction, kl, done)
        sums += torch.stack([reconstruction.detach(), kl.detach()]).double() * len(batch)
    reconstruction_sum, kl_sum = (sums / done).tolist()
    return reconstruction_sum + options.beta * kl_sum, reconstruction_sum, kl_sum


def update(
    model: SpectrumVAE,
    optimiser: torch.optim.Optimizer,
    options: Options,
    progress: float,
    reconstruction: torch.Tensor,
    kl: torch.Tensor,
    group: Group = ALONE,
) -> None:
    """Take one step; `progress`, from 0 to 1 over the training, sets the weight of the KL and the learning rate."""
    loss = reconstruction + options.beta * min(1.0, progress / WARM_UP) * kl
    for parameters in optimiser.param_groups:
        parameters["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    group.average_gradients(model)
    optimiser.step()


def fit(
    data: TrainingSet,
    output: Path,
    options: Options,
    device: str,
    checkpoint_seconds: float,
    group: Group = ALONE,
) -> tuple[SpectrumVAE, list[list[float]], int]:
    """Train; return the model with its best weights on the CPU, the history of losses, and the best epoch.

    Of several processes all take part and the first alone writes checkpoints and describes the codes.

    Raises
    ------
    InputError
        If there is nothing to train on or to validate with, or the loss is no longer finite.
    """
    import torch

    from mrs_synthesis.checkpoint import read_checkpoint, write_checkpoint
    from mrs_synthesis.vae import SpectrumVAE, width_multiple

    train_rows, validation_rows = data.rows("train"), data.rows("validation")
    if not len(train_rows) or not len(validation_rows):
        raise InputError(
            f"{data.folder / 'index.tsv'}: {len(train_rows)} train and {len(validation_rows)} validation rows, "
            "expected some of each; assign subjects to both splits"
        )
    width, multiple = len(data.grid["ppm"]), width_multiple(options.channels)
    if width % multiple:
        raise InputError(f"--channels: {len(options.channels)} of them need W = {width} to be a multiple of {multiple}")
    torch.manual_seed(int(seeds.generator(options.seed, "train", "weights").integers(2**62)))
    model = SpectrumVAE(
        width,
        len(data.grid["conditions"]),
        options.latent_size,
        options.channels,
        options.kernel,
        options.likelihood,
    )
    standardise(model, data, train_rows)
    sd = None
    if options.likelihood == "known":
        sd = known_noise.row_sd(data)
        known_noise.check(data, sd)
        model.log_sigma.fill_(0.5 * math.log(np.mean(sd[train_rows].astype(float) ** 2)))
    model.to(device)
    optimiser = torch.optim.Adam(model.parameters(), lr=options.learning_rate)
    noise = torch.Generator().manual_seed(int(seeds.generator(options.seed, "train", "noise").integers(2**62)))
    validation_seed = int(seeds.generator(options.seed, "train", "validation").integers(2**62))
    fingerprint = json.loads(json.dumps(asdict(options))) | data.hashes() | {"device": device}
    fingerprint |= {f"{name}.py": digest for name, digest in finished.code_of(CODE).items()}

    state: dict[str, Any] = {"fingerprint": fingerprint, "history": [], "best_epoch": 0, "finished": False}
    best = {}
    folder = Path(output) / "checkpoint"
    resumed = read_checkpoint(folder, fingerprint, model, optimiser, noise)
    if resumed is not None:
        state, best = resumed
        print(f"resumed after epoch {len(state['history'])}", flush=True)

    if not group.agree(len(state["history"]), device):
        raise InputError(f"{folder}: the processes read different checkpoints; give them one folder that all can see")

    first, begun, written = len(state["history"]), time.monotonic(), time.monotonic()
    while not state["finished"]:
        epoch = len(state["history"])

        def step(reconstruction: torch.Tensor, kl: torch.Tensor, done: int, epoch: int = epoch) -> None:
            progress = (epoch + done / len(train_rows)) / options.epochs
            update(model, optimiser, options, progress, reconstruction, kl, group)

        order = seeds.generator(options.seed, "train", "order", epoch).permutation(len(train_rows))
        model.train()
        train = _epoch(model, data, train_rows[order], options, noise, device, sd, step, group)
        model.eval()
        with torch.no_grad():
            fixed = torch.Generator().manual_seed(validation_seed)
            validation = _epoch(model, data, validation_rows, options, fixed, device, sd, None, group)
        if not all(map(math.isfinite, (*train, *validation))):
            raise InputError(
                f"epoch {epoch + 1}: the loss is not finite; lower --learning-rate ({options.learning_rate})"
            )
        state["history"].append([epoch + 1, *train, *validation, model.sigma])
        if not best or validation[0] < state["history"][state["best_epoch"] - 1][4]:
            state["best_epoch"] = epoch + 1
            best = {name: value.detach().clone() for name, value in model.state_dict().items()}
        waited = epoch + 1 - max(state["best_epoch"], math.ceil(WARM_UP * options.epochs))
        state["finished"] = epoch + 1 >= options.epochs or waited >= options.patience
        now = time.monotonic()
        remaining = (now - begun) / (epoch + 1 - first) * (options.epochs - epoch - 1)
        print(
            f"epoch {epoch + 1}/{options.epochs}: train {train[0]:.2f}, validation {validation[0]:.2f} "
            f"(reconstruction {validation[1]:.2f}, KL {validation[2]:.2f}), sigma {model.sigma:.4f}, "
            f"best epoch {state['best_epoch']}, at most {remaining:.0f} s left",
            flush=True,
        )
        if group.first and (state["finished"] or now - written >= checkpoint_seconds):
            write_checkpoint(folder, state, model, best, optimiser, noise)
            written = now
    model.load_state_dict(best)
    model.to("cpu").eval()
    if group.first:
        with torch.no_grad():
            describe_codes(model, data, train_rows)
    return model, state["history"], state["best_epoch"]
