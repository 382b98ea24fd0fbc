"""What is a scan's own, by its row of the sample sheet: the words, raw files and results of a stage's job."""

PHANTOM = config.get("phantom", {})
SYNTHETIC = [f"_desc-synth{kind}_svs" for kind in SYNTHETIC_KINDS]


SOURCES = f"{RESULTS}/sourcedata"


def check_sources():
    """Refuse a phantom whose raw files, which are written, would lie anywhere but in the results."""
    for unit, row in UNITS.items():
        for column in ("metab", "water"):
            path = os.path.abspath(row[column])
            if row[column] and not Path(path).is_relative_to(os.path.abspath(SOURCES)):
                raise WorkflowError(
                    f"{config['samples']}, {unit}, column {column}: {names.shown(row[column])}, expected a file in "
                    f"{SOURCES}/, where the phantom's raw files are written; correct the sheet or remove `phantom`"
                )


if PHANTOM:
    check_sources()


def phantom_scan(row):
    """Return what one subject's raw files are called and what the sheet says of it."""
    truth, nuisance = (
        f"{SOURCES}/{row['vendor']}/sub-{row['subject']}_{name}"
        for name in ("truth.tsv", "nuisance.json")
    )
    known = {key: row[key] for key in ("subject", "vendor", "metab", "water")} | {
        "basis": f"{RESULTS}/basis/{PHANTOM['basis'].get(row['vendor'])}",
        "truth": truth,
        "nuisance-truth": nuisance,
    }
    files = [row["metab"], row["water"]]
    if row["vendor"] == "philips":
        files += [str(Path(file).with_suffix(".SPAR")) for file in files]
    return {
        "words": flags(known) + sheet.tissue_flags(row),
        "writes": [*files, truth, nuisance],
    }


def raw_files(wildcards):
    """Return the raw files of a shard's scans; the phantom's are its record's. A missing one is its scan's failure."""
    if PHANTOM:
        return f"{RESULTS}/records/phantom/{wildcards.shard}.json"
    return [
        row[column]
        for row in map(UNITS.get, SHARDS[wildcards.shard])
        for column in sheet.PATH_COLUMNS
        if row[column] and can_be_input(row[column])
    ]


def can_be_input(path):
    """Tell whether Snakemake can look at a raw file, of which it reads small ones: not at a pipe or a device."""
    ordinary = os.path.isfile(path) or os.path.isdir(path)
    return ordinary and os.access(path, os.R_OK)


def converted_scan(row):
    """Return what the sample sheet says of a scan."""
    columns = ("format", *sheet.PATH_COLUMNS, "water_role")
    columns += ("edit_scheme", "edit_order", "te_ms", "tr_ms")
    words = flags({column: row[column] for column in columns if row[column]})
    if row["water_role"] != "none":
        words += ["--output-ref", f"{RAW}_mrsref.nii.gz"]
    return {
        "words": words,
        "reads": {name: row[name] for name in sheet.PATH_COLUMNS if row[name]},
    }


def preprocessed_scan(row):
    """Return the flags of a scan's water reference, if it has one."""
    if row["water_role"] == "none":
        return {}
    files = {
        "water": f"{RAW}_mrsref.nii.gz",
        "output-ref": f"{DERIVED}_desc-preproc_mrsref.nii.gz",
    }
    return {"words": flags(files | {"water-role": row["water_role"]})}


def with_sidecars(prefix, names):
    """Return NIfTI-MRS files with their sidecars."""
    return [f"{prefix}{name}{end}" for name in names for end in (".nii.gz", ".json")]


def scan_of_origin(row):
    """Return a scan's site and vendor, as flags."""
    return {"words": flags({key: row[key] for key in ("site", "vendor")})}


def fitted_conditions(row):
    """Return the spectra of a scan that are fitted."""
    return ["OFF", "DIFF"] if row["edit_scheme"] == "mega" else ["UNEDITED"]


def wanted_of(conditions):
    """Return what must come out of fits of these spectra for the study's ratios to tCr."""
    ratios = config["evaluate"]["ratios"]
    return [f"{conditions[0]}:tCr"] + [
        ratio for ratio in ratios if ratio.partition(":")[0] in conditions
    ]


def fitted_scan(row, water=True):
    """Return what is fitted of a scan, and what is known of its water and tissue unless only ratios are wanted."""
    conditions = fitted_conditions(row)
    words = flags({"conditions": conditions, "wanted": wanted_of(conditions)})
    words += flags({"sequence": row["sequence"]})
    words += flags({"water-role": row["water_role"]}) + sheet.tissue_flags(row)
    if water and row["water_role"] in ("concentration", "both", "embedded"):
        words += ["--water", f"{DERIVED}_desc-preproc_mrsref.nii.gz"]
    return {"words": words}


def fits_of(prefix, engine):
    """Return the files that a fit leaves."""
    names = (
        f"_desc-{engine}_mrsfit.tsv",
        f"_desc-{engine}_mrsfit.json",
        f"_desc-{engine}_fit.npz",
    )
    return [f"{prefix}{name}" for name in names]


def quantify_shard(
    prefix,
    cells="cells",
    about=fitted_scan,
    fit="{engine}",
    units=None,
    temporary=False,
):
    """Return a function for params: the job that fits cells of a shard's scans; `temporary`: keep no curves."""
    *tables, curves = fits_of(prefix, fit)
    return sharded(
        "quantify",
        about=about,
        units=units,
        reads=[
            f"{prefix}_desc-{cells}_svs.nii.gz",
            f"{prefix}_desc-{cells}_index.tsv",
            f"{DERIVED}_desc-preproc_mrsref.nii.gz",
        ],
        writes=tables if temporary else [*tables, curves],
        temporary=[curves] if temporary else [],
    )


def of_site(row):
    """Return a scan's site, as a flag."""
    return {"words": flags({"site": row["site"]})}


def cell_files(prefix, what="cells"):
    """Return the files of study cells, or of spectra that are fitted like them."""
    names = ("svs.nii.gz", "svs.json", "index.tsv", "index.json")
    return [f"{prefix}_desc-{what}_{name}" for name in names]


def fitted_ratios(row):
    """Return what is fitted of a scan where only ratios are wanted, which need no water."""
    return fitted_scan(row, water=False)


def headers_of(label):
    """Return the scans of a site whose headers are used: not those of test subjects, which may come and go."""
    units = UNITS_OF_SITE[label]
    return [unit for unit in units if UNITS[unit]["split"] != "test"] or units


def files_of_scans(name):
    """Return the converted files of this name of the scans with a water reference; none of the phantom."""
    rows = [UNITS[unit] for unit in WITH_WATER if not PHANTOM]
    return [
        f"{RESULTS}/rawdata/{row['folder']}/mrs/{row['unit']}_{name}" for row in rows
    ]
