"""Basis sets checked: where their lines lie, against the literature, and whether they fit the data."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from mrs_synthesis import metabolites, spectra
from mrs_synthesis.basis_read import TE_TOLERANCE_MS, Basis, moved
from mrs_synthesis.stage import InputError

# Lines that a basis' ppm axis is read from (Govindaraju et al., NMR Biomed 2000): singlets; in the difference
# NAA's and NAAG's, which editing inverts, and the middles of the multiplets that it leaves
SINGLETS = {
    "NAA": (spectra.NAA_PPM,),
    "Cr": (spectra.TCR_PPM, 3.913),
    "PCr": (3.029, 3.930),
    "GPC": (3.212,),
    "PCh": (3.208,),
    "Cho": (3.185,),
    "Scyllo": (3.340,),
    "Gly": (3.548,),
}
EDITED = {
    "NAA": (spectra.NAA_PPM,),
    "NAAG": (2.042,),
    "GABA": (3.01, 2.28),
    "GSH": (2.48, 3.77),
    "Glu": (2.34, 3.75),
    "Gln": (2.44, 3.75),
}
SINGLET_HZ, MULTIPLET_HZ = 4.0, 16.0  # broadening that makes one peak of a singlet, and of a multiplet
PEAK_TOLERANCE_PPM = 0.03
NEAR_PPM = 0.1
FIELD_TOLERANCE = 0.05  # data against basis; 1.5 T, 3 T and 7 T scanners of all vendors differ by less
# Errors in ppm of the distance between lines, which tells the field: singlets; with the middle of GABA's multiplet
SPACING_PPM, EDITED_SPACING_PPM = 0.02, 0.05
MARGIN = 1.15  # another reading of the axis must explain the lines this much better than the file's own
ENOUGH = 0.55  # mean height where lines should be, of highest peak; 0.74-0.96 in real sets, 0.3-0.5 if mirrored
COMMON = 0.3  # a signal this high in four of five metabolites at one place is a reference, no metabolite
FIT_RANGE_PPM = (0.2, 4.2)


@dataclass(frozen=True)
class Axis:
    """How a basis differs from the project's convention: conjugated or not, and what ppm it has at the carrier."""

    conjugated: bool
    carrier_ppm: float


def strongest(basis: Basis, name: str) -> tuple[float, complex]:
    """Return ppm and complex height of the strongest peak between 0.5 and 8.2 ppm."""
    ppm, spectrum = basis.spectrum(name)
    # Reference peaks of measured bases (0 and 8.44 ppm) lie outside; the mirror images of NAA and Cr lie inside
    inside = np.flatnonzero((ppm > 0.5) & (ppm < 8.2))
    peak = inside[np.argmax(np.abs(spectrum[inside]))]
    return float(ppm[peak]), complex(spectrum[peak])


def _lines(basis: Basis, condition: str | None) -> dict[str, tuple[float, ...]]:
    table = EDITED if condition == "DIFF" else SINGLETS
    # ON: the editing pulse saturates NAA's singlet
    return {n: ppm for n, ppm in table.items() if n in basis.names and not (n == "NAA" and condition == "ON")}


def _heights(basis: Basis, names: Sequence[str], broadening_hz: float) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies in Hz and, per name, the magnitude spectrum with highest peak 1, without reference signals."""
    high = np.array([np.abs(basis.spectrum(name, broadening_hz)[1]) for name in basis.names])
    if len(high) > 3:
        relative = high / np.maximum(high.max(axis=1, keepdims=True), 1e-300)
        high[:, np.quantile(relative, 0.2, axis=0) > COMMON] = 0
    ppm = basis.spectrum(basis.names[0])[0]
    high = high[[basis.names.index(name) for name in names]]
    return (ppm - spectra.WATER_PPM) * basis.frequency_mhz, high / np.maximum(high.max(axis=1, keepdims=True), 1e-300)


def _score(
    hz: np.ndarray, high: np.ndarray, lines: Sequence[tuple[float, ...]], carriers: np.ndarray, mhz: float
) -> np.ndarray:
    """Return for every carrier how high the spectra are where the lines should be; `mhz` < 0: conjugated FIDs."""
    total = np.zeros(carriers.size)
    for row, positions in zip(high, lines, strict=True):
        for ppm in positions:
            total += np.interp((ppm - carriers) * mhz, hz, row, left=0, right=0) / len(positions)
    return total / len(lines)


def find_axis(basis: Basis, condition: str | None = None) -> Axis:
    """Find from known lines whether a basis is conjugated, and what ppm it has at the carrier (to 0.01 ppm).

    Both signs and every carrier in the bandwidth are tried. What is there (4.65 ppm at the carrier, not conjugated) is
    kept unless another reading explains the lines clearly better. Fewer than two lines of known place determine
    nothing: then it is kept too.

    Raises
    ------
    InputError
        If nothing puts the lines where they belong; with the field strength that does, if there is one.
    """
    lines = _lines(basis, condition)
    here = Axis(False, spectra.WATER_PPM)
    if sum(map(len, lines.values())) < 2:
        return here
    hz, high = _heights(basis, list(lines), MULTIPLET_HZ if condition == "DIFF" else SINGLET_HZ)
    half = float(hz.max()) / basis.frequency_mhz
    carriers = np.arange(2.0 - half, 4.0 + half, PEAK_TOLERANCE_PPM / 6)
    tried = {
        conjugated: _score(hz, high, list(lines.values()), carriers, sign * basis.frequency_mhz)
        for conjugated, sign in ((False, 1), (True, -1))
    }
    near = np.abs(carriers - spectra.WATER_PPM) < PEAK_TOLERANCE_PPM
    scores = {Axis(c, float(carriers[k])): s[k] for c, s in tried.items() for k in [int(np.argmax(s))]}
    best = max(scores, key=scores.get)
    if scores[best] < MARGIN * tried[False][near].max():
        best = here
    elif scores[best] < ENOUGH:
        raise InputError(_no_axis(basis, condition, hz, high, lines))
    offset = _offset(apply_axis(basis, best), condition)
    return Axis(best.conjugated, round(best.carrier_ppm + offset, 2))


def _no_axis(basis: Basis, condition: str | None, hz: np.ndarray, high: np.ndarray, lines: dict) -> str:
    """Say why no reading of the axis was found, trying other field strengths."""
    scores = {}
    for mhz in np.geomspace(20, 500, 330):  # steps of 1 %
        carriers = np.arange(0, 10, PEAK_TOLERANCE_PPM / 3)
        scores[mhz] = max(_score(hz, high, list(lines.values()), carriers, sign * mhz).max() for sign in (1, -1))
    likely = max(scores, key=scores.get)
    text = f"basis {condition or ''}: the lines of {', '.join(lines)} are not where they belong at "
    text += f"{basis.frequency_mhz:.1f} MHz"
    if scores[likely] >= ENOUGH and len(lines) > 1:
        return f"{text}, but are near {likely:.0f} MHz; correct the file's frequency or dwell time"
    return f"{text}, at no carrier and with no sign of the imaginary part; check how it was simulated"


def _offset(basis: Basis, condition: str | None) -> float:
    """Return how far the singlets lie below their places, in ppm, on average over those found."""
    offsets = [ppm[0] - found for ppm, found in _found(basis, condition) if abs(found - ppm[0]) < NEAR_PPM]
    return float(np.mean(offsets)) if offsets else 0.0


def _found(basis: Basis, condition: str | None) -> list[tuple[tuple[float, ...], float]]:
    names = [name for name in _lines(basis, condition) if condition != "DIFF" or name in ("NAA", "NAAG")]
    return [(_lines(basis, condition)[name], strongest(basis, name)[0]) for name in names]


def apply_axis(basis: Basis, axis: Axis) -> Basis:
    """Return the basis in the project's convention, its source's carrier noted."""
    carrier = round(basis.carrier_ppm + axis.carrier_ppm - spectra.WATER_PPM, 3)
    oriented = replace(basis, fids=np.conj(basis.fids)) if axis.conjugated else basis
    return replace(moved(oriented, axis.carrier_ppm - spectra.WATER_PPM), carrier_ppm=carrier)


def field_mhz(basis: Basis, condition: str | None = None) -> tuple[float, float] | None:
    """Return the spectrometer frequency that the distances of lines tell, and its error, both in MHz.

    The median over pairs of lines at least 0.3 ppm apart. None where too few are known.
    """
    lines = [(ppm[0], found) for ppm, found in _found(basis, condition)]
    if condition == "DIFF" and "GABA" in basis.names:
        (ppm, spectrum), (low, high) = basis.spectrum("GABA"), metabolites.GABA_RANGE_PPM
        inside = (ppm > low) & (ppm < high)
        weight = np.maximum(spectrum.real[inside], 0)
        lines.append((EDITED["GABA"][0], float(ppm[inside] @ weight / max(weight.sum(), 1e-300))))
    slopes = [(b - y) / (a - x) for a, b in lines for x, y in lines if a - x > 0.3]
    if not slopes:
        return None
    reach = np.ptp([ppm for ppm, _ in lines])
    error = (EDITED_SPACING_PPM if condition == "DIFF" else SPACING_PPM) / reach
    return float(np.median(slopes)) * basis.frequency_mhz, error * basis.frequency_mhz


def check_peaks(basis: Basis, condition: str | None = None) -> dict[str, float]:
    """Check where the singlets of NAA (2.008 ppm) and Cr, PCr (3.027 ppm) lie, what sign NAA and GABA have, the field.

    Parameters
    ----------
    basis
        One condition's basis.
    condition
        OFF, ON, DIFF or UNEDITED. None: NAA may have either sign.

    Returns
    -------
    dict
        ``{"NAA_ppm": ..., "Cr_ppm": ..., "field_mhz": ...}`` of what the basis holds and the condition shows.

    Raises
    ------
    InputError
        If a singlet is more than 0.03 ppm off, NAA has the wrong sign (positive, but negative in DIFF), GABA at 3.0
        ppm is not positive in DIFF, or the lines' distances belong to another field strength.
    """
    facts, field = {}, field_mhz(basis, condition)
    if field is not None and field[0] > 0:  # negative: mirrored, which the positions tell
        facts["field_mhz"] = round(field[0], 2)
        if abs(field[0] - basis.frequency_mhz) > field[1]:
            raise InputError(
                f"basis {condition or ''}: says {basis.frequency_mhz:.1f} MHz, but its lines lie as at "
                f"{field[0]:.1f} MHz; correct the file's frequency or dwell time"
            )
    for name in ("NAA", "Cr", "PCr"):
        # NAA's singlet is gone in ON, those of Cr and PCr in DIFF
        if name not in basis.names or condition == ("ON" if name == "NAA" else "DIFF"):
            continue
        expected = spectra.NAA_PPM if name == "NAA" else spectra.TCR_PPM
        ppm, value = strongest(basis, name)
        if abs(ppm - expected) > PEAK_TOLERANCE_PPM:
            raise InputError(
                f"basis {condition or ''}: strongest peak of {name} at {ppm:.3f} ppm, expected {expected}; "
                "the carrier, the field strength or the sign of the imaginary part is wrong"
            )
        wanted = -1 if condition == "DIFF" else 1
        if name == "NAA" and condition and wanted * value.real < 0:
            raise InputError(
                f"basis {condition}: NAA is {'negative' if value.real < 0 else 'positive'} at 2.0 ppm; expected the "
                "opposite (DIFF is ON - OFF); exchange the inputs or change the basis' sign"
            )
        facts[f"{name}_ppm"] = round(ppm, 4)
    edited = condition == "DIFF" and "GABA" in basis.names
    if edited and metabolites.area(basis, "GABA", *metabolites.GABA_RANGE_PPM) <= 0:
        raise InputError(
            "basis DIFF: GABA is not positive at 3.0 ppm; it must be ON - OFF with the ON pulse at 1.9 ppm, in phase"
        )
    return facts


def orient(basis: Basis, condition: str | None = None, axis: Axis | None = None) -> tuple[Basis, dict]:
    """Return the basis in the project's convention, and what was found and done.

    Raises InputError as `find_axis` and `check_peaks` do. `axis`: known already, as from the same simulation's other
    edit condition.
    """
    axis = find_axis(basis, condition) if axis is None else axis
    oriented = apply_axis(basis, axis)
    facts = {"conjugated": axis.conjugated, "carrier_ppm": oriented.carrier_ppm}
    return oriented, check_peaks(oriented, condition) | facts


def _missing(basis: Basis, condition: str, wanted: Sequence[str]) -> list[str]:
    """Return what of `wanted`, metabolites or sums of them, the basis cannot give, with what it would take."""
    table = metabolites.SUMS | metabolites.DIFF_SUMS
    missing = []
    for name in wanted:
        members = table.get(name, (name,))
        # GABA+ without GABA would be macromolecules alone; of other sums one member is enough
        needed = members[:1] if name in metabolites.DIFF_SUMS else members
        if name not in basis.names and not set(needed) & set(basis.names):
            missing.append(name if needed == (name,) else f"{name} ({' or '.join(needed)})")
    return missing


def check_against_data(
    basis: Basis,
    condition: str,
    *,
    n_points: int,
    dwell_s: float,
    frequency_mhz: float,
    te_ms_data: float | None = None,
    te_ms_basis: float | None = None,
    wanted: Sequence[str] | None = None,
    ppm_range: tuple[float, float] = FIT_RANGE_PPM,
) -> None:
    """Check that a basis can be fitted to data of a raster.

    Parameters
    ----------
    basis
        One condition's basis.
    condition
        OFF, ON, DIFF or UNEDITED.
    n_points, dwell_s, frequency_mhz
        Raster of the data.
    te_ms_data, te_ms_basis
        Echo times; not compared if either is unknown. `te_ms_basis` None: the one that `basis` states.
    wanted
        Metabolites or sums (tCr, GABA+) that must come out of the fit. None: GABA+ of DIFF, tCr of the others, and NAA.
    ppm_range
        What is fitted.

    Raises
    ------
    InputError
        One line for the first that does not fit: field strength more than 5 % off, echo time more than 2 ms off, basis
        shorter than the data, bandwidth narrower than the fit range, missing metabolites.
    """
    ratio = basis.frequency_mhz / frequency_mhz
    if not 1 / (1 + FIELD_TOLERANCE) <= ratio <= 1 + FIELD_TOLERANCE:
        raise InputError(
            f"basis {condition} at {basis.frequency_mhz:.2f} MHz, data at {frequency_mhz:.2f} MHz: more than 5 % "
            "apart; give a basis simulated for this field strength"
        )
    te_ms_basis = basis.te_ms if te_ms_basis is None else te_ms_basis
    if te_ms_data is not None and te_ms_basis is not None and abs(te_ms_data - te_ms_basis) > TE_TOLERANCE_MS:
        raise InputError(
            f"basis {condition} for TE {te_ms_basis:g} ms, data with TE {te_ms_data:g} ms; "
            "give a basis simulated for this echo time"
        )
    # As in `basis.at_frequency`: chemical shifts are kept, so that times scale with the frequency
    dwell_basis, n_basis = basis.dwell_s * ratio, basis.fids.shape[1]
    if (n_points - 1) * dwell_s > (n_basis - 1) * dwell_basis + 1e-9:
        raise InputError(
            f"basis {condition} lasts {n_basis * dwell_basis:.3f} s, the data {n_points * dwell_s:.3f} s; "
            "simulate the basis with more points"
        )
    half_hz = max(abs(ppm - spectra.WATER_PPM) for ppm in ppm_range) * frequency_mhz
    for what, dwell in (("basis", dwell_basis), ("data", dwell_s)):
        if 0.5 / dwell < half_hz:
            raise InputError(
                f"{what} {condition}: bandwidth {1 / dwell:.0f} Hz around 4.65 ppm; a fit from {ppm_range[0]:g} to "
                f"{ppm_range[1]:g} ppm needs {2 * half_hz:.0f} Hz; use a shorter dwell time or a narrower fit range"
            )
    if wanted is None:
        wanted = ("GABA+", "NAA") if condition == "DIFF" else ("tCr", "NAA")
    if missing := _missing(basis, condition, wanted):
        raise InputError(
            f"basis {condition}: no {', '.join(missing)} among {', '.join(basis.names)}; "
            "add what is missing to the basis set, or leave it out of what is asked for"
        )
