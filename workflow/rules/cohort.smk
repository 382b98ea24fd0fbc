"""Synthetic subjects of every site beside its real ones; asked for by name: `cohort`."""

COHORT_CONDITIONS = (
    ["OFF", "DIFF"]
    if any(row["edit_scheme"] == "mega" for row in UNITS.values())
    else ["UNEDITED"]
)


localrules:
    cohort,


rule cohort:
    """The table of real and synthetic subjects by site."""
    input:
        "<results>/tables/cohort.tsv",


rule draw_cohort:
    """Noise-free spectra of new subjects of one site."""
    input:
        scans=lambda wildcards: recorded(
            "preprocess",
            [
                name
                for name, units in SHARDS.items()
                if set(units) & set(headers_of(wildcards.site))
            ],
        ),
        model="<results>/model/model.safetensors",
        config="<results>/model/config.json",
        density=DENSITY,
        grid="<results>/training/grid.json",
    output:
        cells="<results>/cohort/{site}_desc-random_svs.nii.gz",
        sidecar="<results>/cohort/{site}_desc-random_svs.json",
        index="<results>/cohort/{site}_desc-random_index.tsv",
        status="<results>/status/draw_cohort/{site}.json",
    log:
        "<results>/logs/draw_cohort/{site}.log",
    benchmark:
        "<results>/benchmarks/draw_cohort/{site}.tsv"
    wildcard_constraints:
        site=one_of(SITES),
    conda:
        environment("synthesise")
    resources:
        **needs("table"),
    params:
        site=lambda wildcards: SITES[wildcards.site],
        scans=lambda wildcards: [
            f"{DERIVATIVES}/{UNITS[unit]['folder']}/mrs/{unit}_desc-preproc_svs.nii.gz"
            for unit in headers_of(wildcards.site)
        ],
        model=folder("model"),
        training=folder("grid"),
        prior=config["synthesise"]["prior"],
        seed=config["seed"],
        flags=flags(config["cohort"]),
        code=code("cohort"),
    shell:
        r"""
        python -m mrs_synthesis.cohort draws --unit {wildcards.site:q} --site {params.site:q} --model {params.model:q} \
            --training {params.training:q} --scans {params.scans:q} --prior {params.prior:q} --seed {params.seed} \
            {params.flags:q} \
            --output {output.cells:q} --index {output.index:q} --status {output.status:q} 2>&1 | tee {log:q}
        """


rule quantify_cohort:
    """Ratios of the new subjects of one site."""
    input:
        cells="<results>/cohort/{site}_desc-random_svs.nii.gz",
        index="<results>/cohort/{site}_desc-random_index.tsv",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
    output:
        table="<results>/cohort/{site}_desc-random_mrsfit.tsv",
        curves=temp("<results>/cohort/{site}_desc-random_fit.npz"),
        status="<results>/status/quantify_cohort/{site}.json",
    log:
        "<results>/logs/quantify_cohort/{site}.log",
    benchmark:
        "<results>/benchmarks/quantify_cohort/{site}.tsv"
    wildcard_constraints:
        site=one_of(SITES),
    conda:
        environment("quantify", ENGINE)
    threads: 8 if ENGINE == "fsl-mrs" else 1
    resources:
        **fitting_needs(),
    params:
        conditions=COHORT_CONDITIONS,
        wanted=wanted_of(COHORT_CONDITIONS),
        flags=flags(config["quantify"]),
        code=code("quantify"),
    shell:
        r"""
        python -m mrs_synthesis.quantify --unit {wildcards.site:q} --cells {input.cells:q} --index {input.index:q} \
            --basis {input.basis:q} --conditions {params.conditions:q} --wanted {params.wanted:q} \
            {params.flags:q} --water-role none --processes {threads} --output {output.table:q} \
            --curves {output.curves:q} --status {output.status:q} 2>&1 | tee {log:q}
        """


rule cohort_table:
    """Real and synthetic subjects of every site: mean, SD, and whether they can be told apart."""
    input:
        concentrations="<results>/tables/concentrations.tsv",
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        truth="<results>/tables/truth.tsv" if PHANTOM else [],
        means=recorded("quantify_mean", SEEN_SHARDS),
        random=expand("<results>/cohort/{site}_desc-random_mrsfit.tsv", site=SITES),
    output:
        table="<results>/tables/cohort.tsv",
        dictionary="<results>/tables/cohort.json",
    log:
        "<results>/logs/cohort.log",
    benchmark:
        "<results>/benchmarks/cohort.tsv"
    conda:
        environment("evaluate")
    resources:
        **needs("table"),
    params:
        training=folder("index"),
        derivatives=DERIVATIVES,
        random=lambda wildcards, input: os.path.dirname(input.random[0]),
        ratios=config["evaluate"]["ratios"],
        bootstrap=config["evaluate"]["bootstrap"],
        seed=config["seed"],
        truth=lambda wildcards, input: flags({"truth": input.truth or None}),
        code=code("cohort"),
    shell:
        r"""
        python -m mrs_synthesis.cohort table --units {input.units:q} --training {params.training:q} \
            --concentrations {input.concentrations:q} --derivatives {params.derivatives:q} --cohort {params.random:q} \
            --ratios {params.ratios:q} --bootstrap {params.bootstrap} --seed {params.seed} {params.truth:q} \
            --output {output.table:q} 2>&1 | tee {log:q}
        """
