"""What the report reads: a study's folders as one object, reduced to what fits into a page.

Nothing here knows HTML or a plotting library. Everything is optional except the list of units and the configuration,
since the page must also say what is missing.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from mrs_synthesis import cells, spectra
from mrs_synthesis.files import read_table, sha256
from mrs_synthesis.scans import Scan, read_scan, sidecar_path
from mrs_synthesis.stage import InputError, SkippedError, require

if TYPE_CHECKING:
    import pandas as pd

WINDOW_PPM = (0.2, 4.4)
SCALE_PPM = (1.8, 3.4)
CONDITION_ORDER = ("OFF", "ON", "DIFF", "UNEDITED")
SYNTHETIC = ("random", "interpolation", "hybrid")
CONTROLS = ("duplicated", "population_mean", "population_mean_noisy", "shrinkage", "low_rank")
SOURCE_ORDER = ("reference", "real", "reconstruction", *SYNTHETIC, *CONTROLS)
SOURCE_NAMES = {
    "reference": "real reference",
    "real": "real transients alone",
    "reconstruction": "reconstruction",
    "duplicated": "duplicated transients",
    "population_mean": "population mean",
    "population_mean_noisy": "noisy population mean",
    "shrinkage": "linear shrinkage",
    "low_rank": "low-rank denoising",
}


class Transients(NamedTuple):
    """A unit's transients: ppm (W,), mean, SD (W,) and number per (series, condition), the spectrometer's frequency."""

    ppm: np.ndarray
    series: dict[tuple[str, str], tuple[np.ndarray, np.ndarray, int]]
    mhz: float

    @property
    def single(self) -> bool:
        """Whether there is but one transient, an average, so that no SD is known."""
        return all(n == 1 for _, _, n in self.series.values())


@dataclass
class Study:
    """All that a report is made from.

    Attributes
    ----------
    units
        The table of units; column `failed` says whether a stage failed.
    tables, dictionaries
        Result tables and their data dictionaries by name.
    grid, model, basis, summary
        Contents of grid.json, the model's config.json, each basis set's basis.json, summary.json; empty if absent.
    losses
        Training curves, or None.
    """

    name: str
    engine: str
    config: dict[str, Any]
    units: pd.DataFrame
    statuses: list[dict]
    derivatives: Path
    tables: dict[str, pd.DataFrame] = field(default_factory=dict)
    dictionaries: dict[str, dict] = field(default_factory=dict)
    grid: dict[str, Any] = field(default_factory=dict)
    model: dict[str, Any] = field(default_factory=dict)
    basis: dict[str, Any] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    losses: pd.DataFrame | None = None
    model_sha256: str = ""

    @property
    def within_one_subject(self) -> bool:
        """Whether training and test data come from the same subjects."""
        return self.grid.get("split_unit") == "transient"

    @property
    def is_phantom(self) -> bool:
        """Whether the data are simulated, so that the truth is known."""
        return "truth" in self.tables or bool(self.config.get("phantom"))

    @property
    def conditions(self) -> tuple[str, ...]:
        """Conditions with spectra, the difference included."""
        names = tuple(self.grid.get("conditions") or ("UNEDITED",))
        return (*names, "DIFF") if names == ("OFF", "ON") else names

    @property
    def fitted_conditions(self) -> list[str]:
        """Conditions that were fitted, as far as the table of estimates tells."""
        table = self.table("concentrations", "condition")
        found = set(self.conditions) if table is None else set(table["condition"].dropna())
        return [name for name in CONDITION_ORDER if name in found]

    @property
    def ratios(self) -> list[str]:
        """The evaluated ratios, ``condition:metabolite``, in the configuration's order."""
        return list(self.summary.get("ratios") or self.config.get("evaluate", {}).get("ratios") or ())

    @property
    def reconstructs(self) -> bool:
        """Whether scans are averages, so that reconstructions are compared and nothing is filled up."""
        return self.config.get("augment", {}).get("design") == "reconstruction"

    def table(self, name: str, *columns: str) -> pd.DataFrame | None:
        """Return a table if it has rows and the `columns`, else None."""
        table = self.tables.get(name)
        return table if table is not None and len(table) and set(columns) <= set(table.columns) else None

    def path(self, unit: str, suffix: str) -> Path:
        """Return a unit's derivative file."""
        folder = self.units.set_index("unit").at[unit, "folder"]
        return self.derivatives / str(folder) / "mrs" / f"{unit}_{suffix}"

    def shown_units(self, limit: int) -> list[str]:
        """Return up to `limit` units whose data were not used for training, evenly spread over the list."""
        table = self.units[~self.units["failed"]]
        test = table[table["split"] == "test"]
        units = (test if len(test) else table)["unit"].tolist()
        if len(units) <= limit:
            return units
        return [units[i] for i in np.unique(np.linspace(0, len(units) - 1, limit).round().astype(int))]


def load(name: str, results: Path, engine: str) -> Study:
    """Read a study's results folder.

    Parameters
    ----------
    name
        The study's name.
    results
        The folder with config.json, units.tsv, status/, tables/, training/, model/, basis/ and derivatives/.
    engine
        The fitting engine whose curves are shown.

    Raises
    ------
    InputError
        If the list of units or the configuration is absent or malformed.
    """
    try:
        units = read_table(require(results / "units.tsv"), ("unit", "folder"))
        config = _read_json(require(results / "config.json"))
    except (ValueError, SkippedError) as error:
        raise InputError(f"{error}; run the stage that writes it again") from None
    statuses = [record for path in sorted((results / "status").rglob("*.json")) if (record := _read_json(path))]
    if "split" not in units:
        units["split"] = "n/a"
    units["failed"] = units["unit"].isin({r.get("unit") for r in statuses if r.get("status") == "failed"})
    study = Study(name, engine, config, units, statuses, results / "derivatives")
    for path in sorted((results / "tables").glob("*.tsv")):
        if path.stat().st_size:
            study.tables[path.stem] = read_table(path)
            study.dictionaries[path.stem] = _read_json(path.with_suffix(".json"))
    study.summary = _read_json(results / "tables" / "summary.json")
    study.grid = _read_json(results / "training" / "grid.json")
    study.basis = {path.parent.name: _read_json(path) for path in sorted((results / "basis").glob("*/basis.json"))}
    study.model = _read_json(results / "model" / "config.json")
    weights, losses = results / "model" / "model.safetensors", results / "model" / "losses.csv"
    study.model_sha256 = sha256(weights) if weights.is_file() and weights.stat().st_size else ""
    if losses.is_file() and losses.stat().st_size:
        import pandas as pd

        study.losses = pd.read_csv(losses)
    return study


def _read_json(path: Path) -> dict:
    path = Path(path)
    if not path.is_file() or not path.stat().st_size:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); run the stage that writes it again") from None
    return content if isinstance(content, dict) else {"content": content}


def pack(values: Sequence[float] | np.ndarray) -> dict[str, Any]:
    """Return numbers as base64 of 16-bit integers with a scale; -32768 stands for a missing value.

    The error is at most 1/65534 of the largest number, far below a line's width.
    """
    values = np.asarray(values, dtype=float)
    finite = np.isfinite(values)
    largest = float(np.max(np.abs(values[finite]), initial=0.0))
    scale = float(f"{largest / 32767:.6g}") * (1 + 1e-5) if largest else 1.0
    whole = np.where(finite, np.rint(np.where(finite, values, 0) / scale), -32768).astype("<i2")
    return {"i2": base64.b64encode(whole.tobytes()).decode(), "scale": scale}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """Invert `pack`, as the page's script does."""
    whole = np.frombuffer(base64.b64decode(packed["i2"]), "<i2")
    return np.where(whole == -32768, np.nan, whole * packed["scale"])


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
    ones of the smallest n_real. All are divided by one number per unit: the largest real mean of OFF (or UNEDITED)
    within 1.8-3.4 ppm.

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
        for decoder in ("mean", "sampled"):
            files[f"{mode}|{decoder}"] = study.path(unit, f"desc-synth{mode.title()}{decoder.title()}_svs.nii.gz")
    axis, scale, found, mhz = None, 1.0, {}, float("nan")
    for series, path in files.items():
        if series != "real" and (not path.is_file() or not path.stat().st_size):
            continue
        scan = read_scan(path)
        ppm, by_condition = window_spectra(scan)
        replicates = _read_json(sidecar_path(path)).get("Plan", {}).get("Replicates", [])
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


def headline(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the table with fillings and controls of the smallest n_real only, so that no series mixes them."""
    if table is None or "n_real" not in table:
        return table
    filled = table["source"].isin([*SYNTHETIC, *CONTROLS])
    return table[~filled | (table["n_real"] == table.loc[filled, "n_real"].min())]


def chosen_cells(index: pd.DataFrame) -> pd.DataFrame:
    """Return one row per (source, decoder): the first replicate, the real transients alone with the cells' `n_real`."""
    index = headline(index)
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


def rejected(study: Study) -> list[dict[str, Any]]:
    """Return one row per unit: how many transients were acquired and kept, and why the others were not."""
    rows = []
    for unit in study.units["unit"]:
        table = quality_control(study, unit)
        if table is None:
            continue
        out = table[table["kept"].astype(int) == 0]
        reasons = out["reason"].fillna("no reason given").value_counts(sort=False) if "reason" in out else {}
        rows.append(
            {
                "unit": unit,
                "transients": len(table),
                "kept": len(table) - len(out),
                "rejected": len(out),
                "reasons": "; ".join(f"{reason}: {count}" for reason, count in sorted(dict(reasons).items())) or "none",
            }
        )
    return rows


def software(study: Study) -> dict[str, str]:
    """Return versions by program: this environment's, and those recorded in sidecars, basis and model."""
    import platform
    from importlib.metadata import PackageNotFoundError, version

    from mrs_synthesis import __version__

    found = {"mrs-synthesis": __version__, "Python (report)": platform.python_version()}
    for package in ("numpy", "pandas", "plotly", "jinja2", "matplotlib", "nibabel", "nifti-mrs"):
        try:
            found[f"{package} (report)"] = version(package)
        except PackageNotFoundError:
            continue
    for part, content in (*((f"basis {name}", basis) for name, basis in study.basis.items()), ("model", study.model)):
        for key in ("versions", "software", "GeneratedBy"):
            found.update(_versions(content.get(key), part))
    if torch := study.model.get("training", {}).get("torch"):
        found["torch (training)"] = str(torch)
    for unit in study.shown_units(1):
        for suffix in ("desc-preproc_svs.nii.gz", "desc-cells_svs.nii.gz"):
            sidecar = _read_json(sidecar_path(study.path(unit, suffix)))
            for key in ("versions", "Software", "GeneratedBy"):
                found.update(_versions(sidecar.get(key), suffix.split("_")[0].removeprefix("desc-")))
    return found


def _versions(content: Any, part: str) -> dict[str, str]:
    if isinstance(content, dict):
        return {f"{key} ({part})": str(value) for key, value in content.items() if not isinstance(value, dict | list)}
    if isinstance(content, list):
        return {
            f"{item['Name']} ({part})": str(item.get("Version", "n/a"))
            for item in content
            if isinstance(item, dict) and "Name" in item and item["Name"] != "mrs-synthesis"
        }
    return {}
