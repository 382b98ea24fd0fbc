"""What preprocessing is worth, step by step; asked for by name: `alignment_study`, `preprocess_agreement`."""


rule alignment_study:
    """Methods of aligning edit-ON to edit-OFF, on the digital phantom simulated in memory."""
    output:
        table="<results>/tables/edit_alignment.tsv",
        dictionary="<results>/tables/edit_alignment.json",
    log:
        "<results>/logs/alignment_study.log",
    benchmark:
        "<results>/benchmarks/alignment_study.tsv"
    conda:
        environment("quantify")
    params:
        seed=config["seed"],
        flags=flags(config["alignment_study"]),
        code=code("alignment_study", "mrs_synthesis/spin_systems.json"),
    shell:
        r"""
        python -m mrs_synthesis.alignment_study --seed {params.seed} {params.flags:q} --output {output.table:q} \
            2>&1 | tee {log:q}
        """


rule preprocess_agreement:
    """The engine `batched` against FSL-MRS's functions on the same data; of the phantom with its truth, in memory."""
    input:
        scans=of_units(
            "<results>/rawdata/{folder}/mrs/{unit}_svs.nii.gz",
            [] if PHANTOM else WITH_WATER,
        ),
        waters=of_units(
            "<results>/rawdata/{folder}/mrs/{unit}_mrsref.nii.gz",
            [] if PHANTOM else WITH_WATER,
        ),
    output:
        table="<results>/tables/preprocess_agreement.tsv",
        dictionary="<results>/tables/preprocess_agreement.json",
    log:
        "<results>/logs/preprocess_agreement.log",
    benchmark:
        "<results>/benchmarks/preprocess_agreement.tsv"
    conda:
        environment("preprocess", "fsl-mrs")
    params:
        seed=config["seed"],
        phantoms=3 if PHANTOM else 0,
        code=code("preprocess_agreement", "mrs_synthesis/spin_systems.json"),
    shell:
        r"""
        python -m mrs_synthesis.preprocess_agreement --seed {params.seed} --phantoms {params.phantoms} \
            --scans {input.scans:q} --waters {input.waters:q} --output {output.table:q} 2>&1 | tee {log:q}
        """
