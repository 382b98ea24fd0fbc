"""The result tables on a small study whose answers are known."""

import json
import math
import shutil

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import bias_tables, estimates, evaluate, spectra
from mrs_synthesis.dictionary import write_described_table
from mrs_synthesis.files import read_table, write_json, write_table
from mrs_synthesis.scans import Scan, write_scan
from mrs_synthesis.stage import InputError

N, DWELL, FREQUENCY = 512, 5e-4, 123.25
REFERENCE = {"01": 1.0, "02": 1.2, "03": 1.4, "04": 1.6, "05": 1.5}  # tNAA / tCr; subject 05 failed
SITE = {"01": "A", "02": "A", "03": "B", "04": "B", "05": "B"}
TRUTH = {"01": (0.9, 0.1), "02": (1.0, 0.2), "03": (1.3, 0.1), "04": (1.5, 0.1), "05": (1.0, 0.1)}  # NAA, NAAG
MARGIN = 10
# source, decoder, n_real, n_total, replicate: ratio of the estimate to the reference (a function of it)
CELLS = {
    ("reference", "n/a", 50, 50, 0): lambda x: x,
    ("real", "n/a", 1, 1, 0): lambda x: 1.4 * x,
    ("real", "n/a", 1, 1, 1): lambda x: 0.6 * x,
    ("real", "n/a", 4, 4, 0): lambda x: 1.2 * x,
    ("real", "n/a", 4, 4, 1): lambda x: 0.8 * x,
    ("real", "n/a", 16, 16, 0): lambda x: 1.1 * x,
    ("random", "mean", 4, 16, 0): lambda x: 1.05 * x,
    ("random", "mean", 4, 16, 1): lambda x: 1.15 * x,
    ("population_mean", "n/a", 4, 16, 0): lambda x: 1.3,
    ("population_mean", "n/a", 4, 16, 1): lambda x: 1.3,
    ("reconstruction", "n/a", 50, 50, 0): lambda x: 0.5 * x,
}


def write_unit(folder, subject, random):
    base = folder / "derivatives" / f"sub-{subject}" / "mrs" / f"sub-{subject}_acq-x"
    cells = [(cell, *key) for cell, key in enumerate(CELLS)]
    columns = ["cell", "source", "decoder", "n_real", "n_total", "replicate"]
    index = pd.DataFrame(cells, columns=columns)
    # as many transients are left for the reference as were kept: different in every scan
    own = index["source"].isin(["reference", "reconstruction"])
    index.loc[own, ["n_real", "n_total"]] += int(subject)
    write_table(f"{base}_desc-cells_index.tsv", index)
    t = spectra.time_axis(N, DWELL)
    fid = np.exp(2j * np.pi * (spectra.TCR_PPM - spectra.WATER_PPM) * FREQUENCY * t - 15 * t)
    noise = random.standard_normal((2, 1, len(CELLS), 1, N)) * 0.01
    write_scan(f"{base}_desc-cells_svs.nii.gz", Scan(fid + noise[0] + 1j * noise[1], FREQUENCY, DWELL))
    rows = []
    for cell, estimate in enumerate(CELLS.values()):
        for metabolite, value in (("tNAA", estimate(REFERENCE[subject])), ("tCr", 1.0)):
            rows.append(
                (
                    cell,
                    "UNEDITED",
                    metabolite,
                    "batched",
                    2 * value,
                    0.1,
                    value,
                    5.0,
                    30.0,
                    6.0,
                    True,
                    0.02,
                    8.0,
                    0.4,
                    6.5,
                    None,
                )
            )
    columns = ["cell", "condition", "metabolite", "engine", "raw", "raw_sd", "per_tcr", "crlb_percent"]
    columns += ["snr", "fwhm_hz", "converged", "per_tcr_sd", "molality_mmol_kg", "molality_sd_mmol_kg"]
    columns += ["molarity_mmol_l", "note"]
    write_table(f"{base}_desc-batched_mrsfit.tsv", pd.DataFrame(rows, columns=columns))


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    random = np.random.default_rng(0)
    units = pd.DataFrame({"subject": list(REFERENCE)})
    units = units.assign(unit="sub-" + units["subject"] + "_acq-x", folder="sub-" + units["subject"], session=None)
    units["site"] = units["subject"].map(SITE)
    others = units.assign(unit="sub-99_x", split="train")
    write_table(folder / "units.tsv", pd.concat([units.assign(split="test"), others]))
    write_json(folder / "training" / "grid.json", {"split_unit": "subject"})
    for subject in REFERENCE:
        write_unit(folder, subject, random)
    (folder / "derivatives/sub-05/mrs/sub-05_acq-x_desc-batched_mrsfit.tsv").write_text("")
    truth = [(s, m, 8 * v, v) for s, pair in TRUTH.items() for m, v in zip(("NAA", "NAAG"), pair, strict=True)]
    columns = ["subject", "metabolite", "concentration_mm", "per_tcr"]
    write_table(folder / "truth.tsv", pd.DataFrame(truth, columns=columns))
    return folder


def run_evaluate(folder, *extra):
    evaluate.main(
        [
            f"--units={folder / 'units.tsv'}",
            f"--training={folder / 'training'}",
            f"--derivatives={folder / 'derivatives'}",
            f"--output={folder / 'tables'}",
            *f"--engine batched --seed 1 --bootstrap 200 --tost-margin-percent {MARGIN}".split(),
            *extra,
        ]
    )
    return folder / "tables"


@pytest.fixture(scope="module")
def tables(study):
    return run_evaluate(study, f"--truth={study / 'truth.tsv'}")


def row(tables, name, source, **more):
    table = read_table(tables / f"{name}.tsv")
    for column, value in {"source": source, **more}.items():
        table = table[table[column] == value]
    assert len(table) == 1
    return table.iloc[0]


def test_bias_of_known_estimates(tables):
    found = row(tables, "bias", "random")
    assert (found["metabolite"], found["condition"], found["decoder"]) == ("tNAA", "UNEDITED", "mean")
    assert (found["n_real"], found["n_total"], found["n"], found["n_replicates"]) == (4, 16, 4, 8)
    assert found["bias_percent"] == pytest.approx(10)
    assert found["rmse_percent"] == pytest.approx(math.sqrt((25 + 225) / 2))
    assert found["slope"] == pytest.approx(1.1)
    assert found["sd_ratio"] == pytest.approx((1.05 + 1.15) / 2)
    assert found["cv_percent"] == pytest.approx(100 * 0.05 * math.sqrt(2) / 1.1)
    assert found["crlb_percent"] == 5
    assert found["error_to_crlb"] == pytest.approx(math.sqrt(125) / 5)


def test_the_bound_of_a_fit_without_a_ratio_is_left_out():
    """Such a fit gives an amplitude of 0 with a bound of 999 %: it is counted as missing, and tells of no error."""
    same = {"metabolite": "tNAA", "condition": "OFF", "source": "real", "decoder": None, "n_real": 2, "n_total": 2}
    values = [(1.1, 5.0), (np.nan, 999.0)]
    rows = [
        same | {"unit": s, "subject": s, "replicate": k, "reference": 1.0, "per_tcr": ratio, "crlb_percent": bound}
        for s in "abcd"
        for k, (ratio, bound) in enumerate(values)
    ]
    (found,) = bias_tables.bias_table(pd.DataFrame(rows), 10.0, 20, 1).to_dict("records")
    assert (found["n"], found["n_missing"], found["crlb_percent"]) == (4, 4, 5)
    assert found["error_to_crlb"] == pytest.approx(10 / 5)


def test_population_mean_has_no_slope(tables):
    found = row(tables, "bias", "population_mean")
    assert found["slope"] == pytest.approx(0, abs=1e-9)
    assert found["sd_ratio"] == pytest.approx(0, abs=1e-9)
    differences = [100 * (1.3 / REFERENCE[s] - 1) for s in ("01", "02", "03", "04")]
    assert found["bias_percent"] == pytest.approx(np.mean(differences))
    assert found["rmse_percent"] == pytest.approx(np.sqrt(np.mean(np.square(differences))))


def test_sources_whose_size_differs_between_scans_are_one_row(tables):
    assert row(tables, "bias", "reconstruction")["n_total"] == 52  # median of 51 to 54
    assert row(tables, "bias_truth", "reference")["n"] == 4
    assert "reference" not in set(read_table(tables / "bias.tsv")["source"])


def test_bias_against_the_truth_forms_sums(tables):
    found = row(tables, "bias_truth", "reference")
    expected = [100 * (REFERENCE[s] / sum(TRUTH[s]) - 1) for s in ("01", "02", "03", "04")]
    assert found["bias_percent"] == pytest.approx(np.mean(expected))


def test_effective_transients(tables):
    # the curve's errors are 40, 20, 10 % at 1, 4, 16
    found = row(tables, "effective_transients", "random")
    assert found["n_eff"] == pytest.approx((40 / math.sqrt(125)) ** 2)
    assert (found["n_eff_clipped"], found["n"]) == ("no", 4)
    assert found["slope"] == pytest.approx(1.1)
    assert row(tables, "effective_transients", "real", n_real=4)["n_eff"] == pytest.approx(4)
    table = read_table(tables / "effective_transients.tsv")
    assert sorted(table.loc[table["source"] == "real", "n_real"]) == [4, 16]
    assert not set(table["source"]) & {"reference", "reconstruction"}


def test_learning_curve(tables):
    table = read_table(tables / "learning_curve.tsv")
    assert table["n_real"].tolist() == [1, 4, 16]
    assert table["rmse_percent"].tolist() == pytest.approx([40, 20, 10])
    assert table["slope"].tolist() == pytest.approx([1.0, 1.0, 1.1])
    # every subject has the same error: no resample differs
    assert table[["ci_low", "ci_high"]].to_numpy().ravel().tolist() == pytest.approx([40, 40, 20, 20, 10, 10])
    assert set(table["n"]) == {4}


def test_holm_counts_series_of_one_kind(tables):
    table = read_table(tables / "bias.tsv").set_index("source")
    real = table.loc["real"]
    assert len(real) == 3
    smallest = real.loc[real["tost_p"] == real["tost_p"].min()].iloc[0]
    assert smallest["tost_p_holm"] == pytest.approx(min(1, 3 * smallest["tost_p"]))
    for alone in ("random", "population_mean", "reconstruction"):  # the only series of their kind
        assert table.loc[alone, "tost_p_holm"] == pytest.approx(table.loc[alone, "tost_p"])


def test_bias_by_site(tables):
    found = row(tables, "bias_by_site", "random", site="A")
    assert found["bias_percent"] == pytest.approx(10)
    assert found["n"] == 2 and np.isnan(found["slope"])


def test_concentrations_have_a_row_for_every_cell(tables):
    table = read_table(tables / "concentrations.tsv")
    assert len(table) == 4 * len(CELLS) * 2
    first = table[(table["subject"] == "01") & (table["source"] == "random") & (table["metabolite"] == "tNAA")].iloc[0]
    assert (first["raw"], first["per_tcr"], first["unit"]) == (2.1, 1.05, "sub-01_acq-x")


def test_every_table_has_a_dictionary_of_all_its_columns(tables):
    for name in ("concentrations", "bias", "bias_by_site", "bias_truth", "effective_transients", "learning_curve"):
        columns = (tables / f"{name}.tsv").read_text().splitlines()[0].split("\t")
        described = json.loads((tables / f"{name}.json").read_text())
        assert set(columns) <= set(described)


def test_columns_of_the_contract(tables):
    bias = "bias_percent bias_ci_low bias_ci_high loa_low loa_high slope sd_ratio ccc icc_a1 cv_percent tost_p n"
    expected = {
        "bias": f"metabolite condition source decoder n_real n_total rmse_percent {bias}",
        "effective_transients": "metabolite condition source decoder n_eff n_eff_ci_low n_eff_ci_high slope",
        "concentrations": "unit subject session site source n_real n_total engine raw per_tcr crlb_percent snr fwhm_hz "
        "per_tcr_sd molality_mmol_kg molality_sd_mmol_kg molarity_mmol_l note converged condition metabolite cell "
        "replicate decoder",
    }
    for name, columns in expected.items():
        assert set(columns.split()) <= set(read_table(tables / f"{name}.tsv").columns)


def test_summary_and_failed_subjects(tables):
    summary = json.loads((tables / "summary.json").read_text())
    assert summary["n_subjects"] == 4 and list(summary["units_left_out"]) == ["sub-05_acq-x"]
    assert summary["ratios"] == ["UNEDITED:tNAA"] and summary["split_unit"] == "subject"
    assert "05" not in set(read_table(tables / "bias.tsv")["source"])


def test_tables_say_how_many_subjects_were_left_out(tables):
    # five test subjects, of which 05 failed
    for name in ("bias", "bias_truth", "effective_transients", "learning_curve"):
        table = read_table(tables / f"{name}.tsv")
        assert list(table.columns[[table.columns.get_loc("n") + 1]]) == ["n_left_out"]
        assert (table["n"] + table["n_left_out"] == 5).all() and (table["n_left_out"] >= 1).all(), name
    by_site = read_table(tables / "bias_by_site.tsv")
    at = pd.Series(SITE).value_counts()
    assert (by_site["n"] + by_site["n_left_out"] == by_site["site"].map(at)).all()


def test_concentrations_are_read_in_parts(tables, monkeypatch):
    whole = read_table(tables / "concentrations.tsv")
    own = whole[(whole["metabolite"] == "tNAA") & (whole["condition"] == "UNEDITED")]
    columns, sizes = ("unit", "metabolite", "condition", "n_real", "per_tcr"), []

    def kept(part):
        sizes.append(len(part))
        return estimates.of_ratios(part, [("UNEDITED", "tNAA")])

    monkeypatch.setattr(estimates, "CHUNK", 10)
    found = estimates.read_concentrations(tables / "concentrations.tsv", columns, kept)
    assert max(sizes) == 10 and sum(sizes) == len(whole)
    pd.testing.assert_frame_equal(found, own[[c for c in whole.columns if c in columns]].reset_index(drop=True))
    with pytest.raises(InputError, match="no column mystery; it has unit"):
        estimates.read_concentrations(tables / "concentrations.tsv", ("unit", "mystery"), kept)


def test_same_bytes_again(study, tables):
    before = {path.name: path.read_bytes() for path in tables.iterdir()}
    run_evaluate(study, f"--truth={study / 'truth.tsv'}")
    assert before == {path.name: path.read_bytes() for path in tables.iterdir()}


def test_one_subject(study, tmp_path):
    folder = tmp_path / "one"
    shutil.copytree(study, folder)
    units = read_table(folder / "units.tsv")
    write_table(folder / "units.tsv", units[units["unit"] == "sub-02_acq-x"].assign(split=None))
    write_json(folder / "training" / "grid.json", {"split_unit": "transient"})
    tables = run_evaluate(folder)
    found = row(tables, "bias", "random")
    assert found["bias_percent"] == pytest.approx(10)
    assert found["loa_high"] - found["loa_low"] == pytest.approx(2 * 1.96 * math.sqrt(50))
    assert found[["slope", "sd_ratio", "ccc", "icc_a1"]].isna().all()
    assert row(tables, "effective_transients", "random")["n_eff"] == pytest.approx((40 / math.sqrt(125)) ** 2)
    assert "within one subject" in json.loads((tables / "bias.json").read_text())["TableDescription"]


def test_bad_ratios_are_one_line(study):
    for ratios, message in ((["tNAA"], "CONDITION:METABOLITE"), (["OFF:tNAA"], "none of OFF:tNAA was fitted")):
        with pytest.raises(InputError, match=message):
            run_evaluate(study, "--ratios", *ratios)


def test_cells_and_fits_must_match(study, tmp_path):
    folder = tmp_path / "wrong"
    shutil.copytree(study, folder)
    path = folder / "derivatives/sub-01/mrs/sub-01_acq-x_desc-cells_index.tsv"
    write_table(path, read_table(path).iloc[:-1])
    with pytest.raises(InputError, match="quantify again"):
        run_evaluate(folder)


def test_a_column_without_description_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no description of column mystery"):
        write_described_table(tmp_path / "x.tsv", pd.DataFrame({"mystery": [1]}), "nothing")
