"""A small study with known nuisances: preprocessed scans, and what preprocessing took from them, as its files."""

import json

import numpy as np
import pandas as pd

from mrs_synthesis import scans, spectra, wander
from mrs_synthesis.files import write_json, write_table

FREQUENCY, DWELL, POINTS = 123.25, 1 / 1000, 512
CONDITIONS = ("OFF", "ON")
NOISE = 0.02  # SD; scale is 1


def water(rng, n_conditions, n_transients, *, amplitude=1.0, place_hz=2.0, damping=30.0, dwell=DWELL, points=POINTS):
    """One Lorentzian whose log size and phase walk (SDs 0.15 and 0.25, memory 20 steps), and a small one at rest."""
    walk = wander.simulate(rng, n_conditions * n_transients, 20.0, [0.15, 0.25], [0.0, 0.0])
    size = amplitude * np.exp(walk[0] + 1j * (walk[1] + rng.uniform(-np.pi, np.pi)))
    size = size.reshape(n_transients, n_conditions).T
    t = spectra.time_axis(points, dwell)
    line = np.exp((2j * np.pi * place_hz - damping) * t) + 0.1 * np.exp((2j * np.pi * -12 - 60) * t)
    return size[..., None] * line


def draw_subject(rng, amplitude, n_conditions=2, n_transients=40, **raster):
    """Nuisance arrays of one subject."""
    n_steps = n_conditions * n_transients
    t = np.arange(n_steps)
    shift = wander.simulate(rng, n_steps, 25.0, [0.2], [0.05])[0] + rng.normal(0, 1.5) + rng.normal(0, 0.01) * t
    phase = wander.simulate(rng, n_steps, 25.0, [0.06], [0.05])[0] + rng.uniform(-np.pi, np.pi)
    size = amplitude * rng.lognormal(0, 0.3)
    signal = water(
        rng,
        n_conditions,
        n_transients,
        amplitude=size,
        place_hz=rng.normal(1, 2),
        damping=rng.uniform(20, 40),
        **raster,
    )
    return {
        "kept_index": np.arange(n_transients),
        "shift_hz": shift.reshape(n_transients, n_conditions).T,
        "phase_rad": np.angle(np.exp(1j * phase)).reshape(n_transients, n_conditions).T,
        "water_fid": signal.astype(np.complex64),
        "noise_sd": np.full((n_conditions, n_transients), NOISE),
    }


def write_study(folder, subjects, conditions=CONDITIONS):
    """Write a study, split; `subjects` are dictionaries of ``arrays``, ``site``, ``vendor`` and ``split``."""
    units, index = [], []
    for number, subject in enumerate(subjects):
        name, arrays = f"sub-{number:02d}", subject["arrays"]
        unit = f"{name}_acq-x"
        base = folder / "derivatives" / name / "mrs"
        base.mkdir(parents=True)
        shape = arrays["water_fid"].shape
        rng = np.random.default_rng([7, number])
        t = spectra.time_axis(shape[-1], DWELL)
        metabolites = 0.03 * np.exp((2j * np.pi * (2.0 - spectra.WATER_PPM) * FREQUENCY - 20) * t)
        fids = metabolites + NOISE * (rng.standard_normal((*shape, 2)) @ [1, 1j])
        edit = {"dim_6": "DIM_EDIT", "dim_6_header": {"EditCondition": list(conditions)}} if len(conditions) > 1 else {}
        header = {"SpectrometerFrequency": [FREQUENCY], "ResonantNucleus": ["1H"], "dim_5": "DIM_DYN"} | edit
        tags = ("DIM_DYN",) + ("DIM_EDIT",) * (len(conditions) > 1)
        scan = scans.Scan(fids[:, :, None], FREQUENCY, DWELL, header, conditions, np.eye(4), tags)
        scans.write_scan(base / f"{unit}_desc-preproc_svs.nii.gz", scan)
        sidecar = {"SpectralWidth": 1 / DWELL, "SpectrometerFrequency": [FREQUENCY]}
        write_json(base / f"{unit}_desc-preproc_svs.json", sidecar)
        np.savez(base / f"{unit}_desc-preproc_nuisance.npz", **arrays)
        units.append({"unit": unit, "folder": name, "subject": name[4:], "site": subject["site"]})
        units[-1] |= {"vendor": subject["vendor"], "split": subject["split"]}
        index += [
            {
                "unit": unit,
                "condition": c,
                "transient": k,
                "split": subject["split"],
                "scale": subject.get("scale", 1.0),
            }
            for c in conditions
            for k in range(shape[1])
        ]
    write_table(folder / "units.tsv", pd.DataFrame(units))
    table = pd.DataFrame(index)
    write_table(folder / "training" / "index.tsv", table[table["split"] != "test"])
    write_table(folder / "heldout" / "index.tsv", table[table["split"] == "test"])
    grid = {"conditions": list(conditions), "split_unit": "subject"}
    (folder / "training" / "grid.json").write_text(json.dumps(grid))
    return folder


def words(folder, **more):
    """Command-line words that name the study's files."""
    names = {"training": folder / "training", "derivatives": folder / "derivatives", "units": folder / "units.tsv"}
    return [word for name, value in (names | more).items() for word in (f"--{name}", str(value))]
