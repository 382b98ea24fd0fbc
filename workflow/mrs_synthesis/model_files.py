"""A trained model on disk: tensors in ``model.safetensors``, everything else in ``config.json``.

Reading either runs no code. Weights are used only if they are, to the byte, those that config.json names, and have the
names, shapes and types that it lists and that the model it describes has. Both can be exchanged together: that such a
model is not the study's is seen from the grid and the data it was trained on (`check_grid`).
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrs_synthesis.files import sha256, write_json, write_whole
from mrs_synthesis.stage import InputError

FORMAT = 1  # of both files; another one is refused
MODELS = ("paper", "subject")
CONFIG, WEIGHTS = "config.json", "model.safetensors"
IMAGINARY = ".imaginary"  # end of the name of a complex tensor's second part
RETRAIN = "train the model again"
DATA = ("spectra_sha256", "part_of")  # keys of a grid that say which data, not where the points lie

Layout = Mapping[str, tuple[str, tuple[int, ...]]]  # type and shape of tensors, by name


def layout_of(tensors: Mapping[str, np.ndarray]) -> dict[str, tuple[str, tuple[int, ...]]]:
    """Return type and shape of arrays, by name."""
    return {name: (str(array.dtype), array.shape) for name, array in tensors.items()}


def write_arrays(path: Path | str, arrays: Mapping[str, np.ndarray]) -> str:
    """Write arrays as safetensors, complex ones as two; return the file's SHA-256. Equal arrays give equal bytes."""
    from safetensors.numpy import save_file

    tensors = {name: np.asarray(array.real, order="C") for name, array in arrays.items()}
    tensors |= {
        f"{name}{IMAGINARY}": np.asarray(array.imag, order="C")
        for name, array in arrays.items()
        if array.dtype.kind == "c"
    }
    with write_whole(path) as temporary:
        save_file(tensors, temporary)
    return sha256(path)


def read_arrays(path: Path | str, digest: str) -> dict[str, np.ndarray]:
    """Return what `write_arrays` wrote; OSError or ValueError if it is not what has this SHA-256, or not finite."""
    tensors = _read(Path(path), digest)
    whole = {name: array for name, array in tensors.items() if not name.endswith(IMAGINARY)}
    return {
        name: array + 1j * tensors[f"{name}{IMAGINARY}"] if f"{name}{IMAGINARY}" in tensors else array
        for name, array in whole.items()
    }


def _read(path: Path, digest: str) -> dict[str, np.ndarray]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    content = path.read_bytes()  # once, so that what is used is what was hashed
    found = hashlib.sha256(content).hexdigest()
    if found != digest:
        raise ValueError(f"SHA-256 {found[:12]}..., {CONFIG} names {str(digest)[:12]}...")
    try:
        tensors = load(content)
    except (SafetensorError, KeyError, TypeError) as error:  # of a type that numpy has not
        raise ValueError(f"no tensors ({one_line(error)})") from None
    for name, array in tensors.items():
        if not np.isfinite(array).all():
            raise ValueError(f"{name} holds numbers that are not finite")
    return tensors


def write(folder: Path | str, tensors: Mapping[str, np.ndarray], config: Mapping[str, Any]) -> str:
    """Write a model; config.json holds `config` and what vouches for the weights. Return their SHA-256."""
    folder = Path(folder)
    digest = write_arrays(folder / WEIGHTS, tensors)
    listed = {name: {"dtype": dtype, "shape": list(shape)} for name, (dtype, shape) in layout_of(tensors).items()}
    write_json(folder / CONFIG, {**config, "format": FORMAT, "tensors": listed, "weights_sha256": digest})
    return digest


def read_config(folder: Path | str, kind: str | None = None) -> dict[str, Any]:
    """Return a model's config.json.

    Raises
    ------
    InputError
        If there is none, or it is not of this format, of a known model (of `kind`, if given), on a grid.
    """
    path = Path(folder) / CONFIG
    kinds = MODELS if kind is None else (kind,)
    try:
        config = read_object(path)
        if config.get("model") not in kinds:
            raise ValueError(f"model {config.get('model')!r}, expected {' or '.join(kinds)}")
        if config.get("format") != FORMAT:
            raise ValueError(f"format {config.get('format')!r}, expected {FORMAT}")
        _check_grid_itself(config.get("grid"))
        digest = config.get("weights_sha256")
        if not (isinstance(digest, str) and len(digest) == 64 and set(digest) <= set("0123456789abcdef")):
            raise ValueError(f"weights_sha256 {str(digest)[:70]!r}, expected 64 hexadecimal digits")
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no usable config of a model ({one_line(error)}); {RETRAIN}") from None
    return config


def read_object(path: Path) -> dict[str, Any]:
    """Return a JSON file's object; ValueError if it holds something else."""
    content = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(content, dict):
        raise ValueError(f"it holds a {type(content).__name__}, expected an object")
    return content


def _check_grid_itself(grid: Any) -> None:
    if not isinstance(grid, dict):
        raise ValueError("no object grid")
    ppm, conditions = grid.get("ppm"), grid.get("conditions")
    numbers = isinstance(ppm, list) and all(type(one) in (int, float) and math.isfinite(one) for one in ppm)
    if not numbers or len(ppm) < 2 or any(low >= high for low, high in itertools.pairwise(ppm)):
        raise ValueError("grid: ppm is no list of increasing numbers")
    check_names(conditions, "grid: conditions")
    if not conditions:
        raise ValueError("grid: no conditions")


def read_tensors(folder: Path | str, config: Mapping[str, Any], expected: Layout) -> dict[str, np.ndarray]:
    """Return a model's tensors.

    Parameters
    ----------
    folder
        Of the model.
    config
        Its config.json, as `read_config` returns it.
    expected
        What a model as config.json describes it has.

    Raises
    ------
    InputError
        If there are none, they are not those that config.json names, or a number is not finite.
    """
    path = Path(folder) / WEIGHTS
    try:
        tensors = _read(path, config["weights_sha256"])
        layout = layout_of(tensors)
        compare(layout, expected, "the model")
        compare(layout, listed(config), "the list")
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: weights refused ({one_line(error)}); {RETRAIN}") from None
    return tensors


def listed(config: Mapping[str, Any]) -> Layout:
    """Return what a config.json lists; ValueError if it lists nothing."""
    try:
        return {name: (one["dtype"], tuple(one["shape"])) for name, one in config["tensors"].items()}
    except (KeyError, TypeError, AttributeError):
        raise ValueError(f"{CONFIG} lists no tensors") from None


def compare(found: Layout, expected: Layout, what: str) -> None:
    """Check names, types and shapes of tensors against those of `what` of config.json.

    Raises
    ------
    ValueError
        At the first difference.
    """
    for name in sorted({*found, *expected}):
        if name not in expected:
            raise ValueError(f"tensor {name}, which {what} in {CONFIG} has not")
        if name not in found:
            raise ValueError(f"no tensor {name}, which {what} in {CONFIG} has")
        if found[name] != expected[name]:
            told = " ".join(map(str, found[name])), " ".join(map(str, expected[name]))
            raise ValueError(f"{name} is {told[0]}, {what} in {CONFIG} has {told[1]}")


def one_line(error: object, longest: int = 300) -> str:
    """Return an error's text without line breaks, cut: it may quote a file."""
    text = " ".join(str(error).split())
    return text if len(text) <= longest else f"{text[:longest]}..."


def check_grid(folder: Path | str, config: Mapping[str, Any], training: Path | str) -> None:
    """Check that a model was trained on the training set of a folder, or on a part of it.

    Raises
    ------
    InputError
        If ppm, frequency, conditions or another key of grid.json differs, or the spectra are others.
    """
    path = Path(training) / "grid.json"
    grid = config["grid"]
    try:
        study = read_object(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: no usable grid ({one_line(error)}); assemble it again") from None
    differing = sorted(key for key in grid.keys() | study.keys() if key not in DATA and grid.get(key) != study.get(key))
    if not differing and _data(grid, *reversed(DATA)) != _data(study, DATA[0]):
        differing = ["spectra"]
    if differing:
        raise InputError(f"{folder}: the model was trained on another study (other {', '.join(differing)}); {RETRAIN}")


def _data(grid: Mapping[str, Any], *keys: str) -> Any:
    return next((grid[key] for key in keys if key in grid), None)


def check_names(names: Any, what: str) -> None:
    """Check that `names` is a list of different texts; ValueError if not."""
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names) or len(set(names)) < len(names):
        raise ValueError(f"{what} is no list of different names")
