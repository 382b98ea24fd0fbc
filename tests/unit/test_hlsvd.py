"""HLSVD against sums of exponentials that are known, against a dense SVD, and against hlsvdpropy."""

import subprocess

import numpy as np
import pytest

from mrs_synthesis import fslmrs, hlsvd
from mrs_synthesis.seeds import generator

MHZ, DWELL = 127.7, 5e-4
BAND = (-0.3 * MHZ, 0.3 * MHZ)


def exponential(n, ppm, amplitude, fwhm, phase=0.0):
    t = np.arange(n) * DWELL
    return amplitude * np.exp(2j * np.pi * (ppm - 4.65) * MHZ * t - np.pi * fwhm * t + 1j * phase)


def water(n, scale=1.0, phase=0.5):
    return scale * sum(
        exponential(n, ppm, amplitude, fwhm, phase + k)
        for k, (ppm, amplitude, fwhm) in enumerate([(4.66, 300.0, 9.0), (4.72, 80.0, 25.0), (4.6, 40.0, 14.0)])
    )


def metabolites(n):
    lines = [
        (2.008, 10),
        (2.3, 3),
        (2.6, 2),
        (3.027, 7),
        (3.21, 5),
        (3.55, 4),
        (3.75, 4),
        (3.91, 5),
        (0.9, 3),
        (1.3, 2),
    ]
    return sum(exponential(n, ppm, amplitude, 6.0) for ppm, amplitude in lines)


def noise(rng, *shape):
    return rng.normal(size=shape) + 1j * rng.normal(size=shape)


def dense(fid, n_components):
    """The textbook algorithm: the whole SVD of the whole Hankel matrix."""
    m = fid.size // 2
    hankel = np.lib.stride_tricks.sliding_window_view(fid, m)
    u = np.linalg.svd(hankel, full_matrices=False)[0][:, :n_components]
    poles = np.linalg.eigvals(np.linalg.lstsq(u[:-1], u[1:], rcond=None)[0])
    poles /= np.maximum(np.abs(poles), 1.0)
    powers = poles ** np.arange(fid.size)[:, None]
    amplitudes = np.linalg.lstsq(powers, fid, rcond=None)[0]
    hz = np.angle(poles) / (2 * np.pi * DWELL)
    inside = (hz > BAND[0]) & (hz < BAND[1])
    return powers[:, inside] @ amplitudes[inside]


def test_poles_of_a_noise_free_signal_are_exact():
    fid = exponential(512, 4.7, 5.0, 4.0) + exponential(512, 3.0, 2.0, 8.0) + exponential(512, 2.0, 1.0, 3.0, 1.0)
    poles = hlsvd.hankel_poles(fid[None], 3)[0]
    hz = np.sort(np.angle(poles) / (2 * np.pi * DWELL))
    np.testing.assert_allclose(hz, (np.array([2.0, 3.0, 4.7]) - 4.65) * MHZ, atol=1e-5)
    fwhm = -np.log(np.abs(poles))[np.argsort(np.angle(poles))] / (np.pi * DWELL)
    np.testing.assert_allclose(fwhm, [3.0, 8.0, 4.0], atol=1e-5)


def test_water_is_separated_exactly_without_noise():
    n = 1024
    found = hlsvd.water_signal(water(n) + metabolites(n), DWELL, BAND)
    assert np.linalg.norm(found - water(n)) < 1e-5 * np.linalg.norm(water(n))


def test_water_that_varies_is_removed_to_below_the_noise_and_metabolites_stay():
    rng, n = generator(1, "hlsvd"), 2048
    scale, phase = rng.uniform(0.3, 2.0, 6), rng.uniform(-np.pi, np.pi, 6)
    waters = np.stack([water(n, s, p) for s, p in zip(scale, phase, strict=True)])
    fids = waters + metabolites(n) + noise(rng, 6, n)
    residual = np.fft.fftshift(np.fft.fft(waters - hlsvd.water_signal(fids, DWELL, BAND)), axes=-1) / np.sqrt(2 * n)
    before = np.fft.fftshift(np.fft.fft(waters), axes=-1) / np.sqrt(2 * n)
    ppm = np.fft.fftshift(np.fft.fftfreq(n, DWELL)) / MHZ + 4.65
    inside, metabolite = np.abs(ppm - 4.65) < 0.3, (ppm > 1.8) & (ppm < 3.5)
    # In units of the noise SD of a spectral point.
    assert np.sqrt(np.mean(np.abs(before[:, inside]) ** 2)) > 100
    assert np.sqrt(np.mean(np.abs(residual[:, inside]) ** 2)) < 2.0
    assert np.sqrt(np.mean(np.abs(residual[:, metabolite]) ** 2)) < 0.15


def test_agrees_with_the_dense_svd():
    rng, n = generator(2, "hlsvd"), 512
    fids = water(n) + metabolites(n) + 0.5 * noise(rng, 3, n)
    found = hlsvd.water_signal(fids, DWELL, BAND, n_components=12)
    for fid, ours in zip(fids, found, strict=True):
        assert np.sqrt(np.mean(np.abs(ours - dense(fid, 12)) ** 2)) < 0.01


def test_shape_zero_and_silence():
    fids = np.zeros((2, 3, 256), complex)
    fids[1, 2] = water(256)
    found = hlsvd.water_signal(fids, DWELL, BAND)
    assert found.shape == fids.shape
    assert not found[0].any()
    assert np.linalg.norm(found[1, 2] - water(256)) < 1e-4 * np.linalg.norm(water(256))


@pytest.mark.fsl_mrs
def test_agrees_with_hlsvdpropy(tmp_path):
    interpreter = fslmrs.find_interpreter()
    if interpreter is None:
        pytest.skip("needs FSL-MRS, whose interpreter has hlsvdpropy")
    rng, n = generator(3, "hlsvd"), 1024
    fids = water(n, 0.05) + metabolites(n) + 2.0 * noise(rng, 3, n)
    np.save(tmp_path / "fids.npy", fids)
    script = (
        "import sys, numpy as np; from fsl_mrs.utils.preproc import hlsvd\n"
        "fids = np.load(sys.argv[1])\n"
        "limits = [4.35, 4.95]\n"
        f"out = [f - hlsvd(f, {DWELL}, {MHZ}, limits, limitUnits='ppm+shift') for f in fids]\n"
        "np.save(sys.argv[2], np.array(out))\n"
    )
    subprocess.run([str(interpreter), "-c", script, tmp_path / "fids.npy", tmp_path / "out.npy"], check=True)
    theirs = np.load(tmp_path / "out.npy")
    ours = hlsvd.water_signal(fids, DWELL, BAND)
    # In units of the noise: both use 20 components and a square Hankel matrix.
    assert np.sqrt(np.mean(np.abs(ours - theirs) ** 2)) / 2.0 < 0.1
