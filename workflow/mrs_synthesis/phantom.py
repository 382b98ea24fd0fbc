"""The digital phantom: subjects with known concentrations, as the raw files that a scanner would write."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path

import numpy as np

from mrs_synthesis import phantom_signal as signal
from mrs_synthesis import spectra
from mrs_synthesis.basis import read_json_folder
from mrs_synthesis.files import write_json, write_text
from mrs_synthesis.metabolites import DIFF_SUMS, SUMS
from mrs_synthesis.relaxation import WATER_DENSITY, Tissue
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError, add_status_argument, require, run, run_subject
from mrs_synthesis.vendor_philips import write_sdat
from mrs_synthesis.vendor_twix import EDITED, UNEDITED, Protocol, write_twix

SITES = {
    "siemens": signal.Site(123.25, 4, 1e-5, 220.0, 2.5, 4.5),
    "philips": signal.Site(127.74, 1, 1e-2, 280.0, 2.8, 5.0),
}
N_REFERENCE = 4
TE_S = 0.068
TISSUE = Tissue(0.40, 0.50, 0.10)  # where the sample sheet states none
TRUTH_COLUMNS = ("subject", "metabolite", "concentration_mm", "per_tcr", "molality_mmol_kg")

# Mean in mmol per litre of tissue and coefficient of variation between subjects. Means lie in the ranges of Govindaraju
# et al., NMR Biomed 2000 (adult human brain). GABA+ = GABA + MM3co, the latter in units of GABA, about half of it: CV
# 12 % (Mikkelsen et al., NeuroImage 2017). GABA+/tCr as a ratio of concentrations is 0.35; as the ratio of areas that
# is often published, (ON - OFF) / 2 at 3.0 ppm over creatine's methyl, it is 0.11 (there 0.116 +- 0.014).
CONCENTRATIONS = {
    "Ala": (0.5, 0.20),
    "Asc": (1.0, 0.15),
    "Asp": (1.3, 0.15),
    "Cho": (0.1, 0.20),
    "Cr": (5.1, 0.05),
    "GABA": (1.5, 0.16),
    "GPC": (1.1, 0.10),
    "GSH": (1.7, 0.12),
    "Glc": (1.0, 0.20),
    "Gln": (3.0, 0.12),
    "Glu": (9.0, 0.08),
    "Gly": (0.7, 0.20),
    "Ins": (6.0, 0.10),
    "Lac": (0.6, 0.25),
    "NAA": (10.0, 0.07),
    "NAAG": (1.4, 0.20),
    "PCh": (0.6, 0.12),
    "PCr": (3.5, 0.05),
    "PE": (1.2, 0.15),
    "Scyllo": (0.35, 0.20),
    "Ser": (0.4, 0.20),
    "Tau": (1.4, 0.15),
    "MM09": (3.0, 0.12),
    "MM12": (2.0, 0.12),
    "MM14": (2.5, 0.12),
    "MM17": (2.0, 0.12),
    "MM20": (3.0, 0.12),
    "MM3co": (1.5, 0.18),
}


def draw_concentrations(stream: signal.Stream) -> dict[str, float]:
    """Draw a subject's concentrations in mmol per litre of tissue: independent lognormal variables."""
    rng = stream("concentrations")
    concentrations = {}
    for name, (mean, cv) in CONCENTRATIONS.items():
        variance = np.log1p(cv**2)
        concentrations[name] = float(mean * rng.lognormal(-variance / 2, np.sqrt(variance)))
    return concentrations


def truth_rows(
    subject: str, concentrations: dict[str, float], tissue: Tissue = TISSUE
) -> list[tuple[str, str, float, float, float]]:
    """Return rows of `TRUTH_COLUMNS`, with the sums that the fits report (GABA+, tCr, ...).

    ``concentration_mm`` is in mmol per litre of tissue: what water-scaled quantification calls molarity. Its molality
    is that divided by the kilograms of water in a litre of the voxel, as FSL-MRS defines it (`mrs_synthesis.water`).
    """
    whole = dict(concentrations)
    for name, members in (SUMS | DIFF_SUMS).items():
        whole[name] = sum(concentrations[member] for member in members)
    water_kg = float(tissue.fractions @ WATER_DENSITY)
    return [(subject, name, value, value / whole["tCr"], value / water_kg) for name, value in whole.items()]


def read_bases(folder: Path, frequency_mhz: float) -> tuple[np.ndarray, float]:
    """Read the OFF and ON basis on the phantom's raster.

    Returns
    -------
    fids
        Shape (2, len(CONCENTRATIONS), points); zero where a condition lacks a name (MM3co in OFF).
    te_s
        The echo time it was simulated for.

    Raises
    ------
    InputError
        If the set is not a MEGA-PRESS one at this frequency, has a dwell time that does not divide the phantom's, is
        too short, or lacks a metabolite.
    """
    facts = json.loads(require(folder / "basis.json").read_text(encoding="utf-8"))
    if facts.get("sequence") != "mega-press":
        raise InputError(f"{folder}: sequence {facts.get('sequence')!r}, expected a simulated mega-press basis")
    fids = np.zeros((2, len(CONCENTRATIONS), signal.N_POINTS), complex)
    found: set[str] = set()
    for index, condition in enumerate(signal.CONDITIONS):
        basis = read_json_folder(folder / condition)
        step = round(signal.DWELL_S / basis.dwell_s)
        if abs(basis.frequency_mhz - frequency_mhz) > 0.01:
            raise InputError(f"{folder}: simulated at {basis.frequency_mhz} MHz, this vendor needs {frequency_mhz} MHz")
        if abs(step * basis.dwell_s - signal.DWELL_S) > 1e-9 or step * signal.N_POINTS > basis.fids.shape[1]:
            raise InputError(
                f"{folder}: {basis.fids.shape[1]} points of {basis.dwell_s} s; expected a dwell time of "
                f"{signal.DWELL_S} s or a whole fraction, and at least {signal.N_POINTS * signal.DWELL_S} s in all"
            )
        names = list(CONCENTRATIONS)
        for name, fid in zip(basis.names, basis.fids, strict=True):
            if name in names:
                fids[index, names.index(name)] = fid[::step][: signal.N_POINTS]
                found.add(name)
    if missing := CONCENTRATIONS.keys() - found:
        raise InputError(f"{folder}: no {', '.join(sorted(missing))}; simulate it with mrs_synthesis.basis_simulate")
    return fids, float(facts["te_ms"]) / 1e3


def noise_sd(bases: np.ndarray, site: signal.Site, snr: float) -> float:
    """Return the noise SD per real point at which an average subject's tCr peak in one OFF transient has this SNR.

    SNR: height of the real spectrum at 3.0 ppm over the SD of its noise, no filter.
    """
    mean = np.array([value for value, _ in CONCENTRATIONS.values()])
    shape = signal.Shape(site.lorentz_hz, site.gauss_hz, 0.0, 1.0)
    spectrum = spectra.to_spectrum((mean @ bases[0]) * shape.decay()).real
    ppm = spectra.ppm_axis(signal.N_POINTS, signal.DWELL_S, site.frequency_mhz)
    return float(spectrum[np.abs(ppm - spectra.TCR_PPM) < 0.1].max() / snr / np.sqrt(signal.N_POINTS))


def make_subject(
    subject: str,
    site: signal.Site,
    bases: np.ndarray,
    seed: int,
    n_transients: int,
    snr: float,
    *,
    te_s: float = TE_S,
    tissue: Tissue = TISSUE,
) -> tuple[np.ndarray, np.ndarray, dict[str, float], dict]:
    """Make one subject's scan and water reference.

    Returns
    -------
    fids
        Shape (2, transients, coils, points): OFF, ON.
    reference
        Shape (transients, coils, points).
    concentrations
        In mmol per litre of tissue.
    nuisance
        What else is true; arrays as nested lists (2, transients), amplitudes and noise in the files' units. `noise_sd`
        is that of the best combination of coils, per real point, where `gain` is the signal that is seen of one
        metabolite proton of 1 mmol per litre of tissue.
    """
    stream = partial(generator, seed, "phantom", subject)
    concentrations = draw_concentrations(stream)
    shape = signal.draw_shape(stream("shape"), site)
    motion = signal.draw_motion(stream, site, n_transients)
    voxel = signal.metabolites(bases, np.array(list(concentrations.values())), shape, stream("widths"))
    voxel = voxel + signal.baseline(stream("baseline"), site.frequency_mhz)
    water, water_amplitudes = signal.residual_water(stream, site, n_transients)
    sd = noise_sd(bases, site, snr) * stream("noise level").lognormal(0, 0.08)
    receiver = signal.draw_receiver(stream("coils"), site.n_coils, sd)
    fids = receiver.receive(signal.transients(voxel, water, motion, shape), stream("noise"))
    water_amplitude = signal.water_amplitude(tissue, site.frequency_mhz, te_s)
    reference = signal.water_reference(stream, shape, motion, N_REFERENCE, water_amplitude)
    reference = receiver.receive(reference, stream("reference noise"))
    covariance = site.gain**2 * (receiver.noise_factor @ receiver.noise_factor.conj().T)
    nuisance = {
        "shift_hz": motion.shift_hz.round(6).tolist(),
        "phase_rad": motion.phase_rad.round(6).tolist(),
        "bad": motion.bad.tolist(),
        "broadening_hz": motion.broadening_hz.round(6).tolist(),
        "amplitude": motion.amplitude.round(6).tolist(),
        "lorentz_hz": shape.lorentz_hz,
        "gauss_hz": shape.gauss_hz,
        "eddy_phase_rad": shape.eddy_rad,
        "eddy_time_constant_s": shape.eddy_s,
        "water_amplitude": (site.gain * np.abs(water_amplitudes.sum(axis=0))).tolist(),
        "noise_sd": site.gain * sd,
        "gain": site.gain,
        "tissue": asdict(tissue),
        "metabolite_share_seen": signal.metabolite_share(tissue, site.frequency_mhz, te_s),
        "water_reference_amplitude": site.gain * water_amplitude,
        "coil_sensitivity": {"re": receiver.sensitivity.real.tolist(), "im": receiver.sensitivity.imag.tolist()},
        "coil_noise_covariance": {"re": covariance.real.tolist(), "im": covariance.imag.tolist()},
    }
    return site.gain * fids, site.gain * reference, concentrations, nuisance


def write_scans(
    vendor: str, metab: Path, water: Path, fids: np.ndarray, reference: np.ndarray, frequency_mhz: float, te_s: float
) -> None:
    """Write the edited scan, transients in order of acquisition (ON, OFF, ON, ...), and the water reference."""
    edited = signal.in_order(fids)
    if vendor == "siemens":
        for path, content, sequence in ((metab, edited, EDITED), (water, reference, UNEDITED)):
            write_twix(path, content, Protocol(sequence, signal.DWELL_S, frequency_mhz, te_s, signal.TR_S))
        return
    for path, content in ((metab, edited), (water, reference)):
        write_sdat(path, content[:, 0], signal.DWELL_S, frequency_mhz, te_s, signal.TR_S, scan_id="MEGA_PRESS")


def main(argv: Sequence[str] | None = None) -> None:
    """Write one subject of the digital phantom as raw files of a vendor, with the truth about it."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.phantom", description=main.__doc__)
    parser.add_argument("--subject", required=True, help="name; another name gives another subject")
    parser.add_argument("--vendor", choices=tuple(SITES), required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--basis", type=Path, required=True, help="folder written by mrs_synthesis.basis_simulate")
    parser.add_argument("--transients", type=int, default=80, help="per edit condition (default %(default)s)")
    parser.add_argument("--snr", type=float, default=15.0, help="of tCr in one OFF transient (default %(default)s)")
    parser.add_argument(
        "--tissue",
        type=float,
        nargs=3,
        default=(TISSUE.wm, TISSUE.gm, TISSUE.csf),
        metavar=("WM", "GM", "CSF"),
        help="volume fractions of the voxel (default %(default)s)",
    )
    parser.add_argument("--metab", type=Path, required=True, help="edited scan: .dat, or .SDAT with .SPAR beside it")
    parser.add_argument("--water", type=Path, required=True, help="the same for the water reference")
    parser.add_argument("--truth", type=Path, required=True, help="table of true concentrations (TSV)")
    parser.add_argument("--nuisance-truth", type=Path, required=True, help="shifts, phases, noise, ... (JSON)")
    parser.add_argument("--unit", help="name of the scan in the record (default: the subject's)")
    add_status_argument(parser)
    args = parser.parse_args(argv)
    if args.transients < 1 or args.snr <= 0:
        raise InputError(f"--transients {args.transients}, --snr {args.snr}: expected at least 1, and more than 0")
    suffix = ".dat" if args.vendor == "siemens" else ".sdat"
    for path in (args.metab, args.water):
        if path.suffix.lower() != suffix:
            raise InputError(f"{path}: vendor {args.vendor} writes {suffix} files; give such a name")
    outputs = [args.metab, args.water, args.truth, args.nuisance_truth]
    unit = args.unit or f"sub-{args.subject}"
    run_subject(lambda: write_subject(args), stage="phantom", unit=unit, outputs=outputs, status=args.status)


def write_subject(args: argparse.Namespace) -> None:
    """Write the subject that the command line names: raw files, and the truth."""
    site = SITES[args.vendor]
    tissue = Tissue(*args.tissue)
    bases, te_s = read_bases(args.basis, site.frequency_mhz)
    fids, reference, concentrations, nuisance = make_subject(
        args.subject, site, bases, args.seed, args.transients, args.snr, te_s=te_s, tissue=tissue
    )
    write_scans(args.vendor, args.metab, args.water, fids, reference, site.frequency_mhz, te_s)
    lines = ["\t".join(TRUTH_COLUMNS)]
    for name, metabolite, *values in truth_rows(args.subject, concentrations, tissue):
        lines.append("\t".join([name, metabolite, *(f"{value:.8g}" for value in values)]))
    write_text(args.truth, "\n".join(lines) + "\n")
    about = {"subject": args.subject, "vendor": args.vendor, "conditions": list(signal.CONDITIONS)}
    write_json(args.nuisance_truth, about | nuisance)


if __name__ == "__main__":
    run(main)
