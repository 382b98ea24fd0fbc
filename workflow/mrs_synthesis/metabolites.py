"""Names of metabolites and macromolecules: aliases, sums, line-shape groups, parametrised macromolecules."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import spectra

if TYPE_CHECKING:
    from mrs_synthesis.basis import Basis

ALIASES = {"mI": "Ins", "Ch": "Cho", "PCho": "PCh", "sI": "Scyllo", "GLC": "Glc", "TAU": "Tau", "ins": "Ins"}
NOT_METABOLITES = ("H2O", "Ref0ppm", "Ref", "TMS", "DSS")  # reference signals that simulations write along
SUMS = {
    "tCr": ("Cr", "PCr"),
    "tNAA": ("NAA", "NAAG"),
    "tCho": ("GPC", "PCh", "Cho"),
    "Glx": ("Glu", "Gln"),
}
DIFF_SUMS = {"GABA+": ("GABA", "MM3co")}
CO_EDITED = "MM3co"

# (ppm, relative area) of each macromolecule at short echo time, from FSL-MRS's documented defaults
BROAD = {
    "MM09": ((0.9, 3.0),),
    "MM12": ((1.2, 2.0),),
    "MM14": ((1.4, 2.0),),
    "MM17": ((1.7, 2.0),),
    "MM20": ((2.08, 1.33), (2.25, 0.33), (1.95, 0.33), (3.0, 0.4)),
}
BROAD_GAMMA, BROAD_SIGMA = 10.0, 20.0  # 1/s: exp(-t (gamma + t sigma^2 / 2)), the documented widths
CO_EDITED_FWHM_HZ = 14.0  # Gaussian at 3 T, Zollner et al., NMR Biomed 2022


def canonical(name: str) -> str:
    """Return FSL-MRS's usual name of a metabolite."""
    return ALIASES.get(name, name)


def is_macromolecule(name: str) -> bool:
    """Say whether a basis name is a macromolecule's or lipid's (``MM...``, ``Lip...``)."""
    return name.upper().startswith(("MM", "LIP"))


def sums(names: Sequence[str], condition: str) -> dict[str, list[str]]:
    """Return the combined metabolites that can be formed from `names`, with their members.

    ``GABA+`` is GABA + MM3co and formed in DIFF only; without MM3co in the basis, GABA itself carries the
    macromolecules and is GABA+.
    """
    table = SUMS | (DIFF_SUMS if condition == "DIFF" else {})
    found = {name: [member for member in members if member in names] for name, members in table.items()}
    return {name: members for name, members in found.items() if members and members[0] in names or len(members) > 1}


def groups(names: Sequence[str], condition: str) -> list[int]:
    """Return the line-shape group of each basis spectrum.

    Metabolites share group 0. Each macromolecule has its own group, since its width is its own; but MM3co joins the
    metabolites: it overlaps GABA completely at 3.0 ppm, so that a free width and shift of its own is not determined
    by the data (it would take GABA's place in some spectra).
    """
    result, following = [], 1
    for name in names:
        own = is_macromolecule(name) and name != CO_EDITED
        result.append(following if own else 0)
        following += own
    return result


def area(basis: Basis, name: str, low_ppm: float, high_ppm: float) -> float:
    """Return the integral of the real spectrum between two ppm, in units of the FID's first point."""
    ppm, spectrum = basis.spectrum(name)
    inside = (ppm > low_ppm) & (ppm < high_ppm)
    return float(spectrum.real[inside].sum() / ppm.size)


def macromolecules(basis: Basis, condition: str) -> tuple[list[str], np.ndarray]:
    """Return names and FIDs (n, n_points) of parametrised macromolecules on the raster and scale of `basis`.

    OFF, ON, UNEDITED: broad resonances MM09 to MM20 at FSL-MRS's positions and documented widths; areas are in
    protons, with one proton from the methyl singlet of Cr (or NAA). DIFF: MM3co, a Gaussian of 14 Hz at 3 T at
    3.0 ppm whose 3.0 ppm integral equals that of one unit of GABA, and MM09, which is co-edited with it.
    """
    t = spectra.time_axis(basis.fids.shape[1], basis.dwell_s)

    def resonance(ppm: float) -> np.ndarray:
        return np.exp(2j * np.pi * (ppm - spectra.WATER_PPM) * basis.frequency_mhz * t)

    if condition == "DIFF":
        width = CO_EDITED_FWHM_HZ * basis.frequency_mhz / 127.73
        decay = np.exp(-((np.pi * width * t) ** 2) / (4 * np.log(2)))
        gaba = area(basis, "GABA", 2.8, 3.2) if "GABA" in basis.names else 2 * proton(basis, condition)
        pattern = {"MM09": (0.915, 1.5 * gaba), CO_EDITED: (3.0, gaba)}
        return list(pattern), np.array([a * decay * resonance(ppm) for ppm, a in pattern.values()])
    decay = np.exp(-t * (BROAD_GAMMA + t * BROAD_SIGMA**2 / 2))
    unit = proton(basis, condition)
    fids = [unit * decay * sum(a * resonance(ppm) for ppm, a in peaks) for peaks in BROAD.values()]
    return list(BROAD), np.array(fids)


def proton(basis: Basis, condition: str) -> float:
    """Return the amplitude of one proton: a third of a methyl singlet of Cr (3.027 ppm) or NAA (2.008 ppm)."""
    for name, ppm in (("Cr", spectra.TCR_PPM), ("PCr", spectra.TCR_PPM), ("NAA", spectra.NAA_PPM)):
        if name in basis.names and not (name == "NAA" and condition == "ON"):
            amplitude = abs(area(basis, name, ppm - 0.25, ppm + 0.25)) / 3
            if amplitude > 0:
                return amplitude
    return float(np.median(np.abs(basis.fids[:, 0])) / 3)
