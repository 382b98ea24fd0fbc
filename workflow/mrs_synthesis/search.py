"""Search hyperparameters of the variational autoencoder on the validation subjects.

The configured settings and `trials` drawn ones are each trained with the same seed and the same few epochs. They are
compared by the negative evidence lower bound of the validation transients, reconstruction + KL in nats per transient:
the training's own loss with the KL's full weight, so that trials of different `beta` can be compared. All have one
likelihood, since without its constants a loss of another one is in other units. With the likelihood ``plain``, where
`beta` stands for the decoder's variance, `beta` is not drawn and the loss is that of training.

Test rows are not read: training sees a copy of the training set without them.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from mrs_synthesis import seeds
from mrs_synthesis.files import sha256, write_json, write_table
from mrs_synthesis.stage import InputError, run
from mrs_synthesis.training_set import TrainingSet, write_spectra
from mrs_synthesis.vae_training import Options, fit

CHOICES: dict[str, tuple] = {
    "latent_size": (4, 8, 16, 32),
    "channels": ((8, 16, 16), (16, 32, 32), (32, 64, 64), (16, 32, 64, 64)),
    "kernel": (5, 7, 11),
    "batch_size": (32, 64, 128),
}
RANGES = {"beta": (0.25, 4.0), "learning_rate": (5e-4, 1e-2)}  # uniform on a logarithmic scale
SETTINGS = (*CHOICES, *RANGES)
CONFIGURED = "configured"
ABOUT = "One set of hyperparameters, trained for a few epochs and compared on the validation subjects, best first"
COLUMNS: dict[str, dict[str, str]] = {
    "trial": {"Description": "configured, or the number of the drawn set"},
    "validation_loss": {
        "Description": "reconstruction + KL of the validation transients at the best epoch; with the likelihood plain "
        "the KL is weighted by beta",
        "Units": "nats per transient, without the likelihood's constant",
    },
    "difference": {
        "Description": "validation_loss less that of the configured set; negative: better",
        "Units": "nats per transient",
    },
    "reconstruction": {"Description": "Negative log likelihood of the validation transients", "Units": "nats"},
    "kl": {"Description": "KL divergence of the codes from the prior", "Units": "nats"},
    "best_epoch": {"Description": "Epoch of the smallest validation loss with the set's own beta, from 1"},
    "epochs": {"Description": "Epochs trained"},
    "parameters": {"Description": "Trained parameters"},
    "likelihood": {"Description": "Likelihood, the same for all; see the config"},
    "note": {"Description": "Why there is no loss"},
} | {name: {"Description": f"Key {name} of the config's section train"} for name in SETTINGS}


def draw(configured: Options, width: int, trial: int) -> Options:
    """Return the settings of a trial, 1, 2, ...; they depend on the seed and the trial's number only.

    `width` is the number of points of a spectrum, which the channels must be able to halve.
    """
    rng = seeds.generator(configured.seed, "search", trial)
    drawn: dict[str, Any] = {}
    for name, values in CHOICES.items():
        possible = [v for v in values if name != "channels" or width % 2 ** len(v) == 0]
        drawn[name] = possible[int(rng.integers(len(possible)))]
    for name, (low, high) in RANGES.items():
        value = math.exp(rng.uniform(math.log(low), math.log(high)))
        drawn[name] = float(f"{value:.2g}")  # as it stands in the table
    if configured.likelihood == "plain":
        drawn["beta"] = configured.beta
    return replace(configured, **drawn)


def without_test(data: TrainingSet, folder: Path) -> TrainingSet:
    """Copy the training and validation rows of a training set into `folder`."""
    index = data.index[data.index["split"].isin(["train", "validation"])]
    rows = index["row"].to_numpy()
    blocks = (data.spectra[rows[start : start + 4096]] for start in range(0, len(rows), 4096))
    digest = write_spectra(folder / "spectra.npy", len(rows), data.spectra.shape[1], blocks)
    write_json(folder / "grid.json", data.grid | {"spectra_sha256": digest})
    write_table(folder / "index.tsv", index.assign(row=np.arange(len(rows))))
    return TrainingSet(folder)


def run_trial(options: Options, data: TrainingSet, path: Path, temporary: Path, device: str) -> dict[str, Any]:
    """Return a trial's result, from `path` if it holds that of the same trial, else by training; write it there.

    A loss that becomes infinite is a result: the trial has no `validation_loss`.
    """
    from mrs_synthesis import vae, vae_training

    made_by = {
        "options": json.loads(json.dumps(asdict(options))),
        "data": data.hashes(),
        "code": {Path(module.__file__).name: sha256(module.__file__) for module in (vae, vae_training)},
        "device": device,
    }
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["made_by"] == made_by:
            return kept["result"]
    except (OSError, ValueError, KeyError, TypeError):
        pass
    result: dict[str, Any] = {}
    try:
        model, history, best = fit(data, temporary / path.stem, options, device, math.inf)
    except InputError as error:
        if "the loss is not finite" not in str(error):
            raise
        result["note"] = "the loss became infinite"
    else:
        reconstruction, kl = history[best - 1][5:7]
        weight = options.beta if options.likelihood == "plain" else 1.0
        result = {
            "validation_loss": reconstruction + weight * kl,
            "reconstruction": reconstruction,
            "kl": kl,
            "best_epoch": best,
            "epochs": len(history),
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        }
    write_json(path, {"made_by": made_by, "result": result})
    return result


def search(
    training: Path, folder: Path, output: Path, configured: Options, trials: int, device: str, threads: int
) -> None:
    """Run all trials, write the table `output` and print the section `train` of the best one.

    Raises
    ------
    InputError
        If the training set is incomplete or no trial has a finite loss.
    """
    import pandas as pd
    import torch

    from mrs_synthesis.dictionary import write_described_table

    torch.set_num_threads(threads)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    rows = []
    with tempfile.TemporaryDirectory() as name:
        data = without_test(TrainingSet(training), Path(name) / "training")
        for trial in range(trials + 1):
            options = draw(configured, data.spectra.shape[1], trial) if trial else configured
            label = f"{trial:02d}" if trial else CONFIGURED
            settings = {key: asdict(options)[key] for key in SETTINGS}
            print(f"trial {trial} of {trials}: {settings if trial else CONFIGURED}", flush=True)
            result = run_trial(options, data, folder / f"trial-{label}.json", Path(name), device)
            settings["channels"] = " ".join(map(str, options.channels))
            rows.append({"trial": str(trial) if trial else CONFIGURED} | result | settings)
    table = pd.DataFrame(rows).assign(likelihood=configured.likelihood)
    table = table.reindex(columns=[*(c for c in COLUMNS if c not in SETTINGS), *SETTINGS])
    if table["validation_loss"].isna().all():
        raise InputError(f"{training}: no trial has a finite loss; check the preprocessing")
    table["difference"] = table["validation_loss"] - table["validation_loss"].iloc[0]
    table = table.sort_values("validation_loss", kind="stable", na_position="last")
    write_described_table(output, table, ABOUT, COLUMNS)
    best = table.iloc[0]
    print(f"best on the validation subjects: {best['trial']}, loss {best['validation_loss']:.2f}, configured ", end="")
    print(
        f"{best['validation_loss'] - best['difference']:.2f} nats per transient ({configured.likelihood}). To use it:"
    )
    print("train:")
    for key in SETTINGS:
        value = f"[{best[key].replace(' ', ', ')}]" if key == "channels" else f"{best[key]:g}"
        print(f"  {key}: {value}")
    print(f"  likelihood: {configured.likelihood}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.search", description=__doc__.splitlines()[0])
    parser.add_argument("--training", type=Path, required=True, help="folder of the assembled training set")
    parser.add_argument("--folder", type=Path, required=True, help="where results of finished trials are kept")
    parser.add_argument("--output", type=Path, required=True, help="table of all trials")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--trials", type=int, default=8, help="drawn settings, besides the configured one (default: 8)")
    parser.add_argument("--epochs", type=int, default=20, help="most epochs of a trial (default: 20)")
    d = Options(seed=0)
    for name in ("latent_size", "kernel", "batch_size", "patience"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=getattr(d, name))
    parser.add_argument("--channels", type=int, nargs="+", default=d.channels)
    parser.add_argument("--likelihood", choices=("analytic", "learned", "plain", "known"), default=d.likelihood)
    for name in ("beta", "learning_rate"):
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=getattr(d, name))
    parser.add_argument("--amp", action=argparse.BooleanOptionalAction, default=d.amp, help="bfloat16 where it is safe")
    parser.add_argument("--device", choices=("auto", "cpu", "cuda"), default="auto")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    a = parser.parse_args(argv)
    if min(a.trials, a.epochs, a.threads) < 1:
        raise InputError("--trials, --epochs, --threads: expected at least 1 of each")
    values = {name: getattr(a, name) for name in asdict(d)} | {"channels": tuple(a.channels)}
    search(a.training, a.folder, a.output, Options(**values), a.trials, a.device, a.threads)


if __name__ == "__main__":
    run(main)
