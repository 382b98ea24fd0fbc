"""The report's small tables: the facts at its head, failed scans, the minimum-reporting table, and tables' titles."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from mrs_synthesis import cells
from mrs_synthesis.files import MISSING
from mrs_synthesis.report_style import missing

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.report_data import Study

EXAMPLES = 3  # scans named of a group of failures
MOST_FAILURES = 50  # listed one by one; more are grouped
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
    "checks": "Checks of every scan",
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
    "run_times": "Run times of each stage",
}


def failures(study: Study) -> list[dict[str, str]]:
    """Return unit, stage and reason of every failed or excluded scan, of the table or else the status records."""
    table = study.table("failures", "unit", "stage", "reason")
    records = study.statuses if table is None else table.to_dict("records")
    return [{key: str(record.get(key, "")) for key in ("unit", "stage", "reason")} for record in records]


def failure_groups(found: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """Return failures grouped by stage and reason: both, ``scans`` (number) and ``examples``, the largest group first.

    Reasons count as one that differ in file names, scans and numbers only; the first stands for all.
    """
    groups: dict[tuple[str, str], list[dict[str, str]]] = {}
    for one in found:
        known = re.sub(r"\S*[/\\]\S+", "", one["reason"].replace(one["unit"], ""))
        groups.setdefault((one["stage"], re.sub(r"\d[\d.,e+-]*", "#", known)), []).append(one)
    rows = [
        {
            "stage": stage,
            "reason": own[0]["reason"],
            "scans": len({one["unit"] for one in own}),
            "examples": ", ".join(dict.fromkeys(one["unit"] for one in own[:EXAMPLES])),
        }
        for (stage, _), own in groups.items()
    ]
    return sorted(rows, key=lambda row: -row["scans"])


def left_out(found: Sequence[dict[str, str]]) -> str:
    """Return in words how many scans were left out and where, e.g. ``2 excluded by the sample sheet, 3 in convert``."""
    stages: dict[str, set[str]] = {}
    for one in found:
        stages.setdefault(one["stage"], set()).add(one["unit"])
    excluded = stages.pop("excluded", set())
    parts = [f"{len(excluded)} excluded by the sample sheet"] if excluded else []
    return ", ".join(parts + [f"{len(units)} failed in {stage}" for stage, units in stages.items()])


def facts(study: Study) -> list[dict[str, str]]:
    """Return the short facts at the head of the page."""
    units = study.units
    augment = study.config.get("augment", {})
    evaluated = units[~units["failed"] & ((units["split"] == "test") | (study.within_one_subject))]
    found = [("scans", f"{len(units)}", left_out(failures(study)) or "none failed")]
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
