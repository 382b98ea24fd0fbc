"""Compare the residual water of synthetic transients with that of held-out real ones: the table `water`.

Real transients are those of the test scans, aligned, with the water that preprocessing took away put back. Sources:

- drawn: water drawn by the model of the nuisances (`nuisance`), put onto the average of the scan's own transients (all
  their metabolites, none of their water) with white noise of each transient's SD. So only the water can differ.
- none: the same without water, which is what a decoder gives that was trained on spectra from which it was removed: the
  floor.
- training: real transients of the training scans: the ceiling. As many subjects, and no copies: what is found here is
  what subjects differ by.

Of drawn water, values are means over `N_DRAWS` draws, each of as many subjects and transients as the real ones, and p
values are medians: one draw of few subjects may by chance be like or unlike. All is compared in a window about water,
in units of the subjects' scale; subjects are permuted within sites.

Drawn water has the line of one of the training subjects. Where many more subjects are drawn than there are of these, a
classifier can come to know lines that recur, so that its accuracy lies above 0.5, as it does for copies of real water.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import nuisance, seeds, spectra, two_sample, water_lines
from mrs_synthesis.stage import InputError, SkippedError, require, run
from mrs_synthesis.training_set import read_index

if TYPE_CHECKING:
    import pandas as pd

WINDOW_PPM = (4.35, 4.95)
N_WINDOW = 96
N_DRAWS = 8
DESCRIPTIONS = {
    "metric": {
        "Description": "What is compared of the water's peak, and how: *_effect: energy distance over twice the mean "
        "distance across (0: equal); *_p: of a permutation of whole subjects within sites, missing where there are too "
        "few subjects to reach 0.05. Of drawn water effects and accuracies are means, p values medians of draws",
        "Levels": {
            "amplitude": "Log of the peak's height in units of the subject's scale",
            "amplitude_change": "The same less its mean over the subject's transients",
            "phase": "Phase of the water, relative to its circular mean over the subject's transients",
            "shift": "Place of the peak's top",
            "width": "Full width at half height of the peak's magnitude",
            "classifier_accuracy": "How often a classifier, trained on other subjects' spectra about water, tells real "
            "from synthetic; 0.5: never better than chance",
        },
    },
    "source": {
        "Description": "What is compared with held-out real transients: drawn (by the model of the nuisances), none "
        "(no water), training (real transients of the training subjects)"
    },
    "value": {"Description": "The metric"},
    "ci_low": {"Description": "Lower end of the 95 % bootstrap interval over subjects; of an effect it lies too high"},
    "ci_high": {"Description": "Upper end of this interval"},
    "ceiling": {"Description": "The metric of real transients of the training subjects"},
    "floor": {"Description": "The metric of transients without water"},
    "n": {"Description": "Held-out subjects"},
    "n_source": {"Description": "Subjects of the source"},
}
COLUMNS = tuple(DESCRIPTIONS)


def window_ppm() -> np.ndarray:
    """Return the ppm values at which water is looked at."""
    return np.linspace(*WINDOW_PPM, N_WINDOW)


def features(windows: np.ndarray, ppm: np.ndarray) -> dict[str, np.ndarray]:
    """Measure the water's peak in spectra (E, n, W) of one subject at `ppm`.

    Returns
    -------
    dict
        By name of the metric, shape (E n, 1), of phase (E n, 2): cosine and sine.
    """
    size = np.abs(windows)
    top = np.clip(size.argmax(axis=-1), 1, ppm.size - 2)
    left, middle, right = (np.take_along_axis(size, (top + d)[..., None], -1)[..., 0] for d in (-1, 0, 1))
    bend = left - 2 * middle + right
    move = np.where(bend < 0, 0.5 * (left - right) / np.where(bend < 0, bend, 1.0), 0.0)
    step = ppm[1] - ppm[0]
    height = np.maximum(middle - 0.25 * (left - right) * move, 1e-300)
    below = size < height[..., None] / 2
    place = np.arange(ppm.size)
    before = np.where(below & (place < top[..., None]), place, -1).max(axis=-1)
    after = np.where(below & (place > top[..., None]), place, ppm.size).min(axis=-1)
    log_height = np.log(height)
    direction = np.exp(1j * np.angle(windows.mean(axis=-1)))
    turned = direction * np.exp(-1j * np.angle(direction.mean(axis=1, keepdims=True)))
    found = {
        "amplitude": log_height,
        "amplitude_change": log_height - log_height.mean(axis=1, keepdims=True),
        "shift": ppm[top] + np.clip(move, -1, 1) * step,
        "width": (after - before - 1) * step,
    }
    columns = {name: values.reshape(-1, 1) for name, values in found.items()}
    return columns | {"phase": np.stack([turned.real.ravel(), turned.imag.ravel()], axis=1)}


def classified(windows: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return what the classifier sees of spectra (E, n, W) of one subject, shape (E n, columns).

    Real and imaginary part and log magnitude of the window, the condition, and the peak's measures, so often that they
    count as much as a part of the window.
    """
    n_conditions, n, width = windows.shape
    flat = windows.reshape(-1, width)
    condition = np.repeat(np.arange(n_conditions), n)[:, None].astype(float)
    size = np.log(np.maximum(np.abs(flat), 1e-6))
    measures = np.concatenate(list(features(windows, ppm).values()), axis=1)
    measures = np.tile(measures, (1, width // measures.shape[1]))
    return np.concatenate([flat.real, flat.imag, size, measures, condition], axis=1)


def compare(
    real: Sequence[np.ndarray],
    synthetic: Sequence[np.ndarray],
    sites: tuple[Sequence[str], Sequence[str]],
    ppm: np.ndarray,
    rng: np.random.Generator,
    n_resamples: int = 2000,
) -> dict[str, tuple[float, float, float]]:
    """Return value and interval of every metric for two groups of subjects.

    Parameters
    ----------
    real, synthetic
        Of each subject the spectra about water over the subject's scale, complex, shape (E, n, W).
    sites
        Of the subjects of both groups: what they are permuted within.
    ppm
        The spectra's, shape (W,).
    rng, n_resamples
        Random numbers; how many permutations and bootstrap resamples.
    """
    measured = [[features(windows, ppm) for windows in group] for group in (real, synthetic)]
    result = {}
    for name in ("amplitude", "amplitude_change", "phase", "shift", "width"):
        groups = [[subject[name] for subject in group] for group in measured]
        found = two_sample.energy_test(*groups, sites, rng, n_resamples)
        result[f"{name}_effect"] = (found.effect, found.low, found.high)
        result[f"{name}_p"] = (found.p, np.nan, np.nan)
    columns = [[classified(windows, ppm) for windows in group] for group in (real, synthetic)]
    result["classifier_accuracy"] = two_sample.classify(*columns, sites, rng, n_resamples)
    return result


def read_group(
    units: Sequence[Mapping], derivatives: Path, index: pd.DataFrame, split: str
) -> list[tuple[Mapping, dict]]:
    """Return the row of every unit with transients of a split, and its data.

    Data: ``fids`` and ``water`` (E, n, N), ``noise_sd`` (E, n), ``scale``, ``dwell_s``, ``frequency_mhz``.
    """
    from mrs_synthesis.scans import read_scan

    group = []
    for row in units:
        rows = index[(index["unit"] == row["unit"]) & (index["split"] == split)]
        if rows.empty:
            continue
        prefix = f"{Path(derivatives) / row['folder'] / 'mrs' / row['unit']}_desc-preproc"
        try:
            scan = read_scan(Path(f"{prefix}_svs.nii.gz"))
            raster, arrays = nuisance.read_unit(Path(prefix))
        except SkippedError as error:
            print(f"left out: {row['unit']}: {error}", flush=True)
            continue
        chosen = np.unique(rows["transient"].to_numpy())
        fids = scan.fids[:, :, 0]
        if fids.shape != arrays["water_fid"].shape or chosen.max() >= fids.shape[1]:
            raise InputError(f"{prefix}_nuisance.npz: not of the scan beside it; preprocess again")
        data = {"fids": fids[:, chosen], "water": arrays["water_fid"][:, chosen]}
        data |= {"noise_sd": arrays["noise_sd"][:, chosen], "scale": float(rows["scale"].iloc[0])}
        group.append((row, data | raster))
    return group


def windows_of(fids: np.ndarray, data: Mapping, ppm: np.ndarray) -> np.ndarray:
    """Return spectra at `ppm` of FIDs (E, n, N), over the subject's scale."""
    matrix = spectra.window_matrix(ppm, fids.shape[-1], data["dwell_s"], data["frequency_mhz"])
    return fids @ matrix / data["scale"]


def synthetic_fids(
    model: nuisance.NuisanceModel | None, row: Mapping, data: Mapping, rng: np.random.Generator
) -> np.ndarray:
    """Return aligned synthetic FIDs (E, n, N): the scan's average, new noise, and drawn water (None: no water).

    The noise is less by what the average of n has of it, so that of the sum it is that of one transient.
    """
    fids = data["fids"]
    noise = rng.standard_normal((*fids.shape, 2)) @ [1, 1j] * data["noise_sd"][..., None]
    noise *= np.sqrt(1 - 1 / fids.shape[1])
    new = fids.mean(axis=1, keepdims=True) + noise
    if model is None:
        return new
    raster = {key: data[key] for key in ("scale", "dwell_s", "frequency_mhz")}
    drawn = model.draw(rng, fids.shape[1], n_points=fids.shape[2], site=row["site"], vendor=row["vendor"], **raster)
    return new + drawn.water_fid


def water_table(
    units: Path,
    training: Path,
    heldout: Path,
    derivatives: Path,
    model: nuisance.NuisanceModel,
    n_resamples: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the table, and that of the distributions (`water_lines`)."""
    import pandas as pd

    from mrs_synthesis.files import read_table

    try:
        table = read_table(require(units), ("unit", "folder", "subject", "site", "vendor")).astype(object)
    except ValueError as error:
        raise InputError(str(error)) from None
    index = read_index(training, heldout, ("unit", "transient", "split", "scale"))
    rows = table.where(table.notna(), "n/a").to_dict("records")
    ppm = window_ppm()
    held = read_group(rows, derivatives, index, "test")
    if not held:
        raise InputError(f"{heldout}/index.tsv: no usable row of split test; nothing can be compared")
    learned = read_group(rows, derivatives, index, "train")
    sites = [str(row["site"]) for row, _ in held]
    real = [windows_of(data["fids"] + data["water"], data, ppm) for _, data in held]
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    shown = {"real": real}
    for source, used, n_draws in (("drawn", model, N_DRAWS), ("none", None, 1)):
        draws = []
        for k in range(n_draws):
            windows = []
            for row, data in held:
                rng = seeds.generator(seed, "water_table", source, k, row["unit"])
                windows.append(windows_of(synthetic_fids(used, row, data, rng), data, ppm))
            shown.setdefault(source, windows)
            rng = seeds.generator(seed, "water_table", "comparison", source, k)
            draws.append(compare(real, windows, (sites, sites), ppm, rng, n_resamples))
        middle = {metric: np.median if metric.endswith("_p") else np.mean for metric in draws[0]}
        found[source] = {name: tuple(middle[name]([draw[name] for draw in draws], axis=0)) for name in middle}
    windows = [windows_of(data["fids"] + data["water"], data, ppm) for _, data in learned]
    shown["training"] = windows
    rng = seeds.generator(seed, "water_table", "comparison", "real")
    found["training"] = compare(real, windows, (sites, [str(row["site"]) for row, _ in learned]), ppm, rng, n_resamples)
    n_source = {"training": len(learned)}
    lines = []
    for metric in found["drawn"]:
        for source in found:
            limits = {"ceiling": found["training"][metric][0], "floor": found["none"][metric][0]}
            value, low, high = found[source][metric]
            names = {"metric": metric, "source": source, "value": value, "ci_low": low, "ci_high": high}
            lines.append(names | limits | {"n": len(real), "n_source": n_source.get(source, len(real))})
    peaks = {name: [water_lines.in_units(features(one, ppm)) for one in group] for name, group in shown.items()}
    return pd.DataFrame(lines, columns=list(COLUMNS)), water_lines.histograms(peaks)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.water_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set")
    parser.add_argument("--heldout", type=Path, required=True, help="folder of the held-out set")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder of the preprocessed scans")
    parser.add_argument("--nuisance", type=Path, required=True, help="model of the nuisances, NPZ")
    parser.add_argument("--bootstrap", type=int, default=1000, help="permutations, and resamples of the intervals")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the table, TSV; its data dictionary goes beside it")
    parser.add_argument("--lines", type=Path, required=True, help="the table of the peaks' distributions, TSV")
    a = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table

    model = nuisance.NuisanceModel.load(a.nuisance)
    table, lines = water_table(a.units, a.training, a.heldout, a.derivatives, model, a.bootstrap, a.seed)
    same = json.loads(require(a.training / "grid.json").read_text())["split_unit"] == "transient"
    scope = "; training and test transients are of the same subjects" if same else ""
    about = "One comparison of the residual water of one source's transients with that of held-out real ones"
    write_described_table(a.output, table, about + scope, DESCRIPTIONS)
    about = "A bin of the histogram of one measure of residual water's peaks in single transients of one source"
    write_described_table(a.lines, lines, about + scope, water_lines.COLUMNS)


if __name__ == "__main__":
    run(main)
