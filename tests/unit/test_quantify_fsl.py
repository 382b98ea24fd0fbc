"""The engine fsl-mrs against FSL-MRS's own command line."""

import json
import os
import shutil
import subprocess
from pathlib import Path

import fsl_stand_in
import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from analytic_basis import MHZ, analytic_basis
from test_quantify import arguments, study  # noqa: F401  (the fixture)

from mrs_synthesis import fitting, fslmrs, lcm_model, quantify, quantify_fsl
from mrs_synthesis.files import read_table
from mrs_synthesis.stage import InputError, KilledError

MM = ["MM09", "MM12", "MM14", "MM17", "MM21"]
CANCELLED = ["Cr", "PCr", "Gly", "Scyllo", "PCh", "GPC"]  # in the difference, which leaves NAA for the ratios
SMALL = ["Ala", "Asc", "Asp", "Glc", "Ins", "Lac", "NAAG", "PE", "Tau"]  # a shift for each of all takes long
NAA = ["--internal_ref", "NAA"]
# name: spectra, basis, ignored, groups of their own, options, further words of the command, precision of the file
CASES = {
    "poly": (["press_034"], "basis_press30_mm", [], MM, {}, [], "as it is"),
    "spline": (["mega_025"], "basis_mega68_diff_mm", CANCELLED, ["MM09"], {"baseline": "spline, stiff"},
               ["--baseline", "spline, stiff", *NAA], "as it is"),
    "lorentzian": (["press_004", "press_023"], "basis_press30_mm", [], [], {"line_shape": "lorentzian"},
                   ["--lorentzian"], "single"),
    "free_shift": (["mega_040"], "basis_mega68_diff_mm", CANCELLED + SMALL, ["MM09"],
                   {"free_shift": True, "baseline": "off"}, ["--free_shift", "--baseline", "off", *NAA], "single"),
}  # fmt: skip


def needs_fsl_mrs():
    if shutil.which("fsl_mrs") is None:
        pytest.skip("needs `fsl_mrs` on PATH")


def in_precision(source, target, precision):
    """Copy a NIfTI-MRS file; ``single``: as a NIfTI-1 file, whose points and dwell time are 32-bit numbers."""
    if precision == "as it is":
        shutil.copy(source, target)
        return
    image = nib.load(source)
    copy = nib.Nifti1Image(np.asarray(image.dataobj).astype(np.complex64), image.affine)
    copy.header["pixdim"][4] = image.header["pixdim"][4]
    copy.header.set_xyzt_units("mm", "sec")
    copy.header["intent_name"] = image.header["intent_name"]
    copy.header.extensions.extend(image.header.extensions)
    nib.save(copy, target)


@pytest.fixture(scope="module")
def engine_results(tmp_path_factory, shared_data):
    """All cases fitted by the engine, in one start of FSL-MRS's interpreter: {name: arrays}, and the files."""
    needs_fsl_mrs()
    folder = tmp_path_factory.mktemp("engine")
    reference = shared_data / "fslmrs-reference"
    jobs = []
    for name, (ids, basis, ignore, own_group, options, _, precision) in CASES.items():
        for spectrum in ids:
            source = reference / spectrum.partition("_")[0] / "data" / f"{spectrum}.nii.gz"
            in_precision(source, folder / f"{spectrum}.nii.gz", precision)
        job = {"name": name, "files": [str(folder / f"{i}.nii.gz") for i in ids], "basis": str(reference / basis)}
        job |= {"ignore": ignore, "own_group": own_group, "options": options, "processes": 1}
        jobs.append(job)
        if len(ids) > 1:
            jobs.append(job | {"name": f"{name}_2", "processes": 2})
    (folder / "jobs.json").write_text(json.dumps(jobs))
    script = Path(__file__).with_name("fsl_engine_jobs.py")
    environment = os.environ | fslmrs.ENVIRONMENT | {"PYTHONPATH": str(Path(quantify.__file__).parents[1])}
    command = [fslmrs.find_interpreter(), script, folder / "jobs.json", folder]
    finished = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    return folder, {job["name"]: dict(np.load(folder / f"{job['name']}.npz")) for job in jobs}


@pytest.mark.fsl_mrs
@pytest.mark.data
@pytest.mark.parametrize("name", CASES)
def test_identical_to_the_command_fsl_mrs(name, engine_results, shared_data, tmp_path):
    folder, results = engine_results
    ids, basis, ignore, own_group, _, words, _ = CASES[name]
    ours = results[name]
    command = ["fsl_mrs", "--data", folder / f"{ids[0]}.nii.gz", "--basis", shared_data / "fslmrs-reference" / basis]
    command += ["--output", tmp_path / "o", "--overwrite", "--no_conj_fid", "--conj_basis", *words]
    command += ["--ignore", *ignore] if ignore else []
    command += ["--metab_groups", *own_group] if own_group else []
    environment = os.environ | fslmrs.ENVIRONMENT
    subprocess.run([str(word) for word in command], check=True, capture_output=True, env=environment)

    def read(file, **options):  # pandas' quick parser is off by some 1e-14
        return pd.read_csv(tmp_path / "o" / file, float_precision="round_trip", **options)

    names, scale = list(ours["names"]), ours["scale"][0]
    concentrations = read("concentrations.csv", header=[0, 1], index_col=0).loc[names]
    assert np.array_equal(ours["raw"][0], concentrations["mean"]["raw"].to_numpy() * scale)
    sd = np.sqrt(np.diagonal(ours["covariance"][0]))
    assert np.allclose(sd, concentrations["std"]["raw"].to_numpy() * scale, rtol=1e-14, atol=0)
    quality = read("qc.csv", index_col="Metab").loc[names]
    assert np.array_equal(ours["snr"][0], quality["SNR"]) and np.array_equal(ours["fwhm_hz"][0], quality["FWHM"])
    parameters = read("all_parameters.csv", index_col="parameter")["mean"]
    for field, prefix in (("gamma", "gamma"), ("eps", "eps"), ("sigma", "sigma")):
        theirs = [value for parameter, value in parameters.items() if parameter.startswith(f"{prefix}_")]
        assert list(ours[field][0]) == (theirs or [0.0] * len(ours[field][0])), field
    assert (ours["phi0"][0], ours["phi1"][0]) == (parameters["Phi0"], parameters["Phi1"])
    if name == "free_shift":
        assert ours["eps"].shape[1] == len(names)
    assert ours["converged"].all() or name == "free_shift"  # whose line search gives up at the end


@pytest.mark.fsl_mrs
@pytest.mark.data
def test_two_processes_give_what_one_gives_after_the_other(engine_results):
    one, two = engine_results[1]["lorentzian"], engine_results[1]["lorentzian_2"]
    assert len(one["raw"]) == 2 and not np.array_equal(one["raw"][0], one["raw"][1])
    assert all(np.array_equal(values, two[field]) for field, values in one.items())


@pytest.mark.fsl_mrs
@pytest.mark.data
@pytest.mark.parametrize("tag", ["poly2", "spline_stiff"])
def test_objective_is_what_fsl_mrs_minimised(tag, engine_results, shared_data):
    """The traces hold its optimiser's last value, a spline's penalty included."""
    name, spectrum = {"poly2": ("poly", "press_034"), "spline_stiff": ("spline", "mega_025")}[tag]
    kind = spectrum.partition("_")[0]
    trace = np.load(shared_data / "fslmrs-reference" / kind / f"fits_{tag}" / spectrum / "trace.npz")
    ours = engine_results[1][name]["objective"][0]
    # The traces come from another machine: the path to the minimum may differ in its last digits
    assert ours == pytest.approx(float(trace["fun"]), rel=1e-6)
    residual = float(trace["mse"]) * int(trace["last"] - trace["first"])
    assert (ours > residual * (1 + 1e-4)) == (name == "spline")


@pytest.mark.fsl_mrs
def test_both_engines_agree_through_the_command_line(study):  # noqa: F811
    needs_fsl_mrs()
    quantify.main(arguments(study, "--engine", "batched"))
    ours, our_curves = read_table(study / "fit.tsv"), dict(np.load(study / "fit.npz"))
    with pytest.raises(SystemExit) as end:
        quantify.main(arguments(study, "--engine", "fsl-mrs", "--processes", "2"))  # by another interpreter
    assert end.value.code == 0
    theirs, their_curves = read_table(study / "fit.tsv"), dict(np.load(study / "fit.npz"))
    assert tuple(theirs.columns) == fitting.COLUMNS and set(theirs["engine"]) == {"fsl-mrs"}
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


@pytest.fixture
def task():
    basis = analytic_basis()
    return fitting.Task("OFF", 2048, basis.dwell_s, MHZ, basis, [0] * len(basis.names), lcm_model.Options())


def spectra_with(first_points):
    fids = np.ones((len(first_points), 2048), complex)
    fids[:, 0] = first_points
    return fids


def test_answers_keep_their_order_and_workers_live_over_chunks(task, monkeypatch):
    monkeypatch.setattr(quantify_fsl, "_work", fsl_stand_in.work)
    before = dict(os.environ)
    with quantify_fsl.Engine(task, 2) as engine:
        first = engine.fit(spectra_with([fsl_stand_in.SLOW, 2, 3, 4]))
        second = engine.fit(spectra_with([5, 6]))
        processes = list(engine._processes.values())
    assert list(first.raw[:, 0]) == [fsl_stand_in.SLOW, 2, 3, 4] and list(second.raw[:, 6]) == [5, 6]
    assert first.converged.all() and second.names == task.basis.names
    assert set(second.objective) <= set(first.objective) == {float(process.pid) for process in processes}
    assert not any(process.is_alive() for process in processes)
    # The settings of one thread and of memory reach the workers and nobody else
    assert (first.covariance[0] == np.eye(7) * 32 * 2**20).all() and dict(os.environ) == before


def test_what_fails_is_missing_and_named_and_the_rest_goes_on(task, monkeypatch, capfd):
    monkeypatch.setattr(quantify_fsl, "_work", fsl_stand_in.work)
    with quantify_fsl.Engine(task, 1) as engine:
        fitted = engine.fit(spectra_with([1, fsl_stand_in.DIES, fsl_stand_in.FAILS, np.nan, 5]))
        after = engine.fit(np.vstack([np.zeros((1, 2048)), spectra_with([7])]), cells=[20, 21])
    assert np.array_equal(fitted.converged, [True, False, False, False, True])
    for name in ("raw", "covariance", "snr", "objective", "gamma", "data"):
        values = getattr(fitted, name)
        assert np.isnan(values[1:4]).all() and not np.isnan(values[[0, 4]]).any(), name
    assert list(after.converged) == [False, True]
    lines = capfd.readouterr().err.splitlines()
    assert sorted(lines) == [
        "OFF cell 1: not fitted: its process ended with status 9",
        "OFF cell 20: not fitted: zero everywhere or not finite",
        "OFF cell 2: not fitted: LinAlgError: singular",
        "OFF cell 3: not fitted: zero everywhere or not finite",
    ]


def test_a_killed_process_ends_the_job_and_no_fit_is_called_missing(task, monkeypatch):
    monkeypatch.setattr(quantify_fsl, "_work", fsl_stand_in.work)
    with pytest.raises(KilledError, match="signal 9"), quantify_fsl.Engine(task, 1) as engine:
        engine.fit(spectra_with([1, fsl_stand_in.KILLED, 5]))


@pytest.mark.parametrize(
    ("worker", "reason"), [("never_starts", "No module named 'fsl_mrs'"), ("dies_at_start", "ended with status 3")]
)
def test_fsl_mrs_that_does_not_start_ends_the_run_with_one_line(worker, reason, task, monkeypatch):
    monkeypatch.setattr(quantify_fsl, "_work", getattr(fsl_stand_in, worker))
    with pytest.raises(InputError, match=reason) as error, quantify_fsl.Engine(task, 2) as engine:
        engine.fit(spectra_with([1, 2]))
    assert "\n" not in str(error.value)


def test_reasons_are_one_line():
    assert quantify_fsl._one_line(ValueError("first\n  second")) == "ValueError: first second"


def test_the_second_interpreter_gets_the_settings_too(tmp_path, monkeypatch):
    """They count for preprocessing as well, which has no workers."""
    for name, text in (("python", f"#!/bin/sh\nenv > {tmp_path}/env\n"), ("fsl_mrs", f"#!{tmp_path}/python\n")):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setattr(fslmrs, "is_importable", lambda: False)
    monkeypatch.delenv(fslmrs.GUARD, raising=False)
    with pytest.raises(SystemExit) as end:
        fslmrs.reexec_if_needed("mrs_synthesis.preprocess", [])
    assert end.value.code == 0
    lines = (tmp_path / "env").read_text().splitlines()
    assert {"OMP_NUM_THREADS=1", "MALLOC_MMAP_THRESHOLD_=33554432", f"{fslmrs.GUARD}=1"} <= set(lines)


def test_numbers_are_given_in_the_precision_of_their_file():
    single = np.float32(5e-4)
    assert quantify_fsl.as_stored(float(single)).dtype == np.float32 and quantify_fsl.as_stored(5e-4).dtype == float
    fid = (np.arange(4) + 0.1j).astype(np.complex64)
    assert quantify_fsl.as_stored(fid.astype(complex)).dtype == np.complex64
    assert quantify_fsl.as_stored(fid.astype(complex) + 1e-9).dtype == np.complex128
    assert quantify_fsl.as_stored(np.full(4, 1e300 + 0j)).dtype == np.complex128  # beyond single precision


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [("off", "off"), ("poly,3", "poly, 3"), ("SPLINE, stiff", "spline, 10.0"), ("spline, 4.5", "spline, 4.5")],
)
def test_baselines_in_the_words_of_fsl_mrs(ours, theirs):
    assert quantify_fsl.baseline_words(ours) == theirs
