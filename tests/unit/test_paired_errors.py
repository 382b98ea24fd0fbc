"""The sign-flip test and the paired bootstrap against counted and simulated cases."""

import numpy as np
import pytest
from scipy import stats

from mrs_synthesis import agreement, paired_errors
from mrs_synthesis.agreement import Paired


def pairs(estimate, n_subjects=None):
    estimate = np.asarray(estimate, dtype=float)
    n = len(estimate)
    return Paired(estimate, np.ones(n), np.arange(n), n_subjects or n)


def random():
    return np.random.default_rng(0)


def test_all_flips_by_hand():
    # |+-1 +-2 +-3|: 6 twice, and 4 or less otherwise; the zero of a missing subject changes nothing
    found = paired_errors.sign_flip_p([[1, 2, 3, 0], [-1, -2, -3, 0], [1, -2, 3, 0]], random())
    assert found == pytest.approx([2 / 8, 2 / 8, 6 / 8])


def test_six_subjects_cannot_go_below_two_in_64():
    assert paired_errors.sign_flip_p([np.full(6, -5.0)], random())[0] == pytest.approx(2 / 64)


@pytest.mark.parametrize("n", [12, 25])
def test_against_scipys_permutation_test(n):
    differences = random().normal(0.3, 1, n)
    expected = stats.permutation_test(
        (differences,), np.sum, permutation_type="samples", n_resamples=20_000, rng=np.random.default_rng(1)
    ).pvalue
    assert paired_errors.sign_flip_p([differences], random())[0] == pytest.approx(expected, abs=0.015)


def test_the_test_keeps_its_level_with_squared_errors():
    rng = np.random.default_rng(4)
    differences = rng.normal(0, 1, (600, 10)) ** 2 - rng.normal(0, 1, (600, 10)) ** 2
    rejected = int((paired_errors.sign_flip_p(differences, rng) < 0.05).sum())
    assert rejected <= stats.binom.ppf(0.999, 600, 0.05)


def test_differences_have_the_sign_of_the_errors_and_leave_out_what_one_lacks():
    source = pairs([[1.1, 1.1], [1.2, np.nan], [1.5, 1.5]])
    other = pairs([[1.2, 1.0], [1.1, 1.1], [np.nan, np.nan]])
    # 100 - (400 + 0) / 2 and 400 - 100; the third subject has no partner
    assert paired_errors.square_differences(source, other) == pytest.approx([-100, 300, 0])


def test_interval_of_the_ratio_is_paired():
    rng = np.random.default_rng(6)
    error = rng.normal(0, 0.1, (40, 1)) * rng.exponential(1, (40, 1))
    drawn = agreement.resample(40, 300, rng)
    found = paired_errors.error_ratio(pairs(1 + 0.9 * error), pairs(1 + error), drawn)
    # what varies between subjects cancels: every resample has the same ratio
    assert found == pytest.approx(np.full(301, 0.9))


def test_difference_of_slopes():
    reference = np.array([1, 2, 3, 4.0])
    both = [Paired((a * reference + 1)[:, None], reference, np.arange(4), 4) for a in (0.5, 0.9)]
    drawn = np.ones((2, 4))
    assert paired_errors.slope_difference(*both, drawn) == pytest.approx([-0.4] * 3)
