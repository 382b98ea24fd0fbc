"""From the paper-like model to the model of subjects, one element at a time: the tables `ablation`, `ablation_bias`.

Every variant of `VARIANTS` is the one before with one element changed, and fills up the study's smallest n_real. The
same replicates count for the variants, the null controls and the n_real real transients alone.

`ablation_signal` says what single transients are compared in. The row `real` is the ceiling: its noise compares two
halves of the held-out transients, its water and fidelity are those of the training subjects.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import ablation_signal, bias_tables, estimates, evaluate, seeds
from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.stage import InputError, require, run
from mrs_synthesis.training_set import read_index

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Variant:
    """A model and how it is used; fields after `added` are options of the stages train and synthesise."""

    name: str
    added: str
    model: str
    likelihood: str
    prior: str
    decoder: str
    patterns: bool = False

    @property
    def trained(self) -> str:
        """Name of the trained model, which variants share: the model of subjects has but one likelihood."""
        return self.likelihood if self.model == "paper" else self.model + "_patterns" * self.patterns


VARIANTS = (
    Variant("paper", "nothing: the paper-like model", "paper", "analytic", "standard", "mean"),
    Variant("known_noise", "measured noise in the likelihood", "paper", "known", "standard", "mean"),
    Variant("fitted_density", "codes of random from a fitted density", "paper", "known", "fitted", "mean"),
    Variant("noise_redrawn", "noise of the measured SD", "paper", "known", "fitted", "sampled"),
    Variant("nuisances_redrawn", "tracks and residual water", "paper", "known", "fitted", "acquired"),
    Variant("subject_pooling", "one code per subject, pooled", "subject", "known", "fitted", "acquired"),
    Variant(
        "metabolite_patterns", "lines of a metabolite vary together", "subject", "known", "fitted", "acquired", True
    ),
)
MODES = ("random", "interpolation")
MOST_REPLICATES = 2  # what comes as acquired is preprocessed again, transient by transient
CONTROL, REAL = "control", "real"
ROWS = {
    "variant": {
        "Description": "Each with one element more than the one before; control: none of them",
        "Levels": {variant.name: variant.added for variant in VARIANTS}
        | {CONTROL: "Real transients or a null control"},
    },
    "added": {"Description": "The element that the variant before lacks"},
    "source": {"Description": "Synthesis mode; real: real transients; or a null control"},
    "decoder": {
        "Description": "mean: free of noise; sampled: with noise; acquired: with residual water and tracks, too, and "
        "preprocessed again"
    },
}
BIAS_COLUMNS = (
    *("variant", "source", "decoder", "metabolite", "condition", "n_real", "n_total"),
    *("bias_percent", "bias_ci_low", "bias_ci_high", "tost_p", "rmse_percent", "slope", "slope_ci_low"),
    *("slope_ci_high", "sd_ratio", "n_eff", "n_eff_ci_low", "n_eff_ci_high", "n_eff_clipped", "n", "n_replicates"),
)


def variant_derivatives(folder: Path, variant: Variant) -> Path:
    """Return the folder of a variant's synthetic transients, cells and fits."""
    return Path(folder) / variant.name / variant.decoder.capitalize() / "derivatives"


def signal_table(
    units: Sequence[Mapping],
    training: Path,
    heldout: Path,
    derivatives: Path,
    folder: Path,
    n_resamples: int,
    seed: int,
    seconds: Mapping[str, float],
) -> pd.DataFrame:
    """Return the table of noise, water and fidelity, a row per variant and mode.

    Parameters
    ----------
    units
        Rows of units.tsv, those of training subjects included.
    training, heldout, derivatives, folder
        Folders of the training set, of the held-out set, of the study's preprocessed scans, and of the variants.
    n_resamples, seed
        Of the intervals and permutations.
    seconds
        Duration of the training of each model.
    """
    import pandas as pd

    ppm = np.asarray(json.loads(require(training / "grid.json").read_text())["ppm"])
    index = read_index(training, heldout, ("unit", "transient", "split", "scale"))
    tested, learned = (ablation_signal.read_real(units, index, derivatives, split) for split in ("test", "train"))
    table, pairs = [], []
    for variant in VARIANTS:
        for mode in MODES:
            own = variant_derivatives(folder, variant)
            pairs = ablation_signal.read_made(tested, derivatives, own, mode, variant.decoder)
            rng = seeds.generator(seed, "ablation", variant.name, mode)
            row = {"variant": variant.name, "added": variant.added, "source": mode, "decoder": variant.decoder}
            row |= {"training_s": seconds.get(variant.trained, np.nan)}
            table.append(row | ablation_signal.describe(pairs, ppm, rng, n_resamples))
    rng = seeds.generator(seed, "ablation", REAL)
    row = {"variant": CONTROL, "added": "n/a", "source": REAL, "decoder": "n/a"}
    table.append(row | ablation_signal.describe_real(pairs, learned, ppm, rng, n_resamples))
    return pd.DataFrame(table, columns=[*ROWS, *ablation_signal.DESCRIPTIONS])


def quantification_rows(
    study: pd.DataFrame,
    variants: Mapping[str, pd.DataFrame],
    ratios: Sequence[str],
    replicates: int,
    truth: pd.DataFrame | None,
) -> pd.DataFrame:
    """Return all estimates with their ``reference``; ``source`` of a variant's is its name, a colon, and the mode.

    Parameters
    ----------
    study
        The study's table of concentrations: real transients, and controls.
    variants
        That of each variant, of cells of one n_real and n_total.
    ratios
        Texts like ``DIFF:GABA+``.
    replicates
        So many of each n_real count.
    truth
        The phantom's; None: each study's own reference cells are what estimates are compared with.

    Raises
    ------
    InputError
        If the study has no cells of the variants' n_real and n_total.
    """
    import pandas as pd

    made = {name: part[part["source"].isin(MODES)] for name, part in variants.items()}
    amounts = {pair for part in made.values() for pair in zip(part["n_real"], part["n_total"], strict=True)}
    if len(amounts) != 1:
        raise InputError(f"cells of (n_real, n_total) {sorted(amounts)}, expected one pair; augment the variants again")
    ((few, total),) = amounts
    wanted = estimates.choose_ratios(ratios, study)

    def referred(part: pd.DataFrame) -> pd.DataFrame:
        return estimates.with_reference(part, wanted) if truth is None else estimates.with_truth(part, wanted, truth)

    controls = study["source"].isin(CONTROLS) & (study["n_real"] == few) & (study["n_total"] == total)
    real = study["source"] == REAL
    if not (real & (study["n_real"] == few)).any():
        raise InputError(f"concentrations: no cells of {few} real transients; run the study with the same config")
    further = (study["n_real"] == few) & (study["replicate"] >= replicates)
    kept = study.loc[(controls | real) & ~further, ["unit", "cell"]].drop_duplicates()
    rows = [referred(study).merge(kept, on=["unit", "cell"])]
    for name, part in variants.items():
        filled = referred(part)
        filled = filled[filled["source"].isin(MODES) & (filled["replicate"] < replicates)]
        rows.append(filled.assign(source=[f"{name}:{mode}" for mode in filled["source"]]))
    return pd.concat(rows, ignore_index=True)


def bias_rows(rows: pd.DataFrame, margin: float, n_resamples: int, seed: int) -> pd.DataFrame:
    """Return the table of bias, a row per variant or control, and ratio; `rows` of `quantification_rows`."""
    table = bias_tables.bias_table(rows, margin, n_resamples, seed)
    filled = rows[rows["source"] != REAL]
    sizes = {*filled["n_real"], *filled["n_total"]}
    table = table[(table["source"] != REAL) | table["n_real"].isin(sizes)]
    effective = bias_tables.effective_table(rows, n_resamples, seed)
    columns = [*estimates.SERIES, *(name for name in effective.columns if name.startswith("n_eff"))]
    table = table.merge(effective[columns], on=list(estimates.SERIES), how="left")
    parts = [source.partition(":") for source in table["source"]]
    table["variant"] = [name if mode else CONTROL for name, _, mode in parts]
    table["source"] = [mode or name for name, _, mode in parts]
    order = {name: place for place, name in enumerate([CONTROL, *(variant.name for variant in VARIANTS)])}
    ratio = table.groupby(["metabolite", "condition"], sort=False).ngroup()
    ranked = table.assign(_ratio=ratio, _variant=table["variant"].map(order))
    return ranked.sort_values(["_ratio", "_variant"], kind="stable", ignore_index=True)[list(BIAS_COLUMNS)]


def read_seconds(folder: Path | None) -> dict[str, float]:
    """Return the wall time of each training, from Snakemake's benchmarks in a folder; none without one."""
    from mrs_synthesis.files import read_table

    if folder is None:
        return {}
    trained = dict.fromkeys(variant.trained for variant in VARIANTS)
    return {name: float(read_table(require(folder / f"train_{name}.tsv"), ("s",))["s"].mean()) for name in trained}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.ablation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--heldout", type=Path, required=True, help="folder of the held-out set")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder of the study's preprocessed scans")
    parser.add_argument("--concentrations", type=Path, required=True, help="the study's: real transients, controls")
    parser.add_argument("--folder", type=Path, required=True, help="folder of the variants")
    parser.add_argument("--engine", choices=("batched", "fsl-mrs"), required=True, help="whose fits to read")
    parser.add_argument("--replicates", type=int, required=True, help="of the variants; so many controls count, too")
    parser.add_argument("--ratios", nargs="+", help="CONDITION:METABOLITE, e.g. DIFF:GABA+ (default: the usual ones)")
    parser.add_argument("--tost-margin-percent", type=float, default=10.0, help="margin of the equivalence test")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the confidence intervals")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--truth", type=Path, help="phantom only: the true ratios")
    parser.add_argument("--benchmarks", type=Path, help="folder of the trainings' benchmarks, train_<model>.tsv")
    parser.add_argument("--output", type=Path, required=True, help="table of noise, water and fidelity (TSV)")
    parser.add_argument("--bias", type=Path, required=True, help="table of bias and effective transients (TSV)")
    a = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.files import read_table

    try:
        every = read_table(require(a.units), ("unit", "folder", "subject", "site")).astype(object)
        study = read_table(require(a.concentrations), (*estimates.SERIES, "unit", "subject", "cell", "per_tcr"))
        truth = read_table(require(a.truth), ("subject", "metabolite", "per_tcr")) if a.truth else None
        seconds = read_seconds(a.benchmarks)
    except ValueError as error:
        raise InputError(str(error)) from None
    study = study.assign(decoder=study["decoder"].astype(object).where(study["decoder"].notna(), "n/a"))
    units, split_unit = evaluate.read_units(a.units, a.training)
    variants = {v.name: evaluate.collect(units, variant_derivatives(a.folder, v), a.engine)[0] for v in VARIANTS}
    rows = quantification_rows(study, variants, a.ratios, a.replicates, truth)
    scope = "; training and test transients are of the same subjects" if split_unit == "transient" else ""
    about = (
        f"One ratio to tCr from one variant or control, against {'the truth' if a.truth else 'the reference'}{scope}"
    )
    write_described_table(a.bias, bias_rows(rows, a.tost_margin_percent, a.bootstrap, a.seed), about, ROWS)
    listed = every.where(every.notna(), "n/a").to_dict("records")
    table = signal_table(listed, a.training, a.heldout, a.derivatives, a.folder, a.bootstrap, a.seed, seconds)
    about = f"Single synthetic transients of one variant beside held-out real ones{scope}"
    write_described_table(a.output, table, about, ROWS | ablation_signal.DESCRIPTIONS)


if __name__ == "__main__":
    run(main)
