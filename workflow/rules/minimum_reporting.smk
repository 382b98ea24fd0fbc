"""What a paper must state of its MR spectroscopy, as far as files and config know it."""


rule minimum_reporting:
    """The checklist MRSinMRS, site by site."""
    input:
        scans=recorded("convert"),
        units="<results>/units.tsv",
        conversion="<results>/tables/conversion.tsv",
        preprocessing="<results>/tables/preprocessing.tsv",
        concentrations="<results>/tables/concentrations.tsv",
        config="<results>/config.json",
    output:
        table=reported("minimum_reporting", "Parameters"),
        dictionary="<results>/tables/minimum_reporting.json",
    log:
        "<results>/logs/minimum_reporting.log",
    benchmark:
        "<results>/benchmarks/minimum_reporting.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        rawdata=lambda wildcards: f"{RESULTS}/rawdata",
        tables=folder("table"),
        code=code("minimum_reporting"),
    shell:
        r"""
        python -m mrs_synthesis.minimum_reporting --units {input.units:q} --rawdata {params.rawdata:q} \
            --tables {params.tables:q} --config {input.config:q} --output {output.table:q} 2>&1 | tee {log:q}
        """
