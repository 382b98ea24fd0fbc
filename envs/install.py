"""Install the pins into the environment whose Python runs this: `make demo` and `make test` call it.

With hashes every file must be one of those that `envs/locks/` names, and nothing else is installed; a file that differs
ends the installation. They are asked for by default where the locks were tried: CPython 3.11 on Linux x86-64.
Elsewhere the same exact pins are installed without, unless --hashes yes asks for them.
"""

import argparse
import platform
import subprocess
import sys
import tempfile
from pathlib import Path

from lock import LOCKS, ROOT, blocks, locks_that_differ

TRIED = ("CPython", "3.11", "Linux", "x86_64")
NONE_SUCH = "No matching distribution found for torch"


def here() -> tuple[str, str, str, str]:
    """Return the Python and the platform in the words of `TRIED`."""
    version = ".".join(platform.python_version_tuple()[:2])
    return platform.python_implementation(), version, platform.system(), platform.machine()


def pip(*words: str, capture: bool = False) -> subprocess.CompletedProcess:
    """Run `pip install`."""
    call = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *words]
    return subprocess.run(call, stderr=subprocess.PIPE if capture else None, text=True)


def locked(path: Path, capture: bool = False) -> subprocess.CompletedProcess:
    """Install what a lock names, and nothing else."""
    # A source distribution is built with the locked setuptools, not with one that pip fetches unchecked
    words = ["--no-build-isolation", "--use-pep517", "--require-hashes", "--no-deps", "--requirement", str(path)]
    return pip(*words, capture=capture)


def with_hashes(development: bool) -> int:
    """Install the locks; return pip's exit status."""
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder) / "setuptools.lock"
        first.write_text(blocks((LOCKS / "default.lock").read_text())["setuptools"])
        status = locked(first).returncode or locked(LOCKS / "default.lock").returncode
    if status:
        return status
    cpu = locked(LOCKS / "torch-cpu.lock", capture=True)
    if NONE_SUCH in cpu.stderr:
        status = locked(LOCKS / "torch.lock").returncode
    else:
        print(cpu.stderr, end="", file=sys.stderr)
        status = cpu.returncode
    if development and not status:
        status = locked(LOCKS / "development.lock").returncode
    return status


def main() -> None:
    """Install; the exit status is pip's."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--development", action="store_true", help="what the tests need as well")
    parser.add_argument(
        "--hashes", choices=["auto", "yes", "no"], default="auto", help="auto: where the locks were tried"
    )
    arguments = parser.parse_args()
    if arguments.hashes == "yes" or (arguments.hashes == "auto" and here() == TRIED):
        if old := locks_that_differ():
            names = ", ".join(str(path.relative_to(ROOT)) for path in old)
            sys.exit(
                f"{names}: pins differ from requirements*.txt; run `make lock`, or install without: make HASHES=no"
            )
        if status := with_hashes(arguments.development):
            print(
                "Not installed: a file could not be had, or is not the one whose hash envs/locks/ names (pip says "
                "which). If your package index builds its own files and you trust it: make HASHES=no",
                file=sys.stderr,
            )
        sys.exit(status)
    if arguments.hashes == "auto":
        print(f"Exact pins without hashes: the locks were tried on {' '.join(TRIED)}, this is {' '.join(here())}")
    name = "requirements-dev.txt" if arguments.development else "requirements.txt"
    sys.exit(pip("--requirement", str(ROOT / name)).returncode)


if __name__ == "__main__":
    main()
