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
in units of the subjects' scale; subjects are permuted within sites. Of more than `MOST_SCANS` test or training scans as
many are compared.

Drawn water has the line of one of the training subjects. Where many more subjects are drawn than there are of these, a
classifier can come to know lines that recur, so that its accuracy lies above 0.5, as it does for copies of real water.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import nuisance, seeds, spectra, study_index, subset, two_sample, water_lines
from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

WINDOW_PPM = (4.35, 4.95)
N_WINDOW = 96
N_DRAWS = 8
# Of test and of training subjects each, since all pairs of scans are compared; intervals then have half widths of 0.2
# SDs of what differs between subjects
MOST_SCANS = 100
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
    most = two_sample.most_rows(len(real) + len(synthetic))
    columns = [[two_sample.thinned(classified(windows, ppm), most) for windows in group] for group in (real, synthetic)]
    result["classifier_accuracy"] = two_sample.classify(*columns, sites, rng, n_resamples)
    return result


def of_split(units: Sequence[Mapping], index: pd.DataFrame, split: str) -> list[Mapping]:
    """Return the rows of units that have transients of a split."""
    present = set(index.loc[index["split"] == split, "unit"].unique())
    return [row for row in units if row["unit"] in present]


def read_scans(
    units: Sequence[Mapping], derivatives: Path, index: pd.DataFrame, split: str
) -> Iterator[tuple[Mapping, dict]]:
    """Yield the row of every unit with transients of a split, and its data, one after another.

    Data: ``fids`` and ``water`` (E, n, N), ``noise_sd`` (E, n), ``scale``, ``dwell_s``, ``frequency_mhz``.
    """
    from mrs_synthesis.scans import read_scan

    part = index[index["split"] == split]
    places = part.groupby("unit", observed=True).indices
    for row in units:
        if row["unit"] not in places:
            continue
        rows = part.iloc[places[row["unit"]]]
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
        yield row, data | raster


def read_group(
    units: Sequence[Mapping], derivatives: Path, index: pd.DataFrame, split: str
) -> list[tuple[Mapping, dict]]:
    """Return all that `read_scans` yields."""
    return list(read_scans(units, derivatives, index, split))


def windows_of(fids: np.ndarray, data: Mapping, ppm: np.ndarray) -> np.ndarray:
    """Return spectra at `ppm` of FIDs (E, n, N), over the subject's scale."""
    matrix = spectra.window_matrix(ppm, fids.shape[-1], data["dwell_s"], data["frequency_mhz"])
    return fids @ matrix / data["scale"]


def synthetic_fids(
    model: nuisance.NuisanceModel | None, row: Mapping, data: Mapping, rng: np.random.Generator
) -> np.ndarray:
    """Return aligned synthetic FIDs (E, n, N): the scan's average, new noise, and drawn water (None: no water).

    The noise is less by what the average of n has of it, so that of the sum it is that of one transient. `data` are
    those of `read_scans`, with ``mean`` (E, 1, N) in place of ``fids``.
    """
    n, n_points = data["noise_sd"].shape[1], data["mean"].shape[2]
    noise = rng.standard_normal((*data["noise_sd"].shape, n_points, 2)) @ [1, 1j] * data["noise_sd"][..., None]
    noise *= np.sqrt(1 - 1 / n)
    new = data["mean"] + noise
    if model is None:
        return new
    raster = {key: data[key] for key in ("scale", "dwell_s", "frequency_mhz")}
    drawn = model.draw(rng, n, n_points=n_points, site=row["site"], vendor=row["vendor"], **raster)
    return new + drawn.water_fid


def water_table(
    units: Path,
    training: Path,
    heldout: Path,
    derivatives: Path,
    model: nuisance.NuisanceModel,
    n_resamples: int,
    seed: int,
) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """Return the table, that of the distributions (`water_lines`), and what was left out, in words: nothing of few."""
    import pandas as pd

    from mrs_synthesis.files import read_table

    try:
        table = read_table(require(units), ("unit", "folder", "subject", "site", "vendor")).astype(object)
    except ValueError as error:
        raise InputError(str(error)) from None
    index = study_index.read(training, heldout, ("unit", "transient", "split", "scale"))
    rows = table.where(table.notna(), "n/a").to_dict("records")
    ppm = window_ppm()
    every = {split: of_split(rows, index, split) for split in ("test", "train")}
    used = {}
    for split, part in every.items():
        sites = {row["unit"]: str(row["site"]) for row in part}
        chosen = set(subset.subjects(sites, MOST_SCANS, seed, "water_table", split))
        used[split] = [row for row in part if row["unit"] in chosen]
    # One scan's FIDs in memory at a time; of all of them only the spectra about water and the mean
    held, real = [], []
    for row, data in read_scans(used["test"], derivatives, index, "test"):
        real.append(windows_of(data["fids"] + data.pop("water"), data, ppm))
        held.append((row, data | {"mean": data.pop("fids").mean(axis=1, keepdims=True)}))
    if not held:
        raise InputError(f"{heldout}/index.tsv: no usable row of split test; nothing can be compared")
    sites = [str(row["site"]) for row, _ in held]
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    peaks = {"real": peaks_of(real, ppm)}
    for source, drawn_by, n_draws in (("drawn", model, N_DRAWS), ("none", None, 1)):
        draws = []
        for k in range(n_draws):
            windows = []
            for row, data in held:
                rng = seeds.generator(seed, "water_table", source, k, row["unit"])
                windows.append(windows_of(synthetic_fids(drawn_by, row, data, rng), data, ppm))
            if source not in peaks:
                peaks[source] = peaks_of(windows, ppm)
            rng = seeds.generator(seed, "water_table", "comparison", source, k)
            draws.append(compare(real, windows, (sites, sites), ppm, rng, n_resamples))
        middle = {metric: np.median if metric.endswith("_p") else np.mean for metric in draws[0]}
        found[source] = {name: tuple(middle[name]([draw[name] for draw in draws], axis=0)) for name in middle}
    learned, windows = [], []
    for row, data in read_scans(used["train"], derivatives, index, "train"):
        windows.append(windows_of(data["fids"] + data["water"], data, ppm))
        learned.append(str(row["site"]))
    peaks["training"] = peaks_of(windows, ppm)
    rng = seeds.generator(seed, "water_table", "comparison", "real")
    found["training"] = compare(real, windows, (sites, learned), ppm, rng, n_resamples)
    n_source = {"training": len(learned)}
    lines = []
    for metric in found["drawn"]:
        for source in found:
            limits = {"ceiling": found["training"][metric][0], "floor": found["none"][metric][0]}
            value, low, high = found[source][metric]
            names = {"metric": metric, "source": source, "value": value, "ci_low": low, "ci_high": high}
            lines.append(names | limits | {"n": len(real), "n_source": n_source.get(source, len(real))})
    left = [
        f"of {len(used[split])} of {len(part)} {word} scans, every site its share"
        for (split, part), word in zip(every.items(), ("test", "training"), strict=True)
        if len(used[split]) < len(part)
    ]
    most = two_sample.most_rows(len(real) + len(windows))
    if max(one.shape[0] * one.shape[1] for one in [*real, *windows]) > most:
        left.append(f"the classifier sees some {two_sample.MOST_ROWS} transients, of each scan equally many")
    about = "".join(f"; {words}" for words in left)
    return pd.DataFrame(lines, columns=list(COLUMNS)), water_lines.histograms(peaks), about


def peaks_of(windows: Sequence[np.ndarray], ppm: np.ndarray) -> list[dict[str, np.ndarray]]:
    """Return the measures of the peaks of each subject's spectra about water, for `water_lines.histograms`."""
    return [water_lines.in_units(features(one, ppm)) for one in windows]


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
    table, lines, left = water_table(a.units, a.training, a.heldout, a.derivatives, model, a.bootstrap, a.seed)
    same = json.loads(require(a.training / "grid.json").read_text())["split_unit"] == "transient"
    scope = ("; training and test transients are of the same subjects" if same else "") + left
    about = "One comparison of the residual water of one source's transients with that of held-out real ones"
    write_described_table(a.output, table, about + scope, DESCRIPTIONS)
    about = "A bin of the histogram of one measure of residual water's peaks in single transients of one source"
    write_described_table(a.lines, lines, about + scope, water_lines.COLUMNS)


if __name__ == "__main__":
    run(main)
