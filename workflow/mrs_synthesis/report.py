"""Write one HTML page of a study, which needs no network, and its main figures as SVG.

Reads the results folder as it is: whatever failed or is missing is said on the page. The page embeds plotly.js, all
numbers that its figures show, and its tables; tables that are too large are linked beside the page.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mrs_synthesis import cells
from mrs_synthesis.provenance import without_paths
from mrs_synthesis.stage import InputError, SkippedError, run

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.report_data import Study

TEMPLATES = Path(__file__).resolve().parents[1] / "report"
SPECTRA_UNITS, FIT_UNITS, QC_UNITS, QC_AVERAGES = 6, 3, 12, 500
SITE_ROWS = 2500  # of biases by site that are drawn; of more, those of the smallest n_real


def script_json(content: Any) -> str:
    """Return JSON that cannot end the script element that it stands in, nor start a comment or an entity."""
    text = json.dumps(content, allow_nan=False, separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def gather(study: Study) -> dict[str, Any]:
    """Read what the page shows of single scans: statistics of transients, fitted curves, quality control."""
    from mrs_synthesis import report_scans as scans

    statistics, problems = {}, []
    for unit in study.shown_units(SPECTRA_UNITS):
        try:
            statistics[unit] = scans.transient_statistics(study, unit)
        except (InputError, SkippedError) as error:
            problems.append(str(error))
    fits = {unit: scans.fitted_cells(study, unit) for unit in study.shown_units(FIT_UNITS)}
    most = QC_AVERAGES if study.reconstructs else QC_UNITS
    checks = {unit: table for unit in _spread(study, most) if (table := scans.quality_control(study, unit)) is not None}
    return {"statistics": statistics, "problems": problems, "fits": fits, "checks": checks}


def measured(study: Study) -> dict[str, pd.DataFrame | None]:
    """Return the tables of metabolite ratios, with a column ``measure``, in the configuration's order."""
    from mrs_synthesis.report_agreement import with_measure

    wanted = {
        "effective_transients": ("source", "n_eff"),
        "learning_curve": ("n_real", "rmse_percent"),
        "worth": ("source", "worth"),
        "comparisons": ("source", "against", "verdict"),
        "bias": ("source", "bias_percent"),
        "bias_by_site": ("source", "bias_percent", "site"),
        "bias_truth": ("source", "bias_percent"),
        "share_of_bound": ("source", "gain"),
        "grid": ("source", "n_training", "rmse_percent", "slope"),
    }
    found = {n: with_measure(study.table(n, "metabolite", *c), study.ratios) for n, c in wanted.items()}
    by_site = found["bias_by_site"]
    if by_site is not None and by_site["site"].nunique() < 2:
        found["bias_by_site"] = None
    drawn = (
        study.estimates is not None and {"unit", "source", "per_tcr"} <= set(study.estimates) and len(study.estimates)
    )
    return found | {"concentrations": with_measure(study.estimates if drawn else None, study.ratios)}


def sections(study: Study, figures: dict[str, Any], context: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Return identifier, title and template of each section that the page has."""
    noise = ("noise_spectrum", "metrics-noise", "water_lines", "metrics-water")
    others = {key for key in figures if key.startswith("metrics-")} - {*noise, "metrics-memorisation"}
    return [
        ("summary", "Summary", "summary"),
        *([] if study.reconstructs else [("effective-transients", "Effective transients", "effective")]),
        ("bias-section", "Bias and agreement", "bias"),
        *([("grid-section", "Number of training subjects", "grid")] if "grid" in figures else []),
        ("spectra-section", "Spectra", "spectra"),
        ("fits-section", "Fits", "fits"),
        ("quality-section", "Signal quality", "quality"),
        *([("fidelity-section", "Fidelity", "fidelity")] if others or "embedding" in figures else []),
        *([("noise-section", "Noise and water", "noise")] if set(noise) & set(figures) else []),
        *([("memorisation-section", "Memorisation", "memorisation")] if "metrics-memorisation" in figures else []),
        ("training-section", "Training", "training"),
        ("transients-section", "Quality control", "transients"),
        ("failed", "Failed subjects", "failures"),
        ("tables", "Tables", "tables"),
        *([("reporting", "Minimum reporting", "reporting")] if context["reporting"] else []),
        ("parameters", "Parameters", "parameters"),
        *([("run-times-section", "Run times", "run_times")] if "run_times" in figures else []),
        ("provenance", "Provenance", "provenance"),
    ]


def build(study: Study) -> dict[str, Any]:
    """Gather everything that the template shows."""
    from mrs_synthesis import report_agreement as agreement
    from mrs_synthesis import report_bound as bound
    from mrs_synthesis import report_effective as effects
    from mrs_synthesis import report_figures as figures
    from mrs_synthesis import report_metrics as metrics
    from mrs_synthesis import report_noise as noise
    from mrs_synthesis import report_quality as quality
    from mrs_synthesis import report_reconstruction as reconstruction
    from mrs_synthesis import report_scans as scans
    from mrs_synthesis import report_sites as sites
    from mrs_synthesis import report_tables as tables
    from mrs_synthesis import report_words as words
    from mrs_synthesis.report_bland_altman import agreement_figure, drawn_scans
    from mrs_synthesis.report_data import at_number
    from mrs_synthesis.report_downloads import table_views
    from mrs_synthesis.report_grid import grid_figure
    from mrs_synthesis.report_provenance import software
    from mrs_synthesis.report_run_times import COLUMNS as TIMES
    from mrs_synthesis.report_run_times import run_times_figure, run_times_sentences

    own, ratios, failed = gather(study), measured(study), tables.failures(study)
    bias, by_site, effective = ratios["bias"], ratios["bias_by_site"], ratios["effective_transients"]
    margin = study.config.get("evaluate", {}).get("tost_margin_percent")
    if study.reconstructs:
        verdicts = reconstruction.reconstruction_verdicts(bias, by_site, margin)
        lead = reconstruction.reconstruction_lead(verdicts, margin)
        of_sites, site_figure = by_site, sites.site_panels(bias, by_site, margin)
    else:
        verdicts = words.verdicts(ratios["worth"], ratios["comparisons"], effective)
        lead = words.lead(verdicts)
        of_sites = at_number(by_site) if by_site is not None and len(by_site) > SITE_ROWS else by_site
        site_figure = agreement.bias_figure(of_sites, margin, "bias_by_site", by="site")
    qualities, times = study.table("quality", "source"), study.table("run_times", *TIMES)
    tables_of_metrics = {name: table for name, table in study.tables.items() if metrics.is_metrics(table)}
    made = {
        "spectra": figures.spectra_figure(own["statistics"]),
        "fits": figures.fits_figure(own["fits"]),
        "losses": figures.losses_figure(study.losses),
        "transients": figures.qc_figure(own["checks"]),
        "quality": quality.quality_figure(qualities),
        "embedding": metrics.embedding_figure(study.table("embedding", "method", "split", "source", "x", "y")),
        "noise_spectrum": noise.noise_figure(study.table("noise_spectrum", "source", "condition", "ppm", "ratio")),
        "water_lines": noise.water_figure(study.table("water_lines", "source", "metric", "x", "density")),
        "bias": agreement.bias_figure(bias, margin),
        "bias_truth": agreement.bias_figure(ratios["bias_truth"], margin, "bias_truth"),
        "bound": bound.bound_figure(ratios["share_of_bound"]),
        "bias_by_site": site_figure,
        "agreement": agreement_figure(ratios["concentrations"], bias),
        "effective": effects.effective_figure(effective, bias, ratios["learning_curve"]),
        "grid": grid_figure(ratios["grid"]),
        "run_times": run_times_figure(times),
    }
    for name, table in tables_of_metrics.items():
        made[f"metrics-{name}"] = metrics.metrics_figure(table, f"metrics-{name}")
    order = [n for n in tables.ABOUT if n in study.tables] + sorted(set(study.tables) - set(tables.ABOUT))
    dictionaries = study.dictionaries
    drawn = {key: figure for key, figure in made.items() if figure}
    context = {
        "study": study,
        "facts": tables.facts(study),
        "notices": words.notices(study),
        "lead": lead,
        "verdicts": verdicts,
        "numbers": sorted({n for by_number in verdicts.values() for n in by_number}) if not study.reconstructs else [],
        "bias_sentences": ([] if study.reconstructs else words.bias_sentences(bias, margin))
        + words.site_sentence(study.table("mixed_model", "source", "term", "p")),
        "share": ratios["share_of_bound"],
        "bound_sentences": bound.bound_sentences(ratios["share_of_bound"]),
        "sites": sites.site_table(bias, by_site) if study.reconstructs and site_figure else None,
        "slope_limit": words.SLOPE_LIMIT,
        "tost_words": "not corrected for their number" if bias is None else words.tost_column(bias)[1],
        "margin": margin,
        "figures": drawn,
        "definitions": {n: metrics.definitions(t, dictionaries.get(n, {})) for n, t in tables_of_metrics.items()},
        "quality_definitions": quality.definitions(qualities, dictionaries.get("quality", {})),
        "quality_medians": quality.quality_rows(at_number(qualities)),
        "memorised": words.memorised(study.memorisation),
        "statistics": own["statistics"],
        "evaluated_scans": len(study.shown_units(len(study.units))),
        "drawn_scans": len(drawn_scans(ratios["concentrations"], bias)),
        "checked_scans": len(own["checks"]),
        "sites_reduced": of_sites is not by_site,
        "averages": bool(own["statistics"]) and all(found.single for found in own["statistics"].values()),
        "problems": own["problems"],
        "rejected": scans.rejected(study),
        "reporting": tables.site_facts(study.table("minimum_reporting", "section", "item", "value")),
        "tables": table_views(study.tables, dictionaries, tables.ABOUT, order, totals=study.totals),
        "titles": tables.ABOUT,
        "failures": failed,
        "failure_groups": tables.failure_groups(failed) if len(failed) > tables.MOST_FAILURES else [],
        "left_out": tables.left_out(failed),
        "software": software(study),
        "run_times_sentences": run_times_sentences(times),
        "config_text": json.dumps(without_paths(study.config, {}), indent=2, sort_keys=True, ensure_ascii=False),
        "bias": at_number(bias),
        "by_site": by_site,
        "effective": at_number(effective),
    }
    return context | {"sections": sections(study, drawn, context)}


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
    return list(dict.fromkeys([*test, *study.units.loc[~study.units["failed"], "unit"]]))[:limit]


def render(context: dict[str, Any]) -> str:
    """Return the page."""
    import jinja2
    from markupsafe import Markup, escape
    from plotly.offline import get_plotlyjs

    from mrs_synthesis.report_style import missing
    from mrs_synthesis.report_words import interval, marked, short

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
    environment.globals.update(missing=missing, marked=marked, interval=interval)
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
