"""What the report reads: a study's folders as one object.

Nothing here knows HTML or a plotting library. Everything is optional except the list of units and the configuration,
since the page must also say what is missing.
"""

from __future__ import annotations

import io
import itertools
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mrs_synthesis.files import MISSING, read_table, sha256
from mrs_synthesis.stage import InputError, SkippedError, require

if TYPE_CHECKING:
    import pandas as pd

SHOWN_ROWS = 60  # of a table on the page
LISTED = ("concentrations", "conversion", "preprocessing", "truth")  # tables of which no figure needs every row
LARGE_BYTES = 20_000_000  # a larger table of these is not held: even compressed it would not fit into the page
CHUNK = 200_000  # rows read at once
MOST_SCANS = 300  # whose single estimates are drawn
ESTIMATES = ("unit", "source", "decoder", "n_real", "n_total", "condition", "metabolite", "per_tcr")
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


@dataclass
class Study:
    """All that a report is made from.

    Attributes
    ----------
    units
        The table of units; column `failed` says whether a stage failed.
    tables, dictionaries
        Result tables and their data dictionaries by name.
    grid, model, basis, summary, memorisation
        Contents of grid.json, the model's config.json, each basis set's basis.json, summary.json and
        memorisation_verdicts.json; empty if absent.
    losses
        Training curves, or None.
    estimates, fitted
        Rows of the table of concentrations that the page draws, of at most `MOST_SCANS` scans, and the conditions that
        the whole of it has; None if it is absent.
    totals
        Number of rows of the tables of which `tables` has the first ones only.
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
    memorisation: dict[str, Any] = field(default_factory=dict)
    losses: pd.DataFrame | None = None
    model_sha256: str = ""
    estimates: pd.DataFrame | None = None
    fitted: set[str] | None = None
    totals: dict[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._folders = dict(zip(self.units["unit"], self.units["folder"].astype(str), strict=True))

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
        found = set(self.conditions) if self.fitted is None else self.fitted
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
        return self.derivatives / self._folders[unit] / "mrs" / f"{unit}_{suffix}"

    def shown_units(self, limit: int) -> list[str]:
        """Return up to `limit` units whose data were not used for training, evenly spread over the list."""
        table = self.units[~self.units["failed"]]
        test = table[table["split"] == "test"]
        return spread((test if len(test) else table)["unit"].tolist(), limit)


def spread(values: list, limit: int) -> list:
    """Return the values, or `limit` of them, evenly spread over the list."""
    if len(values) <= limit:
        return values
    return [values[i] for i in np.unique(np.linspace(0, len(values) - 1, limit).round().astype(int))]


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
        config = read_json(require(results / "config.json"))
    except (ValueError, SkippedError) as error:
        raise InputError(f"{error}; run the stage that writes it again") from None
    statuses = [
        record
        for path in sorted((results / "status").rglob("*.json"))
        if (record := read_json(path)).get("status") == "failed"
    ]
    if "split" not in units:
        units["split"] = "n/a"
    units["failed"] = units["unit"].isin({r.get("unit") for r in statuses})
    study = Study(name, engine, config, units, statuses, results / "derivatives")
    for path in sorted((results / "tables").glob("*.tsv")):
        if path.stat().st_size:
            study.dictionaries[path.stem] = read_json(path.with_suffix(".json"))
            if path.stem in LISTED and path.stat().st_size > LARGE_BYTES:
                study.tables[path.stem], study.totals[path.stem] = first_rows(path)
            else:
                study.tables[path.stem] = read_table(path)
    _add_estimates(study, results / "tables" / "concentrations.tsv")
    study.summary = read_json(results / "tables" / "summary.json")
    study.memorisation = read_json(results / "tables" / "memorisation_verdicts.json")
    study.grid = read_json(results / "training" / "grid.json")
    study.basis = {path.parent.name: read_json(path) for path in sorted((results / "basis").glob("*/basis.json"))}
    study.model = read_json(results / "model" / "config.json")
    weights, losses = results / "model" / "model.safetensors", results / "model" / "losses.csv"
    study.model_sha256 = sha256(weights) if weights.is_file() and weights.stat().st_size else ""
    if losses.is_file() and losses.stat().st_size:
        import pandas as pd

        study.losses = pd.read_csv(losses)
    return study


def first_rows(path: Path) -> tuple[pd.DataFrame, int]:
    """Return the first rows of a table, and how many it has, without holding the rest."""
    with open(path, "rb") as stream:
        head = io.BytesIO(b"".join(itertools.islice(stream, 1 + SHOWN_ROWS)))
        stream.seek(0)
        lines = sum(block.count(b"\n") for block in iter(lambda: stream.read(1 << 20), b""))
    return read_table(head), lines - 1


def _add_estimates(study: Study, path: Path) -> None:
    """Read what the page draws of the table of concentrations, which grows with subjects, cells and metabolites."""
    import pandas as pd

    table = study.tables.get("concentrations")
    if table is None or not {"unit", "metabolite", "condition"} <= set(table.columns):
        return
    bias, shown = study.table("bias", "metabolite", "condition"), set(study.shown_units(MOST_SCANS))
    parts, study.fitted = [], set()
    own = [name for name in ESTIMATES if name in table.columns]
    text = {name: str for name in ("unit", "condition", "metabolite", "source", "decoder") if name in own}
    layout = {"sep": "\t", "na_values": [MISSING, ""], "keep_default_na": False, "dtype": text, "usecols": own}
    whole = [table[own]] if "concentrations" not in study.totals else pd.read_csv(path, chunksize=CHUNK, **layout)
    for part in whole:
        study.fitted |= set(part["condition"].dropna())
        kept = part["unit"].isin(shown)
        if bias is not None:
            drawn = pd.MultiIndex.from_frame(bias[["metabolite", "condition"]])
            kept &= pd.MultiIndex.from_frame(part[["metabolite", "condition"]]).isin(drawn)
        parts.append(part[kept])
    study.estimates = pd.concat(parts, ignore_index=True)[own]


def read_json(path: Path) -> dict:
    """Return a JSON file's object, an empty one if the file is absent or empty; InputError if it is no JSON."""
    path = Path(path)
    if not path.is_file() or not path.stat().st_size:
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); run the stage that writes it again") from None
    return content if isinstance(content, dict) else {"content": content}


def filled_numbers(table: pd.DataFrame | None) -> list[int]:
    """Return the numbers of real transients that fillings and controls of a table start from, increasing."""
    if table is None or not {"source", "n_real"} <= set(table.columns):
        return []
    found = table.loc[table["source"].isin([*SYNTHETIC, *CONTROLS]), "n_real"].dropna().unique()
    return sorted(int(n) for n in found)


def at_number(table: pd.DataFrame | None, n_real: int | None = None) -> pd.DataFrame | None:
    """Return the table with fillings and controls of one `n_real` only (None: the smallest), so that none are mixed."""
    numbers = filled_numbers(table)
    if table is None or not numbers:
        return table
    filled = table["source"].isin([*SYNTHETIC, *CONTROLS])
    return table[~filled | (table["n_real"] == (numbers[0] if n_real is None else n_real))]
