"""Engine `batched` of preprocessing: all transients of a scan at once, in numpy.

Shift, phase and eddy-current correction multiply a FID point by point, so they commute and nothing is lost in making
them in the order in which each can best be estimated: eddy currents, a first alignment, residual water (which needs to
know where water is), and then, without water, the final alignment, rejection and referencing.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from mrs_synthesis import alignment, coils, edit_alignment, hlsvd, spectra
from mrs_synthesis.scans import Scan
from mrs_synthesis.stage import InputError

UNLIKE = "unlike the other transients"
EDIT_PAIR = ("OFF", "ON")
NAA_WINDOW_PPM = (1.9, 2.1)
GABA_WINDOW_PPM = (2.9, 3.1)
TCR_TCHO_PPM = (2.7, 3.4)  # two lines and room for drift: one line alone can be taken for the other
FINE_SHIFT_HZ = 8.0  # what the first alignment may have left


@dataclass
class Options:
    """What a user may choose.

    Attributes
    ----------
    align_ppm
        Part of the spectrum that transients are aligned on.
    reject_sd
        Distance from the median spectrum, in robust SDs, beyond which a transient is rejected; 0 keeps all.
    remove_water
        Whether residual water is removed.
    water_halfwidth_ppm
        Components within 4.65 ppm plus and minus this are water.
    reference
        ``"tCr"`` or ``"NAA"``: the line that sets the shift and the phase.
    edit_align_ppm
        Part of the spectrum that edit-ON is aligned to edit-OFF on.
    ecc
        Whether the water reference corrects eddy currents.
    """

    align_ppm: tuple[float, float] = (1.8, 3.4)
    reject_sd: float = 3.5
    remove_water: bool = True
    water_halfwidth_ppm: float = 0.3
    reference: str = "tCr"
    edit_align_ppm: tuple[float, float] = (2.85, 3.35)
    ecc: bool = True


@dataclass
class Processed:
    """What an engine makes of a scan; E conditions, T original transients, N points.

    Attributes
    ----------
    fids
        (E, T, N), aligned, phased, referenced, without water; rejected transients too.
    water_fid
        (E, T, N): what was removed, in the same frame.
    shift_hz, phase_rad
        (E, T): applied in total to the coil-combined transients.
    reason
        (E, T): empty for a transient that is like the others, else why it is rejected.
    coil_noise_covariance
        (coils, coils).
    water_reference
        (N,): the combined, averaged, phased water reference; None without one.
    steps
        (method in the standard's words, details) of each step made.
    facts
        For the sidecar and the status: offsets found, and so on.
    """

    fids: np.ndarray
    water_fid: np.ndarray
    shift_hz: np.ndarray
    phase_rad: np.ndarray
    reason: np.ndarray
    coil_noise_covariance: np.ndarray
    water_reference: np.ndarray | None = None
    steps: list[tuple[str, str]] = field(default_factory=list)
    facts: dict = field(default_factory=dict)


def process(scan: Scan, water: Scan | None, options: Options) -> Processed:
    """Preprocess a scan, keeping its transients.

    Parameters
    ----------
    scan
        (E, T, coils, N), conditions ("OFF", "ON") or one.
    water
        Water reference of the same coils, or None.
    options
        See `Options`.

    Raises
    ------
    InputError
        If the coils of scan and water differ, the spectrum lies implausibly, or the edit conditions are swapped.
    """
    dwell, frequency = scan.dwell_s, scan.frequency_mhz
    covariance = coils.noise_covariance(scan.fids, dwell, frequency)
    fids, reference, steps = _combine(scan, water, covariance)
    if options.ecc and reference is not None:
        track = eddy_phase(reference, water.dwell_s, scan.n_points, dwell)
        fids = fids * np.exp(-1j * track)
        steps.append(("Eddy current correction", "Klose: phase of the averaged water reference subtracted"))
    if reference is not None:
        reference = _phased_water(reference, water.dwell_s, options.ecc)

    place = Frame(fids, dwell)
    for e in range(len(fids)):
        place.move(e, *alignment.align(place.fids[e], dwell, frequency, options.align_ppm))
    if len(fids) == 2:
        _superpose_conditions(place, frequency)
    coarse = alignment.reference_offset(place.fids.mean(axis=1), dwell, frequency)
    place.move(slice(None), -coarse * frequency, 0.0)
    if scan.conditions == EDIT_PAIR:
        check_order(place.fids.mean(axis=1), scan)

    if options.remove_water:
        half = options.water_halfwidth_ppm * frequency
        place.remove(hlsvd.water_signal(place.fids, dwell, (-half, half)))
        steps.append(
            (
                "Nuisance peak removal",
                f"HLSVD, {hlsvd.N_COMPONENTS} components, 4.65 +- {options.water_halfwidth_ppm} ppm",
            )
        )

    reason = np.full(fids.shape[:2], "", dtype=object)
    for e in range(len(fids)):
        good = np.ones(fids.shape[1], bool)
        for _ in range(2):  # the second time without what is unlike
            shift, phase = alignment.align(
                place.fids[e], dwell, frequency, options.align_ppm, good=good, coarse=False, max_shift_hz=FINE_SHIFT_HZ
            )
            place.move(e, shift, phase)
            if options.reject_sd > 0:
                good = ~alignment.unlike(place.fids[e], dwell, frequency, options.reject_sd)
        reason[e, ~good] = UNLIKE
    kept = np.all(reason == "", axis=0)
    require_enough(kept, scan.fids.shape[1])
    steps.append(
        (
            "Frequency and phase correction",
            "spectral registration per condition, {:g}-{:g} ppm".format(*options.align_ppm),
        )
    )
    if options.reject_sd > 0:
        steps.append(
            ("Outlier removal", f"above {options.reject_sd:g} robust SDs from the median in 0.2-4.2 ppm, in pairs")
        )

    shift, fwhm = _reference(place, scan, kept, options.reference)
    facts = {"reference_offset_ppm": coarse - shift / frequency, "average_fwhm_hz": fwhm}
    steps.append(("Frequency and phase correction", f"{options.reference} of the average: one shift, one phase"))
    if scan.conditions == EDIT_PAIR:
        off, on = place.fids[:, kept].mean(axis=1)
        between = edit_alignment.match_edited(on, off, dwell, frequency, options.edit_align_ppm)
        place.move(1, *between)
        facts |= {"edit_shift_hz": between[0], "edit_phase_deg": float(np.degrees(between[1]))}
        limits = "{:g}-{:g}".format(*options.edit_align_ppm)
        steps.append(("Alignment of subtraction sub-spectra", f"average of ON to that of OFF, {limits} ppm"))
        facts |= check_editing(place.fids[:, kept].mean(axis=1), scan)
    phase = np.angle(np.exp(1j * place.phase))
    return Processed(place.fids, place.water, place.shift, phase, reason, covariance, reference, steps, facts)


class Frame:
    """FIDs and the water taken from them, and the shift and phase that both have had."""

    def __init__(self, fids: np.ndarray, dwell_s: float) -> None:
        self.fids = fids
        self.water = np.zeros_like(fids)
        self.dwell_s = dwell_s
        self.shift = np.zeros(fids.shape[:2])
        self.phase = np.zeros(fids.shape[:2])

    def move(self, condition: int | slice, shift_hz: np.ndarray | float, phase_rad: np.ndarray | float) -> None:
        """Shift up and turn one condition (or all), by one value or one per transient."""
        self.shift[condition] += shift_hz
        self.phase[condition] += phase_rad
        turn = spectra.shift_and_phase(
            np.ones(self.fids.shape[-1]),
            self.dwell_s,
            np.broadcast_to(shift_hz, self.shift[condition].shape),
            np.broadcast_to(phase_rad, self.phase[condition].shape),
        )
        self.fids[condition] = self.fids[condition] * turn
        self.water[condition] = self.water[condition] * turn

    def remove(self, water: np.ndarray) -> None:
        """Take water, of the FIDs' shape and in their present frame, from them."""
        self.fids = self.fids - water
        self.water = self.water + water


def _combine(
    scan: Scan, water: Scan | None, covariance: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, list[tuple[str, str]]]:
    """Return combined FIDs (E, T, N), the averaged water reference (N,), and the step made."""
    require_same_coils(scan, water)
    if scan.fids.shape[2] == 1:
        averaged = None if water is None else average_water(water.fids[:, :, 0], water.dwell_s)
        return scan.fids[:, :, 0].copy(), averaged, []
    weights = coils.weights(scan.fids if water is None else water.fids, covariance)
    combined = coils.combine(scan.fids, weights)
    averaged = None if water is None else average_water(coils.combine(water.fids, weights), water.dwell_s)
    source = "the scan itself" if water is None else "the water reference"
    return combined, averaged, [("RF coil combination", f"wSVD, prewhitened, weights from {source}")]


def average_water(fids: np.ndarray, dwell_s: float) -> np.ndarray:
    """Return the mean of water transients, of shape (..., N), after aligning them to the strongest."""
    flat = fids.reshape(-1, fids.shape[-1])
    target = flat[np.argmax(np.linalg.norm(flat, axis=-1))]
    shift, phase = alignment.register(flat, target, dwell_s)
    return spectra.shift_and_phase(flat, dwell_s, shift, phase).mean(axis=0)


def eddy_phase(water: np.ndarray, water_dwell_s: float, n_points: int, dwell_s: float) -> np.ndarray:
    """Return the phase (rad) of a water FID at the times of the scan's points, shape (n_points,).

    Where the water has decayed to below ten times its noise, its phase is noise; from there on the phase goes on
    linearly as it went over the last quarter of the useful part (Klose, Magn Reson Med 1990, uses it throughout).
    """
    t = spectra.time_axis(water.size, water_dwell_s)
    noise = np.sqrt(np.mean(np.abs(np.diff(water[-max(water.size // 10, 8) :])) ** 2) / 2)
    below = np.flatnonzero(np.abs(water) < 10 * noise)
    useful = int(below[0]) if below.size else water.size
    if useful < 8:
        raise InputError("water reference: no signal above its noise; give another one, or --no-ecc")
    phase = np.unwrap(np.angle(water[:useful]))
    tail = slice(useful - max(useful // 4, 4), useful)
    slope, level = np.polyfit(t[tail] - t[useful - 1], phase[tail], 1)
    times = spectra.time_axis(n_points, dwell_s)
    track = np.interp(times, t[:useful], phase)
    late = times > t[useful - 1]
    track[late] = level + slope * (times[late] - t[useful - 1])
    return track


def _phased_water(water: np.ndarray, dwell_s: float, ecc: bool) -> np.ndarray:
    """Return the water FID on resonance and in phase, itself corrected for eddy currents if the scan is."""
    if ecc:
        return water * np.exp(-1j * eddy_phase(water, dwell_s, water.size, dwell_s))
    return water * np.exp(-1j * np.angle(water[0]))


def _apodised(fids: np.ndarray, dwell_s: float, hz: float = 3.0) -> np.ndarray:
    return fids * np.exp(-np.pi * hz * spectra.time_axis(fids.shape[-1], dwell_s))


def _superpose_conditions(place: Frame, frequency_mhz: float) -> None:
    """Bring edit-ON to within a few Hz of edit-OFF, wherever both are."""
    off, on = alignment.sharpened(place.fids.mean(axis=1), place.dwell_s)
    target = alignment.confine(off, place.dwell_s, frequency_mhz, TCR_TCHO_PPM)
    place.move(1, *alignment.register(on[None], target, place.dwell_s))


def _reference(place: Frame, scan: Scan, kept: np.ndarray, reference: str) -> tuple[float, float]:
    """Shift and phase everything by the average of the first condition (OFF or UNEDITED).

    Returns the shift made (Hz), and the linewidth of the average (Hz).
    """
    average = spectra.to_spectrum(place.fids[0, kept].mean(axis=0))
    lines = alignment.fit_lines(average, scan.ppm, scan.frequency_mhz, reference)
    shift = -(float(lines.ppm) - alignment.FIT_PPM[reference][0][0]) * scan.frequency_mhz
    place.move(slice(None), shift, -float(lines.phase_rad))
    return shift, float(lines.fwhm_hz)


def require_same_coils(scan: Scan, water: Scan | None) -> None:
    """Raise an InputError if the water reference has other coils than the scan."""
    if water is not None and water.fids.shape[2] != scan.fids.shape[2]:
        raise InputError(
            f"water reference: {water.fids.shape[2]} coils, expected {scan.fids.shape[2]} as in the scan; "
            "give the reference of this scan, or none"
        )


def require_enough(kept: np.ndarray, n_transients: int) -> None:
    """Raise an InputError if fewer than half of the transients (or pairs) are left."""
    if 2 * int(kept.sum()) < n_transients or not kept.any():
        raise InputError(
            f"rejection: only {int(kept.sum())} of {n_transients} transients (pairs) are like the others, expected at "
            "least half; look at the scan, or raise --reject-sd"
        )


def check_order(averages: np.ndarray, scan: Scan) -> None:
    """Raise an InputError if NAA, which editing at 1.9 ppm saturates, is stronger in ON than in OFF.

    Magnitudes, so that neither phase nor reference needs to be known. `averages` as in `check_editing`.
    """
    off, on = _naa_height(np.abs(spectra.to_spectrum(alignment.sharpened(averages, scan.dwell_s))), scan.ppm)
    if on >= off:
        raise InputError(
            f"edit conditions: NAA at 2.0 ppm is {on / max(off, 1e-300):.2g} times as high in ON as in OFF, expected "
            "less; the order of the conditions is wrong: correct edit_order in the sample sheet"
        )


def _naa_height(spectrum: np.ndarray, ppm: np.ndarray) -> np.ndarray:
    return spectrum[..., (ppm > NAA_WINDOW_PPM[0]) & (ppm < NAA_WINDOW_PPM[1])].max(axis=-1)


def check_editing(averages: np.ndarray, scan: Scan) -> dict:
    """Check by the signs of the difference ON - OFF that the conditions are what they are called.

    Parameters
    ----------
    averages
        FIDs of OFF and ON, shape (2, N), phased and referenced.

    Returns
    -------
    dict
        The depth of NAA in the difference relative to its height in OFF, and the mean of the difference over GABA
        (2.9-3.1 ppm, less that at 2.7-2.8 and 3.3-3.4 ppm) relative to the height of tCr, with a warning where that is
        not positive.

    Raises
    ------
    InputError
        If NAA does not go down in the difference.
    """
    ppm = scan.ppm
    spectrum = np.real(spectra.to_spectrum(_apodised(averages, scan.dwell_s)))
    difference = spectrum[1] - spectrum[0]
    ratio = float(-_naa_height(-difference, ppm) / _naa_height(np.abs(spectrum[0]), ppm))
    if ratio > -0.3 or _naa_height(difference, ppm) > _naa_height(-difference, ppm):
        raise InputError(
            f"edit conditions: NAA at 2.0 ppm does not go down in ON - OFF ({ratio:+.2f} of its height), expected "
            "below -0.3; the order of the conditions is wrong (edit_order in the sample sheet), or GABA was not edited"
        )

    def mean(low: float, high: float) -> float:
        return float(difference[(ppm > low) & (ppm < high)].mean())

    tcr = spectrum[0][(ppm > GABA_WINDOW_PPM[0]) & (ppm < GABA_WINDOW_PPM[1])].max()
    gaba = (mean(*GABA_WINDOW_PPM) - (mean(2.7, 2.8) + mean(3.3, 3.4)) / 2) / float(tcr)
    found = {"difference_naa": ratio, "difference_gaba": gaba}
    if gaba <= 0:
        found["warning"] = "GABA at 3.0 ppm is not positive in ON - OFF: low SNR, or a subtraction artefact"
    return found
