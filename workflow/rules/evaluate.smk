"""Bias and agreement, and the list of what failed."""


rule evaluate:
    """The result tables of the study."""
    input:
        fits=recorded(FITS, TEST_SHARDS),
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        truth="<results>/tables/truth.tsv" if PHANTOM else [],
    output:
        reported("concentrations", "Fits"),
        "<results>/tables/concentrations.json",
        reported("bias", "Bias and agreement"),
        "<results>/tables/bias.json",
        reported("bias_by_site", "Bias and agreement"),
        "<results>/tables/bias_by_site.json",
        reported("effective_transients", "Effective transients"),
        "<results>/tables/effective_transients.json",
        reported("learning_curve", "Effective transients"),
        "<results>/tables/learning_curve.json",
        [
            reported("bias_truth", "Bias and agreement"),
            "<results>/tables/bias_truth.json",
        ]
        if PHANTOM
        else [],
        summary="<results>/tables/summary.json",
    log:
        "<results>/logs/evaluate.log",
    benchmark:
        "<results>/benchmarks/evaluate.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        derivatives=DERIVATIVES,
        training=folder("index"),
        tables=folder("summary"),
        engine=ENGINE,
        seed=config["seed"],
        truth=lambda wildcards, input: ["--truth", input.truth] if input.truth else [],
        flags=flags(config["evaluate"]),
        code=code("evaluate"),
    shell:
        r"""
        python -m mrs_synthesis.evaluate --units {input.units:q} --training {params.training:q} \
            --derivatives {params.derivatives:q} --engine {params.engine:q} --seed {params.seed} {params.truth:q} \
            {params.flags:q} --output {params.tables:q} 2>&1 | tee {log:q}
        """


rule failures:
    """Every subject that failed: stage, file, reason."""
    input:
        records=all_records(),
    output:
        table=reported("failures", "Failures"),
        dictionary="<results>/tables/failures.json",
    log:
        "<results>/logs/failures.log",
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        samples=samples,
        records=named,
        code=code("collect"),
    shell:
        r"""
        python -m mrs_synthesis.collect failures --records {params.records:q} --samples {params.samples:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """


rule complete:
    """End with an error that names the failed subjects, after everything else was made."""
    input:
        failures="<results>/tables/failures.tsv",
        checks="<results>/tables/checks.tsv",
        report="<results>/report.html",
    output:
        "<results>/complete.json",
    log:
        "<results>/logs/complete.log",
    conda:
        environment("evaluate")
    params:
        code=code("collect"),
    shell:
        r"""
        python -m mrs_synthesis.collect complete --inputs {input.failures:q} {input.checks:q} \
            --output {output:q} 2>&1 | tee {log:q}
        """
