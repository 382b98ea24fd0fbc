"""Study cells: few real transients filled up with synthetic ones, and the null controls."""


rule augment:
    """One averaged FID per study cell and edit condition, all cells of one unit in one file."""
    input:
        scan="<unit>_desc-preproc_svs.nii.gz",
        synthetic=rules.synthesise.output.synthetic,
        reconstruction=rules.synthesise.output.reconstruction,
        index="<results>/training/index.tsv",
        spectra="<results>/training/spectra.npy",
        grid="<results>/training/grid.json",
    output:
        cells="<unit>_desc-cells_svs.nii.gz",
        sidecar="<unit>_desc-cells_svs.json",
        index="<unit>_desc-cells_index.tsv",
        index_sidecar="<unit>_desc-cells_index.json",
        status="<results>/status/augment/{folder}/{unit}.json",
    log:
        "<results>/logs/augment/{folder}/{unit}.log",
    benchmark:
        "<results>/benchmarks/augment/{folder}/{unit}.tsv"
    conda:
        environment("augment")
    params:
        training=folder("spectra"),
        prefix=prefix,
        seed=config["seed"],
        flags=flags(
            config["augment"]
            | {key: config["synthesise"][key] for key in ("modes", "decoders")}
        ),
        code=code("augment"),
    shell:
        r"""
        python -m mrs_synthesis.augment --unit {wildcards.unit} --scan {input.scan:q} --prefix {params.prefix:q} \
            --training {params.training:q} --seed {params.seed} {params.flags:q} --output {output.cells:q} \
            --index {output.index:q} --status {output.status:q} 2>&1 | tee {log:q}
        """
