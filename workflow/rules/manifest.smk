"""SHA-256 of all results of a finished study, and the check against them (target `verify`)."""


rule manifest:
    """The list of all result files, after the last of them."""
    input:
        "<results>/provenance.json",
    output:
        "<results>/manifest.sha256",
    log:
        "<results>/logs/manifest.log",
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        results=lambda wildcards: RESULTS,
        code=code("manifest"),
    shell:
        "python -m mrs_synthesis.manifest make {params.results:q} 2>&1 | tee {log:q}"


rule verify:
    """Whether the results are as they were made. It has no input, so that nothing is made for it."""
    log:
        "<results>/logs/verify.log",
    conda:
        environment("evaluate")
    params:
        results=lambda wildcards: RESULTS,
    shell:
        "python -m mrs_synthesis.manifest verify {params.results:q} 2>&1 | tee {log:q}"
