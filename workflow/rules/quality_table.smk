"""Signal quality of every study cell: the challenge's metrics, FSL-MRS's, and the fit's."""


rule quality_table:
    """A row for every scan, cell and replicate."""
    input:
        fits=recorded(FITS, TEST_SHARDS),
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
    output:
        table=reported("quality", "Signal quality"),
        dictionary="<results>/tables/quality.json",
    log:
        "<results>/logs/quality_table.log",
    benchmark:
        "<results>/benchmarks/quality_table.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        derivatives=DERIVATIVES,
        training=folder("index"),
        engine=ENGINE,
        code=code("quality_table"),
    shell:
        r"""
        python -m mrs_synthesis.quality_table --units {input.units:q} --training {params.training:q} \
            --derivatives {params.derivatives:q} --engine {params.engine:q} --output {output.table:q} \
            2>&1 | tee {log:q}
        """
