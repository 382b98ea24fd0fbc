"""How like real spectra synthetic ones and reconstructions are."""


rule fidelity:
    """Errors of reconstructions, distances between distributions, and an embedding, between ceiling and floor."""
    input:
        reconstructions=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-recon_svs.nii.gz",
            TEST_UNITS,
        ),
        synthetic=[
            file
            for kind in COMPARED_KINDS
            for file in of_units(
                f"<results>/derivatives/{{folder}}/mrs/{{unit}}_desc-synth{kind}_svs.nii.gz",
                TEST_UNITS,
            )
        ],
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        spectra="<results>/training/spectra.npy",
        grid="<results>/training/grid.json",
        heldout="<heldout>/index.tsv",
        heldout_spectra="<heldout>/spectra.npy",
    output:
        table=reported("fidelity", "Fidelity"),
        dictionary="<results>/tables/fidelity.json",
        embedding=reported("embedding", "Fidelity"),
        embedding_dictionary="<results>/tables/embedding.json",
    log:
        "<results>/logs/fidelity.log",
    benchmark:
        "<results>/benchmarks/fidelity.tsv"
    conda:
        environment("evaluate")
    params:
        derivatives=derivatives,
        training=folder("index"),
        heldout=folder("heldout"),
        seed=config["seed"],
        flags=flags(COMPARED | {"bootstrap": config["evaluate"]["bootstrap"]}),
        code=code("fidelity"),
    shell:
        r"""
        python -m mrs_synthesis.fidelity --units {input.units:q} --training {params.training:q} \
            --heldout {params.heldout:q} --derivatives {params.derivatives:q} --seed {params.seed} {params.flags:q} \
            --output {output.table:q} --embedding {output.embedding:q} 2>&1 | tee {log:q}
        """
