"""Intervals: a Gaussian toy whose posterior is known, quantiles of published tables, coverage of clustered scans."""

import json

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import interval_cells, intervals, spectra
from mrs_synthesis import interval_statistics as statistics
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.interval_statistics import BELIEVABLE, NARROW, WIDE
from mrs_synthesis.scans import Scan, read_scan, write_scan
from mrs_synthesis.stage import InputError, SkippedError

RATIO = {"condition": "OFF", "metabolite": "Ins"}


def test_t_factor_is_that_of_a_table():
    assert statistics.t_factor(24) == pytest.approx(2.06866 * np.sqrt(25 / 24), rel=1e-5)  # 23 degrees of freedom
    assert statistics.t_factor(5) == pytest.approx(2.77645 * np.sqrt(1.2), rel=1e-5)
    assert np.isnan(statistics.t_factor(1))
    assert statistics.t_factor(10**6) == pytest.approx(1.95996, rel=1e-5)


def test_interval_of_many_draws_is_that_of_the_posterior():
    """Prior N(0, 1), n = 4 data of SD 1: posterior N(0.8 m, 0.2)."""
    draws = 0.8 * 1.5 + np.sqrt(0.2) * np.random.default_rng(0).standard_normal(100_000)
    mean, low, high, k = statistics.posterior_interval(draws)
    assert k == 100_000 and mean == pytest.approx(1.2, abs=0.01)
    assert [low, high] == pytest.approx([1.2 - 1.96 * np.sqrt(0.2), 1.2 + 1.96 * np.sqrt(0.2)], abs=0.01)


@pytest.mark.parametrize("k", [4, 24])
def test_coverage_is_95_percent_whatever_the_number_of_draws(k):
    """Without the quantile of t and its factor 4 draws would cover 81 %."""
    rng = np.random.default_rng(1)
    truth = rng.standard_normal(4000)
    measured = truth + 0.5 * rng.standard_normal(4000)  # the mean of 4 data of SD 1
    draws = 0.8 * measured[:, None] + np.sqrt(0.2) * rng.standard_normal((4000, k))
    found = np.array([statistics.posterior_interval(values)[1:3] for values in draws])
    covered = np.mean((found[:, 0] <= truth) & (truth <= found[:, 1]))
    assert covered == pytest.approx(0.95, abs=3.5 * np.sqrt(0.95 * 0.05 / 4000))


def test_own_error_of_the_fit_is_added_in_quadrature():
    values = 10 + np.array([-1.0, 0.0, 1.0])  # SD 1, t = 4.30265
    mean, low, high, _ = statistics.posterior_interval(values, systematic=0.3)  # 3 of 10
    assert [high - mean, mean - low] == pytest.approx([4.30265 * np.sqrt(4 / 3 + 9)] * 2, rel=1e-5)


def test_failed_fits_are_left_out_until_too_few_remain():
    values = np.array([1.0, 2.0, 3.0, np.nan])
    assert statistics.posterior_interval(values)[3] == 3
    assert statistics.posterior_interval(values)[0] == 2
    mean, low, high, k = statistics.posterior_interval(np.array([1.0, 2.0, np.nan, np.nan, np.nan]))
    assert k == 2 and np.isnan([mean, low, high]).all()
    assert np.isnan(statistics.posterior_interval(np.array([1.0]))[1])


def test_wilson_is_that_of_a_published_example():
    """81 of 263 and 0 of 20: Newcombe, Stat Med 17:857 (1998), table I."""
    assert statistics.wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert statistics.wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert np.isnan(statistics.wilson(0, 0)).all()


def test_scans_of_one_subject_count_as_one_where_they_agree():
    hits = np.repeat([1.0, 0, 1, 1, 1, 1, 0, 1, 1, 1], 4)
    together = statistics.clustered(hits, np.repeat(np.arange(10), 4))
    assert together == pytest.approx((0.8, *statistics.wilson(8, 10)))
    assert statistics.clustered(hits, np.arange(40)) == pytest.approx((0.8, *statistics.wilson(32, 40)))
    assert statistics.clustered(np.ones(12), np.repeat([0, 1, 2], 4)) == (1.0, *statistics.wilson(3, 3))
    assert np.isnan(statistics.clustered(np.array([]), np.array([]))).all()


@pytest.mark.parametrize(
    ("share", "low", "high", "expected"),
    [
        (0.95, 0.85, 0.99, BELIEVABLE),
        (0.90, 0.90, 0.90, BELIEVABLE),
        (0.99, 0.985, 1.0, WIDE),
        (1.00, 0.93, 1.0, BELIEVABLE),
        (0.80, 0.70, 0.89, NARROW),
        (0.80, 0.60, 0.91, BELIEVABLE),
    ],
)
def test_verdict(share, low, high, expected):
    assert statistics.verdict(share, low, high) == expected


def test_no_verdict_without_coverage():
    assert np.isnan(statistics.verdict(np.nan, np.nan, np.nan))


def test_calibration_takes_the_noise_off_and_keeps_the_bias_apart():
    """Differences 1 %, 3 %, ... of SD 5 (1 +- 4, five each way; SD 4.22) with noise of SD 3."""
    difference = 1 + 4 * np.array([-1.0, 1] * 5)
    fits = pd.DataFrame({"subject": [f"{i}" for i in range(10)], "per_tcr": 2 * (1 + difference / 100)})
    table = intervals.calibration(fits.assign(**RATIO, reference=2.0, per_tcr_sd=0.06))
    row = table.iloc[0]
    assert row["n_subjects"] == 10 and row["bias_percent"] == pytest.approx(1)
    assert row["sd_percent"] == pytest.approx(4 * np.sqrt(10 / 9)) and row["noise_percent"] == pytest.approx(3)
    assert row["systematic_percent"] == pytest.approx(np.sqrt(160 / 9 - 9))
    clear = intervals.calibration(fits.assign(**RATIO, reference=2.0, per_tcr_sd=0.2))
    assert clear.iloc[0]["systematic_percent"] == 0
    assert intervals.calibration(fits.iloc[:2].assign(**RATIO, reference=2.0, per_tcr_sd=0.06)).empty


def study(tmp_path, model="subject", n=30, sd=0.05):
    """Write a study of test subjects 00.. (normal estimates of SD `sd`) and training subjects t0 .. t4."""
    rng = np.random.default_rng(2)
    truth = 1 + 0.1 * rng.standard_normal(n)
    real = truth + sd * rng.standard_normal(n)
    columns = ["unit", "subject", "site", "source", "decoder", "n_real", "n_total", "replicate"]
    columns += ["per_tcr", "per_tcr_sd"]
    rows, units, splits = [], [], []
    for s in range(n):
        unit, subject = f"sub-{s:02d}_acq-x", f"{s:02d}"
        units.append((unit, f"sub-{s:02d}", subject, "A", "test"))
        rows += [
            (unit, subject, "A", "real", "n/a", 2, 2, 0, real[s], sd),
            (unit, subject, "A", "real", "n/a", 2, 2, 1, 9.0, sd),
            (unit, subject, "A", "real", "n/a", 16, 16, 0, 9.0, sd),
            (unit, subject, "A", "hybrid", "sampled", 2, 40, 0, real[s], sd / np.sqrt(20)),
            (unit, subject, "A", "duplicated", "n/a", 2, 40, 0, real[s], sd / np.sqrt(20)),
            (unit, subject, "A", "reference", "n/a", 60, 60, 0, truth[s] + 0.01, 0.01),
        ]
        draws = real[s] + sd * rng.standard_normal(24)
        files(tmp_path, unit, "posterior", [(k, unit, 2, 0, k) for k in range(24)], draws, 0.0)
    for s in range(5):
        unit = f"sub-t{s}_acq-x"
        units.append((unit, f"sub-t{s}", f"t{s}", "A", "train" if s else "validation"))
        splits.append((unit, units[-1][-1]))
        files(tmp_path, unit, "mean", [(0, unit, 80, 0, 0)], np.array([1.02 + 0.03 * (s - 2)]), 0.0)
    write_table(tmp_path / "concentrations.tsv", pd.DataFrame(rows, columns=columns).assign(**RATIO))
    write_table(tmp_path / "units.tsv", pd.DataFrame(units, columns=["unit", "folder", "subject", "site", "split"]))
    write_table(tmp_path / "training" / "index.tsv", pd.DataFrame(splits, columns=["unit", "split"]))
    names = [row[2] for row in units]
    true = pd.DataFrame({"subject": names, "metabolite": "Ins", "per_tcr": [*truth, *[1.0] * 5]})
    write_table(tmp_path / "truth.tsv", true)
    grid = {"ppm": [0.0, 1.0], "conditions": ["OFF"]}
    config = {"model": model, "format": 1, "grid": grid, "weights_sha256": "0" * 64}
    write_json(tmp_path / "model" / "config.json", config)
    write_json(tmp_path / "training" / "grid.json", grid)
    return truth, real


def files(tmp_path, unit, what, index, values, sd):
    base = tmp_path / unit.partition("_")[0] / "mrs" / unit
    fits = pd.DataFrame({"cell": range(len(values)), **RATIO, "per_tcr": values, "per_tcr_sd": sd})
    write_table(f"{base}_desc-{what}_mrsfit.tsv", fits)
    table = pd.DataFrame(index, columns=list(interval_cells.INDEX_COLUMNS))
    write_table(f"{base}_desc-{what}_index.tsv", table)
    return base


def run(tmp_path, *more, truth=True):
    words = ["--units", "units.tsv", "--training", "training", "--model", "model", "--derivatives", ""]
    words += ["--concentrations", "concentrations.tsv", *(["--truth", "truth.tsv"] if truth else [])]
    words = [word if word.startswith("--") else str(tmp_path / word) for word in words]
    outputs = {name: tmp_path / f"{name}.tsv" for name in ("output", "coverage", "calibration")}
    for name, path in outputs.items():
        words += [f"--{name}", str(path)]
    intervals.main([*words, "--ratios", "OFF:Ins", *more])
    return [read_table(path) for path in outputs.values()]


def test_tables(tmp_path):
    truth, real = study(tmp_path)
    table, coverage, calibration = run(tmp_path)
    assert table["method"].value_counts().to_dict() == dict.fromkeys(intervals.METHODS, 30)  # no control, no other n
    own = table[table["unit"] == "sub-03_acq-x"].set_index("method")
    assert own["truth"].tolist() == pytest.approx([truth[3]] * 4)
    assert own.loc["crlb_real", ["low", "high"]].tolist() == pytest.approx([real[3] - 0.098, real[3] + 0.098], abs=1e-5)
    assert own.loc["crlb_augmented", "high"] - real[3] == pytest.approx(0.098 / np.sqrt(20), abs=1e-5)
    assert calibration["bias_percent"].tolist() == pytest.approx([2.0])
    assert calibration["systematic_percent"].tolist() == pytest.approx([3 * np.sqrt(2.5)])
    half = ((table["high"] - table["low"]) / 2).groupby(table["method"]).mean()
    assert half["posterior"] == pytest.approx(0.05 * statistics.t_factor(24), rel=0.05)
    share = coverage[coverage["quantity"] == "coverage_truth"].set_index("method")
    expected = np.mean(np.abs(real - truth) <= 1.96 * 0.05)
    assert share.loc["crlb_real", "value"] == pytest.approx(expected)
    assert share.loc["crlb_augmented", "verdict"] == NARROW
    assert set(share["n"]) == {30} and set(share["n_missing"]) == {0}
    widened = coverage[coverage["quantity"] == "coverage_reference"].set_index("method")
    expected = np.mean(np.abs(real - truth - 0.01) <= 1.96 * np.hypot(0.05, 0.01))
    assert widened.loc["crlb_real", "value"] == pytest.approx(expected)
    width = coverage[coverage["quantity"] == "width_percent"].set_index("method")
    assert width.loc["crlb_real", "value"] == pytest.approx(100 * np.mean(0.196 / truth), rel=1e-3)
    assert width["verdict"].isna().all()
    assert json.loads((tmp_path / "coverage.json").read_text())["verdict"]["Levels"].keys() == {
        BELIEVABLE,
        NARROW,
        WIDE,
    }


def test_real_data_have_a_reference_and_no_truth(tmp_path):
    study(tmp_path)
    table, coverage, calibration = run(tmp_path, truth=False)
    assert calibration.empty and table["truth"].isna().all() and "posterior_and_fit" not in set(table["method"])
    assert set(coverage["quantity"]) == {"coverage_reference", "width_percent"}


def test_model_paper_has_the_bound_only_and_says_so(tmp_path, capsys):
    study(tmp_path, model="paper")
    table, _, calibration = run(tmp_path)
    assert set(table["method"]) == {"crlb_real", "crlb_augmented"} and calibration.empty
    assert sum("the model is paper" in line for line in capsys.readouterr().out.splitlines()) == 1


def test_calibration_never_reads_a_test_subject(tmp_path):
    """Nor another session of one."""
    study(tmp_path)
    units = read_table(tmp_path / "units.tsv")
    units.loc[units["unit"] == "sub-t4_acq-x", "subject"] = "00"
    write_table(tmp_path / "units.tsv", units)
    assert run(tmp_path)[2]["n_subjects"].tolist() == [4]


def test_missing_fits(tmp_path, capsys):
    study(tmp_path)
    values = np.full(24, np.nan)
    files(tmp_path, "sub-00_acq-x", "posterior", [(k, "sub-00_acq-x", 2, 0, k) for k in range(24)], values, 0.0)
    (tmp_path / "sub-01" / "mrs" / "sub-01_acq-x_desc-posterior_mrsfit.tsv").write_text("")
    _, coverage, _ = run(tmp_path)
    share = coverage[coverage["quantity"] == "coverage_truth"].set_index("method")
    assert share.loc["posterior", ["n", "n_missing"]].tolist() == [28, 1]
    assert "left out: " in capsys.readouterr().out


def no_real_cells(folder):
    table = read_table(folder / "concentrations.tsv")
    write_table(folder / "concentrations.tsv", table[table["source"] == "reference"])


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda f: (f / "model" / "config.json").unlink(), "train the model again"),
        (no_real_cells, "the design augmentation"),
        (lambda f: (f / "units.tsv").write_text("unit\tfolder\n"), "no column subject"),
        (lambda f: (f / "sub-02" / "mrs" / "sub-02_acq-x_desc-posterior_mrsfit.tsv").unlink(), "no such file"),
        (lambda f: files(f, "sub-02_acq-x", "posterior", [(0, "sub-02_acq-x", 2, 0, 0)], [1.0, 2], 0.0), "quantify"),
    ],
)
def test_errors_are_one_line(tmp_path, damage, words):
    study(tmp_path, n=4)
    damage(tmp_path)
    with pytest.raises(InputError) as error:
        run(tmp_path)
    assert words in str(error.value) and "\n" not in str(error.value)


# Draws and means

FREQUENCY, DWELL, POINTS, UNIT = 123.25, 5e-4, 512, "sub-09_acq-x"


@pytest.fixture
def scan(tmp_path):
    """A model with one code of prior variance 0.04, and a scan of four transients of its mean with noise."""
    from mrs_synthesis import subject_model

    ppm = spectra.ppm_axis(POINTS, DWELL, FREQUENCY)
    ppm = ppm[(ppm > 0) & (ppm < 4.4)]
    mean = 10 * np.exp(-0.5 * ((ppm - 3.03) / 0.05) ** 2)[None].astype(complex)  # the gain is known
    direction = np.concatenate([np.exp(-0.5 * ((ppm - 2.0) / 0.05) ** 2), 0 * ppm])
    direction /= np.linalg.norm(direction)
    model = subject_model.SubjectModel(
        mean, direction[None], np.array([0.04]), np.array([[0.2]]), np.zeros(1), {"A": np.zeros(1)}, 10**9
    )
    grid = {"ppm": ppm.tolist(), "conditions": ["UNEDITED"], "split_unit": "subject"}
    subject_model.save(tmp_path / "model", model, {"model": "subject", "grid": grid})
    write_json(tmp_path / "training" / "grid.json", grid)
    rows = [("sub-t0_acq-x", "A", k, "train", 1.0) for k in range(4)]
    write_table(
        tmp_path / "training" / "index.tsv", pd.DataFrame(rows, columns=["unit", "site", "transient", "split", "scale"])
    )
    clean = spectra.from_window(mean, ppm, POINTS, DWELL, FREQUENCY)
    noise = np.random.default_rng(3).standard_normal((1, 4, 1, POINTS, 2)) @ np.array([1, 1j])
    sd = 0.4 / np.sqrt(POINTS)  # of a bin 0.4: the posterior's variance is 0.04 * 0.08 / (0.04 + 0.08) for 2
    write_scan(tmp_path / "scan.nii.gz", Scan(clean[:, None, None] + sd * noise, FREQUENCY, DWELL, {}, ("UNEDITED",)))
    write_json(tmp_path / "cells.json", {"RealTransients": [[0, 1], [2, 3], [3]]})
    return tmp_path, ppm, direction


def draw(folder, *more):
    words = ["draws", "--unit", UNIT, "--site", "A", "--seed", "1"]
    for name, file in {"scan": "scan.nii.gz", "model": "model", "training": "training", "plan": "cells.json"}.items():
        words += [f"--{name}", str(folder / file)]
    words += ["--output", str(folder / "out.nii.gz"), "--index", str(folder / "out.tsv"), *more]
    interval_cells.main(words)
    return read_table(folder / "out.tsv")


def test_draws_have_the_posterior_s_spread_in_the_written_file(scan):
    folder, ppm, direction = scan
    index = draw(folder, "--draws", "400")
    assert index.groupby(["n_real", "replicate"]).size().to_dict() == {(2, 0): 400, (1, 0): 400}
    written = read_scan(folder / "out.nii.gz")
    assert "SYNTHETIC" in written.header["Synthetic"]["Description"]
    values = written.fids[0, :, 0] @ spectra.window_matrix(ppm, POINTS, DWELL, FREQUENCY)
    codes = values.real @ direction[: ppm.size]
    for n, noise in ((2, 0.08), (1, 0.16)):
        expected = np.sqrt(0.04 * noise / (0.04 + noise))
        found = codes[(index["n_real"] == n).to_numpy()].std(ddof=1)
        assert found == pytest.approx(expected, rel=0.15)  # 4 standard errors, and the noise is measured on 2
    assert index.equals(draw(folder, "--draws", "400")) and np.array_equal(
        read_scan(folder / "out.nii.gz").fids, written.fids
    )
    assert len(draw(folder, "--draws", "5", "--replicates", "2")) == 15


def test_mean_of_all_transients(scan):
    folder, *_ = scan
    words = ["--unit", UNIT, "--scan", str(folder / "scan.nii.gz"), "--output", str(folder / "mean.nii.gz")]
    interval_cells.main(["mean", *words, "--index", str(folder / "mean.tsv")])
    expected = read_scan(folder / "scan.nii.gz").fids.mean(axis=1)
    assert np.allclose(read_scan(folder / "mean.nii.gz").fids[:, 0], expected, atol=1e-6)
    assert read_table(folder / "mean.tsv")["n_real"].tolist() == [4]


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ({"model": "paper"}, "train: model: subject"),
        ({"RealTransients": []}, "augment again"),
        ({"RealTransients": [[7]]}, "transient 7"),
        ({}, "no RealTransients"),
    ],
)
def test_draws_refuse_what_they_cannot_use(scan, damage, words):
    folder, *_ = scan
    if "model" in damage:
        config = json.loads((folder / "model" / "config.json").read_text())
        write_json(folder / "model" / "config.json", config | damage)
    else:
        write_json(folder / "cells.json", damage)
    with pytest.raises(InputError, match=words) as error:
        draw(folder)
    assert "\n" not in str(error.value)


def test_draws_of_a_unit_that_failed_are_skipped(scan):
    folder, *_ = scan
    (folder / "cells.json").write_text("")
    with pytest.raises(SkippedError):
        draw(folder)
    status = folder / "status.json"
    with pytest.raises(pd.errors.EmptyDataError):  # by read_table: the outputs are there, and empty
        draw(folder, "--status", str(status))
    assert json.loads(status.read_text())["status"] == "skipped"


def test_too_few_draws_are_refused(scan):
    with pytest.raises(InputError, match="at least 3"):
        draw(scan[0], "--draws", "2")
