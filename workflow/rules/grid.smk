"""Variants of the study over models, seeds, numbers of training subjects and left-out sites; in `all`, or `grid`.

The study's own rules on a part of its training set; conversion, preprocessing, cells and basis sets are the study's.
Parts lie in `grid/training/<part>/`, all else of a variant in `grid/<variant>/`.
"""


localrules:
    grid,


rule grid:
    """The table of the grid, and its figure."""
    input:
        "<results>/tables/grid.tsv",
        "<results>/figures/grid.svg",


rule grid_training:
    """Fewer subjects of the training set, or none of one site."""
    input:
        spectra="<results>/training/spectra.npy",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        spectra="<results>/grid/training/{part}/spectra.npy",
        index="<results>/grid/training/{part}/index.tsv",
        grid="<results>/grid/training/{part}/grid.json",
    log:
        "<results>/logs/grid/training/{part}.log",
    benchmark:
        "<results>/benchmarks/grid/training/{part}.tsv"
    wildcard_constraints:
        part=one_of(PARTS),
    conda:
        environment("assemble")
    params:
        training=folder("index"),
        output=lambda wildcards, output: os.path.dirname(output.index),
        seed=config["seed"],
        flags=part_flags,
        code=code("grid_training"),
    shell:
        r"""
        python -m mrs_synthesis.grid_training --training {params.training:q} --output {params.output:q} \
            --seed {params.seed} {params.flags:q} 2>&1 | tee {log:q}
        """


use rule train as grid_train with:
    input:
        spectra=of_part("spectra.npy"),
        index=of_part("index.tsv"),
        grid=of_part("grid.json"),
        patterns=[],
    output:
        model=f"{POINT}/model/model.safetensors",
        config=f"{POINT}/model/config.json",
        density=f"{POINT}/model/density.npz",
        losses=f"{POINT}/model/losses.csv",
        figure=f"{POINT}/model/losses.svg",
    log:
        "<results>/logs/grid/train/{variant}.log",
    benchmark:
        "<results>/benchmarks/grid/train/{variant}.tsv"
    wildcard_constraints:
        variant=one_of(with_model("paper")),
    threads: config["train"]["threads"]
    params:
        seed=lambda wildcards: GRID[wildcards.variant].seed,
        flags=point_train_flags,
        start="",


# No density: this model is one
use rule grid_train as grid_train_subject with:
    input:
        spectra=of_part("spectra.npy"),
        index=of_part("index.tsv"),
        grid=of_part("grid.json"),
        patterns=(
            expand("<results>/basis/{set}", set=BASIS_SETS)
            if config["train"]["patterns"]
            else []
        ),
    output:
        model=f"{POINT}/model/model.safetensors",
        config=f"{POINT}/model/config.json",
        losses=f"{POINT}/model/losses.csv",
        figure=f"{POINT}/model/losses.svg",
    wildcard_constraints:
        variant=one_of(with_model("subject")),


use rule nuisance as grid_nuisance with:
    input:
        nuisance=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_nuisance.npz",
            SEEN_UNITS,
        ),
        sidecars=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-preproc_svs.json",
            SEEN_UNITS,
        ),
        units="<results>/training/units.tsv",
        index="<results>/grid/training/{part}/index.tsv",
        grid="<results>/grid/training/{part}/grid.json",
    output:
        model="<results>/grid/training/{part}/nuisance.npz",
        summary="<results>/grid/training/{part}/nuisance.json",
    log:
        "<results>/logs/grid/nuisance/{part}.log",
    benchmark:
        "<results>/benchmarks/grid/nuisance/{part}.tsv"
    wildcard_constraints:
        part=one_of(PARTS),


use rule synthesise as grid_synthesise with:
    input:
        scan="<unit>_desc-preproc_svs.nii.gz",
        model=f"{POINT}/model/model.safetensors",
        config=f"{POINT}/model/config.json",
        density=branch(
            lambda wildcards: GRID[wildcards.variant].model == "paper",
            then=f"{POINT}/model/density.npz",
        ),
        nuisance=branch(NUISANCE, then=nuisance_of_part),
        index="<results>/training/index.tsv",
    output:
        synthetic=temp(
            expand(
                f"{POINT_UNIT}_desc-synth{{kind}}_svs.nii.gz",
                kind=SYNTHETIC_KINDS,
                allow_missing=True,
            )
        ),
        reconstruction=temp(f"{POINT_UNIT}_desc-recon_svs.nii.gz"),
        status=f"{POINT}/status/synthesise/{{folder}}/{{unit}}.json",
    log:
        f"<results>/logs/grid/synthesise/{POINT_JOB}.log",
    benchmark:
        f"<results>/benchmarks/grid/synthesise/{POINT_JOB}.tsv"
    wildcard_constraints:
        variant=one_of(OWN_VARIANTS),
    params:
        prefix=filled_in(POINT_UNIT),
        seed=lambda wildcards: GRID[wildcards.variant].seed,
        flags=flags(config["synthesise"] | AMOUNTS | {"plan_seed": config["seed"]}),


use rule augment as grid_augment with:
    input:
        scan="<unit>_desc-preproc_svs.nii.gz",
        synthetic=rules.grid_synthesise.output.synthetic,
        reconstruction=rules.grid_synthesise.output.reconstruction,
        index=of_part("index.tsv"),
        spectra=of_part("spectra.npy"),
        grid=of_part("grid.json"),
    output:
        cells=f"{POINT_UNIT}_desc-cells_svs.nii.gz",
        sidecar=f"{POINT_UNIT}_desc-cells_svs.json",
        index=f"{POINT_UNIT}_desc-cells_index.tsv",
        status=f"{POINT}/status/augment/{{folder}}/{{unit}}.json",
    log:
        f"<results>/logs/grid/augment/{POINT_JOB}.log",
    benchmark:
        f"<results>/benchmarks/grid/augment/{POINT_JOB}.tsv"
    wildcard_constraints:
        variant=one_of(OWN_VARIANTS),
    params:
        prefix=filled_in(POINT_UNIT),
        flags=POINT_AUGMENT,


use rule quantify as grid_quantify with:
    input:
        cells=f"{POINT_UNIT}_desc-cells_svs.nii.gz",
        index=f"{POINT_UNIT}_desc-cells_index.tsv",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
        water=water_for_concentrations,
    output:
        table=f"{POINT_UNIT}_desc-{{engine}}_mrsfit.tsv",
        sidecar=f"{POINT_UNIT}_desc-{{engine}}_mrsfit.json",
        curves=temp(f"{POINT_UNIT}_desc-{{engine}}_fit.npz"),
        status=f"{POINT}/status/quantify/{{folder}}/{{unit}}_{{engine}}.json",
    log:
        f"<results>/logs/grid/quantify/{POINT_JOB}_{{engine}}.log",
    benchmark:
        f"<results>/benchmarks/grid/quantify/{POINT_JOB}_{{engine}}.tsv"
    wildcard_constraints:
        engine=ENGINE_LABEL,
        variant=one_of(OWN_VARIANTS),


rule grid_table:
    """Bias, slope and worth of every variant's fillings and controls, beside the study's real transients."""
    input:
        fits=of_points(f"{POINT_UNIT}_desc-{ENGINE_LABEL}_mrsfit.tsv"),
        cells=of_points(f"{POINT_UNIT}_desc-cells_index.tsv"),
        parts=expand("<results>/grid/training/{part}/index.tsv", part=PARTS),
        concentrations="<results>/tables/concentrations.tsv",
        truth="<results>/tables/truth.tsv" if PHANTOM else [],
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
    output:
        table=reported("grid", "Training subjects"),
        dictionary="<results>/tables/grid.json",
    log:
        "<results>/logs/grid/table.log",
    benchmark:
        "<results>/benchmarks/grid/table.tsv"
    conda:
        environment("evaluate")
    params:
        training=folder("index"),
        folder=lambda wildcards: f"{RESULTS}/grid",
        variants=list(GRID),
        study=STUDY_VARIANT,
        engine=ENGINE,
        seed=config["seed"],
        truth=lambda wildcards, input: flags({"truth": input.truth or None}),
        flags=flags(config["evaluate"], leave_out=["tost_margin_percent"]),
        code=code("grid"),
    shell:
        r"""
        python -m mrs_synthesis.grid --units {input.units:q} --training {params.training:q} \
            --concentrations {input.concentrations:q} --folder {params.folder:q} --variants {params.variants:q} \
            --study {params.study} --engine {params.engine} --seed {params.seed} {params.truth:q} {params.flags:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """


rule grid_figure:
    """Error and slope against the number of training subjects."""
    input:
        "<results>/tables/grid.tsv",
    output:
        report(
            "<results>/figures/grid.svg",
            caption="../report/grid.rst",
            category="Training subjects",
        ),
    log:
        "<results>/logs/grid/figure.log",
    conda:
        environment("report")
    params:
        code=code("grid_figure"),
    shell:
        "python -m mrs_synthesis.grid_figure --table {input:q} --output {output:q} 2>&1 | tee {log:q}"
