"""What a finished training wrote, kept beside its checkpoint, so that an equal training is not done again.

A workflow deletes a rule's outputs before it runs the rule anew, though nothing that decides them may have changed.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mrs_synthesis.files import sha256, write_json, write_whole

RECORD = "finished.json"
FOLDER = "finished"


def code_of(names: Iterable[str]) -> dict[str, str]:
    """Return the SHA-256 of modules of this package, by name."""
    return {name: sha256(Path(__file__).with_name(f"{name}.py")) for name in names}


def key_of(made_by: Mapping[str, Any]) -> str:
    """Return the SHA-256 of everything that decides the files."""
    return hashlib.sha256(json.dumps(made_by, sort_keys=True).encode()).hexdigest()


def keep(checkpoint: Path, output: Path, names: Iterable[str], key: str) -> None:
    """Copy the files `names` of `output` into the checkpoint's folder, and last write what they are."""
    checkpoint = Path(checkpoint)
    (checkpoint / RECORD).unlink(missing_ok=True)
    hashes = {}
    for name in names:
        with write_whole(checkpoint / FOLDER / name) as temporary:
            shutil.copyfile(Path(output) / name, temporary)
        hashes[name] = sha256(checkpoint / FOLDER / name)
    write_json(checkpoint / RECORD, {"key": key, "files": hashes})


def is_kept(checkpoint: Path, key: str) -> bool:
    """Tell whether the files of this key are kept, whole."""
    try:
        record = json.loads((Path(checkpoint) / RECORD).read_text(encoding="utf-8"))
        files = record["files"].items()
        return record["key"] == key and all(sha256(checkpoint / FOLDER / name) == digest for name, digest in files)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def restore(checkpoint: Path, output: Path) -> None:
    """Copy the kept files to `output`; `is_kept` must have said so."""
    for name in json.loads((Path(checkpoint) / RECORD).read_text(encoding="utf-8"))["files"]:
        with write_whole(Path(output) / name) as temporary:
            shutil.copyfile(Path(checkpoint) / FOLDER / name, temporary)
