"""Agreement of two methods against pingouin, scipy and hand calculations."""

import numpy as np
import pytest
from scipy import stats

from mrs_synthesis import agreement, concordance, paired_errors

SHROUT_FLEISS = np.array(
    [[9, 2, 5, 8], [6, 1, 3, 2], [8, 4, 6, 8], [7, 1, 2, 6], [10, 5, 6, 9], [6, 2, 4, 7]], dtype=float
)


def two_methods(n=15, seed=0):
    random = np.random.default_rng(seed)
    x = random.normal(10, 2, n)
    return x + random.normal(0.5, 1, n), x


@pytest.mark.parametrize("ratings", [SHROUT_FLEISS, np.column_stack(two_methods())])
def test_icc_and_its_interval_against_pingouin(ratings):
    pingouin = pytest.importorskip("pingouin")
    import pandas as pd

    subject, method = np.indices(ratings.shape)
    table = pd.DataFrame({"s": subject.ravel(), "m": method.ravel(), "v": ratings.ravel()})
    found = pingouin.intraclass_corr(table, targets="s", raters="m", ratings="v").set_index("Type").loc["ICC(A,1)"]
    assert concordance.icc_a1(ratings) == pytest.approx(found["ICC"], rel=1e-9)
    # pingouin rounds its interval to two digits
    assert concordance.icc_a1_interval(ratings) == pytest.approx(tuple(found["CI95"]), abs=0.0051)


def test_interval_of_the_sd_ratio_holds_what_pitman_and_morgan_do_not_reject():
    x, y = two_methods()
    for end in concordance.sd_ratio_interval(x, y):
        assert stats.pearsonr(x / end + y, x / end - y).pvalue == pytest.approx(0.05, abs=1e-9)
    low, high = concordance.sd_ratio_interval(x, y)
    assert low < concordance.sd_ratio(x, y) < high


def test_lins_interval_is_fishers_where_only_correlation_is_lost():
    # equal means and SDs: the CCC is the correlation, and Lin's variance 1 / (n - 2)
    x = np.array([1, 2, 3, 4, 5, 6.0])
    y = np.array([2, 1, 4, 3, 6, 5.0])
    r = stats.pearsonr(x, y).statistic
    assert concordance.concordance(x, y) == pytest.approx(r)
    half = stats.norm.ppf(0.975) / np.sqrt(4)
    expected = np.tanh([np.arctanh(r) - half, np.arctanh(r) + half])
    assert concordance.concordance_interval(x, y) == pytest.approx(expected, abs=1e-6)


def test_lins_interval_covers_the_true_concordance():
    random = np.random.default_rng(8)
    studies, covered = 400, 0
    true = 2 * 4 / (4 + 5 + 0.5**2)  # variances 4 and 5, covariance 4, means 0.5 apart
    for _ in range(studies):
        x = random.normal(10, 2, 60)
        low, high = concordance.concordance_interval(x + random.normal(0.5, 1, 60), x)
        covered += low <= true <= high
    assert stats.binom.ppf(0.001, studies, 0.95) <= covered <= stats.binom.ppf(0.9999, studies, 0.95)


def test_perfect_and_absent_agreement():
    x = np.array([1, 2, 3, 4.0])
    assert concordance.concordance_interval(x, x) == (1, 1)
    assert concordance.icc_a1_interval(np.column_stack([x, x])) == (1, 1)
    assert np.isnan(concordance.concordance_interval(np.ones(4), x)).all()
    assert np.isnan(concordance.sd_ratio_interval(np.ones(4), x)).all()


def test_tost_against_statsmodels():
    from statsmodels.stats.weightstats import ttost_paired

    x, y = two_methods()
    assert agreement.tost(x - y, 1.0) == pytest.approx(ttost_paired(x, y, -1.0, 1.0)[0])


def test_holm_by_hand_within_families():
    p = np.array([0.01, 0.04, 0.03, np.nan, 0.02])
    assert paired_errors.holm(p, list("aaaab")) == pytest.approx([0.03, 0.06, 0.06, np.nan, 0.02], nan_ok=True)
