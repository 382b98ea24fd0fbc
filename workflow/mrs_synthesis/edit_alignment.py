"""Alignment of the average of edit-ON to that of edit-OFF: small errors here are large ones in their difference.

`match_edited` is what the engine `batched` does. `least_squares` is FSL-MRS's way (`align-diff`), written after its
equations: what editing changes counts as misalignment there. `alignment_study` compares them on the phantom.
"""

from __future__ import annotations

import numpy as np

from mrs_synthesis import spectra

GABA_PPM = 3.01
GABA_LINES_HZ = ((-7.3, 10.0), (7.3, 10.0), (0.0, 18.0))  # offset, width: outer lines of the triplet; macromolecules


def match_edited(
    on: np.ndarray, off: np.ndarray, dwell_s: float, frequency_mhz: float, limits_ppm: tuple[float, float]
) -> tuple[float, float]:
    """Return the shift (Hz) and phase (rad) that bring the average of edit-ON onto that of edit-OFF.

    Least squares on their complex spectra within `limits_ppm`, where tCr and tCho are the same in both. What differs
    there is fitted along, since it would bias the result (by 2 to 6 degrees in simulations): GABA+ in ON, as a doublet
    of two free heights and a broader line, all absorptive, and the tails of what editing changes elsewhere (NAA, Glx),
    as a complex constant and a slope of the imaginary part: absorptive tails fall with the square of the distance, only
    dispersive ones are long. Both FIDs, of shape (points,), must be in phase, referenced and already within a few Hz of
    each other.
    """
    n = off.size
    t = spectra.time_axis(n, dwell_s)
    ppm = spectra.ppm_axis(n, dwell_s, frequency_mhz)
    inside = (ppm >= limits_ppm[0]) & (ppm <= limits_ppm[1])
    x = np.linspace(-1, 1, int(inside.sum()))
    columns = [np.ones_like(x), 1j * np.ones_like(x), 1j * x]
    for offset_hz, fwhm_hz in GABA_LINES_HZ:
        centre_hz = (GABA_PPM - spectra.WATER_PPM) * frequency_mhz + offset_hz
        gaussian = np.exp(2j * np.pi * centre_hz * t - (np.pi * fwhm_hz * t) ** 2 / (4 * np.log(2)))
        columns.append(spectra.to_spectrum(gaussian)[inside] * fwhm_hz * dwell_s)
    nuisance, _ = np.linalg.qr(np.stack([np.r_[c.real, c.imag] for c in columns], axis=-1))
    target = spectra.to_spectrum(off)[inside]

    def residual(shift: float, phase: float) -> np.ndarray:
        moved = spectra.shift_and_phase(on, dwell_s, np.asarray(shift), np.asarray(phase))
        difference = spectra.to_spectrum(moved)[inside] - target
        stacked = np.r_[difference.real, difference.imag]
        return stacked - nuisance @ (nuisance.T @ stacked)

    found, best, damping = np.zeros(2), residual(0.0, 0.0), 1e-2
    for _ in range(30):
        jacobian = np.stack([(residual(*(found + d)) - best) / d.sum() for d in np.diag([1e-3, 1e-4])], axis=-1)
        normal = jacobian.T @ jacobian
        step = -np.linalg.solve(normal + damping * np.diag(np.diag(normal)), jacobian.T @ best)
        trial = residual(*(found + step))
        if trial @ trial <= best @ best:
            found, best, damping = found + step, trial, damping * 0.2
            if abs(step[0]) < 1e-6 and abs(step[1]) < 1e-7:
                break
        else:
            damping *= 5.0
    return float(found[0]), float(found[1])


def least_squares(
    on: np.ndarray, off: np.ndarray, dwell_s: float, frequency_mhz: float, limits_ppm: tuple[float, float]
) -> tuple[float, float]:
    """Return the shift (Hz) and phase (rad) of plain least squares on the complex spectra, as FSL-MRS finds them.

    FSL-MRS minimises ``||S(on exp(-i (phi + 2 pi eps t))) - S(off)|| / ||off||`` over the window by Powell's method
    from (0, 0), with a time axis that starts at one dwell and a frequency axis that includes both ends of the
    bandwidth, the window's last bin left out (Clarke et al., Magn Reson Med 2021). The result is in this project's
    sense: up is positive, and time starts at 0.
    """
    from scipy import optimize

    n = off.size
    t = spectra.time_axis(n, dwell_s) + dwell_s
    ppm = np.linspace(-0.5 / dwell_s, 0.5 / dwell_s, n) / frequency_mhz + spectra.WATER_PPM
    first, last = (int(np.argmin(np.abs(ppm - limit))) for limit in limits_ppm)
    target = spectra.to_spectrum(off)[first:last]
    norm = np.linalg.norm(off) * np.sqrt(n)  # FSL-MRS's transform is orthonormal

    def distance(x: np.ndarray) -> float:
        moved = spectra.to_spectrum(on * np.exp(-1j * (x[0] + 2 * np.pi * x[1] * t)))[first:last]
        return float(np.linalg.norm(moved - target) / norm)

    phi, eps = optimize.minimize(distance, np.zeros(2), method="Powell").x
    return float(-eps), float(-phi - 2 * np.pi * eps * dwell_s)
