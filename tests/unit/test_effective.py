"""Effective transients against laws whose answer is known."""

import numpy as np
import pytest
from scipy import stats
from test_agreement import pairs

from mrs_synthesis import agreement, effective
from mrs_synthesis.effective import LearningCurve


@pytest.mark.parametrize(
    ("worth", "number", "flag"),
    [
        (5, 5, "no"),
        (1, 1, "no"),
        (60, 60, "extrapolated"),
        (0.7, 0.7, "extrapolated"),
        (500, 80, "high"),
        (0.1, 0.5, "low"),
    ],
)
def test_effective_number_on_a_square_root_law(worth, number, flag):
    n = np.array([1, 2, 8, 40])
    assert LearningCurve.of(n, 1 / np.sqrt(n)).place(worth**-0.5) == (pytest.approx(number), flag)


def test_effective_number_without_error_or_curve():
    n = np.array([1, 4])
    assert LearningCurve.of(n, [2, 1.0]).place(0.0) == (pytest.approx(8), "high")
    value, flag = LearningCurve.of(n, [2, np.nan]).place(1.0)
    assert np.isnan(value) and flag == "n/a"


def test_a_learning_curve_is_made_to_fall():
    assert effective.monotone(np.array([4, 5, 1])) == [[0, 1], [2]]
    assert effective.monotone(np.array([3, 2, 1])) == [[0], [1], [2]]
    curve = LearningCurve.of([1, 2, 4, 16], [4.0, 1.0, 1.0, 0.25])
    # 2 and 4 become one point at their geometric mean
    assert curve.place(1.0)[0] == pytest.approx(np.sqrt(8))


def test_effective_transients_show_that_shrinking_to_the_mean_has_no_slope():
    rng = np.random.default_rng(7)
    n_subjects, truth = 60, rng.normal(1, 0.05, 60)
    curve = {
        n: pairs(truth[:, None] * (1 + rng.normal(0, 0.4 / np.sqrt(n), (n_subjects, 4))), truth)
        for n in (1, 2, 4, 8, 16, 40)
    }
    everybody_alike = pairs(np.ones((n_subjects, 4)), truth)
    drawn = agreement.resample(n_subjects, 300, rng)
    curves = effective.learning_curves(curve, drawn, rng)
    row = effective.effective_transients(curves, everybody_alike, drawn, rng)
    # an error of about 5 % is that of (40 / 5)^2 = 64 transients, and yet nothing is known of anybody
    assert row["n_eff"] == pytest.approx(64, rel=0.3)
    assert row["slope"] == pytest.approx(0, abs=1e-9)
    assert row["n_eff_ci_low"] < row["n_eff"] <= row["n_eff_ci_high"]
    honest = effective.effective_transients(curves, curve[4], drawn, rng)
    assert honest["n_eff"] == pytest.approx(4, rel=1e-6)
    assert honest["slope"] == pytest.approx(1, abs=0.35)


@pytest.mark.parametrize(("n_subjects", "worth"), [(6, 3), (12, 10)])
def test_the_interval_covers_a_known_number(n_subjects, worth):
    # real subsets of 40 transients with white noise, nested in each other as study cells are
    rng = np.random.default_rng(11)
    studies, covered = 200, 0
    for _ in range(studies):
        reference = rng.normal(1, 0.15, n_subjects)
        noise = rng.normal(0, 0.3, (n_subjects, 40))
        curve = {}
        for n in (1, 2, 4, 8, 16, 40):
            means = [noise[:, i * n : (i + 1) * n].mean(axis=1) for i in range(min(4, 40 // n))]
            curve[n] = pairs(reference[:, None] * (1 + np.column_stack(means)), reference)
        source = reference[:, None] * (1 + rng.normal(0, 0.3 / np.sqrt(worth), (n_subjects, 4)))
        drawn = agreement.resample(n_subjects, 300, rng)
        curves = effective.learning_curves(curve, drawn, rng)
        row = effective.effective_transients(curves, pairs(source, reference), drawn, rng)
        covered += row["n_eff_ci_low"] <= worth <= row["n_eff_ci_high"]
    low, high = stats.binom.ppf([0.001, 0.999], studies, 0.95)
    assert low <= covered <= high
