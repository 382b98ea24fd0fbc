"""Study cells: few real transients filled up with synthetic ones, and the null controls."""


rule augment:
    """One averaged FID per study cell and edit condition, all cells of a scan in one file."""
    input:
        synthetic="<results>/records/synthesise/{shard}.json",
        index="<results>/training/index.tsv",
        spectra="<results>/training/spectra.npy",
        grid="<results>/training/grid.json",  # with the hash of the spectra
    output:
        "<results>/records/augment/{shard}.json",
    log:
        "<results>/logs/augment/{shard}.log",
    benchmark:
        "<results>/benchmarks/augment/{shard}.tsv"
    conda:
        environment("augment")
    resources:
        **needs("augment"),
    params:
        shard=sharded(
            "augment",
            reads=[
                f"{DERIVED}_desc-preproc_svs.nii.gz",
                *with_sidecars(DERIVED, [*SYNTHETIC, "_desc-recon_svs"]),
            ],
            writes=cell_files(DERIVED),
        ),
        shared=shared("index", "grid"),
        scan=f"{DERIVED}_desc-preproc_svs.nii.gz",
        prefix=DERIVED,
        training=folder("spectra"),
        seed=config["seed"],
        flags=flags(
            config["augment"]
            | {key: config["synthesise"][key] for key in ("modes", "decoders")}
        ),
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} --shared {params.shared:q} \
            -- augment --scan {params.scan:q} --prefix {params.prefix:q} \
            --training {params.training:q} --seed {params.seed} {params.flags:q} \
            --output {params.prefix:q}_desc-cells_svs.nii.gz --index {params.prefix:q}_desc-cells_index.tsv \
            2>&1 | tee {log:q}
        """
