"""Scans of known lines in vendors' files and NIfTI-MRS, and where their peaks lie."""

import numpy as np

from mrs_synthesis import scans, vendor_philips

MHZ = 123.25
DWELL = 5e-4
POINTS = 1024
TIMES = {"EchoTime": 0.035, "RepetitionTime": 2.0}
LINES = {"NAA": (2.008, 10.0), "Cr": (3.027, 8.0), "Cho": (3.208, 6.0), "water": (4.65, 30.0)}


def fid(names, points=POINTS, shift_hz=0.0, phase=0.0, width_hz=5.0):
    """Lorentzian singlets; a plain FFT puts them at (ppm - 4.65) * MHZ."""
    t = np.arange(points) * DWELL
    lines = [LINES[n][1] * np.exp(2j * np.pi * ((LINES[n][0] - 4.65) * MHZ + shift_hz) * t) for n in names]
    return np.sum(lines, axis=0) * np.exp(1j * phase - np.pi * width_hz * t)


OFF = ("NAA", "Cr", "Cho", "water")
ON = ("Cr", "Cho", "water")


def edited(transients=8, coils=1, noise=0.5, drift_hz=0.0, seed=0):
    """(OFF, ON), transients, coils, points: drifting, with a phase that wanders, and noisy."""
    rng = np.random.default_rng(seed)
    clean = np.empty((2, transients, POINTS), complex)
    for i in range(transients):
        shift, phase = drift_hz * i / transients, rng.uniform(-np.pi, np.pi)
        clean[:, i] = [fid(names, shift_hz=shift, phase=phase) for names in (OFF, ON)]
    profile = rng.standard_normal(coils) + 1j * rng.standard_normal(coils) if coils > 1 else np.ones(1)
    fids = clean[:, :, None] * profile[:, None]
    return fids + noise * (rng.standard_normal(fids.shape) + 1j * rng.standard_normal(fids.shape))


def unedited(noise=0.5, transients=4, **options):
    """Return FIDs (1, transients, 1, points) of an unedited spectrum."""
    rng = np.random.default_rng(1)
    clean = np.repeat(fid(OFF, **options)[None, None, None], transients, axis=1)
    return clean + noise * (rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape))


def interleave(pair):
    """Rows in order of acquisition, first condition first."""
    return pair.swapaxes(0, 1).reshape(-1, pair.shape[-1])


def write_nifti(path, fids, header=None, conditions=("UNEDITED",), dimensions=("DIM_DYN",)):
    header = {"EchoTime": 0.068, "RepetitionTime": 2.0} if header is None else header
    scans.write_scan(path, scans.Scan(fids, MHZ, DWELL, header, conditions, dimensions=dimensions))
    return path


def sdat(path, rows, te=0.068, tr=2.0):
    vendor_philips.write_sdat(path, rows, DWELL, MHZ, te, tr, "MEGA")
    return path


def peak_ppm(signal, mhz, dwell, low, high):
    """Position of the highest peak of the power spectrum, by an oversampled Fourier transform."""
    size = 8 * signal.shape[-1]
    t = np.arange(signal.shape[-1]) * dwell
    power = (np.abs(np.fft.fft(signal * np.exp(-15 * t), size)) ** 2).reshape(-1, size).mean(axis=0)
    ppm = np.fft.fftfreq(size, dwell) / mhz + 4.65
    inside = np.flatnonzero((ppm > low) & (ppm < high))
    return ppm[inside[np.argmax(power[inside])]]


def scan_peak(path, low, high):
    scan = scans.read_scan(path)
    return peak_ppm(scan.fids, scan.frequency_mhz, scan.dwell_s, low, high)
