"""How long the study took, after all but the page and the provenance."""


rule run_times:
    """Wall and CPU time, start-up and memory of each stage."""
    input:
        [file for file in rules.write_report.input if "run_times.tsv" not in file],
    output:
        table=reported("run_times", "Run times"),
        dictionary="<results>/tables/run_times.json",
    log:
        "<results>/logs/run_times.log",
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        results=lambda wildcards: RESULTS,
        records=named,
        code=code("run_times"),
    shell:
        r"""
        python -m mrs_synthesis.run_times --results {params.results:q} --records {params.records:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """
