"""Both engines on the same spectra, and fits against the truth; asked for by name: `engine_agreement`, `fit_truth`.

With `engine_agreement: published` the spectra are a folder's of published FSL-MRS fits, else the study's own cells.
"""


use rule quantify as quantify_other_engine with:
    wildcard_constraints:
        engine=OTHER_LABEL,
    conda:
        environment("quantify", ENGINES[OTHER_LABEL])
    threads: 8 if OTHER_LABEL == "fslmrs" else 1
    resources:
        **fitting_needs(ENGINES[OTHER_LABEL]),
    params:
        flags=flags(config["quantify"] | {"engine": ENGINES[OTHER_LABEL]}),


rule read_published_fits:
    """One case of published FSL-MRS fits, as this project's files."""
    input:
        folder=PUBLISHED or [],
    output:
        cells="<results>/engine_agreement/{case}/{case}_desc-cells_svs.nii.gz",
        truth="<results>/engine_agreement/{case}/{case}_truth.tsv",
        fits="<results>/engine_agreement/{case}/{case}_desc-fslmrs_mrsfit.tsv",
        curves="<results>/engine_agreement/{case}/{case}_desc-fslmrs_fit.npz",
    log:
        "<results>/logs/engine_agreement/read_{case}.log",
    wildcard_constraints:
        case=one_of(CASES),
    conda:
        environment("quantify")
    resources:
        **needs("table"),
    params:
        code=code("published_fits"),
    shell:
        r"""
        python -m mrs_synthesis.published_fits read --folder {input.folder:q} --case {wildcards.case:q} \
            --cells {output.cells:q} --truth {output.truth:q} --output {output.fits:q} 2>&1 | tee {log:q}
        """


rule simulate_published:
    """New noise on the published spectra's truth."""
    input:
        folder=PUBLISHED or [],
    output:
        cells="<results>/engine_agreement/{case}_simulated/{case}_simulated_desc-cells_svs.nii.gz",
        truth="<results>/engine_agreement/{case}_simulated/{case}_simulated_truth.tsv",
    log:
        "<results>/logs/engine_agreement/simulate_{case}.log",
    wildcard_constraints:
        case=one_of(SIMULATED),
    conda:
        environment("quantify")
    resources:
        **needs("table"),
    params:
        seed=config["seed"],
        flags=flags(
            AGREEMENT, leave_out=["published", "fsl_mrs_spectra", "phantom_engines"]
        ),
        code=code("published_fits"),
    shell:
        r"""
        python -m mrs_synthesis.published_fits simulate --folder {input.folder:q} --case {wildcards.case:q} \
            --cells {output.cells:q} --truth {output.truth:q} --seed {params.seed} {params.flags:q} 2>&1 | tee {log:q}
        """


rule fit_published:
    """Published or simulated spectra with the published fits' options, by the batched engine."""
    input:
        folder=PUBLISHED or [],
        cells="<results>/engine_agreement/{case}{new}/{case}{new}_desc-cells_svs.nii.gz",
        truth="<results>/engine_agreement/{case}{new}/{case}{new}_truth.tsv",
    output:
        fits="<results>/engine_agreement/{case}{new}/{case}{new}_desc-batched_mrsfit.tsv",
        curves="<results>/engine_agreement/{case}{new}/{case}{new}_desc-batched_fit.npz",
    log:
        "<results>/logs/engine_agreement/fit_{case}{new}_batched.log",
    benchmark:
        "<results>/benchmarks/engine_agreement/{case}{new}_batched.tsv"
    wildcard_constraints:
        case=one_of(CASES),
        new="(_simulated)?",
    conda:
        environment("quantify")
    resources:
        **fitting_needs("batched"),
    params:
        engine="batched",
        most=[],
        code=code("published_fits"),
    shell:
        r"""
        python -m mrs_synthesis.published_fits fit --folder {input.folder:q} --case {wildcards.case:q} \
            --cells {input.cells:q} --truth {input.truth:q} --engine {params.engine:q} {params.most:q} \
            --processes {threads} --output {output.fits:q} 2>&1 | tee {log:q}
        """


use rule fit_published as fit_published_fslmrs with:
    output:
        fits="<results>/engine_agreement/{case}{new}/{case}{new}_desc-fslmrs_mrsfit.tsv",
        curves="<results>/engine_agreement/{case}{new}/{case}{new}_desc-fslmrs_fit.npz",
    log:
        "<results>/logs/engine_agreement/fit_{case}{new}_fslmrs.log",
    benchmark:
        "<results>/benchmarks/engine_agreement/{case}{new}_fslmrs.tsv"
    wildcard_constraints:
        case=one_of(SIMULATED),
        new="_simulated",
    conda:
        environment("quantify", "fsl-mrs")
    threads: 8
    resources:
        **fitting_needs("fsl-mrs"),
    params:
        engine="fsl-mrs",
        most=["--most", str(AGREEMENT["fsl_mrs_spectra"])],


rule engine_agreement:
    """How far the engine `batched` agrees with FSL-MRS, the reference, on the same spectra."""
    input:
        ours=case_fits(CASES, "batched") if PUBLISHED else study_records("batched"),
        reference=case_fits(CASES, "fslmrs") if PUBLISHED else study_records("fslmrs"),
    output:
        table="<results>/tables/engine_agreement.tsv",
        dictionary="<results>/tables/engine_agreement.json",
        objectives="<results>/tables/engine_objectives.tsv",
        objectives_dictionary="<results>/tables/engine_objectives.json",
    log:
        "<results>/logs/engine_agreement.log",
    benchmark:
        "<results>/benchmarks/engine_agreement.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        sets=CASES or [STUDY],
        ours=case_fits(CASES, "batched") if PUBLISHED else study_fits("batched"),
        reference=case_fits(CASES, "fslmrs") if PUBLISHED else study_fits("fslmrs"),
        code=code("engine_agreement"),
    shell:
        r"""
        python -m mrs_synthesis.engine_agreement --sets {params.sets:q} --ours {params.ours:q} \
            --reference {params.reference:q} --output {output.table:q} --objectives {output.objectives:q} 2>&1 | tee {log:q}
        """


rule fit_truth:
    """Bias, and coverage of the interval by the Cramer-Rao bound, against the truth."""
    input:
        fits=truth_fits(),
        truths=truths,
        units=[] if PUBLISHED else "<results>/units.tsv",
    output:
        table=reported("fit_truth", "Fits"),
        dictionary="<results>/tables/fit_truth.json",
    log:
        "<results>/logs/fit_truth.log",
    benchmark:
        "<results>/benchmarks/fit_truth.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        words=truth_flags,
        code=code("fit_truth"),
    shell:
        "python -m mrs_synthesis.fit_truth {params.words:q} --output {output.table:q} 2>&1 | tee {log:q}"
