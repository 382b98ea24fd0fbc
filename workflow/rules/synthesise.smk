"""Synthetic transients of the test subjects."""


rule synthesise:
    """All modes and decoders of a shard's scans, and their reconstructions."""
    input:
        scans="<results>/records/preprocess/{shard}.json",
        model="<results>/model/model.safetensors",
        config="<results>/model/config.json",
        density=DENSITY,
        nuisance=NUISANCE,
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        "<results>/records/synthesise/{shard}.json",
    log:
        "<results>/logs/synthesise/{shard}.log",
    benchmark:
        "<results>/benchmarks/synthesise/{shard}.tsv"
    conda:
        environment("synthesise")
    resources:
        **needs("synthesise"),
    params:
        shard=sharded(
            "synthesise",
            about=scan_of_origin,
            reads=[f"{DERIVED}_desc-preproc_svs.nii.gz"],
            writes=with_sidecars(DERIVED, [*SYNTHETIC, "_desc-recon_svs"]),
        ),
        shared=shared("model", "config", "density", "nuisance", "index", "grid"),
        scan=f"{DERIVED}_desc-preproc_svs.nii.gz",
        prefix=DERIVED,
        model=folder("model"),
        training=folder("index"),
        seed=config["seed"],
        flags=flags(config["synthesise"] | AMOUNTS),
        nuisance=lambda wildcards, input: flags({"nuisance": input.nuisance or None}),
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} --shared {params.shared:q} \
            -- synthesise %own --scan {params.scan:q} \
            --model {params.model:q} --training {params.training:q} --prefix {params.prefix:q} --seed {params.seed} \
            {params.flags:q} {params.nuisance:q} 2>&1 | tee {log:q}
        """
