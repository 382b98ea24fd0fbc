"""How like real spectra synthetic ones and reconstructions are."""


rule fidelity:
    """Errors of reconstructions, distances between distributions, and an embedding, between ceiling and floor."""
    input:
        synthetic=recorded("synthesise", TEST_SHARDS),
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
    resources:
        **needs("compare"),
    params:
        derivatives=DERIVATIVES,
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
