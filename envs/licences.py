"""The licences of all pins, in `envs/licences.tsv`: `python envs/licences.py` (`make licences`) rewrites the table.

A licence is what the installed package itself says: its SPDX expression, else its licence field or classifier where
that names one licence, else what a person found in its licence file (`READ`). `--check` fails if the table is not what
the installed packages say. A pin that is not installed (CUDA libraries, on a machine without) keeps its row.
"""

import argparse
import csv
import importlib.metadata as metadata
import io
import re
import sys

from lock import LOCKS, ROOT, pinned

TABLE = ROOT / "envs" / "licences.tsv"
COLUMNS = ["package", "version", "used_for", "licence", "source", "care"]
# Licences that ask for no more than notices kept: packages under these alone need no care
PERMISSIVE = {
    *[
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "BSL-1.0",
        "CC0-1.0",
        "LicenseRef-Public-Domain",
        "MIT",
        "MIT-CMU",
    ],
    *["PSF-2.0", "Unlicense", "Zlib", "Apache-2.0 WITH LLVM-exception"],
}
SPOKEN = {  # the ways in which packages without an expression say it
    "Apache License, Version 2.0": "Apache-2.0",
    "Apache Software License": "Apache-2.0",
    "BSD 3-Clause License": "BSD-3-Clause",
    "MIT License": "MIT",
    "2-clause BSD": "BSD-2-Clause",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GPL-3.0": "GPL-3.0-only",
    "Apache 2.0": "Apache-2.0",
    "NVIDIA Proprietary Software": "LicenseRef-NVIDIA-Proprietary",
}
NAMED = PERMISSIVE | {"MPL-2.0", "GPL-3.0-only", "LicenseRef-NVIDIA-Proprietary"}
READ = {  # what the licence file in the package says, where its metadata name none or several
    **dict.fromkeys(["conda-inject", "axe-playwright-python"], "MIT"),
    **{f"snakemake-interface-{part}": "MIT" for part in ("common", "logger-plugins", "report-plugins")},
    **{f"snakemake-interface-{part}": "MIT" for part in ("scheduler-plugins", "storage-plugins")},
    **dict.fromkeys(["cycler", "gitdb", "jinja2", "kiwisolver", "mpmath", "seaborn", "scipy", "sympy"], "BSD-3-Clause"),
    "cuda-toolkit": "NOASSERTION",
    "docutils": "LicenseRef-Public-Domain AND BSD-2-Clause AND BSD-3-Clause",  # an editor's file is GPL
    "fslpy": "Apache-2.0",
    "matplotlib": "PSF-2.0",
    "packaging": "Apache-2.0 OR BSD-2-Clause",
}
CARE = {  # what a person found where the licence, or what the package's files bring along, asks for more than a notice
    "certifi": "MPL-2.0 holds for its own files alone: changes to them must be published",
    "tqdm": "MPL-2.0 holds for its own files alone: changes to them must be published",
    "hypothesis": "MPL-2.0 holds for its own files alone; tests need it, nothing of the workflow",
    "pathspec": "MPL-2.0 holds for its own files alone; a formatter needs it, nothing of the workflow",
    "pingouin": "GPL-3.0: only tests use it, to compare numbers; never import it from workflow/",
    "axe-playwright-python": "brings axe-core, MPL-2.0, for the tests of the page",
    "numpy": "its Linux files bring libgfortran, GPL-3.0-or-later WITH GCC-exception-3.1",
    "scipy": "its Linux files bring libgfortran, GPL-3.0-or-later WITH GCC-exception-3.1",
    "scikit-learn": "its Linux files bring libgomp, GPL-3.0-or-later WITH GCC-exception-3.1",
    "torch": "its Linux files bring libgomp, GPL-3.0-or-later WITH GCC-exception-3.1",
    "cuda-toolkit": "names no licence, and holds no file: only the list of NVIDIA's libraries that torch's build needs",
    "pulp": "brings the CBC solver as a program of its own, under EPL-1.0",
}
NVIDIA = "NVIDIA's own terms: free of charge, no free software; only the CUDA build of torch needs it"


def said(distribution: metadata.Distribution) -> tuple[str, str]:
    """Return the licence that a package's metadata name, and the field; empty strings if none or several."""
    about = distribution.metadata
    if expression := about.get("License-Expression"):
        return expression, "License-Expression"
    field = (about.get("License") or "").strip()
    field = SPOKEN.get(field.partition("\n")[0].strip(), field)
    if set(parts(field)) <= NAMED:
        return field, "License"
    classifiers = [words for words in about.get_all("Classifier") or [] if words.startswith("License ::")]
    names = {SPOKEN.get(words.rpartition("::")[2].strip()) for words in classifiers} - {None}
    if len(names) == len(classifiers) == 1:
        return names.pop(), "Classifier"
    return "", ""


def parts(expression: str) -> list[str]:
    """Return the single licences of an SPDX expression."""
    return [word for word in re.split(r"\s+(?:AND|OR)\s+|[()]", expression.strip()) if word.strip()] or [""]


def pins() -> dict[str, tuple[str, str]]:
    """Return version and use of every pin, by package."""
    default, development = (pinned(ROOT / name) for name in ("requirements.txt", "requirements-dev.txt"))
    cuda = pinned(LOCKS / "torch.lock")
    found = {name: (version, "the workflow") for name, version in default.items()}
    found |= {name: (version, "torch with CUDA") for name, version in cuda.items() if name not in default}
    return found | {name: (version, "tests") for name, version in development.items()}


def row(name: str, version: str, used_for: str) -> dict[str, str] | None:
    """Return a package's row; None if it is not installed in this version."""
    try:
        distribution = metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None
    if distribution.version.partition("+")[0] != version:
        return None
    licence, source = (READ[name], "licence file") if name in READ else said(distribution)
    source = "" if licence == "NOASSERTION" else source
    care = CARE.get(name, "")
    if licence == "LicenseRef-NVIDIA-Proprietary":
        care = NVIDIA
    return dict(zip(COLUMNS, [name, version, used_for, licence, source, care], strict=True))


def unreviewed(rows: list[dict[str, str]]) -> list[str]:
    """Return the packages without a licence, or whose licence asks for more than notices and nobody wrote what."""
    return [
        one["package"]
        for one in rows
        if not one["licence"] or (set(parts(one["licence"])) - PERMISSIVE and not one["care"])
    ]


def read() -> list[dict[str, str]]:
    """Return the rows of the table."""
    return list(csv.DictReader(io.StringIO(TABLE.read_text()), delimiter="\t")) if TABLE.exists() else []


def table() -> tuple[list[dict[str, str]], list[str]]:
    """Return the rows of all pins, and the pins that are neither installed nor in the table."""
    old = {(one["package"], one["version"]): one for one in read()}
    rows, missing = [], []
    for name, (version, used_for) in sorted(pins().items()):
        if found := row(name, version, used_for) or old.get((name, version)):
            rows.append(found)
        else:
            missing.append(f"{name}=={version}")
    return rows, missing


def main() -> None:
    """Write or check the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table differs")
    check = parser.parse_args().check
    rows, missing = table()
    errors = [
        f"{pin}: not installed here and no row in {TABLE.name}; install it, then run this again" for pin in missing
    ]
    errors += [f"{name}: licence not reviewed; read it, then add it to READ or CARE" for name in unreviewed(rows)]
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, delimiter="\t", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    if check and rows != read():
        errors.append(f"{TABLE.name}: not what the installed packages say; run `make licences`")
    if not check and not missing:
        TABLE.write_text(text.getvalue())
    sys.exit("\n".join(errors) or 0)


if __name__ == "__main__":
    main()
