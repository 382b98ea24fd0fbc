"""How well edit-ON is aligned to edit-OFF, and what is left of it in GABA+: methods compared on the digital phantom.

Every realisation is another subject of the phantom (drift, phase jitter, bad transients, residual water, eddy currents,
noise), preprocessed by the engine `batched` up to the alignment of the averages. Each method then gets the same two
averages. Where they truly lie is known from the shifts and phases that the phantom put on the transients.

What a misalignment does to GABA+ is told by fits of the difference ON - OFF: each against the fit of the same averages,
with the same noise, at their true alignment. tCr comes from edit-OFF, which no method moves, so that the relative error
of GABA+/tCr is that of GABA+.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import alignment, edit_alignment, phantom, phantom_signal, spectra
from mrs_synthesis.basis import Basis
from mrs_synthesis.preprocess_batched import Options, process
from mrs_synthesis.scans import Scan
from mrs_synthesis.stage import InputError, run

if TYPE_CHECKING:
    import pandas as pd

SITE = phantom.SITES["philips"]  # coils already combined: they play no part here
N_TRANSIENTS = 80  # per condition
SNR = 15.0  # of tCr in one transient, as in vivo
DIFF_PPM = (0.5, 4.2)  # fit range of difference spectra
SUMS = {"GABA+": ("GABA", "MM3co"), "tCr": ("Cr", "PCr")}
TRUE = "true"
DEFAULT = "match_edited"

Method = Callable[[np.ndarray, np.ndarray], tuple[float, float]]  # ON, OFF -> shift (Hz), phase (rad)

DESCRIPTIONS = {
    "method": {
        "Description": "How the average of edit-ON was aligned to that of edit-OFF",
        "Levels": {
            TRUE: "by the phantom's own shifts and phases: the error of the fit alone, against the concentrations",
            "none": "not at all, after transients were aligned within each condition and tCr superposed roughly",
            "own_reference": "the line of tCr fitted in each average",
            "fsl_mrs_0.2_4.2": "FSL-MRS's least squares, its default window",
            "fsl_mrs_2.9_3.3": "FSL-MRS's least squares on tCr and tCho",
            "match_edited_2.7_3.4": "the engine batched's method in a wider window",
            DEFAULT: "what the engine batched does: least squares with GABA+ and other signals' tails fitted along",
        },
    },
    "realisations": {"Description": "Subjects simulated"},
    "shift_mean_hz": {"Description": "Mean of what is left between ON and OFF, ON minus OFF", "Units": "Hz"},
    "shift_sd_hz": {"Description": "Its SD between realisations", "Units": "Hz"},
    "shift_rms_hz": {"Description": "Its root mean square", "Units": "Hz"},
    "phase_mean_deg": {"Description": "Mean of the phase left between ON and OFF, ON minus OFF", "Units": "degree"},
    "phase_sd_deg": {"Description": "Its SD between realisations", "Units": "degree"},
    "phase_rms_deg": {"Description": "Its root mean square", "Units": "degree"},
    "gaba_bias_percent": {
        "Description": "Mean relative error of GABA+/tCr by alignment alone: against the fit of the same averages at "
        "their true alignment; of method true: against the true ratio",
        "Units": "percent",
    },
    "gaba_bias_se_percent": {"Description": "Standard error of this mean", "Units": "percent"},
    "gaba_sd_percent": {"Description": "SD of this error between realisations", "Units": "percent"},
    "gaba_rms_percent": {"Description": "Root mean square of this error", "Units": "percent"},
    "fits_left_out": {"Description": "Fits that did not converge; left out of the columns on GABA+"},
}


@dataclass
class Realisation:
    """Averages (points,) before their alignment, what truly lies between them, and the true GABA+/tCr."""

    off: np.ndarray
    on: np.ndarray
    shift_hz: float
    phase_rad: float
    gaba_per_tcr: float


def methods(frequency_mhz: float, dwell_s: float = phantom_signal.DWELL_S) -> dict[str, Method]:
    """Return the methods compared."""
    raster = {"dwell_s": dwell_s, "frequency_mhz": frequency_mhz}
    return {
        "none": lambda on, off: (0.0, 0.0),
        "own_reference": partial(own_reference, **raster),
        "fsl_mrs_0.2_4.2": partial(edit_alignment.least_squares, **raster, limits_ppm=(0.2, 4.2)),
        "fsl_mrs_2.9_3.3": partial(edit_alignment.least_squares, **raster, limits_ppm=(2.9, 3.3)),
        "match_edited_2.7_3.4": partial(edit_alignment.match_edited, **raster, limits_ppm=(2.7, 3.4)),
        DEFAULT: partial(edit_alignment.match_edited, **raster, limits_ppm=Options().edit_align_ppm),
    }


def own_reference(on: np.ndarray, off: np.ndarray, dwell_s: float, frequency_mhz: float) -> tuple[float, float]:
    """Return the shift (Hz) and phase (rad) between the lines of tCr fitted in ON and in OFF."""
    ppm = spectra.ppm_axis(off.size, dwell_s, frequency_mhz)
    lines = alignment.fit_lines(spectra.to_spectrum(np.stack([off, on])), ppm, frequency_mhz)
    turn = np.angle(np.exp(1j * (lines.phase_rad[0] - lines.phase_rad[1])))
    return float((lines.ppm[0] - lines.ppm[1]) * frequency_mhz), float(turn)


def phantom_basis_sets(frequency_mhz: float) -> dict[str, Basis]:
    """Simulate the phantom's OFF, ON and DIFF basis in memory, twice as fine as its FIDs."""
    from mrs_synthesis.basis_simulate import simulate_set

    dwell, n_points = phantom_signal.DWELL_S / 2, 2 * phantom_signal.N_POINTS
    return simulate_set("mega-press", phantom.TE_S, frequency_mhz, n_points, dwell, 2.0)[0]


def phantom_bases(sets: dict[str, Basis]) -> np.ndarray:
    """Return the FIDs of the phantom's metabolites on its raster, (2, metabolites, points), as `phantom.read_bases`."""
    names = list(phantom.CONCENTRATIONS)
    fids = np.zeros((2, len(names), phantom_signal.N_POINTS), complex)
    for index, condition in enumerate(phantom_signal.CONDITIONS):
        basis = sets[condition]
        for name, fid in zip(basis.names, basis.fids, strict=True):
            if name in names:
                fids[index, names.index(name)] = fid[::2][: phantom_signal.N_POINTS]
    return fids


def realise(bases: np.ndarray, seed: int, index: int, n_transients: int = N_TRANSIENTS) -> Realisation:
    """Make and preprocess one subject.

    What truly lies between the averages is the mean over the kept pairs of (true + corrected) of ON minus that of OFF;
    pairs that motion spoilt, which have no one shift, are left out of it.
    """
    fids, reference, concentrations, truth = phantom.make_subject(
        f"alignment-{index}", SITE, bases, seed, n_transients, SNR
    )
    scan = Scan(fids, SITE.frequency_mhz, phantom_signal.DWELL_S, conditions=("OFF", "ON"))
    water = Scan(reference[None], SITE.frequency_mhz, phantom_signal.DWELL_S)
    done = process(scan, water, Options())
    kept = np.all(done.reason == "", axis=0)
    off, on = done.fids[:, kept].mean(axis=1)
    known = kept & ~np.any(truth["bad"], axis=0)
    shift = np.diff((done.shift_hz + truth["shift_hz"])[:, known], axis=0).mean()
    turn = np.exp(1j * np.diff((done.phase_rad + truth["phase_rad"])[:, known], axis=0)).mean()
    # The engine's own alignment of the averages is undone
    own_hz, own_rad = done.facts["edit_shift_hz"], np.radians(done.facts["edit_phase_deg"])
    on = spectra.shift_and_phase(on, scan.dwell_s, -own_hz, -own_rad)
    total = {name: sum(concentrations[m] for m in members) for name, members in SUMS.items()}
    return Realisation(off, on, float(shift) - own_hz, float(np.angle(turn)) - own_rad, total["GABA+"] / total["tCr"])


def amplitudes(fids: np.ndarray, basis: Basis, condition: str, members: Sequence[str]) -> np.ndarray:
    """Fit spectra of FIDs (cells, points) as the workflow does by default, and return a sum's amplitudes, (cells,).

    NaN where the fit did not converge.
    """
    from mrs_synthesis import lcm, lcm_model, metabolites

    ppm_range = DIFF_PPM if condition == "DIFF" else lcm_model.METABOLITE_RANGE_PPM
    basis = metabolites.fitted(basis, condition, metabolites.UNUSUAL, ppm_range)
    model = lcm_model.build(
        basis,
        fids.shape[1],
        phantom_signal.DWELL_S,
        SITE.frequency_mhz,
        groups=metabolites.groups(basis.names, condition),
        options=lcm_model.Options(ppm_range=ppm_range),
    )
    result = lcm.fit(fids, model)
    columns = [model.names.index(name) for name in members]
    total = result.c[:, columns].sum(axis=1) * model.basis_scale / result.fid_scale
    return np.where(result.converged, total, np.nan)


def summary(left: np.ndarray, error: np.ndarray) -> dict[str, float]:
    """Return the statistics of one method.

    Parameters
    ----------
    left
        Shift (Hz) and phase (degrees) left in each realisation, shape (realisations, 2).
    error
        Relative error of GABA+/tCr in percent, shape (realisations,); NaN is left out.
    """
    row: dict[str, float] = {"realisations": len(left)}
    for name, values in zip(("shift_{}_hz", "phase_{}_deg"), left.T, strict=True):
        row |= {name.format(key): value for key, value in _moments(values).items()}
    fitted = error[np.isfinite(error)]
    moments = _moments(fitted)
    return row | {
        "gaba_bias_percent": moments["mean"],
        "gaba_bias_se_percent": moments["sd"] / np.sqrt(max(fitted.size, 1)),
        "gaba_sd_percent": moments["sd"],
        "gaba_rms_percent": moments["rms"],
        "fits_left_out": error.size - fitted.size,
    }


def _moments(values: np.ndarray) -> dict[str, float]:
    if values.size < 2:
        return dict.fromkeys(("mean", "sd", "rms"), float("nan"))
    mean, spread = float(values.mean()), float(values.std(ddof=1))
    return {"mean": mean, "sd": spread, "rms": float(np.sqrt(np.mean(values**2)))}


def study(seed: int, realisations: int, n_transients: int = N_TRANSIENTS) -> pd.DataFrame:
    """Run the study and return its table, one row per method."""
    import pandas as pd

    sets = phantom_basis_sets(SITE.frequency_mhz)
    bases = phantom_bases(sets)
    compared = methods(SITE.frequency_mhz)
    left = {name: np.zeros((realisations, 2)) for name in (TRUE, *compared)}
    differences = {name: [] for name in left}
    offs, truth = [], []
    for index in range(realisations):
        subject = realise(bases, seed, index, n_transients)
        offs.append(subject.off)
        truth.append(subject.gaba_per_tcr)
        for name in left:
            known = (-subject.shift_hz, -subject.phase_rad)
            moved = known if name == TRUE else compared[name](subject.on, subject.off)
            on = spectra.shift_and_phase(subject.on, phantom_signal.DWELL_S, *map(np.asarray, moved))
            differences[name].append(on - subject.off)
            left[name][index] = subject.shift_hz + moved[0], np.degrees(subject.phase_rad + moved[1])
        if (index + 1) % 20 == 0:
            print(f"{index + 1} of {realisations} subjects", flush=True)
    tcr = amplitudes(np.array(offs), sets["OFF"], "OFF", SUMS["tCr"])
    every = np.concatenate([np.array(differences[name]) for name in left])
    gaba = amplitudes(every, sets["DIFF"], "DIFF", SUMS["GABA+"]).reshape(len(left), realisations)
    ratio = dict(zip(left, gaba / tcr, strict=True))
    against = dict.fromkeys(compared, ratio[TRUE]) | {TRUE: np.array(truth)}
    rows = [{"method": name} | summary(left[name], 100 * (ratio[name] / against[name] - 1)) for name in left]
    return pd.DataFrame(rows)


def main(argv: Sequence[str] | None = None) -> None:
    """Compare methods of aligning edit-ON to edit-OFF on the digital phantom."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.alignment_study", description=main.__doc__)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--realisations", type=int, default=200, help="subjects simulated; default: %(default)s")
    parser.add_argument("--output", type=Path, required=True, help="table (TSV), one row per method")
    args = parser.parse_args(argv)
    if args.realisations < 2:
        raise InputError(f"--realisations {args.realisations}: expected at least 2")
    from mrs_synthesis.dictionary import write_described_table

    table = study(args.seed, args.realisations)
    about = "Alignment of edit-ON to edit-OFF on the digital phantom; one row per method"
    write_described_table(args.output, table, about, DESCRIPTIONS)
    for row in table.to_dict("records"):
        print(
            f"{row['method']:20s} {row['shift_rms_hz']:.3f} Hz, {row['phase_rms_deg']:.2f} degrees (RMS); GABA+/tCr "
            f"{row['gaba_bias_percent']:+.1f} % (SD {row['gaba_sd_percent']:.1f} %)",
            flush=True,
        )


if __name__ == "__main__":
    run(main)
