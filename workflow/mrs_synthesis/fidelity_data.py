"""Real, reconstructed and synthetic spectra of the test scans, and as many real ones of training scans.

All are divided by the scan's one scale, that of its real transients: a synthetic spectrum of wrong size stays so.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mrs_synthesis import cells, study_index
from mrs_synthesis.assemble import read_preprocessed, unit_spectra
from mrs_synthesis.stage import InputError, SkippedError, require
from mrs_synthesis.subset import evenly
from mrs_synthesis.training_set import RowFile

INDEX = ("row", "unit", "subject", "site", "condition", "transient", "split", "scale", "noise_sd", "n_points")
MOST_POINTS = 400  # of a group in a comparison: all pairs of points are compared
# Of a group: intervals over so many have half widths of 0.14 SDs, and of each two points are left
MOST_SUBJECTS = 200
MOST_AXES_POINTS = 2000  # on top of those of the group: axes of a spectrum of some 1000 numbers
REAL, RECONSTRUCTION = ("real", None), ("reconstruction", "mean")
NOISE, POPULATION, POPULATION_NOISY = ("noise", None), ("population_mean", None), ("population_mean_noisy", None)
LEVELS = ("transients", "averages")
Key = tuple[str, str | None]


@dataclass(frozen=True)
class Unit:
    """One scan's real transients of one split.

    Attributes
    ----------
    unit, subject, site
        Names.
    transients
        Their numbers in the preprocessed scan, (T,).
    spectra
        Complex, (conditions, T, W), in the training set's scale.
    noise_sd
        SD of the real part of a bin's noise, same scale, (conditions, T).
    scale
        What the spectra were divided by.
    """

    unit: str
    subject: str
    site: str
    transients: np.ndarray
    spectra: np.ndarray
    noise_sd: np.ndarray
    scale: float


@dataclass(frozen=True)
class ScanRows:
    """Which rows of the study's index are a scan's transients of one split, and how many transients these are."""

    unit: str
    subject: str
    site: str
    n_transients: int
    rows: np.ndarray


@dataclass(frozen=True)
class Sizes:
    """How many points of a scan take part in a comparison: so many transients, and averages of so many transients."""

    n_transients: int
    n_averages: int
    n_averaged: int


class Study:
    """The training set, the held-out set, and where a test scan's files are.

    Parameters
    ----------
    training, heldout
        Folders of the two sets; the same if the split is by transients.
    units, derivatives
        units.tsv; the folder that synthetic transients and reconstructions are in.

    Raises
    ------
    InputError
        If the sets cannot be read.
    """

    def __init__(self, training: Path, heldout: Path, units: Path, derivatives: Path) -> None:
        from mrs_synthesis.files import read_table

        self.index = study_index.read(training, heldout, INDEX)
        try:
            self.folders = read_table(require(units), ("unit", "folder")).set_index("unit")["folder"]
            grid = json.loads(require(Path(training) / "grid.json").read_text())
            self.ppm, self.conditions = np.array(grid["ppm"], float), tuple(grid["conditions"])
            self.by_subject = grid["split_unit"] == "subject"
        except (KeyError, ValueError) as error:
            raise InputError(
                f"{training}, {heldout}: not a training and a held-out set ({error}); assemble again"
            ) from (None)
        folders = {"train": training, "test": heldout}
        self.rows = {split: RowFile(Path(folder) / "spectra.npy") for split, folder in folders.items()}
        self.derivatives = Path(derivatives)

    def units(self, split: str) -> list[ScanRows]:
        """Return the scans of a split, by name."""
        part = self.index[self.index["split"] == split]
        found = []
        for unit, places in part.groupby("unit", sort=True, observed=True).indices.items():
            first = part.iloc[places[0]]
            n = part["transient"].iloc[places].nunique()
            found.append(ScanRows(unit, str(first["subject"]), str(first["site"]), n, part.index[places].to_numpy()))
        return found

    def read(self, scan: ScanRows) -> Unit:
        """Return the real transients of a scan."""
        own = self.index.iloc[scan.rows]
        first = own.iloc[0]
        tables = [own.pivot(index="transient", columns="condition", values=name) for name in ("row", "noise_sd")]
        rows, noise = (table[list(self.conditions)].to_numpy().T for table in tables)
        spectra = self.rows[first["split"]][rows]
        noise = noise * np.sqrt(first["n_points"]) / first["scale"]
        return Unit(scan.unit, scan.subject, scan.site, tables[0].index.to_numpy(), spectra, noise, first["scale"])

    def paths(self, unit: str, kinds: Sequence[Key]) -> dict[Key, Path]:
        """Return the files of a test scan: its reconstruction, and its synthetic transients of each kind."""
        prefix = self.derivatives / self.folders[unit] / "mrs" / unit
        return {RECONSTRUCTION: cells.reconstruction_path(prefix)} | {
            kind: cells.synthetic_path(prefix, *kind) for kind in kinds
        }

    def tested(self, kinds: Sequence[Key]) -> list[tuple[ScanRows, dict[Key, list[tuple[int, int]]]]]:
        """Return every test scan that has all files, and by kind the replicates' positions.

        Raises
        ------
        InputError
            If there is none.
        """
        found = []
        for scan in self.units("test"):
            try:
                paths = self.paths(scan.unit, kinds)
                ranges = {key: ranges_of(path) for key, path in paths.items() if key != RECONSTRUCTION}
                require(paths[RECONSTRUCTION])
            except SkippedError as error:
                print(f"left out: {scan.unit}: {error}", flush=True)
                continue
            found.append((scan, ranges))
        if not found:
            raise InputError(f"{self.derivatives}: no test scan with a reconstruction and all synthetic transients")
        return found

    def made(
        self, real: Unit, ranges: Mapping[Key, Sequence[tuple[int, int]]]
    ) -> Iterator[tuple[Key, list[np.ndarray]]]:
        """Yield, of a test scan, each model-made source and its blocks (conditions, n, W).

        Raises
        ------
        InputError
            If a file does not belong to the scan.
        """
        for key, path in self.paths(real.unit, list(ranges)).items():
            values = unit_spectra(read_preprocessed(path, self.conditions), self.ppm) / real.scale
            n = values.shape[1]
            last = real.transients.max() + 1 if key == RECONSTRUCTION else max(stop for _, stop in ranges[key])
            if n < last:
                raise InputError(f"{path}: {n} transients, expected {last} at least; synthesise again")
            if key == RECONSTRUCTION:
                yield key, [values[:, real.transients]]
            else:
                yield key, [values[:, start:stop] for start, stop in ranges[key]]


def ranges_of(path: Path) -> list[tuple[int, int]]:
    """Return the positions of the replicates of the smallest n_real in a file of synthetic transients.

    Raises
    ------
    InputError
        If its sidecar does not tell.
    SkippedError
        If the file is empty.
    """
    from mrs_synthesis.scans import sidecar_path

    try:
        plan = json.loads(require(sidecar_path(require(path))).read_text())["Plan"]["Replicates"]
        return [(int(start), int(stop)) for start, stop in (one["DynRange"] for one in cells.headline(plan))]
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{sidecar_path(path)}: no plan of the synthesis; synthesise again") from None


def by_condition(values: np.ndarray, conditions: Sequence[str]) -> dict[str, np.ndarray]:
    """Return values (conditions, ...) by condition, DIFF = ON - OFF included where there are both."""
    found = dict(zip(conditions, values, strict=True))
    return found | ({"DIFF": found["ON"] - found["OFF"]} if {"OFF", "ON"} <= set(found) else {})


def common_sizes(
    n_subjects: int, n_transients: Sequence[int], ranges: Sequence[Mapping[Key, Sequence[tuple[int, int]]]]
) -> Sizes:
    """Return how many points of each scan all groups can give.

    Parameters
    ----------
    n_subjects
        Of a group.
    n_transients
        Of every scan.
    ranges
        Of every scan that is compared, as of `Study.tested`.
    """
    lengths = [[stop - start for start, stop in blocks] for unit in ranges for blocks in unit.values()]
    most = max(1, MOST_POINTS // n_subjects)
    averaged = min([*n_transients, *(min(blocks) for blocks in lengths)])
    pieces = [[n] for n in n_transients] + lengths
    return Sizes(
        min([most, *(sum(blocks) for blocks in pieces)]),
        min([most, *(sum(n // averaged for n in blocks) for blocks in pieces)]),
        averaged,
    )


def picked(blocks: Sequence[np.ndarray], n: int) -> np.ndarray:
    """Return `n` transients (conditions, n, W), evenly spread over blocks (conditions, any, W)."""
    whole = np.concatenate(blocks, axis=1)
    return whole[:, evenly(whole.shape[1], n)]


def averages(blocks: Sequence[np.ndarray], sizes: Sizes, rng: np.random.Generator) -> np.ndarray:
    """Return means (conditions, n_averages, W) of disjoint sets of transients drawn from blocks (conditions, any, W).

    Each is of one block; each block gives one before any gives two.
    """
    orders = [rng.permutation(block.shape[1]) for block in blocks]
    found, turn = [], 0
    while len(found) < sizes.n_averages:
        part = slice(turn * sizes.n_averaged, (turn + 1) * sizes.n_averaged)
        found += [
            block[:, order[part]].mean(axis=1)
            for block, order in zip(blocks, orders, strict=True)
            if len(order) >= part.stop
        ]
        turn += 1
    return np.stack(found[: sizes.n_averages], axis=1)


def choose_subjects(sites: Mapping[str, str], wanted: Sequence[str], n: int, rng: np.random.Generator) -> list[str]:
    """Return `n` subjects: of each site as often as `wanted` has it, as far as there are, then of all sites in turn.

    `sites` maps subject to site.
    """
    queues: dict[str, list[str]] = {}
    names = sorted(sites)
    for i in rng.permutation(len(names)):
        queues.setdefault(sites[names[i]], []).append(names[i])
    found = [queues[site].pop(0) for site in wanted if queues.get(site)]
    turns = sorted((turn, site, name) for site, queue in queues.items() for turn, name in enumerate(queue))
    return [*found, *(name for _, _, name in turns)][:n]
