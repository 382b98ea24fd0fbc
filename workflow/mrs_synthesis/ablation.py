"""From the paper-like model to the model of subjects, one element at a time: the tables `ablation`, `ablation_bias`.

Every variant of `VARIANTS` is the one before with one element changed, and fills up the study's smallest n_real. The
same replicates count for the variants, the null controls and the real transients alone.

Single synthetic transients are those of each scan's first replicate; held-out real ones are those that no cell uses.
Synthetic transients as acquired are preprocessed again as real ones are: noise and fidelity are those of the aligned
transients, and for their water what preprocessing took is put back, to both. The row `real` is the ceiling: its noise
compares two halves of the held-out transients, its water and fidelity are those of the training subjects.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import augment, cells, evaluate, noise_table, seeds, two_sample, water_table
from mrs_synthesis.assemble import window_spectra
from mrs_synthesis.controls import CONTROLS
from mrs_synthesis.noise_statistics import Values, real_values, synthetic_values
from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.scans import Scan


@dataclass(frozen=True)
class Variant:
    """A model and how it is used; fields after `added` are options of the stages train and synthesise."""

    name: str
    added: str
    model: str
    likelihood: str
    prior: str
    decoder: str

    @property
    def trained(self) -> str:
        """Name of the trained model, which variants share: the model of subjects has but one likelihood."""
        return self.likelihood if self.model == "paper" else self.model


VARIANTS = (
    Variant("paper", "nothing: the paper-like model", "paper", "plain", "standard", "mean"),
    Variant("known_noise", "measured noise in the likelihood", "paper", "known", "standard", "mean"),
    Variant("fitted_density", "codes of random from a fitted density", "paper", "known", "fitted", "mean"),
    Variant("noise_redrawn", "noise of the measured SD", "paper", "known", "fitted", "sampled"),
    Variant("nuisances_redrawn", "tracks and residual water", "paper", "known", "fitted", "acquired"),
    Variant("subject_pooling", "one code per subject, pooled", "subject", "known", "fitted", "acquired"),
)
MODES = ("random", "interpolation")
MOST_REPLICATES = 2  # what comes as acquired is preprocessed again, transient by transient
CONTROL, REAL = "control", "real"
# Column: metric of the noise table
NOISE = {
    "noise_sd_ratio": "sd_ratio_window_late",
    "noise_averaging_slope": "averaging_slope_window",
    "noise_real_imaginary": "correlation_real_imaginary_fid",
}
WATER_P = ("amplitude", "phase", "shift")
LOW, HIGH = "Lower end of the 95 % bootstrap interval over subjects", "Upper end of this interval"
ROWS = {
    "variant": {
        "Description": "Each with one element more than the one before; control: none of them",
        "Levels": {variant.name: variant.added for variant in VARIANTS} | {CONTROL: "Real transients or a null control"},
    },
    "added": {"Description": "The element that the variant before lacks"},
    "source": {"Description": "Synthesis mode; real: real transients; or a null control"},
    "decoder": {
        "Description": "mean: free of noise; sampled: with noise; acquired: with residual water and tracks, too, and "
        "preprocessed again"
    },
}
DESCRIPTIONS = ROWS | {
    "noise_sd_ratio": {
        "Description": "SD of the noise of single transients over that of held-out real ones, late in the FIDs, 0.2 to "
        "4.2 ppm; mean over subjects and edit conditions (table noise: sd_ratio_window_late)"
    },
    "noise_sd_ratio_ci_low": {"Description": LOW},
    "noise_sd_ratio_ci_high": {"Description": HIGH},
    "noise_averaging_slope": {
        "Description": "Slope of log SD of the mean of n transients on log n; -0.5: independent (averaging_slope_window)"
    },
    "noise_real_imaginary": {
        "Description": "Correlation of the noise's real and imaginary part (correlation_real_imaginary_fid)"
    },
    "water_accuracy": {
        "Description": "How often a classifier, trained on other subjects, tells residual water from that of held-out "
        "real transients; 0.5: never better than chance (table water: classifier_accuracy)"
    },
    "water_accuracy_ci_low": {"Description": LOW},
    "water_accuracy_ci_high": {"Description": HIGH},
    **{
        f"water_{name}_p": {
            "Description": f"p value of the energy test of the water's {name}, subjects permuted within sites; missing "
            "where there are too few of them"
        }
        for name in WATER_P
    },
    "fidelity_accuracy": {
        "Description": "How often a classifier, trained on other subjects, tells single aligned transients in the "
        "model's window from held-out real ones; 0.5: never better than chance"
    },
    "fidelity_accuracy_ci_low": {"Description": LOW},
    "fidelity_accuracy_ci_high": {"Description": HIGH},
    "training_s": {"Description": "Wall time of the training, which variants of one model share", "Units": "s"},
    "n": {"Description": "Test subjects"},
}
BIAS_COLUMNS = (
    *("variant", "source", "decoder", "metabolite", "condition", "n_real", "n_total"),
    *("bias_percent", "bias_ci_low", "bias_ci_high", "tost_p", "rmse_percent", "slope", "slope_ci_low"),
    *("slope_ci_high", "sd_ratio", "n_eff", "n_eff_ci_low", "n_eff_ci_high", "n_eff_clipped", "n", "n_replicates"),
)


@dataclass(frozen=True)
class Transients:
    """Single transients of one scan, real or synthetic.

    Attributes
    ----------
    aligned
        FIDs (E, n, N), without water.
    water
        What preprocessing took from them, same shape; 0: nothing.
    data
        ``scale``, ``dwell_s`` and ``frequency_mhz`` of the scan.
    """

    aligned: np.ndarray
    water: np.ndarray | float
    data: Mapping

    def fidelity_rows(self, ppm: np.ndarray) -> np.ndarray:
        """Return what the classifier sees, a row per condition and transient: the window, and the condition."""
        n_conditions, n, _ = self.aligned.shape
        values = window_spectra(self.aligned, ppm, self.data["dwell_s"], self.data["frequency_mhz"])
        flat = values.reshape(n_conditions * n, -1) / self.data["scale"]
        size = np.log(np.maximum(np.abs(flat), 1e-6))
        condition = np.repeat(np.arange(n_conditions), n)[:, None].astype(float)
        return np.concatenate([flat.real, flat.imag, size, condition], axis=1)

    def water_windows(self, ppm: np.ndarray) -> np.ndarray:
        """Return spectra (E, n, len(ppm)) about water."""
        return water_table.windows_of(self.aligned + self.water, self.data, ppm)


def read_synthetic(path: Path, scan: Scan, options: augment.PreprocessOptions | None) -> tuple[list[int], tuple]:
    """Return the held-out transients of a file's plan, and FIDs and water of its first replicate's synthetic ones.

    Parameters
    ----------
    path
        Synthetic transients.
    scan
        The scan that they belong to.
    options
        Of its preprocessing, if they are as acquired.

    Raises
    ------
    InputError
        If the file has no plan, or does not belong to the scan.
    SkippedError
        If the synthesis failed.
    """
    from mrs_synthesis.preprocess_batched import process
    from mrs_synthesis.scans import read_scan, sidecar_path

    sidecar = require(sidecar_path(path))
    try:
        plan = json.loads(sidecar.read_text())["Plan"]
        held = sorted(int(k) for k in plan["Reference"])
        start, stop = plan["Replicates"][0]["DynRange"]
    except (ValueError, KeyError, TypeError, IndexError):
        raise InputError(f"{sidecar}: no plan of the synthesis; synthesise again") from None
    made = read_scan(path)
    if made.conditions != scan.conditions or made.n_points != scan.n_points or held[-1] >= scan.fids.shape[1]:
        raise InputError(f"{path}: does not belong to the preprocessed scan of its name; synthesise again")
    fids = made.fids[:, start:stop, 0]
    if options is None:
        return held, (fids, 0.0)
    done = process(scan.with_fids(fids[:, :, None]), None, options)
    kept = np.all(done.reason == "", axis=0)
    return held, (done.fids[:, kept], done.water_fid[:, kept])


def noise_values(parts: Sequence[Transients], held: Transients) -> tuple[list[Values], list[Values]]:
    """Return the noise of synthetic transients, by condition, and that of the held-out real ones."""
    synthetic, real = [], []
    axis = (held.data["dwell_s"], held.data["frequency_mhz"])
    for c, fids in enumerate(held.aligned):
        n_pairs = min(fids.shape[0], *(part.aligned.shape[1] for part in parts))
        levels, own = real_values(fids, *axis, n_pairs)
        real += own
        synthetic += synthetic_values([part.aligned[c] for part in parts], *axis, levels, n_pairs)
    return synthetic, real


def compared(
    groups: tuple[Sequence[Transients], Sequence[Transients]],
    sites: tuple[Sequence[str], Sequence[str]],
    ppm: np.ndarray,
    rng: np.random.Generator,
    n_resamples: int,
) -> dict[str, float]:
    """Return the columns of water and of fidelity, given held-out real transients and others."""
    axis = water_table.window_ppm()
    windows = [[one.water_windows(axis) for one in group] for group in groups]
    found = water_table.compare(*windows, sites, axis, rng, n_resamples)
    row = {f"water_{name}_p": found[f"{name}_p"][0] for name in WATER_P}
    rows = [[one.fidelity_rows(ppm) for one in group] for group in groups]
    fidelity = two_sample.classify(*rows, sites, rng, n_resamples)
    for name, values in (("water", found["classifier_accuracy"]), ("fidelity", fidelity)):
        names = (f"{name}_accuracy", f"{name}_accuracy_ci_low", f"{name}_accuracy_ci_high")
        row |= dict(zip(names, values, strict=True))
    return row


def noise_columns(blocks: Mapping[str, Sequence[Values]], n_resamples: int, rng: np.random.Generator) -> dict:
    """Return the columns of the noise, from the blocks' values by subject."""
    row = {}
    for column, metric in NOISE.items():
        found = noise_table.summarise(blocks, metric, n_resamples, rng)
        row[column] = found["value"]
        if column == "noise_sd_ratio":
            row |= {f"{column}_ci_low": found["ci_low"], f"{column}_ci_high": found["ci_high"]}
    return row


def read_real(
    units: Sequence[Mapping], derivatives: Path, index: pd.DataFrame, split: str
) -> list[tuple[Mapping, Transients]]:
    """Return row and transients of every unit with transients of a split."""
    group = water_table.read_group(units, derivatives, index, split)
    return [(row, Transients(data["fids"], data["water"], data)) for row, data in group]


def signal_table(
    units: Sequence[Mapping],
    training: Path,
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
    training, derivatives, folder
        Folders of the training set, of the study's preprocessed scans, and of the variants.
    n_resamples, seed
        Of the intervals and permutations.
    seconds
        Duration of the training of each model.
    """
    import pandas as pd

    from mrs_synthesis.files import read_table
    from mrs_synthesis.scans import read_scan

    index = read_table(require(training / "index.tsv"), ("unit", "transient", "split", "scale"))
    ppm = np.asarray(json.loads(require(training / "grid.json").read_text())["ppm"])
    tested = read_real(units, derivatives, index, "test")
    learned = read_real(units, derivatives, index, "train")
    chosen = index[index["split"] == "test"].groupby("unit")["transient"].unique()
    table, real_noise, every_held = [], {}, {}
    for variant in VARIANTS:
        for mode in MODES:
            blocks, held_group, made_group, sites = {}, [], [], []
            for row, all_real in tested:
                unit, site = row["unit"], str(row["site"])
                scan_path = Path(derivatives) / row["folder"] / "mrs" / f"{unit}_desc-preproc_svs.nii.gz"
                options = augment.preprocess_options(scan_path) if variant.decoder == "acquired" else None
                prefix = variant_derivatives(folder, variant) / row["folder"] / "mrs" / unit
                path = cells.synthetic_path(prefix, mode, variant.decoder)
                try:
                    reference, parts = read_synthetic(path, read_scan(scan_path), options)
                    place = np.searchsorted(np.sort(chosen[unit]), reference)
                    held = Transients(all_real.aligned[:, place], all_real.water[:, place], all_real.data)
                    made = Transients(*parts, all_real.data)
                    if len(reference) < noise_table.FEWEST:
                        raise SkippedError(f"{len(reference)} held-out transients, expected {noise_table.FEWEST}")
                    values, own = noise_values([made], held)
                except SkippedError as error:
                    print(f"left out: {unit}, {variant.name}: {error}", flush=True)
                    continue
                blocks.setdefault(row["subject"], []).extend(values)
                real_noise.setdefault((row["subject"], unit), own)
                every_held.setdefault(unit, (held, site))
                held_group.append(held)
                made_group.append(made)
                sites.append(site)
            if not held_group:
                raise InputError(f"{folder}: no synthetic transients of {variant.name}; see the status files there")
            rng = seeds.generator(seed, "ablation", variant.name, mode)
            names = {"variant": variant.name, "added": variant.added, "source": mode, "decoder": variant.decoder}
            names |= noise_columns(blocks, n_resamples, rng) | {"n": len(blocks)}
            names |= compared((held_group, made_group), (sites, sites), ppm, rng, n_resamples)
            table.append(names | {"training_s": seconds.get(variant.trained, np.nan)})
    rng = seeds.generator(seed, "ablation", REAL)
    blocks = {}
    for (subject, _), values in real_noise.items():
        blocks.setdefault(subject, []).extend(values)
    row = {"variant": CONTROL, "added": "n/a", "source": REAL, "decoder": "n/a", "n": len(blocks)}
    row |= noise_columns(blocks, n_resamples, rng)
    held, sites = zip(*every_held.values(), strict=True)
    strata = (sites, [str(row["site"]) for row, _ in learned])
    row |= compared((held, [one for _, one in learned]), strata, ppm, rng, n_resamples)
    return pd.DataFrame([*table, row], columns=list(DESCRIPTIONS))


def variant_derivatives(folder: Path, variant: Variant) -> Path:
    """Return the folder of a variant's synthetic transients, cells and fits."""
    return Path(folder) / variant.name / variant.decoder.capitalize() / "derivatives"


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
    wanted = evaluate.choose_ratios(ratios, study)

    def referred(part: pd.DataFrame) -> pd.DataFrame:
        return evaluate.with_reference(part, wanted) if truth is None else evaluate.with_truth(part, wanted, truth)

    controls = study["source"].isin(CONTROLS) & (study["n_real"] == few) & (study["n_total"] == total)
    real = study["source"] == REAL
    if not (real & (study["n_real"] == few)).any():
        raise InputError(f"concentrations: no cells of {few} real transients; run the study with the same config")
    compared_ones = (study["n_real"] == few) & (study["replicate"] >= replicates)
    rows = [referred(study)[lambda part: part.index >= 0]]
    own = rows[0]
    keys = ["unit", "cell"]
    kept = study.loc[(controls | real) & ~compared_ones, keys].drop_duplicates()
    rows = [own.merge(kept, on=keys)]
    for name, part in variants.items():
        filled = referred(part)
        filled = filled[filled["source"].isin(MODES) & (filled["replicate"] < replicates)]
        rows.append(filled.assign(source=[f"{name}:{mode}" for mode in filled["source"]]))
    return pd.concat(rows, ignore_index=True)


def bias_rows(rows: pd.DataFrame, margin: float, n_resamples: int, seed: int) -> pd.DataFrame:
    """Return the table of bias, a row per variant or control, and ratio; `rows` of `quantification_rows`."""
    table = evaluate.bias_table(rows, margin, n_resamples, seed)
    filled = rows[rows["source"] != REAL]
    sizes = {*filled["n_real"], *filled["n_total"]}
    table = table[(table["source"] != REAL) | table["n_real"].isin(sizes)]
    effective = evaluate.effective_table(rows, n_resamples, seed)
    columns = [*evaluate.SERIES, *(name for name in effective.columns if name.startswith("n_eff"))]
    table = table.merge(effective[columns], on=list(evaluate.SERIES), how="left")
    parts = [source.partition(":") for source in table["source"]]
    table["variant"] = [name if mode else CONTROL for name, _, mode in parts]
    table["source"] = [mode or name for name, _, mode in parts]
    order = {name: place for place, name in enumerate([CONTROL, *(variant.name for variant in VARIANTS)])}
    ratio = table.groupby(["metabolite", "condition"], sort=False).ngroup()
    ranked = table.assign(_ratio=ratio, _variant=table["variant"].map(order))
    return ranked.sort_values(["_ratio", "_variant"], kind="stable", ignore_index=True)[list(BIAS_COLUMNS)]


def read_seconds(folder: Path | None) -> dict[str, float]:
    """Return the wall time of each training from Snakemake's benchmarks ``train_<model>.tsv``; none without a folder."""
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
        study = read_table(require(a.concentrations), (*evaluate.SERIES, "unit", "subject", "cell", "per_tcr"))
        truth = read_table(require(a.truth), ("subject", "metabolite", "per_tcr")) if a.truth else None
        seconds = read_seconds(a.benchmarks)
    except ValueError as error:
        raise InputError(str(error)) from None
    study = study.assign(decoder=study["decoder"].astype(object).where(study["decoder"].notna(), "n/a"))
    units, split_unit = evaluate.read_units(a.units, a.training)
    variants = {v.name: evaluate.collect(units, variant_derivatives(a.folder, v), a.engine)[0] for v in VARIANTS}
    rows = quantification_rows(study, variants, a.ratios, a.replicates, truth)
    scope = "; training and test transients are of the same subjects" if split_unit == "transient" else ""
    about = f"One ratio to tCr from one variant or control, against {'the truth' if a.truth else 'the reference'}{scope}"
    write_described_table(a.bias, bias_rows(rows, a.tost_margin_percent, a.bootstrap, a.seed), about, ROWS)
    listed = every.where(every.notna(), "n/a").to_dict("records")
    table = signal_table(listed, a.training, a.derivatives, a.folder, a.bootstrap, a.seed, seconds)
    about = f"Single synthetic transients of one variant beside held-out real ones{scope}"
    write_described_table(a.output, table, about, DESCRIPTIONS)


if __name__ == "__main__":
    run(main)
