"""The variants of the config's `grid`, and what is a variant's, as files and as flags."""

from mrs_synthesis import grid as points

AXES = {
    "models": [config["train"]["model"]],
    "seeds": [config["seed"]],
    "training_subjects": [],
    **config["grid"],
}
if config["augment"]["design"] != "augmentation":
    raise WorkflowError(
        "grid: needs the design augmentation; correct augment: design, or remove the section"
    )
if SPLIT["split_unit"] == "transient" and (
    AXES["training_subjects"] or AXES["leave_out_sites"]
):
    raise WorkflowError(
        "grid: training_subjects and leave_out_sites need a split by subject, this study is split by transients"
    )


def subjects_left(split, without=""):
    """Return the subjects of a split when a site is left out (a label; empty: none)."""
    gone = UNITS_OF_SITE.get(without, [])
    return {
        row["subject"]
        for unit, row in UNITS.items()
        if row["split"] in (split, "") and unit not in gone
    }


LEFT_OUT = [
    label
    for label, units in UNITS_OF_SITE.items()
    if AXES["leave_out_sites"]
    and set(units) & set(TEST_UNITS)
    and set(units) & set(SEEN_UNITS)  # else no model knows it anyway
]
for label in LEFT_OUT:
    for split in ("train", "validation"):
        if not subjects_left(split, label):
            raise WorkflowError(
                f"grid: leave_out_sites: without site {SITES[label]} no {split} subject is left; "
                "state the split in the sample sheet so that every site has one, or do not leave out sites"
            )
try:
    POSSIBLE, TOO_FEW = points.variants(
        AXES["models"],
        AXES["seeds"],
        AXES["training_subjects"],
        {label: len(subjects_left("train", label)) for label in ("", *LEFT_OUT)},
    )
except InputError as error:
    raise WorkflowError(str(error))
GRID = {variant.name: variant for variant in POSSIBLE}
# The study itself is a variant that needs nothing of its own
STUDY_VARIANT = points.Variant(config["train"]["model"], config["seed"]).name
OWN_VARIANTS = {name: GRID[name] for name in GRID if name != STUDY_VARIANT}
PARTS = {variant.part: variant for variant in POSSIBLE if variant.part}

POINT = "<results>/grid/{variant}"
POINT_UNIT = f"{RESULTS}/grid/{{variant}}/derivatives/%folder/mrs/%unit"


def with_model(model):
    """Return the names of the variants that train this model."""
    return [name for name, variant in OWN_VARIANTS.items() if variant.model == model]


def of_part(name):
    """Return a function for input: a file of the variant's part of the training set."""

    def find(wildcards):
        part = GRID[wildcards.variant].part
        folder = f"grid/training/{part}" if part else "training"
        return f"{RESULTS}/{folder}/{name}"

    return find


def nuisance_of_part(wildcards):
    """Return the tracks and water of the subjects that the variant was trained on."""
    part = GRID[wildcards.variant].part
    folder = f"grid/training/{part}" if part else "model"
    return f"{RESULTS}/{folder}/nuisance.safetensors"


def of_points(stage):
    """Return the records of a stage, for every variant with cells of its own and the shards that it is tested on."""
    return [
        f"<results>/grid/{name}/records/{stage}/{shard}.json"
        for name, variant in OWN_VARIANTS.items()
        for shard in TEST_SHARDS
        if set(tested_units(variant)) & set(SHARDS[shard])
    ]


def point_prefix(wildcards):
    """Return what the names of a scan's files begin with, in this variant."""
    return POINT_UNIT.format(**wildcards)


def tested_in_shard(wildcards):
    """Return the scans of a shard that a variant is tested on."""
    tested = set(tested_units(GRID[wildcards.variant]))
    return [unit for unit in SHARDS[wildcards.shard] if unit in tested]


def tested_units(variant):
    """Return the test units of a variant: of the site that it does not know, or all."""
    known = UNITS_OF_SITE.get(variant.without, TEST_UNITS)
    return [unit for unit in TEST_UNITS if unit in known]


def part_flags(wildcards):
    """Return which part of the training set is wanted, as flags."""
    variant = PARTS[wildcards.part]
    return flags({"n": variant.n, "without": SITES.get(variant.without)})


def point_train_flags(wildcards):
    """Return the study's settings of training with the variant's model, as flags."""
    own = {"model": GRID[wildcards.variant].model}
    return flags(config["train"] | own, leave_out=["processes", "patterns"])


# Real transients alone, of which each variant's cells have some, and the control `duplicated` are the study's own
POINT_CONTROLS = [
    name for name in config["augment"]["controls"] if name != points.NO_TRAINING
]
FEWEST_REAL = min(PAIRS)[0] * (COUNTED[1] if AMOUNTS["count"] == "total" else 1)
POINT_AUGMENT = flags(
    config["augment"]
    | {key: config["synthesise"][key] for key in ("modes", "decoders")}
    | {"controls": POINT_CONTROLS, "real_curve": [FEWEST_REAL]}
)
