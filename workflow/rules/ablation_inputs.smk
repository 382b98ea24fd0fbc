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
VARIANT_UNIT = "<results>/ablation/{variant}/{decoder}/derivatives/{folder}/mrs/{unit}"
VARIANT_STATUS = "<results>/ablation/{variant}/{decoder}/status"
VARIANT_JOB = "ablation/{variant}_{decoder}/{folder}/{unit}"
variant_prefix = filled_in(VARIANT_UNIT)


def of_model(name):
    """Return a function for input: a file of the variant's model."""
    return (
        lambda wildcards: f"{RESULTS}/ablation/models/{VARIANTS[wildcards.variant].trained}/{name}"
    )


def of_variants(pattern):
    """Fill all wildcards of a pattern, for every variant and test unit."""
    return [
        file
        for variant in VARIANTS.values()
        for file in of_units(
            pattern.replace("{variant}", variant.name).replace(
                "{decoder}", variant.decoder.capitalize()
            ),
            TEST_UNITS,
        )
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
