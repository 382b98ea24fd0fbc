"""All transients of the study as one array, split by subject."""


rule assemble:
    """The training set: complex spectra in a ppm window, normalised, with their split."""
    input:
        scans=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_svs.nii.gz"
        ),
        units="<results>/units.tsv",
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
    params:
        derivatives=derivatives,
        training=folder("index"),
        seed=config["seed"],
        flags=flags(config["assemble"] | SPLIT),
        code=code("assemble"),
    shell:
        r"""
        python -m mrs_synthesis.assemble --units {input.units:q} --derivatives {params.derivatives:q} \
            --output {params.training:q} --seed {params.seed} {params.flags:q} 2>&1 | tee {log:q}
        """
