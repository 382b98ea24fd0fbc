"""The table made of an engine's answer, against sums done by hand."""

import numpy as np
import pandas as pd
import pytest
from analytic_basis import MHZ, analytic_basis

from mrs_synthesis import fitting, lcm_model, metabolites
from mrs_synthesis.fitting import Fitted


def fitted(names, raw, covariance, converged=None, width=4):
    """An engine's answer in which only amplitudes matter."""
    raw, covariance = np.asarray(raw, float), np.asarray(covariance, float)
    cells, n = raw.shape
    window = np.zeros((cells, width), complex)
    return Fitted(
        names=names,
        raw=raw,
        covariance=covariance,
        snr=np.full((cells, n), 20.0),
        fwhm_hz=np.full((cells, n), 6.0),
        converged=np.ones(cells, bool) if converged is None else np.asarray(converged),
        objective=np.ones(cells),
        ppm=np.linspace(0.2, 4.2, width),
        data=window,
        fit=window,
        baseline=window,
        gamma=np.ones((cells, 1)),
        sigma=np.ones((cells, 1)),
        eps=np.zeros((cells, 1)),
        phi0=np.zeros(cells),
        phi1=np.zeros(cells),
    )


def test_sums_and_groups():
    names = ["Cr", "PCr", "GPC", "Cho", "Glu", "GABA", "MM09", "MM20", "MM3co"]
    assert metabolites.sums(names, "DIFF") == {
        "tCr": ["Cr", "PCr"],
        "tCho": ["GPC", "Cho"],
        "Glx": ["Glu"],
        "GABA+": ["GABA", "MM3co"],
    }
    assert "GABA+" not in metabolites.sums(names, "OFF")
    assert metabolites.groups(names, "OFF") == [0, 0, 0, 0, 0, 0, 1, 2, 0]
    assert metabolites.groups(names, "DIFF") == [0] * 9


def test_covariance_of_a_sum_and_cap_of_the_crlb():
    covariance = [[[4.0, -3.9], [-3.9, 4.0]], [[4.0, 0.0], [0.0, 4.0]]]
    answer = fitted(["Cr", "PCr"], [[3.0, 1.0], [0.0, 0.0]], covariance, [True, False])
    rows = fitting.table({"OFF": answer}, "batched").set_index(["cell", "metabolite"])
    assert rows.loc[(0, "tCr"), "raw_sd"] == pytest.approx(np.sqrt(0.2))
    assert rows.loc[(0, "tCr"), "crlb_percent"] == pytest.approx(100 * np.sqrt(0.2) / 4)
    assert rows.loc[(0, "Cr"), "per_tcr"] == 0.75
    assert rows.loc[(1, "Cr"), "crlb_percent"] == 999 and np.isnan(rows.loc[(1, "Cr"), "per_tcr"])
    assert list(rows["converged"]) == [1, 1, 1, 0, 0, 0]
    assert rows.loc[(1, "Cr"), "note"] == "no tCr in this cell" and rows.loc[(0, "Cr"), "note"] is None


def test_sd_of_ratios_against_many_draws():
    """A ratio within one spectrum shares its tCr's error; one of another spectrum does not."""
    rng = np.random.default_rng(5)
    covariance = np.array([[0.09, 0.05, 0.02], [0.05, 0.12, -0.03], [0.02, -0.03, 0.16]]) * 0.2
    amplitudes, gaba, gaba_sd = np.array([4.0, 4.0, 10.0]), 2.0, 0.1
    off = fitted(["Cr", "PCr", "NAA"], [amplitudes], [covariance])
    diff = fitted(["GABA"], [[gaba]], [[[gaba_sd**2]]])
    rows = fitting.table({"OFF": off, "DIFF": diff}, "batched").set_index(["condition", "metabolite"])
    drawn = rng.multivariate_normal(amplitudes, covariance, 400_000)
    tcr = drawn[:, 0] + drawn[:, 1]
    for name, values in (("NAA", drawn[:, 2] / tcr), ("Cr", drawn[:, 0] / tcr)):
        assert rows.loc[("OFF", name), "per_tcr_sd"] == pytest.approx(values.std(), rel=0.01)
    values = rng.normal(gaba, gaba_sd, 400_000) / tcr
    assert rows.loc[("DIFF", "GABA"), "per_tcr_sd"] == pytest.approx(values.std(), rel=0.01)
    assert rows.loc[("OFF", "tCr"), "per_tcr_sd"] == pytest.approx(0, abs=1e-9)


def test_rows_go_cell_by_cell_so_that_chunks_can_be_joined():
    raw = np.arange(1.0, 7.0).reshape(3, 2)
    covariance = np.tile(np.eye(2), (3, 1, 1))
    one = fitting.table({"OFF": fitted(["Cr", "NAA"], raw, covariance)}, "batched")
    parts = [
        fitting.table({"OFF": fitted(["Cr", "NAA"], raw[s], covariance[s])}, "batched", first_cell=s.start)
        for s in (slice(0, 1), slice(1, 3))
    ]
    assert tuple(one.columns) == fitting.COLUMNS and one["cell"].is_monotonic_increasing
    assert one.equals(pd.concat(parts, ignore_index=True))


def test_absolute_concentrations_are_factors_and_notes_are_kept():
    raw = [[4.0, 8.0], [np.nan, np.nan], [4.0, 8.0]]
    answer = fitted(["Cr", "NAA"], raw, [np.eye(2), np.full((2, 2), np.nan), np.eye(2)], [True, False, True])
    notes = {"OFF": ["shifted by +0.10 ppm", "zero everywhere", "not converged"]}
    factors = (np.array([2.0, np.nan, np.nan]), np.array([1.5, np.nan, np.nan]))
    rows = fitting.table({"OFF": answer}, "x", notes=notes, per_raw=factors).set_index(["cell", "metabolite"])
    naa = rows.loc[(0, "NAA")]
    assert (naa["molality_mmol_kg"], naa["molality_sd_mmol_kg"], naa["molarity_mmol_l"]) == (16.0, 2.0, 12.0)
    assert naa["note"] == "shifted by +0.10 ppm"
    assert rows.loc[(2, "NAA"), "note"] == "not converged; no peak in this cell to refer to water"
    missing = rows.loc[(1, "NAA")]
    assert missing["note"] == "zero everywhere" and missing["converged"] == 0
    assert missing[["raw", "raw_sd", "per_tcr", "per_tcr_sd", "crlb_percent", "molality_mmol_kg"]].isna().all()


def test_without_creatine_the_note_says_why_there_is_no_ratio():
    rows = fitting.table({"OFF": fitted(["NAA"], [[3.0]], [[[1.0]]])}, "x")
    assert rows["per_tcr"].isna().all() and rows["note"].tolist() == ["no tCr fitted"] * 2  # NAA and tNAA


def test_cells_of_an_answer_go_where_they_belong():
    basis = analytic_basis()
    for free, shifts in ((False, 2), (True, 7)):
        options = lcm_model.Options(free_shift=free)
        task = fitting.Task("OFF", 2048, 5e-4, MHZ, basis, [0] * 6 + [1], options)
        whole = fitting.missing(task, np.zeros(3), 4)
        assert whole.eps.shape == (4, shifts) and whole.gamma.shape == (4, 2)
        assert np.isnan(whole.raw).all() and not whole.converged.any()
        part = fitting.missing(task, np.zeros(3), 2)
        part.raw[:] = [[1.0] * 7, [2.0] * 7]
        part.converged[:] = True
        whole.spread(part, np.array([3, 1]))
        assert whole.raw[:, 0].tolist()[1::2] == [2.0, 1.0] and np.isnan(whole.raw[::2]).all()
        assert whole.converged.tolist() == [False, True, False, True]
