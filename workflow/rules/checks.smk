"""Whether the numbers of each scan may be believed, known before they are reported."""


rule checks:
    """A row for every scan and check, failures at stages included."""
    input:
        records=all_records(),
        units="<results>/units.tsv",
    output:
        table=reported("checks", "Failures"),
        dictionary="<results>/tables/checks.json",
    log:
        "<results>/logs/checks.log",
    benchmark:
        "<results>/benchmarks/checks.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        records=named,
        flags=flags(config["checks"], leave_out=["exclude"]),
        code=code("checks"),
    shell:
        r"""
        python -m mrs_synthesis.checks --units {input.units:q} --records {params.records:q} \
            {params.flags:q} --output {output.table:q} 2>&1 | tee {log:q}
        """
