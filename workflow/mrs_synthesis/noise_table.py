"""Compare the noise of synthetic transients with that of held-out real ones of the same scans: the table `noise`.

Held-out are the transients that the plan of a synthetic file calls reference: no cell and no replicate uses them. A
block is what belongs together: the synthetic transients of one replicate, or the held-out real ones. Of several n_real
the smallest counts.
`noise_statistics` says where and how noise is read.

The row of source real, which is the ceiling of all others, compares two halves of the held-out transients (every other
one, in the order of acquisition) where a statistic compares, and else is that of all of them. Intervals come from a
bootstrap over subjects (of one subject: over its replicates). Of more than `MOST_SUBJECTS` test subjects as many are
looked at.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import agreement, cells, seeds, subset
from mrs_synthesis.noise_statistics import Values, real_values, synthetic_values
from mrs_synthesis.stage import InputError, SkippedError, require, run

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.scans import Scan

FEWEST = 4  # held-out transients: two halves with a difference each
MOST_SUBJECTS = 400  # every site its share: a mean's interval then has a half width of 0.1 SDs between subjects
MODES = ("random", "interpolation", "hybrid")
DECODERS = ("mean", "sampled")
COLUMNS = ("metric", "condition", "source", "decoder", "value", "ci_low", "ci_high", "ceiling", "wanted", "n")


def _slope(sizes: np.ndarray, curves: np.ndarray) -> np.ndarray:
    if len(sizes) < 2:
        return np.full(len(curves), np.nan)
    x = np.log(sizes) - np.mean(np.log(sizes))
    return np.log(curves) @ x / (x @ x) - 0.5


def _deviation(sizes: np.ndarray, curves: np.ndarray) -> np.ndarray:
    return np.max(np.abs(curves - 1.0), axis=1) if len(sizes) > 1 else np.full(len(curves), np.nan)


def _number(_: np.ndarray, values: np.ndarray) -> np.ndarray:
    return values[:, 0]


# Metric: what it is computed from, how from the mean over subjects, and what is wanted (None: what real ones have)
METRICS: dict[str, tuple[str, Callable[[np.ndarray, np.ndarray], np.ndarray], float | None]] = {
    name: (name, _number, wanted)
    for name, wanted in {
        "sd_ratio_free": 1.0,
        "sd_ratio_window": 1.0,
        "sd_ratio_window_late": 1.0,
        "sd_window_to_free": 1.0,
        "band_sd_lowest_to_highest": 1.0,
        "correlation_length_free": 1.0,
        "real_to_imaginary_free": 1.0,
        "real_to_imaginary_fid": 1.0,
        "correlation_real_imaginary_free": 0.0,
        "correlation_real_imaginary_fid": 0.0,
        "correlation_transients_free": 0.0,
        "correlation_transients_window": 0.0,
        "correlation_transients_largest": None,
    }.items()
} | {
    f"averaging_{name}_{place}": (f"averaging_{place}", function, wanted)
    for place in ("free", "window")
    for name, function, wanted in (("slope", _slope, -0.5), ("deviation", _deviation, 0.0))
}
DESCRIPTIONS = {
    "metric": {
        "Description": "Statistic of the noise; *_free: spectrum below -2 and above 10 ppm, detrended; *_window: 0.2 "
        "to 4.2 ppm, late (from six to nine tenths of the FIDs, where signals have decayed) unless it says otherwise; "
        "*_fid: late part of the FIDs, by differences between successive transients",
        "Levels": {
            "sd_ratio_free": "Noise SD over that of the held-out real transients",
            "sd_ratio_window": "The same by differences between successive whole spectra: signals that vary "
            "between transients count as well",
            "sd_ratio_window_late": "The same of late noise: noise alone",
            "sd_window_to_free": "SD of late noise in the window over that in the free ends, by differences",
            "band_sd_lowest_to_highest": "Smallest over largest SD of late noise in six bands (free ends, four parts "
            "of the window), by differences; 1: a flat spectrum of the noise",
            "correlation_length_free": "Spectral correlation length 1 + 2 sum |r_k|^2 over lags of 1 to 20 bins, in "
            "bins; 1: white",
            "real_to_imaginary_free": "SD of the real over that of the imaginary part of the spectrum",
            "real_to_imaginary_fid": "SD of the real over that of the imaginary part of the FID",
            "correlation_real_imaginary_free": "Correlation of real and imaginary part of the spectrum",
            "correlation_real_imaginary_fid": "Correlation of real and imaginary part of the FID",
            "correlation_transients_free": "Mean correlation of the noise of two transients",
            "correlation_transients_window": "The same in the window",
            "correlation_transients_largest": "Largest absolute correlation of the noise of two transients in the free "
            "ends, among equally many synthetic and real ones; 1: a copy",
            "averaging_slope_free": "Slope of log SD of the mean of n transients on log n, n = 1, 2, 4, ... and all of "
            "a replicate",
            "averaging_slope_window": "The same in the window",
            "averaging_deviation_free": "Largest distance from 1 of SD(n) sqrt(n) / SD(1), mean over subjects",
            "averaging_deviation_window": "The same in the window",
        },
    },
    "source": {"Description": "Synthesis mode, or real: held-out real transients"},
    "value": {"Description": "The statistic: mean over subjects, units and replicates averaged within a subject first"},
    "ci_low": {"Description": "Lower end of the 95 % bootstrap interval over subjects (one subject: its replicates)"},
    "ci_high": {"Description": "Upper end of this interval"},
    "ceiling": {
        "Description": "The same statistic of held-out real transients: of one half against the other where it "
        "compares, else of all of them"
    },
    "wanted": {"Description": "Value of ideal noise: white, circular, independent, of the real SD; n/a: see ceiling"},
}


def observations(blocks: Mapping[str, Sequence[Values]], name: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the sizes and the values (subjects, sizes) of one quantity, given the blocks' values by subject.

    Subjects without the quantity are left out, and so are sizes that a subject lacks. With one subject its blocks are
    the observations.
    """
    groups = [[block[name] for block in group if name in block] for group in blocks.values()]
    if len(groups) == 1:
        groups = [[value] for value in groups[0]]
    rows = [[value if isinstance(value, dict) else {0: value} for value in group] for group in groups if group]
    sizes = sorted(set.intersection(*(set(curve) for row in rows for curve in row))) if rows else []
    table = [[np.mean([curve[n] for curve in row]) for n in sizes] for row in rows]
    return np.array(sizes, dtype=float), np.array(table)


def summarise(
    blocks: Mapping[str, Sequence[Values]], metric: str, n_resamples: int, random: np.random.Generator
) -> dict[str, float]:
    """Return value, interval and number of subjects of one metric of one source, from its blocks by subject."""
    name, function, wanted = METRICS[metric]
    sizes, table = observations(blocks, name)
    result = {"value": np.nan, "ci_low": np.nan, "ci_high": np.nan, "wanted": np.nan if wanted is None else wanted}
    if not table.size:
        return result | {"n": 0}
    result["value"] = float(function(sizes, table.mean(axis=0, keepdims=True))[0])
    if len(table) > 1 and n_resamples:
        drawn = agreement.resample(len(table), n_resamples, random) @ table / len(table)
        result["ci_low"], result["ci_high"] = np.percentile(function(sizes, drawn), agreement.PERCENTILES)
    return result | {"n": min(len(table), len(blocks))}


def with_difference(scan: Scan) -> dict[str, np.ndarray]:
    """Return FIDs (transients, points) by condition, DIFF = ON - OFF included where there are both."""
    found = {name: scan.fids[c, :, 0] for c, name in enumerate(scan.conditions)}
    return found | ({"DIFF": found["ON"] - found["OFF"]} if {"OFF", "ON"} <= set(found) else {})


def read_blocks(
    prefix: Path, kinds: Sequence[tuple[str, str]]
) -> tuple[Scan, list[int], dict[tuple[str, str], tuple[Scan, list[tuple[int, int]]]]]:
    """Return one unit's real scan, its held-out transients, and by mode and decoder the synthetic scan and its blocks.

    Parameters
    ----------
    prefix
        What the names of the unit's files begin with.
    kinds
        Pairs of mode and decoder.

    Returns
    -------
    tuple
        The preprocessed scan; the numbers of its held-out transients, in order; of each kind the scan and the first
        and last (exclusive) transient of each replicate of the smallest n_real.

    Raises
    ------
    SkippedError
        If an earlier stage failed for the unit, or too few transients are held out.
    InputError
        If files are absent or contradict each other.
    """
    from mrs_synthesis.scans import read_scan, sidecar_path

    real = read_scan(Path(f"{prefix}_desc-preproc_svs.nii.gz"))
    held: list[int] = []
    found = {}
    for mode, decoder in kinds:
        path = cells.synthetic_path(prefix, mode, decoder)
        scan = read_scan(path)
        try:
            plan = json.loads(require(sidecar_path(path)).read_text())["Plan"]
            reference = sorted(int(k) for k in plan["Reference"])
            ranges = [tuple(replicate["DynRange"]) for replicate in cells.headline(plan["Replicates"])]
        except (ValueError, KeyError, TypeError):
            raise InputError(f"{sidecar_path(path)}: no plan of the synthesis; synthesise again") from None
        if scan.conditions != real.conditions or max(reference) >= real.fids.shape[1]:
            raise InputError(f"{path}: does not belong to {prefix}_desc-preproc_svs.nii.gz; synthesise again")
        if len(reference) < FEWEST:
            raise SkippedError(f"{path}: {len(reference)} held-out transients, expected at least {FEWEST}")
        if held not in ([], reference):
            raise InputError(f"{path}: holds out other transients than the unit's other files; synthesise again")
        held = reference
        found[mode, decoder] = scan, ranges
    return real, held, found


def unit_values(prefix: Path, kinds: Sequence[tuple[str, str]]) -> dict[tuple[str, str, str], list[Values]]:
    """Return one unit's values of each block by (condition, source, decoder); arguments and errors of `read_blocks`."""
    real, held, synthetic = read_blocks(prefix, kinds)
    axis = (real.dwell_s, real.frequency_mhz)
    levels, found = {}, {}
    # Of all kinds as many pairs, so that the largest correlation among them compares
    n_pairs = min(len(held), *(stop - start for _, ranges in synthetic.values() for start, stop in ranges))
    for condition, fids in with_difference(real).items():
        levels[condition], values = real_values(fids[held], *axis, n_pairs)
        found[condition, "real", "n/a"] = values
    for (mode, decoder), (scan, ranges) in synthetic.items():
        for condition, fids in with_difference(scan).items():
            blocks = [fids[start:stop] for start, stop in ranges]
            found[condition, mode, decoder] = synthetic_values(blocks, *axis, levels[condition], n_pairs)
    return found


def by_subject(
    units: Sequence[Mapping], derivatives: Path, read: Callable[[Path], Mapping[tuple, Sequence]], seed: int
) -> tuple[dict[tuple[str, str, str], dict[str, list]], str]:
    """Return what `read` gives of every unit, whose files' names start with its argument, by key and subject.

    Units that an earlier stage left out are named and passed over. Of more than `MOST_SUBJECTS` subjects as many are
    read, which the words that come second tell.
    """
    series: dict[tuple[str, str, str], dict[str, list]] = {}
    sites = {str(row["subject"]): str(row["site"]) for row in units}
    chosen = set(subset.subjects(sites, MOST_SUBJECTS, seed, "noise_table", "subjects"))
    for row in units:
        if str(row["subject"]) not in chosen:
            continue
        try:
            found = read(Path(derivatives) / row["folder"] / "mrs" / row["unit"])
        except SkippedError as error:
            print(f"left out: {row['unit']}: {error}", flush=True)
            continue
        for key, values in found.items():
            series.setdefault(key, {}).setdefault(row["subject"], []).extend(values)
    few = len(chosen) < len(sites)
    return series, f"; of {len(chosen)} of {len(sites)} test subjects, every site its share" if few else ""


def noise_table(
    units: Sequence[Mapping], derivatives: Path, kinds: Sequence[tuple[str, str]], n_resamples: int, seed: int
) -> tuple[pd.DataFrame, str]:
    """Return the table and what was left out, in words; `units` are rows of units.tsv, `kinds` of mode and decoder."""
    import pandas as pd

    series, left = by_subject(units, derivatives, lambda prefix: unit_values(prefix, kinds), seed)
    rows, ceilings = [], {}
    for metric in METRICS:
        for key in series:
            random = seeds.generator(seed, "noise_table", metric, *key)
            result = summarise(series[key], metric, n_resamples, random)
            if key[1] == "real":
                ceilings[metric, key[0]] = result["value"]
            names = {"metric": metric, "condition": key[0], "source": key[1], "decoder": key[2]}
            rows.append(names | result | {"ceiling": ceilings[metric, key[0]]})
    return pd.DataFrame(rows, columns=list(COLUMNS)), left


def parser_of(module: str, text: str) -> argparse.ArgumentParser:
    """Return the command line that the tables of the noise share."""
    parser = argparse.ArgumentParser(
        prog=f"python -m mrs_synthesis.{module}",
        description=text,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--units", type=Path, required=True, help="units.tsv, one row per scan")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set (for the splits)")
    parser.add_argument("--derivatives", type=Path, required=True, help="folder with real and synthetic transients")
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="default: all")
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=list(DECODERS), help="default: both")
    parser.add_argument("--bootstrap", type=int, default=1000, help="resamples of the confidence intervals")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="the table, TSV; its data dictionary goes beside it")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    a = parser_of("noise_table", __doc__).parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.evaluate import read_units

    units, split_unit = read_units(a.units, a.training)
    kinds = [(mode, decoder) for mode in a.modes for decoder in a.decoders]
    table, left = noise_table(units, a.derivatives, kinds, a.bootstrap, a.seed)
    about = "One statistic of the noise of one source's transients beside held-out real ones of the same scans"
    about += "; training and test transients are of the same subjects" if split_unit == "transient" else ""
    write_described_table(a.output, table, about + left, DESCRIPTIONS)


if __name__ == "__main__":
    run(main)
