"""What is looked at before a fit: are the spectra usable, do they lie where the basis lies, is the basis regular."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.basis import Basis
from mrs_synthesis.fitting import Task
from mrs_synthesis.stage import InputError

LARGEST_OFFSET_PPM = 0.25  # beyond: the choline peak would be taken for creatine's
SMALLEST_OFFSET_PPM = 0.05  # below: the fit's own shift does it
SEARCHED_PPM = 0.4
STEP_PPM = 0.004
COMPARED_PPM = (1.7, 3.5)
APODISATION_HZ = 5.0
USED_S = 0.5  # of the FID; the apodisation leaves nothing of the rest
LEAST_MATCH = 0.5  # correlation of two spectra's slopes; 0.7 to 0.9 for good spectra, 0.3 for noise
LEAST_MATCH_CELL = 0.6  # of a single cell, which would only gain a little
LEAST_LEAD = 0.1  # over the correlation at any offset more than a line width away
LINE_WIDTH_PPM = 0.08
MIRROR_GAIN = 1.2
# mmol/l in a brain, to weight the basis by; DIFF shows NAA, Glu and GABA of them
USUAL = {"NAA": 10.0, "Cr": 4.0, "PCr": 4.0, "GPC": 1.0, "PCh": 0.6, "Cho": 1.6, "Glu": 9.0, "GABA": 1.5}
SINGLETS = ("NAA", "Cr", "PCr")
SAME = 1e-5  # relative singular value below which basis spectra count as one


def defects(fids: np.ndarray) -> list[str]:
    """Return for each FID (cells, n_points) why it cannot be fitted, or an empty text."""
    with np.errstate(over="ignore", invalid="ignore"):
        norm = np.linalg.norm(fids, axis=-1)
    texts = [""] * len(fids)
    for cell in np.flatnonzero(~(np.isfinite(norm) & (norm > 0))):
        wrong = np.count_nonzero(~np.isfinite(fids[cell]))
        texts[cell] = "zero everywhere" if norm[cell] == 0 else f"{wrong} points NaN or infinite"
    return texts


class Positions:
    """Finds how far spectra lie from the basis, by the slopes of their magnitude: phase and baseline do not matter.

    Parameters
    ----------
    task
        Raster, and the basis to compare with.

    Attributes
    ----------
    possible
        False if the basis has none of NAA, Cr, PCr; then nothing is found.
    """

    def __init__(self, task: Task) -> None:
        self.task = task
        names = [name for name in USUAL if name in task.basis.names]
        self.possible = any(name in names for name in SINGLETS)
        if not self.possible:
            return
        self.n_fft = int(2 ** np.ceil(np.log2(1 / (STEP_PPM * task.frequency_mhz * task.dwell_s))))
        axis = spectra.ppm_axis(self.n_fft, task.dwell_s, task.frequency_mhz)
        step = axis[1] - axis[0]
        reach = int(np.ceil(SEARCHED_PPM / step))
        centre = np.flatnonzero((axis > COMPARED_PPM[0]) & (axis < COMPARED_PPM[1]))
        self.seen = slice(centre[0] - reach, centre[-1] + reach + 1)
        self.offsets = np.arange(-reach, reach + 1) * step
        weights = np.array([USUAL[name] for name in names])
        model = weights @ task.basis.select(names).fids
        # The basis may have another raster: its spectrum is evaluated at this one's bins
        decay = np.exp(-np.pi * APODISATION_HZ * spectra.time_axis(model.size, task.basis.dwell_s))
        matrix = spectra.window_matrix(axis[self.seen], model.size, task.basis.dwell_s, task.basis.frequency_mhz)
        wanted = np.gradient(np.abs((model * decay) @ matrix))[reach:-reach]
        wanted /= np.linalg.norm(wanted)
        self.matches = np.zeros((2 * reach + centre.size, self.offsets.size))
        for k in range(self.offsets.size):
            self.matches[k : k + centre.size, k] = wanted
        self.width = centre.size

    def correlations(self, fids: np.ndarray) -> np.ndarray:
        """Return how well FIDs (cells, n_points), moved down by each of `offsets`, match the basis, (cells, K)."""
        used = min(fids.shape[1], self.n_fft, int(USED_S / self.task.dwell_s))
        decay = np.exp(-np.pi * APODISATION_HZ * spectra.time_axis(used, self.task.dwell_s))
        fid = fids[:, :used] * decay
        fid[:, 0] *= 0.5
        spectrum = np.fft.fftshift(np.fft.fft(fid, self.n_fft, axis=1), axes=1)[:, self.seen]
        slope = np.gradient(np.abs(spectrum), axis=1)
        energy = np.cumsum(np.pad(slope**2, [(0, 0), (1, 0)]), axis=1)
        norm = np.sqrt(energy[:, self.width :] - energy[:, : -self.width])
        return slope @ self.matches / np.maximum(norm, np.finfo(float).tiny)

    def find(self, fids: np.ndarray, least_match: float = LEAST_MATCH_CELL) -> np.ndarray:
        """Return how far above the basis each spectrum lies, in ppm, (cells,); NaN where that is not clear."""
        if not self.possible:
            return np.full(len(fids), np.nan)
        found = self.correlations(fids)
        best = found.argmax(axis=1)
        offset, match = self.offsets[best], found.max(axis=1)
        elsewhere = np.abs(self.offsets - offset[:, None]) > LINE_WIDTH_PPM
        other = np.where(elsewhere, found, -1.0).max(axis=1)
        return np.where((match > least_match) & (match - other > LEAST_LEAD), offset, np.nan)

    def check(self, mean: np.ndarray, path: str) -> float:
        """Return how far above the basis a scan's mean FID (n_points,) lies, in ppm; NaN where that is not clear.

        Raises
        ------
        InputError
            If it is more than 0.25 ppm off, or its mirror image fits better.
        """
        if not self.possible:
            return float("nan")
        direct, mirrored = (self.correlations(fid[None]).max() for fid in (mean, np.conj(mean)))
        condition = self.task.condition
        if mirrored > max(LEAST_MATCH, MIRROR_GAIN * direct):
            raise InputError(
                f"{path}: the mirror image of {condition} fits the basis better; "
                "the sign of the imaginary part is wrong: convert the file again or conjugate it"
            )
        offset = float(self.find(mean[None], LEAST_MATCH)[0])
        if abs(offset) > LARGEST_OFFSET_PPM:
            raise InputError(
                f"{path}: {condition} lies {offset:+.2f} ppm from the basis (NAA at 2.008, tCr at 3.027 ppm), expected "
                f"at most {LARGEST_OFFSET_PPM}; shift the spectra to their reference first"
            )
        return offset


def moves(own: np.ndarray, common: float) -> np.ndarray:
    """Return by how many ppm spectra are to be moved before the fit, (cells,); 0: left alone; NaN: too far off.

    Parameters
    ----------
    own
        How far above the basis each lies, (cells,), NaN where that is not known.
    common
        The same of the scan's mean; it holds for spectra that do not differ clearly from it.
    """
    common = common if np.isfinite(common) else 0.0
    differs = np.isfinite(own) & (np.abs(own - common) > SMALLEST_OFFSET_PPM)
    offset = np.where(differs, own, common)
    offset = np.where(np.abs(offset) > SMALLEST_OFFSET_PPM, offset, 0.0)
    return np.where(np.abs(offset) > LARGEST_OFFSET_PPM, np.nan, -offset)


def move(fids: np.ndarray, ppm: np.ndarray, task: Task) -> np.ndarray:
    """Return FIDs (cells, n_points) moved up by `ppm` (cells,)."""
    if not np.any(ppm):
        return fids
    return spectra.shift_and_phase(fids, task.dwell_s, ppm * task.frequency_mhz, np.zeros(len(fids)))


def regular(basis: Basis, condition: str, ppm_range: Sequence[float]) -> tuple[Basis, list[str]]:
    """Return the basis without spectra that are zero in the fit range, and warnings of one line each.

    Warned of are spectra that cannot be told apart, e.g. two equal ones: only their sum is determined.

    Raises
    ------
    InputError
        If nothing is left.
    """
    ppm = spectra.ppm_axis(basis.fids.shape[1], basis.dwell_s, basis.frequency_mhz)
    inside = (ppm > ppm_range[0]) & (ppm < ppm_range[1])
    decay = np.exp(-15 * spectra.time_axis(basis.fids.shape[1], basis.dwell_s))  # a usual line width
    columns = spectra.to_spectrum(basis.fids * decay)[:, inside]
    norms = np.linalg.norm(columns, axis=1)
    kept = norms > 1e-9 * norms.max(initial=0.0)
    warnings = []
    if not kept.any():
        raise InputError(f"basis {condition}: nothing but zero in {ppm_range[0]} to {ppm_range[1]} ppm")
    if not kept.all():
        left_out = [name for name, keep in zip(basis.names, kept, strict=True) if not keep]
        warnings.append(f"{condition}: {', '.join(left_out)} left out, zero in the fit range")
        basis = basis.select(name for name, keep in zip(basis.names, kept, strict=True) if keep)
    columns = columns[kept] / norms[kept, None]
    left, values, _ = np.linalg.svd(np.hstack([columns.real, columns.imag]), full_matrices=False)
    for direction in left[:, values < SAME * values[0]].T:
        alike = [name for name, weight in zip(basis.names, np.abs(direction), strict=True) if weight > 0.1]
        warnings.append(f"{condition}: {' and '.join(alike)} cannot be told apart; only their sum means something")
    return basis, warnings
