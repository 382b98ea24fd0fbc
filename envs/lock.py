"""Keep the lists of pins equal: `requirements*.txt` and `envs/*.yaml` all come from the packages named here.

Run in an environment in which everything is installed: `python envs/lock.py` rewrites the files from the installed
versions, `python envs/lock.py --check` fails if one of them differs from what is installed.
"""

import argparse
import importlib.metadata as metadata
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PYTHON = "3.11"
LAUNCHER = ["snakemake", "snakemake-executor-plugin-slurm"]
DEVELOPMENT = [
    *["pytest", "pytest-xdist", "ruff", "snakefmt"],
    *["pingouin", "bids-validator-deno", "playwright", "axe-playwright-python"],  # what the tests check against
]
SCANS = ["numpy", "nibabel", "nifti-mrs"]
STAGES = {
    "phantom": [*SCANS, "scipy", "pandas"],
    "convert": [*SCANS, "spec2nii"],
    "preprocess": [*SCANS, "scipy", "pandas"],
    "assemble": [*SCANS, "pandas", "jsonschema"],
    "train": ["numpy", "scipy", "pandas", "torch", "safetensors", "matplotlib"],
    "synthesise": [*SCANS, "scipy", "pandas", "torch", "safetensors"],
    "augment": [*SCANS, "scipy", "pandas"],
    "quantify": [*SCANS, "scipy", "pandas", "torch"],
    "evaluate": [*SCANS, "scipy", "pandas", "jsonschema", "scikit-learn", "statsmodels"],
    "report": [*SCANS, "pandas", "plotly", "jinja2", "matplotlib", "rocrate"],
}


def normal(name: str) -> str:
    """Return a package's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(packages: list[str]) -> list[str]:
    """Return exact pins of the packages and of all that they need, as installed here."""
    pins: dict[str, str] = {}
    todo = list(packages)
    while todo:
        distribution = metadata.distribution(todo.pop())
        name = normal(distribution.metadata["Name"])
        if name in pins:
            continue
        pins[name] = distribution.version.partition("+")[0]  # a local label such as +cpu is no public version
        for requirement in distribution.requires or []:
            marker = requirement.partition(";")[2]
            if "extra ==" in marker or not applies(marker):
                continue
            todo.append(re.match(r"[A-Za-z0-9._-]+", requirement)[0])
    return [f"{name}=={pins[name]}" for name in sorted(pins)]


def applies(marker: str) -> bool:
    """Tell whether an environment marker holds here."""
    if not marker.strip():
        return True
    from packaging.markers import Marker

    return Marker(marker).evaluate()


def stage_file(pins: list[str]) -> str:
    """Return the text of a conda environment file."""
    head = f"channels:\n  - conda-forge\n  - nodefaults\ndependencies:\n  - python ={PYTHON}\n  - pip\n  - pip:\n"
    return head + "".join(f"      - {pin}\n" for pin in pins)


def locked() -> dict[Path, str]:
    """Return the text of every file of pins."""
    everything = sorted({package for packages in STAGES.values() for package in packages} | set(LAUNCHER))
    default = closure(everything)
    extra = [pin for pin in closure(DEVELOPMENT) if pin not in default]
    files = {
        ROOT / "requirements.txt": "\n".join(default) + "\n",
        ROOT / "requirements-dev.txt": "\n".join(["-r requirements.txt", *extra]) + "\n",
    }
    return files | {
        ROOT / "envs" / f"{stage}.yaml": stage_file(closure(packages)) for stage, packages in STAGES.items()
    }


def main() -> None:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    check = parser.parse_args().check
    stale = [path for path, text in locked().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: pins differ from what is installed" + ("" if check else "; rewritten"))
        if not check:
            path.write_text(locked()[path])
    sys.exit(check and bool(stale))


if __name__ == "__main__":
    main()
