"""From the paper-like model to that of subjects, one element at a time; asked for by name: `ablation`.

The study's own rules, each with other settings; conversion, preprocessing, training set, nuisances and basis sets are
the study's. Files of a variant lie in `ablation/<variant>/<decoder>/`, models in `ablation/models/`.
"""


use rule train as ablation_train with:
    input:
        spectra="<results>/training/spectra.npy",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
        patterns=[],
    output:
        model=f"{MODEL}/model.safetensors",
        config=f"{MODEL}/config.json",
        density=f"{MODEL}/density.safetensors",
        losses=f"{MODEL}/losses.csv",
        figure=f"{MODEL}/losses.svg",
    log:
        "<results>/logs/ablation/train_{trained}.log",
    benchmark:
        "<results>/benchmarks/ablation/train_{trained}.tsv"
    wildcard_constraints:
        trained=one_of([name for name in TRAINED if TRAINED[name].model == "paper"]),
    threads: config["train"]["threads"]
    resources:
        **training_needs("paper"),
    params:
        flags=lambda wildcards: flags(
            config["train"]
            | {
                key: getattr(TRAINED[wildcards.trained], key)
                for key in ("model", "likelihood")
            },
            leave_out=["processes", "patterns"],
        ),
        start="",


# No density: this model is one
use rule ablation_train as ablation_train_subject with:
    input:
        spectra="<results>/training/spectra.npy",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
        patterns=branch(
            lambda wildcards: TRAINED[wildcards.trained].patterns,
            then=expand("<results>/basis/{set}", set=BASIS_SETS),
        ),
    output:
        model=f"{MODEL}/model.safetensors",
        config=f"{MODEL}/config.json",
        losses=f"{MODEL}/losses.csv",
        figure=f"{MODEL}/losses.svg",
    wildcard_constraints:
        trained=one_of([name for name in TRAINED if TRAINED[name].model != "paper"]),
    resources:
        **training_needs("subject"),


use rule synthesise as ablation_synthesise with:
    input:
        scans="<results>/records/preprocess/{shard}.json",
        model=of_model("model.safetensors"),
        config=of_model("config.json"),
        density=branch(
            lambda wildcards: VARIANTS[wildcards.variant].model == "paper",
            then=of_model("density.safetensors"),
        ),
        nuisance=branch(
            lambda wildcards: VARIANTS[wildcards.variant].decoder == "acquired",
            then="<results>/model/nuisance.safetensors",
        ),
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        f"<results>/{VARIANT}/records/synthesise/{{shard}}.json",
    log:
        f"<results>/logs/{VARIANT}/synthesise/{{shard}}.log",
    benchmark:
        f"<results>/benchmarks/{VARIANT}/synthesise/{{shard}}.tsv"
    wildcard_constraints:
        variant=one_of(VARIANTS),
        decoder="Mean|Sampled|Acquired",
    params:
        shard=sharded(
            "synthesise",
            about=scan_of_origin,
            reads=[f"{DERIVED}_desc-preproc_svs.nii.gz"],
            writes=with_sidecars(
                VARIANT_UNIT, [*VARIANT_SYNTHETIC, "_desc-recon_svs"]
            ),
        ),
        shared=shared("model", "config", "density", "nuisance", "index", "grid"),
        prefix=variant_prefix,
        flags=variant_synthesise_flags,


use rule augment as ablation_augment with:
    input:
        synthetic=f"<results>/{VARIANT}/records/synthesise/{{shard}}.json",
        index="<results>/training/index.tsv",
        spectra="<results>/training/spectra.npy",
        grid="<results>/training/grid.json",
    output:
        f"<results>/{VARIANT}/records/augment/{{shard}}.json",
    log:
        f"<results>/logs/{VARIANT}/augment/{{shard}}.log",
    benchmark:
        f"<results>/benchmarks/{VARIANT}/augment/{{shard}}.tsv"
    wildcard_constraints:
        variant=one_of(VARIANTS),
        decoder="Mean|Sampled|Acquired",
    params:
        shard=sharded(
            "augment",
            reads=[
                f"{DERIVED}_desc-preproc_svs.nii.gz",
                *with_sidecars(VARIANT_UNIT, [*VARIANT_SYNTHETIC, "_desc-recon_svs"]),
            ],
            writes=cell_files(VARIANT_UNIT),
        ),
        shared=shared("index", "grid"),
        prefix=variant_prefix,
        flags=variant_augment_flags,


use rule quantify as ablation_quantify with:
    input:
        cells=f"<results>/{VARIANT}/records/augment/{{shard}}.json",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
    output:
        f"<results>/{VARIANT}/records/quantify_{{engine}}/{{shard}}.json",
    log:
        f"<results>/logs/{VARIANT}/quantify_{{engine}}/{{shard}}.log",
    benchmark:
        f"<results>/benchmarks/{VARIANT}/quantify_{{engine}}/{{shard}}.tsv"
    wildcard_constraints:
        engine=ENGINE_LABEL,
        variant=one_of(VARIANTS),
        decoder="Mean|Sampled|Acquired",
    params:
        shard=quantify_shard(VARIANT_UNIT),
        cells=lambda wildcards: f"{variant_prefix(wildcards)}_desc-cells",
        fit=lambda wildcards: f"{variant_prefix(wildcards)}_desc-{wildcards.engine}",


rule ablation:
    """Noise, water, fidelity and bias of every variant, beside the study's real transients and controls."""
    input:
        fits=of_variants(FITS),
        scans=recorded("preprocess"),
        benchmarks=expand(
            "<results>/benchmarks/ablation/train_{trained}.tsv", trained=TRAINED
        ),
        concentrations="<results>/tables/concentrations.tsv",
        truth="<results>/tables/truth.tsv" if PHANTOM else [],
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        heldout="<heldout>/index.tsv",
        grid="<results>/training/grid.json",
    output:
        table="<results>/tables/ablation.tsv",
        dictionary="<results>/tables/ablation.json",
        bias="<results>/tables/ablation_bias.tsv",
        bias_dictionary="<results>/tables/ablation_bias.json",
    log:
        "<results>/logs/ablation.log",
    benchmark:
        "<results>/benchmarks/ablation.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        derivatives=DERIVATIVES,
        folder=lambda wildcards: f"{RESULTS}/ablation",
        benchmarks=lambda wildcards, input: os.path.dirname(input.benchmarks[0]),
        training=folder("index"),
        heldout=folder("heldout"),
        engine=ENGINE,
        replicates=FEWEST["replicates"],
        seed=config["seed"],
        truth=lambda wildcards, input: ["--truth", input.truth] if input.truth else [],
        flags=flags(config["evaluate"]),
        code=code("ablation"),
    shell:
        r"""
        python -m mrs_synthesis.ablation --units {input.units:q} --training {params.training:q} \
            --heldout {params.heldout:q} --derivatives {params.derivatives:q} \
            --concentrations {input.concentrations:q} --folder {params.folder:q} \
            --engine {params.engine:q} --replicates {params.replicates} --seed {params.seed} {params.truth:q} \
            {params.flags:q} --benchmarks {params.benchmarks:q} --output {output.table:q} --bias {output.bias:q} \
            2>&1 | tee {log:q}
        """
