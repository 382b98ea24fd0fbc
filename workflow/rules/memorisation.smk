"""Whether synthetic transients lie nearer to training spectra than held-out real ones do."""


rule memorisation:
    """Nearest-neighbour distances to the training set, with copiers and held-out transients as controls."""
    input:
        synthetic=recorded("synthesise", TEST_SHARDS),
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        heldout="<heldout>/index.tsv",
        spectra="<results>/training/spectra.npy",
        heldout_spectra="<heldout>/spectra.npy",
        grid="<results>/training/grid.json",
    output:
        table=reported("memorisation", "Memorisation"),
        dictionary="<results>/tables/memorisation.json",
        verdicts="<results>/tables/memorisation_verdicts.json",
    log:
        "<results>/logs/memorisation.log",
    benchmark:
        "<results>/benchmarks/memorisation.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("compare"),
    params:
        derivatives=DERIVATIVES,
        training=folder("index"),
        heldout=folder("heldout"),
        seed=config["seed"],
        flags=flags(COMPARED),
        code=code("memorisation"),
    shell:
        r"""
        python -m mrs_synthesis.memorisation --units {input.units:q} --training {params.training:q} \
            --heldout {params.heldout:q} --derivatives {params.derivatives:q} --seed {params.seed} {params.flags:q} \
            --output {output.table:q} --verdicts {output.verdicts:q} 2>&1 | tee {log:q}
        """
