"""Synthetic spectra as training data: one small regressor, trained on real, on synthetic, or on both kinds of spectra.

The regressor, a convolutional network, predicts ratios to tCr from the average of n transients (`training_examples`).
It is the same for all training sources; real averages of the validation subjects decide when it stops. Sources:

real, synthetic, both
    averages of the training subjects; as many of as many new subjects, drawn by the generative model; the union.
real_augmented
    the training subjects once more, tenfold, by classical augmentation: fresh noise, shift, phase, broadening. What
    synthetic spectra are good for must be more than this.
synthetic_x10
    ten times as many synthetic subjects.
mean_only
    the mean label of the training subjects, whatever the spectrum: the floor.
fit
    no regressor, but the fit of the same averages.

Averages of the test subjects are those of the study's cells of real transients. Only the score knows the truth.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import agreement, cells, estimates, generator, paired_errors, seeds, share_of_bound
from mrs_synthesis import training_examples as examples
from mrs_synthesis.agreement import Paired
from mrs_synthesis.regressor import Regressor, train
from mrs_synthesis.stage import InputError, SkippedError, require, run
from mrs_synthesis.training_examples import Examples, Unit

if TYPE_CHECKING:
    import pandas as pd

SOURCES = ("real", "synthetic", "both", "real_augmented", "synthetic_x10")
FLOOR, FIT = "mean_only", "fit"
SEEDS = 3
FEW = 30  # training subjects, below which the table says that they are few
LOW, HIGH = "Lower end of the 95 % bootstrap interval over test subjects", "Upper end of this interval"
PERCENT = {"Units": "percent"}
AGAINST = {"ratio_to_real": ("real", "verdict_real"), "ratio_to_augmented": ("real_augmented", "verdict_augmented")}
DESCRIPTIONS = {
    "metric": {"Description": "What value is"},
    "n_transients": {"Description": "Transients per edit condition in an average, of training and test spectra alike"},
    "source": {
        "Description": "What the regressor was trained on",
        "Levels": {
            "real": "Averages of the training subjects, labelled by the fit of the mean of all their transients",
            "synthetic": "As many averages of as many subjects drawn by the generative model, labelled by the fit of "
            "their noise-free spectra",
            "both": "real and synthetic together",
            "real_augmented": "The training subjects with fresh noise, shift, phase and broadening, ten for each real",
            "synthetic_x10": "As synthetic, ten times as many subjects",
            FLOOR: "No regressor: the mean label of the training subjects for everybody",
            FIT: "No regressor: linear-combination fit of the same test averages",
        },
    },
    "n_train_subjects": {"Description": "Subjects, real and synthetic, that were trained on"},
    "n_train": {"Description": "Spectra that were trained on"},
    "value": {
        "Description": "Root mean square difference of single predictions from the truth (real studies: from the fit "
        "of the subject's reference transients), mean over seeds of the regressor",
        **PERCENT,
    },
    "ci_low": {"Description": LOW, **PERCENT},
    "ci_high": {"Description": HIGH, **PERCENT},
    "floor": {"Description": f"value of {FLOOR}: no spectrum is needed for it", **PERCENT},
    "seed_sd": {"Description": "SD of value between seeds of the regressor", **PERCENT},
    "ratio_to_real": {"Description": "value over that of the source real; below 1: better"},
    "ratio_to_augmented": {"Description": "value over that of the source real_augmented"},
    "bias_percent": {
        "Description": "Mean difference from the truth; labels are fits and bring the fit's own",
        **PERCENT,
    },
    "rmse_debiased_percent": {"Description": "value without the mean difference over subjects", **PERCENT},
    "slope": {"Description": "Least-squares slope over subjects of the prediction on the truth; 0: the mean for all"},
    "slope_seed_sd": {"Description": "SD of slope between seeds"},
    "correlation": {"Description": "Correlation over subjects of the prediction (mean over averages) with the truth"},
    "correlation_seed_sd": {"Description": "SD of correlation between seeds"},
    "n": {"Description": "Test subjects"},
    "n_replicates": {"Description": "Test averages that have a prediction"},
}
for _name in ("ratio_to_real", "ratio_to_augmented", "slope", "correlation"):
    DESCRIPTIONS |= {f"{_name}_ci_low": {"Description": LOW}, f"{_name}_ci_high": {"Description": HIGH}}
for _name, (_source, _verdict) in AGAINST.items():
    DESCRIPTIONS[_verdict] = {"Description": f"Against the source {_source}, by the interval of {_name}"}
COLUMNS = (
    *("metric", "condition", "metabolite", "n_transients", "source", "n_train_subjects", "n_train"),
    *("value", "ci_low", "ci_high", "floor", "seed_sd"),
    *("ratio_to_real", "ratio_to_real_ci_low", "ratio_to_real_ci_high", "verdict_real"),
    *("ratio_to_augmented", "ratio_to_augmented_ci_low", "ratio_to_augmented_ci_high", "verdict_augmented"),
    *("bias_percent", "rmse_debiased_percent", "slope", "slope_ci_low", "slope_ci_high", "slope_seed_sd"),
    *("correlation", "correlation_ci_low", "correlation_ci_high", "correlation_seed_sd", "n", "n_replicates"),
)


@dataclass(frozen=True)
class Known:
    """All that regressors may learn from: nothing here comes from a test subject.

    Attributes
    ----------
    training, validation
        Scans.
    labels, validation_labels
        Their fitted ratios, (units, ratios).
    drawn, drawn_labels
        Subjects drawn by the generative model, and their fitted ratios, (units, FOLD, ratios).
    ppm
        Of the window.
    """

    training: list[Unit]
    validation: list[Unit]
    labels: np.ndarray
    validation_labels: np.ndarray
    drawn: examples.Drawn
    drawn_labels: np.ndarray
    ppm: np.ndarray

    def sets(self, n: int, seed: int) -> dict[str, Examples]:
        """Return the examples of each source."""
        real = examples.real_averages(self.training, self.labels, self.ppm, n, seed)
        drawn = (self.training, self.drawn, self.drawn_labels, self.ppm, n, seed)
        synthetic = examples.synthetic_averages(*drawn, 1)
        return {
            "real": real,
            "synthetic": synthetic,
            "both": real + synthetic,
            "real_augmented": examples.augmented_averages(self.training, self.labels, self.ppm, n, seed),
            "synthetic_x10": examples.synthetic_averages(*drawn, examples.FOLD),
        }


def learn(known: Known, n: int, n_seeds: int, seed: int) -> tuple[dict[str, list[Regressor]], dict[str, Examples]]:
    """Train `n_seeds` regressors on each source of averages of `n`; return them, and what they were trained on."""
    validation = examples.real_averages(known.validation, known.validation_labels, known.ppm, n, seed)
    sets, found = known.sets(n, seed), {}
    for source, part in sets.items():
        found[source] = [train(part, validation, seed, source, n, i) for i in range(n_seeds)]
        steps = " ".join(str(one.steps) for one in found[source])
        print(f"{n} transients, {source}: {len(part.labels)} spectra, best after {steps} steps", flush=True)
    return found, sets


def correlation(pairs: Paired, weights: np.ndarray) -> np.ndarray:
    """Return the correlation of the estimate (mean over replicates) with the reference, per row of `weights`."""
    x, y = pairs.reference, agreement.row_mean(pairs.estimate)
    total = np.maximum(weights.sum(axis=1), 1e-12)
    x, y = (v - (weights @ v / total)[:, None] for v in (x, y))
    products = [(weights * a * b).sum(axis=1) / total for a, b in ((x, y), (x, x), (y, y))]
    size = np.sqrt(products[1] * products[2])
    varied = (products[1] > 0) & (products[2] > 1e-12 * np.square(np.mean(np.abs(pairs.estimate))))
    return np.divide(products[0], size, out=np.full(size.shape, np.nan), where=varied)


def scores(
    predictions: Mapping[str, np.ndarray], reference: np.ndarray, subject: np.ndarray, drawn: np.ndarray
) -> dict[str, dict]:
    """Return the table's numbers of one ratio by source.

    Parameters
    ----------
    predictions
        Of each source (seeds, units, replicates); NaN where missing.
    reference, subject
        Truth and number of the subject of each unit, (units,).
    drawn
        Bootstrap weights of the subjects.
    """
    series: dict[str, dict[str, np.ndarray]] = {}
    table: dict[str, dict] = {}
    for source, values in predictions.items():
        found: dict[str, list[np.ndarray]] = {}
        for one in values:
            pairs = Paired(one, reference, subject, drawn.shape[1])
            own = pairs.usable()
            weights = np.concatenate([np.ones((1, own.reference.size)), drawn[:, own.subject]])
            flat = np.full(len(weights), np.nan)
            few = np.unique(own.subject).size < agreement.FEWEST
            found.setdefault("value", []).append(paired_errors.errors(pairs, drawn))
            found.setdefault("rmse_debiased_percent", []).append(paired_errors.errors(pairs, drawn, True))
            found.setdefault("bias_percent", []).append(agreement.bias(own, weights) if own.reference.size else flat)
            found.setdefault("slope", []).append(flat if few else agreement.slope(own, weights))
            found.setdefault("correlation", []).append(flat if few else correlation(own, weights))
        n = int(np.unique(own.subject).size)
        series[source] = {name: np.mean(parts, axis=0) for name, parts in found.items()}
        row = {"n": n, "n_replicates": int(np.isfinite(values[0]).sum())}
        for name, parts in series[source].items():
            row[name], low, high = paired_errors.with_interval(parts, n)
            if name in ("value", "slope", "correlation"):
                prefix = "" if name == "value" else f"{name}_"
                row |= {f"{prefix}ci_low": low, f"{prefix}ci_high": high}
                if len(values) > 1:
                    row[f"{prefix}seed_sd"] = float(np.std([part[0] for part in found[name]], ddof=1))
        table[source] = row
    for source, row in table.items():
        row["floor"] = table[FLOOR]["value"] if FLOOR in table else np.nan
        for name, (other, verdict) in AGAINST.items():
            if other in (source, None) or other not in table:
                continue
            with np.errstate(divide="ignore", invalid="ignore"):
                ratio = series[source]["value"] / series[other]["value"]
            row[name], low, high = paired_errors.with_interval(ratio, row["n"])
            row |= {f"{name}_ci_low": low, f"{name}_ci_high": high}
            better, worse = high < 1 - share_of_bound.EQUAL, low > 1 + share_of_bound.EQUAL
            words = (share_of_bound.BETTER, share_of_bound.WORSE, share_of_bound.ALIKE)
            row[verdict] = words[0] if better else words[1] if worse else words[2]
    return table


def true_ratios(units: pd.DataFrame, truth: pd.DataFrame, ratios: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the phantom's true ratios to tCr of the units, (units, ratios); NaN where unknown."""
    import pandas as pd

    asked = [units.assign(condition=c, metabolite=m, ratio=i) for i, (c, m) in enumerate(ratios)]
    known = estimates.with_truth(pd.concat(asked), ratios, truth)
    wide = known.pivot(index="unit", columns="ratio", values="reference")
    return wide.reindex(index=units["unit"], columns=range(len(ratios))).to_numpy(float)


def compare(
    known: Known,
    tested: examples.Tested,
    reference: np.ndarray,
    ratios: Sequence[tuple[str, str]],
    *,
    n_seeds: int,
    n_resamples: int,
    seed: int,
) -> pd.DataFrame:
    """Train on all sources, predict the test averages, and return the table.

    Parameters
    ----------
    known, tested
        What may be learnt from, and what is predicted.
    reference
        True (or reference) ratios of the test units, (units, ratios).
    ratios
        (condition, metabolite) pairs.
    n_seeds, n_resamples, seed
        Regressors of each source, bootstrap resamples, the study's seed.
    """
    import pandas as pd

    numbers = {name: i for i, name in enumerate(sorted(set(tested.units["subject"])))}
    subject = tested.units["subject"].map(numbers).to_numpy()
    drawn = agreement.resample(len(numbers), n_resamples, seeds.generator(seed, "training_use", "subjects"))
    rows = []
    for n, spectra in tested.spectra.items():
        found, sets = learn(known, n, n_seeds, seed)
        present = np.isfinite(spectra).all(axis=(2, 3))
        predicted = {}
        for source, regressors in found.items():
            values = np.full((len(regressors), *present.shape, len(ratios)), np.nan)
            for own, one in zip(values, regressors, strict=True):
                own[present] = one.predict(spectra[present])
            predicted[source] = values
        mean = np.nanmean(sets["real"].labels, axis=0)
        predicted[FLOOR] = np.where(present[..., None], mean, np.nan)[None]
        predicted[FIT] = tested.fitted[n][None]
        for i, (condition, metabolite) in enumerate(ratios):
            table = scores({s: v[..., i] for s, v in predicted.items()}, reference[:, i], subject, drawn)
            for source, row in table.items():
                own = sets.get(source, sets["real"] if source == FLOOR else None)
                trained = {"n_train_subjects": len(np.unique(own.subject)), "n_train": len(own.labels)} if own else {}
                metric = f"RMS error of {condition}:{metabolite}/tCr from {n} transients / percent"
                names = {"metric": metric, "condition": condition, "metabolite": metabolite, "n_transients": n}
                rows.append(names | {"source": source} | trained | row)
    table = pd.DataFrame(rows).reindex(columns=list(COLUMNS))
    return table.astype({"n_train_subjects": "Int64", "n_train": "Int64"})


def read_known(
    units: pd.DataFrame, index: pd.DataFrame, asked: Sequence[tuple[str, str]], a: argparse.Namespace, grid: dict
) -> tuple[Known, list[tuple[str, str]]]:
    """Return what may be learnt from, with the fits that label it, and the ratios that could be fitted."""
    training, validation = (
        list(examples.read_units(units, index, a.derivatives, grid, split)) for split in ("train", "validation")
    )
    if len(training) < 2 or not validation:
        raise InputError(
            f"{a.training / 'index.tsv'}: {len(training)} training and {len(validation)} validation scans, expected at "
            "least 2 and 1; assign subjects to these splits"
        )
    ppm, wanted = np.asarray(grid["ppm"]), [":".join(pair) for pair in asked]
    drawn = examples.draw(a.model, training, a.prior, a.seed)
    own = examples.fit_ratios([(u.scan, u.mean_fid) for u in [*training, *validation]], a.quantify, wanted)
    ratios = [pair for pair in asked if pair in own]
    if not ratios:
        raise InputError(f"--ratios: none of {' '.join(wanted)} was fitted; name fitted ones")
    made = examples.ratios_of(examples.fit_ratios(drawn.fids(training, ppm), a.quantify, wanted), ratios)
    labels = examples.ratios_of(own, ratios)
    parts = (labels[: len(training)], labels[len(training) :], drawn, made.reshape(len(training), -1, len(ratios)))
    return Known(training, validation, *parts, ppm), ratios


def main(argv: Sequence[str] | None = None) -> None:
    """Train one small regressor of ratios to tCr on real, on synthetic and on both kinds of spectra, and compare."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.training_use", description=main.__doc__)
    parser.add_argument("--units", type=Path, required=True, help="table of scans")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder of the preprocessed scans")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set (for the splits)")
    parser.add_argument("--heldout", type=Path, required=True, help="folder of the held-out set")
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained generative model")
    parser.add_argument("--prior", choices=("standard", "fitted"), default="standard", help="of the model paper")
    parser.add_argument("--truth", type=Path, help="phantom: true ratios; else the reference transients' fits count")
    parser.add_argument("--ratios", nargs="+", required=True, help="CONDITION:METABOLITE, e.g. DIFF:GABA+")
    parser.add_argument("--n-real", type=int, nargs="+", required=True, help="transients of an average")
    parser.add_argument("--n-total", type=int, nargs="+", required=True, help="the study's, for its plan of cells")
    parser.add_argument("--count", choices=cells.COUNTS, default="per_condition", help="what these two count")
    parser.add_argument("--replicates", type=int, default=4, help="averages of a test scan (default: 4)")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="regressors of each source (default: %(default)s)")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the confidence intervals")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="table (TSV)")
    parser.add_argument(
        "--quantify", nargs=argparse.REMAINDER, default=[], help="all that follows: flags of quantify, --basis at least"
    )
    a = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table
    from mrs_synthesis.training_set import read_index

    asked = [tuple(text.split(":")) for text in dict.fromkeys(a.ratios)]
    if any(len(pair) != 2 or not all(pair) for pair in asked):
        raise InputError(f"--ratios {' '.join(a.ratios)}: expected CONDITION:METABOLITE each, e.g. DIFF:GABA+")
    if a.seeds < 1:
        raise InputError(f"--seeds {a.seeds}: expected 1 or more")
    grid = generator.read_config(a.model, a.training)["grid"]
    try:
        units = read_table(require(a.units), ("unit", "folder", "subject", "site"))
        index = read_index(a.training, a.heldout, ("unit", "transient", "split"))
        truth = None if a.truth is None else read_table(require(a.truth), ("subject", "metabolite", "per_tcr"))
    except (SkippedError, ValueError) as error:
        raise InputError(str(error)) from None
    pairs = cells.amounts(a.n_real, a.n_total, a.count, len(grid["conditions"]))
    known, ratios = read_known(units, index, asked, a, grid)
    held_out = examples.read_units(units, index, a.derivatives, grid, "test", compact=False)
    tested = examples.read_tests(held_out, pairs, a.replicates, ratios, known.ppm, a.quantify, a.seed)
    reference = tested.reference if truth is None else true_ratios(tested.units, truth, ratios)
    if not np.isfinite(reference).any():
        raise InputError(f"{a.truth or a.derivatives}: no test subject has a value to compare with; check the names")
    sizes = {"n_seeds": a.seeds, "n_resamples": a.bootstrap, "seed": a.seed}
    table = compare(known, tested, reference, ratios, **sizes)
    few = f": few, so read the intervals, and {FLOOR} first" if len(known.training) < FEW else ""
    about = (
        "One ratio to tCr, predicted by one regressor that was trained on one source of spectra; "
        f"{len(known.training)} real training scans{few}; {a.seeds} seeds of the regressor"
    )
    write_described_table(a.output, table, about, DESCRIPTIONS)
    for row in table.to_dict("records"):
        spread = "" if np.isnan(row["seed_sd"]) else f", SD between seeds {row['seed_sd']:.1f}"
        print(
            f"{row['condition']}:{row['metabolite']}/tCr, {row['n_transients']} transients, {row['source']}: "
            f"{row['value']:.1f} % ({row['ci_low']:.1f} to {row['ci_high']:.1f}{spread}), slope {row['slope']:.2f}",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
