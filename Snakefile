"""From raw vendor files of MR spectroscopy to synthetic transients and a report on their bias."""

from snakemake.utils import min_version

min_version("9.27")


# The embedded demo, unless a study's own file is given with --configfile.
if "study" not in config:

    configfile: "config/config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/shards.smk"
include: "workflow/rules/scans.smk"
include: "workflow/rules/resources.smk"
include: "workflow/rules/phantom.smk"
include: "workflow/rules/convert.smk"
include: "workflow/rules/preprocess.smk"
include: "workflow/rules/assemble.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/synthesise.smk"
include: "workflow/rules/augment.smk"
include: "workflow/rules/basis.smk"
include: "workflow/rules/quantify.smk"
include: "workflow/rules/engine_agreement_inputs.smk"
include: "workflow/rules/engine_agreement.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/checks.smk"
include: "workflow/rules/comparisons.smk"
include: "workflow/rules/mixed_model.smk"
include: "workflow/rules/quality_table.smk"
include: "workflow/rules/noise_table.smk"
include: "workflow/rules/noise_spectrum.smk"
include: "workflow/rules/nuisance.smk"
include: "workflow/rules/water_table.smk"
include: "workflow/rules/bayes_bound.smk"
include: "workflow/rules/share_of_bound.smk"
include: "workflow/rules/memorisation.smk"
include: "workflow/rules/fidelity.smk"
include: "workflow/rules/modelcard.smk"
include: "workflow/rules/minimum_reporting.smk"
include: "workflow/rules/bids.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/run_times.smk"
include: "workflow/rules/provenance.smk"
include: "workflow/rules/manifest.smk"
include: "workflow/rules/alignment_study.smk"
include: "workflow/rules/search.smk"
include: "workflow/rules/training_use.smk"
include: "workflow/rules/intervals.smk"
include: "workflow/rules/cohort.smk"


if config["augment"]["design"] == "augmentation":  # a reconstruction fills no cells

    include: "workflow/rules/ablation_inputs.smk"
    include: "workflow/rules/ablation.smk"


if "grid" in config:

    include: "workflow/rules/grid_inputs.smk"
    include: "workflow/rules/grid.smk"


include: "workflow/rules/size.smk"


report: "workflow/report/workflow.rst"


localrules:  # what takes a second at most, and the check, are no jobs of a cluster
    all,
    units,
    training_units,
    config_record,
    complete,
    converted,
    preprocessed,
    verify,


rule all:
    """The report, and a check that names every subject that failed."""
    default_target: True
    input:
        "<results>/report.html",
        "<results>/complete.json",
        "<results>/rawdata/dataset_description.json",
        "<results>/derivatives/dataset_description.json",
        "<results>/provenance.json",
        "<results>/manifest.sha256",
        ["<results>/tables/grid.tsv", "<results>/figures/grid.svg"]
        if "grid" in config
        else [],


rule converted:
    """Only the conversion to NIfTI-MRS, with its table."""
    input:
        "<results>/tables/conversion.tsv",


rule preprocessed:
    """Conversion and preprocessing, with their tables."""
    input:
        "<results>/tables/preprocessing.tsv",
