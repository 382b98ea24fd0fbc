"""Vendor files to NIfTI-MRS with edit conditions ordered (OFF, ON)."""


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
    """One scan and its water reference."""
    input:
        unpack(vendor_files),
    output:
        scan="<raw>_svs.nii.gz",
        sidecar="<raw>_svs.json",
        water="<raw>_mrsref.nii.gz",
        water_sidecar="<raw>_mrsref.json",
        status="<results>/status/convert/{folder}/{unit}.json",
    log:
        "<results>/logs/convert/{folder}/{unit}.log",
    benchmark:
        "<results>/benchmarks/convert/{folder}/{unit}.tsv"
    wildcard_constraints:
        unit=one_of(WITH_WATER),
    conda:
        environment("convert")
    params:
        flags=convert_flags,
        code=code("convert"),
    shell:
        r"""
        python -m mrs_synthesis.convert --unit {wildcards.unit} {params.flags:q} \
            --output {output.scan:q} --status {output.status:q} 2>&1 | tee {log:q}
        """


ruleorder: convert > convert_without_water


use rule convert as convert_without_water with:
    output:
        scan="<raw>_svs.nii.gz",
        sidecar="<raw>_svs.json",
        status="<results>/status/convert/{folder}/{unit}.json",
    wildcard_constraints:
        unit=one_of(WITHOUT_WATER),


rule conversion_table:
    """What was converted, and what could not be and why."""
    input:
        statuses=of_units("<results>/status/convert/{folder}/{unit}.json"),
        units="<results>/units.tsv",
    output:
        table=reported("conversion", "Transients"),
        dictionary="<results>/tables/conversion.json",
    log:
        "<results>/logs/conversion_table.log",
    conda:
        environment("evaluate")
    params:
        code=code("collect"),
    shell:
        r"""
        python -m mrs_synthesis.collect conversion --units {input.units:q} --inputs {input.statuses:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """
