"""What the report reads of single scans, reduced to what fits into a page: transients, fitted curves, quality control.

Nothing here knows HTML or a plotting library.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mrs_synthesis import cells, spectra
from mrs_synthesis.files import MISSING, read_table
from mrs_synthesis.report_data import (
    CONDITION_ORDER,
    CONTROLS,
    SCALE_PPM,
    SOURCE_ORDER,
    SYNTHETIC,
    WINDOW_PPM,
    Study,
    at_number,
    read_json,
)
from mrs_synthesis.scans import Scan, read_scan, sidecar_path

if TYPE_CHECKING:
    import pandas as pd

LISTED_SCANS = 100
DECODERS = ("mean", "sampled", "acquired")


class Transients(NamedTuple):
    """A unit's transients: ppm (W,), mean, SD (W,) and number per (series, condition), the spectrometer's frequency."""

    ppm: np.ndarray
    series: dict[tuple[str, str], tuple[np.ndarray, np.ndarray, int]]
    mhz: float

    @property
    def single(self) -> bool:
        """Whether there is but one transient, an average, so that no SD is known."""
        return all(n == 1 for _, _, n in self.series.values())


def window_spectra(scan: Scan) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return ppm (W,) and, per condition, real spectra (transients, W) in the displayed window.

    Coils are taken as combined (the first). An edited scan gets the condition DIFF = ON - OFF, pair by pair.
    """
    ppm = scan.ppm
    inside = (ppm >= WINDOW_PPM[0]) & (ppm <= WINDOW_PPM[1])
    real = spectra.to_spectrum(scan.fids[:, :, 0])[..., inside].real
    found = dict(zip(scan.conditions, real, strict=True))
    if "OFF" in found and "ON" in found:
        found["DIFF"] = found["ON"] - found["OFF"]
    return ppm[inside], found


def transient_statistics(study: Study, unit: str) -> Transients:
    """Return means and SDs over a unit's transients.

    Series are ``real`` (every preprocessed transient), ``reconstruction``, and ``random|mean`` and so on for synthetic
    ones of the smallest n_real (``acquired``: with tracks and water, not preprocessed). All are divided by one number
    per unit: the largest real mean of OFF (or UNEDITED) within 1.8-3.4 ppm.

    Raises
    ------
    InputError, SkippedError
        If the preprocessed scan cannot be read; other files may be absent.
    """
    files = {
        "real": study.path(unit, "desc-preproc_svs.nii.gz"),
        "reconstruction": study.path(unit, "desc-recon_svs.nii.gz"),
    }
    for mode in SYNTHETIC:
        for decoder in DECODERS:
            files[f"{mode}|{decoder}"] = study.path(unit, f"desc-synth{mode.title()}{decoder.title()}_svs.nii.gz")
    axis, scale, found, mhz = None, 1.0, {}, float("nan")
    for series, path in files.items():
        if series != "real" and (not path.is_file() or not path.stat().st_size):
            continue
        scan = read_scan(path)
        ppm, by_condition = window_spectra(scan)
        replicates = read_json(sidecar_path(path)).get("Plan", {}).get("Replicates", [])
        if own := [k for one in cells.headline(replicates) if "DynRange" in one for k in range(*one["DynRange"])]:
            by_condition = {condition: values[own] for condition, values in by_condition.items()}
        if axis is None:
            axis, mhz = ppm, float(scan.frequency_mhz)
            first = by_condition.get("OFF", next(iter(by_condition.values())))
            inside = (axis >= SCALE_PPM[0]) & (axis <= SCALE_PPM[1])
            scale = float(np.max(np.abs(first.mean(0)[inside]), initial=0.0)) or 1.0
        for condition, values in by_condition.items():
            mean, sd = values.mean(0) / scale, values.std(0, ddof=int(len(values) > 1)) / scale
            if ppm.shape != axis.shape or not np.allclose(ppm, axis):
                mean, sd = np.interp(axis, ppm, mean), np.interp(axis, ppm, sd)
            found[series, condition] = (mean, sd, len(values))
    return Transients(axis, found, mhz)


def fitted_cells(study: Study, unit: str) -> list[dict[str, Any]]:
    """Return the fitted curves of a unit's reference, of one cell per source, and of the real transients alone.

    Each has source, decoder, n_real, n_total and ``curves``: condition -> (ppm, data, fit, baseline), real parts.
    """
    index_path, curves_path = (
        study.path(unit, "desc-cells_index.tsv"),
        study.path(unit, f"desc-{study.engine.replace('-', '')}_fit.npz"),
    )
    if not all(path.is_file() and path.stat().st_size for path in (index_path, curves_path)):
        return []
    index = read_table(index_path, ("cell", "source"))
    chosen = chosen_cells(index)
    own = chosen["cell"].to_numpy(int)
    with np.load(curves_path, allow_pickle=False) as stored:  # one array in memory at once: there may be many cells
        curves = {
            key: stored[key] if key.endswith("_ppm") else stored[key][own]
            for key in stored.files
            if key.endswith(("_ppm", "_data", "_fit", "_baseline"))
        }
    cells = []
    for position, row in enumerate(chosen.to_dict("records")):
        found = {}
        for condition in CONDITION_ORDER:
            if f"{condition}_fit" not in curves:
                continue
            ppm = curves[f"{condition}_ppm"]
            order = np.flatnonzero((ppm >= WINDOW_PPM[0]) & (ppm <= WINDOW_PPM[1]))
            parts = [curves[f"{condition}_{part}"][position].real[order] for part in ("data", "fit", "baseline")]
            if all(np.isfinite(part).all() for part in parts):
                found[condition] = (ppm[order], *parts)
        if found:
            cells.append({**row, "curves": found})
    return cells


def chosen_cells(index: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (source, decoder): the first replicate, the real transients alone with the cells' `n_real`."""
    index = at_number(index)
    filled = index[index["source"].isin([*SYNTHETIC, *CONTROLS])]
    for column in ("decoder", "n_real", "n_total", "replicate"):
        if column not in index:
            index = index.assign(**{column: np.nan})
    n_real = filled["n_real"].dropna().min() if "n_real" in filled and len(filled) else index["n_real"].min()
    real = (index["source"] == "real") & (index["n_real"] != n_real)
    kept = index[~real].sort_values(["replicate", "cell"], kind="stable")
    kept = kept.drop_duplicates(["source", "decoder"])
    rank = {source: position for position, source in enumerate(SOURCE_ORDER)}
    return kept.sort_values("source", key=lambda column: column.map(rank).fillna(99), kind="stable")


def quality_control(study: Study, unit: str) -> pd.DataFrame | None:
    """Return a unit's table of transients (``desc-preproc_qc.tsv``), or None."""
    path = study.path(unit, "desc-preproc_qc.tsv")
    if not path.is_file() or not path.stat().st_size:
        return None
    table = read_table(path)
    return table if {"condition", "transient", "kept"} <= set(table.columns) else None


def rejected(study: Study) -> dict[str, Any]:
    """Return how many transients were acquired and kept, and why the others were not.

    Returns
    -------
    dict
        ``rows``: unit, transients, kept, rejected, reasons of each scan, or, of many, of the `LISTED_SCANS` that lost
        the largest share; ``total``: number of scans; ``sites``: of many scans the same sums by site, else none.
    """
    sites = study.units["site"].fillna(MISSING).astype(str) if "site" in study.units else [MISSING] * len(study.units)
    rows, by_site = [], {}
    for unit, site in zip(study.units["unit"], sites, strict=True):
        table = quality_control(study, unit)
        if table is None:
            continue
        out = table[table["kept"].astype(int) == 0]
        reasons = Counter(out["reason"].fillna("no reason given") if "reason" in out else ())
        rows.append(_rejections(len(table), reasons, len(out)) | {"unit": unit})
        whole = by_site.setdefault(site, [0, 0, 0, Counter()])
        by_site[site] = [whole[0] + 1, whole[1] + len(table), whole[2] + len(out), whole[3] + reasons]
    found = {"rows": rows, "total": len(rows), "sites": []}
    if len(rows) > LISTED_SCANS:
        rows.sort(key=lambda row: -row["rejected"] / row["transients"])
        found["rows"] = rows[:LISTED_SCANS]
        found["sites"] = [
            _rejections(n, reasons, lost) | {"unit": site, "scans": scans}
            for site, (scans, n, lost, reasons) in sorted(by_site.items())
        ]
    return found


def _rejections(n: int, reasons: Counter, lost: int) -> dict[str, Any]:
    words = "; ".join(f"{reason}: {count}" for reason, count in sorted(reasons.items()))
    return {"transients": n, "kept": n - lost, "rejected": lost, "reasons": words or "none"}
