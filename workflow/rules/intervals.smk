"""An interval for every ratio of the test subjects that can be believed; asked for by name: `intervals`."""

# Only the model of subjects has a posterior to draw from, and only filled cells say from which transients.
WITH_POSTERIOR = (
    config["train"]["model"] == "subject"
    and config["augment"]["design"] == "augmentation"
)
# Subjects of known truth that no test looks at
CALIBRATED = PHANTOM and WITH_POSTERIOR and SPLIT["split_unit"] == "subject"


rule posterior_draws:
    """Noise-free spectra from the posterior of test subjects given n_real transients."""
    input:
        plans="<results>/records/augment/{shard}.json",
        model="<results>/model/model.safetensors",
        config="<results>/model/config.json",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        "<results>/records/posterior/{shard}.json",
    log:
        "<results>/logs/posterior/{shard}.log",
    benchmark:
        "<results>/benchmarks/posterior/{shard}.tsv"
    conda:
        environment("synthesise")
    resources:
        **needs("synthesise"),
    params:
        shard=sharded(
            "interval_cells",
            about=of_site,
            reads=[
                f"{DERIVED}_desc-preproc_svs.nii.gz",
                f"{DERIVED}_desc-cells_svs.json",
            ],
            writes=cell_files(DERIVED, "posterior"),
        ),
        shared=shared("model", "config", "index", "grid"),
        prefix=DERIVED,
        model=folder("model"),
        training=folder("index"),
        seed=config["seed"],
        flags=flags(config["intervals"]),
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} --shared {params.shared:q} \
            -- interval_cells draws %own \
            --scan {params.prefix:q}_desc-preproc_svs.nii.gz --plan {params.prefix:q}_desc-cells_svs.json \
            --model {params.model:q} --training {params.training:q} --seed {params.seed} {params.flags:q} \
            --output {params.prefix:q}_desc-posterior_svs.nii.gz --index {params.prefix:q}_desc-posterior_index.tsv \
            2>&1 | tee {log:q}
        """


rule subject_mean:
    """The mean of all transients of a scan."""
    input:
        "<results>/records/preprocess/{shard}.json",
    output:
        "<results>/records/mean/{shard}.json",
    log:
        "<results>/logs/mean/{shard}.log",
    benchmark:
        "<results>/benchmarks/mean/{shard}.tsv"
    conda:
        environment("augment")
    resources:
        **needs("synthesise"),
    params:
        shard=sharded(
            "interval_cells",
            reads=[f"{DERIVED}_desc-preproc_svs.nii.gz"],
            writes=cell_files(DERIVED, "mean"),
        ),
        prefix=DERIVED,
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} \
            -- interval_cells mean \
            --scan {params.prefix:q}_desc-preproc_svs.nii.gz --output {params.prefix:q}_desc-mean_svs.nii.gz \
            --index {params.prefix:q}_desc-mean_index.tsv 2>&1 | tee {log:q}
        """


use rule quantify as quantify_posterior with:
    input:
        cells="<results>/records/posterior/{shard}.json",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
    output:
        "<results>/records/quantify_posterior/{shard}.json",
    log:
        "<results>/logs/quantify_posterior/{shard}.log",
    benchmark:
        "<results>/benchmarks/quantify_posterior/{shard}.tsv"
    params:
        shard=quantify_shard(
            DERIVED,
            cells="posterior",
            about=fitted_ratios,
            fit="posterior",
            temporary=True,
        ),
        cells=f"{DERIVED}_desc-posterior",
        fit=f"{DERIVED}_desc-posterior",


use rule quantify_posterior as quantify_mean with:
    input:
        cells="<results>/records/mean/{shard}.json",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
    output:
        "<results>/records/quantify_mean/{shard}.json",
    log:
        "<results>/logs/quantify_mean/{shard}.log",
    benchmark:
        "<results>/benchmarks/quantify_mean/{shard}.tsv"
    params:
        shard=quantify_shard(
            DERIVED, cells="mean", about=fitted_ratios, fit="mean", temporary=True
        ),
        cells=f"{DERIVED}_desc-mean",
        fit=f"{DERIVED}_desc-mean",


rule intervals:
    """Intervals of the ratios, how often they hold the truth, and the fit's own error."""
    input:
        concentrations="<results>/tables/concentrations.tsv",
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        model="<results>/model/config.json",
        truth="<results>/tables/truth.tsv" if PHANTOM else [],
        draws=recorded("quantify_posterior", TEST_SHARDS) if WITH_POSTERIOR else [],
        means=recorded("quantify_mean", SEEN_SHARDS) if CALIBRATED else [],
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
    resources:
        **needs("table"),
    params:
        model=folder("model"),
        training=folder("index"),
        derivatives=DERIVATIVES,
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
