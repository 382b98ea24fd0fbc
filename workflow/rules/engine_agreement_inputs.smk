"""What the rules of engine_agreement.smk compare, by the config."""

import re

AGREEMENT = config["engine_agreement"]
PUBLISHED = AGREEMENT.get("published")
ENGINES = {"batched": "batched", "fslmrs": "fsl-mrs"}
OTHER_LABEL = next(label for label in ENGINES if label != ENGINE_LABEL)
CASES = (
    sorted(
        f"{path.parent.name}_{path.name.removeprefix('fits_')}"
        for path in Path(PUBLISHED).glob("*/fits_*")
        if path.is_dir()
    )
    if PUBLISHED
    else []
)
# New noise is of use where the fitted model is the one that the spectra were made with
SIMULATED = [case for case in CASES if re.search(r"_poly\d+$", case)]
SIMULATED_FITS = ["batched", *(["fslmrs"] if AGREEMENT["fsl_mrs_spectra"] else [])]

if PUBLISHED and not CASES:
    raise WorkflowError(
        f"engine_agreement: published: {PUBLISHED} has no folder KIND/fits_TAG; give the folder of published fits"
    )


for name in CASES:
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_.-]*", name):
        raise WorkflowError(
            f"engine_agreement: published: {names.shown(name)} in {PUBLISHED}, expected KIND/fits_TAG of letters, "
            "digits, _ . and -; rename the folder"
        )


def case_fits(names, engine):
    """Return tables of fits of published or simulated spectra."""
    return [
        f"<results>/engine_agreement/{name}/{name}_desc-{engine}_mrsfit.tsv"
        for name in names
    ]


def study_fits(engine):
    """Return the tables of fits of the study's cells."""
    return [
        f"{DERIVATIVES}/{UNITS[unit]['folder']}/mrs/{unit}_desc-{engine}_mrsfit.tsv"
        for unit in TEST_UNITS
    ]


def study_records(engine):
    """Return the records of these fits."""
    return recorded(f"quantify_{engine}", TEST_SHARDS)


def truth_pairs():
    """Return the names, fits and true amplitudes of spectra with known truth, as three lists."""
    pairs = [(name, engine) for name in CASES for engine in ENGINES]
    pairs += [
        (f"{name}_simulated", engine) for name in SIMULATED for engine in SIMULATED_FITS
    ]
    names = [name for name, _ in pairs]
    fits = [file for name, engine in pairs for file in case_fits([name], engine)]
    return (
        names,
        fits,
        [f"<results>/engine_agreement/{name}/{name}_truth.tsv" for name in names],
    )


def truth_fits():
    """Return the tables of fits that are compared with the truth."""
    if PUBLISHED:
        return truth_pairs()[1]
    return [
        file
        for engine in AGREEMENT["phantom_engines"]
        for file in study_records(engine.replace("-", ""))
    ]


def truths(wildcards):
    """Return the tables of truth."""
    if PUBLISHED:
        return truth_pairs()[2]
    if PHANTOM:
        return "<results>/tables/truth.tsv"
    raise WorkflowError(
        "fit_truth: no truth is known of this study; give engine_agreement: published, or run the phantom"
    )


def truth_flags(wildcards, input):
    """Return what the fit_truth stage reads, as flags."""
    if PUBLISHED:
        return [
            "--sets",
            *truth_pairs()[0],
            "--fits",
            *input.fits,
            "--cell-truths",
            *input.truths,
        ]
    words = [
        "--sets",
        STUDY,
        "--units",
        input.units,
        "--derivatives",
        DERIVATIVES,
    ]
    return [*words, "--engines", *AGREEMENT["phantom_engines"], "--truth", input.truths]
