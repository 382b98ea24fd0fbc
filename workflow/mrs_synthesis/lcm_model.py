"""What is fitted: FSL-MRS's linear-combination model, set up for spectra that share a raster and a basis.

The model (Clarke et al., Magn Reson Med 2021, FSL-MRS 2.4), over the frequencies nu of the fit window::

    S(nu) = exp(-i (phi0 + phi1 nu)) sum_l c_l FT{ m_l(t) exp(-(i eps_g + gamma_g + t sigma_g^2) t) } + B(nu) b

with concentrations c, and a Lorentzian width gamma (1/s), a Gaussian width sigma (1/s) and a shift eps (rad/s,
positive moves peaks down in ppm) for each group g of basis spectra; c, gamma, sigma are not negative. As in FSL-MRS
the time axis starts at one dwell, the frequency axis is evenly spaced including both ends of the bandwidth, the FT is
orthonormal with the first point halved, the FID is scaled to norm 100, and so is the mean of the basis.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from mrs_synthesis import lcm_baseline
from mrs_synthesis.basis import Basis
from mrs_synthesis.spectra import WATER_PPM
from mrs_synthesis.stage import InputError

TARGET_NORM = 100.0
METABOLITE_RANGE_PPM = (0.2, 4.2)
LINE_SHAPES = ("voigt", "lorentzian")


def resample(fids: np.ndarray, dwell_s: float, new_dwell_s: float, new_n_points: int) -> np.ndarray:
    """Return FIDs (n, new_n_points) on another raster, as LCModel and FSL-MRS do it.

    The spectrum is cut or zero-padded on both sides to the new bandwidth (to the nearest pair of bins), the result cut
    in time.

    Raises
    ------
    InputError
        If the new raster lasts longer than the FIDs.
    """
    n = fids.shape[-1]
    # FSL-MRS rounds the times to ns, hence the tolerance
    if (new_n_points - 1) * new_dwell_s > (n - 1) * dwell_s + 1e-9:
        raise InputError(
            f"the basis lasts {n * dwell_s:.3f} s, the data {new_n_points * new_dwell_s:.3f} s; "
            "simulate the basis with more points"
        )
    half = round((1 / new_dwell_s - 1 / dwell_s) * n * dwell_s / 2)
    # The conjugate is cut, since FSL-MRS holds the conjugate: it decides which of the outermost bins stays
    spectrum = np.fft.fftshift(np.fft.fft(np.conj(fids), axis=-1), axes=-1)
    if half < 0:
        spectrum = spectrum[..., -half:half]
    elif half > 0:
        spectrum = np.pad(spectrum, [(0, 0)] * (fids.ndim - 1) + [(half, half)])
    new = np.conj(np.fft.ifft(np.fft.ifftshift(spectrum, axes=-1), axis=-1)) * (spectrum.shape[-1] / n)
    missing = max(0, new_n_points - new.shape[-1])
    return np.pad(new[..., :new_n_points], [(0, 0)] * (fids.ndim - 1) + [(0, missing)])


@dataclass(frozen=True)
class Options:
    """What a user may choose of the model.

    Attributes
    ----------
    ppm_range
        Fit window.
    baseline
        FSL-MRS's words: ``off``, ``poly, ORDER``, or ``spline, NAME`` with NAME very-stiff, stiff, moderate, flexible,
        very-flexible or the effective dimension.
    line_shape
        ``voigt`` or ``lorentzian`` (sigma = 0).
    free_shift
        Every basis spectrum has a shift of its own, instead of every group.
    """

    ppm_range: tuple[float, float] = METABOLITE_RANGE_PPM
    baseline: str = "poly, 2"
    line_shape: str = "voigt"
    free_shift: bool = False

    def __post_init__(self) -> None:
        lcm_baseline.parse(self.baseline)
        if self.line_shape not in LINE_SHAPES:
            raise InputError(f"line shape {self.line_shape!r}, expected {' or '.join(LINE_SHAPES)}")
        if not self.ppm_range[0] < self.ppm_range[1]:
            raise InputError(
                f"fit range {self.ppm_range[0]:g} to {self.ppm_range[1]:g} ppm: the lower limit goes first"
            )


@dataclass
class Model:
    """One fit's fixed parts.

    Attributes
    ----------
    names
        Basis spectra, n.
    groups
        Line-shape group of each, (n,) integers from 0.
    basis
        Resampled, scaled basis FIDs, complex (n, n_points).
    basis_scale
        ``basis = basis_scale * (FIDs as given)``.
    dwell_s, frequency_mhz
        Raster of the data.
    first, last
        The fit window is ``[first:last]`` of the spectrum with increasing ppm.
    baseline
        See `lcm_baseline.Baseline`.
    options
        As given.
    """

    names: list[str]
    groups: np.ndarray
    basis: np.ndarray
    basis_scale: float
    dwell_s: float
    frequency_mhz: float
    first: int
    last: int
    baseline: lcm_baseline.Baseline
    options: Options
    nu_hz: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        bandwidth = 1 / self.dwell_s
        self.nu_hz = np.linspace(-bandwidth / 2, bandwidth / 2, self.n_points)[self.first : self.last]

    @property
    def n_points(self) -> int:
        """Number of points of a FID."""
        return self.basis.shape[1]

    @property
    def n_groups(self) -> int:
        """Number of line-shape groups."""
        return int(self.groups.max()) + 1

    @property
    def time_s(self) -> np.ndarray:
        """Time axis of the model, which starts at one dwell."""
        return self.dwell_s * np.arange(1, self.n_points + 1)

    @property
    def ppm(self) -> np.ndarray:
        """Chemical shift of the window's points."""
        return self.nu_hz / self.frequency_mhz + WATER_PPM

    @property
    def n_shifts(self) -> int:
        """Number of shifts fitted: one per basis spectrum or one per group."""
        return len(self.names) if self.options.free_shift else self.n_groups

    @property
    def n_parameters(self) -> float:
        """Number of fitted parameters; a spline counts with its effective dimension."""
        widths = 2 if self.options.line_shape == "voigt" else 1
        return len(self.names) + widths * self.n_groups + self.n_shifts + 2 + 2 * float(self.baseline.kept.sum())


def build(
    basis: Basis,
    n_points: int,
    dwell_s: float,
    frequency_mhz: float,
    *,
    groups: Sequence[int] | None = None,
    options: Options | None = None,
) -> Model:
    """Set up the model for data of one raster.

    Parameters
    ----------
    basis
        Basis of the condition at the data's frequency (`basis.at_frequency`).
    n_points, dwell_s, frequency_mhz
        Raster of the data.
    groups
        Line-shape group of each basis spectrum. None: one group.
    options
        See `Options`; None: its defaults.

    Raises
    ------
    InputError
        If the basis is shorter than the data, or holds nothing, or the fit range is empty.
    """
    options = options or Options()
    resampled = resample(basis.fids, basis.dwell_s, dwell_s, n_points)
    norm = np.linalg.norm(resampled.mean(axis=0))
    if not norm > 0:
        raise InputError("the basis is zero everywhere; simulate or convert it again")
    axis = np.linspace(-0.5 / dwell_s, 0.5 / dwell_s, n_points) / frequency_mhz + WATER_PPM
    first, last = sorted(int(np.argmin(np.abs(axis - limit))) for limit in options.ppm_range)
    if last - first < 8:
        raise InputError(
            f"fit range {options.ppm_range[0]:g} to {options.ppm_range[1]:g} ppm: nothing of the data there"
        )
    scale = TARGET_NORM / norm
    return Model(
        names=list(basis.names),
        groups=np.zeros(len(basis.names), int) if groups is None else np.asarray(groups, int),
        basis=resampled * scale,
        basis_scale=float(scale),
        dwell_s=dwell_s,
        frequency_mhz=frequency_mhz,
        first=first,
        last=last,
        baseline=lcm_baseline.make(options.baseline, last - first, options.ppm_range[1] - options.ppm_range[0]),
        options=options,
    )


def scale_fids(fids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return FIDs (cells, n_points) scaled to norm 100, and the factors (cells,).

    Raises
    ------
    ValueError
        If a FID is zero, NaN or infinite.
    """
    norm = np.linalg.norm(fids, axis=-1)
    if not np.all(np.isfinite(norm)) or not np.all(norm > 0):
        raise ValueError(f"FID {int(np.argmin(np.isfinite(norm) & (norm > 0)))} is zero, NaN or infinite")
    scale = TARGET_NORM / norm
    return fids * scale[:, None], scale
