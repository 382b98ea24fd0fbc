"""Names of metabolites and macromolecules: aliases, sums, line-shape groups, parametrised macromolecules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.stage import InputError

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
# Areas of MM09 and MM3co in the difference: 3 and 2 protons ("3to2MM" of Zollner et al., "Comparison of linear
# combination modeling strategies for edited magnetic resonance spectroscopy at 3 T", NMR Biomed 2022;35:e4618)
MM09_PER_CO_EDITED = 1.5
MM09_RANGE_PPM, CO_EDITED_RANGE_PPM = (0.5, 1.3), (2.6, 3.4)
GABA_RANGE_PPM = (2.8, 3.2)

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
    its parametrised ones; MM3co joins the metabolites. In DIFF all share group 0: little of the broad ones is left, so
    that the data do not determine a width and a shift of their own. With those free, a weak one becomes a baseline: in
    one real scan (poly 4, MM3co tied) MM14 rose to 6 times tCr and bootstrapped GABA+ scattered by 22 %, in one group
    by 13 %; on the phantom one group is as good or better, even where its macromolecules are not broadened with the
    metabolites (GABA+ 5.7 % high instead of 7.1 %).
    """
    result, following = [], 1
    for name in names:
        own = is_macromolecule(name) and name != CO_EDITED and condition != "DIFF"
        result.append(following if own else 0)
        following += own
    return result


def area(basis: Basis, name: str, low_ppm: float, high_ppm: float) -> float:
    """Return the integral of the real spectrum between two ppm: 1 for a line of FID amplitude 1 inside."""
    ppm, spectrum = basis.spectrum(name)
    inside = (ppm > low_ppm) & (ppm < high_ppm)
    return 2 * float(spectrum.real[inside].sum() / ppm.size)  # the halved first point halves the sum of all


def add_macromolecules(basis: Basis, condition: str) -> Basis:
    """Append parametrised macromolecules that the basis lacks, on its raster and scale.

    Broad resonances MM09 to MM20 with LCModel's default positions, widths and areas in protons (as the simulated sets
    have them), one proton being a third of the methyl singlet of Cr (or NAA). In ON the editing pulse takes its share
    of them. DIFF: MM3co, a Gaussian of 14 Hz at 3 T at 3.0 ppm whose 3.0 ppm integral equals that of one unit of GABA;
    MM09, which is co-edited with it, with 1.5 times its area (see `tie_co_edited`); and the negative MM14, MM17 and
    MM20 that the ON pulse at 1.9 ppm saturates. Without the latter three GABA+ of the phantom, which has them, is 14 %
    too high. In a real scan it rises by 0 % (baseline poly 2), 11 % (poly 4) and 25 % (stiff spline, whose residual
    they make smaller by 2 %).
    """
    from mrs_synthesis.basis_simulate import (
        CO_EDITED_PPM,
        CO_EDITED_WIDTH_PPM,
        MACROMOLECULES,
        gaussian_fid,
        macromolecule,
    )

    raster = (basis.fids.shape[1], basis.dwell_s, basis.frequency_mhz)
    unit = proton(basis, condition)
    if condition == "DIFF":
        gaba = area(basis, "GABA", *GABA_RANGE_PPM) if "GABA" in basis.names else 2 * unit
        mm09 = gaussian_fid(MACROMOLECULES["MM09"][0][0], CO_EDITED_WIDTH_PPM, *raster)
        fids = {"MM09": MM09_PER_CO_EDITED * gaba * mm09}
        for name in ("MM14", "MM17", "MM20"):
            fids[name] = unit * (macromolecule(name, "ON", basis) - macromolecule(name, "OFF", basis))
        fids[CO_EDITED] = gaba * gaussian_fid(CO_EDITED_PPM, CO_EDITED_WIDTH_PPM, *raster)
    else:
        # OFF: nothing is taken; what refocuses of MM09 is not known
        pulse = "ON" if condition == "ON" else "UNEDITED"
        fids = {name: unit * macromolecule(name, pulse, basis) for name in MACROMOLECULES}
    new = [name for name in fids if name not in basis.names]
    return replace(basis, names=basis.names + new, fids=np.vstack([basis.fids, *(fids[name][None] for name in new)]))


def tie_co_edited(basis: Basis) -> Basis:
    """Return a DIFF basis in which one spectrum, MM3co, carries both co-edited macromolecules; MM09 is dropped.

    MM09's spectrum is added to MM3co's with 1.5 times its area, 3 protons to 2: the model "3to2MM" of Zollner et al.,
    NMR Biomed 2022;35:e4618, doi:10.1002/nbm.4618. The unit of MM3co stays that of its 3.0 ppm signal, so that GABA+ is
    GABA + MM3co as before.

    What it is worth on the phantom (50-60 subjects; SNR of tCr in OFF): where the 3:2 is true, GABA+ is unbiased and
    about as precise as with MM3co free (SD 10.8 % against 11.2 % at SNR 30, 2.3 % against 1.9 % at 3000), and GABA
    alone scatters less (8 % against 10 % at SNR 100, 4.5 % against 7.5 % at 3000). Where MM09 is a fifth less or a
    quarter more, GABA+ is 2.5 % too low or 3.8 % too high and GABA 10 % off; where both vary independently between
    subjects, the slope of GABA+/tCr on the truth falls from 1.03 to 0.92. In a real scan bootstrapped GABA+ is 8 %
    higher than with MM3co free and scatters by 9.8 % against 12.0 % (poly 4), 9.5 % against 11.0 % (stiff spline). So:
    free by default, for GABA+; tied to tell GABA from MM3co, or at low SNR.

    Raises
    ------
    InputError
        If MM09 or MM3co is missing, or one of them has no positive signal at its place.
    """
    missing = [name for name in ("MM09", CO_EDITED) if name not in basis.names]
    if missing:
        raise InputError(
            f"basis DIFF: no {' and no '.join(missing)} to tie MM3co to MM09; "
            "add macromolecules (basis: add_mm) or fit with mm3co: free"
        )
    areas = {"MM09": area(basis, "MM09", *MM09_RANGE_PPM), CO_EDITED: area(basis, CO_EDITED, *CO_EDITED_RANGE_PPM)}
    for name, value in areas.items():
        if not value > 0:
            raise InputError(
                f"basis DIFF: {name} has no positive signal at {'0.9' if name == 'MM09' else '3.0'} ppm to tie MM3co "
                "to MM09; add macromolecules again (basis: add_mm) or fit with mm3co: free"
            )
    tied = basis.select(name for name in basis.names if name != "MM09")
    mm09 = basis.fids[basis.names.index("MM09")]
    fids = tied.fids.copy()
    fids[tied.names.index(CO_EDITED)] += MM09_PER_CO_EDITED * areas[CO_EDITED] / areas["MM09"] * mm09
    return replace(tied, fids=fids)


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
    """Return the amplitude of one proton: a third of a methyl singlet of Cr (3.027 ppm) or NAA (2.008 ppm).

    Cr and PCr cancel in DIFF, where NAA's is inverted; NAA's is gone in ON.
    """
    for name, ppm in (("Cr", spectra.TCR_PPM), ("PCr", spectra.TCR_PPM), ("NAA", spectra.NAA_PPM)):
        if name in basis.names and condition != ("ON" if name == "NAA" else "DIFF"):
            amplitude = abs(area(basis, name, ppm - 0.25, ppm + 0.25)) / 3
            if amplitude > 0:
                return amplitude
    return float(np.median(np.abs(basis.fids[:, 0])) / 3)
