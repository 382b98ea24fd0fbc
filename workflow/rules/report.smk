"""One offline HTML page, and the figures that `snakemake --report` shows."""

PAGE_FILES = sorted(
    str(path.relative_to(PACKAGE.parent))
    for pattern in ("*.j2", "*.css", "*.js")
    for path in (PACKAGE.parent / "report").rglob(pattern)
)


rule config_record:
    """The validated config, all defaults filled in."""
    output:
        shown("config.json", "Parameters", "configuration"),
    log:
        "<results>/logs/config_record.log",
    conda:
        environment("evaluate")
    params:
        # Of a function, since its texts are no names of wildcards
        config=lambda wildcards: json.dumps(config, sort_keys=True),
        code=code("collect"),
    shell:
        "python -m mrs_synthesis.collect config --json {params.config:q} --output {output:q} 2>&1 | tee {log:q}"


rule write_report:
    """The page."""
    input:
        rules.evaluate.output,
        rules.quality_table.output,
        fits=recorded(FITS, TEST_SHARDS),
        conversion="<results>/tables/conversion.tsv",
        preprocessing="<results>/tables/preprocessing.tsv",
        failures="<results>/tables/failures.tsv",
        checks="<results>/tables/checks.tsv",
        units="<results>/units.tsv",
        truth="<results>/tables/fit_truth.tsv" if PHANTOM else [],
        bound="<results>/tables/bayes_bound.tsv" if PHANTOM else [],
        share="<results>/tables/share_of_bound.tsv" if FILLED_PHANTOM else [],
        comparisons="<results>/tables/comparisons.tsv" if FILLED else [],
        worth="<results>/tables/worth.tsv" if FILLED else [],
        mixed="<results>/tables/mixed_model.tsv",
        noise="<results>/tables/noise.tsv" if COMPARED_KINDS else [],
        noise_spectrum="<results>/tables/noise_spectrum.tsv" if COMPARED_KINDS else [],
        fidelity="<results>/tables/fidelity.tsv",
        reporting="<results>/tables/minimum_reporting.tsv",
        grid="<results>/tables/grid.tsv" if "grid" in config else [],
        water="<results>/tables/water.tsv" if SYNTHETIC_KINDS else [],
        memorisation="<results>/tables/memorisation.tsv" if COMPARED_KINDS else [],
        losses="<results>/model/losses.csv",
        card="<results>/model/README.md",
        config="<results>/config.json",
        run_times="<results>/tables/run_times.tsv",
        records=all_records(),
    output:
        page=shown("report.html", "Summary", "page of all results"),
        bias=shown("figures/bias.svg", "Bias and agreement", "forest plot of the bias"),
        effective=shown(
            "figures/effective.svg", "Effective transients", "N_eff against the slope"
        ),
        bound=(
            shown("figures/bound.svg", "Physical limit", "errors by number of real")
            if FILLED_PHANTOM
            else []
        ),
        spectra=shown("figures/spectra.svg", "Fidelity", "mean and SD of transients"),
    log:
        "<results>/logs/report.log",
    benchmark:
        "<results>/benchmarks/report.tsv"
    conda:
        environment("report")
    resources:
        **needs("table"),
    params:
        study=STUDY,
        results=folder("page"),
        engine=ENGINE,
        code=code("report", *PAGE_FILES),
    shell:
        r"""
        python -m mrs_synthesis.report --study {params.study:q} --results {params.results:q} --engine {params.engine:q} \
            --output {output.page:q} 2>&1 | tee {log:q}
        """
