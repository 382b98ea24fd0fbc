"""Preprocessing step by step: the engine `batched` against FSL-MRS's functions on the same data, and against the truth.

Both engines get the same input for every step, so that the differences are those of the step alone. Scans of the
digital phantom come with the truth: each engine's own error is then told, and which is the smaller.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from mrs_synthesis import alignment, edit_alignment, hlsvd, phantom, preprocess_batched, spectra
from mrs_synthesis import phantom_signal as signal
from mrs_synthesis.alignment_study import phantom_bases, phantom_basis_sets
from mrs_synthesis.preprocess_batched import Options, Processed
from mrs_synthesis.scans import Scan, read_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError, run

N_TRANSIENTS, SNR = 64, 15.0
WATER_SAMPLE = 16  # transients per condition that water is removed from: FSL-MRS takes 0.1 to 1 s for each
FSL_EDIT_ALIGN_PPM = (1.9, 4.2)  # of transients, in fsl_mrs_preproc_edit
FSL_CONDITION_PPM = (0.2, 4.2)  # of the conditions
WATER_RANGES_PPM = ((0.2, 1.8), (1.8, 3.4), (3.4, 4.2))

DESCRIPTIONS = {
    "dataset": {"Description": "Scan: of the phantom, or a file's name"},
    "step": {"Description": "Step of preprocessing; both engines get the same input"},
    "quantity": {"Description": "What is compared"},
    "quantity_unit": {"Description": "Unit of the three figures"},
    "n": {"Description": "Values compared: transients, conditions or coils"},
    "difference_rms": {"Description": "Root mean square of the difference between the engines"},
    "batched_error_rms": {"Description": "Root mean square error of the engine batched, where the truth is known"},
    "fsl_mrs_error_rms": {"Description": "Root mean square error of FSL-MRS's function, where the truth is known"},
    "nearer": {"Description": "Engine with the smaller error; equal within 2 %"},
}


@dataclass
class Truth:
    """What the phantom did to the transients.

    Attributes
    ----------
    shift_hz, phase_rad, bad
        (E, T): put on each transient, and whether motion spoilt it.
    eddy_rad
        (points,): eddy currents' phase.
    water
        (E, T, points): residual water as received by a coil of unit sensitivity.
    sensitivity, covariance
        Of the coils: (coils,) and (coils, coils).
    """

    shift_hz: np.ndarray
    phase_rad: np.ndarray
    bad: np.ndarray
    eddy_rad: np.ndarray
    water: np.ndarray
    sensitivity: np.ndarray
    covariance: np.ndarray


def make_phantom(seed: int, index: int, n_transients: int = N_TRANSIENTS) -> tuple[Scan, Scan, Truth]:
    """Return a scan of four coils, its water reference, and the truth."""
    site, name = phantom.SITES["siemens"], f"agreement-{index}"
    bases = phantom_bases(phantom_basis_sets(site.frequency_mhz))
    fids, reference, _, known = phantom.make_subject(name, site, bases, seed, n_transients, SNR)
    stream = partial(generator, seed, "phantom", name)  # the same random numbers again: water is not handed out
    shape = signal.draw_shape(stream("shape"), site)
    motion = signal.draw_motion(stream, site, n_transients)
    water = signal.transients(
        np.zeros((2, signal.N_POINTS), complex), signal.residual_water(stream, site, n_transients)[0], motion, shape
    )
    coil = {key: np.array(known[f"coil_{key}"]["re"]) + 1j * np.array(known[f"coil_{key}"]["im"]) for key in COIL}
    truth = Truth(
        np.array(known["shift_hz"]),
        np.array(known["phase_rad"]),
        np.array(known["bad"]),
        shape.eddy_phase,
        site.gain * water,
        coil["sensitivity"],
        coil["noise_covariance"],
    )
    scan = Scan(fids, site.frequency_mhz, signal.DWELL_S, conditions=("OFF", "ON"))
    return scan, Scan(reference[None], site.frequency_mhz, signal.DWELL_S), truth


COIL = ("sensitivity", "noise_covariance")


class Comparison:
    """One scan, with the rows of the table that it gives."""

    def __init__(self, dataset: str, scan: Scan, water: Scan | None, truth: Truth | None) -> None:
        self.dataset, self.scan, self.water, self.truth = dataset, scan, water, truth
        self.options = Options(ecc=water is not None)
        self.raster = (scan.dwell_s, scan.frequency_mhz)
        self.rows: list[dict] = []
        self.done: Processed = preprocess_batched.process(scan, water, self.options)
        self.kept = np.all(self.done.reason == "", axis=0)
        self.counted = self.kept if truth is None else self.kept & ~truth.bad.any(axis=0)

    def add(
        self,
        step: str,
        quantity: str,
        unit: str,
        difference: np.ndarray,
        errors: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> None:
        """Add a row; `errors` are those of batched and of FSL-MRS."""
        values = [_rms(difference), *(map(_rms, errors) if errors else (np.nan, np.nan))]
        nearer = None
        if errors:
            equal = abs(values[1] - values[2]) <= 0.02 * max(values[1:])
            nearer = "equal" if equal else "batched" if values[1] < values[2] else "fsl-mrs"
        names = ("difference_rms", "batched_error_rms", "fsl_mrs_error_rms")
        row = {"dataset": self.dataset, "step": step, "quantity": quantity, "quantity_unit": unit}
        self.rows.append(row | {"n": np.size(difference)} | dict(zip(names, values, strict=True)) | {"nearer": nearer})

    def add_pairs(self, step: str, ours: np.ndarray, theirs: np.ndarray, true: np.ndarray | None) -> None:
        """Add rows on shift (Hz) and phase (rad), each argument of shape (2, ...); `true` undoes what was put on."""
        for k, (quantity, unit) in enumerate((("shift", "Hz"), ("phase", "degree"))):
            parts = [ours[k] - theirs[k]] + ([] if true is None else [ours[k] - true[k], theirs[k] - true[k]])
            if k:
                parts = [np.degrees(np.angle(np.exp(1j * part))) for part in parts]
            self.add(step, quantity, unit, parts[0], (parts[1], parts[2]) if true is not None else None)

    def all_steps(self) -> list[dict]:
        """Compare every step and return the rows."""
        if self.scan.fids.shape[2] > 1:
            self.coils()
        if self.water is not None:
            self.eddy_currents()
        if self.scan.fids.shape[1] > 1:
            self.transients("alignment of transients", self.options.align_ppm)
            self.transients("alignment of transients, FSL-MRS's default window", FSL_EDIT_ALIGN_PPM)
            self.rejection()
        self.residual_water()
        self.reference()
        if self.scan.conditions == preprocess_batched.EDIT_PAIR:
            self.conditions("alignment of conditions, FSL-MRS in 2.9-3.3 ppm", (2.9, 3.3))
            self.conditions("alignment of conditions, FSL-MRS's default window", FSL_CONDITION_PPM)
        return self.rows

    def coils(self) -> None:
        """Compare the weights of both engines, as they follow from what they combined."""
        from mrs_synthesis import preprocess_fsl

        covariance = preprocess_batched.coils.noise_covariance(self.scan.fids, *self.raster)
        flat = np.moveaxis(self.scan.fids, 2, 0).reshape(self.scan.fids.shape[2], -1)
        both = []
        for combined in (
            preprocess_batched._combine(self.scan, self.water, covariance)[0],
            preprocess_fsl._combine(self.scan, self.water)[0],
        ):
            both.append(np.linalg.lstsq(flat.T, combined.ravel(), rcond=None)[0])
        ours, theirs = both
        gain = np.vdot(theirs, ours) / np.vdot(theirs, theirs)
        relative = 100 * np.abs(ours - gain * theirs) / np.linalg.norm(ours) * np.sqrt(ours.size)
        self.add("coil combination", "weights up to a common factor", "percent", relative)
        if self.truth is not None:
            s, c = self.truth.sensitivity, self.truth.covariance
            best = np.sqrt(np.real(np.vdot(s, np.linalg.solve(c, s))))
            snr = [np.abs(w @ s) / np.sqrt(np.real(w @ c @ np.conj(w))) / best for w in both]
            losses = tuple(100 * (1 - np.atleast_1d(value)) for value in snr)
            self.add("coil combination", "loss of SNR", "percent", losses[0] - losses[1], losses)

    def _combined(self) -> tuple[np.ndarray, np.ndarray | None]:
        covariance = preprocess_batched.coils.noise_covariance(self.scan.fids, *self.raster)
        return preprocess_batched._combine(self.scan, self.water, covariance)[:2]

    def eddy_currents(self) -> None:
        """Compare the phase that is subtracted, where there is signal, and the spectra that result."""
        from fsl_mrs.utils import preproc

        fids, reference = self._combined()
        if reference.size != fids.shape[-1]:
            return  # FSL-MRS needs both on one raster
        fids = fids[0, self.counted][:WATER_SAMPLE]
        track = preprocess_batched.eddy_phase(reference, self.water.dwell_s, fids.shape[-1], self.scan.dwell_s)
        ours, theirs = fids * np.exp(-1j * track), np.array([preproc.eddy_correct(fid, reference) for fid in fids])
        self.add("eddy currents", "spectra in 0.2-4.2 ppm", "noise SD", self._in_noise(ours, ours - theirs, (0.2, 4.2)))
        if self.truth is not None:
            weight = np.abs(reference) / np.linalg.norm(reference)
            line = np.stack([np.ones(track.size), np.arange(track.size)], axis=-1)  # phase and shift of the water
            errors = []
            for found in (track, np.unwrap(np.angle(reference))):
                error = np.degrees(found - self.truth.eddy_rad)
                error = error - line @ np.linalg.lstsq(line * weight[:, None], error * weight, rcond=None)[0]
                errors.append(error * weight * np.sqrt(track.size))
            self.add("eddy currents", "phase, weighted by the water", "degree", errors[0] - errors[1], tuple(errors))

    def transients(self, step: str, fsl_limits_ppm: tuple[float, float]) -> None:
        """Compare shifts and phases within each condition, without water; what is common to a condition is left out."""
        from mrs_synthesis import preprocess_fsl

        fids = spectra.shift_and_phase(self.done.fids, self.raster[0], -self.done.shift_hz, -self.done.phase_rad)
        found = []
        for row in fids:
            shift, phase = alignment.align(row, *self.raster, self.options.align_ppm)
            moved = spectra.shift_and_phase(row, self.raster[0], shift, phase)
            fine = alignment.align(moved, *self.raster, self.options.align_ppm, coarse=False, max_shift_hz=8.0)
            theirs = preprocess_fsl._align(row, 1 / self.raster[0], self.raster[1], fsl_limits_ppm, 4)
            found.append([[shift + fine[0], phase + fine[1]], theirs])
        ours, theirs = np.moveaxis(np.array(found), 0, 2)[..., self.counted]
        true = None
        if self.truth is not None:
            true = _without_common(-np.stack([self.truth.shift_hz, self.truth.phase_rad])[..., self.counted])
        self.add_pairs(step, _without_common(ours), _without_common(theirs), true)

    def rejection(self) -> None:
        """Compare decisions on aligned transients, both at the configured number of SDs and at FSL-MRS's default."""
        from fsl_mrs.utils import preproc

        bandwidth, n = 1 / self.raster[0], self.scan.fids.shape[1]
        for limit, label in ((self.options.reject_sd, "at the same limit"), (2.58, "FSL-MRS at its default")):
            ours, theirs = np.zeros((2, len(self.done.fids), n))
            for e, row in enumerate(self.done.fids):
                ours[e] = alignment.unlike(row, *self.raster, self.options.reject_sd)
                removed = preproc.identifyUnlikeFIDs(
                    list(row), bandwidth, self.raster[1], sdlimit=limit, ppmlim=alignment.UNLIKE_PPM
                )[3]
                theirs[e, removed] = 1
            share = [100 * np.mean(ours != theirs)]
            wrong = None
            if self.truth is not None:
                wrong = tuple(np.array([100 * np.mean(found != self.truth.bad)]) for found in (ours, theirs))
            self.add("rejection", f"decisions that differ, or are wrong, {label}", "percent", np.array(share), wrong)

    def residual_water(self) -> None:
        """Compare what HLSVD finds in the same transients, in the ranges of the metabolites."""
        from mrs_synthesis import preprocess_fsl

        rows = np.flatnonzero(self.counted)[:WATER_SAMPLE]
        fids = (self.done.fids + self.done.water_fid)[:, rows].reshape(-1, self.scan.n_points)
        half = self.options.water_halfwidth_ppm
        ours = hlsvd.water_signal(fids, self.raster[0], (-half * self.raster[1], half * self.raster[1]))
        theirs = np.array([fid - preprocess_fsl._without_water(fid, self.scan, half) for fid in fids])
        true = None if self.truth is None else self._true_water()[:, rows].reshape(fids.shape)
        for low, high in WATER_RANGES_PPM:
            parts = [ours - theirs] + ([] if true is None else [ours - true, theirs - true])
            parts = [self._in_noise(fids, part, (low, high)) for part in parts]
            errors = (parts[1], parts[2]) if true is not None else None
            self.add("residual water", f"spectra in {low:g}-{high:g} ppm", "noise SD", parts[0], errors)

    def _true_water(self) -> np.ndarray:
        """Return the phantom's water in the frame of the preprocessed transients, (E, T, points)."""
        covariance = preprocess_batched.coils.noise_covariance(self.scan.fids, *self.raster)
        weights = preprocess_batched.coils.weights(self.water.fids, covariance)
        reference = self._combined()[1]
        track = preprocess_batched.eddy_phase(reference, self.water.dwell_s, self.scan.n_points, self.raster[0])
        water = (weights @ self.truth.sensitivity) * self.truth.water * np.exp(-1j * track)
        return spectra.shift_and_phase(water, self.raster[0], self.done.shift_hz, self.done.phase_rad)

    def _in_noise(self, fids: np.ndarray, difference: np.ndarray, limits_ppm: tuple[float, float]) -> np.ndarray:
        """Return the RMS of spectra within a range, in SDs of the noise of `fids`, one per FID."""
        inside = (self.scan.ppm > limits_ppm[0]) & (self.scan.ppm < limits_ppm[1])
        sd = spectra.noise_sd(fids, *self.raster) * np.sqrt(2 * self.scan.n_points)
        return np.sqrt(np.mean(np.abs(spectra.to_spectrum(difference)[..., inside]) ** 2, axis=-1)) / sd

    def reference(self) -> None:
        """Compare shift and phase of the first condition's average; with the truth, of transients truly aligned."""
        from fsl_mrs.utils import preproc

        from mrs_synthesis.preprocess_fsl import SEARCH_PPM

        fids = self.done.fids[0, self.counted]
        if self.truth is not None:
            undo = (self.truth.shift_hz + self.done.shift_hz, self.truth.phase_rad + self.done.phase_rad)
            fids = spectra.shift_and_phase(fids, self.raster[0], *(-x[0, self.counted] for x in undo))
            if self.water is not None:  # what eddy-current correction subtracted beside the eddy currents' phase
                reference = self._combined()[1]
                track = preprocess_batched.eddy_phase(reference, self.water.dwell_s, fids.shape[-1], self.raster[0])
                fids = fids * np.exp(1j * (track - self.truth.eddy_rad - np.angle(self._gain())))
        average = fids.mean(axis=0)
        lines = alignment.fit_lines(spectra.to_spectrum(average), self.scan.ppm, self.raster[1])
        target, search = SEARCH_PPM["tCr"]
        ours = np.array([[-(float(lines.ppm) - target) * self.raster[1]], [-float(lines.phase_rad)]])
        moved, offset = preproc.shiftToRef(average, target, 1 / self.raster[0], self.raster[1], ppmlim=search)
        phase = preproc.phaseCorrect(moved, 1 / self.raster[0], self.raster[1], ppmlim=search)[1]
        theirs = np.array([[-offset * self.raster[1]], [phase]])
        self.add_pairs("shift and phase of tCr", ours, theirs, None if self.truth is None else np.zeros((2, 1)))

    def _gain(self) -> complex:
        covariance = preprocess_batched.coils.noise_covariance(self.scan.fids, *self.raster)
        return complex(preprocess_batched.coils.weights(self.water.fids, covariance) @ self.truth.sensitivity)

    def conditions(self, step: str, fsl_limits_ppm: tuple[float, float]) -> None:
        """Compare shift and phase of the average of ON relative to that of OFF."""
        from mrs_synthesis import preprocess_fsl

        made = np.array([self.done.facts["edit_shift_hz"], np.radians(self.done.facts["edit_phase_deg"])])
        off, on = self.done.fids[:, self.kept].mean(axis=1)
        on = spectra.shift_and_phase(on, self.raster[0], *map(np.asarray, -made))
        ours = edit_alignment.match_edited(on, off, *self.raster, self.options.edit_align_ppm)
        found = preprocess_fsl._align(on[None], 1 / self.raster[0], self.raster[1], fsl_limits_ppm, 1, off)
        true = None
        if self.truth is not None:
            shift = np.diff((self.done.shift_hz + self.truth.shift_hz)[:, self.counted], axis=0).mean()
            turn = np.exp(1j * np.diff((self.done.phase_rad + self.truth.phase_rad)[:, self.counted], axis=0)).mean()
            true = (made - [shift, np.angle(turn)])[:, None]
        self.add_pairs(step, np.array(ours)[:, None], np.array(found), true)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))


def _without_common(pairs: np.ndarray) -> np.ndarray:
    """Take the mean over transients from shifts and phases (2, E, T); that of phases is circular."""
    shift, phase = pairs
    turn = np.angle(np.exp(1j * phase).mean(axis=-1, keepdims=True))
    return np.stack([shift - shift.mean(axis=-1, keepdims=True), np.angle(np.exp(1j * (phase - turn)))])


def main(argv: Sequence[str] | None = None) -> None:
    """Compare the steps of preprocessing with FSL-MRS's functions; needs FSL-MRS."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.preprocess_agreement", description=main.__doc__)
    parser.add_argument("--phantoms", type=int, default=0, help="scans of the digital phantom, with the truth")
    parser.add_argument("--seed", type=int, default=0, help="of the phantoms; default: %(default)s")
    parser.add_argument("--scans", type=Path, nargs="*", default=[], help="NIfTI-MRS files of single transients")
    parser.add_argument("--waters", nargs="*", default=[], help="their water references, or none, in the same order")
    parser.add_argument("--output", type=Path, required=True, help="table (TSV)")
    args = parser.parse_args(argv)
    if args.waters and len(args.waters) != len(args.scans):
        raise InputError(f"--waters: {len(args.waters)} given, expected {len(args.scans)} as --scans; write none where")
    from mrs_synthesis import fslmrs

    fslmrs.reexec_if_needed("mrs_synthesis.preprocess_agreement", argv)
    import pandas as pd

    from mrs_synthesis.dictionary import write_described_table

    rows = []
    for index in range(args.phantoms):
        rows += Comparison(f"phantom {index + 1}", *make_phantom(args.seed, index)).all_steps()
        print(f"phantom {index + 1} of {args.phantoms}", flush=True)
    for path, water in zip(args.scans, args.waters or ["none"] * len(args.scans), strict=True):
        reference = None if water == "none" else read_scan(Path(water))
        rows += Comparison(path.name.partition(".")[0], read_scan(path), reference, None).all_steps()
        print(path, flush=True)
    if not rows:
        raise InputError("nothing to compare: give --phantoms or --scans")
    about = "Steps of preprocessing, engine batched against FSL-MRS's functions on the same input"
    write_described_table(args.output, pd.DataFrame(rows), about, DESCRIPTIONS)


if __name__ == "__main__":
    run(main)
