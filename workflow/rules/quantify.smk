"""Linear-combination fits of every study cell."""


rule quantify:
    """All cells of one unit, each fitted condition."""
    input:
        cells="<unit>_desc-cells_svs.nii.gz",
        index="<unit>_desc-cells_index.tsv",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
        water=water_for_concentrations,
    output:
        table="<unit>_desc-{engine}_mrsfit.tsv",
        sidecar="<unit>_desc-{engine}_mrsfit.json",
        curves="<unit>_desc-{engine}_fit.npz",
        status="<results>/status/quantify/{folder}/{unit}_{engine}.json",
    log:
        "<results>/logs/quantify/{folder}/{unit}_{engine}.log",
    benchmark:
        "<results>/benchmarks/quantify/{folder}/{unit}_{engine}.tsv"
    wildcard_constraints:
        engine=ENGINE_LABEL,
    conda:
        environment("quantify", ENGINE)
    threads: 8 if ENGINE == "fsl-mrs" else 1
    params:
        conditions=fitted_conditions,
        flags=flags(config["quantify"]),
        water=water_flags,
        wanted=wanted_ratios,
        code=code("quantify"),
    shell:
        r"""
        python -m mrs_synthesis.quantify --unit {wildcards.unit} --cells {input.cells:q} --index {input.index:q} \
            --basis {input.basis:q} --conditions {params.conditions:q} --wanted {params.wanted:q} \
            {params.flags:q} {params.water:q} --processes {threads} --output {output.table:q} \
            --curves {output.curves:q} --status {output.status:q} 2>&1 | tee {log:q}
        """
