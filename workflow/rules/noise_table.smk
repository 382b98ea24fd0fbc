"""Noise of synthetic transients beside that of held-out real ones."""


rule noise_table:
    """Level, colour, circularity, independence and averaging of the noise, by source."""
    input:
        synthetic=recorded("synthesise", TEST_SHARDS),
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
    output:
        table=reported("noise", "Noise and water"),
        dictionary="<results>/tables/noise.json",
    log:
        "<results>/logs/noise_table.log",
    benchmark:
        "<results>/benchmarks/noise_table.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        derivatives=DERIVATIVES,
        training=folder("index"),
        seed=config["seed"],
        flags=flags(COMPARED | {"bootstrap": config["evaluate"]["bootstrap"]}),
        code=code("noise_table"),
    shell:
        r"""
        python -m mrs_synthesis.noise_table --units {input.units:q} --training {params.training:q} \
            --derivatives {params.derivatives:q} --seed {params.seed} {params.flags:q} --output {output.table:q} \
            2>&1 | tee {log:q}
        """
