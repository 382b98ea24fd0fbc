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
    resources:
        **needs("table"),
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
        density=f"{POINT}/model/density.safetensors",
        losses=f"{POINT}/model/losses.csv",
        figure=f"{POINT}/model/losses.svg",
    log:
        "<results>/logs/grid/train/{variant}.log",
    benchmark:
        "<results>/benchmarks/grid/train/{variant}.tsv"
    wildcard_constraints:
        variant=one_of(with_model("paper")),
    threads: config["train"]["threads"]
    resources:
        **training_needs("paper"),
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
    resources:
        **training_needs("subject"),


use rule nuisance as grid_nuisance with:
    input:
        scans=recorded("preprocess", SEEN_SHARDS),
        units="<results>/training/units.tsv",
        index="<results>/grid/training/{part}/index.tsv",
        grid="<results>/grid/training/{part}/grid.json",
    output:
        model="<results>/grid/training/{part}/nuisance.safetensors",
        summary="<results>/grid/training/{part}/nuisance.json",
    log:
        "<results>/logs/grid/nuisance/{part}.log",
    benchmark:
        "<results>/benchmarks/grid/nuisance/{part}.tsv"
    wildcard_constraints:
        part=one_of(PARTS),


rule grid_cells:
    """Study cells of a shard's scans; the synthetic transients that fill them are not kept."""
    input:
        scans="<results>/records/preprocess/{shard}.json",
        model=f"{POINT}/model/model.safetensors",
        config=f"{POINT}/model/config.json",
        density=branch(
            lambda wildcards: GRID[wildcards.variant].model == "paper",
            then=f"{POINT}/model/density.safetensors",
        ),
        nuisance=branch(NUISANCE, then=nuisance_of_part),
        index="<results>/training/index.tsv",
        grid="<results>/training/grid.json",
        part=of_part("index.tsv"),
        part_grid=of_part("grid.json"),
        part_spectra=of_part("spectra.npy"),
    output:
        f"{POINT}/records/cells/{{shard}}.json",
    log:
        "<results>/logs/grid/{variant}/cells/{shard}.log",
    benchmark:
        "<results>/benchmarks/grid/{variant}/cells/{shard}.tsv"
    wildcard_constraints:
        variant=one_of(OWN_VARIANTS),
    conda:
        environment("synthesise")
    resources:
        **needs("cells"),
    params:
        shard=sharded(
            "synthesise",
            "augment",
            about=scan_of_origin,
            units=tested_in_shard,
            reads=[f"{DERIVED}_desc-preproc_svs.nii.gz"],
            writes=cell_files(POINT_UNIT),
            temporary=with_sidecars(POINT_UNIT, [*SYNTHETIC, "_desc-recon_svs"]),
        ),
        shared=shared(
            "model",
            "config",
            "density",
            "nuisance",
            "index",
            "grid",
            "part",
            "part_grid",
        ),
        scan=f"{DERIVED}_desc-preproc_svs.nii.gz",
        prefix=point_prefix,
        model=folder("model"),
        training=folder("index"),
        part=folder("part"),
        seed=lambda wildcards: GRID[wildcards.variant].seed,
        plan_seed=config["seed"],
        synthesise=flags(config["synthesise"] | AMOUNTS | {"plan_seed": config["seed"]}),
        nuisance=lambda wildcards, input: flags({"nuisance": input.nuisance or None}),
        augment=POINT_AUGMENT,
    shell:
        r"""
        python -m mrs_synthesis.shard {params.shard:q} --record {output:q} --shared {params.shared:q} \
            -- synthesise %own --scan {params.scan:q} --model {params.model:q} --training {params.training:q} \
            --prefix {params.prefix:q} --seed {params.seed} {params.synthesise:q} {params.nuisance:q} \
            -- augment --scan {params.scan:q} --prefix {params.prefix:q} --training {params.part:q} \
            --seed {params.plan_seed} {params.augment:q} --output {params.prefix:q}_desc-cells_svs.nii.gz \
            --index {params.prefix:q}_desc-cells_index.tsv 2>&1 | tee {log:q}
        """


use rule quantify as grid_quantify with:
    input:
        cells=f"{POINT}/records/cells/{{shard}}.json",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
    output:
        f"{POINT}/records/quantify_{{engine}}/{{shard}}.json",
    log:
        "<results>/logs/grid/{variant}/quantify_{engine}/{shard}.log",
    benchmark:
        "<results>/benchmarks/grid/{variant}/quantify_{engine}/{shard}.tsv"
    wildcard_constraints:
        engine=ENGINE_LABEL,
        variant=one_of(OWN_VARIANTS),
    params:
        shard=quantify_shard(POINT_UNIT, units=tested_in_shard, temporary=True),
        cells=lambda wildcards: f"{point_prefix(wildcards)}_desc-cells",
        fit=lambda wildcards: f"{point_prefix(wildcards)}_desc-{wildcards.engine}",


rule grid_table:
    """Bias, slope and worth of every variant's fillings and controls, beside the study's real transients."""
    input:
        fits=of_points(FITS),
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
    resources:
        **needs("table"),
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
            --study {params.study:q} --engine {params.engine:q} --seed {params.seed} {params.truth:q} {params.flags:q} \
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
    resources:
        **needs("table"),
    params:
        code=code("grid_figure"),
    shell:
        "python -m mrs_synthesis.grid_figure --table {input:q} --output {output:q} 2>&1 | tee {log:q}"
