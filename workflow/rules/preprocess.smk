"""Coil combination, alignment, rejection, eddy currents, residual water, referencing; transients kept."""


rule preprocess:
    """One unit with a water reference."""
    input:
        scan="<raw>_svs.nii.gz",
        water="<raw>_mrsref.nii.gz",
    output:
        scan="<unit>_desc-preproc_svs.nii.gz",
        sidecar="<unit>_desc-preproc_svs.json",
        water="<unit>_desc-preproc_mrsref.nii.gz",
        qc="<unit>_desc-preproc_qc.tsv",
        qc_sidecar="<unit>_desc-preproc_qc.json",
        nuisance="<unit>_desc-preproc_nuisance.npz",
        status="<results>/status/preprocess/{folder}/{unit}.json",
    log:
        "<results>/logs/preprocess/{folder}/{unit}.log",
    benchmark:
        "<results>/benchmarks/preprocess/{folder}/{unit}.tsv"
    wildcard_constraints:
        unit=one_of(WITH_WATER),
    conda:
        environment("preprocess", config["preprocess"]["engine"])
    params:
        flags=preprocess_flags,
        code=code("preprocess"),
    shell:
        r"""
        python -m mrs_synthesis.preprocess --unit {wildcards.unit} --scan {input.scan:q} {params.flags:q} \
            --output {output.scan:q} --qc {output.qc:q} --nuisance {output.nuisance:q} \
            --status {output.status:q} 2>&1 | tee {log:q}
        """


ruleorder: preprocess > preprocess_without_water


use rule preprocess as preprocess_without_water with:
    input:
        scan="<raw>_svs.nii.gz",
    output:
        scan="<unit>_desc-preproc_svs.nii.gz",
        sidecar="<unit>_desc-preproc_svs.json",
        qc="<unit>_desc-preproc_qc.tsv",
        qc_sidecar="<unit>_desc-preproc_qc.json",
        nuisance="<unit>_desc-preproc_nuisance.npz",
        status="<results>/status/preprocess/{folder}/{unit}.json",
    wildcard_constraints:
        unit=one_of(WITHOUT_WATER),


rule preprocessing_table:
    """Every transient's shift, phase, noise and fate."""
    input:
        qc=of_units("<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_qc.tsv"),
        units="<results>/units.tsv",
    output:
        table=reported("preprocessing", "Transients"),
        dictionary="<results>/tables/preprocessing.json",
    log:
        "<results>/logs/preprocessing_table.log",
    conda:
        environment("evaluate")
    params:
        code=code("collect"),
    shell:
        r"""
        python -m mrs_synthesis.collect preprocessing --units {input.units:q} --inputs {input.qc:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """
