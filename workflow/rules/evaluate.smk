"""Bias, agreement and signal quality, and the list of what failed."""


rule evaluate:
    """The result tables of the study."""
    input:
        fits=of_units(
            f"<results>/derivatives/{{folder}}/mrs/{{unit}}_desc-{ENGINE_LABEL}_mrsfit.tsv",
            TEST_UNITS,
        ),
        cells=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-cells_svs.nii.gz",
            TEST_UNITS,
        ),
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        truth="<results>/tables/truth.tsv" if PHANTOM else [],
    output:
        multiext("<results>/tables/concentrations", ".tsv", ".json"),
        multiext("<results>/tables/quality", ".tsv", ".json"),
        multiext("<results>/tables/bias", ".tsv", ".json"),
        multiext("<results>/tables/bias_by_site", ".tsv", ".json"),
        multiext("<results>/tables/effective_transients", ".tsv", ".json"),
        multiext("<results>/tables/bias_truth", ".tsv", ".json") if PHANTOM else [],
        summary="<results>/tables/summary.json",
    log:
        "<results>/logs/evaluate.log",
    benchmark:
        "<results>/benchmarks/evaluate.tsv"
    conda:
        environment("evaluate")
    params:
        derivatives=derivatives,
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
            --derivatives {params.derivatives:q} --engine {params.engine} --seed {params.seed} {params.truth:q} \
            {params.flags:q} --output {params.tables:q} 2>&1 | tee {log:q}
        """


rule failures:
    """Every subject that failed: stage, file, reason."""
    input:
        all_statuses(),
    output:
        table="<results>/tables/failures.tsv",
        dictionary="<results>/tables/failures.json",
    log:
        "<results>/logs/failures.log",
    conda:
        environment("evaluate")
    params:
        samples=samples,
        code=code("collect"),
    shell:
        r"""
        python -m mrs_synthesis.collect failures --inputs {input:q} --samples {params.samples:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """


rule complete:
    """End with an error that names the failed subjects, after everything else was made."""
    input:
        failures="<results>/tables/failures.tsv",
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
        "python -m mrs_synthesis.collect complete --inputs {input.failures:q} --output {output:q} 2>&1 | tee {log:q}"
