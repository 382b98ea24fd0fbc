"""Keep the lists of pins equal: `requirements*.txt`, `envs/*.yaml` and `envs/locks/` come from the packages named here.

Run in an environment in which everything is installed: `python envs/lock.py` rewrites the files from the installed
versions, `python envs/lock.py --check` fails if one of them differs from what is installed.

`python envs/lock.py --hashes` (`make lock`) rewrites `envs/locks/`: the same pins with the SHA-256 of every file of
each release, as the package index gives them to uv, so that the locks hold on each platform. Torch has files of its
own, since its release is not one thing: torch.lock is the index's build with the CUDA libraries that it needs on Linux,
torch-cpu.lock a build without them where an index has it (its hash is that of the file that pip downloads).
"""

import argparse
import importlib.metadata as metadata
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LOCKS = ROOT / "envs" / "locks"
PYTHON = "3.11"
LOWEST = "3.11.1"  # pymapvbvd's
TOOLS = ["cyclonedx-bom", "pip-audit", "uv"]  # of the optional targets, in an environment of their own
LAUNCHER = ["snakemake", "snakemake-executor-plugin-slurm"]
DEVELOPMENT = [
    *["pytest", "pytest-xdist", "hypothesis", "ruff", "snakefmt"],
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
    "evaluate": [*SCANS, "scipy", "pandas", "jsonschema", "safetensors", "scikit-learn", "statsmodels"],
    "report": [*SCANS, "pandas", "plotly", "jinja2", "matplotlib", "rocrate"],
}


def normal(name: str) -> str:
    """Return a package's name as PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def closure(packages: list[str]) -> list[str]:
    """Return exact pins of the packages and of all that they need, as installed here."""
    from packaging.requirements import Requirement

    pins: dict[str, str] = {}
    seen = set()
    todo = [(package, "") for package in packages]
    while todo:
        wanted, extra = todo.pop()
        distribution = metadata.distribution(wanted)
        name = normal(distribution.metadata["Name"])
        if (name, extra) in seen:
            continue
        seen.add((name, extra))
        pins[name] = distribution.version.partition("+")[0]  # a local label such as +cpu is no public version
        for requirement in map(Requirement, distribution.requires or []):
            if requirement.marker is None or requirement.marker.evaluate({"extra": extra}):
                todo += [(requirement.name, one) for one in ("", *requirement.extras)]
    return [f"{name}=={pins[name]}" for name in sorted(pins)]


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


def pinned(path: Path) -> dict[str, str]:
    """Return the versions by package that a file of pins or a lock holds."""
    text = path.read_text() if path.exists() else ""
    return dict(re.findall(r"^([a-z0-9-]+)==([^\s;\\]+)", text, re.MULTILINE))


def blocks(lock: str) -> dict[str, str]:
    """Return each pin of a lock with its hashes, by package."""
    return {block.partition("==")[0]: block for block in re.findall(r"^[a-z0-9].*?(?=^\S|\Z)", lock, re.M | re.S)}


def resolve(lines: list[str], previous: Path | None = None) -> dict[str, str]:
    """Return pins with hashes of the packages and all that they need on any platform, by package, through uv.

    Pins of a previous lock are kept where they still fit.
    """
    program = shutil.which("uv")
    if program is None:
        sys.exit("uv: not on PATH; run `make lock`, which installs it")
    with tempfile.TemporaryDirectory() as folder:
        lock = Path(folder) / "lock"
        if previous and previous.exists():
            shutil.copy(previous, lock)
        words = ["--universal", "--python-version", LOWEST, "--generate-hashes", "--no-header", "--no-annotate"]
        subprocess.run(
            [program, "pip", "compile", "--no-config", "--quiet", *words, "--output-file", lock, "-"],
            input="\n".join(lines),
            text=True,
            check=True,
            stdout=subprocess.DEVNULL,
            env={name: value for name, value in os.environ.items() if not name.startswith("UV_")},
        )
        found = blocks(lock.read_text())
    return {name: block for name, block in found.items() if "sys_platform == 'win32'" not in block}


def cpu_build(version: str) -> str | None:
    """Return the pin with hash of torch's build without CUDA; None where pip finds none."""
    pin = f"torch=={version}+cpu"
    with tempfile.TemporaryDirectory() as folder:
        call = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", folder, pin]
        if subprocess.run(call, capture_output=True).returncode:
            return None
        file = next(Path(folder).iterdir())
        call = [sys.executable, "-m", "pip", "hash", file]
        words = subprocess.run(call, capture_output=True, text=True, check=True).stdout
    return f"{pin} \\\n    {words.split()[-1]}\n"


def write_locks() -> None:
    """Write the locks of the pins in `requirements*.txt`, and that of the tools."""
    default, development = (pinned(ROOT / name) for name in ("requirements.txt", "requirements-dev.txt"))
    lines = [f"{name}=={version}" for name, version in default.items()]
    everything = resolve(lines)
    more = resolve(lines + [f"{name}=={version}" for name, version in development.items()])
    torch = {name: block for name, block in everything.items() if name == "torch" or name not in default}
    parts = {
        "default": {name: block for name, block in everything.items() if name not in torch},
        "torch": torch,
        "development": {name: block for name, block in more.items() if name not in everything},
        "tools": resolve(TOOLS, LOCKS / "tools.lock"),
    }
    if cpu := cpu_build(default["torch"]):
        parts["torch-cpu"] = {"torch": cpu}
    else:
        print("torch-cpu.lock: no such build on this package index; left as it is")
    LOCKS.mkdir(exist_ok=True)
    for part, found in parts.items():
        text = "# Made by envs/lock.py --hashes\n" + "".join(found[name] for name in sorted(found))
        (LOCKS / f"{part}.lock").write_text(text)


def locks_that_differ() -> list[Path]:
    """Return the locks whose pins are not those of `requirements*.txt`."""
    default, development = (pinned(ROOT / name) for name in ("requirements.txt", "requirements-dev.txt"))
    torch = default.pop("torch")
    found = {part: pinned(LOCKS / f"{part}.lock") for part in ("default", "torch", "torch-cpu", "development")}
    agree = {
        "default": found["default"] == default,
        "torch": found["torch"].get("torch") == torch,
        "torch-cpu": found["torch-cpu"] == {"torch": f"{torch}+cpu"},
        "development": found["development"] == development,
    }
    return [LOCKS / f"{part}.lock" for part, good in agree.items() if not good]


def main() -> None:
    """Write or check the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    group = parser.add_mutually_exclusive_group()
    group.add_argument("--check", action="store_true", help="write nothing; fail if a file differs")
    group.add_argument("--hashes", action="store_true", help="write the locks anew (asks the package index)")
    arguments = parser.parse_args()
    check = arguments.check
    if arguments.hashes:
        return write_locks()
    stale = [path for path, text in locked().items() if not path.exists() or path.read_text() != text]
    for path in stale:
        print(f"{path.relative_to(ROOT)}: pins differ from what is installed" + ("" if check else "; rewritten"))
        if not check:
            path.write_text(locked()[path])
    old = locks_that_differ()
    for path in old:
        print(f"{path.relative_to(ROOT)}: pins differ from requirements*.txt; run `make lock`")
    sys.exit(check and bool(stale or old))


if __name__ == "__main__":
    main()
