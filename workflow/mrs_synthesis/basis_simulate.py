"""Simulated basis sets: metabolites by density matrix, macromolecules as Gaussian resonances."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mrs_synthesis import simulation, spectra
from mrs_synthesis.basis import Basis, check_peaks, difference, write_set
from mrs_synthesis.metabolites import GABA_RANGE_PPM
from mrs_synthesis.stage import InputError, run

# (ppm, width in ppm, area in protons) of each resonance: LCModel's default simulated macromolecules (Provencher,
# LCModel manual, section 11.7)
MACROMOLECULES = {
    "MM09": ((0.91, 0.14, 3.0),),
    "MM12": ((1.21, 0.15, 2.0),),
    "MM14": ((1.43, 0.17, 2.0),),
    "MM17": ((1.67, 0.15, 2.0),),
    "MM20": ((2.08, 0.15, 1.33), (2.25, 0.20, 0.33), (1.95, 0.15, 0.33), (3.00, 0.20, 0.40)),
}
CO_EDITED = "MM3co"  # the co-edited resonance under GABA: 14 Hz wide at 3 T, Zollner et al., NMR Biomed 2022;35:e4618
CO_EDITED_PPM = 3.0
CO_EDITED_WIDTH_PPM = 14.0 / 127.73
# MM09 is co-edited too, with 3 protons for MM3co's 2 (same paper). This share of it refocuses without editing, so that
# the difference has 1.27:1, near that 3:2, where there is twice as much MM09 as MM3co (in GABA units)
MM09_OFF_SHARE = 0.6
EDITED_PPM = (0.5, 4.2)  # where a difference spectrum is fitted
EDITED_THRESHOLD = 0.05
TOLERANCE = 0.05


def macromolecule(name: str, condition: str, raster: Basis) -> np.ndarray:
    """Return the FID of a broad macromolecule in OFF, ON or UNEDITED, shape (n_points,).

    The editing pulses leave of a resonance what they leave of a singlet at its position: (1 - inversion) twice.
    """
    n_points = raster.fids.shape[1]
    fid = np.zeros(n_points, complex)
    for ppm, width_ppm, protons in MACROMOLECULES[name]:
        share = 1.0
        if condition in ("OFF", "ON"):
            pulse_ppm = simulation.EDIT_ON_PPM if condition == "ON" else simulation.EDIT_OFF_PPM
            share = (1 - float(simulation.inversion((ppm - pulse_ppm) * raster.frequency_mhz))) ** 2
        if name == "MM09" and condition == "OFF":
            share *= MM09_OFF_SHARE
        fid += share * protons * gaussian_fid(ppm, width_ppm, n_points, raster.dwell_s, raster.frequency_mhz)
    return fid


def gaussian_fid(ppm: float, width_ppm: float, n_points: int, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the FID of a Gaussian line of unit area and given full width at half maximum, shape (n_points,)."""
    t = spectra.time_axis(n_points, dwell_s)
    decay = np.exp(-((np.pi * width_ppm * frequency_mhz * t) ** 2) / (4 * np.log(2)))
    return decay * np.exp(2j * np.pi * (ppm - spectra.WATER_PPM) * frequency_mhz * t)


def metabolite_basis(
    steps: Sequence[simulation.Step], frequency_mhz: float, n_points: int, dwell_s: float, linewidth_hz: float
) -> Basis:
    """Simulate all metabolites with one pulse sequence."""
    names = sorted(simulation.spin_systems())
    fids = [
        simulation.line_fid(simulation.metabolite_lines(name, steps, frequency_mhz), n_points, dwell_s, linewidth_hz)
        for name in names
    ]
    return Basis(names, np.array(fids), dwell_s, frequency_mhz)


def integral(basis: Basis, name: str, low_ppm: float, high_ppm: float) -> float:
    """Return the integral of a real spectrum between two ppm, in protons: 1 for a line of FID amplitude 1 inside."""
    ppm = spectra.ppm_axis(basis.fids.shape[1], basis.dwell_s, basis.frequency_mhz)
    spectrum = spectra.to_spectrum(basis.fids[basis.names.index(name)])
    return 2 * float(np.mean(np.where((ppm > low_ppm) & (ppm < high_ppm), spectrum.real, 0.0)))


def _with(basis: Basis, fids: dict[str, np.ndarray]) -> Basis:
    return replace(basis, names=basis.names + list(fids), fids=np.vstack([basis.fids, *fids.values()]))


def simulate_set(
    sequence: str, te_s: float, frequency_mhz: float, n_points: int, dwell_s: float, linewidth_hz: float
) -> tuple[dict[str, Basis], dict[str, float]]:
    """Simulate every condition of a sequence.

    Returns
    -------
    bases
        ``UNEDITED`` for PRESS; ``OFF``, ``ON`` and ``DIFF`` (ON - OFF, no factor 1/2) for MEGA-PRESS. MM3co is in ON
        and DIFF; one unit has the same integral at 3.0 ppm in DIFF as one unit of GABA.
    left_out
        The metabolites without a signal in DIFF, with the norm of their difference relative to OFF in 0.5-4.2 ppm.
    """
    if sequence == "press":
        steps = {"UNEDITED": simulation.press(te_s)}
    else:
        pulses = {"OFF": simulation.EDIT_OFF_PPM, "ON": simulation.EDIT_ON_PPM}
        steps = {condition: simulation.mega_press(te_s, ppm) for condition, ppm in pulses.items()}
    bases = {
        condition: replace(
            metabolite_basis(step, frequency_mhz, n_points, dwell_s, linewidth_hz), te_ms=round(1e3 * te_s, 6)
        )
        for condition, step in steps.items()
    }
    for condition, basis in bases.items():
        broad = {name: macromolecule(name, condition, basis) for name in MACROMOLECULES}
        bases[condition] = _with(basis, broad)
    if sequence == "press":
        return bases, {}
    whole = difference(bases["ON"], bases["OFF"])
    ppm = spectra.ppm_axis(n_points, dwell_s, frequency_mhz)
    inside = (ppm > EDITED_PPM[0]) & (ppm < EDITED_PPM[1])
    norms = [np.linalg.norm(spectra.to_spectrum(b.fids)[:, inside], axis=1) for b in (whole, bases["OFF"])]
    ratio = dict(zip(whole.names, norms[0] / norms[1], strict=True))
    line = gaussian_fid(CO_EDITED_PPM, CO_EDITED_WIDTH_PPM, n_points, dwell_s, frequency_mhz)
    unit = _with(whole, {CO_EDITED: line})
    line *= integral(unit, "GABA", *GABA_RANGE_PPM) / integral(unit, CO_EDITED, *GABA_RANGE_PPM)
    kept = [name for name in whole.names if ratio[name] >= EDITED_THRESHOLD]
    bases["ON"] = _with(bases["ON"], {CO_EDITED: line})
    bases["DIFF"] = _with(whole.select(kept), {CO_EDITED: line})
    return bases, {name: round(float(r), 6) for name, r in ratio.items() if name not in kept}


def measure(bases: dict[str, Basis]) -> dict[str, dict[str, float]]:
    """Measure what is known of these spectra: peak positions, protons of singlets, signs of editing.

    Raises
    ------
    InputError
        If one is wrong, which happens at field strengths far from 3 T or with a raster too coarse for the spectrum.
    """
    checks: dict[str, dict[str, float]] = {
        condition: check_peaks(basis, condition) for condition, basis in bases.items()
    }
    for condition in bases.keys() & {"OFF", "UNEDITED"}:
        protons = integral(bases[condition], "Cr", 2.7, 3.3)
        checks[condition]["Cr_methyl_protons"] = round(protons, 4)
        if abs(protons / 3 - 1) > TOLERANCE:
            raise InputError(f"basis {condition}: the methyl singlet of Cr has {protons:.2f} protons, expected 3")
    if "DIFF" in bases:
        gaba = integral(bases["DIFF"], "GABA", *GABA_RANGE_PPM)
        left = abs(integral(bases["ON"], "NAA", 1.9, 2.1) / integral(bases["OFF"], "NAA", 1.9, 2.1))
        checks["DIFF"]["GABA_protons_at_3ppm"] = round(gaba, 4)
        checks["ON"]["NAA_share_left"] = round(left, 4)
        if gaba <= 0 or left > TOLERANCE:
            raise InputError(
                f"basis: GABA at 3.0 ppm {gaba:.2f} protons in ON - OFF (expected > 0), {100 * left:.0f} % of NAA left "
                "in ON (expected none); use a field strength and echo time at which MEGA-PRESS edits GABA"
            )
    return checks


def main(argv: Sequence[str] | None = None) -> None:
    """Simulate a basis set with ideal pulses and write it as FSL-MRS JSON files, one folder per edit condition."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.basis_simulate", description=main.__doc__)
    parser.add_argument("--sequence", choices=("mega-press", "press"), required=True)
    parser.add_argument("--te-ms", type=float, required=True, help="echo time")
    parser.add_argument("--frequency-mhz", type=float, required=True, help="spectrometer frequency")
    parser.add_argument("--dwell", type=float, default=0.0005, help="dwell time in s (default %(default)s)")
    parser.add_argument(
        "--points",
        type=int,
        default=2560,
        help="points; points x dwell must cover the data's FIDs (default %(default)s)",
    )
    parser.add_argument("--linewidth-hz", type=float, default=2.0, help="Lorentzian width (default %(default)s)")
    parser.add_argument("--output", type=Path, required=True, help="folder of the set")
    args = parser.parse_args(argv)
    if min(args.te_ms, args.frequency_mhz, args.dwell, args.points, args.linewidth_hz) <= 0:
        raise InputError("--te-ms, --frequency-mhz, --dwell, --points and --linewidth-hz must be positive")
    try:
        bases, left_out = simulate_set(
            args.sequence, args.te_ms / 1e3, args.frequency_mhz, args.points, args.dwell, args.linewidth_hz
        )
    except ValueError as error:
        raise InputError(f"--te-ms {args.te_ms:g}: {error}") from None
    facts = {
        "sequence": args.sequence,
        "te_ms": args.te_ms,
        "linewidth_hz": args.linewidth_hz,
        "pulses": "ideal; editing pulse with Gaussian inversion profile of 60 Hz at 1.9 ppm (ON) and 7.5 ppm (OFF)"
        if args.sequence == "mega-press"
        else "ideal",
        "left_out_of_diff": left_out,
    }
    write_set(args.output, bases, measure(bases), **facts)
    for condition, basis in bases.items():
        print(f"{condition}: {', '.join(basis.names)}")


if __name__ == "__main__":
    run(main)
