"""Vendor files to NIfTI-MRS with edit conditions ordered (OFF, ON)."""

if workflow.is_main_process and config["convert"]["keep_fields"]:
    print(
        f"WARNING: convert: keep_fields: {', '.join(config['convert']['keep_fields'])} stay in the headers of converted "
        "scans and may tell who was measured, or where",
        file=sys.stderr,
    )


rule units:
    """The units of the sample sheet, checked, with their split."""
    input:
        sheet_files(),
    output:
        "<results>/units.tsv",
    log:
        "<results>/logs/units.log",
    conda:
        environment("assemble")
    params:
        samples=samples,
        seed=config["seed"],
        flags=flags(SPLIT),
        seen=[],
        rows=digest(UNITS),  # a BIDS folder is no input
        code=code("sheet"),
    shell:
        r"""
        python -m mrs_synthesis.sheet --samples {params.samples:q} --seed {params.seed} {params.flags:q} \
            {params.seen:q} --output {output:q} 2>&1 | tee {log:q}
        """


# The sheet is no input: a new test subject changes it, but not the rows that this table has
use rule units as training_units with:
    input:
        [],
    output:
        "<results>/training/units.tsv",
    log:
        "<results>/logs/training_units.log",
    params:
        seen=["--seen"],
        rows=digest(SEEN_UNITS),


rule convert:
    """A shard of scans and their water references."""
    input:
        raw_files,
    output:
        "<results>/records/convert/{shard}.json",
    log:
        "<results>/logs/convert/{shard}.log",
    benchmark:
        "<results>/benchmarks/convert/{shard}.tsv"
    conda:
        environment("convert")
    resources:
        **needs("convert"),
    params:
        shard=sharded(
            "convert",
            about=converted_scan,
            writes=[
                f"{RAW}_svs.nii.gz",
                f"{RAW}_svs.json",
                f"{RAW}_mrsref.nii.gz?",
                f"{RAW}_mrsref.json?",
            ],
        ),
        scan=f"{RAW}_svs.nii.gz",
        flags=flags({key: value or None for key, value in config["convert"].items()}),
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} \
            -- convert %own --output {params.scan:q} {params.flags:q} 2>&1 | tee {log:q}
        """


rule conversion_table:
    """What was converted, and what could not be and why."""
    input:
        records=recorded("convert"),
        units="<results>/units.tsv",
    output:
        table=reported("conversion", "Transients"),
        dictionary="<results>/tables/conversion.json",
    log:
        "<results>/logs/conversion_table.log",
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        records=named,
        code=code("collect"),
    shell:
        r"""
        python -m mrs_synthesis.collect conversion --units {input.units:q} --records {params.records:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """
