"""Preprocessing against published simulated scans with their truth, and step by step against FSL-MRS's functions."""

import dataclasses
import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mrs_synthesis import fslmrs, preprocess_agreement, preprocess_batched
from mrs_synthesis.files import read_table
from mrs_synthesis.preprocess_batched import Options, process
from mrs_synthesis.scans import read_scan
from mrs_synthesis.stage import InputError


def published(shared_data, kind):
    """Return scan, water reference, and the true shifts (Hz) and phases (rad), (conditions, transients)."""
    folder = shared_data / "fslmrs-reference" / "raw"
    scan, water = (read_scan(folder / f"{kind}_{name}.nii.gz") for name in ("metab", "wref"))
    true = json.loads((folder / "truth_drift.json").read_text())[kind]
    drift = np.array([true["df"], true["dp"]])
    if kind == "mega":  # interleaved, OFF first
        return dataclasses.replace(scan, conditions=("OFF", "ON")), water, np.stack([drift[:, ::2], drift[:, 1::2]], 1)
    return scan, water, drift[:, None]


def error(found, true):
    """Return the RMS error of shifts (Hz) and phases (degrees), what is common to a condition left out."""
    hz, rad = preprocess_agreement._without_common(found + true)
    return np.sqrt(np.mean(hz**2)), np.degrees(np.sqrt(np.mean(rad**2)))


@pytest.mark.data
@pytest.mark.parametrize(("kind", "hz", "degrees"), [("press", 0.03, 0.25), ("mega", 0.07, 0.7)])
def test_transients_are_aligned_to_the_truth(shared_data, kind, hz, degrees):
    scan, water, true = published(shared_data, kind)
    done = process(scan, water, Options())
    kept = np.all(done.reason == "", axis=0)
    assert kept.mean() > 0.9
    found = error(np.stack([done.shift_hz, done.phase_rad])[..., kept], true[..., kept])
    assert found[0] < hz
    assert found[1] < degrees
    assert np.std(true[0][..., kept]) > 5 * hz  # there is something to correct


@pytest.mark.data
def test_coils_are_combined_as_the_truth_says(shared_data):
    """Weights are the conjugate sensitivities in white noise; the published coils' noise is nearly so."""
    scan, water, _ = published(shared_data, "press")
    true = json.loads((shared_data / "fslmrs-reference" / "raw" / "truth_drift.json").read_text())
    sensitivity = np.array(true["coil_re"]) + 1j * np.array(true["coil_im"])
    combined = preprocess_batched._combine(scan, water, np.eye(sensitivity.size))[0]
    flat = np.moveaxis(scan.fids, 2, 0).reshape(sensitivity.size, -1)
    weights = np.linalg.lstsq(flat.T, combined.ravel(), rcond=None)[0]
    similar = max(
        np.abs(np.vdot(weights, s)) / np.linalg.norm(weights) / np.linalg.norm(s)
        for s in (sensitivity, np.conj(sensitivity))
    )
    assert similar > 0.999


def run_with_fsl_mrs(root, *arguments):
    if fslmrs.find_interpreter() is None:
        pytest.skip("needs `fsl_mrs` on PATH")
    call = [sys.executable, "-m", "mrs_synthesis.preprocess_agreement", *arguments]
    environment = dict(os.environ, PYTHONPATH=str(root / "workflow"), OMP_NUM_THREADS="1")
    subprocess.run(list(map(str, call)), check=True, env=environment)


@pytest.mark.fsl_mrs
def test_steps_on_the_phantom(tmp_path, root):
    """As near to the truth as FSL-MRS's functions, or nearer, in every step."""
    path = tmp_path / "agreement.tsv"
    run_with_fsl_mrs(root, "--phantoms", "1", "--seed", "1", "--output", path)
    table = read_table(path).set_index(["step", "quantity"])

    def row(step, quantity):
        return table.loc[(step, quantity)]

    for step in ("alignment of transients", "alignment of transients, FSL-MRS's default window"):
        assert row(step, "shift")["batched_error_rms"] < min(0.2, row(step, "shift")["fsl_mrs_error_rms"])
        assert row(step, "phase")["batched_error_rms"] < min(1.5, row(step, "phase")["fsl_mrs_error_rms"])
    for step in ("in 2.9-3.3 ppm", "'s default window"):
        step = f"alignment of conditions, FSL-MRS{' ' if step[0] == 'i' else ''}{step}"
        assert row(step, "shift")["batched_error_rms"] < min(0.1, row(step, "shift")["fsl_mrs_error_rms"])
        assert row(step, "phase")["batched_error_rms"] < min(1.5, row(step, "phase")["fsl_mrs_error_rms"])
    assert row("coil combination", "loss of SNR")["batched_error_rms"] < 0.1  # percent
    eddy = row("eddy currents", "phase, weighted by the water")
    assert eddy["batched_error_rms"] < min(0.1, eddy["fsl_mrs_error_rms"])
    same = row("rejection", "decisions that differ, or are wrong, at the same limit")
    assert same["difference_rms"] <= 2
    for limits, most in (("0.2-1.8", 0.02), ("1.8-3.4", 0.04), ("3.4-4.2", 0.1)):
        water = row("residual water", f"spectra in {limits} ppm")
        assert water["difference_rms"] < most  # SDs of a transient's noise
        assert water["batched_error_rms"] < 1.15 * water["fsl_mrs_error_rms"]
    reference = row("shift and phase of tCr", "phase")
    assert reference["batched_error_rms"] < reference["fsl_mrs_error_rms"]


@pytest.mark.data
@pytest.mark.fsl_mrs
def test_transients_as_fsl_mrs_aligns_them(tmp_path, root, shared_data):
    """At the SNR of these single transients: 0.1 Hz and 1 degree."""
    folder, path = shared_data / "fslmrs-reference" / "raw", tmp_path / "agreement.tsv"
    files = ("--scans", folder / "press_metab.nii.gz", "--waters", folder / "press_wref.nii.gz")
    run_with_fsl_mrs(root, *files, "--output", path)
    table = read_table(path).set_index(["step", "quantity"])["difference_rms"]
    for step in ("alignment of transients", "alignment of transients, FSL-MRS's default window"):
        assert table[(step, "shift")] < 0.1
        assert table[(step, "phase")] < 1.0
    assert table[("coil combination", "weights up to a common factor")] < 5  # percent; covariances from other points
    assert table[("residual water", "spectra in 1.8-3.4 ppm")] < 0.02


def test_bad_command_lines_are_one_line_errors(tmp_path):
    with pytest.raises(InputError, match="1 given, expected 2"):
        preprocess_agreement.main(["--scans", "a", "b", "--waters", "c", "--output", str(tmp_path / "t.tsv")])


def test_the_phantoms_water_is_what_the_scan_holds():
    """The truth's water, as the coils receive it, explains nearly all that a scan has between 4.5 and 4.8 ppm."""
    scan, _, truth = preprocess_agreement.make_phantom(1, 0, n_transients=4)
    received = truth.sensitivity[:, None] * (truth.water * np.exp(0j))[:, :, None]
    inside = np.abs(scan.ppm - 4.65) < 0.15

    def energy(fids):
        return np.sum(np.abs(np.fft.fftshift(np.fft.fft(fids), axes=-1)[..., inside]) ** 2)

    assert energy(scan.fids - received) < 0.1 * energy(scan.fids)
