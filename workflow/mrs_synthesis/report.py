"""Write one HTML page of a study, which needs no network, and its main figures as SVG.

Reads the results folder as it is: whatever failed or is missing is said on the page. The page embeds plotly.js, all
numbers that its figures show, and small tables; large tables are linked beside the page.
"""

from __future__ import annotations

import argparse
import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs_synthesis import cells
from mrs_synthesis.stage import InputError, SkippedError, run

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.report_data import Study

TEMPLATES = Path(__file__).resolve().parents[1] / "report"
SPECTRA_UNITS, FIT_UNITS, QC_UNITS = 6, 3, 12
EMBEDDED_BYTES = 250_000
SHOWN_ROWS = 150
ABOUT = {
    "bias": "Bias and agreement with the reference",
    "bias_by_site": "Bias by site",
    "bias_truth": "Bias against the phantom's truth",
    "share_of_bound": "Errors beside the best that any method could reach on the phantom, by number of real transients",
    "bayes_bound": "The best that any method could reach on the phantom",
    "effective_transients": "Effective transients",
    "quality": "Signal quality of every study cell",
    "noise": "Noise of synthetic and real transients",
    "water": "Residual water, as the model of nuisances draws it, beside the real one",
    "memorisation": "Nearness of synthetic transients to the training set",
    "concentrations": "Estimates of every study cell",
    "engine_agreement": "Agreement of the two fitting engines",
    "engine_objectives": "Objectives that the two fitting engines reached",
    "fit_truth": "Bias and coverage of the fits against the truth",
    "preprocessing": "Single transients",
    "conversion": "Conversion of the scanner's files",
    "truth": "True concentrations of the phantom",
    "failures": "Failed and excluded scans",
}


def script_json(content: Any) -> str:
    """Return JSON that cannot end the script element that it stands in, nor start a comment or an entity."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def table_view(name: str, table: pd.DataFrame, dictionary: dict, tables: str = "tables") -> dict[str, Any]:
    """Return what the template needs to show a table: headings, cells, how many rows were left out, and the whole TSV.

    The TSV is embedded as a data URI if it is small, else it is linked as a file beside the page.
    """
    from mrs_synthesis.files import MISSING
    from mrs_synthesis.report_words import short

    shown = table.head(SHOWN_ROWS)
    columns = []
    for column in table.columns:
        about = dictionary.get(column)
        text = about.get("Description", "") if isinstance(about, dict) else about or ""
        columns.append({"name": str(column), "number": table[column].dtype.kind in "fiub", "about": str(text)})
    rows = [
        [
            {"text": short(value, 4) if column["number"] else MISSING if value != value else str(value), "value": value}
            for column, value in zip(columns, row, strict=True)
        ]
        for row in shown.itertuples(index=False)
    ]
    whole = table.to_csv(sep="\t", index=False, na_rep=MISSING, float_format="%.8g", lineterminator="\n").encode()
    embedded = len(whole) <= EMBEDDED_BYTES
    link = (
        f"data:text/tab-separated-values;base64,{base64.b64encode(whole).decode()}"
        if embedded
        else f"{tables}/{name}.tsv"
    )
    return {
        "name": name,
        "title": ABOUT.get(name, name.replace("_", " ").capitalize()),
        "about": str(dictionary.get("TableDescription", "")),
        "columns": columns,
        "rows": rows,
        "total": len(table),
        "link": link,
        "embedded": embedded,
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
        n_real, n_total = min(pairs)
        note = "real + synthetic, " + str(augment.get("count", "per_condition")).replace("_", " ")
        if len(pairs) > 1:
            others = "; ".join(f"{few} + {total - few}" for few, total in sorted(pairs)[1:])
            note += f"; this page's figures are of these cells, its tables also of {others}"
        found.append(("transients per cell", f"{n_real} + {n_total - n_real}", note))
    found.append(("fitting engine", study.engine, ", ".join(study.fitted_conditions)))
    if "seed" in study.config:
        found.append(("seed", str(study.config["seed"]), ""))
    return [{"name": name, "value": value, "note": note} for name, value, note in found]


def build(study: Study) -> dict[str, Any]:
    """Gather everything that the template shows."""
    from mrs_synthesis import report_agreement as agreement
    from mrs_synthesis import report_bound as bound
    from mrs_synthesis import report_data as data
    from mrs_synthesis import report_effective as effects
    from mrs_synthesis import report_figures as figures
    from mrs_synthesis import report_metrics as metrics
    from mrs_synthesis import report_words as words

    statistics, problems = {}, []
    for unit in study.shown_units(SPECTRA_UNITS):
        try:
            statistics[unit] = data.transient_statistics(study, unit)
        except (InputError, SkippedError) as error:
            problems.append(str(error))
    fits = {unit: data.fitted_cells(study, unit) for unit in study.shown_units(FIT_UNITS)}
    most = len(study.units) if study.reconstructs else QC_UNITS
    checks = {unit: table for unit in _spread(study, most) if (table := data.quality_control(study, unit)) is not None}
    ratios = study.ratios
    effective = study.table("effective_transients", "metabolite", "source", "n_eff")
    effective = agreement.with_measure(data.headline(effective), ratios)
    biases = {
        name: agreement.with_measure(data.headline(study.table(name, "metabolite", "source", "bias_percent")), ratios)
        for name in ("bias", "bias_by_site", "bias_truth")
    }
    estimates = study.table("concentrations", "unit", "metabolite", "source", "per_tcr")
    estimates = agreement.with_measure(data.headline(estimates), ratios)
    bias, by_site = biases["bias"], biases["bias_by_site"]
    if by_site is not None and ("site" not in by_site or by_site["site"].nunique() < 2):
        by_site = None
    share = agreement.with_measure(study.table("share_of_bound", "metabolite", "source", "gain"), ratios)
    margin = study.config.get("evaluate", {}).get("tost_margin_percent")
    verdicts = {}
    if effective is not None:
        for measure in agreement.measures(effective):
            n_real = cell_size(study, effective, "n_real")
            verdicts[measure] = words.verdict(words.worths(effective, measure), n_real)
    lead = words.lead(verdicts)
    if study.reconstructs:
        verdicts = words.reconstruction_verdicts(bias, by_site, margin)
        lead = words.reconstruction_lead(verdicts, margin)
    if study.reconstructs:
        site_figure = agreement.site_panels(bias, by_site, margin)
    else:
        site_figure = agreement.bias_figure(by_site, margin, "bias_by_site", by="site")
    measured = {
        name: table
        for name, table in study.tables.items()
        if {"metric", "source", "value"} <= set(table.columns) and len(table)
    }
    made = {
        "spectra": figures.spectra_figure(statistics),
        "fits": figures.fits_figure(fits),
        "losses": figures.losses_figure(study.losses),
        "transients": figures.qc_figure(checks),
        "quality": metrics.quality_figure(data.headline(study.table("quality", "source"))),
        "metrics": metrics.metrics_figure(measured),
        "bias": agreement.bias_figure(bias, margin),
        "bias_truth": agreement.bias_figure(biases["bias_truth"], margin, "bias_truth"),
        "bound": bound.bound_figure(share),
        "bias_by_site": site_figure,
        "agreement": agreement.agreement_figure(estimates, bias),
        "effective": effects.effective_figure(effective, bias),
    }
    order = [name for name in ABOUT if name in study.tables] + sorted(set(study.tables) - set(ABOUT))
    return {
        "study": study,
        "facts": facts(study),
        "notices": words.notices(study),
        "lead": lead,
        "verdicts": verdicts,
        "bias_sentences": [] if study.reconstructs else words.bias_sentences(bias, margin),
        "share": share,
        "bound_sentences": bound.bound_sentences(share),
        "sites": agreement.site_table(bias, by_site) if study.reconstructs and site_figure else None,
        "marks": words.MARKS,
        "slope_limit": words.SLOPE_LIMIT,
        "margin": margin,
        "figures": {key: figure for key, figure in made.items() if figure},
        "statistics": statistics,
        "averages": bool(statistics) and all(found.single for found in statistics.values()),
        "problems": problems,
        "rejected": data.rejected(study),
        "tables": [
            table_view(n, study.tables[n], study.dictionaries.get(n, {})) for n in order if len(study.tables[n])
        ],
        "failures": failures(study),
        "software": data.software(study),
        "config_text": json.dumps(study.config, indent=2, sort_keys=True, ensure_ascii=False),
        "bias": bias,
        "by_site": by_site,
        "effective": effective,
    }


def cell_size(study: Study, effective: pd.DataFrame, column: str) -> float:
    """Return `column` (n_real or n_total) of a filled-up cell, per edit condition, of the table, else the config."""
    from mrs_synthesis.report_data import SYNTHETIC

    if column in effective:
        known = effective.loc[effective["source"].isin(SYNTHETIC), column].dropna()
        if len(known):
            return float(known.iloc[0])
    augment = study.config.get("augment", {})
    if "n_real" not in augment:
        return float("nan")
    return float(min(cells.amounts(augment["n_real"], augment["n_total"]))[column == "n_total"])


def _spread(study: Study, limit: int) -> list[str]:
    """Return up to `limit` units of any split, the test ones first."""
    test = study.shown_units(limit)
    return [*test, *(u for u in study.units.loc[~study.units["failed"], "unit"] if u not in test)][:limit]


def render(context: dict[str, Any]) -> str:
    """Return the page."""
    import jinja2
    from markupsafe import Markup, escape
    from plotly.offline import get_plotlyjs

    from mrs_synthesis.report_style import missing, series_name
    from mrs_synthesis.report_words import short

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters.update(
        script_json=lambda value: Markup(script_json(value)),
        short=short,
        subscript=lambda text: Markup(escape(text).replace("N_eff", Markup("N<sub>eff</sub>"))),
    )
    environment.globals.update(series_name=series_name, missing=missing)
    plotly = get_plotlyjs().replace("</script", "<\\/script")
    own = {name: Markup((TEMPLATES / f"report.{name}").read_text(encoding="utf-8")) for name in ("css", "js")}
    return environment.get_template("report.html.j2").render(**context, **own, plotly=Markup(plotly))


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.report", description=__doc__.splitlines()[0])
    parser.add_argument("--study", required=True, help="name of the study")
    parser.add_argument("--results", type=Path, required=True, help="the study's results folder")
    parser.add_argument("--engine", required=True, help="fitting engine whose curves are shown: batched or fsl-mrs")
    parser.add_argument("--output", type=Path, required=True, help="HTML page; figures/*.svg are written beside it")
    a = parser.parse_args(argv)

    from mrs_synthesis.files import write_text
    from mrs_synthesis.report_data import load
    from mrs_synthesis.report_svg import write_bias, write_bound, write_effective, write_spectra

    study = load(a.study, a.results, a.engine)
    context = build(study)
    page = render(context)
    write_text(a.output, page)
    folder = a.output.parent / "figures"
    write_bias(
        folder / "bias.svg", context["bias"], context["margin"], context["by_site"] if study.reconstructs else None
    )
    effective = context["effective"]
    sizes = [cell_size(study, effective, n) if effective is not None else float("nan") for n in ("n_real", "n_total")]
    write_effective(folder / "effective.svg", effective, *sizes)
    if context["share"] is not None:
        write_bound(folder / "bound.svg", context["share"])
    write_spectra(folder / "spectra.svg", context["statistics"])
    print(f"{a.output}: {len(page.encode()) / 1e6:.1f} MB, {len(context['figures'])} figures", flush=True)


if __name__ == "__main__":
    run(main)
