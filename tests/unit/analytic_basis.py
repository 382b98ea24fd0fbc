"""A basis of Lorentzian lines whose spectra are known in closed form, for the tests of fits and basis sets."""

import numpy as np

from mrs_synthesis.basis import Basis

MHZ = 127.7
# ppm and relative area of the lines; roughly the metabolites they are named after
LINES = {
    "Cr": [(3.027, 3), (3.913, 2)],
    "GABA": [(3.01, 2), (2.28, 2), (1.89, 2)],
    "Glu": [(2.34, 2), (2.08, 2), (3.75, 1)],
    "Ins": [(3.52, 2), (3.61, 2), (4.05, 1)],
    "NAA": [(2.008, 3), (2.6, 1.5)],
    "PCh": [(3.208, 9)],
    "PCr": [(3.029, 3), (3.930, 2)],
}


def analytic_basis(
    lines: dict[str, list[tuple[float, float]]] | None = None,
    n_points: int = 2048,
    dwell_s: float = 5e-4,
    mhz: float = MHZ,
    width_hz: float = 1.5,
    carrier_ppm: float = 4.65,
) -> Basis:
    """Return FIDs ``sum a exp(2 pi i (ppm - carrier) mhz t) exp(-pi width t)``: increasing ppm with a plain FFT."""
    t = np.arange(n_points) * dwell_s
    lines = LINES if lines is None else lines
    fids = [sum(a * np.exp(2j * np.pi * (p - carrier_ppm) * mhz * t) for p, a in line) for line in lines.values()]
    return Basis(list(lines), np.array(fids) * np.exp(-np.pi * width_hz * t), dwell_s, mhz)


def edited(mhz: float = MHZ, **options: float) -> tuple[Basis, Basis]:
    """Return OFF and ON in which editing inverts or saturates as in MEGA-PRESS."""
    off = analytic_basis(mhz=mhz, **options)
    on_lines = dict(LINES, NAA=[(2.6, 1.5)], GABA=[(3.01, 3), (2.28, 2)], Glu=[(2.34, 2), (3.75, 2)])
    on = analytic_basis(on_lines, mhz=mhz, **options)
    return off, on


def highest_ppm(basis: Basis, name: str) -> float:
    """Return the place of the strongest line, by a plain FFT with 16-fold zero filling."""
    n = 16 * basis.fids.shape[1]
    spectrum = np.fft.fftshift(np.fft.fft(basis.fids[basis.names.index(name)], n))
    ppm = np.fft.fftshift(np.fft.fftfreq(n, basis.dwell_s)) / basis.frequency_mhz + 4.65
    return float(ppm[np.argmax(np.abs(spectrum))])
