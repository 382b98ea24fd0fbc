"""An interval for every ratio of the test subjects that can be believed; asked for by name: `intervals`."""

# Only the model of subjects has a posterior to draw from, and only filled cells say from which transients.
WITH_POSTERIOR = (
    config["train"]["model"] == "subject"
    and config["augment"]["design"] == "augmentation"
)
# Subjects of known truth that no test looks at
CALIBRATION_UNITS = [
    unit
    for unit, row in UNITS.items()
    if PHANTOM and WITH_POSTERIOR and row["split"] in ("train", "validation")
]


rule posterior_draws:
    """Noise-free spectra from the posterior of one test subject given n_real transients."""
    input:
        scan="<unit>_desc-preproc_svs.nii.gz",
        plan="<unit>_desc-cells_svs.json",
        model="<results>/model/model.safetensors",
        config="<results>/model/config.json",
        index="<results>/training/index.tsv",
    output:
        cells="<unit>_desc-posterior_svs.nii.gz",
        sidecar="<unit>_desc-posterior_svs.json",
        index="<unit>_desc-posterior_index.tsv",
        status="<results>/status/posterior_draws/{folder}/{unit}.json",
    log:
        "<results>/logs/posterior_draws/{folder}/{unit}.log",
    benchmark:
        "<results>/benchmarks/posterior_draws/{folder}/{unit}.tsv"
    conda:
        environment("synthesise")
    params:
        model=folder("model"),
        training=folder("index"),
        site=lambda wildcards: UNITS[wildcards.unit]["site"],
        seed=config["seed"],
        flags=flags(config["intervals"]),
        code=code("interval_cells"),
    shell:
        r"""
        python -m mrs_synthesis.interval_cells draws --unit {wildcards.unit} --scan {input.scan:q} \
            --site {params.site:q} --plan {input.plan:q} --model {params.model:q} --training {params.training:q} \
            --seed {params.seed} {params.flags:q} --output {output.cells:q} --index {output.index:q} \
            --status {output.status:q} 2>&1 | tee {log:q}
        """


rule subject_mean:
    """The mean of all transients of one unit."""
    input:
        scan="<unit>_desc-preproc_svs.nii.gz",
    output:
        cells="<unit>_desc-mean_svs.nii.gz",
        sidecar="<unit>_desc-mean_svs.json",
        index="<unit>_desc-mean_index.tsv",
        status="<results>/status/subject_mean/{folder}/{unit}.json",
    log:
        "<results>/logs/subject_mean/{folder}/{unit}.log",
    conda:
        environment("augment")
    params:
        code=code("interval_cells"),
    shell:
        r"""
        python -m mrs_synthesis.interval_cells mean --unit {wildcards.unit} --scan {input.scan:q} \
            --output {output.cells:q} --index {output.index:q} --status {output.status:q} 2>&1 | tee {log:q}
        """


use rule quantify as quantify_posterior with:
    input:
        cells="<unit>_desc-{what}_svs.nii.gz",
        index="<unit>_desc-{what}_index.tsv",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
        water=[],  # ratios need none
    output:
        table="<unit>_desc-{what}_mrsfit.tsv",
        curves=temp("<unit>_desc-{what}_fit.npz"),
        status="<results>/status/quantify_{what}/{folder}/{unit}.json",
    log:
        "<results>/logs/quantify_{what}/{folder}/{unit}.log",
    benchmark:
        "<results>/benchmarks/quantify_{what}/{folder}/{unit}.tsv"
    wildcard_constraints:
        what="posterior|mean",


rule intervals:
    """Intervals of the ratios, how often they hold the truth, and the fit's own error."""
    input:
        concentrations="<results>/tables/concentrations.tsv",
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        model="<results>/model/config.json",
        truth="<results>/tables/truth.tsv" if PHANTOM else [],
        draws=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-posterior_mrsfit.tsv",
            TEST_UNITS if WITH_POSTERIOR else [],
        ),
        means=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-mean_mrsfit.tsv",
            CALIBRATION_UNITS,
        ),
    output:
        table="<results>/tables/intervals.tsv",
        coverage="<results>/tables/coverage.tsv",
        calibration="<results>/tables/interval_calibration.tsv",
        dictionaries=expand(
            "<results>/tables/{name}.json",
            name=["intervals", "coverage", "interval_calibration"],
        ),
    log:
        "<results>/logs/intervals.log",
    benchmark:
        "<results>/benchmarks/intervals.tsv"
    conda:
        environment("evaluate")
    params:
        model=folder("model"),
        training=folder("index"),
        derivatives=lambda wildcards, input: str(
            Path(input.units).with_name("derivatives")
        ),
        replicates=config["intervals"]["replicates"],
        ratios=config["evaluate"]["ratios"],
        truth=lambda wildcards, input: flags({"truth": input.truth or None}),
        code=code("intervals"),
    shell:
        r"""
        python -m mrs_synthesis.intervals --units {input.units:q} --training {params.training:q} \
            --model {params.model:q} --concentrations {input.concentrations:q} --derivatives {params.derivatives:q} \
            --replicates {params.replicates} --ratios {params.ratios:q} {params.truth:q} --output {output.table:q} \
            --coverage {output.coverage:q} --calibration {output.calibration:q} 2>&1 | tee {log:q}
        """
