"""Spectra to train a regressor on, and their labels: real, synthetic, and real ones with classical augmentation.

An example is the average of n transients of one subject in the model's window, edit conditions together, divided by its
own scale. Its label are the subject's ratios to tCr, as somebody without knowledge of the truth has them: of a real
subject the fit of the mean of all its transients, of a synthetic one the fit of its noise-free spectrum. Every set of
examples takes as many averages of each of its subjects as the real set does of the training subject that it follows.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import cells, generator, seeds, spectra
from mrs_synthesis.assemble import preprocessed_path, read_preprocessed, subject_scale, unit_spectra, window_spectra
from mrs_synthesis.known_noise import bin_sd
from mrs_synthesis.stage import InputError, SkippedError

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.scans import Scan

MOST = 16  # averages of one subject
FOLD = 10  # subjects of the large synthetic set, and spectra of the augmented one, for each real one
SHIFT_HZ, PHASE_DEG, WIDTH_HZ = 1.0, 5.0, 2.0  # classical augmentation: two SDs, and the most that lines are broadened


@dataclass(frozen=True)
class Unit:
    """One scan's transients of one split.

    Attributes
    ----------
    unit, subject, site
        Names.
    transients
        Their numbers along DIM_DYN.
    scan
        Raster and header; its FIDs (conditions, transients, 1, points) are these transients, or of `compact` units
        their mean alone.
    values
        Their spectra in the model's window, complex64 (conditions, transients, W).
    noise_sd
        Noise SD of the real part of the FID of one transient.
    """

    unit: str
    subject: str
    site: str
    transients: tuple[int, ...]
    scan: Scan
    values: np.ndarray
    noise_sd: float

    @property
    def mean_fid(self) -> np.ndarray:
        """Mean of the transients, (conditions, points)."""
        return self.scan.fids[:, :, 0].mean(axis=1)


@dataclass(frozen=True)
class Examples:
    """Averages beside their labels.

    Attributes
    ----------
    spectra
        Complex64 (examples, conditions, W), each divided by its own scale.
    labels
        Ratios to tCr, (examples, ratios); NaN where the fit failed.
    subject
        Number of the subject of each example, (examples,).
    """

    spectra: np.ndarray
    labels: np.ndarray
    subject: np.ndarray

    def __add__(self, other: Examples) -> Examples:
        """Return both sets as one; their subjects are different ones."""
        return Examples(
            np.concatenate([self.spectra, other.spectra]),
            np.concatenate([self.labels, other.labels]),
            np.concatenate([self.subject, other.subject + self.subject.max(initial=-1) + 1]),
        )


def read_units(
    units: pd.DataFrame, index: pd.DataFrame, derivatives: Path, grid: dict, split: str, *, compact: bool = True
) -> Iterator[Unit]:
    """Yield the scans with transients of a split, in the order of `units`; failed ones are left out.

    Parameters
    ----------
    units, index
        The table units.tsv, and the training and the held-out set's index.
    derivatives
        Folder of the preprocessed scans.
    grid
        Of the model.
    split
        train, validation or test; only its transients are kept.
    compact
        Whether the scan keeps only the mean of its FIDs.

    Raises
    ------
    InputError
        If a scan has fewer transients than the index names, or does not fit the grid.
    """
    own = index[index["split"] == split].groupby("unit")["transient"].unique()
    for row in units[units["unit"].isin(own.index)].to_dict("records"):
        path = preprocessed_path(derivatives, row["folder"], row["unit"])
        try:
            scan = read_preprocessed(path, grid["conditions"])
        except SkippedError as error:
            print(f"left out: {error}", flush=True)
            continue
        transients = tuple(sorted(int(t) for t in own[row["unit"]]))
        if scan.fids.shape[1] <= transients[-1]:
            raise InputError(
                f"{path}: {scan.fids.shape[1]} transients, but the training set names number {transients[-1]}; "
                "assemble it again"
            )
        scan = scan.with_fids(scan.fids[:, list(transients)])
        try:
            noise = spectra.noise_sd(scan.fids[:, :, 0], scan.dwell_s, scan.frequency_mhz)
            values = unit_spectra(scan, np.asarray(grid["ppm"])).astype(np.complex64)
        except (InputError, ValueError) as error:
            raise InputError(f"{path}: {error}") from None
        if compact:
            scan = scan.with_fids(scan.fids.mean(axis=1, keepdims=True))
        sd = float(np.sqrt(np.mean(noise**2)))
        yield Unit(row["unit"], str(row["subject"]), str(row["site"]), transients, scan, values, sd)


def normalised(averages: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    """Return averages (n, conditions, W), each divided by its own scale."""
    scales = np.array([subject_scale(one[:1], ppm) for one in averages])
    return (averages / scales[:, None, None]).astype(np.complex64)


def counts(units: Sequence[Unit], n: int) -> list[int]:
    """Return how many averages of `n` transients are made of each training or validation unit.

    Raises
    ------
    InputError
        If a unit has fewer than `n` transients.
    """
    for one in units:
        if len(one.transients) < n:
            raise InputError(f"{one.unit}: {len(one.transients)} transients, expected at least {n}; lower --n-real")
    return [min(len(one.transients) // n, MOST) for one in units]


def real_averages(units: Sequence[Unit], labels: np.ndarray, ppm: np.ndarray, n: int, seed: int) -> Examples:
    """Return averages of disjoint, randomly chosen sets of `n` transients; `labels` (units, ratios)."""
    parts, subject = [], []
    for i, (one, count) in enumerate(zip(units, counts(units, n), strict=True)):
        order = seeds.generator(seed, "training_use", "real", n, one.unit).permutation(len(one.transients))
        chosen = order[: count * n].reshape(count, n)
        parts.append(normalised(np.moveaxis(one.values[:, chosen].mean(axis=2), 0, 1), ppm))
        subject += [i] * count
    return Examples(np.concatenate(parts), labels[subject], np.array(subject))


def white_noise(unit: Unit, count: int, sd: float, ppm: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return spectra (count, conditions, W) of white noise whose FIDs, on the unit's raster, have the SD `sd`."""
    shape = (count, len(unit.scan.conditions), unit.scan.n_points)
    noise = sd * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))
    return window_spectra(noise, ppm, unit.scan.dwell_s, unit.scan.frequency_mhz)


def augmented_averages(units: Sequence[Unit], labels: np.ndarray, ppm: np.ndarray, n: int, seed: int) -> Examples:
    """Return `FOLD` times as many examples of the real subjects by classical augmentation.

    The mean of all of a subject's transients, shifted, phased and broadened at random, with fresh noise that brings it
    to the level of an average of `n`.
    """
    parts, subject = [], []
    for i, (one, count) in enumerate(zip(units, counts(units, n), strict=True)):
        rng, scan, count = seeds.generator(seed, "training_use", "augmented", n, one.unit), one.scan, FOLD * count
        shift, phase = SHIFT_HZ * rng.standard_normal(count), np.deg2rad(PHASE_DEG) * rng.standard_normal(count)
        width = rng.uniform(0, WIDTH_HZ, count)
        fids = spectra.shift_and_phase(one.mean_fid[None], scan.dwell_s, shift[:, None], phase[:, None])
        fids = fids * np.exp(-np.pi * width[:, None] * spectra.time_axis(scan.n_points, scan.dwell_s))[:, None]
        clean = window_spectra(fids, ppm, scan.dwell_s, scan.frequency_mhz)
        sd = one.noise_sd * np.sqrt(1 / n - 1 / max(len(one.transients), n))  # the mean has noise of its own
        parts.append(normalised(clean + white_noise(one, count, sd, ppm, rng), ppm))
        subject += [i] * count
    return Examples(np.concatenate(parts), labels[subject], np.array(subject))


@dataclass(frozen=True)
class Drawn:
    """New subjects that a model drew for each training unit.

    Attributes
    ----------
    spectra
        Noise-free, on the scale of their unit, complex (units, FOLD, conditions, W).
    noise_sd
        Noise SD of one transient's FID by the model, of each unit, (units,).
    """

    spectra: np.ndarray
    noise_sd: np.ndarray

    def fids(self, units: Sequence[Unit], ppm: np.ndarray) -> list[tuple[Scan, np.ndarray]]:
        """Return raster and noise-free FIDs (conditions, points) of all of them, unit after unit."""
        rasters = [(u.scan, (u.scan.n_points, u.scan.dwell_s, u.scan.frequency_mhz)) for u in units]
        pairs = zip(rasters, self.spectra, strict=True)
        return [(scan, one) for (scan, own), drawn in pairs for one in spectra.from_window(drawn, ppm, *own)]


def draw(model: Path, units: Sequence[Unit], prior: str, seed: int) -> Drawn:
    """Draw `FOLD` new subjects with the mode `random` for each training unit: of its site, with its level of noise.

    Raises
    ------
    InputError
        If the model cannot be read or does not fit the data.
    """
    loaded: dict[str, generator.Generator] = {}
    drawn, noise = [], []
    for one in units:
        if one.site not in loaded:
            loaded[one.site] = generator.load(model, one.site, prior)
        own, points = loaded[one.site], one.scan.n_points
        measured = bin_sd(np.full(len(one.transients), one.noise_sd), points)
        rng = seeds.generator(seed, "training_use", "synthetic", one.unit)
        try:
            values, scale = own.synthesise("random", one.values.astype(complex), measured, FOLD, rng)
        except ValueError as error:
            raise InputError(f"{one.unit}: {error}; exclude it, or train the model again") from None
        drawn.append(np.moveaxis(values, 0, 1))
        noise.append(float(np.mean(own.noise_sd(measured, scale))) / np.sqrt(points))
    return Drawn(np.array(drawn), np.array(noise))


def synthetic_averages(
    units: Sequence[Unit], drawn: Drawn, labels: np.ndarray, ppm: np.ndarray, n: int, seed: int, fold: int
) -> Examples:
    """Return averages of `n` synthetic transients of the first `fold` subjects drawn for each training unit.

    Noise of an average is drawn at once, since that of its transients is independent. `labels`: (units, FOLD, ratios).
    """
    parts, subject = [], []
    for i, (one, count) in enumerate(zip(units, counts(units, n), strict=True)):
        for k in range(fold):
            rng = seeds.generator(seed, "training_use", "noise", n, one.unit, k)
            noise = white_noise(one, count, drawn.noise_sd[i] / np.sqrt(n), ppm, rng)
            parts.append(normalised(drawn.spectra[i, k] + noise, ppm))
            subject += [i * fold + k] * count
    labels = labels[:, :fold].reshape(len(units) * fold, -1)
    return Examples(np.concatenate(parts), labels[subject], np.array(subject))


def fit_ratios(items: Sequence[tuple[Scan, np.ndarray]], options: Sequence[str], wanted: Sequence[str]) -> pd.DataFrame:
    """Fit FIDs with the engine `batched` and return ratios to tCr: a row per item, columns (condition, metabolite).

    Parameters
    ----------
    items
        Scan (raster and header) and FIDs (conditions, points) of each; those of one raster are fitted together.
    options
        Flags of `quantify`: basis sets and what the study states of its fits.
    wanted
        Ratios that must come out, as texts like ``DIFF:GABA+``; those of conditions that are not fitted do not count.

    Raises
    ------
    InputError
        If nothing can be fitted.
    """
    import pandas as pd

    from mrs_synthesis import quantify
    from mrs_synthesis.files import read_table
    from mrs_synthesis.scans import write_scan

    groups: dict[tuple, list[int]] = {}
    for i, (scan, _) in enumerate(items):
        key = (scan.n_points, scan.dwell_s, scan.frequency_mhz, scan.header.get("EchoTime"), scan.conditions)
        groups.setdefault(key, []).append(i)
    tables = []
    with tempfile.TemporaryDirectory() as folder:
        for number, positions in enumerate(groups.values()):
            scan = items[positions[0]][0]
            edited = len(scan.conditions) > 1
            fids = np.stack([items[i][1] for i in positions], axis=1)[:, :, None]
            dimensions = ("DIM_DYN", "DIM_EDIT") if edited else ("DIM_DYN",)
            image, table = Path(folder) / f"{number}.nii.gz", Path(folder) / f"{number}.tsv"
            write_scan(image, scan.with_fids(fids, dimensions=dimensions))
            conditions = ["OFF", "DIFF"] if edited else ["UNEDITED"]
            words = ["--unit", "training_use", "--cells", image, "--output", table, "--conditions", *conditions]
            asked = [f"{conditions[0]}:tCr", *(text for text in wanted if text.partition(":")[0] in conditions)]
            words += ["--wanted", *asked, *options, "--engine", "batched"]
            quantify.quantify(quantify.parser().parse_args(list(map(str, words))))
            rows = read_table(table, ("cell", "condition", "metabolite", "per_tcr"))
            rows["cell"] = np.array(positions)[rows["cell"]]
            tables.append(rows)
    found = pd.concat(tables).pivot(index="cell", columns=["condition", "metabolite"], values="per_tcr")
    return found.reindex(range(len(items)))


@dataclass(frozen=True)
class Tested:
    """Averages of the test subjects.

    Attributes
    ----------
    units
        A row for each: unit, subject.
    spectra
        Of each number of transients: complex (units, replicates, conditions, W), each divided by its own scale; NaN
        where a unit has no such replicate.
    fitted
        Their fitted ratios, (units, replicates, ratios).
    reference
        Fitted ratios of the mean of the transients that no average uses, (units, ratios).
    """

    units: pd.DataFrame
    spectra: dict[int, np.ndarray]
    fitted: dict[int, np.ndarray]
    reference: np.ndarray


def ratios_of(table: pd.DataFrame, ratios: Sequence[tuple[str, str]]) -> np.ndarray:
    """Return the columns of a table of fits that the ratios name, (items, ratios); NaN for a missing column."""
    return np.column_stack([table[pair] if pair in table else np.full(len(table), np.nan) for pair in ratios])


def read_tests(
    units: Iterator[Unit],
    pairs: Sequence[tuple[int, int]],
    replicates: int,
    ratios: Sequence[tuple[str, str]],
    ppm: np.ndarray,
    options: Sequence[str],
    seed: int,
) -> Tested:
    """Return the study's cells of real transients of the test scans, and their fits.

    Parameters
    ----------
    units
        Test scans, not compact.
    pairs, replicates, seed
        The study's numbers of transients (`cells.amounts`), replicates and seed.
    ratios, ppm, options
        What is predicted, the window, and flags of `quantify`.
    """
    import pandas as pd

    items, places, names = [], [], []
    sizes = [n for n, _ in pairs]
    for one in units:
        plan = cells.plan(one.transients, *zip(*pairs, strict=True), replicates, seed, one.unit)
        position = {transient: i for i, transient in enumerate(one.transients)}
        chosen = [(0, 0, plan.reference)]
        chosen += [(n, r, subset) for n in sizes for r, subset in enumerate(plan.subsets(n))]
        raster = one.scan.with_fids(one.scan.fids[:, :1])
        for n, r, transients in chosen:
            items.append((raster, one.scan.fids[:, [position[t] for t in transients], 0].mean(axis=1)))
            places.append((n, len(names), r))
        names.append({"unit": one.unit, "subject": one.subject})
    if not names:
        raise InputError("no usable test scan; assign subjects to the split test")
    found = ratios_of(fit_ratios(items, options, [":".join(pair) for pair in ratios]), ratios)
    shape = (len(names), replicates)
    averages = {n: np.full((*shape, len(items[0][1]), len(ppm)), np.nan, np.complex64) for n in sizes}
    fitted = {n: np.full((*shape, len(ratios)), np.nan) for n in sizes}
    reference = np.full((len(names), len(ratios)), np.nan)
    for (scan, fids), (n, unit, r), values in zip(items, places, found, strict=True):
        if n == 0:
            reference[unit] = values
            continue
        average = window_spectra(fids, ppm, scan.dwell_s, scan.frequency_mhz)
        averages[n][unit, r] = normalised(average[None], ppm)[0]
        fitted[n][unit, r] = values
    return Tested(pd.DataFrame(names), averages, fitted, reference)
