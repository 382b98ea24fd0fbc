"""What makes rawdata/ and derivatives/ BIDS datasets."""

# Also those of targets beside the default one, whose files join the dataset later
DESC_LABELS = [
    *("preproc", "recon", "cells", "batched", "fslmrs", "mean", "posterior"),
    *(f"synth{kind}" for kind in SYNTHETIC_KINDS),
]


rule bids_raw:
    """Description, participants and read-me file of the converted scans."""
    input:
        sheet_files(),
        scans=recorded("convert"),
    output:
        description="<results>/rawdata/dataset_description.json",
        participants=multiext("<results>/rawdata/participants", ".tsv", ".json"),
        readme="<results>/rawdata/README.md",
        ignored="<results>/rawdata/.bidsignore",
    log:
        "<results>/logs/bids_raw.log",
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        study=STUDY,
        samples=samples,
        folder=folder("description"),
        simulated="--simulated" if PHANTOM else "",
        code=code("bids"),
    shell:
        r"""
        python -m mrs_synthesis.bids raw --study {params.study:q} --samples {params.samples:q} \
            --folder {params.folder:q} {params.simulated} 2>&1 | tee {log:q}
        """


rule bids_derivatives:
    """Description of what was made from the scans, and the meaning of the files' labels."""
    output:
        description="<results>/derivatives/dataset_description.json",
        labels="<results>/derivatives/descriptions.tsv",
        readme="<results>/derivatives/README.md",
        ignored="<results>/derivatives/.bidsignore",
    log:
        "<results>/logs/bids_derivatives.log",
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        study=STUDY,
        labels=DESC_LABELS,
        folder=folder("description"),
        simulated="--simulated" if PHANTOM else "",
        code=code("bids"),
    shell:
        r"""
        python -m mrs_synthesis.bids derivatives --study {params.study:q} --labels {params.labels:q} \
            --folder {params.folder:q} {params.simulated} 2>&1 | tee {log:q}
        """
