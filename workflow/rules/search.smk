"""Which settings suit the validation subjects; asked for by name: `search`."""


rule search:
    """Train with the configured and with drawn settings; finished trials of an earlier call are kept."""
    input:
        spectra="<results>/training/spectra.npy",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        table="<results>/tables/search.tsv",
        dictionary="<results>/tables/search.json",
    log:
        "<results>/logs/search.log",
    benchmark:
        "<results>/benchmarks/search.tsv"
    conda:
        environment("train")
    threads: config["train"]["threads"]
    resources:
        **training_needs("paper", trainings=config["search"]["trials"] + 1),
    params:
        training=folder("index"),
        trials=f"{RESULTS}/search",
        seed=config["seed"],
        flags=flags(
            config["search"]
            | {
                key: config["train"][key]
                for key in (
                    "latent_size",
                    "channels",
                    "kernel",
                    "likelihood",
                    "beta",
                    "batch_size",
                    "learning_rate",
                    "patience",
                    "device",
                    "amp",
                    "threads",
                )
            }
        ),
        code=code("search"),
    shell:
        r"""
        python -m mrs_synthesis.search --training {params.training:q} --folder {params.trials:q} --seed {params.seed} \
            {params.flags:q} --output {output.table:q} 2>&1 | tee {log:q}
        """
