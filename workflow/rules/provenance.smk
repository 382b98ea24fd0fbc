"""What made each result, and a finished study as an RO-Crate (target `crate`)."""

import importlib.metadata


rule provenance:
    """Inputs, config, versions and command of every result, as one JSON file."""
    input:
        "<results>/report.html",
        "<results>/rawdata/dataset_description.json",
        "<results>/derivatives/dataset_description.json",
        "<results>/figures/grid.svg" if "grid" in config else [],
    output:
        "<results>/provenance.json",
    log:
        "<results>/logs/provenance.log",
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        study=STUDY,
        results=lambda wildcards: RESULTS,
        snakemake=importlib.metadata.version("snakemake"),
        code=code("provenance"),
    shell:
        r"""
        python -m mrs_synthesis.provenance --study {params.study:q} --results {params.results:q} \
            --snakemake {params.snakemake:q} --output {output:q} 2>&1 | tee {log:q}
        """


rule crate:
    """The study as an RO-Crate: its results, described in place, beside a copy of the workflow."""
    input:
        "<results>/provenance.json",
    output:
        metadata="<results>/ro-crate-metadata.json",
        workflow=directory("<results>/workflow"),
    log:
        "<results>/logs/crate.log",
    conda:
        environment("report")
    resources:
        **needs("table"),
    params:
        licence=flags({"licence": config.get("licence")}),
        code=code("crate"),
    shell:
        r"""
        python -m mrs_synthesis.crate --provenance {input:q} {params.licence:q} --workflow {output.workflow:q} \
            --output {output.metadata:q} 2>&1 | tee {log:q}
        """
