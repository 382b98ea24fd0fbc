"""Linear-combination fits of every study cell."""


rule quantify:
    """All cells of a shard's scans, each fitted condition."""
    input:
        cells="<results>/records/augment/{shard}.json",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
    output:
        "<results>/records/quantify_{engine}/{shard}.json",
    log:
        "<results>/logs/quantify_{engine}/{shard}.log",
    benchmark:
        "<results>/benchmarks/quantify_{engine}/{shard}.tsv"
    wildcard_constraints:
        engine=ENGINE_LABEL,
    conda:
        environment("quantify", ENGINE)
    threads: 8 if ENGINE == "fsl-mrs" else 1
    resources:
        **fitting_needs(),
    params:
        shard=quantify_shard(DERIVED),
        cells=f"{DERIVED}_desc-cells",
        fit=lambda wildcards: f"{DERIVED}_desc-{wildcards.engine}",
        flags=flags(config["quantify"]),
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} --shared {input.basis:q} --threads {threads} \
            -- quantify %own --cells {params.cells:q}_svs.nii.gz \
            --index {params.cells:q}_index.tsv --basis {input.basis:q} {params.flags:q} --processes %threads \
            --output {params.fit:q}_mrsfit.tsv --curves {params.fit:q}_fit.npz 2>&1 | tee {log:q}
        """
