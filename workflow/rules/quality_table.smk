"""Signal quality of every study cell: the challenge's metrics, FSL-MRS's, and the fit's."""


rule quality_table:
    """A row for every scan, cell and replicate."""
    input:
        fits=of_units(
            f"<results>/derivatives/{{folder}}/mrs/{{unit}}_desc-{ENGINE_LABEL}_mrsfit.tsv",
            TEST_UNITS,
        ),
        curves=of_units(
            f"<results>/derivatives/{{folder}}/mrs/{{unit}}_desc-{ENGINE_LABEL}_fit.npz",
            TEST_UNITS,
        ),
        cells=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-cells_svs.nii.gz",
            TEST_UNITS,
        ),
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
    params:
        derivatives=derivatives,
        training=folder("index"),
        engine=ENGINE,
        code=code("quality_table"),
    shell:
        r"""
        python -m mrs_synthesis.quality_table --units {input.units:q} --training {params.training:q} \
            --derivatives {params.derivatives:q} --engine {params.engine} --output {output.table:q} \
            2>&1 | tee {log:q}
        """
