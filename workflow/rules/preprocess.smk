"""Coil combination, alignment, rejection, eddy currents, residual water, referencing; transients kept."""

LIMITS = (
    {
        "largest_linewidth_ppm": config["checks"]["linewidth_ppm"],
        "least_snr": config["checks"]["snr"],
    }
    if config["checks"]["exclude"]
    else {}
)


rule preprocess:
    """A shard of scans."""
    input:
        "<results>/records/convert/{shard}.json",
    output:
        "<results>/records/preprocess/{shard}.json",
    log:
        "<results>/logs/preprocess/{shard}.log",
    benchmark:
        "<results>/benchmarks/preprocess/{shard}.tsv"
    conda:
        environment("preprocess", config["preprocess"]["engine"])
    resources:
        **needs("preprocess"),
    params:
        shard=sharded(
            "preprocess",
            about=preprocessed_scan,
            reads=[f"{RAW}_svs.nii.gz", f"{RAW}_mrsref.nii.gz"],
            writes=[
                f"{DERIVED}_desc-preproc_svs.nii.gz",
                f"{DERIVED}_desc-preproc_svs.json",
                f"{DERIVED}_desc-preproc_mrsref.nii.gz?",
                f"{DERIVED}_desc-preproc_mrsref.json?",
                f"{DERIVED}_desc-preproc_qc.tsv",
                f"{DERIVED}_desc-preproc_qc.json",
                f"{DERIVED}_desc-preproc_nuisance.npz",
            ],
        ),
        scan=f"{RAW}_svs.nii.gz",
        prefix=f"{DERIVED}_desc-preproc",
        flags=flags(config["preprocess"] | LIMITS),
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} \
            -- preprocess %own --scan {params.scan:q} {params.flags:q} \
            --output {params.prefix:q}_svs.nii.gz --qc {params.prefix:q}_qc.tsv \
            --nuisance {params.prefix:q}_nuisance.npz 2>&1 | tee {log:q}
        """


rule preprocessing_table:
    """Every transient's shift, phase, noise and fate."""
    input:
        records=recorded("preprocess"),
        units="<results>/units.tsv",
    output:
        table=reported("preprocessing", "Transients"),
        dictionary="<results>/tables/preprocessing.json",
    log:
        "<results>/logs/preprocessing_table.log",
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        study=lambda wildcards: RESULTS,
        records=named,
        code=code("collect"),
    shell:
        r"""
        python -m mrs_synthesis.collect preprocessing --units {input.units:q} --records {params.records:q} \
            --study {params.study:q} --output {output.table:q} 2>&1 | tee {log:q}
        """
