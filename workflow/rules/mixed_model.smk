"""Bias by vendor and site."""


rule mixed_model:
    """Variance components of sites and subjects, and differences between vendors."""
    input:
        concentrations="<results>/tables/concentrations.tsv",
        units="<results>/units.tsv",
    output:
        table=reported("mixed_model", "Bias and agreement"),
        dictionary="<results>/tables/mixed_model.json",
    log:
        "<results>/logs/mixed_model.log",
    benchmark:
        "<results>/benchmarks/mixed_model.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        ratios=config["evaluate"]["ratios"],
        code=code("mixed_model"),
    shell:
        r"""
        python -m mrs_synthesis.mixed_model --concentrations {input.concentrations:q} --units {input.units:q} \
            --ratios {params.ratios:q} --output {output.table:q} 2>&1 | tee {log:q}
        """
