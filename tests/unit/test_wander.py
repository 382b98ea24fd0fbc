"""Drift, wander and jitter: recovery of known parameters, and the law of what is drawn."""

import numpy as np
import pytest

from mrs_synthesis import wander

STEPS = 160
MEMORY, WANDER, WHITE, DRIFT = 25.0, 0.2, 0.1, 0.01
DESIGN = np.stack([np.ones(STEPS), np.arange(STEPS)], axis=1)


def tracks(rng, n):
    sign = rng.choice([-1, 1], (n, 1))
    noise = wander.simulate(rng, STEPS, MEMORY, np.full(n, WANDER), np.full(n, WHITE))
    return noise + rng.normal(0, 1.5, (n, 1)) + sign * DRIFT * np.arange(STEPS), sign[:, 0] * DRIFT


def test_parameters_are_recovered_although_the_drift_takes_some_of_the_wander():
    values, drift = tracks(np.random.default_rng(1), 60)
    values[np.random.default_rng(2).random(values.shape) < 0.1] = np.nan
    found = wander.fit(values, DESIGN)
    sd = np.sqrt(np.mean(found.sd**2))
    assert found.memory == pytest.approx(MEMORY, rel=0.3)
    assert sd * np.sqrt(1 - found.share) == pytest.approx(WANDER, rel=0.12)
    assert sd * np.sqrt(found.share) == pytest.approx(WHITE, rel=0.05)
    error = found.coefficients[:, 1] - drift
    assert abs(error.mean()) < 3 * found.errors[:, 1].mean() / np.sqrt(60)
    assert np.sqrt(np.mean((error / found.errors[:, 1]) ** 2)) == pytest.approx(1, abs=0.25)  # errors are honest


def test_white_noise_alone_gives_least_squares():
    rng = np.random.default_rng(3)
    values = 2.0 + 0.02 * np.arange(STEPS) + rng.standard_normal((20, STEPS))
    found = wander.fit(values, DESIGN)
    assert found.share > 0.9 or found.memory < 1
    plain = np.polynomial.polynomial.polyfit(np.arange(STEPS), values.T, 1)
    assert np.allclose(found.coefficients.T, plain, atol=0.1 * values.std())
    assert found.sd.mean() == pytest.approx(1, rel=0.05)


def test_likelihood_is_that_of_the_dense_covariance():
    rng = np.random.default_rng(4)
    n, memory, share = 12, 3.0, 0.3
    design = np.stack([np.ones(n), np.arange(n)], axis=1)
    value = rng.standard_normal(n)
    value[5] = np.nan
    seen = np.isfinite(value)
    data = np.where(seen[:, None], np.column_stack([design, np.nan_to_num(value)]), 0.0)[None]
    grid = np.array([[memory, share], [1.0, 0.6]])
    likelihood, sd, coefficients, errors = wander._likelihood(data, seen[None], grid)
    dense = []
    for i, (tau, white) in enumerate(grid):
        at = np.flatnonzero(seen)
        covariance = (1 - white) * np.exp(-np.abs(at[:, None] - at) / tau) + white * np.eye(at.size)
        inverse, x, y = np.linalg.inv(covariance), design[seen], value[seen]
        normal = x.T @ inverse @ x
        beta = np.linalg.solve(normal, x.T @ inverse @ y)
        variance = (y - x @ beta) @ inverse @ (y - x @ beta) / (at.size - 2)
        assert coefficients[i, 0] == pytest.approx(beta)
        assert sd[i, 0] == pytest.approx(np.sqrt(variance))
        assert errors[i, 0] == pytest.approx(np.sqrt(variance * np.diag(np.linalg.inv(normal))))
        logs = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(normal)[1]
        dense.append(-0.5 * (logs + (at.size - 2) * np.log(variance)))
    assert likelihood[0] - likelihood[1] == pytest.approx(dense[0] - dense[1])


def test_simulated_tracks_have_the_covariance_that_was_asked_for():
    drawn = wander.simulate(np.random.default_rng(5), 21, 10.0, np.full(20000, 0.2), np.full(20000, 0.1))
    assert drawn.var(axis=0).mean() == pytest.approx(0.05, rel=0.02)
    assert np.mean(drawn[:, 0] * drawn[:, 20]) == pytest.approx(0.04 * np.exp(-2), rel=0.15)
    assert np.mean(drawn[:, :-1] * drawn[:, 1:]) == pytest.approx(0.04 * np.exp(-0.1), rel=0.03)


def test_spoilt_values_are_left_out():
    track = wander.simulate(np.random.default_rng(6), STEPS, MEMORY, [WANDER], [0.02])[0]
    track[[30, 77]] += [6.0, -4.0]
    cleaned = wander.without_outliers(track)
    assert np.isnan(cleaned[[30, 77]]).all()
    assert np.isnan(cleaned).sum() < 10


def test_angles_are_unwrapped_through_a_drift_and_past_a_jump():
    true = 3.0 + np.linspace(0, 9, STEPS) + 0.05 * np.random.default_rng(7).standard_normal(STEPS)
    true[50] += 2.5
    angles = np.angle(np.exp(1j * true))
    angles[90] = np.nan
    found = wander.unwrapped(angles)
    whole = np.nanmedian(found - true)
    assert whole / (2 * np.pi) == pytest.approx(round(whole / (2 * np.pi)))
    left = np.delete(found - true - whole, 90)
    assert np.abs(left).max() < 1e-9


def test_redrawn_values_have_the_spread_between_subjects_less_the_errors():
    rng = np.random.default_rng(8)
    values = rng.normal(3.0, 0.5, 200) + rng.normal(0, 0.5, 200)
    drawn = [wander.redraw(rng, values, 0.5) for _ in range(4000)]
    assert np.mean(drawn) == pytest.approx(values.mean(), abs=0.04)
    assert np.std(drawn) == pytest.approx(np.sqrt(values.var(ddof=1) - 0.25), rel=0.05)
    assert wander.redraw(rng, np.array([1.5])) == 1.5


def test_redrawn_angles_stay_about_their_direction():
    rng = np.random.default_rng(9)
    angles = np.angle(np.exp(1j * (np.pi + rng.normal(0, 0.2, 30))))  # about the cut at pi
    drawn = np.exp(1j * np.array([wander.redraw_angle(rng, angles) for _ in range(2000)]))
    assert abs(np.angle(-drawn.mean())) < 0.1
    assert np.sqrt(-2 * np.log(np.abs(drawn.mean()))) == pytest.approx(0.25, abs=0.06)
