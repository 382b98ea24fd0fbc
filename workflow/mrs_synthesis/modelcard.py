"""What is written for people beside trained weights: the model card, and the table and plot of the losses."""

from __future__ import annotations

import csv
from collections.abc import Sequence
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
architecture, the ppm grid, the normalisation and the SHA-256 of `model.safetensors`.
"""


KNOWN = """ This SD is not learned:
it is the noise measured on each transient, and the number its root mean square over the training set. The rest, data
minus decoded code, is {train:.3f} (train) and {validation:.3f} (validation) times the measured noise: above 1 by what
the code misses, below 1 where codes or weights hold noise."""
MISSED = """\
- The decoder `sampled` adds measured noise and nothing else: what the code misses of residual water, frequency, phase
  and line shape is missing in it.
"""


def write_card(folder: Path, config: dict[str, Any], parameters: int, sigma: float) -> None:
    """Write README.md, a model card in the form of the Hugging Face hub, from the model's `config`."""
    training, options, ppm = config["training"], config["training"]["options"], config["grid"]["ppm"]
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
        counts=counts,
        within=within,
        split_unit=training["split_unit"],
        sites=training["sites"],
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

    import matplotlib
    from matplotlib.backends.backend_svg import FigureCanvasSVG
    from matplotlib.figure import Figure

    columns = dict(zip(LOSS_COLUMNS, zip(*history, strict=True), strict=True))
    with matplotlib.rc_context({"svg.hashsalt": "mrs-synthesis", "font.size": 9}):
        figure = Figure(figsize=(8, 3), layout="constrained")
        FigureCanvasSVG(figure)
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
