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
        density=f"{MODEL}/density.npz",
        losses=f"{MODEL}/losses.csv",
        figure=f"{MODEL}/losses.svg",
    log:
        "<results>/logs/ablation/train_{trained}.log",
    benchmark:
        "<results>/benchmarks/ablation/train_{trained}.tsv"
    wildcard_constraints:
        trained=one_of([name for name in TRAINED if TRAINED[name].model == "paper"]),
    threads: config["train"]["threads"]
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


use rule synthesise as ablation_synthesise with:
    input:
        scan="<unit>_desc-preproc_svs.nii.gz",
        model=of_model("model.safetensors"),
        config=of_model("config.json"),
        density=branch(
            lambda wildcards: VARIANTS[wildcards.variant].model == "paper",
            then=of_model("density.npz"),
        ),
        nuisance=branch(
            lambda wildcards: VARIANTS[wildcards.variant].decoder == "acquired",
            then="<results>/model/nuisance.npz",
        ),
        index="<results>/training/index.tsv",
        spectra="<results>/training/spectra.npy",
    output:
        synthetic=expand(
            f"{VARIANT_UNIT}_desc-synth{{mode}}{{decoder}}_svs.nii.gz",
            mode=[mode.capitalize() for mode in steps.MODES],
            allow_missing=True,
        ),
        reconstruction=f"{VARIANT_UNIT}_desc-recon_svs.nii.gz",
        status=f"{VARIANT_STATUS}/synthesise/{{folder}}/{{unit}}.json",
    log:
        f"<results>/logs/synthesise/{VARIANT_JOB}.log",
    benchmark:
        f"<results>/benchmarks/synthesise/{VARIANT_JOB}.tsv"
    wildcard_constraints:
        variant=one_of(VARIANTS),
        decoder="Mean|Sampled|Acquired",
    params:
        prefix=variant_prefix,
        flags=variant_synthesise_flags,


use rule augment as ablation_augment with:
    input:
        scan="<unit>_desc-preproc_svs.nii.gz",
        synthetic=rules.ablation_synthesise.output.synthetic,
        reconstruction=rules.ablation_synthesise.output.reconstruction,
        index="<results>/training/index.tsv",
        spectra="<results>/training/spectra.npy",
    output:
        cells=f"{VARIANT_UNIT}_desc-cells_svs.nii.gz",
        sidecar=f"{VARIANT_UNIT}_desc-cells_svs.json",
        index=f"{VARIANT_UNIT}_desc-cells_index.tsv",
        status=f"{VARIANT_STATUS}/augment/{{folder}}/{{unit}}.json",
    log:
        f"<results>/logs/augment/{VARIANT_JOB}.log",
    benchmark:
        f"<results>/benchmarks/augment/{VARIANT_JOB}.tsv"
    wildcard_constraints:
        variant=one_of(VARIANTS),
        decoder="Mean|Sampled|Acquired",
    params:
        prefix=variant_prefix,
        flags=variant_augment_flags,


use rule quantify as ablation_quantify with:
    input:
        cells=f"{VARIANT_UNIT}_desc-cells_svs.nii.gz",
        index=f"{VARIANT_UNIT}_desc-cells_index.tsv",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
        water=water_for_concentrations,
    output:
        table=f"{VARIANT_UNIT}_desc-{{engine}}_mrsfit.tsv",
        curves=f"{VARIANT_UNIT}_desc-{{engine}}_fit.npz",
        status=f"{VARIANT_STATUS}/quantify/{{folder}}/{{unit}}_{{engine}}.json",
    log:
        f"<results>/logs/quantify/{VARIANT_JOB}_{{engine}}.log",
    benchmark:
        f"<results>/benchmarks/quantify/{VARIANT_JOB}_{{engine}}.tsv"
    wildcard_constraints:
        engine=ENGINE_LABEL,
        variant=one_of(VARIANTS),
        decoder="Mean|Sampled|Acquired",


rule ablation:
    """Noise, water, fidelity and bias of every variant, beside the study's real transients and controls."""
    input:
        fits=of_variants(f"{VARIANT_UNIT}_desc-{ENGINE_LABEL}_mrsfit.tsv"),
        scans=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_svs.nii.gz"
        ),
        nuisance=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_nuisance.npz"
        ),
        sidecars=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_svs.json"
        ),
        synthetic=[
            of_variants(
                f"{VARIANT_UNIT}_desc-synth{mode.capitalize()}{{decoder}}_svs.nii.gz"
            )
            for mode in steps.MODES
        ],
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
    params:
        derivatives=lambda wildcards: f"{RESULTS}/derivatives",
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
            --engine {params.engine} --replicates {params.replicates} --seed {params.seed} {params.truth:q} \
            {params.flags:q} --benchmarks {params.benchmarks:q} --output {output.table:q} --bias {output.bias:q} \
            2>&1 | tee {log:q}
        """
