"""One offline HTML page, and the figures that `snakemake --report` shows."""

PAGE_FILES = ["report/report.html.j2", "report/report.css", "report/report.js"]


rule config_record:
    """The validated config, all defaults filled in."""
    output:
        "<results>/config.json",
    log:
        "<results>/logs/config_record.log",
    conda:
        environment("evaluate")
    params:
        config=json.dumps(config, sort_keys=True),
        code=code("collect"),
    shell:
        "python -m mrs_synthesis.collect config --json {params.config:q} --output {output:q} 2>&1 | tee {log:q}"


rule write_report:
    """The page."""
    input:
        rules.evaluate.output,
        fits=of_units(
            f"<results>/derivatives/{{folder}}/mrs/{{unit}}_desc-{ENGINE_LABEL}_fit.npz",
            TEST_UNITS,
        ),
        conversion="<results>/tables/conversion.tsv",
        preprocessing="<results>/tables/preprocessing.tsv",
        failures="<results>/tables/failures.tsv",
        units="<results>/units.tsv",
        truth="<results>/tables/fit_truth.tsv" if PHANTOM else [],
        bound="<results>/tables/bayes_bound.tsv" if PHANTOM else [],
        share="<results>/tables/share_of_bound.tsv" if FILLED_PHANTOM else [],
        noise="<results>/tables/noise.tsv" if COMPARED_KINDS else [],
        water="<results>/tables/water.tsv" if SYNTHETIC_KINDS else [],
        memorisation="<results>/tables/memorisation.tsv" if COMPARED_KINDS else [],
        losses="<results>/model/losses.csv",
        card="<results>/model/README.md",
        config="<results>/config.json",
        statuses=all_statuses(),
    output:
        page=report(
            "<results>/report.html", caption="../report/report.rst", category="Report"
        ),
        bias=report(
            "<results>/figures/bias.svg", caption="../report/bias.rst", category="Bias"
        ),
        effective=report(
            "<results>/figures/effective.svg",
            caption="../report/effective.rst",
            category="Effective transients",
        ),
        bound=(
            report(
                "<results>/figures/bound.svg",
                caption="../report/bound.rst",
                category="Physical limit",
            )
            if FILLED_PHANTOM
            else []
        ),
        spectra=report(
            "<results>/figures/spectra.svg",
            caption="../report/spectra.rst",
            category="Spectra",
        ),
    log:
        "<results>/logs/report.log",
    benchmark:
        "<results>/benchmarks/report.tsv"
    conda:
        environment("report")
    params:
        study=STUDY,
        results=folder("page"),
        engine=ENGINE,
        code=code("report", *PAGE_FILES),
    shell:
        r"""
        python -m mrs_synthesis.report --study {params.study} --results {params.results:q} --engine {params.engine} \
            --output {output.page:q} 2>&1 | tee {log:q}
        """
