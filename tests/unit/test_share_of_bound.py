"""Errors beside the bound on estimates whose errors, slopes and verdicts are known."""

import json

import numpy as np
import pandas as pd
import pytest
from unit_table import write_units

from mrs_synthesis import agreement, paired_errors, share_of_bound
from mrs_synthesis.files import read_table, write_table
from mrs_synthesis.share_of_bound import BETTER, BEYOND, NONE, OPEN, SHRINKAGE, WORSE
from mrs_synthesis.stage import InputError

TRUTH = np.linspace(0.9, 1.1, 40)
MEAN = TRUTH.mean()
SPREAD = 100 * np.sqrt(np.mean((MEAN / TRUTH - 1) ** 2))  # RMS error of who knows only the mean, 5.9 %
FIT = 0.03  # systematic error that the fit has with every source
BOUND = {2: (6.0, 9.0, 0.4), 4: (4.0, 5.0, 0.6)}  # n_real: bound, CRB, slope
# source, decoder, n_real, n_total: estimate of replicate r = 0, 1 at the truth x
SERIES = {
    ("real", "n/a", 2, 2): lambda x, r: x * (1 + FIT + (-1) ** r * 0.20),
    ("real", "n/a", 4, 4): lambda x, r: x * (1 + FIT + (-1) ** r * 0.10),
    ("real", "n/a", 8, 8): lambda x, r: x * (1 + FIT + (-1) ** r * 0.05),
    ("hybrid", "sampled", 2, 8): lambda x, r: x * (1 + FIT + (-1) ** r * 0.04),
    ("interpolation", "sampled", 2, 8): lambda x, r: x * (1 + FIT + (-1) ** r * 0.20),
    ("random", "sampled", 2, 8): lambda x, r: MEAN,
    ("hybrid", "mean", 2, 8): lambda x, r: x * (1 + FIT + (-1) ** r * 0.12),
    ("duplicated", "n/a", 2, 8): lambda x, r: x * (1 + FIT + (-1) ** r * 0.20),
    ("shrinkage", "n/a", 2, 8): lambda x, r: MEAN,
    ("low_rank", "n/a", 2, 8): lambda x, r: x * (1 + FIT + (-1) ** r * 0.30),
    ("hybrid", "sampled", 4, 8): lambda x, r: x * (1 + FIT + (-1) ** r * 0.10),
    ("shrinkage", "n/a", 4, 8): lambda x, r: x * (1 + FIT + (-1) ** r * 0.05),
    ("reference", "n/a", 50, 50): lambda x, r: x,
}


def concentrations(series=SERIES, n=40):
    columns = ["unit", "subject", "source", "decoder", "n_real", "n_total", "replicate", "per_tcr"]
    rows = [
        (f"sub-{s:02d}_acq-x", f"{s:02d}", *key, r, estimate(x, r))
        for s, x in enumerate(TRUTH[:n])
        for key, estimate in series.items()
        for r in (0, 1)
    ]
    return pd.DataFrame(rows, columns=columns).assign(metabolite="Ins", condition="OFF")


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    write_table(folder / "concentrations.tsv", concentrations())
    write_units(folder / "units.tsv", concentrations(), left_out=3)
    truth = pd.DataFrame({"subject": [f"{s:02d}" for s in range(len(TRUTH))], "metabolite": "Ins", "per_tcr": TRUTH})
    write_table(folder / "truth.tsv", truth)
    rows = [
        ("Ins", "OFF", site, n, *(k * v for v in found))
        for k, site in ((1, "all"), (9, "A"))
        for n, found in BOUND.items()
    ]
    names = ["metabolite", "condition", "site", "n_real", "bound_rmse_percent", "crb_rmse_percent", "slope"]
    write_table(folder / "bound.tsv", pd.DataFrame(rows, columns=names))
    return folder


def run(folder, *more):
    names = ("concentrations", "units", "truth", "bound")
    output = folder / "share.tsv"
    share_of_bound.main(
        [
            *(word for name in names for word in (f"--{name}", str(folder / f"{name}.tsv"))),
            *f"--output {output} --ratios OFF:Ins --bootstrap 200 --seed 1".split(),
            *more,
        ]
    )
    return read_table(output)


@pytest.fixture(scope="module")
def table(inputs):
    return run(inputs)


def row(table, source, n_real, decoder=None):
    found = table[(table["source"] == source) & (table["n_real"] == n_real)]
    found = found[found["decoder"] == decoder] if decoder else found
    assert len(found) == 1
    return found.iloc[0]


def test_subjects_without_estimates_are_counted(table):
    assert (table["n_left_out"] == 3).all()


def test_errors_shares_and_the_bound_of_the_same_n_real(table):
    found = row(table, "hybrid", 2, "sampled")
    assert found["rmse_percent"] == pytest.approx(5)  # sqrt(3^2 + 4^2)
    assert found["rmse_debiased_percent"] == pytest.approx(4)
    assert found["bias_percent"] == pytest.approx(3)
    assert tuple(found[["bound_rmse_percent", "crb_rmse_percent", "bound_slope"]]) == BOUND[2]
    assert found["share_of_bound"] == pytest.approx(6 / 5)
    assert found["share_debiased"] == pytest.approx(6 / 4)
    assert found["slope"] == pytest.approx(1.03)
    assert found["tost_p"] < 0.05 and found["n"] == 40
    later = row(table, "hybrid", 4, "sampled")
    assert later["share_debiased"] == pytest.approx(4 / 10)
    assert np.isnan(row(table, "real", 8)["bound_rmse_percent"])
    assert "reference" not in set(table["source"])


def test_ratio_to_the_same_number_of_real_transients(table):
    found = row(table, "hybrid", 2, "sampled")
    alone = np.hypot(3, 20)
    for end in ("ratio_to_real", "ratio_ci_low", "ratio_ci_high"):  # every subject has the same: no width
        assert found[end] == pytest.approx(5 / alone)
    assert found["ratio_debiased"] == pytest.approx(4 / 20)
    assert found["verdict"] == found["verdict_debiased"] == BETTER
    assert row(table, "interpolation", 2)["ratio_to_real"] == pytest.approx(1)
    assert row(table, "low_rank", 2)["verdict"] == WORSE
    assert row(table, "hybrid", 4, "sampled")["ratio_to_real"] == pytest.approx(1)  # of 4, not of 2
    assert row(table, "real", 2)[["verdict", "gain", "ratio_to_real"]].isna().all()


def test_the_words_of_the_gain(table):
    assert row(table, "hybrid", 2, "sampled")["gain"] == BEYOND
    assert row(table, "random", 2)["gain"] == SHRINKAGE
    assert row(table, "random", 2)["slope"] == pytest.approx(0, abs=1e-9)
    assert row(table, "interpolation", 2)["gain"] == NONE
    assert row(table, "hybrid", 2, "mean")["gain"] == OPEN  # slope kept, the control shrinkage is better
    assert row(table, "hybrid", 4, "sampled")["gain"] == NONE
    assert tuple(row(table, "hybrid", 2, "mean")[["controls_beaten", "n_controls"]]) == (2, 3)
    assert pd.isna(row(table, "shrinkage", 2)["gain"])


def test_rule_of_the_gain_by_itself():
    assert share_of_bound.gain(BETTER, {"duplicated": BETTER}, True) == BEYOND
    assert share_of_bound.gain(BETTER, {}, False) == OPEN  # without controls nothing is shown
    assert share_of_bound.gain(BETTER, {"low_rank": WORSE, "shrinkage": BETTER}, True) == OPEN
    assert share_of_bound.gain(BETTER, {"population_mean": WORSE}, True) == SHRINKAGE
    assert share_of_bound.gain(WORSE, {"duplicated": BETTER}, True) == NONE


def test_effective_transients_follow_the_real_curve_against_the_truth(table):
    assert row(table, "real", 4)["n_eff"] == pytest.approx(4)
    assert row(table, "interpolation", 2)["n_eff"] == pytest.approx(2)
    assert 8 < row(table, "hybrid", 2, "sampled")["n_eff"] <= 16
    assert row(table, "random", 2)["n_eff"] == pytest.approx(
        8 * (SPREAD / np.hypot(3, 5)) ** (np.log(2) / np.log(np.hypot(3, 5) / np.hypot(3, 10))), rel=1e-6
    )


def test_intervals_cover_a_known_error_and_are_paired():
    """Errors of SD 10 % and half of each of them: the ratio is 1/2 without any doubt, the errors are not."""
    random = np.random.default_rng(2)
    noise = 0.1 * random.standard_normal((200, 3))
    reference, subject = np.ones(200), np.arange(200)
    whole, half = (agreement.Paired(1 + k * noise, reference, subject, 200) for k in (1.0, 0.5))
    drawn = agreement.resample(200, 500, random)
    (value, low, high), verdict = share_of_bound.compare(half, whole, drawn)
    assert (value, low, high) == pytest.approx((0.5, 0.5, 0.5)) and verdict == BETTER
    _, low, high = paired_errors.with_interval(paired_errors.errors(whole, drawn), 200)
    # SD of a RMS of 600 normal values: 1 / sqrt(2 x 600)
    assert low < 10 < high and high - low == pytest.approx(2 * 1.96 * 10 / np.sqrt(1200), rel=0.25)


def test_only_subjects_that_both_have_are_compared():
    estimate = np.array([[1.1], [0.9], [1.1], [3.0]])
    reference, subject = np.ones(4), np.arange(4)
    missing = agreement.Paired(np.array([[1.2], [0.8], [1.2], [np.nan]]), reference, subject, 4)
    other = agreement.Paired(estimate, reference, subject, 4)
    drawn = agreement.resample(4, 50, np.random.default_rng(0))
    (value, _, _), _ = share_of_bound.compare(other, missing, drawn)
    assert value == pytest.approx(0.5)


def test_two_subjects_have_no_interval_and_no_verdict(inputs):
    few = share_of_bound.share_table(
        concentrations(n=2), read_table(inputs / "truth.tsv"), read_table(inputs / "bound.tsv"), ["OFF:Ins"], 10, 50, 1
    )
    found = row(few, "hybrid", 2, "sampled")
    assert found["rmse_percent"] == pytest.approx(5) and np.isnan(found["rmse_ci_low"])
    assert found["verdict"] == share_of_bound.ALIKE and found["gain"] == NONE


def test_every_column_is_described(inputs, table):
    dictionary = json.loads((inputs / "share.json").read_text())
    assert set(table.columns) <= set(dictionary)
    assert set(table["gain"].dropna()) <= set(dictionary["gain"]["Levels"])
    assert set(table["verdict"].dropna()) <= set(dictionary["verdict"]["Levels"])


def test_bad_tables_are_one_line(inputs, tmp_path):
    write_table(tmp_path / "truth.tsv", pd.DataFrame({"subject": ["99"], "metabolite": ["Ins"], "per_tcr": [1.0]}))
    with pytest.raises(InputError, match=r"no estimate .* has a truth") as caught:
        run(inputs, "--truth", str(tmp_path / "truth.tsv"))
    assert "\n" not in str(caught.value)
    write_table(tmp_path / "bound.tsv", pd.DataFrame({"metabolite": ["Ins"]}))
    with pytest.raises(InputError, match="bound"):
        run(inputs, "--bound", str(tmp_path / "bound.tsv"))
