"""Result tables with a JSON data dictionary beside each: no column without a description."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mrs_synthesis.files import write_json, write_table

if TYPE_CHECKING:
    import pandas as pd

# What a synthetic source gains, in the words of the table share_of_bound and of the report
GAINS = ("none", "shrinkage to the population", "information beyond shrinkage", "not shown which")
COLUMNS: dict[str, dict[str, str]] = {
    "unit": {"Description": "Scan, named as its files"},
    "subject": {"Description": "Subject"},
    "session": {"Description": "Session"},
    "site": {"Description": "Site"},
    "cell": {"Description": "Study cell, 0-based: position along DIM_DYN of the scan's cells file"},
    "source": {
        "Description": "What the cell is made of: reference, real, a synthesis mode, reconstruction, or a null control"
    },
    "decoder": {"Description": "Decoder output of synthetic transients: mean, sampled or acquired"},
    "n_real": {
        "Description": "Real transients per edit condition; of reference and reconstruction in tables of sources the "
        "median over scans"
    },
    "n_total": {"Description": "Transients per edit condition, synthetic ones and other fillings included; see n_real"},
    "replicate": {"Description": "Replicate, 0-based; replicates of a scan have no real transient in common"},
    "condition": {"Description": "Spectrum that was fitted: OFF, ON, DIFF (= ON - OFF) or UNEDITED"},
    "metabolite": {"Description": "Basis spectrum or sum; GABA+ is GABA with co-edited macromolecules"},
    "engine": {"Description": "Fitting engine"},
    "raw": {"Description": "Amplitude relative to the basis spectrum, arbitrary units common to a scan's conditions"},
    "per_tcr": {"Description": "raw divided by the raw creatine + phosphocreatine of the same cell's OFF or UNEDITED"},
    "per_tcr_sd": {
        "Description": "SD of per_tcr by first-order propagation of the fits' covariance; OFF and DIFF count as "
        "independent"
    },
    "molality_mmol_kg": {
        "Description": "Water-scaled concentration in the tissue's water, corrected for relaxation, and for CSF where "
        "tissue fractions are stated; missing for the reason in note",
        "Units": "mmol/kg",
    },
    "molality_sd_mmol_kg": {
        "Description": "SD of molality_mmol_kg from the metabolite's fit; the water counts as known",
        "Units": "mmol/kg",
    },
    "molarity_mmol_l": {
        "Description": "Water-scaled concentration in the tissue's volume; without tissue fractions that of pure water",
        "Units": "mmol/l",
    },
    "note": {
        "Description": "Why something is missing, and what was done to the spectrum before the fit, e.g. a shift in ppm"
    },
    "crlb_percent": {
        "Description": "Cramer-Rao lower bound of the amplitude; in tables of sources the median over the fits. Not a "
        "precision where transients are synthetic: their noise is not independent",
        "Units": "percent",
    },
    "snr": {"Description": "Signal-to-noise ratio of the metabolite, as the engine defines it"},
    "fwhm_hz": {"Description": "Full width at half maximum of the fitted metabolite", "Units": "Hz"},
    "converged": {"Description": "Whether the fit converged"},
    "challenge_snr": {
        "Description": "ISBI 2023 challenge: maximum of the real difference spectrum in 2.8-3.2 ppm over twice the SD "
        "in 9.8-10.8 ppm after a quadratic fit"
    },
    "challenge_linewidth_ppm": {
        "Description": "ISBI 2023 challenge: distance of the outermost bins above half maximum in 2.8-3.2 ppm",
        "Units": "ppm",
    },
    "challenge_shape": {
        "Description": "ISBI 2023 challenge: 0.6 times the correlation with the reference in 2.8-3.2 ppm plus 0.4 "
        "times that in 3.6-3.9 ppm"
    },
    "challenge_mse": {
        "Description": "ISBI 2023 challenge: mean squared difference from the reference in 2.5-4.0 ppm, both min-max "
        "normalised"
    },
    "fslmrs_snr": {
        "Description": "FSL-MRS's spectrum SNR of OFF or UNEDITED: max |Re| in 0.2-4.2 ppm over sqrt(2) SD(Re) below "
        "-2 and above 10 ppm, not detrended"
    },
    "fslmrs_snr_diff": {"Description": "The same of the difference spectrum"},
    "tcr_snr": {"Description": "Maximum of Re in 2.9-3.15 ppm of OFF or UNEDITED over one noise SD"},
    "tcr_fwhm_hz": {"Description": "Full width at half maximum of tCr in OFF or UNEDITED, no baseline", "Units": "Hz"},
    "noise_sd": {"Description": "SD of the real part of the noise of OFF or UNEDITED in the time domain, file's units"},
    "noise_ratio": {
        "Description": "noise_sd over what n_total independent real transients would have (the reference's noise_sd "
        "times sqrt(its number / n_total)); below 1: too clean"
    },
    "bias_percent": {
        "Description": "Mean difference from the reference (bias_truth: the truth), in percent of it; replicates are "
        "averaged within a scan first",
        "Units": "percent",
    },
    "bias_ci_low": {
        "Description": "Lower end of the 95 % bootstrap interval over subjects (one subject: over replicates)",
        "Units": "percent",
    },
    "bias_ci_high": {"Description": "Upper end of this interval", "Units": "percent"},
    "loa_low": {
        "Description": "Lower limit of agreement of a single estimate: bias - 1.96 SD, the variance being that within "
        "and between scans",
        "Units": "percent",
    },
    "loa_high": {"Description": "Upper limit of agreement", "Units": "percent"},
    "slope": {
        "Description": "Least-squares slope over subjects of the estimate (mean over replicates) on the reference; 0: "
        "everybody was drawn to one value. Needs 3 subjects. Noise in the reference lowers it, see source real"
    },
    "slope_ci_low": {"Description": "Lower end of the slope's 95 % bootstrap interval over subjects"},
    "slope_ci_high": {"Description": "Upper end of this interval"},
    "sd_ratio": {"Description": "SD over subjects of the estimate over that of the reference; mean over replicates"},
    "ccc": {"Description": "Lin's concordance correlation coefficient over subjects; mean over replicates"},
    "icc_a1": {"Description": "ICC(A,1), absolute agreement of single values, over subjects; mean over replicates"},
    "cv_percent": {
        "Description": "Coefficient of variation between the replicates of a scan, root mean square over scans",
        "Units": "percent",
    },
    "tost_p": {
        "Description": "p-value of two one-sided paired t-tests on subjects' mean percent differences (one subject: on "
        "replicates); small: equivalent within the margin named in summary.json"
    },
    "rmse_percent": {
        "Description": "Root mean square difference of single estimates from the reference",
        "Units": "percent",
    },
    "error_to_crlb": {
        "Description": "rmse_percent over crlb_percent; about 1 if the bound tells the error, far above 1 if it is too "
        "small"
    },
    "n": {"Description": "Subjects"},
    "n_replicates": {"Description": "Estimates, replicates of all scans together"},
    "n_missing": {"Description": "Estimates that are missing although the cell exists"},
    "n_eff": {
        "Description": "Effective transients: number of real transients per edit condition whose estimates have the "
        "same RMS error; read it beside slope, since drawing everybody to the mean lowers the error too"
    },
    "n_eff_ci_low": {"Description": "Lower end of the 95 % bootstrap interval over subjects (one subject: replicates)"},
    "n_eff_ci_high": {"Description": "Upper end of this interval"},
    "n_eff_clipped": {
        "Description": "low or high: beyond half the smallest or twice the largest number of the learning curve, where "
        "n_eff is cut; extrapolated: beyond the curve's ends; no: inside"
    },
}


def write_described_table(
    path: Path, table: pd.DataFrame, about: str, extra: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Write a TSV table and, with the same stem, its JSON data dictionary.

    Parameters
    ----------
    path
        Path of the ``.tsv``.
    table
        The table.
    about
        One sentence: what a row is.
    extra
        Descriptions of columns that `COLUMNS` lacks, or that mean something else here.

    Raises
    ------
    ValueError
        If a column has no description.
    """
    known = COLUMNS | {name: dict(text) for name, text in (extra or {}).items()}
    unknown = [column for column in table.columns if column not in known]
    if unknown:
        raise ValueError(f"{path}: no description of column {', '.join(unknown)}")
    write_table(path, table)
    write_json(
        Path(path).with_suffix(".json"),
        {"TableDescription": about, "MissingValue": "n/a"} | {column: known[column] for column in table.columns},
    )
