"""Residual water of synthetic transients beside that of held-out real ones."""


rule water_table:
    """Amplitude, phase, shift and width of the water by two-sample tests, and a classifier's accuracy."""
    input:
        nuisance=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_nuisance.npz"
        ),
        scans=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_svs.nii.gz"
        ),
        sidecars=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_svs.json"
        ),
        model="<results>/model/nuisance.npz",
        summary="<results>/model/nuisance.json",
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        table="<results>/tables/water.tsv",
        dictionary="<results>/tables/water.json",
    log:
        "<results>/logs/water_table.log",
    benchmark:
        "<results>/benchmarks/water_table.tsv"
    conda:
        environment("evaluate")
    params:
        derivatives=derivatives,
        training=folder("index"),
        seed=config["seed"],
        flags=flags({"bootstrap": config["evaluate"]["bootstrap"]}),
        code=code("water_table"),
    shell:
        r"""
        python -m mrs_synthesis.water_table --units {input.units:q} --training {params.training:q} \
            --derivatives {params.derivatives:q} --nuisance {input.model:q} --seed {params.seed} {params.flags:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """
