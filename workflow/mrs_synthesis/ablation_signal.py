"""Single synthetic transients of a model beside held-out real ones: noise, residual water, fidelity (see `ablation`).

Synthetic transients are those of each scan's first replicate; held-out real ones are those that no cell uses. Synthetic
transients as acquired are preprocessed again as real ones are: noise and fidelity are those of the aligned transients,
and for their water what preprocessing took is put back, to both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import augment, cells, noise_table, two_sample, water_table
from mrs_synthesis.assemble import window_spectra
from mrs_synthesis.noise_statistics import Values, real_values, synthetic_values
from mrs_synthesis.stage import InputError, SkippedError, require

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.preprocess_batched import Options
    from mrs_synthesis.scans import Scan

# Column: metric of the noise table
NOISE = {
    "noise_sd_ratio": "sd_ratio_window_late",
    "noise_averaging_slope": "averaging_slope_window",
    "noise_real_imaginary": "correlation_real_imaginary_fid",
}
WATER_P = ("amplitude", "phase", "shift")

COARSE = 8  # bins; the window has a multiple of them
LOW, HIGH = "Lower end of the 95 % bootstrap interval over subjects", "Upper end of this interval"
DESCRIPTIONS = {
    "noise_sd_ratio": {
        "Description": "SD of the noise of single transients over that of held-out real ones, late in the FIDs, 0.2 to "
        "4.2 ppm; mean over subjects and edit conditions (table noise: sd_ratio_window_late)"
    },
    "noise_sd_ratio_ci_low": {"Description": LOW},
    "noise_sd_ratio_ci_high": {"Description": HIGH},
    "noise_averaging_slope": {
        "Description": "Slope of log SD of the mean of n transients on log n; -0.5: independent (table noise: "
        "averaging_slope_window)"
    },
    "noise_real_imaginary": {
        "Description": "Correlation of the noise's real and imaginary part (table noise: "
        "correlation_real_imaginary_fid)"
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
        """Return what the classifier sees of the model's window, a row per condition and transient.

        The log magnitude, in which noise shows; real and imaginary part, coarser, since noise shows there already and
        its cost grows with the cube of the columns; and the condition.
        """
        n_conditions, n, _ = self.aligned.shape
        values = window_spectra(self.aligned, ppm, self.data["dwell_s"], self.data["frequency_mhz"])
        flat = values.reshape(n_conditions * n, -1) / self.data["scale"]
        coarse = flat.reshape(len(flat), -1, COARSE).mean(axis=-1)
        size = np.log(np.maximum(np.abs(flat), 1e-6))
        condition = np.repeat(np.arange(n_conditions), n)[:, None].astype(float)
        return np.concatenate([coarse.real, coarse.imag, size, condition], axis=1)

    def water_windows(self, ppm: np.ndarray) -> np.ndarray:
        """Return spectra (E, n, len(ppm)) about water."""
        return water_table.windows_of(self.aligned + self.water, self.data, ppm)


def read_synthetic(path: Path, scan: Scan, options: Options | None) -> tuple[list[int], tuple]:
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
        If the synthesis failed, or what it made cannot be preprocessed.
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
    try:
        done = process(scan.with_fids(fids[:, :, None]), None, options)
    except InputError as error:  # the status of the variant's cells says so, too
        raise SkippedError(f"{path}: {error}") from None
    kept = np.all(done.reason == "", axis=0)
    return held, (done.fids[:, kept], done.water_fid[:, kept])


def noise_values(made: Transients, held: Transients) -> tuple[list[Values], list[Values]]:
    """Return the noise of synthetic transients, by condition, and that of the held-out real ones."""
    synthetic, real = [], []
    axis = (held.data["dwell_s"], held.data["frequency_mhz"])
    n_pairs = min(held.aligned.shape[1], made.aligned.shape[1])
    for one, other in zip(held.aligned, made.aligned, strict=True):
        levels, own = real_values(one, *axis, n_pairs)
        real += own
        synthetic += synthetic_values([other], *axis, levels, n_pairs)
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


def noise_columns(
    pairs: Sequence[tuple[Mapping, Transients, Transients]], which: int, n_resamples: int, rng: np.random.Generator
) -> dict[str, float]:
    """Return the columns of the noise; `which` of `noise_values`; missing where no part is free of signal."""
    blocks: dict[str, list[Values]] = {}
    for row, held, made in pairs:
        try:
            blocks.setdefault(row["subject"], []).extend(noise_values(made, held)[which])
        except SkippedError as error:
            print(f"noise left out: {row['unit']}: {error}", flush=True)
    columns: dict[str, float] = {"n": len(blocks)}
    for column, metric in NOISE.items():
        found = noise_table.summarise(blocks, metric, n_resamples, rng)
        columns[column] = found["value"]
        if column == "noise_sd_ratio":
            columns |= {f"{column}_ci_low": found["ci_low"], f"{column}_ci_high": found["ci_high"]}
    return columns


def read_real(
    units: Sequence[Mapping], index: pd.DataFrame, derivatives: Path, split: str
) -> list[tuple[Mapping, list[int], Transients]]:
    """Return of every unit with transients of a split its row, their numbers in the scan, and the transients."""
    numbers = index[index["split"] == split].groupby("unit")["transient"].unique()
    return [
        (row, sorted(numbers[row["unit"]].tolist()), Transients(data["fids"], data["water"], data))
        for row, data in water_table.read_group(units, derivatives, index, split)
    ]


def read_made(
    tested: Sequence[tuple[Mapping, list[int], Transients]], derivatives: Path, folder: Path, mode: str, decoder: str
) -> list[tuple[Mapping, Transients, Transients]]:
    """Return of every test unit that has them its row, and its held-out real and its synthetic transients.

    Parameters
    ----------
    tested
        Of `read_real`.
    derivatives, folder
        Folders of the preprocessed scans and of the synthetic transients.
    mode, decoder
        Of the latter.
    """
    from mrs_synthesis.scans import read_scan

    found = []
    for row, numbers, real in tested:
        place = Path(row["folder"]) / "mrs"
        path = Path(derivatives) / place / f"{row['unit']}_desc-preproc_svs.nii.gz"
        options = augment.preprocess_options(path) if decoder == "acquired" else None
        made = cells.synthetic_path(Path(folder) / place / row["unit"], mode, decoder)
        try:
            reference, parts = read_synthetic(made, read_scan(path), options)
            if len(reference) < noise_table.FEWEST:
                raise SkippedError(f"{made}: {len(reference)} held-out transients, expected {noise_table.FEWEST}")
        except SkippedError as error:
            print(f"left out: {row['unit']}: {error}", flush=True)
            continue
        held = np.searchsorted(numbers, reference)
        found.append(
            (row, Transients(real.aligned[:, held], real.water[:, held], real.data), Transients(*parts, real.data))
        )
    if not found:
        raise InputError(f"{folder}: no synthetic transients of mode {mode}; see the status files beside it")
    return found


def describe(
    pairs: Sequence[tuple[Mapping, Transients, Transients]], ppm: np.ndarray, rng: np.random.Generator, n_resamples: int
) -> dict[str, float]:
    """Return the columns of the synthetic transients of `read_made`; `ppm` is the model's window."""
    rows, held, made = zip(*pairs, strict=True)
    sites = [str(row["site"]) for row in rows]
    return noise_columns(pairs, 0, n_resamples, rng) | compared((held, made), (sites, sites), ppm, rng, n_resamples)


def describe_real(
    pairs: Sequence[tuple[Mapping, Transients, Transients]],
    learned: Sequence[tuple[Mapping, list[int], Transients]],
    ppm: np.ndarray,
    rng: np.random.Generator,
    n_resamples: int,
) -> dict[str, float]:
    """Return the columns of real transients: halves of the held-out ones, and those of the training subjects."""
    strata = ([str(row["site"]) for row, _, _ in pairs], [str(row["site"]) for row, _, _ in learned])
    groups = ([held for _, held, _ in pairs], [one for _, _, one in learned])
    return noise_columns(pairs, 1, n_resamples, rng) | compared(groups, strata, ppm, rng, n_resamples)
