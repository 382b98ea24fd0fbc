"""Residual water of synthetic transients beside that of held-out real ones."""


rule water_table:
    """Amplitude, phase, shift and width of the water by two-sample tests, and a classifier's accuracy."""
    input:
        scans=recorded("preprocess"),
        model="<results>/model/nuisance.safetensors",
        summary="<results>/model/nuisance.json",
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        heldout="<heldout>/index.tsv",
        grid="<results>/training/grid.json",
    output:
        table=reported("water", "Noise and water"),
        dictionary="<results>/tables/water.json",
        lines=reported("water_lines", "Noise and water"),
        lines_dictionary="<results>/tables/water_lines.json",
    log:
        "<results>/logs/water_table.log",
    benchmark:
        "<results>/benchmarks/water_table.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("compare"),
    params:
        derivatives=DERIVATIVES,
        training=folder("index"),
        heldout=folder("heldout"),
        seed=config["seed"],
        flags=flags({"bootstrap": config["evaluate"]["bootstrap"]}),
        code=code("water_table"),
    shell:
        r"""
        python -m mrs_synthesis.water_table --units {input.units:q} --training {params.training:q} \
            --heldout {params.heldout:q} --derivatives {params.derivatives:q} --nuisance {input.model:q} \
            --seed {params.seed} {params.flags:q} --output {output.table:q} --lines {output.lines:q} 2>&1 | tee {log:q}
        """
