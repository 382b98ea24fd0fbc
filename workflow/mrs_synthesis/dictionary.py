"""Result tables with a JSON data dictionary beside each: no column without a description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from mrs_synthesis import __version__, sidecars
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
    "raw_sd": {"Description": "SD of raw by the Cramer-Rao bound, or as the engine defines it"},
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
    "bias_percent": {
        "Description": "Mean difference from the reference (bias_truth: the truth), in percent of it; replicates are "
        "averaged within a scan first",
        "Units": "percent",
    },
    "bias_ci_low": {
        "Description": "Lower end of the 95 % bootstrap interval over subjects (one subject: over replicates): "
        "expanded percentiles, which few subjects widen as Student's t does",
        "Units": "percent",
    },
    "bias_ci_high": {"Description": "Upper end of this interval", "Units": "percent"},
    "scale": {
        "Description": "Scale of the limits of agreement, which are in percent of the reference in any case",
        "Levels": {
            "percent": "bias_percent - and + 1.96 SD of the percent differences",
            "log": "The same of the logarithm of estimate over reference, transformed back; taken where "
            "proportional_p is below 0.05 and every estimate is positive",
        },
    },
    "proportional_p": {
        "Description": "One-sided p-value that the size of the difference (in units of the ratio) grows with the mean "
        "of estimate and reference: Kendall's rank correlation over subjects; not corrected for the number of series"
    },
    "loa_low": {
        "Description": "Lower limit of agreement of a single estimate: mean difference - 1.96 SD on the scale named in "
        "`scale`, the variance being that within and between subjects",
        "Units": "percent",
    },
    "loa_low_ci_low": {
        "Description": "Lower end of its 95 % interval (Zou 2013; with one estimate per subject that of ordinary "
        "limits)",
        "Units": "percent",
    },
    "loa_low_ci_high": {"Description": "Upper end of this interval", "Units": "percent"},
    "loa_high": {"Description": "Upper limit of agreement", "Units": "percent"},
    "loa_high_ci_low": {"Description": "Lower end of its 95 % interval", "Units": "percent"},
    "loa_high_ci_high": {"Description": "Upper end of this interval", "Units": "percent"},
    "slope": {
        "Description": "Least-squares slope over subjects of the estimate (mean over replicates) on the reference; 0: "
        "everybody was drawn to one value. Needs 3 subjects. Noise in the reference lowers it, see source real"
    },
    "slope_ci_low": {"Description": "Lower end of the slope's 95 % bootstrap interval over subjects, as bias_ci_low"},
    "slope_ci_high": {"Description": "Upper end of this interval"},
    "sd_ratio": {"Description": "SD over subjects of the estimate over that of the reference; mean over replicates"},
    "sd_ratio_ci_low": {
        "Description": "Lower end of its 95 % interval (Pitman & Morgan), of one replicate; mean over replicates"
    },
    "sd_ratio_ci_high": {"Description": "Upper end of this interval"},
    "ccc": {"Description": "Lin's concordance correlation coefficient over subjects; mean over replicates"},
    "ccc_ci_low": {
        "Description": "Lower end of its 95 % interval (Lin's z-transform), of one replicate; mean over replicates"
    },
    "ccc_ci_high": {"Description": "Upper end of this interval"},
    "icc_a1": {"Description": "ICC(A,1), absolute agreement of single values, over subjects; mean over replicates"},
    "icc_a1_ci_low": {
        "Description": "Lower end of its 95 % interval (McGraw & Wong 1996), of one replicate; mean over replicates"
    },
    "icc_a1_ci_high": {"Description": "Upper end of this interval"},
    "cv_percent": {
        "Description": "Coefficient of variation between the replicates of a scan, root mean square over scans",
        "Units": "percent",
    },
    "tost_p": {
        "Description": "p-value of two one-sided paired t-tests on subjects' mean percent differences (one subject: on "
        "replicates); small: equivalent within the margin named in summary.json"
    },
    "tost_p_holm": {
        "Description": "tost_p after Holm; family: all metabolite ratios x series of the table (of bias_by_site: of "
        "one site) whose source is of the same kind: synthetic, null control, real, reconstruction or reference"
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
    "n_left_out": {
        "Description": "Subjects with test scans (of the site) that are not in n: a stage failed (see failures), or "
        "the estimate is missing; scans that the sample sheet excludes are not counted"
    },
    "n_replicates": {"Description": "Estimates, replicates of all scans together"},
    "n_missing": {"Description": "Estimates that are missing although the cell exists"},
    "n_eff": {
        "Description": "Effective transients: number of real transients per edit condition whose estimates have the "
        "same RMS error; read it beside slope, since drawing everybody to the mean lowers the error too"
    },
    "n_eff_ci_low": {"Description": "Lower end of the 95 % bootstrap interval over subjects, as bias_ci_low"},
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
    described = describe(path, table.columns, extra)
    write_table(path, table)
    write_json(Path(path).with_suffix(".json"), {"TableDescription": about, "MissingValue": "n/a"} | described)


def write_table_sidecar(
    path: Path, about: str, sources: Iterable[Path], extra: Mapping[str, Mapping[str, str]] | None = None
) -> None:
    """Write the BIDS sidecar of a TSV table among the derivatives, which exists already.

    Parameters
    ----------
    path, about, extra
        As in `write_described_table`.
    sources
        Files that the table was made from.

    Raises
    ------
    ValueError
        If a column has no description.
    """
    with open(path, encoding="utf-8") as stream:
        columns = stream.readline().rstrip("\n").split("\t")
    facts = {
        "Description": about,
        "MissingValue": "n/a",
        "Sources": [sidecars.uri(source, path) for source in sources],
        "GeneratedBy": [{"Name": "mrs-synthesis", "Version": __version__}],
    }
    write_json(Path(path).with_suffix(".json"), facts | describe(path, columns, extra))


def describe(
    path: Path, columns: Iterable[str], extra: Mapping[str, Mapping[str, str]] | None = None
) -> dict[str, dict[str, str]]:
    """Return the descriptions of a table's columns.

    Raises
    ------
    ValueError
        If one has none.
    """
    known = COLUMNS | {name: dict(text) for name, text in (extra or {}).items()}
    unknown = [column for column in columns if column not in known]
    if unknown:
        raise ValueError(f"{path}: no description of column {', '.join(unknown)}")
    return {column: known[column] for column in columns}
