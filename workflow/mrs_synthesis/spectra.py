"""Axes and transforms of spectra, in one convention.

FIDs in memory are such that a plain FFT has increasing ppm: ``ppm = f / spectrometer_frequency + 4.65`` (1H). This is
the complex conjugate of what NIfTI-MRS stores (`mrs_synthesis.scans` converts, nothing else does) and equals the stored
convention of FSL-MRS's JSON basis sets. The last axis of an array is always time or frequency.
"""

from __future__ import annotations

import numpy as np

WATER_PPM = 4.65
TCR_PPM = 3.027  # Govindaraju et al., NMR Biomed 2000
NAA_PPM = 2.008
RINGING = 4  # periods of a window's bandwidth: 2 % of the first point is left after them
NOISE_PPM = ((-np.inf, -2.0), (10.0, np.inf))  # FSL-MRS's noise region for 1H


def time_axis(n_points: int, dwell_s: float) -> np.ndarray:
    """Return times in s, starting at 0, of shape (n_points,)."""
    return np.arange(n_points) * dwell_s


def ppm_axis(n_points: int, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the ppm of each bin of `to_spectrum`, increasing, of shape (n_points,)."""
    return np.fft.fftshift(np.fft.fftfreq(n_points, dwell_s)) / frequency_mhz + WATER_PPM


def to_spectrum(fid: np.ndarray) -> np.ndarray:
    """Return the spectrum of FIDs of shape (..., n_points): first point halved, FFT, shifted to increasing ppm."""
    fid = np.array(fid, dtype=complex)
    fid[..., 0] *= 0.5
    return np.fft.fftshift(np.fft.fft(fid, axis=-1), axes=-1)


def to_fid(spectrum: np.ndarray) -> np.ndarray:
    """Invert `to_spectrum`."""
    fid = np.fft.ifft(np.fft.ifftshift(spectrum, axes=-1), axis=-1)
    fid[..., 0] *= 2.0
    return fid


def shift_and_phase(fid: np.ndarray, dwell_s: float, shift_hz: np.ndarray, phase_rad: np.ndarray) -> np.ndarray:
    """Move FIDs up by `shift_hz` and turn them by `phase_rad`; both broadcast against ``fid.shape[:-1]``."""
    t = time_axis(fid.shape[-1], dwell_s)
    return fid * np.exp(1j * (2 * np.pi * np.asarray(shift_hz)[..., None] * t + np.asarray(phase_rad)[..., None]))


def noise_sd(fid: np.ndarray, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the SD of the real part of the noise in the FID domain, of shape ``fid.shape[:-1]``.

    Measured in the signal-free ends of the spectrum (below -2 and above 10 ppm) after removing a quadratic from each
    end, real and imaginary parts pooled. A complex noise sample then has variance ``2 * noise_sd**2``.

    Raises
    ------
    ValueError
        If fewer than 50 points lie in the noise region: the bandwidth is too small.
    """
    n = fid.shape[-1]
    ppm = ppm_axis(n, dwell_s, frequency_mhz)
    spectrum = to_spectrum(fid)
    squares, freedom = 0.0, 0
    for low, high in NOISE_PPM:
        inside = np.flatnonzero((ppm > low) & (ppm < high))
        if inside.size < 8:
            continue
        design = np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, inside.size), 2)
        q, _ = np.linalg.qr(design)
        part = spectrum[..., inside]
        residual = part - (part @ q) @ q.T
        squares = squares + np.sum(np.abs(residual) ** 2, axis=-1)
        freedom += 2 * (inside.size - q.shape[1])
    if freedom < 100:
        raise ValueError(
            "the spectral width leaves no signal-free region below -2 and above 10 ppm to measure noise in"
        )
    return np.sqrt(squares / freedom / n)


def own_bins(ppm: np.ndarray, n_points: int, dwell_s: float, frequency_mhz: float) -> slice | None:
    """Return which bins of `to_spectrum` the evenly spaced `ppm` are, or None if they are none."""
    own = ppm_axis(n_points, dwell_s, frequency_mhz)
    first = int(np.argmin(np.abs(own - ppm[0])))
    part = slice(first, first + len(ppm))
    same = own[part].size == len(ppm) and np.allclose(own[part], ppm, rtol=0, atol=1e-6 * (own[1] - own[0]))
    return part if same else None


def window_matrix(ppm: np.ndarray, n_points: int, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the matrix A, shape (n_points, len(ppm)), with ``fid @ A`` = the spectrum at any `ppm`.

    A plain discrete-time Fourier transform, first point halved: equal to `to_spectrum` at its own bins.
    """
    t = time_axis(n_points, dwell_s)
    matrix = np.exp(-2j * np.pi * np.outer(t, (np.asarray(ppm) - WATER_PPM) * frequency_mhz))
    matrix[0] *= 0.5
    return matrix


def from_window(
    spectrum: np.ndarray, ppm: np.ndarray, n_points: int, dwell_s: float, frequency_mhz: float
) -> np.ndarray:
    """Return FIDs of shape (..., n_points) whose spectrum is `spectrum` at the evenly spaced `ppm` and zero elsewhere.

    Exact (it inverts `to_spectrum` inside the window) when `ppm` are bins of the FIDs' own axis. Otherwise the signal
    is periodic after ``1 / (step * frequency_mhz)`` seconds; it is set to zero from a little before, since what a
    window rings ahead of the first point comes back there.
    """
    part = own_bins(ppm, n_points, dwell_s, frequency_mhz)
    if part is not None:
        whole = np.zeros((*spectrum.shape[:-1], n_points), complex)
        whole[..., part] = spectrum
        return to_fid(whole)
    step_hz = (ppm[1] - ppm[0]) * frequency_mhz
    t = time_axis(n_points, dwell_s)
    matrix = np.exp(2j * np.pi * np.outer((np.asarray(ppm) - WATER_PPM) * frequency_mhz, t)) * step_hz * dwell_s
    matrix[:, 0] *= 2.0
    if abs(n_points * dwell_s * step_hz - 1) > 1e-6:
        matrix[:, t > (1 - RINGING / len(ppm)) / step_hz] = 0.0
    return spectrum @ matrix
