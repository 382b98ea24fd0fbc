"""Synthetic subjects of every site beside its real ones; asked for by name: `cohort`."""

TRAINED_UNITS = [unit for unit, row in UNITS.items() if row["split"] == "train"]
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
    """Noise-free spectra of new subjects of one site; `unit` is what the site's files are called."""
    input:
        # Only their header is used: not that of test subjects, which may come and go, if there are others
        scans=lambda wildcards: of_units(
            f"{RESULTS}/derivatives/{{folder}}/mrs/{{unit}}_desc-preproc_svs.nii.gz",
            [unit for unit in UNITS_OF_SITE[wildcards.unit] if unit in SEEN_UNITS]
            or UNITS_OF_SITE[wildcards.unit],
        ),
        model="<results>/model/model.safetensors",
        config="<results>/model/config.json",
        density=DENSITY,
    output:
        cells="<results>/cohort/{unit}_desc-random_svs.nii.gz",
        sidecar="<results>/cohort/{unit}_desc-random_svs.json",
        index="<results>/cohort/{unit}_desc-random_index.tsv",
        status="<results>/status/draw_cohort/{unit}.json",
    log:
        "<results>/logs/draw_cohort/{unit}.log",
    benchmark:
        "<results>/benchmarks/draw_cohort/{unit}.tsv"
    wildcard_constraints:
        unit=one_of(SITES),
    conda:
        environment("synthesise")
    params:
        site=lambda wildcards: SITES[wildcards.unit],
        model=folder("model"),
        prior=config["synthesise"]["prior"],
        seed=config["seed"],
        flags=flags(config["cohort"]),
        code=code("cohort"),
    shell:
        r"""
        python -m mrs_synthesis.cohort draws --unit {wildcards.unit} --site {params.site:q} --model {params.model:q} \
            --scans {input.scans:q} --prior {params.prior} --seed {params.seed} {params.flags:q} \
            --output {output.cells:q} --index {output.index:q} --status {output.status:q} 2>&1 | tee {log:q}
        """


use rule quantify as quantify_cohort with:
    input:
        cells="<results>/cohort/{unit}_desc-random_svs.nii.gz",
        index="<results>/cohort/{unit}_desc-random_index.tsv",
        basis=expand("<results>/basis/{set}", set=BASIS_SETS),
        water=[],
    output:
        table="<results>/cohort/{unit}_desc-random_mrsfit.tsv",
        curves=temp("<results>/cohort/{unit}_desc-random_fit.npz"),
        status="<results>/status/quantify_cohort/{unit}.json",
    log:
        "<results>/logs/quantify_cohort/{unit}.log",
    benchmark:
        "<results>/benchmarks/quantify_cohort/{unit}.tsv"
    wildcard_constraints:
        unit=one_of(SITES),
    params:
        conditions=COHORT_CONDITIONS,
        water=["--water-role", "none"],  # ratios need none
        wanted=[
            f"{COHORT_CONDITIONS[0]}:tCr",
            *(
                ratio
                for ratio in config["evaluate"]["ratios"]
                if ratio.partition(":")[0] in COHORT_CONDITIONS
            ),
        ],


rule cohort_table:
    """Real and synthetic subjects of every site: mean, SD, and whether they can be told apart."""
    input:
        concentrations="<results>/tables/concentrations.tsv",
        units="<results>/units.tsv",
        index="<results>/training/index.tsv",
        truth="<results>/tables/truth.tsv" if PHANTOM else [],
        means=of_units(
            "<results>/derivatives/{folder}/mrs/{unit}_desc-mean_mrsfit.tsv",
            TRAINED_UNITS,
        ),
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
    params:
        training=folder("index"),
        derivatives=lambda wildcards, input: str(
            Path(input.units).with_name("derivatives")
        ),
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
