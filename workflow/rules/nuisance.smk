"""What happens between transients: frequency and phase tracks, residual water."""


rule nuisance:
    """Tracks and water of the training subjects, as a model that draws new ones."""
    input:
        scans=recorded("preprocess", SEEN_SHARDS),
        units="<results>/training/units.tsv",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        model="<results>/model/nuisance.safetensors",
        summary="<results>/model/nuisance.json",
    log:
        "<results>/logs/nuisance.log",
    benchmark:
        "<results>/benchmarks/nuisance.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        derivatives=DERIVATIVES,
        training=folder("index"),
        code=code("nuisance"),
    shell:
        r"""
        python -m mrs_synthesis.nuisance --units {input.units:q} --training {params.training:q} \
            --derivatives {params.derivatives:q} --output {output.model:q} 2>&1 | tee {log:q}
        """
