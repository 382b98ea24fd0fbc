"""Density-matrix simulation of PRESS and MEGA-PRESS signals of coupled spins, with ideal pulses.

Ideal means: all pulses are instantaneous, excitation and refocusing turn every proton alike in the whole voxel, and
there is no relaxation. The editing pulse turns each proton by an angle that depends on its offset alone: it inverts a
fraction exp(-4 ln 2 (offset / 60 Hz)**2) of the magnetisation. Crushers keep one coherence order. Real pulses last,
and displace the voxel with chemical shift: a scanner's data are best fitted with a basis simulated with its own pulses.

Amplitudes: one unit of concentration gives a FID amplitude of 1 per proton at the top of the echo, for every
metabolite and sequence alike. FIDs follow the convention of `mrs_synthesis.spectra`.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from mrs_synthesis.spectra import WATER_PPM

SPIN_SYSTEMS = Path(__file__).with_name("spin_systems.json")
EDIT_ON_PPM = 1.9
EDIT_OFF_PPM = 7.5
EDIT_BANDWIDTH_HZ = 60.0  # full width at half maximum of the inversion
FIRST_DELAY_S = 0.005  # from excitation to the first refocusing pulse, so TE1 is 10 ms
HETERONUCLEUS_PPM = 20.0  # the tables give coupled 14N and 31P such shifts; proton pulses do not touch them
GRID_HZ = 1e-4  # transitions closer than this are one line
NEGLIGIBLE = 1e-7  # amplitude of a line, in protons

Step = tuple[str, float]  # ("delay", seconds), ("refocus", 0) or ("edit", ppm)


@dataclass(frozen=True)
class SpinGroup:
    """Coupled spins that make up (a part of) a molecule.

    Attributes
    ----------
    shifts_ppm
        Chemical shift of each spin.
    couplings
        Triples (spin, spin, J in Hz), spins counted from 0.
    scale
        Number of equivalent copies, or the share of a conformation.
    """

    shifts_ppm: tuple[float, ...]
    couplings: tuple[tuple[int, int, float], ...] = ()
    scale: float = 1.0


@dataclass(frozen=True)
class Lines:
    """A spectrum as a list of lines: frequencies in Hz from 4.65 ppm, complex amplitudes in protons."""

    frequency_hz: np.ndarray
    amplitude: np.ndarray


@lru_cache
def spin_systems(path: Path = SPIN_SYSTEMS) -> dict[str, tuple[SpinGroup, ...]]:
    """Read the spin systems; the file names its source. Groups that no coupling connects are separated.

    Returns
    -------
    dict
        Metabolite name to groups.
    """
    content = json.loads(Path(path).read_text(encoding="utf-8"))["metabolites"]
    systems = {}
    for name, metabolite in content.items():
        groups = []
        for group in metabolite["groups"]:
            labels = list(group["spins"])
            couplings = tuple((labels.index(a), labels.index(b), float(j)) for a, b, j in group.get("j", []))
            whole = SpinGroup(tuple(group["spins"].values()), couplings, float(group.get("scale", 1.0)))
            groups.extend(_connected(whole))
        systems[name] = tuple(groups)
    return systems


def _connected(group: SpinGroup) -> list[SpinGroup]:
    """Split a group into its connected parts: the cost grows with the cube of 2**spins."""
    part = list(range(len(group.shifts_ppm)))
    for a, b, _ in group.couplings:
        old, new = part[b], part[a]
        part = [new if p == old else p for p in part]
    groups = []
    for label in dict.fromkeys(part):
        members = [i for i, p in enumerate(part) if p == label]
        couplings = tuple((members.index(a), members.index(b), j) for a, b, j in group.couplings if part[a] == label)
        groups.append(SpinGroup(tuple(group.shifts_ppm[i] for i in members), couplings, group.scale))
    return groups


def press(te_s: float) -> list[Step]:
    """Return the steps of PRESS: 90 - 5 ms - 180 - TE/2 - 180 - the rest, so TE1 = 10 ms and TE2 = TE - 10 ms.

    Raises
    ------
    ValueError
        If the echo time is too short for the first delay.
    """
    return [
        ("delay", FIRST_DELAY_S),
        ("refocus", 0.0),
        ("delay", te_s / 2),
        ("refocus", 0.0),
        ("delay", _last_delay(te_s / 2)),
    ]


def mega_press(te_s: float, edit_ppm: float) -> list[Step]:
    """Return the steps of MEGA-PRESS with the editing pulses TE/2 apart, each a quarter TE after a refocusing pulse.

    At TE 68 ms the delays are 5, 17, 17, 17 and 12 ms. Mescher et al., NMR Biomed 1998; timing as in FID-A.

    Raises
    ------
    ValueError
        If the echo time is too short for the first delay.
    """
    quarter = te_s / 4
    return [
        ("delay", FIRST_DELAY_S),
        ("refocus", 0.0),
        ("delay", quarter),
        ("edit", edit_ppm),
        ("delay", quarter),
        ("refocus", 0.0),
        ("delay", quarter),
        ("edit", edit_ppm),
        ("delay", _last_delay(quarter)),
    ]


def _last_delay(available_s: float) -> float:
    last = available_s - FIRST_DELAY_S
    if last < 0:
        raise ValueError(f"echo time too short: the first refocusing pulse comes {FIRST_DELAY_S * 1e3:g} ms after 90")
    return last


def lines(group: SpinGroup, sequence: Sequence[Step], frequency_mhz: float) -> Lines:
    """Run a pulse sequence on one group of spins and return the lines of its spectrum.

    In the product basis a perfect refocusing pulse exchanges up and down of every proton, which permutes the density
    matrix; delays are phases in the eigenbasis of the Hamiltonian.
    """
    shifts = np.array(group.shifts_ppm)
    n = shifts.size
    proton = shifts < HETERONUCLEUS_PPM
    states = np.arange(2**n)
    bit = 1 << np.arange(n)
    spin_z = 0.5 - ((states[None, :] & bit[:, None]) > 0)  # (spin, state)
    order = np.sum(spin_z[proton], axis=0)
    order = np.round(order[:, None] - order[None, :]).astype(int)  # coherence order of |row><column|
    energy, vectors = np.linalg.eigh(_hamiltonian(shifts, proton, group.couplings, spin_z, frequency_mhz))
    beat = energy[:, None] - energy[None, :]

    lowering = np.zeros((states.size, states.size))
    for spin in np.flatnonzero(proton):
        up = states[(states & bit[spin]) == 0]
        lowering[up | bit[spin], up] = 1.0
    flip_all = states ^ int(bit[proton].sum())
    density = lowering / 2  # order -1 of the transverse magnetisation along x that a 90 degree pulse about y makes
    wanted = -1
    for kind, value in sequence:
        if kind == "delay":
            density = vectors @ ((vectors.T @ density @ vectors) * np.exp(-1j * beat * value)) @ vectors.T
        elif kind == "refocus":
            density = density[np.ix_(flip_all, flip_all)]
            wanted = -wanted
        elif kind == "edit":
            angle = 2 * np.arcsin(np.sqrt(inversion((shifts - value) * frequency_mhz)))
            pulse = _rotation(np.where(proton, angle, 0.0))
            density = pulse @ density @ pulse.conj().T
        else:
            raise ValueError(f"unknown step {kind!r}; expected delay, refocus or edit")
        density = np.where(order == wanted, density, 0.0)

    detected = (vectors.T @ density @ vectors) * (vectors.T @ lowering @ vectors)
    scale = 4.0 * group.scale / states.size  # one proton alone: amplitude 1
    seen = np.abs(detected) > NEGLIGIBLE / states.size
    return _merge(-beat[seen] / (2 * np.pi), detected[seen] * scale)


def inversion(offset_hz: np.ndarray) -> np.ndarray:
    """Return the fraction of the magnetisation that an editing pulse inverts at an offset from its centre."""
    return np.exp(-4 * np.log(2) * (np.asarray(offset_hz) / EDIT_BANDWIDTH_HZ) ** 2)


def _rotation(angle_rad: np.ndarray) -> np.ndarray:
    """Return the propagator that turns each spin about x by its own angle; spin 0 is the lowest bit of a state."""
    whole = np.ones((1, 1), complex)
    for angle in angle_rad:
        c, s = np.cos(angle / 2), -1j * np.sin(angle / 2)
        whole = np.kron(np.array([[c, s], [s, c]]), whole)
    return whole


def _hamiltonian(
    shifts: np.ndarray, proton: np.ndarray, couplings: Sequence, spin_z: np.ndarray, frequency_mhz: float
) -> np.ndarray:
    """Return H in rad/s, real, shape (states, states): strong coupling among protons, weak coupling to other nuclei."""
    offset = np.where(proton, (shifts - WATER_PPM) * frequency_mhz, 0.0)
    states = np.arange(spin_z.shape[1])
    diagonal = offset @ spin_z
    exchange = np.zeros((states.size, states.size))
    for a, b, j in couplings:
        diagonal = diagonal + j * spin_z[a] * spin_z[b]
        if proton[a] and proton[b]:
            opposite = states[spin_z[a] != spin_z[b]]
            exchange[opposite, opposite ^ (1 << a | 1 << b)] += j / 2  # IxIx + IyIy
    return 2 * np.pi * (exchange + np.diag(diagonal))


def _merge(frequency_hz: np.ndarray, amplitude: np.ndarray) -> Lines:
    cell = np.round(frequency_hz / GRID_HZ).astype(np.int64)
    unique, inverse = np.unique(cell, return_inverse=True)
    total = np.bincount(inverse, amplitude.real, unique.size) + 1j * np.bincount(inverse, amplitude.imag, unique.size)
    kept = np.abs(total) > NEGLIGIBLE
    return Lines(unique[kept] * GRID_HZ, total[kept])


def metabolite_lines(name: str, sequence: Sequence[Step], frequency_mhz: float) -> Lines:
    """Return the lines of a metabolite of `spin_systems`, all its groups together."""
    parts = [lines(group, sequence, frequency_mhz) for group in spin_systems()[name]]
    return _merge(
        np.concatenate([part.frequency_hz for part in parts]), np.concatenate([part.amplitude for part in parts])
    )


def line_fid(spectrum: Lines, n_points: int, dwell_s: float, linewidth_hz: float) -> np.ndarray:
    """Return the FID of lines with a Lorentzian width (full width at half maximum), shape (n_points,).

    The exponentials factor, exp(w (a B + b) dt) = exp(w a B dt) exp(w b dt), which turns the sum over thousands of
    lines into one small matrix product.
    """
    block = int(np.ceil(np.sqrt(n_points)))
    rate = (2j * np.pi * spectrum.frequency_hz - np.pi * linewidth_hz) * dwell_s
    coarse = np.exp(np.outer(np.arange(0, n_points, block), rate))
    fine = np.exp(np.outer(rate, np.arange(block)))
    return ((coarse * spectrum.amplitude) @ fine).reshape(-1)[:n_points]
