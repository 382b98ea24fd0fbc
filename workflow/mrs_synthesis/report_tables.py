"""The report's small tables: the facts at its head, failed scans, the minimum-reporting table, and tables' titles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mrs_synthesis import cells
from mrs_synthesis.files import MISSING
from mrs_synthesis.report_style import missing

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.report_data import Study

ABOUT = {
    "worth": "Is a filling worth more than the real transients alone and than every null control?",
    "comparisons": "Every filling beside each comparator, within the same subjects",
    "bias": "Bias and agreement with the reference",
    "bias_by_site": "Bias by site",
    "mixed_model": "Bias by site and vendor",
    "bias_truth": "Bias against the phantom's truth",
    "share_of_bound": "Errors beside the best that any method could reach on the phantom, by number of real transients",
    "bayes_bound": "The best that any method could reach on the phantom",
    "effective_transients": "Effective transients",
    "learning_curve": "Learning curve of real transients",
    "grid": "Studies over training subjects, models, seeds and left-out sites",
    "quality": "Signal quality of every study cell",
    "fidelity": "Fidelity of synthetic transients and reconstructions",
    "embedding": "Transients in two dimensions",
    "noise": "Noise of synthetic and real transients",
    "noise_spectrum": "Spectrum of the noise",
    "water": "Residual water, as the model of nuisances draws it, beside the real one",
    "water_lines": "Histograms of residual water",
    "memorisation": "Nearness of synthetic transients to the training set",
    "concentrations": "Estimates of every study cell",
    "engine_agreement": "Agreement of the two fitting engines",
    "engine_objectives": "Objectives that the two fitting engines reached",
    "fit_truth": "Bias and coverage of the fits against the truth",
    "preprocessing": "Single transients",
    "conversion": "Conversion of the scanner's files",
    "truth": "True concentrations of the phantom",
    "minimum_reporting": "Minimum reporting (MRSinMRS)",
    "failures": "Failed and excluded scans",
}


def failures(study: Study) -> list[dict[str, str]]:
    """Return unit, stage and reason of every failed or excluded scan, of the table or else the status records."""
    table = study.table("failures", "unit", "stage", "reason")
    records = (
        table.to_dict("records") if table is not None else [r for r in study.statuses if r.get("status") == "failed"]
    )
    return [{key: str(record.get(key, "")) for key in ("unit", "stage", "reason")} for record in records]


def facts(study: Study) -> list[dict[str, str]]:
    """Return the short facts at the head of the page."""
    units = study.units
    augment = study.config.get("augment", {})
    evaluated = units[~units["failed"] & ((units["split"] == "test") | (study.within_one_subject))]
    found = [("scans", f"{len(units)}", f"{int(units['failed'].sum())} failed")]
    if "subject" in units:
        note = "also trained on" if study.within_one_subject else "not seen in training"
        found.append(("evaluated subjects", f"{evaluated['subject'].nunique()}", note))
    if "site" in units and units["site"].notna().any():
        found.append(("sites", f"{units['site'].nunique()}", ""))
    if augment.get("design") == "augmentation" and "n_real" in augment:
        pairs = cells.amounts(augment["n_real"], augment["n_total"])
        note = "real + synthetic, " + str(augment.get("count", "per_condition")).replace("_", " ")
        if len(pairs) > 1:
            note += "; figures without a choice of their number show the smallest"
        found.append(("transients per cell", ", ".join(f"{few} + {total - few}" for few, total in sorted(pairs)), note))
    found.append(("fitting engine", study.engine, ", ".join(study.fitted_conditions)))
    if "seed" in study.config:
        found.append(("seed", str(study.config["seed"]), ""))
    return [{"name": name, "value": value, "note": note} for name, value, note in found]


def site_facts(table: pd.DataFrame | None) -> dict[str, Any] | None:
    """Return the minimum-reporting table as one table of item by site: ``sites`` and ``sections`` of ``rows``.

    A row has item and ``cells`` (value, and from where it was taken), one for each site; columns that say the same for
    all sites are one. A missing value stays visible as such.
    """
    if table is None:
        return None
    sites = list(dict.fromkeys(str(s) for s in table["site"])) if "site" in table else ["all sites"]
    sections: dict[str, dict[str, dict[str, dict[str, str]]]] = {}
    for row in table.to_dict("records"):
        cell = {key: MISSING if missing(row.get(key)) else str(row[key]) for key in ("value", "from")}
        items = sections.setdefault(str(row["section"]), {})
        items.setdefault(str(row["item"]), {})[str(row.get("site", "all sites"))] = cell
    empty = {"value": MISSING, "from": MISSING}
    return {
        "sites": sites,
        "sections": [
            {
                "name": name,
                "rows": [{"item": item, "cells": [own.get(s, empty) for s in sites]} for item, own in items.items()],
            }
            for name, items in sections.items()
        ],
    }
