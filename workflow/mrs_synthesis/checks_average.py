"""The averaged spectrum of a preprocessed scan: places of NAA, tCr, tCho and water, line width, SNR."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mrs_synthesis import alignment, spectra
from mrs_synthesis.stage import InputError

# Off their places by more: warn. Metabolites after referencing; a frequency that is 4 % wrong moves NAA by 0.04 ppm
POSITION_PPM = 0.03
WATER_OFFSET_PPM = 0.15  # what is left by water suppression has no clear middle, and its temperature moves it
PATTERN_PPM = 0.1  # NAA, tCr and tCho together off by more: fail; half of the distance from tCr to tCho
TCHO_PPM, WATER_PPM = (3.12, 3.30), (4.35, 4.95)
ZERO_FILL = 4
APODISATION_HZ = 2.0
SOURCES = (
    "Limits of line width and SNR: that they be set beforehand, and spectra beyond them be excluded, is the experts' "
    "recommendation (Oz et al., NMR Biomed 2021;34:e4236, abstract). The numbers are this project's choice, to be "
    "changed in the config (checks): 0.1 ppm (13 Hz at 3 T) lies above the 9.7 Hz (tCr, 3 T) up to which simulated "
    "GABA+ had errors below 5 % (PMC8935357), and an SNR of 10 far below that of averages of healthy brain. They tell "
    "little of the accuracy of GABA+ (PMC8935357)."
)


def measure(average: np.ndarray, water: np.ndarray, dwell_s: float, frequency_mhz: float) -> dict[str, float]:
    """Return what an averaged spectrum (OFF or UNEDITED) shows.

    Parameters
    ----------
    average, water
        FIDs (points,) of the preprocessed average and of the water that was taken from it.
    dwell_s, frequency_mhz
        Acquisition.

    Returns
    -------
    dict
        ``pattern_ppm`` (offset of NAA, tCr and tCho together), ``NAA``, ``tCr``, ``tCho``, ``water`` (ppm; NaN without
        any), ``linewidth_ppm`` (tCr fitted as Lorentzian), ``snr`` (its height over the SD of the real spectrum).

    Raises
    ------
    InputError
        If NAA, tCr and tCho lie too far off, or there is no signal-free region.
    """
    ppm = spectra.ppm_axis(average.size, dwell_s, frequency_mhz)
    spectrum = spectra.to_spectrum(average)
    lines = {name: alignment.fit_lines(spectrum, ppm, frequency_mhz, name) for name in ("tCr", "NAA")}
    try:
        noise = float(spectra.noise_sd(average, dwell_s, frequency_mhz)) * np.sqrt(average.size)
    except ValueError as error:
        raise InputError(str(error)) from None
    return {
        "pattern_ppm": alignment.reference_offset(average[None], dwell_s, frequency_mhz),
        "NAA": float(lines["NAA"].ppm),
        "tCr": float(lines["tCr"].ppm),
        "tCho": highest(average, dwell_s, frequency_mhz, TCHO_PPM),
        "water": highest(water, dwell_s, frequency_mhz, WATER_PPM),
        "linewidth_ppm": float(lines["tCr"].fwhm_hz) / frequency_mhz,
        "snr": float(lines["tCr"].height / max(noise, np.finfo(float).tiny)),
    }


def highest(fid: np.ndarray, dwell_s: float, frequency_mhz: float, limits_ppm: tuple[float, float]) -> float:
    """Return where the magnitude spectrum is highest within limits, in ppm; NaN if it is at their end."""
    n = fid.size
    fid = fid * np.exp(-np.pi * APODISATION_HZ * spectra.time_axis(n, dwell_s))
    size = np.abs(spectra.to_spectrum(np.pad(fid, (0, (ZERO_FILL - 1) * n))))
    ppm = spectra.ppm_axis(ZERO_FILL * n, dwell_s, frequency_mhz)
    inside = np.flatnonzero((ppm > limits_ppm[0]) & (ppm < limits_ppm[1]))
    peak = inside[np.argmax(size[inside])]
    return float(ppm[peak]) if inside[0] < peak < inside[-1] else float("nan")


def verdicts(found: Mapping[str, float], limits: Mapping[str, float]) -> list[tuple]:
    """Return check, verdict, found, expected, units and remedy of each, as `checks.row` takes them.

    Parameters
    ----------
    found
        What `measure` returned.
    limits
        ``linewidth_ppm`` and ``snr``.
    """
    offset = found["pattern_ppm"]
    verdict = "pass" if abs(offset) <= POSITION_PPM else "warn" if abs(offset) <= PATTERN_PPM else "fail"
    remedy = "look at the spectrum: another line was taken for the reference; set preprocess: reference, or exclude it"
    rows = [("reference", verdict, offset, f"0, at most {POSITION_PPM:g} either way", "ppm", remedy)]
    places = {"NAA": spectra.NAA_PPM, "tCr": spectra.TCR_PPM, "tCho": alignment.TCHO_PPM, "water": spectra.WATER_PPM}
    for name, place in places.items():
        reach = WATER_OFFSET_PPM if name == "water" else POSITION_PPM
        clear = np.isfinite(found[name])
        rows.append(
            (
                f"position_{name}",
                "pass" if clear and abs(found[name] - place) <= reach else "warn",
                found[name] if clear else "no peak",
                f"{place:g}, at most {reach:g} either way",
                "ppm",
                "look at the spectrum, its frequency and its reference",
            )
        )
    rows += quality(found, limits)
    return rows


def quality(found: Mapping[str, float], limits: Mapping[str, float]) -> list[tuple]:
    """Return the rows of line width and SNR, as `verdicts`."""
    remedy = "look at the spectrum; give a reason in the sheet's column exclude, or change the limit in the config"
    wide, noisy = found["linewidth_ppm"] > limits["linewidth_ppm"], not found["snr"] >= limits["snr"]
    return [
        (
            "linewidth",
            "warn" if wide else "pass",
            found["linewidth_ppm"],
            f"at most {limits['linewidth_ppm']:g}",
            "ppm",
            remedy,
        ),
        ("snr", "warn" if noisy else "pass", found["snr"], f"at least {limits['snr']:g}", "", remedy),
    ]
