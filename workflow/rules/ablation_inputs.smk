"""Functions of the target `ablation`: what is a variant's, as files and as flags."""

from mrs_synthesis import ablation as steps

VARIANTS = {variant.name: variant for variant in steps.VARIANTS}
TRAINED = {variant.trained: variant for variant in steps.VARIANTS}
# Filled up are cells of the smallest n_real, per edit condition
FEWEST = dict(zip(("n_real", "n_total"), min(PAIRS), strict=True)) | {
    "count": "per_condition",
    "replicates": min(AMOUNTS["replicates"], steps.MOST_REPLICATES),
}
MODEL = "<results>/ablation/models/{trained}"
VARIANT = "ablation/{variant}/{decoder}"
VARIANT_UNIT = f"{RESULTS}/{VARIANT}/derivatives/%folder/mrs/%unit"
VARIANT_SYNTHETIC = [
    f"_desc-synth{mode.capitalize()}{{decoder}}_svs" for mode in steps.MODES
]


def of_model(name):
    """Return a function for input: a file of the variant's model."""
    return (
        lambda wildcards: f"{RESULTS}/ablation/models/{VARIANTS[wildcards.variant].trained}/{name}"
    )


def variant_prefix(wildcards):
    """Return what the names of a scan's files begin with, in this variant."""
    return VARIANT_UNIT.format(**wildcards)


def of_variants(stage):
    """Return the records of a stage, for every variant and shard of test scans."""
    return [
        f"{RESULTS}/{VARIANT}/records/{stage}/{shard}.json".format(
            variant=variant.name, decoder=variant.decoder.capitalize()
        )
        for variant in VARIANTS.values()
        for shard in TEST_SHARDS
    ]


def variant_synthesise_flags(wildcards):
    """Return the study's settings of the stage synthesise with those of a variant, as flags."""
    variant = VARIANTS[wildcards.variant]
    own = {
        "modes": steps.MODES,
        "decoders": [variant.decoder],
        "prior": variant.prior,
    }
    return flags(config["synthesise"] | own | FEWEST)


def variant_augment_flags(wildcards):
    """Return the settings of the stage augment for a variant, as flags; the controls are the study's own."""
    own = {
        "modes": steps.MODES,
        "decoders": [VARIANTS[wildcards.variant].decoder],
        "controls": [],
        "real_curve": [FEWEST["n_real"]],
    }
    return flags(config["augment"] | own | FEWEST)
