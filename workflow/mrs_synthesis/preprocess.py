"""Preprocessing of one subject: combine, align, reject, clean and reference, with the transients kept.

The engine `batched` is this project's own; `fsl-mrs` calls FSL-MRS's functions. Both write the same files, and what
they made is measured by the same code, here.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.stage import InputError, add_status_argument, run, run_subject

if TYPE_CHECKING:
    import pandas as pd

    from mrs_synthesis.preprocess_batched import Options, Processed
    from mrs_synthesis.scans import Scan

STAGE = "preprocess"
MODULE = "mrs_synthesis.preprocess"
WATER_PPM = (4.4, 4.9)
METABOLITE_PPM = (1.8, 3.4)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m {MODULE}",
        description="Preprocess one single-voxel scan: coils, eddy currents, alignment, rejection, water, reference.",
    )
    parser.add_argument("--unit", required=True, help="name of the scan, e.g. sub-01_acq-megapress")
    parser.add_argument("--engine", choices=("batched", "fsl-mrs"), default="batched", help="default: batched")
    parser.add_argument("--scan", type=Path, required=True, help="NIfTI-MRS file; edit dimension ordered OFF, ON")
    parser.add_argument("--water", type=Path, help="unsuppressed water reference, NIfTI-MRS")
    parser.add_argument(
        "--water-role",
        choices=("ecc", "concentration", "both", "embedded", "none"),
        default="both",
        help="what the reference is for: it weights coils unless none, and corrects eddy currents unless concentration "
        "(another sequence's) or none; embedded is both. default: both",
    )
    parser.add_argument("--output", type=Path, required=True, help="preprocessed transients, NIfTI-MRS")
    parser.add_argument("--output-ref", type=Path, help="combined, averaged, corrected water reference, NIfTI-MRS")
    parser.add_argument("--qc", type=Path, required=True, help="TSV table, one row per condition and transient")
    parser.add_argument("--nuisance", type=Path, required=True, help="NPZ: shifts, phases, water removed, noise")
    parser.add_argument(
        "--align-ppm",
        type=float,
        nargs=2,
        default=(1.8, 3.4),
        metavar=("LOW", "HIGH"),
        help="range that transients are aligned on; the default 1.8 3.4 has NAA, tCr and tCho in it and keeps clear of "
        "water and of the spurious echoes common at 3.4-4.2 ppm",
    )
    parser.add_argument(
        "--reject-sd",
        type=float,
        default=3.5,
        help="reject transients farther than this many SDs (batched: robust, by the median absolute deviation) from "
        "the median spectrum; 0 rejects none. default: 3.5 (Iglewicz and Hoaglin 1993)",
    )
    parser.add_argument(
        "--remove-water",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="HLSVD of residual water, per transient",
    )
    parser.add_argument(
        "--water-halfwidth-ppm", type=float, default=0.3, help="water is 4.65 ppm plus and minus this. default: 0.3"
    )
    parser.add_argument(
        "--reference", choices=("tCr", "NAA"), default="tCr", help="line put to 3.027 or 2.008 ppm and in phase"
    )
    parser.add_argument(
        "--edit-align-ppm",
        type=float,
        nargs=2,
        default=(2.85, 3.35),
        metavar=("LOW", "HIGH"),
        help="range on which ON is aligned to OFF: tCr and tCho, which editing leaves alone, and baseline beside them. "
        "default: 2.85 3.35",
    )
    parser.add_argument(
        "--ecc", action=argparse.BooleanOptionalAction, default=True, help="eddy-current correction, given a reference"
    )
    limit = "; a scan beyond it fails. default: none"
    parser.add_argument("--largest-linewidth-ppm", type=float, help=f"FWHM of tCr in the average{limit}")
    parser.add_argument("--least-snr", type=float, help=f"height of tCr over the SD of the average's noise{limit}")
    add_status_argument(parser)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    """Run the stage's command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    if arguments.output_ref and (not arguments.water or arguments.water_role == "none"):
        parser.error("--output-ref needs --water with another --water-role than none")
    for name, (low, high) in (("--align-ppm", arguments.align_ppm), ("--edit-align-ppm", arguments.edit_align_ppm)):
        if low >= high:
            parser.error(f"{name}: {low} {high}, expected LOW below HIGH")
    if arguments.reject_sd < 0 or arguments.water_halfwidth_ppm <= 0:
        parser.error("--reject-sd and --water-halfwidth-ppm must not be negative")
    if arguments.engine == "fsl-mrs":
        from mrs_synthesis import fslmrs

        fslmrs.reexec_if_needed(MODULE, argv)  # an error of installation, not of this subject
    from mrs_synthesis.scans import sidecar_path

    images = [arguments.output] + ([arguments.output_ref] if arguments.output_ref else [])
    outputs = [*images, *map(sidecar_path, [*images, arguments.qc]), arguments.qc, arguments.nuisance]
    run_subject(
        lambda: preprocess(arguments), stage=STAGE, unit=arguments.unit, outputs=outputs, status=arguments.status
    )


def preprocess(arguments: argparse.Namespace) -> dict:
    """Preprocess the scan that the command line names; write its files; return facts for the status file."""
    from mrs_synthesis.preprocess_batched import Options
    from mrs_synthesis.scans import read_scan

    scan = read_scan(arguments.scan)
    _check(scan, arguments.scan)
    water = read_scan(arguments.water) if arguments.water and arguments.water_role != "none" else None
    options = Options(
        tuple(arguments.align_ppm),
        arguments.reject_sd,
        arguments.remove_water,
        arguments.water_halfwidth_ppm,
        arguments.reference,
        tuple(arguments.edit_align_ppm),
        arguments.ecc and water is not None and arguments.water_role != "concentration",
    )
    if arguments.engine == "fsl-mrs":
        from mrs_synthesis.preprocess_fsl import process
    else:
        from mrs_synthesis.preprocess_batched import process
    try:
        done = process(scan, water, options)
        done.facts["average"] = _average(done, scan, arguments.largest_linewidth_ppm, arguments.least_snr)
        table = measure(done, scan)
    except (InputError, ValueError, np.linalg.LinAlgError) as error:
        raise InputError(f"{arguments.scan}: {error}") from None
    return _write(arguments, scan, water, options, done, table)


def _check(scan: Scan, path: Path) -> None:
    if len(scan.conditions) > 1 and scan.conditions != ("OFF", "ON"):
        raise InputError(
            f"{path}: edit conditions {', '.join(scan.conditions)}, expected OFF, ON; "
            "state edit_order in the sample sheet"
        )
    if not scan.fids.any():
        raise InputError(f"{path}: every point is zero; convert the scan again")


def _average(done: Processed, scan: Scan, widest_ppm: float | None, least_snr: float | None) -> dict[str, float | None]:
    """Return what the average of the kept transients shows (`checks_average`), None for what it does not.

    Raises an InputError if its line width or SNR is beyond a limit that was given.
    """
    from mrs_synthesis import checks_average

    kept = (done.reason == "").all(axis=0)
    average, water = (part[0, kept].mean(axis=0) for part in (done.fids, done.water_fid))
    found = checks_average.measure(average, water if water.any() else average, scan.dwell_s, scan.frequency_mhz)
    limits = {
        "linewidth_ppm": np.inf if widest_ppm is None else widest_ppm,
        "snr": -np.inf if least_snr is None else least_snr,
    }
    for name, verdict, value, expected, unit, remedy in checks_average.quality(found, limits):
        if verdict != "pass":
            raise InputError(f"{name} of the average: {value:.3g} {unit}".rstrip() + f", expected {expected}; {remedy}")
    return {name: value if np.isfinite(value) else None for name, value in found.items()}


def measure(done: Processed, scan: Scan) -> pd.DataFrame:
    """Return the quality table, one row per condition and original transient, rejected ones too.

    Columns
    -------
    condition, transient (0-based), kept (0 or 1), reason
    shift_hz, phase_deg
        Applied in total to the coil-combined transient; eddy-current correction is not counted.
    noise_sd
        SD of the real part of the noise in the FID domain (`spectra.noise_sd`).
    snr
        Height of the Lorentzian fitted to tCr (`alignment.fit_lines`) over the SD of the real spectrum's noise.
    fwhm_hz
        Full width at half maximum of that Lorentzian.
    water_residual
        Largest magnitude of the spectrum in 4.4-4.9 ppm relative to that in 1.8-3.4 ppm.
    """
    import pandas as pd

    from mrs_synthesis import alignment, spectra

    noise = spectra.noise_sd(done.fids, scan.dwell_s, scan.frequency_mhz)
    spectrum = spectra.to_spectrum(done.fids)
    ppm = scan.ppm
    lines = alignment.fit_lines(spectrum, ppm, scan.frequency_mhz)
    magnitude = np.abs(spectrum)
    highest = [magnitude[..., (ppm > low) & (ppm < high)].max(axis=-1) for low, high in (WATER_PPM, METABOLITE_PPM)]
    tiny = np.finfo(float).tiny
    reason = done.reason.copy()
    if len(reason) == 2:
        for e in range(2):
            partner = (done.reason[e] == "") & (done.reason[1 - e] != "")
            reason[e, partner] = f"its partner in {scan.conditions[1 - e]} is rejected"
    n_conditions, n_transients = noise.shape
    return pd.DataFrame(
        {
            "condition": np.repeat(scan.conditions, n_transients),
            "transient": np.tile(np.arange(n_transients), n_conditions),
            "kept": (reason == "").astype(int).ravel(),
            "reason": np.where(reason == "", None, reason).ravel(),
            "shift_hz": done.shift_hz.ravel(),
            "phase_deg": np.degrees(done.phase_rad).ravel(),
            "noise_sd": noise.ravel(),
            "snr": (lines.height / np.maximum(noise * np.sqrt(scan.n_points), tiny)).ravel(),
            "fwhm_hz": lines.fwhm_hz.ravel(),
            "water_residual": (highest[0] / np.maximum(highest[1], tiny)).ravel(),
        }
    )


def _write(
    arguments: argparse.Namespace,
    scan: Scan,
    water: Scan | None,
    options: Options,
    done: Processed,
    table: pd.DataFrame,
) -> dict:
    """Write all files of the subject and return facts for its status file."""
    from dataclasses import asdict

    from mrs_synthesis.collect import PREPROCESSING_COLUMNS
    from mrs_synthesis.dictionary import write_table_sidecar
    from mrs_synthesis.files import write_table, write_whole
    from mrs_synthesis.scans import add_processing, write_scan, write_sidecar
    from mrs_synthesis.sidecars import uri

    kept = np.flatnonzero((done.reason == "").all(axis=0))
    sources = [arguments.scan] + ([arguments.water] if water is not None else [])
    tags = tuple(tag for tag in scan.dimensions if tag == "DIM_EDIT")
    output = scan.with_fids(done.fids[:, kept, None], dimensions=("DIM_DYN", *tags))
    for method, details in done.steps:
        add_processing(output, method, details)
    kept_rows = table[table["kept"] == 1]
    facts = {
        "n_transients": int(scan.fids.shape[1]),
        "n_kept": int(kept.size),
        "n_rejected": int(scan.fids.shape[1] - kept.size),
        **{f"median_{key}": float(kept_rows[key].median()) for key in ("snr", "fwhm_hz", "noise_sd", "water_residual")},
        **done.facts,
    }
    write_scan(arguments.output, output)
    more = {"Engine": arguments.engine, "Parameters": asdict(options), "Measurements": facts}
    if arguments.output_ref:
        more["ReferenceSignal"] = uri(arguments.output_ref, arguments.output)
    write_sidecar(arguments.output, output, sources, **more)
    write_table(arguments.qc, table)
    columns = {name: {"Description": text} for name, text in PREPROCESSING_COLUMNS.items()}
    write_table_sidecar(arguments.qc, "One row per edit condition and transient acquired", sources, columns)
    with write_whole(arguments.nuisance) as temporary:
        np.savez(
            temporary,
            kept_index=kept,
            shift_hz=done.shift_hz[:, kept],
            phase_rad=done.phase_rad[:, kept],
            water_fid=done.water_fid[:, kept].astype(np.complex64),
            noise_sd=table["noise_sd"].to_numpy().reshape(done.shift_hz.shape)[:, kept],
            coil_noise_covariance=done.coil_noise_covariance,
        )
    if arguments.output_ref:
        reference = water.with_fids(done.water_reference[None, None, None], conditions=("UNEDITED",), dimensions=())
        add_processing(reference, "Signal averaging", "transients of the water reference, aligned")
        if options.ecc:
            add_processing(reference, "Eddy current correction", "by its own phase")
        write_scan(arguments.output_ref, reference)
        write_sidecar(arguments.output_ref, reference, [arguments.water])
    return facts


if __name__ == "__main__":
    run(main)
