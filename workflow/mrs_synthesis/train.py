"""Train the variational autoencoder on the training subjects; the validation subjects decide when to stop.

A run that was killed goes on from its checkpoint and ends with the same bytes as an undisturbed one: the order of the
data follows from the seed and the epoch, and the state of the noise is saved.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis import known_noise, seeds
from mrs_synthesis.files import read_table, sha256
from mrs_synthesis.stage import InputError, require, run

if TYPE_CHECKING:
    import pandas as pd
    import torch

    from mrs_synthesis.vae import SpectrumVAE

LIKELIHOODS = ("analytic", "learned", "plain", "known")
WARM_UP = 0.15  # share of the epochs in which the weight of the KL rises from 0, lest all codes collapse to the prior
INDEX_COLUMNS = ("row", "unit", "subject", "site", "condition", "transient", "split", "scale", "noise_sd")


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


class TrainingSet:
    """The assembled training set; spectra stay on disk and are read in batches."""

    def __init__(self, folder: Path):
        self.folder = Path(folder)
        try:
            self.grid = json.loads(require(self.folder / "grid.json").read_text(encoding="utf-8"))
            self.index: pd.DataFrame = read_table(require(self.folder / "index.tsv"), INDEX_COLUMNS)
            self.spectra = np.load(require(self.folder / "spectra.npy"), mmap_mode="r", allow_pickle=False)
            conditions = {name: i for i, name in enumerate(self.grid["conditions"])}
            self.condition = self.index["condition"].map(conditions).to_numpy(np.int64)
            if not np.array_equal(self.index["row"], np.arange(len(self.index))):
                raise ValueError("index.tsv: rows are not 0, 1, 2, ...")
        except (KeyError, ValueError) as error:
            raise InputError(f"{folder}: not a training set ({error}); assemble it again") from None
        expected = (len(self.index), len(self.grid["ppm"]))
        if self.spectra.shape != expected or self.spectra.dtype != np.complex64:
            raise InputError(
                f"{self.folder / 'spectra.npy'}: {self.spectra.dtype} {self.spectra.shape}, expected complex64 "
                f"{expected} as in index.tsv and grid.json; assemble it again"
            )

    def rows(self, split: str) -> np.ndarray:
        """Return the rows of a split, increasing."""
        return self.index.loc[self.index["split"] == split, "row"].to_numpy(np.int64)

    def batches(self, rows: np.ndarray, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Yield spectra (batch, 2, W) and condition indices (batch,) of `rows`, in their order."""
        import torch

        from mrs_synthesis.vae import to_channels

        for start in range(0, len(rows), size):
            chosen = rows[start : start + size]
            yield to_channels(self.spectra[chosen]), torch.from_numpy(self.condition[chosen])

    def counts(self) -> dict[str, dict[str, int]]:
        """Return numbers of subjects, units, transients and spectra of each split."""
        result = {}
        for split in ("train", "validation", "test"):
            part = self.index[self.index["split"] == split]
            result[split] = {
                "subjects": int(part["subject"].nunique()),
                "units": int(part["unit"].nunique()),
                "transients": len(part[["unit", "transient"]].drop_duplicates()),
                "spectra": len(part),
            }
        return result

    def hashes(self) -> dict[str, str]:
        """Return the SHA-256 of the training set's files."""
        return {name: sha256(self.folder / name) for name in ("grid.json", "index.tsv", "spectra.npy")}


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


def describe_codes(model: SpectrumVAE, data: TrainingSet, rows: np.ndarray, size: int = 1024) -> None:
    """Set the Gaussian of the training codes (posterior means) of each condition; for ``plain`` also the measured SD.

    The SD of the rest, data minus decoded code, stands in for the SD that such a decoder does not learn.
    """
    import torch

    codes, conditions, squares = [], [], 0.0
    for x, condition in data.batches(rows, size):
        mean, _ = model.encode(x, condition)
        codes.append(mean.numpy().astype(float))
        conditions.append(condition.numpy())
        squares += float((x - model.decode(mean, condition)).double().square().sum())
    all_codes, all_conditions = np.concatenate(codes), np.concatenate(conditions)
    for c in range(model.conditions):
        part = all_codes[all_conditions == c]
        centred = part - part.mean(axis=0)
        model.code_mean[c] = torch.from_numpy(part.mean(axis=0))
        model.code_covariance[c] = torch.from_numpy(centred.T @ centred / max(1, len(part) - 1))
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
    step: Any = None,
) -> tuple[float, float, float]:
    """Go once through `rows`; `sd` is the known noise of all rows, `step(reconstruction, kl, done)` updates weights.

    Returns
    -------
    tuple
        Mean loss (with the full weight of the KL), reconstruction and KL.
    """
    import torch

    from mrs_synthesis.vae import kl_divergence

    sums = torch.zeros(2, dtype=torch.float64, device=device)
    done = 0
    for x, condition in data.batches(rows, options.batch_size):
        # The noise is drawn on the CPU, so that it does not depend on the device.
        draws = torch.randn(len(x), model.latent_size, generator=noise)
        x, condition, draws = x.to(device), condition.to(device), draws.to(device)
        with torch.autocast(device, torch.bfloat16, enabled=options.amp):
            output, mean, log_variance = model(x, condition, draws)
        known = None if sd is None else torch.from_numpy(sd[rows[done : done + len(x)]]).to(device)
        reconstruction = model.reconstruction_loss(x, output.float(), known)
        kl = kl_divergence(mean.float(), log_variance.float())
        done += len(x)
        if step is not None:
            step(reconstruction, kl, done)
        sums += torch.stack([reconstruction.detach(), kl.detach()]).double() * len(x)
    reconstruction_sum, kl_sum = (sums / done).tolist()
    return reconstruction_sum + options.beta * kl_sum, reconstruction_sum, kl_sum


def fit(
    data: TrainingSet, output: Path, options: Options, device: str, checkpoint_seconds: float
) -> tuple[SpectrumVAE, list[list[float]], int]:
    """Train; return the model with its best weights on the CPU, the history of losses, and the best epoch.

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

    state: dict[str, Any] = {"fingerprint": fingerprint, "history": [], "best_epoch": 0, "finished": False}
    best = {}
    folder = Path(output) / "checkpoint"
    resumed = read_checkpoint(folder, fingerprint, model, optimiser, noise)
    if resumed is not None:
        state, best = resumed
        print(f"resumed after epoch {len(state['history'])}", flush=True)

    first, begun, written = len(state["history"]), time.monotonic(), time.monotonic()
    while not state["finished"]:
        epoch = len(state["history"])

        def step(reconstruction: torch.Tensor, kl: torch.Tensor, done: int, epoch: int = epoch) -> None:
            progress = (epoch + done / len(train_rows)) / options.epochs
            loss = reconstruction + options.beta * min(1.0, progress / WARM_UP) * kl
            for group in optimiser.param_groups:
                group["lr"] = options.learning_rate * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))
            optimiser.zero_grad(set_to_none=True)
            loss.backward()
            optimiser.step()

        order = seeds.generator(options.seed, "train", "order", epoch).permutation(len(train_rows))
        model.train()
        train = _epoch(model, data, train_rows[order], options, noise, device, sd, step)
        model.eval()
        with torch.no_grad():
            fixed = torch.Generator().manual_seed(validation_seed)
            validation = _epoch(model, data, validation_rows, options, fixed, device, sd)
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
        if state["finished"] or now - written >= checkpoint_seconds:
            write_checkpoint(folder, state, model, best, optimiser, noise)
            written = now
    model.load_state_dict(best)
    model.to("cpu").eval()
    with torch.no_grad():
        describe_codes(model, data, train_rows)
    return model, state["history"], state["best_epoch"]


def train(
    training: Path, output: Path, options: Options, *, device: str, threads: int, checkpoint_seconds: float
) -> None:
    """Train on the folder `training`; write weights, config, model card and losses into the folder `output`.

    Raises
    ------
    InputError
        If the training set is incomplete, or the device is not there.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on a GPU
    import torch

    from mrs_synthesis.modelcard import LOSS_COLUMNS, write_card, write_losses
    from mrs_synthesis.vae import architecture, save_model

    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(True)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    elif device == "cuda" and not torch.cuda.is_available():
        raise InputError("--device cuda: torch sees no GPU; use --device cpu or auto")
    data = TrainingSet(training)
    model, history, best_epoch = fit(data, output, options, device, checkpoint_seconds)
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    config = {
        "architecture": architecture(model, options.channels, options.kernel),
        "grid": data.grid,
        "normalisation": "divided by max |mean edit-OFF or unedited spectrum| in 1.8-3.4 ppm of the subject",
        "training": {
            "options": asdict(options),
            "device": device,
            "threads": threads,
            "data_sha256": data.hashes(),
            "split_unit": data.grid["split_unit"],
            "counts": data.counts(),
            "sites": int(data.index.loc[data.index["split"] == "train", "site"].nunique(dropna=False)),
            "epochs_run": len(history),
            "best_epoch": best_epoch,
            "losses": dict(zip(LOSS_COLUMNS[1:], history[best_epoch - 1][1:], strict=True)),
            "torch": torch.__version__,
        },
        "note": "SYNTHETIC: what this model puts out is not measured",
    }
    config["training"]["losses"].pop("sigma")
    if options.likelihood == "known":
        config["training"]["residual_over_noise"] = {
            split: known_noise.residual_over_noise(model, data, data.rows(split)) for split in ("train", "validation")
        }
    write_losses(output, history, best_epoch)
    write_card(output, config, parameters, model.sigma)
    digest = save_model(output, model, config)
    print(f"{parameters} parameters, best epoch {best_epoch}, weights {digest[:12]}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.train", description=__doc__.splitlines()[0])
    d = Options(seed=0)
    parser.add_argument("--training", type=Path, required=True, help="folder of the assembled training set")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--latent-size", type=int, default=d.latent_size)
    parser.add_argument(
        "--channels", type=int, nargs="+", default=d.channels, help="each halves the width (default: 3)"
    )
    parser.add_argument("--kernel", type=int, default=d.kernel, help="odd length of the convolutions")
    parser.add_argument(
        "--likelihood",
        choices=LIKELIHOODS,
        default=d.likelihood,
        help="decoder SD: optimal at each batch, learned, 1 (plain squared error), or each transient's measured noise",
    )
    parser.add_argument("--beta", type=float, default=d.beta, help="weight of the KL divergence")
    parser.add_argument("--epochs", type=int, default=d.epochs)
    parser.add_argument("--batch-size", type=int, default=d.batch_size)
    parser.add_argument("--learning-rate", type=float, default=d.learning_rate)
    parser.add_argument("--patience", type=int, default=d.patience, help="epochs without a better validation loss")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; another number may change the last digits")
    parser.add_argument("--amp", action=argparse.BooleanOptionalAction, default=d.amp, help="bfloat16 where it is safe")
    parser.add_argument("--checkpoint-seconds", type=float, default=10.0, help="least time between two checkpoints")
    a = parser.parse_args(argv)
    for name in ("latent_size", "kernel", "epochs", "batch_size", "patience", "threads"):
        if getattr(a, name) < 1:
            raise InputError(f"--{name.replace('_', '-')} {getattr(a, name)}: expected at least 1")
    if a.kernel % 2 == 0 or min(a.channels) < 1 or a.learning_rate <= 0 or a.beta < 0:
        raise InputError("expected an odd --kernel, positive --channels and --learning-rate, and --beta of at least 0")
    options = Options(
        **{name: getattr(a, name) for name in asdict(d) if name != "channels"}, channels=tuple(a.channels)
    )
    more = {name: getattr(a, name) for name in ("device", "threads", "checkpoint_seconds")}
    train(a.training, a.output, options, **more)


if __name__ == "__main__":
    run(main)
