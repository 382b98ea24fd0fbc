"""Noise SD of synthetic transients over that of held-out real ones, by ppm."""


rule noise_spectrum:
    """Where in the spectrum the noise is too weak or too strong, by source."""
    input:
        synthetic=rules.noise_table.input.synthetic,
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
    output:
        table=reported("noise_spectrum", "Noise and water"),
        dictionary="<results>/tables/noise_spectrum.json",
    log:
        "<results>/logs/noise_spectrum.log",
    benchmark:
        "<results>/benchmarks/noise_spectrum.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        derivatives=DERIVATIVES,
        training=folder("index"),
        seed=config["seed"],
        flags=flags(COMPARED | {"bootstrap": config["evaluate"]["bootstrap"]}),
        code=code("noise_spectrum"),
    shell:
        r"""
        python -m mrs_synthesis.noise_spectrum --units {input.units:q} --training {params.training:q} \
            --derivatives {params.derivatives:q} --seed {params.seed} {params.flags:q} --output {output.table:q} \
            2>&1 | tee {log:q}
        """
