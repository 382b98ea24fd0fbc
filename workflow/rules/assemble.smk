"""Transients as arrays: those that a model may see, and those of the test subjects."""


rule assemble:
    """The training set: complex spectra in a ppm window, normalised, with their split."""
    input:
        scans=recorded("preprocess", SEEN_SHARDS),
        units="<results>/training/units.tsv",
    output:
        spectra="<results>/training/spectra.npy",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    log:
        "<results>/logs/assemble.log",
    benchmark:
        "<results>/benchmarks/assemble.tsv"
    conda:
        environment("assemble")
    resources:
        **needs("table"),
    params:
        derivatives=DERIVATIVES,
        training=folder("index"),
        seed=config["seed"],
        flags=flags(config["assemble"], leave_out=["split_unit"]),
        code=code("assemble"),
    shell:
        r"""
        python -m mrs_synthesis.assemble --units {input.units:q} --derivatives {params.derivatives:q} \
            --output {params.training:q} --seed {params.seed} {params.flags:q} 2>&1 | tee {log:q}
        """


# Split by transients, nobody is held out as a whole
if HELD_OUT_UNITS:

    rule heldout:
        """The test subjects, likewise, on the training set's grid."""
        input:
            scans=recorded("preprocess", HELD_OUT_SHARDS),
            units="<results>/units.tsv",
            grid="<results>/training/grid.json",
        output:
            spectra="<results>/heldout/spectra.npy",
            index="<results>/heldout/index.tsv",
            grid="<results>/heldout/grid.json",
        log:
            "<results>/logs/heldout.log",
        benchmark:
            "<results>/benchmarks/heldout.tsv"
        conda:
            environment("assemble")
        resources:
            **needs("table"),
        params:
            derivatives=DERIVATIVES,
            heldout=lambda wildcards, input, output: os.path.dirname(output.index),
            code=code("assemble"),
        shell:
            r"""
            python -m mrs_synthesis.assemble --units {input.units:q} --derivatives {params.derivatives:q} \
                --grid {input.grid:q} --output {params.heldout:q} 2>&1 | tee {log:q}
            """
