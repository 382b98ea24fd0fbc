"""Bias and coverage against the truth: hand-computed numbers, and spectra with known concentrations."""

import json

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import fit_truth, published_fits, spectra
from mrs_synthesis.files import read_table, write_table
from mrs_synthesis.stage import InputError


@pytest.fixture(scope="module")
def folder(shared_data):
    """Published FSL-MRS fits of simulated spectra."""
    path = shared_data / "fslmrs-reference"
    if not path.is_dir():
        pytest.skip("needs fslmrs-reference in ../shared/data, which is absent")
    return path


def estimates(values, truth=10.0, sd=1.0, **more):
    facts = {
        "set": "one",
        "engine": "batched",
        "condition": "OFF",
        "metabolite": "NAA",
        "source": np.nan,
        "n_real": np.nan,
        "noise_sd": 1.0,
        "cell": np.arange(len(values)),
        "estimate": values,
        "truth": truth,
        "sd": sd,
        "snr": 5.0,
        "objective": np.nan,
        "true_objective": np.nan,
        "cluster": np.arange(len(values)),
    }
    return pd.DataFrame(facts | more)


def only(table, **key):
    for column, value in key.items():
        table = table[table[column].isna() if value is None else table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


@pytest.mark.parametrize(
    ("hits", "n", "low", "high"),
    [(0, 10, 0.0, 0.3085), (10, 10, 0.6915, 1.0), (95, 100, 0.8872, 0.9836)],
)
def test_binomial_interval_has_the_published_ends(hits, n, low, high):
    assert fit_truth.binomial_interval(hits, n) == pytest.approx((low, high), abs=5e-5)


def test_bias_and_coverage_of_hand_computed_numbers():
    # Percent: 10, -10, 20, 40: mean 15, SD 20.8167, t(0.975, 3) = 3.18245; z: 1, -1, 2, 4
    found = only(fit_truth.truth_statistics(estimates([11.0, 9.0, 12.0, 14.0])), metabolite="NAA")
    assert found["n"] == 4
    assert found["bias_percent"] == pytest.approx(15)
    half = 3.18245 * 20.8167 / 2
    assert (found["bias_ci_low"], found["bias_ci_high"]) == pytest.approx((15 - half, 15 + half), abs=1e-3)
    assert found["z_mean"] == pytest.approx(1.5)
    assert found["z_sd"] == pytest.approx(2.08167, abs=1e-5)
    assert found["coverage"] == 0.5
    assert (found["coverage_ci_low"], found["coverage_ci_high"]) == pytest.approx((0.0676, 0.9324), abs=1e-4)
    assert np.isnan(found["n_above_truth"])


def test_replicates_of_a_subject_are_averaged_before_the_interval():
    table = fit_truth.truth_statistics(estimates([11.0, 13.0, 8.0, 8.0], cluster=["a", "a", "b", "b"]))
    found = only(table, metabolite="NAA")
    # Subjects: +20 %, -20 %: mean 0, t(0.975, 1) = 12.7062, SE 20
    assert found["bias_percent"] == pytest.approx(0)
    assert found["bias_ci_high"] == pytest.approx(254.124, abs=1e-2)


def test_levels_are_pooled_and_unusable_rows_left_out():
    table = fit_truth.truth_statistics(
        estimates([11.0, 9.0, 10.0, np.nan, 10.0], truth=[10, 10, 10, 10, 0], noise_sd=[1, 1, 2, 2, 2])
    )
    assert only(table, metabolite="NAA", noise_sd=1)["n"] == 2
    assert only(table, metabolite="NAA", noise_sd=2)["n"] == 1
    assert only(table, metabolite="NAA", noise_sd=None)["n"] == 3
    together = only(table, metabolite="all", noise_sd=None)
    assert together["n"] == 3
    assert np.isnan(together["coverage_ci_low"])


def test_a_fit_above_the_objective_of_the_truth_is_counted():
    rows = [estimates([10.0, 10.0], metabolite=name, objective=[9.0, 11.0], true_objective=10.0) for name in "ab"]
    table = fit_truth.truth_statistics(pd.concat(rows))
    assert table["n_above_truth"].tolist() == [1, 1, 1]  # a, b and both together: it is one spectrum


def write_study(folder, truth=0.25):
    """Write units, truth, and two subjects' cells and fits."""
    write_table(
        folder / "units.tsv", pd.DataFrame({"unit": ["u1", "u2"], "folder": ["s1", "s2"], "subject": ["1", "2"]})
    )
    known = {"subject": ["1", "1", "2", "2"], "metabolite": ["GABA+", "tCr"] * 2, "concentration_mm": 1.0}
    write_table(folder / "truth.tsv", pd.DataFrame(known | {"per_tcr": [truth, 1.0] * 2}))
    for unit, place in (("u1", "s1"), ("u2", "s2")):
        base = folder / "derivatives" / place / "mrs"
        index = {
            "cell": [0, 1, 2],
            "source": ["reference", "real", "random"],
            "n_real": [40 if unit == "u1" else 50, 2, 2],
        }
        write_table(base / f"{unit}_desc-cells_index.tsv", pd.DataFrame(index))
        fits = {"cell": [0, 1, 2], "condition": "DIFF", "metabolite": "GABA+", "engine": "batched"}
        fits |= {"raw": 1.0, "raw_sd": 0.1, "per_tcr": [0.26, 0.30, 9.9], "per_tcr_sd": 0.02, "snr": np.nan}
        write_table(base / f"{unit}_desc-batched_mrsfit.tsv", pd.DataFrame(fits | {"converged": 1}))


def test_phantom_compares_ratios_of_real_cells_only(tmp_path):
    write_study(tmp_path)
    files = {name: str(tmp_path / name) for name in ("units.tsv", "derivatives", "truth.tsv", "fit_truth.tsv")}
    words = ["--sets", "demo", "--units", files["units.tsv"], "--derivatives", files["derivatives"]]
    fit_truth.main([*words, "--truth", files["truth.tsv"], "--output", files["fit_truth.tsv"]])
    table = read_table(tmp_path / "fit_truth.tsv")
    assert set(table["source"]) == {"reference", "real"}
    reference = only(table, metabolite="GABA+", source="reference")
    assert (reference["n"], reference["n_real"]) == (2, 45)
    assert reference["bias_percent"] == pytest.approx(4)
    real = only(table, metabolite="GABA+", source="real")
    assert (real["n"], real["n_real"], real["coverage"]) == (2, 2, 0)  # 2.5 SD off
    assert real["bias_percent"] == pytest.approx(20)
    assert set(table.columns) <= set(json.loads((tmp_path / "fit_truth.json").read_text()))


def test_phantom_without_fits_is_told_in_one_line(tmp_path):
    write_study(tmp_path)
    with pytest.raises(InputError, match="quantify first"):
        fit_truth.phantom("x", tmp_path / "units.tsv", tmp_path / "nowhere", ["batched"], tmp_path / "truth.tsv")
    with pytest.raises(InputError, match="as many of each"):
        fit_truth.simulated(["a"], [], [])


def test_unknown_case_is_told_with_those_there_are(tmp_path):
    (tmp_path / "press" / "fits_poly2").mkdir(parents=True)
    with pytest.raises(InputError, match="no case mega_poly2; it has press_poly2"):
        published_fits.Case.named(tmp_path, "mega_poly2")
    with pytest.raises(InputError, match="expected a name"):
        published_fits.baseline_of("cubic")


def test_few_spectra_are_spread_over_the_noise_levels():
    truth = pd.DataFrame({"cell": np.repeat(np.arange(9), 2), "noise_sd": np.repeat([1, 1, 1, 2, 2, 2, 3, 3, 3], 2)})
    assert published_fits.spread(truth, 4).tolist() == [0, 1, 3, 6]
    assert published_fits.spread(truth, None).tolist() == list(range(9))


@pytest.mark.data
@pytest.mark.parametrize("name", ["press_poly2", "mega_poly2"])
def test_true_amplitudes_are_in_the_units_of_the_fits(folder, name):
    """The published tidy table has FSL-MRS's estimates in the truth's units; the ratio to the truth must be ours."""
    case = published_fits.Case.named(folder, name)
    scan = case.scan()
    fitted = published_fits.published(case, scan)
    truth = published_fits.truth_table(case, scan, case.ids, [0.0] * len(case.ids))
    ours = truth.pivot(index="cell", columns="metabolite", values="raw")[fitted.names].to_numpy()
    tidy = pd.read_csv(folder / case.kind / f"fits_{case.tag}.csv")
    tidy["ratio"], tidy["relative"] = tidy["est"] / tidy["true"], tidy["sd"] / tidy["true"]
    for column, mine in (
        ("ratio", fitted.raw / ours),
        ("relative", np.sqrt(np.diagonal(fitted.covariance, axis1=1, axis2=2)) / ours),
    ):
        theirs = tidy.pivot(index="id", columns="metab", values=column).loc[case.ids, fitted.names].to_numpy()
        assert np.allclose(mine, theirs, rtol=1e-6)


@pytest.mark.data
@pytest.mark.parametrize("name", ["press_poly2", "mega_poly2"])
def test_published_spectra_less_their_noiseless_model_are_white_noise(folder, name):
    """What is left has the stated SD inside the fit window as outside; missed signal or baseline would add to it."""
    case = published_fits.Case.named(folder, name)
    scan = case.scan()
    model = case.task(scan).model()
    inside = np.zeros(scan.n_points, bool)
    inside[model.first : model.last] = True
    left = []
    for fid, spectrum in zip(scan.fids[0, :, 0], case.ids, strict=True):
        noise = spectra.to_spectrum(fid - published_fits.noiseless(case, scan, spectrum)) / np.sqrt(scan.n_points)
        left.append(noise / case.parameters[spectrum]["noise_sd"])
    left = np.array(left)
    for part in (left[:, inside], left[:, ~inside]):
        assert np.std(part.real) == pytest.approx(1, abs=0.015)
        assert np.std(part.imag) == pytest.approx(1, abs=0.015)
        assert np.abs(np.mean(part)) < 0.03


@pytest.mark.data
def test_bounds_tell_the_scatter_of_simulated_fits(folder, tmp_path):
    """Where signal is plenty, estimates scatter as the Cramer-Rao bound says, without bias, whatever the noise."""
    files = [str(tmp_path / name) for name in ("cells.nii.gz", "truth.tsv", "x_mrsfit.tsv")]
    same = ["--folder", str(folder), "--case", "press_poly2", "--cells", files[0], "--truth", files[1]]
    published_fits.main(["simulate", *same, "--realisations", "100", "--levels", "2", "--seed", "5"])
    published_fits.main(["fit", *same, "--output", files[2]])
    table = fit_truth.truth_statistics(
        fit_truth.simulated(["x"], [tmp_path / "x_mrsfit.tsv"], [tmp_path / "truth.tsv"])
    )
    low = table[(table["noise_sd"] == 4) & (table["metabolite"] != "all")].set_index("metabolite")
    assert low["n"].eq(100).all()
    assert table["n_above_truth"].max() == 0  # else a fit is stuck in a local minimum
    for metabolite in ("tNAA", "tCr", "tCho", "Ins", "Glx"):
        assert low.loc[metabolite, "coverage"] >= 0.87  # 95 % less four binomial SDs
        assert 0.75 < low.loc[metabolite, "z_sd"] < 1.3
        assert abs(low.loc[metabolite, "bias_percent"]) < 1.5


@pytest.mark.data
@pytest.mark.fsl_mrs
def test_fsl_mrs_fits_simulated_spectra_alike(folder, tmp_path):
    from mrs_synthesis import engine_agreement

    files = [str(tmp_path / name) for name in ("cells.nii.gz", "truth.tsv")]
    same = ["--folder", str(folder), "--case", "mega_poly2", "--cells", files[0], "--truth", files[1]]
    published_fits.main(["simulate", *same, "--realisations", "2", "--levels", "3", "--seed", "5"])
    tables = [tmp_path / f"x_desc-{engine}_mrsfit.tsv" for engine in ("batched", "fslmrs")]
    published_fits.main(["fit", *same, "--most", "3", "--output", str(tables[0])])
    with pytest.raises(SystemExit) as ended:  # the work is done by FSL-MRS's own interpreter
        published_fits.main(["fit", *same, "--engine", "fsl-mrs", "--most", "3", "--output", str(tables[1])])
    assert not ended.value.code
    pairs = engine_agreement.collect(["x"], tables[:1], tables[1:])
    objectives = engine_agreement.objective_table(pairs).iloc[0]
    assert (objectives["n"], objectives["no_worse_share"]) == (3, 1)
    table = engine_agreement.agreement_table(pairs)
    same_minimum = table[(table["metabolite"] == "all") & (table["spectra"] == "same minimum")].iloc[0]
    assert same_minimum["n"] >= 30
    assert same_minimum["close_share"] >= 0.99
