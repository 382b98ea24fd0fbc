"""The variational autoencoder."""


rule train:
    """Train, or go on from the checkpoint that a killed run left."""
    input:
        "<results>/training/spectra.npy",
        "<results>/training/index.tsv",
        "<results>/training/grid.json",
    output:
        "<results>/model/model.safetensors",
        "<results>/model/config.json",
        card="<results>/model/README.md",
        losses="<results>/model/losses.csv",
        figure=report("<results>/model/losses.svg", caption="../report/losses.rst", category="Training"),
    log:
        "<results>/logs/train.log",
    benchmark:
        "<results>/benchmarks/train.tsv"
    conda:
        environment("train")
    threads: config["train"]["threads"]
    params:
        training=f"{RESULTS}/training",
        model=f"{RESULTS}/model",
        seed=config["seed"],
        flags=flags(config["train"]),
        code=code("train"),
    shell:
        r"""
        python -m mrs_synthesis.train --training {params.training:q} --output {params.model:q} --seed {params.seed} \
            {params.flags:q} 2>&1 | tee {log:q}
        """
