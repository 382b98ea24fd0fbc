"""The embedded digital phantom: subjects with known concentrations, written as the vendors' own raw files.

Only for a config with a `phantom` section; the sample sheet then names these files.
"""


rule phantom:
    """A shard of subjects and their water references: Siemens twix (VD) with coils, or Philips SDAT/SPAR."""
    input:
        basis=[f"<results>/basis/{name}" for name in PHANTOM.get("basis", {}).values()],
    output:
        "<results>/records/phantom/{shard}.json",
    log:
        "<results>/logs/phantom/{shard}.log",
    benchmark:
        "<results>/benchmarks/phantom/{shard}.tsv"
    conda:
        environment("phantom")
    resources:
        **needs("phantom"),
    params:
        shard=sharded(
            "phantom",
            about=phantom_scan,
        ),
        shared=shared("basis"),
        seed=config["seed"],
        flags=flags(PHANTOM, leave_out=["basis"]),
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} --shared {params.shared:q} \
            -- phantom %own --seed {params.seed} {params.flags:q} \
            2>&1 | tee {log:q}
        """


rule truth:
    """The phantom's true concentrations, all subjects in one table."""
    input:
        recorded("phantom"),
    output:
        reported("truth", "Parameters"),
    log:
        "<results>/logs/truth.log",
    conda:
        environment("phantom")
    resources:
        **needs("table"),
    params:
        study=lambda wildcards: RESULTS,
        records=named,
        code=code("collect"),
    shell:
        r"""
        python -m mrs_synthesis.collect truth --records {params.records:q} --study {params.study:q} --output {output:q} \
            2>&1 | tee {log:q}
        """
