"""How FSL-MRS is found: in this interpreter, or else through the `fsl_mrs` command on PATH.

FSL-MRS (Clarke et al., Magn Reson Med 2021) comes as a conda package with an interpreter of its own. The stages that
use it are thus run again, with the same arguments, by the interpreter that its command names.
"""

from __future__ import annotations

import importlib.util
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mrs_synthesis.stage import InputError
from mrs_synthesis.writers import AGAIN as GUARD  # set in the second interpreter, so that there is never a third

COMMAND = "fsl_mrs"
# FSL-MRS makes temporary arrays of some MB at every evaluation of its model: fetching each from the system and giving
# it back costs up to as much as the arithmetic, and so do threads in products of that size. Both are read when a
# process starts. 32 MiB is the highest mmap threshold that every 64-bit glibc accepts.
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "MALLOC_MMAP_THRESHOLD_": str(32 * 2**20),
    "MALLOC_TRIM_THRESHOLD_": "2000000000",
}
HOW_TO_GET_IT = (
    "install it from FSL's conda channel (envs/fsl-mrs.yaml names it; free for non-commercial use only) and put its "
    "`fsl_mrs` command on PATH, or run with --sdm conda, or use the engine `batched`"
)


def is_importable() -> bool:
    """Return whether this interpreter can import FSL-MRS."""
    return importlib.util.find_spec("fsl_mrs") is not None


def find_interpreter() -> Path | None:
    """Return the Python interpreter of the `fsl_mrs` command on PATH, or None.

    It is read from the command's first line; where that names none (conda's long paths, ``/usr/bin/env``), it is
    the `python` that lies beside the command.
    """
    command = shutil.which(COMMAND)
    if command is None:
        return None
    with open(command, "rb") as stream:
        first = stream.readline(4096).decode("utf-8", errors="replace")
    words = shlex.split(first[2:].replace("'", "").replace('"', "")) if first.startswith("#!") else []
    candidates = [Path(words[0])] if words and "python" in Path(words[0]).name else []
    for folder in (Path(command).parent, Path(command).resolve().parent):
        candidates += [folder / "python", folder / "python3"]
    return next((path for path in candidates if path.is_file() and os.access(path, os.X_OK)), None)


def reexec_if_needed(module_name: str, argv: Sequence[str] | None) -> None:
    """Return if FSL-MRS can be imported here; otherwise run the module again where it can, and exit with its status.

    Call it before `run_subject`: without FSL-MRS no subject can succeed, so the program must fail.

    Parameters
    ----------
    module_name
        What to run, e.g. ``"mrs_synthesis.preprocess"``; a module with a command line.
    argv
        Its arguments; None: those of this process.

    Raises
    ------
    InputError
        If FSL-MRS is neither importable nor on PATH, or its interpreter cannot import it.
    SystemExit
        After the other interpreter has done the work, with its exit status.
    """
    if is_importable():
        return
    if os.environ.get(GUARD):
        raise InputError(f"FSL-MRS: {sys.executable} belongs to `{COMMAND}` but cannot import fsl_mrs; {HOW_TO_GET_IT}")
    interpreter = find_interpreter()
    if interpreter is None:
        raise InputError(
            f"FSL-MRS not found: no module fsl_mrs here and no command `{COMMAND}` on PATH; {HOW_TO_GET_IT}"
        )
    package_root = Path(__file__).resolve().parents[1]
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": str(package_root), "PYTHONNOUSERSITE": "1", GUARD: "1"}
    environment.pop("PYTHONHOME", None)
    arguments = list(sys.argv[1:] if argv is None else argv)
    sys.stdout.flush()
    finished = subprocess.run([str(interpreter), "-m", module_name, *map(str, arguments)], env=environment, check=False)
    raise SystemExit(finished.returncode if finished.returncode >= 0 else 128 - finished.returncode)
