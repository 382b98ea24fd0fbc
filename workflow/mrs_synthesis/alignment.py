"""Frequency and phase: transients to each other, conditions to each other, and the average to the ppm scale.

The least-squares shift and phase between a transient x and a target g that is confined to a spectral window
(spectral registration, Near et al., Magn Reson Med 2015) maximise the real part of
``C(f) = sum_t conj(g(t)) x(t) exp(i (2 pi f t + phase))``. The best phase is thus ``-arg C(f)``, and only ``|C(f)|``
has to be searched: over a grid by FFT, which captures any drift, then by Newton steps, for all transients at once. The
target is robust: the median over the transients, and at last the mean of those that are like it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import fft

from mrs_synthesis import spectra
from mrs_synthesis.stage import InputError

MAX_SHIFT_HZ = 30.0
TCHO_PPM = 3.21  # trimethylamine of GPC and PCh, Govindaraju et al. 2000
SHARP_TAU_S = 0.03  # lines of 8 Hz; the weight is highest at 60 ms
TAPER_PPM = 0.05  # soft edges of the window
SINGLETS_PPM = {"NAA": spectra.NAA_PPM, "tCr": spectra.TCR_PPM, "tCho": TCHO_PPM}
FIT_PPM = {"tCr": ((spectra.TCR_PPM, TCHO_PPM), (2.85, 3.32)), "NAA": ((spectra.NAA_PPM,), (1.85, 2.12))}
MAX_REFERENCE_OFFSET_PPM = 0.2
MAD_TO_SD = 1.4826
UNLIKE_PPM = (0.2, 4.2)
UNLIKE_APODISATION_HZ = 5.0  # about the linewidth in vivo: the matched filter for a change of the signal
MIN_TRANSIENTS_TO_COMPARE = 6


def confine(fid: np.ndarray, dwell_s: float, frequency_mhz: float, limits_ppm: tuple[float, float]) -> np.ndarray:
    """Return FIDs whose spectrum is confined to a window with soft edges.

    Zero-filled before and cut after, since the window makes a FID ring before its start, which would otherwise wrap to
    its end: there it would make shifts two to three times less precise.
    """
    n = fid.shape[-1]
    ppm = spectra.ppm_axis(2 * n, dwell_s, frequency_mhz)
    outside = np.maximum(limits_ppm[0] - ppm, ppm - limits_ppm[1])
    weights = 0.5 * (1 + np.cos(np.pi * np.clip(outside / TAPER_PPM, 0.0, 1.0)))
    return fft.ifft(fft.fft(fid, 2 * n) * np.fft.ifftshift(weights))[..., :n]


def decimated(
    fid: np.ndarray, dwell_s: float, frequency_mhz: float, limits_ppm: tuple[float, float], guard_hz: float
) -> tuple[np.ndarray, float, tuple[float, float]]:
    """Return FIDs of a part of the spectrum alone on a coarser raster, its dwell time, and the window's place there.

    The part is the window and `guard_hz` to each side, so that FIDs may be moved by that much before they are confined
    to the window. Shifts (Hz) and phases (rad) are the same on both rasters; what depends on the number of points takes
    a fraction of the time.
    """
    n = fid.shape[-1]
    centre_ppm = (limits_ppm[0] + limits_ppm[1]) / 2
    centre = n + round((centre_ppm - spectra.WATER_PPM) * frequency_mhz * 2 * n * dwell_s)
    half = int(np.ceil(((limits_ppm[1] - centre_ppm + 2 * TAPER_PPM) * frequency_mhz + guard_hz) * 2 * n * dwell_s))
    length = fft.next_fast_len(2 * half)
    if length >= 2 * n or centre - half < 0 or centre + half > 2 * n:
        return fid, dwell_s, limits_ppm
    spectrum = np.fft.fftshift(fft.fft(fid, 2 * n), axes=-1)[..., centre - half : centre + half]
    padded = np.zeros((*fid.shape[:-1], length), complex)
    padded[..., :half], padded[..., length - half :] = spectrum[..., half:], spectrum[..., :half]
    moved_ppm = (n - centre) / (2 * n * dwell_s * frequency_mhz)  # the window's centre is at 0 Hz now
    window = (limits_ppm[0] + moved_ppm, limits_ppm[1] + moved_ppm)
    return fft.ifft(padded)[..., : length // 2], 2 * n * dwell_s / length, window


def register(
    fid: np.ndarray, target: np.ndarray, dwell_s: float, max_shift_hz: float = MAX_SHIFT_HZ
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift (Hz) and phase (rad) that bring each FID onto the target, both of shape ``fid.shape[:-1]``.

    Parameters
    ----------
    fid
        Shape (..., points).
    target
        Shape (points,), already confined to its window: what is outside the window has no influence.
    max_shift_hz
        Search range.
    """
    n = fid.shape[-1]
    t = spectra.time_axis(n, dwell_s)
    product = np.conj(target) * fid
    n_grid = 4 * fft.next_fast_len(n)
    grid = np.fft.fftfreq(n_grid, dwell_s)
    near = np.flatnonzero(np.abs(grid) <= max_shift_hz)
    correlation = np.abs(fft.fft(product, n_grid)[..., near])
    shift = -grid[near][np.argmax(correlation, axis=-1)]
    step_limit = 1.0 / (n * dwell_s)
    for _ in range(5):
        turned = product * np.exp(2j * np.pi * shift[..., None] * t)
        c0, c1, c2 = (np.sum(turned * (2j * np.pi * t) ** k, axis=-1) for k in (0, 1, 2))
        slope = 2 * np.real(np.conj(c0) * c1)
        curvature = 2 * np.real(np.conj(c0) * c2) + 2 * np.abs(c1) ** 2
        step = np.where(curvature < 0, -slope / np.where(curvature < 0, curvature, 1.0), 0.0)
        shift = np.clip(shift + np.clip(step, -step_limit, step_limit), -max_shift_hz, max_shift_hz)
    turned = product * np.exp(2j * np.pi * shift[..., None] * t)
    return shift, -np.angle(np.sum(turned, axis=-1))


def _median(fids: np.ndarray) -> np.ndarray:
    return np.median(fids.real, axis=0) + 1j * np.median(fids.imag, axis=0)


def sharpened(fids: np.ndarray, dwell_s: float) -> np.ndarray:
    """Return FIDs weighted by ``t^2 exp(-t / tau)``.

    Their lines fall off as the third power of the distance, instead of the first: the tails of water, however strong,
    and a broad baseline vanish. Shift and phase stay what they were.
    """
    t = spectra.time_axis(fids.shape[-1], dwell_s) / SHARP_TAU_S
    return fids * t**2 * np.exp(-t)


def coarse_shifts(confined: np.ndarray, dwell_s: float, max_shift_hz: float) -> np.ndarray:
    """Return shifts that superpose the magnitude spectra of transients to within a few Hz, shape (transients,).

    Magnitudes need no phase, so that this gives a start when drift has smeared the average. `confined` are FIDs that
    `confine` has left a window of, shape (transients, points).
    """
    n = confined.shape[-1]
    magnitude = np.abs(spectra.to_spectrum(confined))
    step_hz = 1.0 / (n * dwell_s)
    reach = int(np.ceil(max_shift_hz / step_hz))
    lags = np.arange(-reach, reach + 1)
    transformed = fft.fft(magnitude)
    shift = np.zeros(len(magnitude), int)
    for _ in range(4):
        moved = np.stack([np.roll(row, lag) for row, lag in zip(magnitude, shift, strict=True)])
        target = np.median(moved, axis=0) if len(moved) > 2 else moved.mean(axis=0)
        correlation = fft.ifft(np.conj(transformed) * fft.fft(target)).real[:, lags]
        shift = lags[np.argmax(correlation, axis=-1)]
    return (shift - int(np.median(shift))) * step_hz


def align(
    fids: np.ndarray,
    dwell_s: float,
    frequency_mhz: float,
    limits_ppm: tuple[float, float],
    *,
    good: np.ndarray | None = None,
    coarse: bool = True,
    max_shift_hz: float = MAX_SHIFT_HZ,
    iterations: int = 4,
) -> tuple[np.ndarray, np.ndarray]:
    """Return the shift (Hz) and phase (rad) that bring transients onto their common robust target.

    Parameters
    ----------
    fids
        Transients of one condition, shape (transients, points).
    limits_ppm
        The part of the spectrum that counts. Keep it clear of residual water.
    good
        Transients to make the target of, shape (transients,), boolean; all by default.
    coarse
        Nothing is known yet: start from magnitude spectra, and use `sharpened` FIDs, since water is still there. The
        result is less precise than that of a second call, with False, on transients nearly aligned and without water.
    max_shift_hz
        Search range.
    iterations
        How often the target is made anew: each time the median over transients, the last time the mean of those whose
        distance to the median is no outlier.

    Returns
    -------
    tuple
        shift_hz and phase_rad, both of shape (transients,); the median shift is 0.
    """
    shift, phase = np.zeros(len(fids)), np.zeros(len(fids))
    if len(fids) == 1:
        return shift, phase
    good = np.ones(len(fids), bool) if good is None else good
    if coarse:
        fids = sharpened(fids, dwell_s)
    fids, dwell_s, limits_ppm = decimated(fids, dwell_s, frequency_mhz, limits_ppm, max_shift_hz)

    def confined() -> np.ndarray:
        return confine(spectra.shift_and_phase(fids, dwell_s, shift, phase), dwell_s, frequency_mhz, limits_ppm)

    used = good
    if coarse:
        shift = coarse_shifts(confined(), dwell_s, max_shift_hz)
        common = confined()[good]
        _, vectors = np.linalg.eigh(common @ np.conj(common.T))
        target = np.conj(vectors[:, -1]) @ common  # the strongest singular vector needs no phases to be known
        shift, phase = register(fids, target, dwell_s, max_shift_hz)
    for iteration in range(iterations):
        moved = confined()
        target = _median(moved[good])
        if iteration == iterations - 1:
            used = good & ~outliers(np.linalg.norm(moved - target, axis=-1), good, 3.5)
            target = moved[used].mean(axis=0)
        shift, phase = register(fids, target, dwell_s, max_shift_hz)
    middle = np.median(shift[used])
    return shift - middle, _wrap(phase)


def _wrap(phase: np.ndarray) -> np.ndarray:
    return np.angle(np.exp(1j * np.asarray(phase)))


def outliers(values: np.ndarray, known_good: np.ndarray, limit: float) -> np.ndarray:
    """Return which values lie more than `limit` robust SDs (1.4826 MAD) above the median of the good ones."""
    centre = np.median(values[known_good])
    spread = MAD_TO_SD * np.median(np.abs(values[known_good] - centre))
    return values > centre + limit * max(spread, 1e-9 * abs(centre))


def unlike(
    fids: np.ndarray,
    dwell_s: float,
    frequency_mhz: float,
    limit_sd: float,
    limits_ppm: tuple[float, float] = UNLIKE_PPM,
) -> np.ndarray:
    """Return which aligned transients are unlike the median one, shape (transients,).

    The distance is the norm of the difference to the median spectrum (real and imaginary) within `limits_ppm`, after
    5 Hz of line broadening; it is one-sided, and its spread is robust. With fewer than 6 transients none is unlike.
    """
    n_transients, n = fids.shape
    empty = np.linalg.norm(fids, axis=-1) == 0
    if n_transients < MIN_TRANSIENTS_TO_COMPARE:
        return empty
    decay = np.exp(-np.pi * UNLIKE_APODISATION_HZ * spectra.time_axis(n, dwell_s))
    ppm = spectra.ppm_axis(n, dwell_s, frequency_mhz)
    inside = (ppm >= limits_ppm[0]) & (ppm <= limits_ppm[1])
    spectrum = spectra.to_spectrum(fids * decay)[:, inside]
    good = ~empty
    for _ in range(3):
        distance = np.linalg.norm(spectrum - _median(spectrum[good]), axis=-1)
        good = ~(outliers(distance, good, limit_sd) | empty)
    return ~good


@dataclass
class Lines:
    """The reference singlet (and, for tCr, tCho beside it) fitted as Lorentzians, one value per spectrum.

    Attributes
    ----------
    ppm, fwhm_hz
        Where the reference line is, and its full width at half maximum.
    height
        Its height in `spectra.to_spectrum`'s units, in phase with `phase_rad`.
    phase_rad
        Zero-order phase of the lines: turn the FID by minus this to make them absorptive and positive.
    """

    ppm: np.ndarray
    fwhm_hz: np.ndarray
    height: np.ndarray
    phase_rad: np.ndarray


def fit_lines(
    spectrum: np.ndarray, ppm: np.ndarray, frequency_mhz: float, reference: str = "tCr", start_ppm: float | None = None
) -> Lines:
    """Fit the reference line of spectra of shape (..., bins), all at once.

    Lorentzians of one shift and one width with complex amplitudes (tCr and tCho, or NAA alone) on a complex linear
    baseline, by variable projection (Golub & Pereyra 1973) and Levenberg-Marquardt.

    Parameters
    ----------
    ppm
        Increasing axis, shape (bins,).
    reference
        ``"tCr"`` (3.027 ppm) or ``"NAA"`` (2.008 ppm).
    start_ppm
        Where the line is, to within its width; by default where it should be.
    """
    positions, (low, high) = FIT_PPM[reference]
    offset = 0.0 if start_ppm is None else start_ppm - positions[0]
    shape = spectrum.shape[:-1]
    inside = (ppm >= low + offset) & (ppm <= high + offset)
    x = (ppm[inside] - positions[0] - offset) * frequency_mhz
    beside = [(p - positions[0]) * frequency_mhz for p in positions]
    data = spectrum.reshape(-1, spectrum.shape[-1])[:, inside]
    baseline = np.stack([np.ones_like(x), x / np.abs(x).max()], axis=-1)

    def solve(parameters: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        half = np.exp(parameters[:, 1])[:, None] / 2
        lines = [half / (half + 1j * (x - b - parameters[:, :1])) for b in beside]
        design = np.concatenate(
            [np.stack(lines, axis=-1), np.broadcast_to(baseline, (len(data), *baseline.shape))], axis=-1
        )
        adjoint = np.conj(np.swapaxes(design, 1, 2))
        linear = np.linalg.solve(adjoint @ design, adjoint @ data[:, :, None])
        return linear[:, :, 0], data - (design @ linear)[:, :, 0]

    parameters = np.tile([0.0, np.log(6.0)], (len(data), 1))
    damping = np.full(len(data), 1e-2)
    linear, residual = solve(parameters)
    cost = np.sum(np.abs(residual) ** 2, axis=-1)
    for _ in range(25):
        columns = []
        for k, step in enumerate((1e-3, 1e-4)):
            moved = parameters.copy()
            moved[:, k] += step
            columns.append((solve(moved)[1] - residual) / step)
        jacobian = np.stack(columns, axis=-1)
        normal = np.real(np.conj(np.swapaxes(jacobian, 1, 2)) @ jacobian)
        gradient = np.real(np.conj(np.swapaxes(jacobian, 1, 2)) @ residual[:, :, None])
        diagonal = normal * np.eye(2) + 1e-12 * np.trace(normal, axis1=1, axis2=2)[:, None, None] * np.eye(2) + 1e-300
        step = -np.linalg.solve(normal + damping[:, None, None] * diagonal, gradient)[:, :, 0]
        trial = parameters + np.clip(step, [-3.0, -0.5], [3.0, 0.5])
        trial = np.clip(trial, [-15.0, np.log(0.5)], [15.0, np.log(40.0)])
        trial_linear, trial_residual = solve(trial)
        trial_cost = np.sum(np.abs(trial_residual) ** 2, axis=-1)
        better = trial_cost <= cost
        parameters = np.where(better[:, None], trial, parameters)
        linear = np.where(better[:, None], trial_linear, linear)
        residual = np.where(better[:, None], trial_residual, residual)
        cost = np.where(better, trial_cost, cost)
        damping = np.where(better, damping * 0.2, damping * 5.0)
    total = linear[:, : len(beside)].sum(axis=-1)
    phase = np.angle(total)
    height = np.real(linear[:, 0] * np.exp(-1j * phase))
    found = positions[0] + offset + parameters[:, 0] / frequency_mhz
    return Lines(*(a.reshape(shape) for a in (found, np.exp(parameters[:, 1]), height, phase)))


def reference_offset(fid: np.ndarray, dwell_s: float, frequency_mhz: float) -> float:
    """Return by how many ppm spectra lie above their true place.

    The sum of the magnitude spectra of `fid`, shape (averages, points), is compared with lines of NAA, tCr and tCho at
    their places, over offsets of up to 0.5 ppm.

    Raises
    ------
    InputError
        If the best offset is above 0.2 ppm: this is no spectrum of a human brain, or its frequency is wrong.
    """
    ppm = spectra.ppm_axis(fid.shape[-1], dwell_s, frequency_mhz)
    magnitude = np.abs(spectra.to_spectrum(sharpened(fid, dwell_s))).sum(axis=0)
    candidates = np.arange(-0.5, 0.5, min(ppm[1] - ppm[0], 0.01))
    half_ppm = 3.0 / frequency_mhz
    score = np.zeros(candidates.size)
    for position in SINGLETS_PPM.values():
        distance = (ppm[:, None] - position - candidates) / half_ppm
        height = magnitude @ np.exp(-np.log(2) * distance**2)
        score += np.sqrt(height)  # so that no single line (lipid, lactate, an echo) decides
    best = float(candidates[int(np.argmax(score))])
    if abs(best) > MAX_REFERENCE_OFFSET_PPM:
        raise InputError(
            f"reference: NAA, tCr and tCho lie {best:+.2f} ppm from their places, expected at most "
            f"{MAX_REFERENCE_OFFSET_PPM} ppm; check the spectrometer frequency and that this is a brain spectrum"
        )
    return best
