"""Signal quality of every study cell of the test scans: the ISBI 2023 challenge's metrics, FSL-MRS's, and the fit's.

The spectra's metrics are those of `mrs_synthesis.quality`. The fit's are read from what quantification wrote: FSL-MRS's
SNR and line width of the metabolites, and the residual.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import metabolites, quality
from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

CONDITIONS = ("OFF", "ON", "DIFF", "UNEDITED")
FITTED = {"OFF": ("tNAA", "tCr"), "DIFF": ("GABA+",), "UNEDITED": ("tNAA", "tCr")}
BLOCK = 64  # cells at once: 17 MB of zero-filled spectra each
CALCULATOR = (
    "https://github.com/rmsouza01/Edited-MRS-challenge/blob/bf12e56e0134eb755b7ddeb0fe7d5c5b956a937d/"
    "metric_calculator.py"
)
SPECTROVIT = "https://github.com/MICLab-Unicamp/Spectro-ViT/blob/472d764cb8c42443318413e50e716f612079ed11/metrics.py"
FSLMRS = "https://github.com/wtclarke/fsl_mrs"
EMPTY = "Compares with nothing: says nothing of whether the spectrum is the subject's"


def label(metabolite: str) -> str:
    """Return a metabolite's name as part of a column's."""
    return metabolite.lower().replace("+", "_plus")


def descriptions() -> dict[str, dict[str, str]]:
    """Return the data dictionary of the columns of all conditions."""
    calculator = "ISBI 2023 challenge's calculator of 21 January 2023, real difference spectrum: "
    winner = "Spectro-ViT's variant of the challenge's calculator, real difference spectrum: "
    lowest = "a region lacks its lowest bin"
    found = {
        "challenge_snr": {
            "Description": f"{calculator}maximum in 2.8-3.2 ppm over twice the SD in 9.8-10.8 ppm after a quadratic "
            f"fit (squares over n - 1); {lowest}. {EMPTY}, and a decoder writes no noise there",
            "TermURL": CALCULATOR,
        },
        "challenge_linewidth_ppm": {
            "Description": f"{calculator}distance of the outermost bins above half of the min-max normalised maximum "
            f"in 2.8-3.2 ppm; {lowest}. Noise only widens it, smoothing narrows it",
            "Units": "ppm",
            "TermURL": CALCULATOR,
        },
        "challenge_linewidth_hz": {
            "Description": "challenge_linewidth_ppm times the spectrometer frequency",
            "Units": "Hz",
        },
        "challenge_shape": {
            "Description": f"{calculator}0.6 times Pearson's correlation with the reference in 2.8-3.2 ppm plus 0.4 "
            f"times that in 3.6-3.9 ppm; {lowest}. The noise of both lowers it. 1 of the reference itself",
            "TermURL": CALCULATOR,
        },
        "challenge_mse": {
            "Description": f"{calculator}mean squared difference from the reference in 2.5-4.0 ppm, both min-max "
            f"normalised there; {lowest}. Its earlier versions do not normalise. 0 of the reference itself",
            "TermURL": CALCULATOR,
        },
        "spectrovit_snr": {
            "Description": f"{winner}as challenge_snr, but noise in 10-12 ppm",
            "TermURL": SPECTROVIT,
        },
        "spectrovit_shape": {
            "Description": f"{winner}as challenge_shape, negative correlations set to 0",
            "TermURL": SPECTROVIT,
        },
        "spectrovit_mse": {
            "Description": f"{winner}mean squared difference from the reference in 2.79-4.1 ppm, not normalised; to be "
            "compared within a scan",
            "Units": "squared units of the file's spectrum",
            "TermURL": SPECTROVIT,
        },
    }
    for condition in CONDITIONS:
        c = condition.lower()
        found |= {
            f"fslmrs_snr_{c}": {
                "Description": f"FSL-MRS 2.4.11's SNR of the whole spectrum (qc.calcQC), {condition}: max |Re| in "
                "0.2-4.2 ppm over sqrt(2) SD(Re) of the noise below -2 and above 10 ppm (where the outer quarters of "
                "the bandwidth differ by Levene's test: either these or noise, not both), not detrended: tails of "
                "signal and water bound it",
                "TermURL": FSLMRS,
            },
            f"fslmrs_snr_residual_{c}": {
                "Description": f"FSL-MRS 2.4.11's SNR over the fit's residual (qc.calcQC), {condition}: max |Re(data - "
                "baseline)| over 2 sqrt(mean |residual|^2), in the fit's range",
                "TermURL": FSLMRS,
            },
            f"fit_residual_to_noise_{c}": {
                "Description": f"Root mean square of the fit's complex residual over the noise's, {condition}; its "
                "square is the fit quality number. About 1: the fit leaves noise. Far above 1: what it leaves is no "
                "noise, or the noise outside the fit's range is not that inside, as in cells filled with a decoder's "
                "mean"
            },
            f"noise_sd_{c}": {
                "Description": f"SD of the real part of the noise in the time domain, {condition}, from the spectrum "
                "below -2 and above 10 ppm, detrended; file's units"
            },
            f"noise_ratio_{c}": {
                "Description": f"noise_sd_{c} over what n_total independent real transients would have (the "
                "reference's times sqrt(its number / n_total)); below 1: too clean"
            },
        }
        if condition in ("OFF", "UNEDITED"):
            found |= {
                f"tcr_snr_{c}": {"Description": f"Maximum of Re in 2.9-3.15 ppm over one noise SD, {condition}"},
                f"tcr_fwhm_hz_{c}": {
                    "Description": f"Full width at half maximum of tCr between the nearest crossings, {condition}, "
                    "8-fold zero-filled, no baseline",
                    "Units": "Hz",
                },
            }
        for name in FITTED.get(condition, ()):
            members = ", ".join(members_of(name))
            found |= {
                f"fslmrs_snr_{label(name)}_{c}": {
                    "Description": f"FSL-MRS 2.4.11's SNR of the fitted {name} in {condition}, the sum over {members}, "
                    "which FSL-MRS gives one by one (matched filter: highest |Re| of the fitted basis spectrum over "
                    "sqrt(2) SD of the detrended noise, both apodised by the smallest FWHM); that of the summed "
                    "spectrum where their peaks coincide, else an upper bound",
                    "TermURL": FSLMRS,
                },
                f"fslmrs_fwhm_hz_{label(name)}_{c}": {
                    "Description": f"FSL-MRS 2.4.11's FWHM of the fitted {name} in {condition}, of that of {members} "
                    "with the highest SNR: width at half prominence of the basis spectrum's most prominent peak, "
                    "broadened as fitted; missing where none is clear",
                    "Units": "Hz",
                    "TermURL": FSLMRS,
                },
            }
    return found


def members_of(name: str) -> tuple[str, ...]:
    """Return the basis spectra that a combined metabolite may be a sum of."""
    return (metabolites.SUMS | metabolites.DIFF_SUMS)[name]


def metabolite_columns(fit: pd.DataFrame, condition: str, cells: np.ndarray) -> dict[str, np.ndarray]:
    """Return FSL-MRS's SNR and width of the combined metabolites of `FITTED`, (cells,) each.

    Parameters
    ----------
    fit
        The table of fits: cell, condition, metabolite, snr, fwhm_hz.
    condition
        OFF, DIFF or UNEDITED.
    cells
        Numbers of the cells.
    """
    own = fit[fit["condition"] == condition]
    columns = {}
    for name in FITTED.get(condition, ()):
        parts = own[own["metabolite"].isin(members_of(name))]
        snr, width = (
            parts.pivot(index="cell", columns="metabolite", values=v).reindex(cells) for v in ("snr", "fwhm_hz")
        )
        columns[f"fslmrs_snr_{label(name)}_{condition.lower()}"] = snr.sum(axis=1, min_count=1).to_numpy(float)
        strongest = snr.eq(snr.max(axis=1), axis=0)
        columns[f"fslmrs_fwhm_hz_{label(name)}_{condition.lower()}"] = (
            width.where(strongest).max(axis=1).to_numpy(float)
        )
    return columns


def residual_columns(
    curves: Mapping[str, np.ndarray], condition: str, cells: np.ndarray, noise: np.ndarray, n_points: int
) -> dict[str, np.ndarray]:
    """Return FSL-MRS's SNR over the residual, and the residual over the noise, (cells,) each.

    Parameters
    ----------
    curves
        ``{condition}_cell`` and, on the scale of `spectra.to_spectrum`, ``{condition}_data``, ``_fit`` (baseline
        included) and ``_baseline``.
    condition
        What was fitted.
    cells
        Numbers of the cells.
    noise
        Noise SD of their FIDs' real part, (cells,).
    n_points
        Of the FIDs.
    """
    data, fit, baseline = (np.asarray(curves[f"{condition}_{part}"], complex) for part in ("data", "fit", "baseline"))
    rms = np.sqrt(np.mean(np.abs(data - fit) ** 2, axis=1))
    height = np.abs((data - baseline).real).max(axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        found = {"snr": height / (2 * rms), "rms": rms}
    position = {int(cell): i for i, cell in enumerate(curves[f"{condition}_cell"])}
    rows = np.array([position.get(int(cell), -1) for cell in cells])
    found = {name: np.where(rows >= 0, values[rows], np.nan) for name, values in found.items()}
    c = condition.lower()
    return {
        f"fslmrs_snr_residual_{c}": np.where(np.isfinite(found["snr"]), found["snr"], np.nan),
        f"fit_residual_to_noise_{c}": found["rms"] / (np.sqrt(2 * n_points) * noise),
    }


def unit_table(base: Path, unit: str, engine: str) -> pd.DataFrame:
    """Return the quality of the cells of one unit, whose derivatives start with ``base/unit``, a row per cell.

    Raises
    ------
    SkippedError
        If an earlier stage failed for the unit.
    InputError
        If its files contradict each other.
    """
    import pandas as pd

    from mrs_synthesis.evaluate import read_cells
    from mrs_synthesis.files import read_table
    from mrs_synthesis.scans import read_scan

    index = read_cells(base, unit)
    prefix = f"{unit}_desc-{engine.replace('-', '')}"
    path = base / f"{unit}_desc-cells_svs.nii.gz"
    try:
        fit = read_table(require(base / f"{prefix}_mrsfit.tsv"), ("cell", "condition", "metabolite", "snr", "fwhm_hz"))
    except ValueError as error:
        raise InputError(str(error)) from None
    curves = require(base / f"{prefix}_fit.npz")
    scan = read_scan(path)
    fids = scan.fids[:, :, 0]
    references = index[index["source"] == "reference"]
    if index["cell"].tolist() != list(range(fids.shape[1])) or len(references) != 1:
        raise InputError(
            f"{path}: {fids.shape[1]} spectra, the index has {len(index)} cells of which {len(references)} are the "
            "reference, expected as many and one; augment again"
        )
    first = references.iloc[0]
    share = np.sqrt(first["n_total"] / index["n_total"].to_numpy(float))
    axis = (scan.dwell_s, scan.frequency_mhz)
    reference, cells = fids[:, first["cell"]], index["cell"].to_numpy()
    parts = [
        quality.cells_quality(fids[:, at : at + BLOCK], reference, share[at : at + BLOCK], scan.conditions, *axis)
        for at in range(0, len(index), BLOCK)
    ]
    columns = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    with np.load(curves, allow_pickle=False) as arrays:
        for condition in (name for name in CONDITIONS if f"{name}_data" in arrays):
            noise = columns[f"noise_sd_{condition.lower()}"]
            columns |= residual_columns(arrays, condition, cells, noise, scan.n_points)
            columns |= metabolite_columns(fit, condition, cells)
    return pd.concat([index, pd.DataFrame(columns)], axis=1)


def quality_table(units: Sequence[Mapping], derivatives: Path, engine: str) -> pd.DataFrame:
    """Return the table, a row per scan and cell; `units` are rows of units.tsv.

    Raises
    ------
    InputError
        If no unit is left, or a unit's files contradict each other.
    """
    import pandas as pd

    from mrs_synthesis.evaluate import CELL, IDENTIFIERS

    tables = []
    for row in units:
        try:
            table = unit_table(Path(derivatives) / row["folder"] / "mrs", row["unit"], engine)
        except SkippedError as error:
            print(f"left out: {error}", flush=True)
            continue
        tables.append(table.assign(**{name: row[name] for name in IDENTIFIERS}))
    if not tables:
        raise InputError(f"all {len(units)} test units failed earlier; see the table of failures")
    table = pd.concat(tables, ignore_index=True)
    order = [*IDENTIFIERS, *CELL, *(name for name in descriptions() if name in table)]
    return table[order]


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.quality_table",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set (for the splits)")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder with cells and fits")
    parser.add_argument("--engine", choices=("batched", "fsl-mrs"), required=True, help="whose fits to read")
    parser.add_argument("--output", type=Path, required=True, help="the table, TSV; its data dictionary goes beside it")
    a = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.evaluate import read_units

    units, _ = read_units(a.units, a.training)
    table = quality_table(units, a.derivatives, a.engine)
    write_described_table(a.output, table, "Signal quality of one study cell", descriptions())


if __name__ == "__main__":
    run(main)
