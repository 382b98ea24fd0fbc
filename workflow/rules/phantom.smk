"""The embedded digital phantom: subjects with known concentrations, written as the vendors' own raw files.

Only for a config with a `phantom` section; the sample sheet then names these files.
"""

PHANTOM = config.get("phantom", {})


rule phantom_siemens:
    """One subject as Siemens twix (VD), with coils, and its water reference."""
    input:
        basis=lambda wildcards: f"{RESULTS}/basis/{PHANTOM['basis']['siemens']}",
    output:
        metab="<results>/sourcedata/siemens/sub-{subject}_megapress.dat",
        water="<results>/sourcedata/siemens/sub-{subject}_water.dat",
        truth="<results>/sourcedata/siemens/sub-{subject}_truth.tsv",
        nuisance="<results>/sourcedata/siemens/sub-{subject}_nuisance.json",
    log:
        "<results>/logs/phantom/siemens_sub-{subject}.log",
    benchmark:
        "<results>/benchmarks/phantom/siemens_sub-{subject}.tsv"
    conda:
        environment("phantom")
    params:
        vendor="siemens",
        seed=config["seed"],
        flags=flags(PHANTOM, leave_out=["basis"]),
        tissue=lambda wildcards: phantom_tissue("siemens", wildcards),
        code=code("phantom"),
    shell:
        r"""
        python -m mrs_synthesis.phantom --subject {wildcards.subject} --vendor {params.vendor} --seed {params.seed} \
            --basis {input.basis:q} --metab {output.metab:q} --water {output.water:q} --truth {output.truth:q} \
            --nuisance-truth {output.nuisance:q} {params.tissue:q} {params.flags:q} 2>&1 | tee {log:q}
        """


use rule phantom_siemens as phantom_philips with:
    input:
        basis=lambda wildcards: f"{RESULTS}/basis/{PHANTOM['basis']['philips']}",
    output:
        metab="<results>/sourcedata/philips/sub-{subject}_act.SDAT",
        header="<results>/sourcedata/philips/sub-{subject}_act.SPAR",
        water="<results>/sourcedata/philips/sub-{subject}_ref.SDAT",
        water_header="<results>/sourcedata/philips/sub-{subject}_ref.SPAR",
        truth="<results>/sourcedata/philips/sub-{subject}_truth.tsv",
        nuisance="<results>/sourcedata/philips/sub-{subject}_nuisance.json",
    log:
        "<results>/logs/phantom/philips_sub-{subject}.log",
    benchmark:
        "<results>/benchmarks/phantom/philips_sub-{subject}.tsv"
    params:
        vendor="philips",
        seed=config["seed"],
        flags=flags(PHANTOM, leave_out=["basis"]),
        tissue=lambda wildcards: phantom_tissue("philips", wildcards),
        code=code("phantom"),


rule truth:
    """The phantom's true concentrations, all subjects in one table."""
    input:
        phantom_truths(),
    output:
        reported("truth", "Parameters"),
    log:
        "<results>/logs/truth.log",
    conda:
        environment("phantom")
    params:
        code=code("collect"),
    shell:
        "python -m mrs_synthesis.collect truth --inputs {input:q} --output {output:q} 2>&1 | tee {log:q}"
