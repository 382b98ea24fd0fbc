"""Noise SD of synthetic transients over that of held-out real ones, by ppm: the table `noise_spectrum`.

Noise is read from differences between successive transients, so that what transients have in common does not count;
what varies between them does, be it noise or signal. Held-out transients and blocks are those of `noise_table`. The row
of source real, the ceiling, compares two halves of the held-out transients.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import agreement, noise_table, seeds, spectra
from mrs_synthesis.noise_statistics import differences, within
from mrs_synthesis.stage import run

if TYPE_CHECKING:
    import pandas as pd

BAND_PPM = 0.2
EDGES_PPM = np.round(np.arange(-3.0, 12.0 + BAND_PPM, BAND_PPM), 3)
FEWEST_BINS = 4
COLUMNS = {
    "source": {"Description": "Synthesis mode, or real: one half of the held-out real transients over the other"},
    "decoder": {"Description": "Decoder output of synthetic transients: mean or sampled"},
    "condition": {"Description": "OFF, ON, DIFF (= ON - OFF, pair by pair) or UNEDITED"},
    "ppm": {"Description": f"Middle of a band of {BAND_PPM} ppm", "Units": "ppm"},
    "ratio": {
        "Description": "SD of the differences between successive transients over that of the scan's held-out real "
        "ones: mean over subjects, units and replicates averaged within a subject first; 1: noise as measured, "
        "0: none. Signals that vary between transients count as well"
    },
    "ratio_ci_low": {"Description": "Lower end of the 95 % bootstrap interval over subjects"},
    "ratio_ci_high": {"Description": "Upper end of this interval"},
    "n": {"Description": "Subjects"},
}


def band_sd(fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the SD of one real part in each band, by differences between successive FIDs (transients, points).

    Shape (bands,); NaN where the spectrum has fewer than 4 bins of a band.
    """
    changes = differences(spectra.to_spectrum(fids))
    ppm = spectra.ppm_axis(fids.shape[-1], dwell_s, frequency_mhz)
    result = np.full(EDGES_PPM.size - 1, np.nan)
    for k, (low, high) in enumerate(itertools.pairwise(EDGES_PPM)):
        inside = within(ppm, (low, high))
        # A band that the spectrum ends in is left out, too
        if inside.sum() >= FEWEST_BINS and ppm[0] <= low and high <= ppm[-1]:
            result[k] = np.sqrt(np.mean(np.abs(changes[:, inside]) ** 2) / 2.0)
    return result


def unit_ratios(prefix: Path, kinds: Sequence[tuple[str, str]]) -> dict[tuple[str, str, str], list[np.ndarray]]:
    """Return one unit's ratios, one of shape (bands,), by (condition, source, decoder); arguments of `read_blocks`."""
    real, held, synthetic = noise_table.read_blocks(prefix, kinds)
    axis = (real.dwell_s, real.frequency_mhz)
    level, found = {}, {}
    for condition, fids in noise_table.with_difference(real).items():
        own = fids[held]
        level[condition] = band_sd(own, *axis)
        found[condition, "real", "n/a"] = [band_sd(own[::2], *axis) / band_sd(own[1::2], *axis)]
    for (mode, decoder), (scan, ranges) in synthetic.items():
        for condition, fids in noise_table.with_difference(scan).items():
            blocks = [band_sd(fids[start:stop], *axis) for start, stop in ranges if stop - start > 1]
            if blocks:
                found[condition, mode, decoder] = [np.mean(blocks, axis=0) / level[condition]]
    return found


def table(
    units: Sequence[Mapping], derivatives: Path, kinds: Sequence[tuple[str, str]], n_resamples: int, seed: int
) -> tuple[pd.DataFrame, str]:
    """Return the table and what was left out, in words; `units` are rows of units.tsv, `kinds` of mode and decoder."""
    import pandas as pd

    series, left = noise_table.by_subject(units, derivatives, lambda prefix: unit_ratios(prefix, kinds), seed)
    middle = np.round((EDGES_PPM[:-1] + EDGES_PPM[1:]) / 2, 3)
    rows = []
    for (condition, source, decoder), subjects in series.items():
        values = np.array([np.mean(own, axis=0) for own in subjects.values()])
        low = high = np.full(middle.size, np.nan)
        if len(values) > 1:
            random = seeds.generator(seed, "noise_spectrum", condition, source, decoder)
            drawn = agreement.resample(len(values), n_resamples, random) @ values / len(values)
            low, high = np.percentile(drawn, agreement.PERCENTILES, axis=0)
        for k in np.flatnonzero(np.isfinite(values).all(axis=0)):
            names = {"source": source, "decoder": decoder, "condition": condition, "ppm": middle[k]}
            ratio = {"ratio": values[:, k].mean(), "ratio_ci_low": low[k], "ratio_ci_high": high[k]}
            rows.append(names | ratio | {"n": len(values)})
    return pd.DataFrame(rows, columns=list(COLUMNS)), left


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    a = noise_table.parser_of("noise_spectrum", __doc__).parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table
    from mrs_synthesis.evaluate import read_units

    units, split_unit = read_units(a.units, a.training)
    kinds = [(mode, decoder) for mode in a.modes for decoder in a.decoders]
    about = "Noise of one source's transients over that of held-out real ones of the same scans, in one band of ppm"
    about += "; training and test transients are of the same subjects" if split_unit == "transient" else ""
    found, left = table(units, a.derivatives, kinds, a.bootstrap, a.seed)
    write_described_table(a.output, found, about + left, COLUMNS)


if __name__ == "__main__":
    run(main)
