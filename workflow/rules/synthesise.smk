"""Synthetic transients of the test subjects."""


rule synthesise:
    """All modes and decoders of one unit, and its reconstruction."""
    input:
        scan="<unit>_desc-preproc_svs.nii.gz",
        model="<results>/model/model.safetensors",
        config="<results>/model/config.json",
        density=DENSITY,
        nuisance=NUISANCE,
        index="<results>/training/index.tsv",
    output:
        synthetic=expand(
            "<unit>_desc-synth{kind}_svs.nii.gz",
            kind=SYNTHETIC_KINDS,
            allow_missing=True,
        ),
        reconstruction="<unit>_desc-recon_svs.nii.gz",
        status="<results>/status/synthesise/{folder}/{unit}.json",
    log:
        "<results>/logs/synthesise/{folder}/{unit}.log",
    benchmark:
        "<results>/benchmarks/synthesise/{folder}/{unit}.tsv"
    conda:
        environment("synthesise")
    params:
        model=folder("model"),
        training=folder("index"),
        prefix=prefix,
        origin=origin,
        seed=config["seed"],
        flags=flags(config["synthesise"] | AMOUNTS),
        nuisance=lambda wildcards, input: flags({"nuisance": input.nuisance or None}),
        code=code("synthesise"),
    shell:
        r"""
        python -m mrs_synthesis.synthesise --unit {wildcards.unit} --scan {input.scan:q} --model {params.model:q} \
            --training {params.training:q} --prefix {params.prefix:q} --seed {params.seed} {params.flags:q} \
            {params.nuisance:q} {params.origin:q} --status {output.status:q} 2>&1 | tee {log:q}
        """
