"""The signal of the digital phantom: what a voxel, a scanner and a subject who does not lie still do to a basis set.

Arrays of transients have shape (2, transients): edit conditions OFF and ON. The scanner acquires them in turn, ON
first. Sizes of the nuisances: field drift lognormal around 0.3 Hz/min and wander of 0.05-0.3 Hz over 20-120 s (Hui et
al., NeuroImage 2021; Near et al., MRM 2015); residual water and line widths as in 3 T MEGA-PRESS of a healthy brain.

Amplitudes are in protons times mmol per litre of tissue, as a metabolite shows them after relaxation and beside the
voxel's CSF, which holds none: every subject's receiver is set to its metabolites. What the water reference shows on
that scale follows from the tissue (`water_amplitude`). Metabolites and macromolecules share one T1 and one T2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.relaxation import WATER_PROTONS, Tissue, relaxation, seen, visible_water

CONDITIONS = ("OFF", "ON")
N_POINTS = 2048
DWELL_S = 0.0005
TR_S = 2.0
DRIFT_HZ_PER_MIN = 0.3
WANDER_HZ, WANDER_S = 0.2, 60.0
BAD_SHARE = 0.03  # of the transients, spoilt by motion
WATER_COMPONENTS = 3

Stream = Callable[[str], np.random.Generator]  # independent random numbers for each named part of a subject


@dataclass(frozen=True)
class Site:
    """A scanner.

    Attributes
    ----------
    frequency_mhz
        Spectrometer frequency.
    n_coils
        Receive coils in the file; 1: combined by the scanner.
    gain
        Receiver gain: units of the file per proton and mM.
    residual_water
        Typical amplitude of the residual water in protons times mM (the methyl of creatine has 26).
    lorentz_hz, gauss_hz
        Typical line widths beyond the basis' own: full widths at half maximum.
    """

    frequency_mhz: float
    n_coils: int
    gain: float
    residual_water: float
    lorentz_hz: float
    gauss_hz: float


@dataclass(frozen=True)
class Shape:
    """A subject's line shape: widths in Hz, and the eddy current's phase (shared with the water reference) in rad."""

    lorentz_hz: float
    gauss_hz: float
    eddy_rad: float
    eddy_s: float

    @property
    def eddy_phase(self) -> np.ndarray:
        """Phase along the FID, shape (points,)."""
        return self.eddy_rad * np.exp(-_time() / self.eddy_s)

    def decay(self, lorentz_factor: np.ndarray | float = 1.0) -> np.ndarray:
        """Return the decay beyond the basis' own, shape (..., points) for factors of shape (...)."""
        t = _time()
        lorentz = np.pi * self.lorentz_hz * np.asarray(lorentz_factor)[..., None] * t
        return np.exp(-lorentz - (np.pi * self.gauss_hz * t) ** 2 / (4 * np.log(2)))


@dataclass(frozen=True)
class Motion:
    """What happens between transients; every array has shape (2, transients)."""

    shift_hz: np.ndarray
    phase_rad: np.ndarray
    amplitude: np.ndarray
    broadening_hz: np.ndarray
    bad: np.ndarray


def _time() -> np.ndarray:
    return spectra.time_axis(N_POINTS, DWELL_S)


def _by_condition(sequence: np.ndarray) -> np.ndarray:
    """Turn values in order of acquisition (ON, OFF, ON, ...), shape (..., 2 transients), into (..., 2, transients)."""
    return np.stack([sequence[..., 1::2], sequence[..., 0::2]], axis=-2)


def in_order(values: np.ndarray) -> np.ndarray:
    """Turn (2, transients, ...) into order of acquisition, (2 transients, ...)."""
    return np.stack([values[1], values[0]], axis=1).reshape(-1, *values.shape[2:])


def wander(rng: np.random.Generator, shape: tuple[int, ...], sd: float, memory_s: float) -> np.ndarray:
    """Return a stationary first-order autoregressive process along the last axis (one step per TR)."""
    keep = np.exp(-TR_S / memory_s)
    steps = rng.standard_normal(shape) * sd
    for i in range(1, shape[-1]):
        steps[..., i] = keep * steps[..., i - 1] + np.sqrt(1 - keep**2) * steps[..., i]
    return steps


def draw_shape(rng: np.random.Generator, site: Site) -> Shape:
    """Draw a subject's line widths (CV 12 %) and eddy current."""
    return Shape(
        site.lorentz_hz * rng.lognormal(0, 0.12),
        site.gauss_hz * rng.lognormal(0, 0.12),
        rng.normal(0, 0.25),
        rng.uniform(0.02, 0.06),
    )


def draw_motion(stream: Stream, site: Site, n_transients: int) -> Motion:
    """Draw drift, wander, phase jitter and bad transients."""
    n = 2 * n_transients
    rng = stream("frequency")
    minutes = np.arange(n) * TR_S / 60
    drift = rng.choice([-1, 1]) * rng.lognormal(np.log(DRIFT_HZ_PER_MIN), 0.5) * minutes
    shift = rng.normal(0, 1.5) + drift + wander(rng, (n,), WANDER_HZ, WANDER_S)
    rng = stream("phase")
    start = rng.normal(0, 0.3) if site.n_coils == 1 else rng.uniform(-np.pi, np.pi)
    phase = start + wander(rng, (n,), 0.06, 60.0) + rng.normal(0, 0.05, n)
    rng = stream("bad")
    bad = rng.random(n) < BAD_SHARE
    shift = shift + bad * rng.normal(0, 6.0, n)
    phase = phase + bad * rng.normal(0, 1.0, n)
    amplitude = np.where(bad, rng.uniform(0.5, 0.9, n), 1.0)
    broadening = np.where(bad, rng.uniform(3.0, 8.0, n), 0.0)
    return Motion(*map(_by_condition, (shift, phase, amplitude, broadening, bad)))


def metabolites(bases: np.ndarray, concentrations: np.ndarray, shape: Shape, rng: np.random.Generator) -> np.ndarray:
    """Sum the basis FIDs, shape (2, names, points), with widths that vary by 10 % between metabolites: (2, points)."""
    decay = shape.decay(rng.lognormal(0, 0.1, concentrations.size))
    return np.einsum("m,emt,mt->et", concentrations, bases, decay)


def baseline(rng: np.random.Generator, frequency_mhz: float) -> np.ndarray:
    """Return a smooth baseline of broad Gaussian humps, nearly equal in both conditions, shape (2, points)."""
    t = _time()
    total = np.zeros((2, t.size), complex)
    for _ in range(4):
        hz = (rng.uniform(0.5, 4.2) - spectra.WATER_PPM) * frequency_mhz
        width = rng.uniform(90, 180)
        area = rng.normal(0, 8) * np.exp(1j * rng.normal(0, 0.3)) * (1 + rng.normal(0, 0.05, 2))
        total += area[:, None] * np.exp(2j * np.pi * hz * t - (np.pi * width * t) ** 2 / (4 * np.log(2)))
    return total


def residual_water(stream: Stream, site: Site, n_transients: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the residual water of every transient, and the complex amplitudes of its components.

    Each component is a Lorentzian near 4.65 ppm whose place and width belong to the subject, and whose amplitude and
    phase walk slowly and jitter from transient to transient.

    Returns
    -------
    fids
        Shape (2, transients, points).
    amplitudes
        Shape (components, 2, transients).
    """
    rng, t = stream("water"), _time()
    size = (WATER_COMPONENTS, 2 * n_transients)
    share = rng.dirichlet(np.full(WATER_COMPONENTS, 2.0))
    typical = site.residual_water * rng.lognormal(0, 0.4) * share * np.exp(1j * rng.uniform(-np.pi, np.pi, share.size))
    hz = rng.normal(0, 0.03, share.size) * site.frequency_mhz
    width = rng.uniform(5, 20, share.size)
    rng = stream("water changes")
    size_log = wander(rng, size, 0.15, 60.0) + rng.normal(0, 0.05, size)
    angle = wander(rng, size, 0.25, 60.0) + rng.normal(0, 0.1, size)
    amplitudes = _by_condition(typical[:, None] * np.exp(size_log + 1j * angle))
    lines = np.exp((2j * np.pi * hz - np.pi * width)[:, None] * t)
    return np.einsum("wek,wt->ekt", amplitudes, lines), amplitudes


def transients(voxel: np.ndarray, water: np.ndarray, motion: Motion, shape: Shape) -> np.ndarray:
    """Apply motion and eddy current to the voxel's FIDs (2, points) and the water's: (2, transients, points)."""
    t = _time()
    spoil = motion.amplitude[..., None] * np.exp(-np.pi * motion.broadening_hz[..., None] * t)
    moved = spectra.shift_and_phase(voxel[:, None] * spoil + water, DWELL_S, motion.shift_hz, motion.phase_rad)
    return moved * np.exp(1j * shape.eddy_phase)


def metabolite_share(tissue: Tissue, frequency_mhz: float, te_s: float) -> float:
    """Return what a voxel shows of its metabolites: their tissue's share of it times what relaxation leaves."""
    times = relaxation(frequency_mhz)
    return (1 - tissue.csf) * float(seen(times.metabolite_t1_s, times.metabolite_t2_s, te_s, TR_S))


def water_amplitude(tissue: Tissue, frequency_mhz: float, te_s: float) -> float:
    """Return the water's amplitude over that of one proton of a metabolite of 1 mmol per litre of tissue.

    Water by the densities, T1 and T2 of white matter, grey matter and CSF; the same voxel, TE and TR for both.
    """
    _, water = visible_water(relaxation(frequency_mhz), te_s, TR_S, tissue)
    return WATER_PROTONS * water / metabolite_share(tissue, frequency_mhz, te_s)


def water_reference(stream: Stream, shape: Shape, motion: Motion, n_reference: int, amplitude: float) -> np.ndarray:
    """Return transients without water suppression, with the eddy current of the others: (transients, points)."""
    fid = amplitude * shape.decay() * np.exp(-2 * np.pi * _time())  # the basis' own 2 Hz
    rng = stream("water reference")
    shift = motion.shift_hz[1, 0] + rng.normal(0, 0.1, n_reference)
    phase = motion.phase_rad[1, 0] + rng.normal(0, 0.03, n_reference)
    moved = spectra.shift_and_phase(np.tile(fid, (n_reference, 1)), DWELL_S, shift, phase)
    return moved * np.exp(1j * shape.eddy_phase)


@dataclass(frozen=True)
class Receiver:
    """Coils: sensitivities (coils,) and a factor L of the noise covariance L L^H per complex point, (coils, coils)."""

    sensitivity: np.ndarray
    noise_factor: np.ndarray

    def receive(self, fids: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return noisy FIDs of all coils, (..., coils, points), of FIDs (..., points)."""
        shape = (*fids.shape[:-1], self.sensitivity.size, fids.shape[-1])
        noise = (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)
        return self.sensitivity[:, None] * fids[..., None, :] + self.noise_factor @ noise


def draw_receiver(rng: np.random.Generator, n_coils: int, noise_sd: float) -> Receiver:
    """Draw coils such that their optimal combination has unit signal and noise of SD `noise_sd` per real point.

    With sensitivities s and noise covariance C, that combination's complex noise variance is 1 / (s^H C^-1 s).
    """
    if n_coils == 1:
        return Receiver(np.ones(1, complex), np.full((1, 1), np.sqrt(2) * noise_sd, complex))
    sensitivity = rng.lognormal(0, 0.4, n_coils) * np.exp(1j * rng.uniform(-np.pi, np.pi, n_coils))
    mixing = rng.standard_normal((n_coils, n_coils)) + 1j * rng.standard_normal((n_coils, n_coils))
    factor = np.diag(rng.lognormal(0, 0.2, n_coils)) @ (np.eye(n_coils) + 0.15 * mixing)
    white = np.linalg.solve(factor, sensitivity)
    scale = np.sqrt(2 * noise_sd**2 * np.sum(np.abs(white) ** 2))
    return Receiver(sensitivity, factor * scale)
