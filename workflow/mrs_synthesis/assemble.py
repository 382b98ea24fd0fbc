"""Gather preprocessed transients into one memory-mappable set: what a model may see, or, with ``--grid``, the rest.

The training set holds the subjects of the splits train and validation (or all, each split by transients), so that it
stays as it is when a test subject comes or goes. Test subjects' transients are set out likewise on its grid.

A row of ``spectra.npy`` is one transient's complex spectrum on the grid's ppm values, divided by its subject's scale.
``row * scale`` is the spectrum of the preprocessed FID again, and `spectra.from_window` its FID.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import spectra, splits
from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.scans import Scan

SCALE_PPM = (1.8, 3.4)
WIDTH_MULTIPLE = 32
CONDITIONS = {"none": ("UNEDITED",), "mega": ("OFF", "ON")}
INDEX_COLUMNS = ("row", "unit", "subject", "site", "condition", "transient", "split", "scale", "noise_sd", "n_points")


@dataclass(frozen=True)
class Grid:
    """The ppm grid that all rows share, and the raster of the first training unit that it was cut from."""

    ppm: np.ndarray
    frequency_mhz: float
    dwell_s: float
    n_points: int
    conditions: tuple[str, ...]


def window_ppm(ppm: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return the bins of the increasing axis `ppm` in [low, high], widened evenly to a multiple of 32.

    Raises
    ------
    InputError
        If the window is not inside the axis, or cannot be widened there.
    """
    if not ppm[0] <= low < high <= ppm[-1]:
        raise InputError(
            f"--window-ppm {low} {high}: expected two increasing values inside the spectra's {ppm[0]:.2f} to "
            f"{ppm[-1]:.2f} ppm"
        )
    inside = np.flatnonzero((ppm >= low) & (ppm <= high))
    width = max(1, -(-inside.size // WIDTH_MULTIPLE)) * WIDTH_MULTIPLE
    if width > ppm.size:
        raise InputError(f"--window-ppm {low} {high}: {width} points, but the spectra have {ppm.size}; narrow it")
    start = inside[0] - (width - inside.size) // 2
    start = min(max(start, 0), ppm.size - width)
    return ppm[start : start + width]


def window_spectra(fids: np.ndarray, ppm: np.ndarray, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the spectra at `ppm` of FIDs of shape (..., points): shape (..., len(ppm)).

    A slice of the FFT where `ppm` are bins of the FIDs' own axis, else the discrete-time Fourier transform at `ppm`;
    on bins the two are equal.
    """
    part = spectra.own_bins(ppm, fids.shape[-1], dwell_s, frequency_mhz)
    if part is not None:
        return spectra.to_spectrum(fids)[..., part]
    return fids @ spectra.window_matrix(ppm, fids.shape[-1], dwell_s, frequency_mhz)


def subject_scale(off_spectra: np.ndarray, ppm: np.ndarray) -> float:
    """Return the number that one subject's spectra are divided by, all edit conditions alike.

    Parameters
    ----------
    off_spectra
        Edit-OFF (or unedited) spectra, shape (transients, len(ppm)), of those transients that may be used.
    ppm
        Their ppm values.

    Returns
    -------
    float
        The largest modulus of their mean between 1.8 and 3.4 ppm (NAA or creatine), to 8 digits, so that the value in
        a table is the value that was used.
    """
    inside = (ppm >= SCALE_PPM[0]) & (ppm <= SCALE_PPM[1])
    if not inside.any():
        raise InputError(
            f"--window-ppm: {ppm[0]:.2f} to {ppm[-1]:.2f} ppm, expected to include {SCALE_PPM[0]} to {SCALE_PPM[1]} "
            "ppm, where spectra are scaled"
        )
    scale = float(f"{np.abs(off_spectra.mean(axis=0))[inside].max():.8g}")
    if scale <= 0:
        raise InputError("the spectrum is zero between 1.8 and 3.4 ppm, expected NAA or creatine; exclude the subject")
    return scale


def unit_spectra(scan: Scan, ppm: np.ndarray) -> np.ndarray:
    """Return the spectra of a coil-combined scan on the grid, shape (conditions, transients, len(ppm)).

    Raises
    ------
    InputError
        If the grid reaches beyond the scan's bandwidth.
    """
    own = scan.ppm
    if ppm[0] < own[0] - 1e-6 or ppm[-1] > own[-1] + 1e-6:
        raise InputError(
            f"spectra reach from {own[0]:.2f} to {own[-1]:.2f} ppm, expected at least {ppm[0]:.2f} to {ppm[-1]:.2f}; "
            "narrow the window or exclude the subject"
        )
    return window_spectra(scan.fids[:, :, 0], ppm, scan.dwell_s, scan.frequency_mhz)


def preprocessed_path(derivatives: Path, folder: str, unit: str) -> Path:
    """Return the path of a unit's preprocessed transients."""
    return Path(derivatives) / folder / "mrs" / f"{unit}_desc-preproc_svs.nii.gz"


def read_preprocessed(path: Path, conditions: Sequence[str] | None = None) -> Scan:
    """Read preprocessed transients and check that coils are combined and the edit conditions are as expected.

    Raises
    ------
    InputError
        If they are not.
    SkippedError
        If the file is empty.
    """
    from mrs_synthesis.scans import read_scan

    scan = read_scan(path)
    if scan.fids.shape[2] != 1:
        raise InputError(f"{path}: {scan.fids.shape[2]} coils, expected combined coils; preprocess it first")
    if conditions is not None and tuple(scan.conditions) != tuple(conditions):
        raise InputError(
            f"{path}: edit conditions {', '.join(scan.conditions)}, expected {', '.join(conditions)} as for the other "
            "subjects; put studies with different editing into separate sample sheets"
        )
    return scan


def assign_splits(
    units: Sequence[dict], n_transients: Sequence[int], fractions: Sequence[float], seed: int
) -> tuple[str, list[np.ndarray]]:
    """Return what is split, ``subject`` or ``transient``, and for each unit the split of each of its transients.

    Parameters
    ----------
    units
        Rows of units.tsv with ``unit``, ``subject``, ``split``. Where none states a split, each is split by
        transients.
    n_transients
        Number of transients of each unit.
    fractions, seed
        Shares of train, validation and test of a unit's transients; the configuration's seed.

    Raises
    ------
    InputError
        If only some units state a split, or no subject is left to train on or to stop the training.
    """
    given = splits.given_splits(units)
    if not given:
        splits.check_fractions(fractions)
        return "transient", [
            splits.split_transients(n, fractions, seed, row["unit"]) for row, n in zip(units, n_transients, strict=True)
        ]
    if lacking := [row["unit"] for row in units if row["split"] is None]:
        raise InputError(
            f"units.tsv, {lacking[0]}: no split, but other scans state theirs; make the table by mrs_synthesis.sheet"
        )
    for name, purpose in (("train", "to train on"), ("validation", "to stop the training")):
        if name not in given.values():
            raise InputError(
                f"units.tsv: no {name} subject {purpose} among {len(given)} usable ones; mark at least one in the "
                "sample sheet's column split, or leave the column empty"
            )
    return "subject", [np.full(n, row["split"], dtype=object) for row, n in zip(units, n_transients, strict=True)]


def read_rows(units_path: Path) -> list[dict]:
    """Return the rows of units.tsv, missing values as None.

    Raises
    ------
    InputError
        If there is no such table, or it lacks a column.
    """
    from mrs_synthesis.files import read_table

    try:
        table = read_table(units_path, ("unit", "folder", "subject", "site", "edit_scheme", "split"))
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from None
    return table.astype(object).where(table.notna(), None).to_dict("records")


def assemble(
    units_path: Path,
    derivatives: Path,
    output: Path,
    *,
    window: Sequence[float],
    seed: int,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
) -> None:
    """Write ``spectra.npy``, ``index.tsv`` and ``grid.json`` of the training set into the folder `output`.

    Scans of split test are left out. Only one unit's transients are in memory at a time.

    Raises
    ------
    InputError
        If no unit is usable, or units differ in their editing.
    """
    rows = [row for row in read_rows(units_path) if row["split"] != "test"]
    schemes = sorted({str(row["edit_scheme"]) for row in rows})
    if len(schemes) != 1 or schemes[0] not in CONDITIONS:
        raise InputError(
            f"{units_path}: edit_scheme {', '.join(schemes) or 'of no unit'}, expected one of "
            f"{' or '.join(CONDITIONS)} for all units; put studies with different editing into separate sample sheets"
        )
    conditions = CONDITIONS[schemes[0]]

    usable, lengths, rasters = [], [], []
    for row in rows:
        path = preprocessed_path(derivatives, row["folder"], row["unit"])
        try:
            scan = read_preprocessed(path, conditions)
        except SkippedError:
            print(f"left out: {row['unit']} failed earlier", flush=True)
            continue
        usable.append(row)
        lengths.append(scan.fids.shape[1])
        rasters.append((scan.n_points, scan.dwell_s, scan.frequency_mhz))
    if not usable:
        raise InputError(f"{units_path}: all {len(rows)} units failed earlier, expected usable ones; see the failures")
    used_unit, labels = assign_splits(usable, lengths, fractions, seed)
    first = next(i for i, label in enumerate(labels) if "train" in label)
    n_points, dwell, frequency = rasters[first]
    grid = Grid(window_ppm(spectra.ppm_axis(*rasters[first]), *window), frequency, dwell, n_points, conditions)
    content = {
        "ppm": grid.ppm.tolist(),
        "frequency_mhz": frequency,
        "dwell_s": dwell,
        "n_points": n_points,
        "conditions": list(conditions),
        "split_unit": used_unit,
        "window_ppm": [float(value) for value in window],
    }
    _write_set(output, usable, labels, grid, derivatives, content)


def assemble_held_out(units_path: Path, derivatives: Path, output: Path, grid_path: Path) -> None:
    """Write the scans of split test, on the grid of a training set, as the same files into the folder `output`.

    One that cannot be put on the grid is left out: its own stages record why.

    Raises
    ------
    InputError
        If the grid cannot be read, or belongs to a training set that is split by transients.
    """
    try:
        content = json.loads(require(grid_path).read_text(encoding="utf-8"))
        split_unit = content["split_unit"]
        names = ("ppm", "frequency_mhz", "dwell_s", "n_points", "conditions")
        ppm, frequency, dwell, n_points, conditions = (content[name] for name in names)
    except (KeyError, ValueError) as error:
        raise InputError(f"{grid_path}: not the grid of a training set ({error}); assemble it again") from None
    if split_unit != "subject":
        raise InputError(f"{grid_path}: split by {split_unit}; the training set holds the test transients itself")
    grid = Grid(np.array(ppm), frequency, dwell, n_points, tuple(conditions))
    usable, labels = [], []
    for row in read_rows(units_path):
        if row["split"] != "test":
            continue
        try:
            scan = read_preprocessed(preprocessed_path(derivatives, row["folder"], row["unit"]), grid.conditions)
            label = np.full(scan.fids.shape[1], "test", dtype=object)
            _unit_rows(scan, row["unit"], label, grid)
        except (InputError, SkippedError) as error:
            print(f"left out: {row['unit']}: {error}", flush=True)
            continue
        usable.append(row)
        labels.append(label)
    _write_set(output, usable, labels, grid, derivatives, content)


def _write_set(
    output: Path, rows: Sequence[dict], labels: Sequence[np.ndarray], grid: Grid, derivatives: Path, content: dict
) -> None:
    """Write the files of a set, unit by unit, so that one unit's transients are in memory at a time.

    `labels` are the splits of each unit's transients, `content` that of grid.json but for the hash of ``spectra.npy``,
    which stands for the set wherever nothing else of it is needed.
    """
    import pandas as pd

    from mrs_synthesis.files import append_table, write_json
    from mrs_synthesis.training_set import write_spectra

    folder, n_rows = Path(output), sum(map(len, labels)) * len(grid.conditions)
    with append_table(folder / "index.tsv") as append:

        def blocks() -> Iterator[np.ndarray]:
            start = 0
            for row, label in zip(rows, labels, strict=True):
                entries, values = _one_unit(row, label, grid, derivatives, start)
                append(entries)
                yield values
                start += len(entries)

        append(pd.DataFrame(columns=list(INDEX_COLUMNS)))  # the header, even of no rows
        digest = write_spectra(folder / "spectra.npy", n_rows, grid.ppm.size, blocks())
    write_json(folder / "grid.json", content | {"spectra_sha256": digest})
    counts = {name: sum(int(np.sum(label == name)) for label in labels) for name in splits.SPLITS}
    found = ", ".join(f"{n * len(grid.conditions)} {name} spectra" for name, n in counts.items() if n)
    print(f"split by {content['split_unit']}: {found or 'no spectra'}", flush=True)


def _unit_rows(scan: Scan, unit: str, label: np.ndarray, grid: Grid) -> tuple[np.ndarray, np.ndarray, float]:
    """Return a unit's spectra on the grid (conditions, transients, W), noise (conditions, transients) and scale."""
    try:
        values = unit_spectra(scan, grid.ppm)
        noise = spectra.noise_sd(scan.fids[:, :, 0], scan.dwell_s, scan.frequency_mhz)
        # Within one subject the scale must not know the test transients; a test subject has no others.
        allowed = label == "train" if "train" in label else np.full(label.size, True)
        scale = subject_scale(values[0, allowed], grid.ppm)
    except (InputError, ValueError) as error:
        raise InputError(f"{unit}: {error}") from None
    return values, noise, scale


def _one_unit(
    row: dict, label: np.ndarray, grid: Grid, derivatives: Path, start: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """Return one unit's part of the index, from row `start` on, and its rows (conditions, transients, W)."""
    import pandas as pd

    scan = read_preprocessed(preprocessed_path(derivatives, row["folder"], row["unit"]), grid.conditions)
    values, noise, scale = _unit_rows(scan, row["unit"], label, grid)
    conditions, transients = noise.shape
    columns = {
        "row": start + np.arange(noise.size),
        **{name: row[name] or "n/a" for name in ("unit", "subject", "site")},
        "condition": np.repeat(grid.conditions, transients),
        "transient": np.tile(np.arange(transients), conditions),
        "split": np.tile(label, conditions),
        "scale": scale,
        "noise_sd": noise.ravel(),
        "n_points": scan.n_points,
    }
    return pd.DataFrame(columns, columns=list(INDEX_COLUMNS)), (values / scale).astype(np.complex64)


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.assemble", description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder with the preprocessed transients")
    parser.add_argument("--output", type=Path, required=True, help="folder of the training set, or of the held-out set")
    parser.add_argument("--grid", type=Path, help="grid.json of a training set: gather the scans of split test on it")
    parser.add_argument(
        "--window-ppm", type=float, nargs=2, default=(0.0, 4.4), metavar=("LOW", "HIGH"), help="default: 0.0 4.4"
    )
    parser.add_argument("--seed", type=int, help="of a split by transients; not with --grid")
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        default=(0.6, 0.2, 0.2),
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="shares of a scan's transients, where --units states no splits; default: 0.6 0.2 0.2",
    )
    a = parser.parse_args(argv)
    if a.grid is not None:
        assemble_held_out(a.units, a.derivatives, a.output, a.grid)
        return
    if a.seed is None:
        parser.error("a training set needs --seed")
    assemble(a.units, a.derivatives, a.output, window=a.window_ppm, seed=a.seed, fractions=a.fractions)


if __name__ == "__main__":
    run(main)
