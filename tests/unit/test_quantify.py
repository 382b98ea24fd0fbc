"""The stage from files to table, on data made with known amplitudes."""

import json

import numpy as np
import pandas as pd
import pytest
from analytic_basis import LINES, MHZ, analytic_basis

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fitting, metabolites, quantify
from mrs_synthesis.files import read_table, write_table
from mrs_synthesis.scans import Scan, write_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

N, DWELL, CELLS = 2048, 5e-4, 3
TRUTH = {"Cr": 4.0, "GABA": 1.5, "Glu": 9.0, "Ins": 5.0, "NAA": 10.0, "PCh": 1.2, "PCr": 4.0, "MM3co": 1.2}


def write_set(folder, mhz=MHZ, n_points=N):
    """A MEGA-PRESS set of OFF, ON and DIFF, ON with inverted NAA singlet, refocused GABA and MM3co."""
    options = {"mhz": mhz, "n_points": n_points}
    off = analytic_basis(LINES | {"MM3co": [(3.0, 0.0)]}, **options)
    on_lines = dict(LINES, NAA=[(2.6, 1.5)], GABA=[(3.01, 4), (2.28, 2)], Glu=[(2.34, 2), (3.75, 2)])
    on = analytic_basis(on_lines | {"MM3co": [(3.0, 2.0)]}, **options)
    t = np.arange(n_points) * DWELL
    on.fids[on.names.index("MM3co")] *= np.exp(-((np.pi * 14 * t) ** 2) / (4 * np.log(2)))
    bases = {"OFF": off.select(LINES), "ON": on, "DIFF": basis_sets.difference(on, off)}
    basis_sets.write_set(folder, bases, {})
    return off, on


def fids_of(basis, scale=1.0):
    t = np.arange(1, N + 1) * DWELL
    fid = sum(TRUTH[name] * fid for name, fid in zip(basis.names, basis.fids, strict=True))
    return scale * fid * np.exp(-(8 + 100 * t) * t)


@pytest.fixture
def study(tmp_path):
    """Cells of one subject: amplitudes 1, 2, 3 times the truth, in a file and an index."""
    off, on = write_set(tmp_path / "set")
    rng = generator(1, "test_quantify")
    fids = np.array([[fids_of(basis, 1e-3 * (1 + i)) for i in range(CELLS)] for basis in (off, on)])
    fids = fids + 2e-5 * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
    header = {"SpectrometerFrequency": [MHZ], "ResonantNucleus": ["1H"]}
    scan = Scan(fids[:, :, None], MHZ, DWELL, header, ("OFF", "ON"), dimensions=("DIM_DYN", "DIM_EDIT"))
    write_scan(tmp_path / "cells.nii.gz", scan)
    write_table(tmp_path / "index.tsv", pd.DataFrame({"cell": range(CELLS), "source": "real"}))
    return tmp_path


def arguments(study, *more, conditions=("OFF", "DIFF"), cells="cells.nii.gz", index=True):
    argv = ["--unit", "sub-01_acq-mega", "--cells", study / cells, "--basis", study / "set"]
    argv += ["--conditions", *conditions, "--output", study / "fit.tsv", "--curves", study / "fit.npz"]
    argv += ["--index", study / "index.tsv"] if index else []
    return [str(word) for word in [*argv, "--device", "cpu", *more]]


def test_amplitudes_ratios_sums_and_curves(study):
    quantify.main(arguments(study))
    table = read_table(study / "fit.tsv")
    assert tuple(table.columns) == fitting.COLUMNS and set(table["engine"]) == {"batched"}
    rows = table.set_index(["condition", "metabolite", "cell"])
    assert table["converged"].eq(1).all() and not rows.index.duplicated().any()
    for cell in range(CELLS):
        for condition, names in (("OFF", ("NAA", "Glu", "Ins", "tCr")), ("DIFF", ("NAA", "GABA+"))):
            truth = TRUTH | {"tCr": 8.0, "GABA+": 2.7}
            for name in names:
                row = rows.loc[condition, name, cell]
                assert row["raw"] == pytest.approx(truth[name] * 1e-3 * (1 + cell), rel=0.03), (condition, name)
                assert row["per_tcr"] == pytest.approx(truth[name] / 8, rel=0.03)
                assert row["crlb_percent"] == pytest.approx(100 * row["raw_sd"] / row["raw"], rel=1e-6)
    # Cr and PCr are nearly collinear, so their sum is known much better than either
    tcr, cr = rows.loc["OFF", "tCr", 0], rows.loc["OFF", "Cr", 0]
    assert tcr["raw_sd"] < 0.5 * cr["raw_sd"] and tcr["raw"] == pytest.approx(
        cr["raw"] + rows.loc["OFF", "PCr", 0]["raw"], rel=1e-6
    )
    # In the difference singlets cancel: they are not fitted; sums have neither SNR nor width
    assert ("DIFF", "Cr", 0) not in rows.index and ("DIFF", "tCr", 0) not in rows.index
    assert np.isnan(tcr["snr"]) and np.isnan(tcr["fwhm_hz"]) and rows.loc["OFF", "NAA", 0]["fwhm_hz"] > 4
    curves = np.load(study / "fit.npz", allow_pickle=False)
    for condition in ("OFF", "DIFF"):
        data, fit = curves[f"{condition}_data"], curves[f"{condition}_fit"]
        assert data.dtype == np.complex64 and data.shape == (CELLS, curves[f"{condition}_ppm"].size)
        assert list(curves[f"{condition}_cell"]) == [0, 1, 2]
        # What is left is noise of 2e-5 in the FID, hence 2e-5 sqrt(2 points) in the spectrum
        residual = np.sqrt(np.mean(np.abs(data - fit) ** 2))
        noise = 2e-5 * np.sqrt(2 * N) * (np.sqrt(2) if condition == "DIFF" else 1)
        assert residual == pytest.approx(noise, rel=0.1)


def test_same_input_same_bytes(study):
    quantify.main(arguments(study))
    first = [(study / name).read_bytes() for name in ("fit.tsv", "fit.npz")]
    quantify.main(arguments(study))
    assert first == [(study / name).read_bytes() for name in ("fit.tsv", "fit.npz")]


def test_alone_on_a_file_without_index_every_transient_is_a_cell(study):
    quantify.main(arguments(study, conditions=("OFF",), index=False))
    assert sorted(set(read_table(study / "fit.tsv")["cell"])) == [0, 1, 2]


def test_difference_alone_has_no_ratio(study):
    quantify.main(arguments(study, "--diff-ignore", "Glu", conditions=("DIFF",)))
    table = read_table(study / "fit.tsv")
    assert table["per_tcr"].isna().all() and "Glu" not in set(table["metabolite"])
    assert "n/a" in (study / "fit.tsv").read_text()


def test_nearest_basis_is_used(study):
    write_set(study / "far", mhz=123.25)
    folder, bases = quantify.choose_set([study / "far", study / "set"], 127.8, ["OFF", "DIFF"])
    assert folder == study / "set" and bases["OFF"].frequency_mhz == 127.8
    with pytest.raises(InputError, match="no basis set with UNEDITED"):
        quantify.choose_set([study / "set"], 127.8, ["UNEDITED"])
    with pytest.raises(InputError, match="5 %"):
        quantify.choose_set([study / "set"], 297.2, ["OFF"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("index", "2 cells, expected 0 to 2"),
        ("ignore", "--ignore Gul: not in"),
        ("condition", "has OFF, ON, not UNEDITED"),
        ("short", "the basis lasts"),
        ("zero", "DIFF of cell 1 is zero"),
        ("mirrored", "mirror image of OFF"),
        ("shifted", r"\+0.20 ppm"),
    ],
)
def test_bad_input_is_one_line_and_recorded(study, change, message):
    from mrs_synthesis.scans import read_scan

    more, conditions = [], ("OFF", "DIFF")
    scan = read_scan(study / "cells.nii.gz")
    if change == "index":
        write_table(study / "index.tsv", pd.DataFrame({"cell": [0, 1]}))
    elif change == "ignore":
        more = ["--ignore", "Gul"]
    elif change == "condition":
        basis_sets.write_json_folder(study / "set" / "UNEDITED", analytic_basis())
        conditions = ("OFF", "UNEDITED")
    elif change == "short":
        write_set(study / "set", n_points=1024)
    elif change == "zero":
        scan.fids[1, 1] = scan.fids[0, 1]
    elif change == "mirrored":
        scan = scan.with_fids(np.conj(scan.fids))
    else:
        scan = scan.with_fids(scan.fids * np.exp(2j * np.pi * 0.2 * MHZ * DWELL * np.arange(N)))
    write_scan(study / "cells.nii.gz", scan)
    with pytest.raises(InputError, match=message):
        quantify.main(arguments(study, *more, conditions=conditions))
    quantify.main(arguments(study, *more, "--status", str(study / "status.json"), conditions=conditions))
    status = json.loads((study / "status.json").read_text())
    assert status["status"] == "failed" and "\n" not in status["reason"]
    assert (study / "fit.tsv").stat().st_size == 0 and (study / "fit.npz").stat().st_size == 0


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
    assert metabolites.groups(names, "DIFF") == [0, 0, 0, 0, 0, 0, 1, 1, 0]


def test_covariance_of_a_sum_and_cap_of_the_crlb():
    covariance = np.array([[[4.0, -3.9], [-3.9, 4.0]], [[4.0, 0.0], [0.0, 4.0]]])
    raw = np.array([[3.0, 1.0], [0.0, 0.0]])
    nothing = np.zeros((2, 2))
    fitted = fitting.Fitted(
        ["Cr", "PCr"], raw, covariance, nothing, nothing, np.array([True, False]), *[np.zeros(2)] * 5
    )
    rows = fitting.table({"OFF": fitted}, "batched").set_index(["cell", "metabolite"])
    assert rows.loc[(0, "tCr"), "raw_sd"] == pytest.approx(np.sqrt(0.2))
    assert rows.loc[(0, "tCr"), "crlb_percent"] == pytest.approx(100 * np.sqrt(0.2) / 4)
    assert rows.loc[(0, "Cr"), "per_tcr"] == 0.75
    assert rows.loc[(1, "Cr"), "crlb_percent"] == 999 and np.isnan(rows.loc[(1, "Cr"), "per_tcr"])
    assert list(rows["converged"]) == [1, 1, 1, 0, 0, 0]
