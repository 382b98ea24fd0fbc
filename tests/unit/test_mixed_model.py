"""The model of sites and vendors against statsmodels, scipy and simulated components."""

import json

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from unit_table import write_units

from mrs_synthesis import mixed_model
from mrs_synthesis.files import read_table, write_table
from mrs_synthesis.stage import InputError


def study(
    sites=8, subjects=6, replicates=3, site_sd=4.0, subject_sd=2.0, sd=3.0, vendors=1, shift=0.0, seed=0, mean=5.0
):
    """Return rows with percent differences of known components, vendors taking turns over the sites."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(sites):
        vendor = i % vendors
        level = mean + shift * vendor + site_sd * random.standard_normal()
        for j in range(subjects):
            own = level + subject_sd * random.standard_normal()
            for r in range(replicates):
                percent = own + sd * random.standard_normal()
                row = {"subject": f"{i}s{j}", "unit": f"sub-{i}s{j}", "site": f"S{i}", "vendor": "ABC"[vendor]}
                cell = {"replicate": r, "reference": 2.0, "per_tcr": 2.0 * (1 + percent / 100)}
                series = {"metabolite": "tNAA", "condition": "OFF", "source": "random", "decoder": "mean"}
                rows.append(row | cell | series | {"n_real": 2, "n_total": 40})
    return pd.DataFrame(rows)


def fitted(rows):
    table = mixed_model.mixed_table(rows)
    return table.set_index("term"), table["method"].iloc[0], str(table["note"].iloc[0])


def test_against_the_full_model_of_statsmodels():
    import statsmodels.formula.api as smf

    rows = study(vendors=2, shift=6.0)
    rows["y"] = 100 * (rows["per_tcr"] / rows["reference"] - 1)
    full = smf.mixedlm("y ~ vendor", rows, groups="site", re_formula="1", vc_formula={"subject": "0 + C(subject)"})
    full = full.fit(reml=True)
    table, method, note = fitted(rows)
    assert method == "mixed model" and "intercept of vendor A" in note
    assert table.loc["intercept", "estimate"] == pytest.approx(full.fe_params["Intercept"], rel=1e-3)
    assert table.loc["vendor B - A", "estimate"] == pytest.approx(full.fe_params["vendor[T.B]"], rel=1e-3)
    error = full.bse_fe["vendor[T.B]"]
    half = (table.loc["vendor B - A", "ci_high"] - table.loc["vendor B - A", "ci_low"]) / 2
    assert half == pytest.approx(stats.t.ppf(0.975, 6) * error, rel=1e-3)
    components = (full.cov_re.iloc[0, 0], full.vcomp[0], full.scale)
    for name, variance in zip(("site", "subject", "residual"), components, strict=True):
        assert table.loc[f"sd_{name}", "estimate"] == pytest.approx(np.sqrt(variance), rel=5e-3)


def test_sites_of_unequal_size_against_statsmodels():
    from statsmodels.regression.mixed_linear_model import MixedLM

    rows = study(replicates=1)
    rows = rows[rows["subject"].str[2:].astype(int) < 2 + rows["site"].str[1:].astype(int) % 5]
    y = 100 * (rows["per_tcr"] / rows["reference"] - 1)
    full = MixedLM(y.to_numpy(), np.ones((len(y), 1)), groups=rows["site"].to_numpy()).fit(reml=True)
    table, *_ = fitted(rows)
    assert table.loc["sd_site", "estimate"] == pytest.approx(np.sqrt(np.asarray(full.cov_re)[0, 0]), rel=1e-3)
    assert table.loc["intercept", "estimate"] == pytest.approx(full.fe_params[0], rel=1e-4)
    groups = [group.to_numpy() for _, group in y.groupby(rows["site"])]
    assert table.loc["sd_site", "p"] == pytest.approx(stats.f_oneway(*groups).pvalue, rel=1e-6)
    assert "sd_residual" not in table.index


def test_components_and_coverage_of_simulated_studies():
    found, covered, studies = [], 0, 150
    share = 16 / (16 + 4 + 9 / 3)
    for seed in range(studies):
        table, *_ = fitted(study(sites=6, seed=seed))
        found.append([table.loc[f"sd_{name}", "estimate"] ** 2 for name in ("site", "subject", "residual")])
        low, high = table.loc["icc_site", ["ci_low", "ci_high"]]
        covered += low <= share <= high
    found = np.array(found)
    error = found.std(axis=0, ddof=1) / np.sqrt(studies)
    assert (np.abs(found.mean(axis=0) - [16, 4, 9]) < 4 * error).all()
    assert stats.binom.ppf(0.001, studies, 0.95) <= covered <= stats.binom.ppf(0.9999, studies, 0.95)


def test_equal_sites_are_at_the_limit_and_say_so():
    rows = study(sites=5, site_sd=0.0, seed=3)
    means = rows.groupby("site")["per_tcr"].transform("mean")
    rows["per_tcr"] += rows["per_tcr"].mean() - means
    table, _, note = fitted(rows)
    assert table.loc["sd_site", "estimate"] == 0 and "limit of 0" in note and "one vendor (A)" in note
    assert table.loc["sd_site", "p"] == pytest.approx(1) and table.loc["icc_site", "ci_low"] == 0
    mean = 100 * (rows["per_tcr"].mean() / 2 - 1)
    assert table.loc["intercept", "estimate"] == pytest.approx(mean)


def test_two_sites_are_compared_by_welchs_test():
    rows = study(sites=2, vendors=2)
    table, method, note = fitted(rows)
    assert method == "fixed effects" and "site and vendor cannot be told apart" in note
    means = (100 * (rows["per_tcr"] / 2 - 1)).groupby([rows["site"], rows["subject"]]).mean()
    test = stats.ttest_ind(means["S1"], means["S0"], equal_var=False)
    assert table.loc["site S1 - S0", "p"] == pytest.approx(test.pvalue)
    assert table.loc["site S1 - S0", "estimate"] == pytest.approx(means["S1"].mean() - means["S0"].mean())
    assert not {"sd_site", "icc_site", "vendor B - A"} & set(table.index)


def test_vendors_of_one_site_each_are_left_out():
    table, method, note = fitted(study(sites=3, vendors=3))
    assert method == "mixed model" and "vendors cannot be told from sites" in note
    assert not [term for term in table.index if term.startswith("vendor")]


def test_too_few_subjects_are_never_silent():
    _, method, note = fitted(study(sites=5, subjects=1))
    assert method == "not estimated" and "no more subjects than sites" in note
    table, method, note = fitted(study(sites=1, subjects=2))
    assert method == "not estimated" and "fewer than 3 subjects" in note
    assert np.isnan(table.loc["intercept", "ci_low"])
    table, method, note = fitted(study(sites=1))
    assert method == "one site" and table.loc["sd_residual", "estimate"] == pytest.approx(3, rel=0.5)


def test_command_line_takes_vendors_from_the_units(tmp_path):
    rows = study(sites=4, replicates=1).drop(columns=["vendor", "reference"])
    own = rows.assign(source="reference", decoder=None, per_tcr=2.0)
    write_table(tmp_path / "concentrations.tsv", pd.concat([own, rows]))
    write_units(tmp_path / "units.tsv", rows, left_out=1, vendors=("siemens", "ge"))
    flags = [f"--concentrations={tmp_path / 'concentrations.tsv'}", f"--output={tmp_path / 'mixed_model.tsv'}"]
    mixed_model.main([*flags, f"--units={tmp_path / 'units.tsv'}"])
    table = read_table(tmp_path / "mixed_model.tsv")
    assert "vendor siemens - ge" in set(table["term"]) and set(table["n_vendors"]) == {2}
    assert set(table["n"]) == {24} and set(table["n_left_out"]) == {1}
    assert set(table.columns) <= set(json.loads((tmp_path / "mixed_model.json").read_text()))
    write_table(tmp_path / "units.tsv", read_table(tmp_path / "units.tsv").iloc[1:])
    with pytest.raises(InputError, match="no scan sub-0s0"):
        mixed_model.main([*flags, f"--units={tmp_path / 'units.tsv'}"])
