"""What is written for people beside trained weights: the model card, and the table and plot of the losses.

The card is a stage of its own, since it says whether what the model puts out is a copy of what it was trained on.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mrs_synthesis.files import write_text, write_whole
from mrs_synthesis.stage import InputError, require, run

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

**Everything that this model puts out is SYNTHETIC.** Its spectra are not measurements, and must not be used for
diagnosis. What they tell of a person comes from the transients that they were made from and from the subjects that the
model was trained on. Keep the word SYNTHETIC with every file, figure and number that derives from them.

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

## Privacy

No header, name, day or file name is in these files: the weights are made of spectra and of the labels of sites and edit
conditions. They are still derived from the spectra of {people}, the more tellingly the fewer they
are, and the terms of those data hold for the weights and for what they make.

## Memorisation

{memorisation}

## Use

`python -m mrs_synthesis.synthesise --help`, or `mrs_synthesis.vae.load_model(folder)`. `config.json` holds the
architecture, the ppm grid, the normalisation and the SHA-256 of `model.safetensors`, {sha256}.
`density.safetensors` holds the Gaussian mixture of the training codes from which `--prior fitted` draws.
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

**Everything that this model puts out is SYNTHETIC.** Its spectra are not measurements, and must not be used for
diagnosis. What they tell of a person comes from the transients that they were made from and from the subjects that the
model was trained on. Keep the word SYNTHETIC with every file, figure and number that derives from them.

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

EM for the covariance of subjects under an inverse Wishart prior, a smooth local process. {patterns}
The validation subjects chose that this prior counts for {strength}. Between sites {between} of the codes differ. Seed
{seed}.

![log likelihood](losses.svg)

## Limits

- Given n transients of a subject it says what these tell, and the population's mean where they tell nothing:
  concentrations are drawn towards the population, the more the fewer transients there are.
- Few training subjects mean that variations which they do not show are unknown, and taken from the smooth prior.
- What varies between the transients of one scan is not in it: noise, water, shifts and phases are added as measured.
- It knows only the sites, sequences and editing that it was fitted to.

## Privacy

No header, name, day or file name is in these files: the weights are made of spectra and of the labels of sites and edit
conditions. They are still derived from the spectra of {people}, the more tellingly the fewer they
are, and the terms of those data hold for the weights and for what they make.

## Memorisation

{memorisation}

## Use

`python -m mrs_synthesis.synthesise --help`, or `mrs_synthesis.subject_model.load(folder)`. `config.json` holds the ppm
grid, the normalisation and the SHA-256 of `model.safetensors`, {sha256}.
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
    subjects = training["counts"]["train"]["subjects"]
    people = f"{subjects} training subject{'s' * (subjects != 1)}"
    own = {key: training[key] for key in ("split_unit", "sites")}
    return {"people": people, "counts": counts, "within": within} | own


def _subject_fields(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that only the card of a model of subjects has."""
    training = config["training"]
    strength, names = training["prior_strength"], training["metabolites"]
    added = f"To it, the lines of {len(names)} metabolites of a basis set are added: these were not learned."
    return {
        "patterns": added if names else "Nothing but the training subjects went into it.",
        "codes": training["codes"],
        "above": training["codes_above_noise"],
        "strength": "nothing: there is no variation to be seen" if strength is None else f"{strength:g} subjects",
        "between": training["codes_that_differ_between_sites"],
    }


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


def _paper_fields(config: dict[str, Any]) -> dict[str, Any]:
    """Return the fields that only the card of a VAE has."""
    training, options = config["training"], config["training"]["options"]
    known = options["likelihood"] == "known"
    named = ("latent_size", "likelihood", "beta", "learning_rate", "batch_size", "epochs", "patience")
    return {
        "known": KNOWN.format(**training["residual_over_noise"]) if known else "",
        "missed": MISSED if known else "",
        "parameters": training["parameters"],
        "sigma": training["sigma"],
        "epochs_run": training["epochs_run"],
        "best_epoch": training["best_epoch"],
        **{name: options[name] for name in named},
        **training["losses"],
    }


def memorisation(verdicts: dict[str, Any] | None) -> str:
    """Return what a card says of memorisation, from what the stage `memorisation` found."""
    if verdicts is None:
        return "Not tested: this study made no synthetic transients."
    lines = []
    for verdict in verdicts["verdicts"]:
        name = verdict["source"] + (f", decoder {verdict['decoder']}" if verdict["decoder"] else "")
        ratio = verdict["distance_ratio_window"]
        lines.append(f"- {name}: {verdict['sentence']} (median distance times {ratio:.3f}).")
    return (
        "Distances to the nearest training spectrum, beside those of held-out real spectra. The copiers are made to be "
        "found out; where one is not, the test says nothing.\n\n" + "\n".join(lines)
    )


def card(config: dict[str, Any], verdicts: dict[str, Any] | None) -> str:
    """Return a model card in the form of the Hugging Face hub.

    `config`: the model's config.json; `verdicts`: memorisation_verdicts.json, if the study has one.
    """
    ppm = config["grid"]["ppm"]
    template, fields = (
        (SUBJECT_CARD, _subject_fields(config)) if config["model"] == "subject" else (CARD, _paper_fields(config))
    )
    return template.format(
        **_counts(config["training"]),
        **fields,
        width=len(ppm),
        low=ppm[0],
        high=ppm[-1],
        conditions=", ".join(config["grid"]["conditions"]),
        seed=config["training"]["options"]["seed"],
        memorisation=memorisation(verdicts),
        sha256=config["weights_sha256"],
    )


def main(argv: Sequence[str] | None = None) -> None:
    """Write the model card."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.modelcard", description=main.__doc__)
    parser.add_argument("--config", type=Path, required=True, help="config.json of the model")
    parser.add_argument("--verdicts", type=Path, help="memorisation_verdicts.json; none: not tested")
    parser.add_argument("--output", type=Path, required=True, help="README.md")
    a = parser.parse_args(argv)
    contents = []
    for path in (a.config, a.verdicts):
        try:
            contents.append(json.loads(require(path).read_text(encoding="utf-8")) if path else None)
        except ValueError as error:
            raise InputError(f"{path}: not JSON ({error}); make it again") from None
    config, verdicts = contents
    if verdicts is not None and verdicts["model_sha256"] != [config["weights_sha256"]]:
        raise InputError(f"{a.verdicts}: about another model than {a.config}; run the stage memorisation again")
    try:
        text = card(config, verdicts)
    except KeyError as error:
        raise InputError(f"{a.config}: no {error}; train the model again") from None
    write_text(a.output, text)


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


if __name__ == "__main__":
    run(main)
