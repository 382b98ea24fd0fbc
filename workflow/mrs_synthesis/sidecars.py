"""What BIDS sidecars say: header fields in the words and units of BIDS, URIs of sources, meanings of desc- labels."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

# What NIfTI-MRS names for the key Method of ProcessingApplied (specification, section 5.8; after Near et al. 2021,
# doi:10.1002/nbm.4257, tables 2-4)
METHODS = (
    "RF coil combination", "Eddy current correction", "Frequency and phase correction", "Signal averaging",
    "Alignment of subtraction sub-spectra", "Nuisance peak removal", "Phasing", "Apodization", "Zero-filling",
    "Subtraction / Addition of sub-spectra",
)  # fmt: skip
DATASETS = {"rawdata": "raw"}  # a dataset's folder, and what DatasetLinks calls it
# NIfTI-MRS's names of what BIDS has too; where only one is given, both have it
FIELDS = {
    "EchoTime": "EchoTime",
    "RepetitionTime": "RepetitionTime",
    "InversionTime": "InversionTime",
    "MixingTime": "MixingTime",
    "ExcitationFlipAngle": "FlipAngle",
    "WaterSuppressed": "WaterSuppression",
    "WaterSuppressionType": "WaterSuppressionTechnique",
    "Manufacturer": "Manufacturer",
    "ManufacturersModelName": "ManufacturersModelName",
    "SoftwareVersions": "SoftwareVersions",
    "SequenceName": "SequenceName",
    "RxCoil": "ReceiveCoilName",
}
SEQUENCES = {
    "press": "PRESS", "steam": "STEAM", "laser": "LASER", "slaser": "sLASER", "special": "SPECIAL",
    "megapress": "MEGA-PRESS", "megaslaser": "MEGA-sLASER", "megaspecial": "MEGA-SPECIAL",
}  # fmt: skip
LARGEST_VOXEL_MM = 1000.0  # above it: the placeholder of a converter that found no position
MODES = {
    "Random": "codes drawn from the model alone",
    "Interpolation": "codes between those of few real transients",
    "Hybrid": "codes scattered about those of few real transients",
}
DECODERS = {
    "Mean": "noise-free",
    "Sampled": "with the decoder's noise",
    "Acquired": "with noise, water and instabilities as acquired",
}
LABELS = {
    "preproc": "Preprocessed transients: coils combined, aligned, eddy currents and residual water removed, "
    "referenced; of a water reference the mean",
    "recon": "SYNTHETIC: every preprocessed transient passed through the model, without noise",
    **{
        f"synth{mode}{decoder}": f"SYNTHETIC transients from the model: {codes}; {noise}"
        for mode, codes in MODES.items()
        for decoder, noise in DECODERS.items()
    },
    "cells": "PARTLY SYNTHETIC: study cells, each the average of few real transients and what fills them up; see the "
    "table of the same label",
    "batched": "Linear-combination fits of the study cells by the workflow's own engine",
    "fslmrs": "Linear-combination fits of the study cells by FSL-MRS",
    "mean": "Mean of all preprocessed transients of a scan, and its fit",
    "posterior": "SYNTHETIC: noise-free draws from the model's posterior of a subject, and their fits",
    "random": "SYNTHETIC: noise-free spectra of subjects drawn from the model, and their fits",
}


STATEMENT = "SYNTHETIC: made by a model, not measured. Not for diagnosis."
MEMORISATION = (
    "Whether synthetic spectra are copies of training spectra: tables/memorisation.tsv and the model card "
    "(model/README.md) of the study, about its own model"
)


def model_facts(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the sidecar of whatever a model made says of the model, from the model's config.json."""
    counts = config.get("training", {}).get("counts", {}).get("train")
    trained = {"TrainingSet": {name.capitalize(): number for name, number in counts.items()}} if counts else {}
    return {
        "Synthetic": True,
        "SyntheticStatement": STATEMENT,
        "Model": config["model"],
        "ModelSHA256": config["weights_sha256"],
        **trained,
        "Memorisation": MEMORISATION,
    }


def uri(source: Path | str, output: Path | str) -> str:
    """Return what `Sources` calls a file: a BIDS URI if it lies in a dataset, else its path relative to `output`.

    Parameters
    ----------
    source
        The file.
    output
        The file whose sidecar names it: ``bids::`` means the dataset of this one.
    """
    root, inside = _split(source)
    if inside and root == _split(output)[0]:
        return f"bids::{inside}"
    if inside and root.name in DATASETS:
        return f"bids:{DATASETS[root.name]}:{inside}"
    return Path(os.path.relpath(source, Path(output).parent)).as_posix()


def _split(path: Path | str) -> tuple[Path, str]:
    """Return the dataset's root and the path inside it, which begins with the subject's folder (none: empty)."""
    path = Path(os.path.normpath(Path(path).absolute()))
    places = [i for i, part in enumerate(path.parts[:-1]) if re.fullmatch("sub-[A-Za-z0-9]+", part)]
    if not places:
        return path.parent, ""
    return Path(*path.parts[: places[-1]]), "/".join(path.parts[places[-1] :])


def label(path: Path | str) -> str:
    """Return the label of the entity ``desc`` in a file's name, or nothing."""
    found = re.search(r"_desc-([A-Za-z0-9]+)_", Path(path).name)
    return found[1] if found else ""


def fields(header: Mapping[str, Any], affine: np.ndarray, path: Path | str) -> dict[str, Any]:
    """Return what a sidecar can say of the acquisition.

    Parameters
    ----------
    header
        NIfTI-MRS header extension.
    affine
        Voxel position, shape (4, 4), mm.
    path
        The NIfTI-MRS file; the label of ``acq-`` in its name is the sequence.

    Returns
    -------
    dict
        BIDS names and units: times in s, flip angle in degrees, voxel in mm; the duration of edit pulses in ms, where
        the header has s, and their offset in ppm.
    """
    found = {name: header[key] for key, name in FIELDS.items() if header.get(key) not in (None, "")}
    pulses = header.get("EditPulse")
    if isinstance(pulses, Mapping) and pulses and all(isinstance(pulse, Mapping) for pulse in pulses.values()):
        found["EditPulse"] = {str(name): _edit_pulse(pulse) for name, pulse in pulses.items()}
    size = np.linalg.norm(np.asarray(affine, float)[:3, :3], axis=0)
    if np.all((size > 0) & (size < LARGEST_VOXEL_MM)):
        found["AcquisitionVoxelSize"] = [round(float(edge), 4) for edge in size]
    sequence = re.search(r"_acq-([A-Za-z0-9]+)_", Path(path).name)
    if sequence:
        found["PulseSequenceType"] = SEQUENCES.get(sequence[1].rstrip("0123456789").lower(), sequence[1])
    return found


def _edit_pulse(pulse: Mapping[str, Any]) -> dict[str, float]:
    values = {"FrequencyOffset": (pulse.get("PulseOffset"), 1.0), "PulseDuration": (pulse.get("PulseDuration"), 1e3)}
    # The product in decimals: 0.014 s is 14 ms, not 14.000000000000002
    return {name: float(f"{value * by:.9g}") for name, (value, by) in values.items() if isinstance(value, int | float)}
