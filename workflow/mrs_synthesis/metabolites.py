"""Names of metabolites and macromolecules: aliases, sums, line-shape groups, parametrised macromolecules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
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

# Signals that usual simulations offer but that a healthy brain does not show
UNUSUAL = ("Cit", "EtOH", "bHB", "bHG", "Phenyl", "Tyros", "Ser", "Glyc", "Ace", "Acn", "Suc", "Thr", "Val")
WEAK = 0.02  # of the strongest basis spectrum's energy norm: what editing leaves of uncoupled metabolites is no signal


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
    return {name: members for name, members in found.items() if table[name][0] in members or len(members) > 1}


def groups(names: Sequence[str], condition: str) -> list[int]:
    """Return the line-shape group of each basis spectrum.

    Metabolites share group 0. In OFF, ON and UNEDITED each macromolecule has a group of its own, as FSL-MRS advises for
    its parametrised ones. In DIFF the broad ones share group 1: little of them is left, and free shifts and widths let
    them take the place of NAA and of the baseline. MM3co joins the metabolites: it overlaps GABA at 3.0 ppm, so that
    the data do not determine a width and shift of its own.
    """
    result, following = [], 1
    for name in names:
        own = is_macromolecule(name) and name != CO_EDITED
        result.append(following if own else 0)
        following += own and condition != "DIFF"
    return result


def area(basis: Basis, name: str, low_ppm: float, high_ppm: float) -> float:
    """Return the integral of the real spectrum between two ppm: 1 for a line of FID amplitude 1 inside."""
    ppm, spectrum = basis.spectrum(name)
    inside = (ppm > low_ppm) & (ppm < high_ppm)
    return 2 * float(spectrum.real[inside].sum() / ppm.size)  # the halved first point halves the sum of all


def add_macromolecules(basis: Basis, condition: str) -> Basis:
    """Append parametrised macromolecules that the basis lacks, on its raster and scale.

    OFF, ON, UNEDITED: broad resonances MM09 to MM20 with LCModel's default positions, widths and areas in protons (as
    the simulated sets have them), one proton being a third of the methyl singlet of Cr (or NAA). DIFF: MM3co, a
    Gaussian of 14 Hz at 3 T at 3.0 ppm whose 3.0 ppm integral equals that of one unit of GABA, and MM09, which is
    co-edited with it, with 1.5 times its area (Zollner et al., NMR Biomed 2022).
    """
    from mrs_synthesis.basis_simulate import CO_EDITED_PPM, CO_EDITED_WIDTH_PPM, MACROMOLECULES, gaussian_fid

    raster = (basis.fids.shape[1], basis.dwell_s, basis.frequency_mhz)
    unit = proton(basis, condition)
    if condition == "DIFF":
        gaba = area(basis, "GABA", 2.8, 3.2) if "GABA" in basis.names else 2 * unit
        fids = {
            "MM09": 1.5 * gaba * gaussian_fid(MACROMOLECULES["MM09"][0][0], CO_EDITED_WIDTH_PPM, *raster),
            CO_EDITED: gaba * gaussian_fid(CO_EDITED_PPM, CO_EDITED_WIDTH_PPM, *raster),
        }
    else:
        fids = {
            name: unit * sum(protons * gaussian_fid(ppm, width, *raster) for ppm, width, protons in peaks)
            for name, peaks in MACROMOLECULES.items()
        }
    new = [name for name in fids if name not in basis.names]
    return replace(basis, names=basis.names + new, fids=np.vstack([basis.fids, *(fids[name][None] for name in new)]))


def fitted(basis: Basis, condition: str, ignored: Sequence[str], ppm_range: tuple[float, float]) -> Basis:
    """Return the part of a basis that is fitted.

    Left out: `ignored`, and in DIFF whatever has less than 2 % of the strongest one's norm in the fit range: singlets
    cancel, and their remainder would be fitted with huge and meaningless amplitudes.
    """
    kept = [name for name in basis.names if name not in ignored]
    if condition == "DIFF":
        n_points = basis.fids.shape[1]
        ppm = spectra.ppm_axis(n_points, basis.dwell_s, basis.frequency_mhz)
        decay = np.exp(-15 * spectra.time_axis(n_points, basis.dwell_s))  # a usual line width
        inside = (ppm > ppm_range[0]) & (ppm < ppm_range[1])
        norms = np.linalg.norm(spectra.to_spectrum(basis.select(kept).fids * decay)[:, inside], axis=1)
        kept = [name for name, norm in zip(kept, norms, strict=True) if norm > WEAK * norms.max()]
    return basis.select(kept)


def proton(basis: Basis, condition: str) -> float:
    """Return the amplitude of one proton: a third of a methyl singlet of Cr (3.027 ppm) or NAA (2.008 ppm)."""
    for name, ppm in (("Cr", spectra.TCR_PPM), ("PCr", spectra.TCR_PPM), ("NAA", spectra.NAA_PPM)):
        if name in basis.names and not (name == "NAA" and condition == "ON"):
            amplitude = abs(area(basis, name, ppm - 0.25, ppm + 0.25)) / 3
            if amplitude > 0:
                return amplitude
    return float(np.median(np.abs(basis.fids[:, 0])) / 3)
