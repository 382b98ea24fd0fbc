"""The engine fsl-mrs against FSL-MRS's own command line."""

import shutil
import subprocess

import numpy as np
import pandas as pd
import pytest
from analytic_basis import MHZ
from test_quantify import CELLS, arguments, study  # noqa: F401  (the fixture)

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import fitting, lcm_model, metabolites, quantify, quantify_fsl
from mrs_synthesis.files import read_table
from mrs_synthesis.scans import read_scan, write_scan


def run_engine(folder, engine, *more, **options):
    """Fit with an engine; fsl-mrs does it in another interpreter, which ends in SystemExit."""
    argv = arguments(folder, "--engine", engine, *more, **options)
    if engine == "batched":
        quantify.main(argv)
    else:
        with pytest.raises(SystemExit) as end:
            quantify.main(argv)
        assert end.value.code == 0
    return read_table(folder / "fit.tsv"), dict(np.load(folder / "fit.npz"))


def needs_fsl_mrs():
    if shutil.which("fsl_mrs") is None:
        pytest.skip("needs `fsl_mrs` on PATH")


@pytest.mark.fsl_mrs
def test_both_engines_agree_and_processes_change_nothing(study):  # noqa: F811
    needs_fsl_mrs()
    ours, our_curves = run_engine(study, "batched")
    theirs, their_curves = run_engine(study, "fsl-mrs")
    parallel, _ = run_engine(study, "fsl-mrs", "--processes", "2")
    assert tuple(theirs.columns) == fitting.COLUMNS and set(theirs["engine"]) == {"fsl-mrs"}
    assert theirs.equals(parallel)
    keys = ["cell", "condition", "metabolite"]
    assert ours[keys].equals(theirs[keys]) and theirs["converged"].eq(1).all()
    assert (np.abs(ours["raw"] - theirs["raw"]) < 0.05 * theirs["raw_sd"]).all()
    assert np.allclose(ours["raw_sd"], theirs["raw_sd"], rtol=5e-3)
    assert np.allclose(ours["snr"], theirs["snr"], rtol=0.02, equal_nan=True)
    assert np.allclose(ours["fwhm_hz"], theirs["fwhm_hz"], rtol=0.01, equal_nan=True)
    for name, curve in our_curves.items():
        size = np.abs(their_curves[name]).max()
        if name.endswith("_baseline"):
            size = np.abs(their_curves[name.replace("baseline", "data")]).max()
        assert np.allclose(curve, their_curves[name], atol=2e-4 * size, rtol=0), name


@pytest.mark.fsl_mrs
def test_same_as_the_command_fsl_mrs(study, tmp_path):  # noqa: F811
    needs_fsl_mrs()
    scan = read_scan(study / "cells.nii.gz")
    one = scan.with_fids(scan.fids[:1, :1], conditions=("UNEDITED",), dimensions=())
    write_scan(study / "one.nii.gz", one)
    shutil.copytree(study / "set" / "OFF", study / "set" / "UNEDITED")
    table, _ = run_engine(study, "fsl-mrs", conditions=("UNEDITED",), cells="one.nii.gz", index=False)
    command = ["fsl_mrs", "--data", study / "one.nii.gz", "--basis", study / "set" / "OFF", "--output", tmp_path / "o"]
    command += ["--no_conj_fid", "--conj_basis", "--overwrite", "--baseline_order", "2"]
    subprocess.run([str(word) for word in command], check=True, capture_output=True)
    theirs = pd.read_csv(tmp_path / "o" / "concentrations.csv", header=[0, 1], index_col=0)
    mean, sd = theirs["mean"]["raw"], theirs["std"]["raw"]
    ours = table.set_index("metabolite")
    basis = basis_sets.read_json_folder(study / "set" / "OFF")
    model = lcm_model.build(basis, one.n_points, one.dwell_s, MHZ)
    scale = model.basis_scale / lcm_model.scale_fids(one.fids.reshape(1, -1))[1][0]
    qc = pd.read_csv(tmp_path / "o" / "qc.csv", index_col=0)
    for name in basis.names:
        # The command reads the file in single precision, and tables have 8 digits
        assert ours.loc[name, "raw"] == pytest.approx(mean[name] * scale, rel=1e-5, abs=1e-4 * sd[name] * scale)
        assert ours.loc[name, "raw_sd"] == pytest.approx(sd[name] * scale, rel=1e-4)
        assert ours.loc[name, "snr"] == pytest.approx(qc.loc[name, "SNR"], rel=1e-3)
    assert ours.loc["tCr", "raw"] == pytest.approx(mean["Cr+PCr"] * scale, rel=1e-5)
    assert ours.loc["tCr", "raw_sd"] == pytest.approx(sd["Cr+PCr"] * scale, rel=1e-4)


def test_a_failed_fit_is_missing_not_invented(study):  # noqa: F811
    arguments_ = quantify.parser().parse_args(arguments(study, conditions=("OFF",)))
    task = quantify.make_tasks(arguments_)[0]
    model = lcm_model.build(task.basis, task.fids.shape[1], task.dwell_s, task.frequency_mhz)
    good = {
        "raw": np.ones(7),
        "covariance": np.eye(7),
        "snr": np.ones(7),
        "fwhm_hz": np.ones(7),
        "converged": True,
        "objective": 1.0,
    }
    good |= {name: np.ones(model.last - model.first, complex) for name in ("data", "fit", "baseline")}
    fitted = quantify_fsl._gather(task, model, [good, "LinAlgError()", good])
    table = fitting.table({"OFF": fitted}, "fsl-mrs").set_index(["cell", "metabolite"])
    missing = table.loc[1][["raw", "raw_sd", "per_tcr", "crlb_percent"]]
    assert missing.isna().all(axis=None)
    assert table.loc[1]["converged"].eq(0).all() and table.loc[0]["raw"].notna().all()
    assert len(table) == CELLS * (7 + len(metabolites.sums(task.basis.names, "OFF")))
