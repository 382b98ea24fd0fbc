"""Gather the preprocessed transients of all subjects into one memory-mappable training set, split by subject.

A row of ``spectra.npy`` is one transient's complex spectrum on the grid's ppm values, divided by its subject's scale.
``row * scale`` is the spectrum of the preprocessed FID again, and `spectra.from_window` its FID.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import spectra, splits
from mrs_synthesis.stage import InputError, SkippedError, run

if TYPE_CHECKING:
    from mrs_synthesis.scans import Scan

SCALE_PPM = (1.8, 3.4)
WIDTH_MULTIPLE = 32
CONDITIONS = {"none": ("UNEDITED",), "mega": ("OFF", "ON")}


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
    units: Sequence[dict], n_transients: Sequence[int], fractions: Sequence[float], split_unit: str, seed: int
) -> tuple[str, list[np.ndarray]]:
    """Return the split unit used and, for each unit, the split of each of its transients.

    Parameters
    ----------
    units
        Rows of units.tsv with ``unit``, ``subject``, ``site``, ``split`` (None: to be decided).
    n_transients
        Number of transients of each unit.
    fractions, seed
        Shares of train, validation and test; the configuration's seed.
    split_unit
        ``auto``, ``subject`` or ``transient``. ``auto`` is by subject if there are at least 3.

    Raises
    ------
    InputError
        If whole subjects cannot be split, or no subject is left to train on or to stop the training.
    """
    splits.check_fractions(fractions)
    sites = {row["subject"]: row["site"] or "n/a" for row in units}
    given = splits.given_splits(units)
    few = len(sites) < splits.FEWEST_SUBJECTS
    if split_unit == "subject" and few:
        raise InputError(
            f"units.tsv: {len(sites)} usable subject(s), expected at least {splits.FEWEST_SUBJECTS} to split by "
            "subject; set split_unit to auto or transient"
        )
    if split_unit == "transient" or (split_unit == "auto" and few):
        if given:
            raise InputError(
                f"units.tsv: a split is stated for subject {next(iter(given))}, but the split is by transient "
                f"({len(sites)} usable subject(s)); leave the column empty, or give at least 3 subjects and split by "
                "subject"
            )
        labels = [
            splits.split_transients(n, fractions, seed, row["unit"]) for row, n in zip(units, n_transients, strict=True)
        ]
        return "transient", labels
    assigned = splits.split_subjects(sites, given, fractions, seed)
    for name, purpose in (("train", "to train on"), ("validation", "to stop the training")):
        if name not in assigned.values():
            raise InputError(
                f"units.tsv: no {name} subject {purpose} among {len(sites)} usable ones; mark at least one in the "
                "sample sheet's column split, or leave the column empty"
            )
    return "subject", [
        np.full(n, assigned[row["subject"]], dtype=object) for row, n in zip(units, n_transients, strict=True)
    ]


def assemble(
    units_path: Path,
    derivatives: Path,
    output: Path,
    *,
    window: Sequence[float],
    seed: int,
    fractions: Sequence[float] = (0.6, 0.2, 0.2),
    split_unit: str = "auto",
) -> None:
    """Write ``spectra.npy``, ``index.tsv`` and ``grid.json`` into the folder `output`.

    Only one unit's transients are in memory at a time.

    Raises
    ------
    InputError
        If no unit is usable, or units differ in their editing.
    """
    import pandas as pd

    from mrs_synthesis.files import read_table, write_json, write_table, write_whole

    columns = ("unit", "folder", "subject", "site", "edit_scheme", "split")
    try:
        table = read_table(units_path, columns)
    except (OSError, ValueError) as error:
        raise InputError(str(error)) from None
    rows = table.astype(object).where(table.notna(), None).to_dict("records")
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
        rasters.append((scan.ppm, scan.frequency_mhz, scan.dwell_s, scan.n_points))
    if not usable:
        raise InputError(f"{units_path}: all {len(rows)} units failed earlier, expected usable ones; see the failures")
    used_unit, labels = assign_splits(usable, lengths, fractions, split_unit, seed)
    first = next(i for i, label in enumerate(labels) if "train" in label)
    axis, frequency, dwell, n_points = rasters[first]
    grid = Grid(window_ppm(axis, *window), frequency, dwell, n_points, conditions)

    n_rows = sum(lengths) * len(conditions)
    entries = []
    with write_whole(Path(output) / "spectra.npy") as temporary:
        data = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.complex64, shape=(n_rows, grid.ppm.size))
        start = 0
        for row, label in zip(usable, labels, strict=True):
            start = _add_unit(data, start, entries, row, label, grid, derivatives)
        data.flush()
        del data
    write_table(Path(output) / "index.tsv", pd.DataFrame(entries))
    write_json(
        Path(output) / "grid.json",
        {
            "ppm": grid.ppm.tolist(),
            "frequency_mhz": frequency,
            "dwell_s": dwell,
            "n_points": n_points,
            "conditions": list(conditions),
            "split_unit": used_unit,
            "window_ppm": [float(value) for value in window],
        },
    )
    counts = {name: sum(entry["split"] == name for entry in entries) for name in splits.SPLITS}
    print(f"split by {used_unit}: " + ", ".join(f"{n} {name} spectra" for name, n in counts.items()), flush=True)


def _add_unit(
    data: np.ndarray, start: int, entries: list, row: dict, label: np.ndarray, grid: Grid, derivatives: Path
) -> int:
    """Fill in one unit's rows and index entries (unit, then condition, then transient); return the next free row."""
    unit = row["unit"]
    scan = read_preprocessed(preprocessed_path(derivatives, row["folder"], unit), grid.conditions)
    try:
        values = unit_spectra(scan, grid.ppm)
        noise = spectra.noise_sd(scan.fids[:, :, 0], scan.dwell_s, scan.frequency_mhz)
        # Within one subject the scale must not know the test transients; a test subject has no others.
        allowed = label == "train" if "train" in label else np.full(label.size, True)
        scale = subject_scale(values[0, allowed], grid.ppm)
    except (InputError, ValueError) as error:
        raise InputError(f"{unit}: {error}") from None
    for c, condition in enumerate(grid.conditions):
        n = values.shape[1]
        data[start : start + n] = values[c] / scale
        for t in range(n):
            entries.append(
                {
                    "row": start + t,
                    "unit": unit,
                    "subject": row["subject"],
                    "site": row["site"] or "n/a",
                    "condition": condition,
                    "transient": t,
                    "split": label[t],
                    "scale": scale,
                    "noise_sd": float(noise[c, t]),
                    "n_points": scan.n_points,
                }
            )
        start += n
    return start


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.assemble", description=__doc__.splitlines()[0])
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder with the preprocessed transients")
    parser.add_argument("--output", type=Path, required=True, help="folder of the training set")
    parser.add_argument(
        "--window-ppm", type=float, nargs=2, default=(0.0, 4.4), metavar=("LOW", "HIGH"), help="default: 0.0 4.4"
    )
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument(
        "--fractions",
        type=float,
        nargs=3,
        default=(0.6, 0.2, 0.2),
        metavar=("TRAIN", "VALIDATION", "TEST"),
        help="shares of the subjects (or transients); default: 0.6 0.2 0.2",
    )
    parser.add_argument(
        "--split-unit",
        choices=("auto", "subject", "transient"),
        default="auto",
        help="auto: by subject if there are at least 3, else by transient within each subject",
    )
    a = parser.parse_args(argv)
    assemble(
        a.units,
        a.derivatives,
        a.output,
        window=a.window_ppm,
        seed=a.seed,
        fractions=a.fractions,
        split_unit=a.split_unit,
    )


if __name__ == "__main__":
    run(main)
