"""Limits of agreement against hand calculations and their own coverage."""

import numpy as np
import pytest
from scipy import stats

from mrs_synthesis import bland_altman


def describe(estimate, reference, subject=None):
    estimate, reference = np.asarray(estimate, float), np.asarray(reference, float)
    return bland_altman.describe(estimate, reference, np.arange(reference.size) if subject is None else subject)


def test_limits_without_replicates_and_their_intervals_by_hand():
    values = np.array([-4.0, 1.0, 3.0, 5.0, 10.0])
    found = bland_altman.limits(3.0, values[:, None])
    sd = np.std(values, ddof=1)
    assert (found.low, found.high) == pytest.approx((3 - 1.96 * sd, 3 + 1.96 * sd))
    t = stats.t.ppf(0.975, 4) * sd / np.sqrt(5)
    largest = sd * np.sqrt(4 / stats.chi2.ppf(0.025, 4))  # the usual interval of an SD
    assert found.high_interval[1] == pytest.approx(found.high + np.hypot(t, 1.96 * (largest - sd)))
    assert found.low_interval[0] == pytest.approx(found.low - np.hypot(t, 1.96 * (largest - sd)))


def test_intervals_cover_the_limits_of_repeated_values():
    random = np.random.default_rng(3)
    between, within, covered, studies = 3.0, 2.0, 0, 400
    true = 1 + 1.96 * np.hypot(between, within)
    for _ in range(studies):
        values = 1 + random.normal(0, between, (12, 1)) + random.normal(0, within, (12, 3))
        low, high = bland_altman.limits(values.mean(), values).high_interval
        covered += low <= true <= high
    low, high = stats.binom.ppf([0.001, 0.999], studies, 0.95)
    assert low <= covered <= high


def test_an_error_that_grows_with_the_mean_is_put_on_the_log_scale():
    random = np.random.default_rng(1)
    reference = np.linspace(1, 10, 40)
    factor = np.exp(random.normal(0.1, 0.3, 40))
    row = describe((reference * factor)[:, None], reference)
    assert row["scale"] == "log" and row["proportional_p"] < 0.05
    logs = np.log(factor)
    expected = 100 * (np.exp(logs.mean() + 1.96 * logs.std(ddof=1)) - 1)
    assert row["loa_high"] == pytest.approx(expected)
    assert row["loa_low"] > -100  # never below nothing at all
    assert row["loa_low_ci_low"] < row["loa_low"] < row["loa_low_ci_high"]


def test_an_error_of_one_size_stays_in_percent():
    random = np.random.default_rng(2)
    reference = np.linspace(5, 10, 40)
    row = describe((reference + random.normal(0, 0.5, 40))[:, None], reference)
    assert row["scale"] == "percent" and row["proportional_p"] > 0.05


def test_no_log_of_an_estimate_that_is_not_positive():
    reference = np.arange(1.0, 9)
    estimate = reference * np.array([1.0, 1.01, 0.98, 1.1, 0.85, 1.4, 0.5, 2.0])
    assert describe(estimate[:, None], reference)["scale"] == "log"
    estimate = np.column_stack([estimate, estimate])
    estimate[0, 1] = -0.01
    row = describe(estimate, reference)
    assert row["scale"] == "percent" and row["proportional_p"] < 0.05


def test_the_test_is_exact_for_few_subjects():
    # of the 4! orders only one is that of the means
    assert bland_altman.proportional_p(np.array([1, -2, 3, -4.0]), np.arange(4.0)) == pytest.approx(1 / 24)
    assert np.isnan(bland_altman.proportional_p(np.array([1, 2.0]), np.arange(2.0)))


def test_scans_of_one_subject_are_repeated_values():
    estimate = np.array([[1.1], [1.3], [0.9], [0.7], [1.0], [1.2]])
    reference = np.ones(6)
    row = describe(estimate, reference, np.array([0, 0, 1, 1, 2, 2]))
    groups = 100 * (estimate.reshape(3, 2) - 1)
    expected = groups.mean() + 1.96 * bland_altman.single_estimate_sd(groups)
    assert row["loa_high"] == pytest.approx(expected)
