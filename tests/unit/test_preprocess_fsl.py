"""The engine `fsl-mrs`, and how FSL-MRS is found."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from mrs_synthesis import fslmrs, preprocess
from mrs_synthesis.scans import Scan, read_scan, write_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

MHZ, DWELL, N = 127.7, 5e-4, 1024
T = np.arange(N) * DWELL


@pytest.fixture
def no_fsl(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(fslmrs, "is_importable", lambda: False)
    monkeypatch.delenv(fslmrs.GUARD, raising=False)
    return tmp_path


def command(folder, first_line):
    path = folder / fslmrs.COMMAND
    path.write_text(f"{first_line}\nprint('never run')\n")
    path.chmod(0o755)
    return path


def arguments(folder):
    names = {"scan": "svs.nii.gz", "output": "o.nii.gz", "qc": "q.tsv", "nuisance": "n.npz", "status": "s.json"}
    paths = [word for name, file in names.items() for word in (f"--{name}", str(folder / file))]
    return ["--unit", "sub-01_acq-test", *paths]


def test_missing_fsl_mrs_ends_the_program_even_with_a_status_file(no_fsl):
    with pytest.raises(InputError, match=r"FSL-MRS not found.*conda.*non-commercial"):
        preprocess.main([*arguments(no_fsl), "--engine", "fsl-mrs"])
    assert not (no_fsl / "s.json").exists()


def test_interpreter_is_read_from_the_command(no_fsl):
    command(no_fsl, f"#!{sys.executable}")
    assert fslmrs.find_interpreter() == fslmrs.Path(sys.executable)


@pytest.mark.parametrize("first_line", ["#!/bin/sh", "#!/usr/bin/env python", "#!/nowhere/python3"])
def test_interpreter_beside_the_command_where_it_names_none(no_fsl, first_line):
    command(no_fsl, first_line)
    (no_fsl / "python").symlink_to(sys.executable)
    assert fslmrs.find_interpreter() == no_fsl / "python"


def test_no_third_interpreter_is_started(no_fsl, monkeypatch):
    command(no_fsl, f"#!{sys.executable}")
    monkeypatch.setenv(fslmrs.GUARD, "1")
    with pytest.raises(InputError, match="cannot import fsl_mrs"):
        fslmrs.reexec_if_needed("mrs_synthesis.preprocess", [])


def test_the_other_interpreters_exit_status_is_ours(no_fsl):
    """The interpreter found is this one, which lacks FSL-MRS: the guard ends it with one line and status 1."""
    if fslmrs.importlib.util.find_spec("fsl_mrs"):
        pytest.skip("this interpreter has FSL-MRS")
    command(no_fsl, f"#!{sys.executable}")
    with pytest.raises(SystemExit) as stopped:
        fslmrs.reexec_if_needed("mrs_synthesis.preprocess", [*arguments(no_fsl), "--engine", "fsl-mrs"])
    assert stopped.value.code == 1


def line(ppm, amplitude, fwhm=5.0, phase=0.0):
    return amplitude * np.exp(2j * np.pi * (ppm - 4.65) * MHZ * T - np.pi * fwhm * T + 1j * phase)


@pytest.mark.fsl_mrs
def test_both_engines_agree(tmp_path, root):
    if fslmrs.find_interpreter() is None:
        pytest.skip("needs `fsl_mrs` on PATH")
    rng = generator(1, "engines")
    clean = [line(2.008, naa) + line(3.027, 70.0) + line(3.21, 50.0) + line(3.91, 40.0) for naa in (100.0, 2.0)]
    clean[1] = clean[1] + line(2.95, 6.0) + line(3.07, 6.0)
    residual = np.stack([line(4.66, 80.0, 8.0, p) for p in rng.uniform(0, 6, 8)])
    shift, phase = rng.normal(0, 1.0, (2, 8, 1)), rng.normal(0, 0.2, (2, 8, 1))
    fids = (np.stack(clean)[:, None] + residual) * np.exp(1j * (2 * np.pi * shift * T + phase))
    fids = fids + 3.0 * (rng.normal(size=fids.shape) + 1j * rng.normal(size=fids.shape))
    scan = Scan(fids[:, :, None], MHZ, DWELL, {}, ("OFF", "ON"), dimensions=("DIM_DYN", "DIM_EDIT"))
    spectra_found, statuses = [], []
    for engine in ("batched", "fsl-mrs"):
        folder = tmp_path / engine
        folder.mkdir()
        write_scan(folder / "svs.nii.gz", scan)
        call = [sys.executable, "-m", "mrs_synthesis.preprocess", *arguments(folder), "--engine", engine]
        environment = dict(os.environ, PYTHONPATH=str(root / "workflow"), OMP_NUM_THREADS="1")
        subprocess.run([*call, "--reject-sd", "0"], check=True, env=environment)
        statuses.append(json.loads((folder / "s.json").read_text()))
        assert statuses[-1]["status"] == "ok", statuses[-1]["reason"]
        out = read_scan(folder / "o.nii.gz")
        assert out.fids.shape == (2, 8, 1, N)
        spectra_found.append(np.fft.fftshift(np.fft.fft(out.fids[:, :, 0].mean(axis=1)), axes=-1))
        assert (folder / "q.tsv").read_text().startswith("condition\ttransient\tkept\treason\tshift_hz\tphase_deg")
    inside = (scan.ppm > 1.8) & (scan.ppm < 4.1)
    ours, theirs = (found[:, inside] for found in spectra_found)
    gain = np.vdot(theirs, ours) / np.vdot(theirs, theirs)
    assert abs(gain) == pytest.approx(1.0, abs=0.02)
    assert abs(np.degrees(np.angle(gain))) < 8  # FSL-MRS takes the phase of one point of tCr, tails of tCho and all
    assert np.linalg.norm(ours - gain * theirs) < 0.1 * np.linalg.norm(ours)
    assert statuses[0]["median_snr"] == pytest.approx(statuses[1]["median_snr"], rel=0.05)
