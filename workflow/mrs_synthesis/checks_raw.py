"""Checks of a scan as it comes from the scanner: what would be converted, and fitted, and be silently wrong.

Limits without a source are choices of this project; README.md beside the config lists them all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from mrs_synthesis import editing, spectra
from mrs_synthesis.stage import InputError

# Of the shortest STEAM and SPECIAL to the longest PRESS; two editing pulses of 14 ms take more than 30 ms
TE_MS = (1.0, 1000.0)
SHORTEST_EDITED_TE_MS = 30.0
TR_MS = (100.0, 60_000.0)
TR_TOLERANCE = 0.95  # of echo time and sampling together
FIELDS_T = (1.0, 1.5, 2.0, 3.0, 4.0, 4.7, 5.0, 7.0, 9.4, 10.5, 11.7, 14.1)
FIELD_TOLERANCE = 0.04  # Siemens' 3 T are 2.89 T; 31P at 7 T lies 5.6 % below 1H at 3 T
PROTON_MHZ_PER_T = 42.577
OTHER_MHZ_PER_T = {"31P": 17.235, "13C": 10.708, "19F": 40.078, "23Na": 11.269, "2H": 6.536}
FEWEST_CLIPPED = 8  # points at exactly the largest value; an unclipped FID has one or two
FEWEST_LEVELS = 200  # different values; with fewer, equal ones mean nothing
FEWEST_POINTS = 128  # of a FID; measured ones have 1024 or more
FEWEST_ZEROS = 8  # at the end of all transients; one alone may be a rounded number
TINY = 1e-6  # of the largest value: zero
SIGNAL_PPM = (0.0, 8.0)
UNDECAYED = 0.1  # of the signal may be left when sampling ends
PART = 16  # of the FID, at its start and end, is compared
LEAST_WATER = 50.0  # water over metabolites; 240 to 680 in references of three vendors, 1 to 40 with suppression
WATER_PPM = (4.2, 5.1)
METABOLITE_PPM = (1.8, 3.4)
NAME_TE = re.compile(
    r"(?<![a-z])(?:gaba|gsh|mega[a-z]*|press|steam|s?laser|special|hermes|hercules|te)[_-]?(\d{2,3})(?:ms)?(?![\da-z])",
    re.IGNORECASE,
)
NAME_TE_TOLERANCE_MS = 2.0


def times(
    header: Mapping[str, Any],
    stated_ms: Mapping[str, float | None],
    name: str,
    *,
    edited: bool,
    sampled_s: float,
    notes: list[str],
) -> dict[str, float]:
    """Return EchoTime and, if known, RepetitionTime in s, stated ones before the header's.

    Parameters
    ----------
    header
        May hold EchoTime and RepetitionTime in s.
    stated_ms
        By the same names, times of the sample sheet in ms; None where it has none.
    name
        What errors call the scan.
    edited
        Whether it is MEGA-edited, which takes time.
    sampled_s
        Length of the FID.
    notes
        Grows by what is worth knowing.

    Raises
    ------
    InputError
        If the echo time is missing, or a time is impossible; with the likely one, if the unit was confused.
    """
    found = {}
    shortest_te = SHORTEST_EDITED_TE_MS if edited else TE_MS[0]
    for key, (low, high), option in (
        ("EchoTime", (shortest_te, TE_MS[1]), "te_ms"),
        ("RepetitionTime", TR_MS, "tr_ms"),
    ):
        stated = stated_ms.get(key)
        value = header.get(key) if stated is None else stated * 1e-3
        if value is None:
            if key == "EchoTime":
                raise InputError(f"{name}: no {key} in the header, needed to check the basis set; state {option}")
            notes.append(f"{key} unknown")
            continue
        where = "in the header" if stated is None else "stated"
        if not isinstance(value, int | float) or isinstance(value, bool):
            raise InputError(f"{name}: {key} {where} is no number, expected seconds; state {option} in ms")
        ms = value * 1e3 if abs(value) < 1e9 else math.inf
        if not low <= ms <= high:
            likely = [guess for guess in (ms * 1e3, ms * 1e-3) if low <= guess <= high]
            hint = f" ({likely[0]:g}, if the unit was confused)" if likely else ""
            what = "an edited scan" if edited and key == "EchoTime" else "a localised scan"
            raise InputError(
                f"{name}: {key} {ms:g} ms {where}, expected {low:g} to {high:g} ms of {what}; state {option}{hint}"
            )
        own = header.get(key)
        own = own if isinstance(own, int | float) and abs(own) < 1e9 else None
        if stated is not None and own is not None and not math.isclose(own, value, rel_tol=1e-3):
            notes.append(f"{key} {own * 1e3:g} ms in the header replaced by {stated:g} ms")
        found[key] = float(value)
    least = found["EchoTime"] + sampled_s
    if found.get("RepetitionTime", math.inf) < TR_TOLERANCE * least:
        raise InputError(
            f"{name}: RepetitionTime {found['RepetitionTime'] * 1e3:g} ms, expected at least {least * 1e3:.0f} ms "
            f"(EchoTime {found['EchoTime'] * 1e3:g} ms and {sampled_s * 1e3:.0f} ms of sampling); state te_ms and tr_ms"
        )
    return found


def te_in_name(path: Path) -> float | None:
    """Return the number in ms that a file's name has where an echo time often stands (``S01_GABA_80.dat``).

    It is a label, and never used as the echo time: Big GABA's ``_80`` is TE 68 ms on Siemens scanners.
    """
    found = NAME_TE.search(Path(path).name)
    return float(found[1]) if found else None


def note_name(path: Path, te_s: float, notes: list[str]) -> float | None:
    """Note a number in the file's name that contradicts the echo time; return it."""
    labelled = te_in_name(path)
    if labelled is not None and abs(labelled - te_s * 1e3) > NAME_TE_TOLERANCE_MS:
        notes.append(f"file name says {labelled:g}, EchoTime is {te_s * 1e3:g} ms: the name is not used")
        return labelled
    return None


def check_frequency(frequency_mhz: float, name: str) -> None:
    """Refuse a spectrometer frequency that is not that of protons at a field of existing scanners.

    Raises
    ------
    InputError
        With the nuclei and fields that the frequency belongs to, if there are any.
    """

    def fits(mhz_per_t: float, fields: tuple[float, ...]) -> list[float]:
        return [field for field in fields if abs(frequency_mhz / (mhz_per_t * field) - 1) <= FIELD_TOLERANCE]

    if fits(PROTON_MHZ_PER_T, FIELDS_T):
        return
    known = [f"{nucleus} at {t:g} T" for nucleus, mhz in OTHER_MHZ_PER_T.items() for t in fits(mhz, (1.5, 3.0, 7.0))]
    is_other = f", that of {' or '.join(known)}" if known else ""
    usual = ", ".join(f"{PROTON_MHZ_PER_T * field:.1f} at {field:g} T" for field in (1.5, 3.0, 7.0))
    raise InputError(
        f"{name}: spectrometer frequency {frequency_mhz:.2f} MHz{is_other}, expected that of 1H ({usual}); "
        "leave this scan out of the study, or correct SpectrometerFrequency"
    )


def whole_transients(fids: np.ndarray, name: str, notes: list[str]) -> np.ndarray:
    """Return FIDs without the transients and the points that hold nothing.

    Left out, with a note, are transients that are zero in any condition or end in zeros where others do not (a scan
    that was stopped), and zeros at the end of all (zero-filling, which would make noise look smaller than it is).

    Parameters
    ----------
    fids
        Shape (conditions, transients, coils, points).

    Raises
    ------
    InputError
        If there are NaN, nothing but zeros, too few points, or zeros before the signal.
    """
    bad = np.count_nonzero(~np.isfinite(fids))
    if bad:
        raise InputError(f"{name}: {bad} points are NaN or infinite, expected numbers; convert it again or exclude it")
    used = np.any(fids != 0, axis=2)  # (conditions, transients, points)
    if not used.any(axis=2).all(axis=0).any():
        raise InputError(f"{name}: all data are zero, expected a signal; exclude this scan")
    points = fids.shape[-1]
    length = points - np.argmax(used[..., ::-1], axis=-1)
    length = np.where(used.any(axis=-1), length, 0).min(axis=0)  # of each transient, the shorter condition's
    whole = int(length.max())
    whole = points if points - whole < FEWEST_ZEROS else whole
    if whole < FEWEST_POINTS:
        zeros = f" before {points - whole} zeros" if whole < points else ""
        raise InputError(
            f"{name}: {whole} points{zeros}, expected at least {FEWEST_POINTS}; export the whole FID, or exclude this "
            "scan"
        )
    alive = length > whole - whole // PART
    if not alive.all():
        missing = np.count_nonzero(~alive)
        notes.append(f"{missing} of {alive.size} transients (per condition) are zero or end early and left out")
    if whole < points:
        notes.append(f"{points - whole} of {points} points cut off, zero at the end of every transient")
    fids = np.array(fids[:, alive, :, :whole])
    size = np.abs(fids).max(axis=(0, 1, 2))
    first = int(np.argmax(size > TINY * size.max()))
    if first:
        raise InputError(
            f"{name}: the first {first} point{'s are' if first > 1 else ' is'} zero in every transient, expected the "
            "signal from the first point on; export the scan again, without what precedes it"
        )
    return fids


def check_clipped(fids: np.ndarray, name: str) -> None:
    """Refuse FIDs (..., points) that the receiver cut off: many points have exactly the largest value.

    Real and imaginary part are looked at alone, coil by coil. What was filtered or combined after it was cut off is
    not recognised.

    Raises
    ------
    InputError
        With the number of such FIDs.
    """
    flat = fids.reshape(-1, fids.shape[-1])
    clipped, most = 0, 0
    for fid in flat:
        counts = [0]
        for part in (fid.real, fid.imag):
            size = np.abs(part)
            count = int(np.count_nonzero(size == size.max()))
            if count >= FEWEST_CLIPPED and np.unique(part).size >= min(FEWEST_LEVELS, part.size // 2):
                counts.append(count)
        clipped, most = clipped + (max(counts) > 0), max(most, *counts)
    if clipped:
        raise InputError(
            f"{name}: {clipped} of {len(flat)} FIDs are clipped (up to {most} points have exactly the largest value), "
            "expected one or two such points; the receiver gain was too high: exclude this scan"
        )


def _signal_power(part: np.ndarray, dwell_s: float, frequency_mhz: float) -> float:
    """Return the power of a part of FIDs (..., points) in 0 to 8 ppm, less the noise's; 0 below twice the noise's.

    Receivers' filters make the noise beside the signal lower than under it.
    """
    size = part.shape[-1]
    power = np.abs(np.fft.fftshift(np.fft.fft(part * np.hanning(size), axis=-1), axes=-1)) ** 2
    ppm = spectra.ppm_axis(size, dwell_s, frequency_mhz)
    inside = (ppm > SIGNAL_PPM[0]) & (ppm < SIGNAL_PPM[1])
    power = power.reshape(-1, size).mean(axis=0)
    noise = power[~inside].mean() if np.count_nonzero(~inside) >= 4 else power.min()
    return float((power[inside] - noise).sum()) if power[inside].mean() > 2 * noise else 0.0


def check_decay(fids: np.ndarray, dwell_s: float, frequency_mhz: float, name: str) -> None:
    """Refuse a signal that has not decayed when sampling ends: it rings through the spectrum, noise included.

    The last eighth of the FIDs (conditions, transients, coils, points), coils combined, is compared with the first,
    each with a Hann window, which keeps the signal out of where noise is measured.

    Raises
    ------
    InputError
        If more than a tenth of the amplitude is left.
    """
    combined = editing.combine_coils(fids, dwell_s)
    points = combined.shape[-1]
    size = min(max(points // 8, 32), points // 2)
    start, end = (
        _signal_power(combined[..., where], dwell_s, frequency_mhz)
        for where in (slice(None, size), slice(points - size, None))
    )
    left = math.sqrt(end / start) if start > 0 else 0.0
    if left > UNDECAYED:
        raise InputError(
            f"{name}: {100 * left:.0f} % of the signal is left after {points} points ({points * dwell_s * 1e3:.0f} "
            f"ms), expected below {100 * UNDECAYED:.0f} %; the FID is cut off: export the whole one, or exclude this "
            "scan"
        )


def water_over_metabolites(fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> float:
    """Return how much higher the water is than the highest metabolite, tails aside, in FIDs (..., coils, points).

    Of the spectra of FIDs multiplied by ``t exp(-20 t)`` (see `editing`), root mean square over transients.
    """
    combined = editing.combine_coils(fids, dwell_s)
    power = (np.abs(editing.derivative_spectrum(combined, dwell_s)) ** 2).reshape(-1, combined.shape[-1]).mean(axis=0)
    ppm = spectra.ppm_axis(combined.shape[-1], dwell_s, frequency_mhz)
    water, metabolites = (
        power[(ppm > low) & (ppm < high)].max(initial=0.0) for low, high in (WATER_PPM, METABOLITE_PPM)
    )
    return math.sqrt(water / max(metabolites, np.finfo(float).tiny))


def check_water(references: np.ndarray, dwell_s: float, frequency_mhz: float, name: str) -> float:
    """Return how much higher the water is than the metabolites in a water reference.

    Raises
    ------
    InputError
        If it is so low that water was suppressed: concentrations would be too high by that factor, and the phase of
        what is left is no measure of eddy currents.
    """
    found = water_over_metabolites(references, dwell_s, frequency_mhz)
    if found < LEAST_WATER:
        raise InputError(
            f"{name}: water is {found:.2g} times as high as the metabolites in this water reference, expected at least "
            f"{LEAST_WATER:g} (hundreds) without water suppression; give another reference, or set water_role to none"
        )
    return found
