"""What is written for people beside trained weights: the model card, and the table and plot of the losses."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrs_synthesis.files import write_text, write_whole

LOSS_COLUMNS = (
    "epoch",
    "train_loss",
    "train_reconstruction",
    "train_kl",
    "validation_loss",
    "validation_reconstruction",
    "validation_kl",
    "sigma",
)

CARD = """---
library_name: pytorch
pipeline_tag: other
tags:
- magnetic-resonance-spectroscopy
- variational-autoencoder
- synthetic-data
---

# Variational autoencoder for magnetic resonance spectra

**Everything that this model puts out is SYNTHETIC.** Its spectra are not measurements, carry no information on a
patient beyond the transients that they were made from, and must not be used for diagnosis. Keep the word SYNTHETIC
with every file, figure and number that derives from them.

## What it is

A convolutional VAE for single transients: {width} complex points from {low:.2f} to {high:.2f} ppm, {latent_size} latent
dimensions, conditioned on the edit condition ({conditions}), {parameters} trained parameters. Decoder likelihood:
{likelihood}; weight of the KL divergence: {beta:g}; decoder SD: {sigma:.4g} of the subject's largest peak between 1.8
and 3.4 ppm (edit-OFF or unedited mean), by which all spectra are divided.{known}

## What it was trained on

| split (by {split_unit}) | subjects | scans | transients per edit condition | spectra |
|---|---|---|---|---|
{counts}

Sites: {sites}.{within}

## How it was trained

Adam, learning rate {learning_rate:g} falling to 0 on a cosine, batches of {batch_size}, at most {epochs} epochs, ended
after {patience} without a better validation loss. {epochs_run} epochs were run; the weights are those of epoch
{best_epoch}. Seed {seed}. Losses (nats per spectrum, without the constant of the likelihood) at that epoch:

| | loss | reconstruction | KL |
|---|---|---|---|
| train | {train_loss:.2f} | {train_reconstruction:.2f} | {train_kl:.2f} |
| validation | {validation_loss:.2f} | {validation_reconstruction:.2f} | {validation_kl:.2f} |

![losses](losses.svg)

## Limits

- The decoder's mean is smoother than a transient: it has no noise. Averages of it look better than they are; added
  noise (the decoder `sampled`) restores the look, not the information.
- Signals that the code does not hold are replaced by the population's. Residual water and other signals that change
  from one transient to the next are reproduced worst.
{missed}- It knows only the sites, sequences and editing that it was trained on.

## Use

`python -m mrs_synthesis.synthesise --help`, or `mrs_synthesis.vae.load_model(folder)`. `config.json` holds the
architecture, the ppm grid, the normalisation and the SHA-256 of `model.safetensors`. `density.npz` holds the Gaussian
mixture of the training codes from which `--prior fitted` draws.
"""


KNOWN = """ This SD is not learned:
it is the noise measured on each transient, and the number its root mean square over the training set. The rest, data
minus decoded code, is {train:.3f} (train) and {validation:.3f} (validation) times the measured noise: above 1 by what
the code misses, below 1 where codes or weights hold noise."""
MISSED = """\
- The decoder `sampled` adds measured noise and nothing else: what the code misses of residual water, frequency, phase
  and line shape is missing in it.
"""


SUBJECT_CARD = """---
library_name: numpy
pipeline_tag: other
tags:
- magnetic-resonance-spectroscopy
- synthetic-data
---

# Gaussian model of subjects' magnetic resonance spectra

**Everything that this model puts out is SYNTHETIC.** Its spectra are not measurements, carry no information on a
patient beyond the transients that they were made from, and must not be used for diagnosis. Keep the word SYNTHETIC
with every file, figure and number that derives from them.

## What it is

A subject's noise-free spectra ({conditions}; {width} complex points from {low:.2f} to {high:.2f} ppm) are the
population's mean plus a linear function of a normal code of {codes} numbers, {above} of which vary more between
subjects than the noise of a training subject's mean. The edit conditions share the code. A transient is that,
times a gain, plus white noise of the SD that was measured. Spectra are divided by the subject's largest peak between
1.8 and 3.4 ppm (edit-OFF or unedited mean).

## What it was fitted to

| split (by {split_unit}) | subjects | scans | transients per edit condition | spectra |
|---|---|---|---|---|
{counts}

Sites: {sites}.{within}

## How it was fitted

EM for the covariance of subjects under an inverse Wishart prior, a smooth local process. The validation subjects chose
that this prior counts for {strength}. Between sites the code varies by {site_share:g} of its variance within them. Seed
{seed}.

![log likelihood](losses.svg)

## Limits

- Given n transients of a subject it says what these tell, and the population's mean where they tell nothing:
  concentrations are drawn towards the population, the more the fewer transients there are.
- Few training subjects mean that variations which they do not show are unknown, and taken from the smooth prior.
- What varies between the transients of one scan is not in it: noise, water, shifts and phases are added as measured.
- It knows only the sites, sequences and editing that it was fitted to.

## Use

`python -m mrs_synthesis.synthesise --help`, or `mrs_synthesis.subject_model.load(folder)`. `config.json` holds the ppm
grid, the normalisation and the SHA-256 of `model.safetensors`.
"""

TRIAL_COLUMNS = ("prior_strength", "train_log_likelihood", "validation_log_likelihood")


def _counts(training: dict[str, Any]) -> dict[str, str]:
    """Return the fields of a card that tell of the training set."""
    counts = "\n".join(
        f"| {name} | {c['subjects']} | {c['units']} | {c['transients']} | {c['spectra']} |"
        for name, c in training["counts"].items()
    )
    within = ""
    if training["split_unit"] == "transient":
        within = (
            " **The splits are within subjects:** the same people are in all of them, so results say nothing about "
            "people whom the model has not seen."
        )
    return {"counts": counts, "within": within, "split_unit": training["split_unit"], "sites": training["sites"]}


def write_subject_card(folder: Path, config: dict[str, Any]) -> None:
    """Write README.md for a model of subjects."""
    training, ppm = config["training"], config["grid"]["ppm"]
    strength = training["prior_strength"]
    text = SUBJECT_CARD.format(
        **_counts(training),
        conditions=", ".join(config["grid"]["conditions"]),
        width=len(ppm),
        low=ppm[0],
        high=ppm[-1],
        codes=training["codes"],
        above=training["codes_above_noise"],
        strength="nothing: there is no variation to be seen" if strength is None else f"{strength:g} subjects",
        site_share=training["site_share"],
        seed=training["options"]["seed"],
    )
    write_text(Path(folder) / "README.md", text)


def write_trials(folder: Path, trials: Sequence[Any]) -> None:
    """Write losses.csv and losses.svg of a model of subjects: log likelihood per number by the prior's strength."""
    rows = [[trial.strength, trial.train, trial.validation] for trial in trials]
    with write_whole(Path(folder) / "losses.csv") as temporary, open(temporary, "w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(TRIAL_COLUMNS)
        writer.writerows([f"{value:.8g}" for value in row] for row in rows)
    with _figure((4, 3)) as figure:
        axes = figure.subplots()
        for column, label in ((1, "train"), (2, "validation")):
            axes.plot([row[0] for row in rows], [row[column] for row in rows], "o-", label=label)
        if rows:
            axes.set_xscale("log")
            axes.legend(frameon=False)
        axes.set_xlabel("subjects that the prior counts for")
        axes.set_ylabel("log likelihood per number / nats")
        axes.spines[["top", "right"]].set_visible(False)
        with write_whole(Path(folder) / "losses.svg") as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})


@contextmanager
def _figure(size: tuple[float, float]) -> Iterator[Any]:
    """Give an empty figure; equal figures are saved to equal bytes."""
    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    with matplotlib.rc_context({"svg.hashsalt": "mrs-synthesis", "font.size": 9}):
        figure = Figure(figsize=size, layout="constrained")
        FigureCanvasSVG(figure)
        yield figure


def write_card(folder: Path, config: dict[str, Any], parameters: int, sigma: float) -> None:
    """Write README.md, a model card in the form of the Hugging Face hub, from the model's `config`."""
    training, options, ppm = config["training"], config["training"]["options"], config["grid"]["ppm"]
    known = options["likelihood"] == "known"
    text = CARD.format(
        known=KNOWN.format(**training["residual_over_noise"]) if known else "",
        missed=MISSED if known else "",
        width=len(ppm),
        low=ppm[0],
        high=ppm[-1],
        conditions=", ".join(config["grid"]["conditions"]),
        parameters=parameters,
        sigma=sigma,
        **_counts(training),
        epochs_run=training["epochs_run"],
        best_epoch=training["best_epoch"],
        **{k: options[k] for k in ("latent_size", "likelihood", "beta", "learning_rate", "batch_size", "epochs")},
        patience=options["patience"],
        seed=options["seed"],
        **training["losses"],
    )
    write_text(Path(folder) / "README.md", text)


def write_losses(folder: Path, history: Sequence[Sequence[float]], best_epoch: int) -> None:
    """Write losses.csv and losses.svg from rows in the order of `LOSS_COLUMNS`; equal rows give equal bytes."""
    with write_whole(Path(folder) / "losses.csv") as temporary, open(temporary, "w", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(LOSS_COLUMNS)
        writer.writerows([row[0], *(f"{value:.8g}" for value in row[1:])] for row in history)

    columns = dict(zip(LOSS_COLUMNS, zip(*history, strict=True), strict=True))
    with _figure((8, 3)) as figure:
        panels = (("loss", "loss / nats"), ("kl", "KL divergence / nats"), ("sigma", "decoder SD"))
        for axes, (name, label) in zip(figure.subplots(1, 3), panels, strict=True):
            if name == "sigma":
                axes.plot(columns["epoch"], columns[name], color="black")
            else:
                axes.plot(columns["epoch"], columns[f"train_{name}"], label="train")
                axes.plot(columns["epoch"], columns[f"validation_{name}"], label="validation")
                axes.legend(frameon=False)
            axes.axvline(best_epoch, color="grey", linewidth=0.8, linestyle=":")
            axes.set_xlabel("epoch")
            axes.set_ylabel(label)
            axes.spines[["top", "right"]].set_visible(False)
        with write_whole(Path(folder) / "losses.svg") as temporary:
            figure.savefig(temporary, format="svg", metadata={"Date": None})
