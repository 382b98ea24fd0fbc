"""Alignment of edit-ON to edit-OFF against known shifts and phases, and against FSL-MRS's own function."""

import json
import subprocess

import numpy as np
import pytest

from mrs_synthesis import edit_alignment, fslmrs, spectra
from mrs_synthesis.seeds import generator

MHZ, DWELL, N = 127.7, 5e-4, 1024
T = np.arange(N) * DWELL
WINDOW = (2.85, 3.35)


def line(ppm, amplitude, fwhm=5.0, phase=0.0):
    return amplitude * np.exp(2j * np.pi * (ppm - 4.65) * MHZ * T - np.pi * fwhm * T + 1j * phase)


def edited(shift=0.0, phase=0.0):
    """OFF, and ON without NAA, with GABA+, moved down by a shift and turned back by a phase."""
    both = line(2.008, 10.0) + line(3.027, 7.0) + line(3.21, 5.0)
    gaba = line(3.01 - 7.3 / MHZ, 0.3, 7.0) + line(3.01 + 7.3 / MHZ, 0.3, 7.0) + line(3.0, 0.6, 25.0)
    on = both - line(2.008, 10.0) + gaba
    return both + line(2.35, 3.0), spectra.shift_and_phase(on, DWELL, np.asarray(-shift), np.asarray(-phase))


def test_match_edited_is_not_biased_by_what_editing_changes():
    off, on = edited(0.8, 0.14)
    shift, phase = edit_alignment.match_edited(on, off, DWELL, MHZ, WINDOW)
    assert shift == pytest.approx(0.8, abs=0.05)
    assert np.degrees(phase - 0.14) == pytest.approx(0.0, abs=1.2)
    # Plain least squares, FSL-MRS's way, are not as good, so that this tests something.
    _, plain = edit_alignment.least_squares(on, off, DWELL, MHZ, (2.9, 3.3))
    assert abs(np.degrees(plain - 0.14)) > 2.0


def test_least_squares_are_exact_where_nothing_is_edited():
    off, _ = edited()
    on = spectra.shift_and_phase(off, DWELL, np.asarray(0.37), np.asarray(-0.2))
    shift, phase = edit_alignment.least_squares(on, off, DWELL, MHZ, (0.2, 4.2))
    assert shift == pytest.approx(-0.37, abs=1e-3)
    assert phase == pytest.approx(0.2, abs=1e-3)


@pytest.mark.fsl_mrs
@pytest.mark.parametrize("limits", [(0.2, 4.2), (2.9, 3.3)])
def test_least_squares_equal_fsl_mrs(tmp_path, limits):
    interpreter = fslmrs.find_interpreter()
    if interpreter is None:
        pytest.skip("needs `fsl_mrs` on PATH")
    rng = generator(1, "edit_alignment")
    off, on = edited(0.8, 0.14) + 0.3 * (rng.normal(size=(2, N)) + 1j * rng.normal(size=(2, N)))
    np.save(tmp_path / "fids.npy", np.stack([off, on]))
    code = (
        "import sys, json, numpy as np; from fsl_mrs.utils.preproc import phase_freq_align as align\n"
        "off, on = np.load(sys.argv[1])\n"
        f"_, phi, eps = align([on], {1 / DWELL}, {MHZ}, ppmlim={limits}, niter=1, target=off)\n"
        "print(json.dumps([float(phi[0]), float(eps[0])]))"
    )
    call = [interpreter, "-c", code, tmp_path / "fids.npy"]
    done = subprocess.run(list(map(str, call)), check=True, stdout=subprocess.PIPE, text=True)
    phi, eps = json.loads(done.stdout.splitlines()[-1])
    shift, phase = edit_alignment.least_squares(on, off, DWELL, MHZ, limits)
    # FSL-MRS multiplies by exp(-i (phi + 2 pi eps t)) with t from one dwell
    assert shift == pytest.approx(-eps, abs=1e-3)
    assert phase == pytest.approx(-phi - 2 * np.pi * eps * DWELL, abs=1e-3)
