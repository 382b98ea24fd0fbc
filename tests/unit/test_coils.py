"""Coil combination against the analytic optimum, R^-1 s."""

import numpy as np
import pytest

from mrs_synthesis import coils
from mrs_synthesis.seeds import generator

MHZ, DWELL, N, COILS = 127.7, 5e-4, 1024, 6
T = np.arange(N) * DWELL
WATER = np.exp(-np.pi * 8 * T)
METABOLITES = np.exp(2j * np.pi * (2.0 - 4.65) * MHZ * T - np.pi * 5 * T)


@pytest.fixture
def setup():
    rng = generator(1, "coils")
    sensitivity = rng.normal(size=COILS) + 1j * rng.normal(size=COILS)
    mixing = rng.normal(size=(COILS, COILS)) + 1j * rng.normal(size=(COILS, COILS)) + 2 * np.eye(COILS)
    return rng, sensitivity, mixing, 2 * mixing @ mixing.conj().T


def noise(rng, mixing, transients):
    white = rng.normal(size=(transients, COILS, N)) + 1j * rng.normal(size=(transients, COILS, N))
    return np.einsum("cd,tdn->tcn", mixing, white)


def snr(weights, sensitivity, covariance):
    return np.abs(weights @ sensitivity) / np.sqrt(np.real(weights @ covariance @ weights.conj()))


def test_covariance_is_that_of_the_noise_in_spite_of_signal(setup):
    rng, sensitivity, mixing, covariance = setup
    fids = 200 * sensitivity[:, None] * METABOLITES + noise(rng, mixing, 64)
    found = coils.noise_covariance(fids, DWELL, MHZ)
    assert np.linalg.norm(found - covariance) < 0.05 * np.linalg.norm(covariance)


def test_weights_reach_the_theoretical_snr(setup):
    rng, sensitivity, mixing, covariance = setup
    scan = 5 * sensitivity[:, None] * METABOLITES + noise(rng, mixing, 32)
    water = 2000 * sensitivity[:, None] * WATER + noise(rng, mixing, 2)
    weights = coils.weights(water, coils.noise_covariance(scan, DWELL, MHZ))
    best = np.sqrt(np.real(sensitivity.conj() @ np.linalg.solve(covariance, sensitivity)))
    assert snr(weights, sensitivity, covariance) > 0.99 * best
    plain = coils.weights(water, np.eye(COILS) + 0j)
    assert snr(plain, sensitivity, covariance) < 0.95 * best  # the noise is correlated enough for this to test anything


def test_scale_is_the_root_sum_of_squares_and_positive(setup):
    rng, sensitivity, mixing, covariance = setup
    water = 1e6 * sensitivity[:, None] * WATER + noise(rng, mixing, 1)
    gain = coils.weights(water, covariance) @ sensitivity
    strongest = sensitivity[np.argmax(np.abs(sensitivity))]
    assert gain == pytest.approx(np.linalg.norm(sensitivity) * strongest / abs(strongest), rel=1e-3)


def test_scan_itself_gives_weights_in_spite_of_drifting_phase(setup):
    rng, sensitivity, mixing, covariance = setup
    phases = np.exp(1j * rng.uniform(-np.pi, np.pi, 64))
    scan = phases[:, None, None] * 100 * sensitivity[:, None] * METABOLITES + noise(rng, mixing, 64)
    weights = coils.weights(scan, coils.noise_covariance(scan, DWELL, MHZ))
    best = np.sqrt(np.real(sensitivity.conj() @ np.linalg.solve(covariance, sensitivity)))
    assert snr(weights, sensitivity, covariance) > 0.99 * best


def test_too_few_samples_are_not_whitened_with():
    rng = generator(2, "coils")
    fids = rng.normal(size=(1, 64, 128)) + 1j * rng.normal(size=(1, 64, 128))
    found = coils.noise_covariance(fids, 1e-4, MHZ)
    np.testing.assert_allclose(found, found[0, 0] * np.eye(64))
    assert found[0, 0].real == pytest.approx(2.0, rel=0.1)


def test_combine_takes_any_leading_shape():
    fids = np.arange(24, dtype=complex).reshape(2, 2, 3, 2)
    np.testing.assert_allclose(coils.combine(fids, np.array([1.0, 0.0, 2j])), fids[:, :, 0] + 2j * fids[:, :, 2])
