"""Agreement statistics against textbook values and hand calculations."""

import tracemalloc

import numpy as np
import pytest

from mrs_synthesis import agreement, bland_altman, concordance
from mrs_synthesis.agreement import Paired

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)


def pairs(estimate, reference, subject=None, n_subjects=None):
    estimate = np.atleast_2d(np.asarray(estimate, dtype=float))
    reference = np.asarray(reference, dtype=float)
    subject = np.arange(reference.size) if subject is None else np.asarray(subject)
    return Paired(estimate, reference, subject, n_subjects or len(set(subject.tolist())))


def describe(p, margin=10.0, n=400):
    rng = np.random.default_rng(0)
    return agreement.describe(p, margin, agreement.resample(p.n_subjects, n, rng), rng)


def test_icc_of_shrout_and_fleiss_1979():
    assert concordance.icc_a1(SHROUT_FLEISS) == pytest.approx(0.29, abs=0.005)


def test_lins_concordance_by_hand():
    # means 2 and 4, variances 2/3 and 8/3, covariance 4/3: 2 (4/3) / (2/3 + 8/3 + 4)
    assert concordance.concordance(np.array([1, 2, 3.0]), np.array([2, 4, 6.0])) == pytest.approx(8 / 22)
    assert concordance.concordance(np.array([1, 2, 3.0]), np.array([1, 2, 3.0])) == pytest.approx(1.0)


def test_tost_by_the_closed_form_of_two_degrees_of_freedom():
    t = (10 - 2) / (1 / np.sqrt(3))
    assert agreement.tost(np.array([1, 2, 3.0]), 10) == pytest.approx(0.5 * (1 - t / np.sqrt(t**2 + 2)))
    assert agreement.tost(np.array([1, 2, 3.0]), 2) == pytest.approx(0.5)  # the mean lies on the margin
    assert np.isnan(agreement.tost(np.array([1.0]), 10))


def test_sd_of_a_single_estimate_by_hand():
    # within 2; between (16 - 2) / 2 = 7; together 9
    assert bland_altman.single_estimate_sd(np.array([[1, 3], [5, 7.0]])) == pytest.approx(3.0)
    assert bland_altman.single_estimate_sd(np.array([[1.0], [2.0], [4.0]])) == pytest.approx(np.std([1, 2, 4], ddof=1))
    # means that agree better than chance: no negative variance between
    assert bland_altman.single_estimate_sd(np.array([[1, 3], [3, 1.0]])) == pytest.approx(np.sqrt(2))


def test_cv_between_replicates_by_hand():
    assert agreement.within_cv(np.array([[1, 3], [2, 2.0]])) == pytest.approx(50.0)
    assert np.isnan(agreement.within_cv(np.array([[1.0], [2.0]])))


def test_bias_and_limits_of_agreement_without_replicates():
    row = describe(pairs([[1.1], [2.0], [2.7]], [1, 2, 3]))  # +10 %, 0 %, -10 %
    assert row["bias_percent"] == pytest.approx(0.0, abs=1e-9)
    assert (row["loa_low"], row["loa_high"]) == pytest.approx((-19.6, 19.6))
    assert row["rmse_percent"] == pytest.approx(np.sqrt(200 / 3))
    assert (row["n"], row["n_replicates"], row["n_missing"]) == (3, 3, 0)


def test_replicates_are_averaged_within_a_subject_first():
    row = describe(pairs([[1.1, np.nan], [1.3, 1.3], [0.9, 0.9]], [1, 1, 1]))
    assert row["bias_percent"] == pytest.approx((10 + 30 - 10) / 3)
    assert (row["n_replicates"], row["n_missing"]) == (5, 1)


def test_slope_sd_ratio_and_ccc_of_a_shrunken_estimate():
    reference = np.array([1, 2, 3, 4.0])
    row = describe(pairs(np.column_stack([2.5 + 0.1 * (reference - 2.5)] * 2), reference))
    assert (row["slope"], row["sd_ratio"]) == pytest.approx((0.1, 0.1))
    assert row["ccc"] == pytest.approx(2 * 0.1 / (1 + 0.01))
    # the textbook formula on the same pairs: MSR, MSC = 0, MSE with ratings x and 0.1 x
    x = reference - 2.5
    msr, mse = 2 * np.sum((0.55 * x) ** 2) / 3, 2 * np.sum((0.45 * x) ** 2) / 3
    assert row["icc_a1"] == pytest.approx((msr - mse) / (msr + mse + 2 / 4 * (0 - mse)))
    assert row["slope_ci_low"] == pytest.approx(0.1)


def test_subjects_are_compared_only_if_there_are_three():
    row = describe(pairs([[1.0], [2.2]], [1, 2]))
    assert np.isnan([row[k] for k in ("slope", "sd_ratio", "ccc", "icc_a1")]).all()
    assert np.isfinite(row["bias_ci_low"])


def test_with_one_subject_replicates_are_the_observations():
    row = describe(pairs([[1.1, 0.9, 1.2, 1.2]], [1.0]))
    assert row["bias_percent"] == pytest.approx(10.0)
    spread = np.std([10, -10, 20, 20], ddof=1)
    assert row["loa_high"] - row["loa_low"] == pytest.approx(2 * 1.96 * spread)
    assert row["cv_percent"] == pytest.approx(100 * np.std([1.1, 0.9, 1.2, 1.2], ddof=1) / 1.1)
    assert np.isnan([row[k] for k in ("slope", "sd_ratio", "ccc", "icc_a1")]).all()
    assert row["bias_ci_low"] < 10 < row["bias_ci_high"]


def test_observations_without_a_positive_reference_are_left_out():
    row = describe(pairs([[1.1], [5.0], [2.2], [3.3]], [1, 0, 2, np.nan]))
    assert row["n"] == 2
    assert row["bias_percent"] == pytest.approx(10.0)


def test_bootstrap_resamples_whole_subjects():
    rng = np.random.default_rng(5)
    subject_error = rng.normal(0, 10, 40)
    estimate = 1 + np.repeat(subject_error, 5)[:, None] / 100  # 5 identical scans of each subject
    p = pairs(estimate, np.ones(200), np.repeat(np.arange(40), 5))
    row = describe(p, n=2000)
    half_width = (row["bias_ci_high"] - row["bias_ci_low"]) / 2
    assert half_width == pytest.approx(1.96 * subject_error.std(ddof=1) / np.sqrt(40), rel=0.15)
    assert row["n"] == 40


def test_interval_of_few_observations_is_as_wide_as_students():
    values = np.random.default_rng(0).standard_normal(200_000)
    assert agreement.interval(values) == pytest.approx((-1.96, 1.96), abs=0.02)
    # n = 6: t with 5 degrees of freedom 2.571, and sqrt(6 / 5) since a bootstrap divides by n
    assert agreement.interval(values, 6)[1] == pytest.approx(2.571 * np.sqrt(6 / 5), abs=0.05)


def test_a_line_through_two_subjects_is_no_slope():
    p = pairs([[1.0], [2.5], [3.0]], [1, 2, 3])
    found = agreement.slope(p, np.array([[1, 1, 1], [2, 1, 0], [1, 2, 3.0]]))
    assert np.isnan(found).tolist() == [False, True, False]


def test_slope_needs_three_subjects_among_those_drawn_whatever_the_order_of_their_scans():
    rng = np.random.default_rng(0)
    subject = np.array([3, 0, 3, 1, 5, 0, 1, 5])
    pairs = Paired(rng.random((8, 1)), rng.random(8) + 1, subject, 6)
    drawn = np.array([[2, 1, 9, 0, 9, 0], [0, 1, 0, 1, 0, 1], [1, 1, 1, 1, 1, 1], [0, 0, 3, 0, 3, 0.0]])
    found = agreement.slope(pairs, drawn[:, subject])
    assert np.isfinite(found).tolist() == [False, True, True, False]  # of 2, 3, 4 and no subjects that have scans


def test_memory_grows_in_a_straight_line_with_subjects():
    peaks = []
    for n in (500, 2000):
        rng = np.random.default_rng(0)
        reference = 1 + 0.1 * rng.random(n)
        pairs = Paired(reference[:, None] * (1 + 0.1 * rng.standard_normal((n, 2))), reference, np.arange(n), n)
        drawn = agreement.resample(n, 10, rng)
        agreement.describe(pairs, 10, drawn, rng)  # imports
        tracemalloc.start()
        agreement.describe(pairs, 10, drawn, rng)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 5 * peaks[0]  # a square would be 16 times as much


def test_groups_are_rows_in_the_order_of_their_numbers():
    values, group = np.arange(10.0).reshape(5, 2), np.array([7, 2, 7, 2, 0])
    rows = bland_altman.group_rows(values, group)
    np.testing.assert_array_equal(rows, [[8, 9, np.nan, np.nan], [2, 3, 6, 7], [0, 1, 4, 5]])
