"""What the rules share: the validated config, the units of the sample sheet, and how options become flags."""

import hashlib
import json
import os
import re
import shlex
import sys
from pathlib import Path

from snakemake.utils import validate

PACKAGE = Path(workflow.basedir) / "workflow" / "mrs_synthesis"
sys.path.insert(0, str(PACKAGE.parent))

from mrs_synthesis import cells, names, sheet
from mrs_synthesis.stage import InputError

try:
    for path in workflow.configfiles:
        names.check_keys(path)
    names.check_config(config)  # in one line
except InputError as error:
    raise WorkflowError(str(error))
validate(config, schema="../schemas/config.schema.json")  # fills in the defaults

SPLIT = {key: config["assemble"][key] for key in ("fractions", "split_unit")}
try:
    SAMPLES = sheet.read_samples(config["samples"])
    UNITS = {row["unit"]: row for row in sheet.included(SAMPLES)}
    SPLIT["split_unit"] = sheet.assign_splits(
        list(UNITS.values()), config["seed"], **SPLIT
    )
    SITES = {
        label: site
        for site, label in sheet.site_labels(
            row["site"] for row in UNITS.values()
        ).items()
    }
except InputError as error:
    raise WorkflowError(str(error))

UNITS_OF_SITE = {
    label: [
        unit for unit, row in UNITS.items() if (row["site"] or sheet.NO_SITE) == site
    ]
    for label, site in SITES.items()
}
TEST_UNITS = [unit for unit, row in UNITS.items() if row["split"] in ("test", "")]
# What the model and all that goes into it depend on: not on whole test subjects, which may come and go
SEEN_UNITS = [row["unit"] for row in sheet.seen(list(UNITS.values()))]
HELD_OUT_UNITS = [unit for unit, row in UNITS.items() if row["split"] == "test"]
WITH_WATER = [unit for unit, row in UNITS.items() if row["water_role"] != "none"]

STUDY = config["study"]
RESULTS = f"{config['results']}/{STUDY}"
if workflow.is_main_process and (
    change := sheet.change_of_training(
        f"{RESULTS}/training/units.tsv", [UNITS[unit] for unit in SEEN_UNITS]
    )
):
    print(change, file=sys.stderr)
ENGINE = config["quantify"]["engine"]
ENGINE_LABEL = ENGINE.replace("-", "")
FSL_MRS_CHOSEN = [
    section
    for section in ("preprocess", "quantify")
    if config[section]["engine"] == "fsl-mrs"
]
FSL_MRS_TERMS = (
    "FSL-MRS's licence allows non-commercial use only, and counts any use for financial return as commercial (see its "
    "LICENSE); the engine `batched` does without FSL-MRS"
)
if workflow.is_main_process and FSL_MRS_CHOSEN:
    chosen = " and ".join(f"{section}: engine: fsl-mrs" for section in FSL_MRS_CHOSEN)
    print(f"{chosen}: {FSL_MRS_TERMS}", file=sys.stderr)
BASIS_SETS = {entry["name"]: entry for entry in config["basis"]["sets"]}
AMOUNTS = {
    key: config["augment"][key] for key in ("n_real", "n_total", "count", "replicates")
}
EDITED = [unit for unit in TEST_UNITS if UNITS[unit]["edit_scheme"] == "mega"]
COUNTED = (AMOUNTS["count"], 2 if EDITED else 1)
try:
    PAIRS = cells.amounts(AMOUNTS["n_real"], AMOUNTS["n_total"], *COUNTED)
except InputError as error:
    raise WorkflowError(f"augment: {error}")
SYNTHETIC_KINDS = [
    f"{mode.capitalize()}{decoder.capitalize()}"
    for mode in config["synthesise"]["modes"]
    for decoder in config["synthesise"]["decoders"]
]

# What is compared with preprocessed transients; those as acquired have another comparison (`water_table`).
COMPARED = {
    "modes": config["synthesise"]["modes"],
    "decoders": [d for d in config["synthesise"]["decoders"] if d != "acquired"],
}
COMPARED_KINDS = [kind for kind in SYNTHETIC_KINDS if not kind.endswith("Acquired")]

# Only the VAE has a density of codes of its own, only the model of subjects takes metabolites' patterns, and only
# transients as acquired have nuisances.
DENSITY = (
    ["<results>/model/density.safetensors"]
    if config["train"]["model"] == "paper"
    else []
)
PATTERNS = (
    expand("<results>/basis/{set}", set=BASIS_SETS)
    if config["train"]["model"] == "subject" and config["train"]["patterns"]
    else []
)
NUISANCE = (
    "<results>/model/nuisance.safetensors"
    if "acquired" in config["synthesise"]["decoders"]
    else []
)

# Jobs find the package without installing it, also inside a rule's own conda environment and on a cluster's node. A
# prefix of one's own replaces Snakemake's, which makes a failed command before `| tee` fail the job.
shell.prefix(
    f"set -euo pipefail; export PYTHONPATH={shlex.quote(str(PACKAGE.parent))}; "
)


# Split by transients, the training set holds the test transients itself
pathvars:
    results=RESULTS,
    heldout=f"{RESULTS}/{'heldout' if HELD_OUT_UNITS else 'training'}",


wildcard_constraints:
    set="|".join(BASIS_SETS),


def digest(units):
    """Hash what the table of units says of some units, for a rule that is to run again when that changes."""
    return hashlib.sha256(
        sheet.unit_table([UNITS[unit] for unit in units]).encode()
    ).hexdigest()[:12]


def one_of(names):
    """Return a regular expression for exactly these names (none: one that matches nothing)."""
    return "|".join(map(re.escape, names)) or "(?!)"


def sheet_files():
    """Return the sample sheet, or nothing for a BIDS folder (its scans are inputs of their own)."""
    return config["samples"] if Path(config["samples"]).is_file() else []


def basis_files(wildcards):
    """Return the files or folders that a basis set is read from."""
    files = BASIS_SETS[wildcards.set]["files"]
    return {
        condition: files[condition]
        for condition in ("off", "on", "diff", "unedited")
        if condition in files
    }


def folder(name):
    """Return a function for params: the folder of a named input or output."""

    def find(wildcards, input, output):
        return os.path.dirname((input if name in input.keys() else output)[name])

    return find


def samples(wildcards):
    """Return the sample sheet or BIDS folder."""
    return config["samples"]


def flags(options, leave_out=()):
    """Turn a section of the config into command-line flags of the stage's module."""
    words = []
    for key, value in options.items():
        flag = f"--{key.replace('_', '-')}"
        if key in leave_out or value is None:
            continue
        if isinstance(value, bool):
            words.append(flag if value else flag.replace("--", "--no-", 1))
        elif isinstance(value, (list, tuple)):
            words += [flag, *map(str, value)]
        else:
            words += [flag, str(value)]
    return words


def code(stage, *files):
    """Hash what a stage runs, since Snakemake tracks no imports: a changed module reruns its stages.

    The stage's module, all of the package that it imports, and further files of the workflow folder.
    """
    todo, seen = [stage], {}
    while todo:
        name = todo.pop()
        path = PACKAGE / f"{name}.py"
        if name in seen or not path.exists():
            continue
        seen[name] = path.read_text()
        todo += re.findall(r"(?:from|import) mrs_synthesis\.(\w+)", seen[name])
        for names in re.findall(
            r"from mrs_synthesis import (\([^)]*\)|.+)", seen[name]
        ):
            todo += re.findall(r"\w+", names)
    parts = [seen[name] for name in sorted(seen)]
    parts += [(PACKAGE.parent / file).read_text() for file in files]
    return hashlib.sha256("".join(parts).encode()).hexdigest()[:12]


def environment(stage, engine="batched"):
    """Return the environment file of a stage; FSL-MRS has its own."""
    name = "fsl-mrs" if engine == "fsl-mrs" else stage
    return f"../../envs/{name}.yaml"


def reported(table, category):
    """Return a table of results as an output that `snakemake --report` shows, with its caption."""
    return report(
        f"<results>/tables/{table}.tsv",
        caption=f"../report/tables/{table}.rst",
        category=category,
        labels={"table": table},
    )


def shown(file, category, label):
    """Return a file of the results as an output that `snakemake --report` shows, with its caption."""
    return report(
        f"<results>/{file}",
        caption=f"../report/{Path(file).stem}.rst",
        category=category,
        labels={"figure" if file.endswith("svg") else "file": label},
    )


def tell_of_fsl_mrs():
    """Print FSL-MRS's terms where a target needs it that the config did not choose it for."""
    needing = {
        job.rule.name
        for job in workflow.dag.needrun_jobs()
        if str(job.rule.conda_env).endswith("fsl-mrs.yaml")
    }
    if needing and not FSL_MRS_CHOSEN:
        print(f"{', '.join(sorted(needing))}: {FSL_MRS_TERMS}", file=sys.stderr)
