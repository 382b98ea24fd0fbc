"""Train the generative model: of single transients (`paper`, a variational autoencoder), or of subjects (`subject`)."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from mrs_synthesis import known_noise, processes
from mrs_synthesis.processes import ALONE, Group
from mrs_synthesis.stage import InputError, run
from mrs_synthesis.training_set import TrainingSet
from mrs_synthesis.vae_training import Options, fit

MODELS = ("paper", "subject")
LIKELIHOODS = ("analytic", "learned", "plain", "known")
OUTPUTS = ("model.safetensors", "config.json", "density.safetensors", "losses.csv", "losses.svg")  # of `paper`
# Modules that decide their bytes
CODE = (
    *("checkpoint", "files", "known_noise", "latent_density", "model_files", "modelcard", "processes", "seeds"),
    *("train", "training_set", "vae", "vae_training"),
)
NORMALISATION = "divided by max |mean edit-OFF or unedited spectrum| in 1.8-3.4 ppm of the subject"
NOTE = "SYNTHETIC: what this model puts out is not measured"


def train(
    training: Path,
    output: Path,
    options: Options,
    *,
    device: str,
    threads: int,
    checkpoint_seconds: float,
    group: Group = ALONE,
) -> None:
    """Train on the folder `training`; write weights, config and losses into the folder `output`.

    Raises
    ------
    InputError
        If the training set is incomplete.
    """
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # deterministic matrix products on a GPU
    import torch

    from mrs_synthesis import finished, latent_density
    from mrs_synthesis.modelcard import LOSS_COLUMNS, write_losses
    from mrs_synthesis.vae import architecture, save_model

    torch.set_num_threads(threads)
    if device == "cuda":  # what is used here is deterministic on a CPU; asking for it costs 2 s of imports
        torch.use_deterministic_algorithms(True)
    data = TrainingSet(training)
    checkpoint = Path(output) / "checkpoint"
    machine = {"device": device, "threads": threads, "processes": group.size, "torch": torch.__version__}
    key = finished.key_of({"options": asdict(options), "data": data.hashes(), "code": finished.code_of(CODE)} | machine)
    kept = finished.is_kept(checkpoint, key)
    if group.agree(int(kept), device) and kept:
        if group.first:
            finished.restore(checkpoint, output)
        print(
            "this training was finished before, with the same data, settings and code: its files are kept", flush=True
        )
        return
    model, history, best_epoch = fit(data, output, options, device, checkpoint_seconds, group)
    if not group.first:
        return
    parameters = sum(p.numel() for p in model.parameters() if p.requires_grad)
    config = {
        "model": "paper",
        "architecture": architecture(model, options.channels, options.kernel),
        "grid": data.grid,
        "normalisation": NORMALISATION,
        "training": {
            "options": asdict(options),
            "device": device,
            "threads": threads,
            "processes": group.size,
            **describe_data(data),
            "parameters": parameters,
            "sigma": model.sigma,
            "epochs_run": len(history),
            "best_epoch": best_epoch,
            "losses": dict(zip(LOSS_COLUMNS[1:], history[best_epoch - 1][1:], strict=True)),
            "torch": machine["torch"],
        },
        "note": NOTE,
    }
    config["training"]["losses"].pop("sigma")
    if options.likelihood == "known":
        config["training"]["residual_over_noise"] = {
            split: known_noise.residual_over_noise(model, data, data.rows(split)) for split in ("train", "validation")
        }
    write_losses(output, history, best_epoch)
    config |= latent_density.fit_to_model(model, data, output, options.seed)
    digest = save_model(output, model, config)
    finished.keep(checkpoint, output, OUTPUTS, key)
    print(f"{parameters} parameters, best epoch {best_epoch}, weights {digest[:12]}", flush=True)


def describe_data(data: TrainingSet) -> dict[str, Any]:
    """Return what a model's config says of its training set."""
    return {
        "data_sha256": data.hashes(),
        "split_unit": data.grid["split_unit"],
        "counts": data.counts(),
        "sites": int(data.index.loc[data.index["split"] == "train", "site"].nunique(dropna=False)),
    }


def train_subjects(training: Path, output: Path, seed: int, basis: Sequence[Path]) -> None:
    """Fit the model of subjects to the folder `training`; write the same files as `train`.

    Raises
    ------
    InputError
        If the training set is incomplete.
    """
    from mrs_synthesis import subject_fit, subject_model
    from mrs_synthesis.modelcard import write_trials

    data = TrainingSet(training)
    model, trials, facts = subject_fit.fit(data, seed, basis, output)
    config = {
        "model": "subject",
        "grid": data.grid,
        "normalisation": NORMALISATION,
        "training": {"options": {"seed": seed}, **describe_data(data), **facts},
        "note": NOTE,
    }
    write_trials(output, trials)
    digest = subject_model.save(output, model, config)
    print(f"{facts['codes']} codes, {facts['codes_above_noise']} above the noise, weights {digest[:12]}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.train", description=__doc__.splitlines()[0])
    d = Options(seed=0)
    parser.add_argument("--training", type=Path, required=True, help="folder of the assembled training set")
    parser.add_argument("--output", type=Path, required=True, help="folder of the model")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--model",
        choices=MODELS,
        default="subject",
        help="subject: a Gaussian model of subjects, which needs none of the options below; paper: a variational "
        "autoencoder of single transients (default: subject)",
    )
    parser.add_argument(
        "--patterns",
        type=Path,
        nargs="*",
        default=[],
        help="model subject: basis sets, whose metabolites' lines are then known to vary together (default: none)",
    )
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
    if a.model == "subject":
        if os.environ.get("RANK", "0") == "0":  # of several processes one is enough
            train_subjects(a.training, a.output, a.seed, a.patterns)
        return
    options = Options(
        **{name: getattr(a, name) for name in asdict(d) if name != "channels"}, channels=tuple(a.channels)
    )
    more = {name: getattr(a, name) for name in ("threads", "checkpoint_seconds")}
    with processes.group(a.device) as (group, device):
        train(a.training, a.output, options, device=device, group=group, **more)


if __name__ == "__main__":
    run(main)
