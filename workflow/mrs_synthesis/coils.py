"""Coil combination: noise prewhitening and whitened SVD (Rodgers & Robson, Magn Reson Med 2010)."""

from __future__ import annotations

import numpy as np

from mrs_synthesis import spectra

SAMPLES_PER_COIL = 10  # fewer noise samples than this give a covariance not worth whitening with
SIGNAL_FRACTION = 0.25  # of the FID; later points hold more noise than signal


def noise_covariance(fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> np.ndarray:
    """Return the covariance E[n n^H] of the complex noise between coils in the FID domain, shape (coils, coils).

    Taken from the signal-free ends of the spectra (below -2 and above 10 ppm, after removing a quadratic from each), as
    `spectra.noise_sd`, or from the last tenth of the FIDs where the bandwidth is too small to have such ends. With too
    few samples for its size it is a multiple of the identity.

    Parameters
    ----------
    fids
        Complex, shape (..., coils, points).
    """
    n_coils, n = fids.shape[-2:]
    ppm = spectra.ppm_axis(n, dwell_s, frequency_mhz)
    ends = [np.flatnonzero((ppm > low) & (ppm < high)) for low, high in spectra.NOISE_PPM]
    if sum(end.size for end in ends) >= 50:
        parts = spectra.to_spectrum(fids) / np.sqrt(n)
    else:
        parts, ends = np.asarray(fids, complex), [np.arange(n - n // 10, n)]
    total, freedom = np.zeros((n_coils, n_coils), complex), 0
    for end in ends:
        if end.size < 8:
            continue
        trend, _ = np.linalg.qr(np.polynomial.chebyshev.chebvander(np.linspace(-1, 1, end.size), 2))
        noise = parts[..., end]
        noise = noise - (noise @ trend) @ trend.T
        noise = np.moveaxis(noise, -2, 0).reshape(n_coils, -1)
        total += noise @ np.conj(noise.T)
        freedom += noise.shape[1] // end.size * (end.size - 3)
    covariance = total / max(freedom, 1)
    covariance = (covariance + np.conj(covariance.T)) / 2
    if n_coils > 1 and freedom < SAMPLES_PER_COIL * n_coils:
        return np.eye(n_coils) * np.trace(covariance).real / n_coils + 0j
    return covariance


def weights(reference: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """Return the coil weights, shape (coils,), that give the highest SNR: ``combined = weights @ fids``.

    The sensitivities s are the strongest singular vector of the whitened reference; the weights are R^-1 s, scaled by a
    real positive number so that a signal keeps the root of the sum of squares of its amplitudes over the coils, and
    turned so that it keeps the phase that it has in its strongest coil.

    Parameters
    ----------
    reference
        Complex, shape (..., coils, points): the unsuppressed water, or the scan itself. Drift and phase jitter between
        its transients do no harm.
    covariance
        `noise_covariance`.
    """
    n_coils, n = reference.shape[-2:]
    values, vectors = np.linalg.eigh(covariance)
    values = np.maximum(values, values[-1] * 1e-10)
    whiten = (vectors / np.sqrt(values)) @ np.conj(vectors.T)
    colour = (vectors * np.sqrt(values)) @ np.conj(vectors.T)
    early = reference[..., : max(int(SIGNAL_FRACTION * n), 1)]
    samples = whiten @ np.moveaxis(early, -2, 0).reshape(n_coils, -1)
    _, directions = np.linalg.eigh(samples @ np.conj(samples.T))
    sensitivity = colour @ directions[:, -1]
    strongest = np.argmax(np.abs(sensitivity))
    sensitivity = sensitivity / np.linalg.norm(sensitivity)
    sensitivity = sensitivity * np.exp(-1j * np.angle(sensitivity[strongest]))
    matched = whiten @ (np.conj(whiten.T) @ sensitivity)  # R^-1 s
    return np.conj(matched) / np.real(np.vdot(sensitivity, matched))


def combine(fids: np.ndarray, coil_weights: np.ndarray) -> np.ndarray:
    """Return combined FIDs: (..., coils, points) and (coils,) give (..., points)."""
    return np.einsum("c,...cn->...n", coil_weights, fids)
