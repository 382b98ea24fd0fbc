"""Engine `fsl-mrs` of preprocessing: FSL-MRS's functions, in one process per subject.

The steps, their order and their settings are those of its commands `fsl_mrs_preproc` and `fsl_mrs_preproc_edit`, save
that transients are kept, that shift and phase come from one average, and that the average of edit-ON is aligned to that
of edit-OFF. FSL-MRS estimates; what it found is applied here by multiplication, to the water removed as well.
"""

from __future__ import annotations

import numpy as np

from mrs_synthesis import alignment, coils, spectra
from mrs_synthesis.preprocess_batched import (
    EDIT_PAIR,
    UNLIKE,
    Frame,
    Options,
    Processed,
    check_editing,
    check_order,
    require_enough,
    require_same_coils,
)
from mrs_synthesis.scans import Scan

ALIGN_ITERATIONS = 4  # of fsl_mrs_preproc_edit
N_SINGULAR_VALUES = 20
SEARCH_PPM = {"tCr": (spectra.TCR_PPM, (2.9, 3.1)), "NAA": (spectra.NAA_PPM, (1.9, 2.1))}
WATER_SEARCH_PPM = (4.55, 4.7)
FOUND_BY_FSL_PPM = 0.05  # tCr stays inside its search range, and tCho outside


def process(scan: Scan, water: Scan | None, options: Options) -> Processed:
    """Preprocess a scan with FSL-MRS, keeping its transients; as `preprocess_batched.process`.

    `options.reject_sd` counts ordinary SDs here, from the mean distance, on both sides, as FSL-MRS does.
    """
    from fsl_mrs import __version__
    from fsl_mrs.utils import preproc

    bandwidth, frequency = 1.0 / scan.dwell_s, scan.frequency_mhz
    fids, reference, covariance, steps = _combine(scan, water)
    place = Frame(fids, scan.dwell_s)
    for e in range(len(fids)):
        if fids.shape[1] > 1:
            place.move(e, *_align(place.fids[e], bandwidth, frequency, options.align_ppm, ALIGN_ITERATIONS))
    steps.append(("Frequency and phase correction", "phase_freq_align, {:g}-{:g} ppm".format(*options.align_ppm)))

    reason = np.full(fids.shape[:2], "", dtype=object)
    if options.reject_sd > 0 and fids.shape[1] >= alignment.MIN_TRANSIENTS_TO_COMPARE:
        for e in range(len(fids)):
            _, _, _, removed, _ = preproc.identifyUnlikeFIDs(
                list(place.fids[e]), bandwidth, frequency, sdlimit=options.reject_sd, ppmlim=alignment.UNLIKE_PPM
            )
            reason[e, removed] = UNLIKE
        steps.append(("Outlier removal", f"identifyUnlikeFIDs, {options.reject_sd:g} SDs, in pairs"))
    kept = np.all(reason == "", axis=0)
    require_enough(kept, fids.shape[1])
    if options.ecc and reference is not None:
        corrected = [[preproc.eddy_correct(fid, reference) for fid in row] for row in place.fids]
        place.fids = np.array(corrected)
        steps.append(("Eddy current correction", "eddy_correct"))
        reference = preproc.eddy_correct(reference, reference)
    if reference is not None:
        reference, _, _ = preproc.phaseCorrect(reference, 1.0 / water.dwell_s, frequency, ppmlim=WATER_SEARCH_PPM)
    coarse = alignment.reference_offset(place.fids[0, kept].mean(axis=0)[None], scan.dwell_s, frequency)
    # Farther off, shiftToRef would take tCho, or nothing at all, for tCr
    coarse = coarse if abs(coarse) > FOUND_BY_FSL_PPM else 0.0
    place.move(slice(None), -coarse * frequency, 0.0)
    if scan.conditions == EDIT_PAIR:
        check_order(place.fids[:, kept].mean(axis=1), scan)
    if options.remove_water:
        half = options.water_halfwidth_ppm
        cleaned = [[_without_water(fid, scan, half) for fid in row] for row in place.fids]
        place.remove(place.fids - np.array(cleaned))
        steps.append(("Nuisance peak removal", f"hlsvd, {N_SINGULAR_VALUES} singular values, 4.65 +- {half:g} ppm"))

    average = place.fids[0, kept].mean(axis=0)
    target_ppm, search = SEARCH_PPM[options.reference]
    average, offset = preproc.shiftToRef(average, target_ppm, bandwidth, frequency, ppmlim=search)
    _, phase, _ = preproc.phaseCorrect(average, bandwidth, frequency, ppmlim=search)
    place.move(slice(None), -offset * frequency, phase)
    steps.append(("Frequency and phase correction", f"shiftToRef and phaseCorrect, {options.reference} of the average"))
    average = spectra.to_spectrum(place.fids[0, kept].mean(axis=0))
    fwhm = alignment.fit_lines(average, scan.ppm, frequency, options.reference).fwhm_hz
    facts = {
        "reference_offset_ppm": coarse + float(offset),
        "average_fwhm_hz": float(fwhm),
        "fsl_mrs_version": __version__,
    }
    if scan.conditions == EDIT_PAIR:
        off, on = place.fids[:, kept].mean(axis=1)
        place.move(1, *(v[0] for v in _align(on[None], bandwidth, frequency, options.edit_align_ppm, 1, off)))
        limits = "{:g}-{:g}".format(*options.edit_align_ppm)
        steps.append(("Alignment of subtraction sub-spectra", f"phase_freq_align of the averages, {limits} ppm"))
        facts |= check_editing(place.fids[:, kept].mean(axis=1), scan)
    steps = [(method, f"FSL-MRS {__version__}: {details}") for method, details in steps]
    wrapped = np.angle(np.exp(1j * place.phase))
    return Processed(place.fids, place.water, place.shift, wrapped, reason, covariance, reference, steps, facts)


def _align(
    fids: np.ndarray,
    bandwidth: float,
    frequency_mhz: float,
    limits_ppm: tuple[float, float],
    iterations: int,
    target: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Return shift and phase in this project's sense: FSL-MRS shifts down, and its time starts at one dwell."""
    from fsl_mrs.utils import preproc

    _, phi, eps = preproc.phase_freq_align(
        list(fids), bandwidth, frequency_mhz, ppmlim=limits_ppm, niter=iterations, target=target
    )
    return -eps, -phi - 2 * np.pi * eps / bandwidth


def _without_water(fid: np.ndarray, scan: Scan, half_ppm: float) -> np.ndarray:
    from fsl_mrs.utils import preproc

    limits = [spectra.WATER_PPM - half_ppm, spectra.WATER_PPM + half_ppm]
    return preproc.hlsvd(
        fid,
        scan.dwell_s,
        scan.frequency_mhz,
        limits,
        limitUnits="ppm+shift",
        numSingularValues=N_SINGULAR_VALUES,
        sparse_algo=True,  # the same singular vectors at a tenth of the time of the dense default
    )


def _combine(scan: Scan, water: Scan | None) -> tuple[np.ndarray, np.ndarray | None, np.ndarray, list[tuple[str, str]]]:
    """Return combined FIDs, the averaged water reference, the coils' noise covariance, and the step made."""
    from fsl_mrs.utils.preproc import combine

    require_same_coils(scan, water)
    covariance = coils.noise_covariance(scan.fids, scan.dwell_s, scan.frequency_mhz)
    if scan.fids.shape[2] == 1:
        reference = None if water is None else _average_water(water.fids[:, :, 0], water)
        return scan.fids[:, :, 0].copy(), reference, covariance, []
    stacked = np.moveaxis(scan.fids.reshape(-1, *scan.fids.shape[2:]), 1, 2)  # transients, points, coils
    try:
        estimated, whiten = combine.estimate_noise_cov(stacked), True
    except combine.CovarianceEstimationError:
        estimated, whiten = None, False
    if water is None:
        combined = [combine.combine_FIDs(fid, "svd", do_prewhiten=whiten, cov=estimated) for fid in stacked]
        fids, reference = np.array(combined).reshape(*scan.fids.shape[:2], -1), None
    else:
        averaged = water.fids.mean(axis=(0, 1)).T
        _, weights, _ = combine.combine_FIDs(averaged, "svd_weights", do_prewhiten=whiten, cov=estimated)
        fids = np.einsum("etcn,c->etn", scan.fids, weights)
        reference = _average_water(np.einsum("etcn,c->etn", water.fids, weights), water)
    return fids, reference, covariance, [("RF coil combination", f"wSVD, prewhitened: {whiten}")]


def _average_water(fids: np.ndarray, water: Scan) -> np.ndarray:
    flat = fids.reshape(-1, fids.shape[-1])
    if len(flat) > 1:
        shift, phase = _align(flat, 1.0 / water.dwell_s, water.frequency_mhz, (0.0, 8.0), 2)
        flat = spectra.shift_and_phase(flat, water.dwell_s, shift, phase)
    return flat.mean(axis=0)
