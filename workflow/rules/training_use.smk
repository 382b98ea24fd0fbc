"""What synthetic spectra are worth as training data; asked for by name: `training_use`."""

# Averaged data have no averages of few transients
if config["augment"]["design"] == "augmentation":

    localrules:
        training_use,

    rule training_use:
        """The table of regressors trained on real spectra, on synthetic ones, and on both."""
        input:
            "<results>/tables/training_use.tsv",

    rule training_use_table:
        """Fit the labels, train the regressors, and score them on the test subjects."""
        input:
            scans=recorded("preprocess"),
            units="<results>/units.tsv",
            index="<results>/training/index.tsv",
            heldout="<heldout>/index.tsv",
            model="<results>/model/model.safetensors",
            config="<results>/model/config.json",
            density=DENSITY,
            basis=expand("<results>/basis/{set}", set=BASIS_SETS),
            truth="<results>/tables/truth.tsv" if PHANTOM else [],
        output:
            table="<results>/tables/training_use.tsv",
            dictionary="<results>/tables/training_use.json",
        log:
            "<results>/logs/training_use.log",
        benchmark:
            "<results>/benchmarks/training_use.tsv"
        conda:
            environment("synthesise")
        resources:
            **needs("compare", gpus=FITTING_GPUS),
        params:
            derivatives=DERIVATIVES,
            training=folder("index"),
            heldout=folder("heldout"),
            model=folder("model"),
            seed=config["seed"],
            prior=config["synthesise"]["prior"],
            truth=lambda wildcards, input: flags({"truth": input.truth or None}),
            flags=flags(AMOUNTS)
            + flags(config["evaluate"], leave_out=["tost_margin_percent"]),
            fits=flags(config["quantify"]),
            code=code("training_use"),
        shell:
            r"""
            python -m mrs_synthesis.training_use --units {input.units:q} --derivatives {params.derivatives:q} \
                --training {params.training:q} --heldout {params.heldout:q} --model {params.model:q} \
                --prior {params.prior:q} --seed {params.seed} {params.truth:q} {params.flags:q} \
                --output {output.table:q} --quantify --basis {input.basis:q} {params.fits:q} 2>&1 | tee {log:q}
            """
