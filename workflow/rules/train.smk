"""The generative model."""

# The model of subjects is fitted in seconds, by one process
PROCESSES = config["train"]["processes"] if config["train"]["model"] == "paper" else 1


rule train:
    """Train, or go on from the checkpoint that a killed run left."""
    input:
        spectra="<results>/training/spectra.npy",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
        patterns=PATTERNS,
    output:
        model="<results>/model/model.safetensors",
        config="<results>/model/config.json",
        density=DENSITY,
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
    threads: config["train"]["threads"] * PROCESSES
    resources:
        **training_needs(config["train"]["model"], PROCESSES),
    params:
        training=folder("index"),
        model=folder("model"),
        seed=config["seed"],
        flags=flags(config["train"], leave_out=["processes", "patterns"]),
        patterns=lambda wildcards, input: flags({"patterns": input.patterns or None}),
        start=(
            f"mrs_synthesis.processes --number {PROCESSES} " if PROCESSES > 1 else ""
        ),
        code=code("train"),
    shell:
        r"""
        python -m {params.start}mrs_synthesis.train --training {params.training:q} --output {params.model:q} \
            --seed {params.seed} {params.flags:q} {params.patterns:q} 2>&1 | tee {log:q}
        """
