"""What is worth it, on studies made so that the answer is known."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from unit_table import write_units

from mrs_synthesis import comparisons, effective
from mrs_synthesis.agreement import Paired
from mrs_synthesis.files import read_table, write_table
from mrs_synthesis.stage import InputError

SUBJECTS, REPLICATES = 24, 4
# source, n_real, n_total: SD of the relative error, and the slope on the subject's true value
SERIES = {
    ("real", 1, 1): (0.20, 1.0),
    ("real", 4, 4): (0.10, 1.0),
    ("real", 16, 16): (0.05, 1.0),
    ("duplicated", 4, 16): (0.10, 1.0),
    ("shrinkage", 4, 16): (0.09, 0.5),
    ("population_mean", 4, 16): (0.0, 0.0),
    ("random", 4, 16): (0.01, 0.1),
    ("interpolation", 4, 16): (0.03, 1.0),
    ("hybrid", 4, 16): (0.15, 1.0),
}


def study(n_subjects=SUBJECTS, spread=0.2, series=SERIES, seed=0):
    random = np.random.default_rng(seed)
    truth = 1 + spread * np.linspace(-1, 1, n_subjects)
    rows = []
    for i, value in enumerate(truth):
        common = {"unit": f"sub-{i:02d}_x", "subject": f"{i:02d}", "metabolite": "tNAA", "condition": "OFF"}
        cell = {"source": "reference", "decoder": None, "n_real": 40, "n_total": 40, "replicate": 0, "per_tcr": value}
        rows.append(common | cell)
        for (source, n_real, n_total), (sd, slope) in series.items():
            for replicate in range(REPLICATES):
                estimate = (1 + slope * (value - 1)) * (1 + sd * random.standard_normal())
                decoder = "mean" if source in ("random", "interpolation", "hybrid") else None
                cell = {"source": source, "decoder": decoder, "n_real": n_real, "n_total": n_total}
                rows.append(common | cell | {"replicate": replicate, "per_tcr": estimate})
    return pd.DataFrame(rows)


def tables(concentrations):
    from mrs_synthesis import estimates

    return comparisons.tables(estimates.with_reference(concentrations, [("OFF", "tNAA")]), 200, 1)


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write_table(folder / "concentrations.tsv", study())
    write_units(folder / "units.tsv", study(), left_out=2)
    compare(folder, folder)
    return folder


def compare(folder, output):
    flags = [f"--concentrations={folder / 'concentrations.tsv'}", f"--units={folder / 'units.tsv'}"]
    flags += [f"--output={output / 'comparisons.tsv'}", f"--output-worth={output / 'worth.tsv'}"]
    comparisons.main([*flags, "--seed=1", "--bootstrap=200"])


def test_each_filling_meets_its_real_transients_and_controls(found):
    table = read_table(found / "comparisons.tsv")
    own = table[table["source"] == "hybrid"]
    assert list(zip(own["against"], own["against_n_real"], strict=True)) == [
        *(("real", 4), ("duplicated", 4), ("population_mean", 4), ("shrinkage", 4), ("real", 16))
    ]
    assert (own["n"] == SUBJECTS).all() and own[["n_real", "n_total"]].drop_duplicates().to_numpy().tolist() == [
        [4, 16]
    ]


@pytest.mark.parametrize("name", ["comparisons", "worth"])
def test_subjects_without_estimates_are_counted(found, name):
    table = read_table(found / f"{name}.tsv")
    assert (table["n"] == SUBJECTS).all() and (table["n_left_out"] == 2).all()


def test_ratios_and_verdicts_of_known_errors(found):
    table = read_table(found / "comparisons.tsv")
    real = table[table["against"] == "real"].set_index(["source", "against_n_real"])
    assert real.loc[("interpolation", 4), "rmse_ratio"] == pytest.approx(0.3, rel=0.15)
    assert real.loc[("interpolation", 16), "rmse_ratio"] == pytest.approx(0.6, rel=0.2)
    assert real.loc[("hybrid", 4), "rmse_ratio"] == pytest.approx(1.5, rel=0.2)
    assert real["verdict"].to_dict()[("interpolation", 4)] == "better"
    assert real["verdict"].to_dict()[("interpolation", 16)] == "better"
    assert real["verdict"].to_dict()[("hybrid", 16)] == "worse"
    one = real.loc[("random", 4)]
    assert one["slope_difference"] == pytest.approx(-0.9, abs=0.15) and one["slope_difference_ci_high"] < 0
    assert one["rmse_ratio_ci_low"] < one["rmse_ratio"] < one["rmse_ratio_ci_high"]
    assert one["rmse_ratio"] == pytest.approx(one["rmse_percent"] / one["against_rmse_percent"])


def test_only_the_filling_that_beats_everything_and_keeps_the_slope_is_worth_it(found):
    worth = read_table(found / "worth.tsv").set_index("source")
    assert worth["worth"].to_dict() == {"random": "no", "interpolation": "yes", "hybrid": "no"}
    assert (worth["n_comparisons"] == 4).all()
    assert worth.loc["random", "slope"] == pytest.approx(0.1, abs=0.02)
    assert "slope 0." in worth.loc["random", "reason"] and "below 0.8; 16 real" in worth.loc["random", "reason"]
    assert "the 4 real transients alone (ratio 1." in worth.loc["hybrid", "reason"]
    assert worth.loc["hybrid", "p_worst"] == 1
    assert worth.loc["interpolation", "slope_real_total"] == pytest.approx(1, abs=0.15)


def test_p_of_the_worst_comparison_decides_and_holm_counts_the_fillings(found):
    table, worth = read_table(found / "comparisons.tsv"), read_table(found / "worth.tsv")
    own = table[(table["source"] == "interpolation") & (table["against_n_real"] == 4)]
    one = worth[worth["source"] == "interpolation"].iloc[0]
    assert one["p_worst"] == own["p"].max()
    assert one["hardest"] in set(own.loc[own["p"] == own["p"].max(), "against"])
    assert one["p_holm"] == pytest.approx(min(1, 3 * one["p_worst"]))
    family = table[(table["against"] == "real") & (table["against_n_real"] == 4)]
    smallest = family.loc[family["p"].idxmin()]
    assert smallest["p_holm"] == pytest.approx(3 * smallest["p"])


def test_six_subjects_leave_it_open_and_say_why():
    _, worth = tables(study(n_subjects=6))
    one = worth[worth["source"] == "interpolation"].iloc[0]
    assert one["worth"] == "open" and one["p_worst"] >= 2 / 64
    assert "6 subjects cannot show it: p is at least 0.031" in one["reason"]


def test_nothing_is_worth_it_without_controls_or_real_transients():
    for missing, words in (
        (("duplicated", "shrinkage", "population_mean"), "no null control was run"),
        (("real",), "the real transients alone were not fitted"),
    ):
        _, worth = tables(study(series={key: value for key, value in SERIES.items() if key[0] not in missing}))
        one = worth[worth["source"] == "interpolation"].iloc[0]
        assert one["worth"] == "open" and words in one["reason"]


@pytest.mark.parametrize("n_subjects", [1, 2])
def test_too_few_subjects_are_not_compared(n_subjects):
    rows = study(n_subjects=n_subjects)
    rows = rows[(rows["n_real"] < 16) | (rows["replicate"] == 0)]  # of many transients there is one set
    table, worth = tables(rows)
    assert table["p"].isna().all() and set(table["verdict"]) == {"no difference shown"}
    assert table["rmse_ratio"].notna().all() and table["rmse_ratio_ci_low"].isna().all()
    assert "yes" not in set(worth["worth"])


def test_equal_fillings_do_not_differ():
    rows = study(n_subjects=8)
    rows.loc[rows["source"] == "hybrid", "per_tcr"] = rows.loc[rows["source"] == "duplicated", "per_tcr"].to_numpy()
    table, worth = tables(rows)
    one = table[(table["source"] == "hybrid") & (table["against"] == "duplicated")].iloc[0]
    assert (one["rmse_ratio"], one["p"], one["verdict"]) == (1, 1, "no difference shown")
    assert worth.set_index("source").loc["hybrid", "worth"] == "no"


def test_difference_of_n_eff_uses_one_curve():
    n = 200
    error = np.random.default_rng(0).standard_normal((n, 8))
    curve = [effective.LearningCurve.of([1, 4, 16], [40.0, 20.0, 10.0])] * 3
    pairs = [Paired(1 + sd * error / error.std(), np.ones(n), np.arange(n), n) for sd in (0.1, 0.2)]
    row = comparisons.compare(*pairs, curve, np.ones((2, n)))
    assert row["rmse_ratio"] == pytest.approx(0.5)
    assert row["n_eff_difference"] == pytest.approx(16 - 4, rel=0.02)


def test_both_tables_are_described_and_repeatable(found, tmp_path):
    for name in ("comparisons", "worth"):
        columns = (found / f"{name}.tsv").read_text().splitlines()[0].split("\t")
        assert set(columns) <= set(json.loads((found / f"{name}.json").read_text()))
    compare(found, tmp_path)
    for name in ("comparisons.tsv", "worth.tsv"):
        assert (tmp_path / name).read_bytes() == (found / name).read_bytes()


def test_a_study_without_fillings_is_told_in_one_line():
    with pytest.raises(InputError, match="no cell of synthetic transients"):
        tables(study(series={("real", 1, 1): (0.2, 1.0)}))


def test_the_words_at_the_limit():
    row = {"slope": 0.8, "slope_real_total": math.nan, "n_total": 16, "n": 24, "p_worst": 0.01, "p_holm": 0.04}
    against = [{"against": name, "against_n_real": 4, "rmse_ratio": 0.5, "p": 0.01} for name in ("real", "duplicated")]
    assert comparisons.judge(row, against, 4)[0] == "yes"
    assert comparisons.judge(row | {"slope": 0.7999}, against, 4)[0] == "no"
    assert comparisons.judge(row | {"p_holm": 0.05}, against, 4)[0] == "open"
    assert comparisons.judge(row | {"slope": math.nan}, against, 4)[0] == "open"
