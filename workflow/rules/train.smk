"""The variational autoencoder."""


rule train:
    """Train, or go on from the checkpoint that a killed run left."""
    input:
        spectra="<results>/training/spectra.npy",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        model="<results>/model/model.safetensors",
        config="<results>/model/config.json",
        card="<results>/model/README.md",
        losses="<results>/model/losses.csv",
        figure=report(
            "<results>/model/losses.svg",
            caption="../report/losses.rst",
            category="Training",
        ),
    log:
        "<results>/logs/train.log",
    benchmark:
        "<results>/benchmarks/train.tsv"
    conda:
        environment("train")
    threads: config["train"]["threads"]
    params:
        training=folder("index"),
        model=folder("model"),
        seed=config["seed"],
        flags=flags(config["train"]),
        code=code("train"),
    shell:
        r"""
        python -m mrs_synthesis.train --training {params.training:q} --output {params.model:q} --seed {params.seed} \
            {params.flags:q} 2>&1 | tee {log:q}
        """
