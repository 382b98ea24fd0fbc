"""What is known of a voxel's water and of how signals relax: densities, T1, T2, and their effect in a spin echo."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mrs_synthesis.stage import InputError

WATER_PROTONS = 2
WATER_MMOL_PER_KG = 55_510.0  # 1000 g / 18.015 g/mol
MHZ_PER_TESLA = 42.576  # 1H in water; CODATA
FRACTION_TOLERANCE = 0.02


@dataclass(frozen=True)
class Tissue:
    """Volume fractions of a voxel: white matter, grey matter, CSF.

    A sum within 0.01 of 1 is taken as it is; up to 0.02 off, the fractions are divided by it, as FSL-MRS does.

    Raises
    ------
    InputError
        If one lies outside 0 to 1, the sum is farther from 1, or there is nothing but CSF.
    """

    wm: float
    gm: float
    csf: float

    def __post_init__(self) -> None:
        values = np.array([self.wm, self.gm, self.csf], float)
        words = f"tissue fractions {self.wm:g} {self.gm:g} {self.csf:g} (WM GM CSF)"
        if not np.all((values >= 0) & (values <= 1)) or abs(values.sum() - 1) > FRACTION_TOLERANCE + 1e-9:
            raise InputError(f"{words}: expected three numbers from 0 to 1 with the sum 1; segment the voxel again")
        if self.wm + self.gm == 0:
            raise InputError(f"{words}: no tissue in the voxel to give concentrations of; leave the scan out")
        if abs(values.sum() - 1) > 0.01 + 1e-9:
            for name, value in zip(("wm", "gm", "csf"), values / values.sum(), strict=True):
                object.__setattr__(self, name, float(value))

    @property
    def fractions(self) -> np.ndarray:
        """Return WM, GM, CSF."""
        return np.array([self.wm, self.gm, self.csf])


# g of water per ml of WM, GM, CSF: Ernst et al., J Magn Reson B 1993
WATER_DENSITY = np.array([0.65, 0.78, 0.97])


@dataclass(frozen=True)
class Relaxation:
    """T1 and T2 in s: of water in WM, GM and CSF, and of the metabolites (mean of NAA, Cr and Cho)."""

    water_t1_s: tuple[float, float, float]
    water_t2_s: tuple[float, float, float]
    metabolite_t1_s: float
    metabolite_t2_s: float


# By field strength in T. Means of the literature as FSL-MRS 2.4 has them.
# 1.5 T: water T1 Wright et al., MAGMA 2008, and Yamashiro et al., J Appl Clin Med Phys 2019 (CSF); water T2 Cox and
# Gowland, Proc ISMRM 2008, 1411 (CSF: round number); metabolites Ratiney et al., MAGMA 2007 (T1), Isobe et al., Magn
# Reson Imaging 2002 (T2).
# 3 and 7 T: water T1 Stanisz et al., Magn Reson Med 2005; Ethofer et al., Magn Reson Med 2003; Wansapura et al., J Magn
# Reson Imaging 1999; Rooney et al., Magn Reson Med 2007 (and CSF); Dieringer et al., PLoS One 2014; Wright et al. 2008;
# water T2 Stanisz, Wansapura, Gelman et al., Radiology 1999; Bartha et al., Magn Reson Med 2002; Spijkerman et al.,
# MAGMA 2018 (CSF); metabolites Ethofer, Mlynarik et al., NMR Biomed 2001; Li, J Metabolomics Metab 2012; An et al.,
# Magn Reson Med 2017 (T1), Marjanska et al., NMR Biomed 2012; Traber et al., J Magn Reson Imaging 2004; Wyss et al.,
# Magn Reson Med 2018 (T2).
RELAXATION = {
    1.5: Relaxation((0.630, 1.185, 3.90), (0.080, 0.083, 2.000), 1.238, 0.279),
    3.0: Relaxation((0.97, 1.50, 4.47), (0.073, 0.088, 2.030), 1.29, 0.194),
    7.0: Relaxation((1.21, 2.05, 4.43), (0.055, 0.050, 1.050), 1.43, 0.131),
}
FIELD_TOLERANCE = {1.5: 0.1, 3.0: 0.5, 7.0: 0.5}


def relaxation(frequency_mhz: float) -> Relaxation:
    """Return the relaxation times at a spectrometer frequency; InputError if none are known for that field."""
    field = frequency_mhz / MHZ_PER_TESLA
    for known, times in RELAXATION.items():
        if abs(field - known) < FIELD_TOLERANCE[known]:
            return times
    raise InputError(f"{field:.1f} T: no relaxation times known, only at 1.5, 3 and 7 T; use ratios to tCr")


def seen(t1_s: np.ndarray | float, t2_s: np.ndarray | float, te_s: float, tr_s: float) -> np.ndarray | float:
    """Return the share of a signal that is left after 90 degree pulses every `tr_s` and an echo time `te_s`."""
    return (1 - np.exp(-tr_s / np.asarray(t1_s))) * np.exp(-te_s / np.asarray(t2_s))


def visible_water(times: Relaxation, te_s: float, tr_s: float, tissue: Tissue | None) -> tuple[float, float]:
    """Return the voxel's water as seen, in mmol/kg of its water and in mmol/l of the voxel."""
    t1, t2 = np.array(times.water_t1_s), np.array(times.water_t2_s)
    if tissue is None:
        pure = WATER_MMOL_PER_KG * float(seen(t1[:2].mean(), t2[:2].mean(), te_s, tr_s))
        return pure, pure
    each = tissue.fractions * WATER_DENSITY
    litre = WATER_MMOL_PER_KG * float(each @ seen(t1, t2, te_s, tr_s))
    return litre / float(each.sum()), litre
