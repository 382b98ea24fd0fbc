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
    resources:
        **needs("compare"),
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
        scans=[] if PHANTOM else recorded("convert"),
    output:
        table="<results>/tables/preprocess_agreement.tsv",
        dictionary="<results>/tables/preprocess_agreement.json",
    log:
        "<results>/logs/preprocess_agreement.log",
    benchmark:
        "<results>/benchmarks/preprocess_agreement.tsv"
    conda:
        environment("preprocess", "fsl-mrs")
    resources:
        **needs("table"),
    params:
        seed=config["seed"],
        phantoms=3 if PHANTOM else 0,
        scans=files_of_scans("svs.nii.gz"),
        waters=files_of_scans("mrsref.nii.gz"),
        code=code("preprocess_agreement", "mrs_synthesis/spin_systems.json"),
    shell:
        r"""
        python -m mrs_synthesis.preprocess_agreement --seed {params.seed} --phantoms {params.phantoms} \
            --scans {params.scans:q} --waters {params.waters:q} --output {output.table:q} 2>&1 | tee {log:q}
        """
