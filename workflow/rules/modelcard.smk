"""The model card: what the model is, was trained on, and whether it copies."""


rule modelcard:
    """README.md beside the weights."""
    input:
        config="<results>/model/config.json",
        verdicts=(
            "<results>/tables/memorisation_verdicts.json" if COMPARED_KINDS else []
        ),
    output:
        "<results>/model/README.md",
    log:
        "<results>/logs/modelcard.log",
    conda:
        environment("train")
    resources:
        **needs("table"),
    params:
        verdicts=lambda wildcards, input: flags({"verdicts": input.verdicts or None}),
        code=code("modelcard"),
    shell:
        r"""
        python -m mrs_synthesis.modelcard --config {input.config:q} {params.verdicts:q} --output {output:q} \
            2>&1 | tee {log:q}
        """
