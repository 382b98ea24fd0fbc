"""Make synthetic transients for one subject from a few of its real ones, and the reconstruction of all of them.

Modes: ``random``, ``interpolation`` and ``hybrid``, as `mrs_synthesis.generator` defines them for each model. Whatever
is made for a replicate knows its own real transients only.

Decoders: ``mean`` is free of noise; its FID carries nothing outside the model's window. ``sampled`` adds complex white
noise over the full bandwidth: outside the window with the SD measured on the replicate's real transients, inside with
the decoder's SD, or with the measured one there, too, if the model knows the noise. ``acquired`` is ``sampled`` as it
would come from the scanner: with residual water and with tracks of frequency and phase (`mrs_synthesis.nuisance`).
Noise in the signal is never shared between edit conditions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import __version__, cells, generator, seeds, spectra
from mrs_synthesis.assemble import read_preprocessed, subject_scale, unit_spectra
from mrs_synthesis.generator import MODES
from mrs_synthesis.known_noise import bin_sd
from mrs_synthesis.sidecars import STATEMENT, model_facts
from mrs_synthesis.stage import InputError, add_status_argument, run, run_subject
from mrs_synthesis.training_set import held_out

if TYPE_CHECKING:
    from mrs_synthesis.nuisance import NuisanceModel
    from mrs_synthesis.scans import Scan

DECODERS = ("mean", "sampled", "acquired")
KEPT_HEADER = ("EchoTime", "RepetitionTime", "TxOffset", "SequenceName")


@dataclass(frozen=True)
class Origin:
    """Where a scan comes from, which the training set says of training subjects only."""

    site: str | None = None
    vendor: str | None = None


@dataclass(frozen=True)
class Options:
    """How synthetic transients are made; all numbers of transients are per edit condition."""

    n_real: Sequence[int]
    n_total: Sequence[int]
    replicates: int
    seed: int
    prior: str = "standard"
    hybrid_sd: float = 0.5
    plan_seed: int | None = None  # of the study cells; None: `seed`


def noise_fids(
    shape: Sequence[int],
    scan: Scan,
    window: tuple[float, float],
    sd_inside: np.ndarray | float,
    sd_outside: np.ndarray | float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return FIDs of complex white noise with one level inside a ppm window and another outside.

    Parameters
    ----------
    shape
        Leading shape, e.g. (conditions, transients).
    scan
        Gives points, dwell time and frequency.
    window
        Lowest and highest ppm of the window.
    sd_inside
        SD of the real part of a bin of the spectrum inside the window; broadcasts against `shape`.
    sd_outside
        SD of the real part of the FID's noise (as `spectra.noise_sd` measures it) that holds outside; broadcasts
        against `shape`.
    rng
        Random numbers.
    """
    n = scan.n_points
    noise = rng.standard_normal((*shape, n)) + 1j * rng.standard_normal((*shape, n))
    margin = 1e-6 * (scan.ppm[1] - scan.ppm[0])
    inside = (scan.ppm >= window[0] - margin) & (scan.ppm <= window[1] + margin)
    levels = np.where(inside, np.asarray(sd_inside)[..., None], np.asarray(sd_outside)[..., None] * np.sqrt(n))
    # Not spectra.to_fid: noise has no first point that is to be doubled.
    return np.fft.ifft(np.fft.ifftshift(noise * levels, axes=-1), axis=-1)


def _fids(decoded: np.ndarray, ppm: np.ndarray, scan: Scan) -> np.ndarray:
    return spectra.from_window(decoded, ppm, scan.n_points, scan.dwell_s, scan.frequency_mhz)


def derived(scan: Scan, fids: np.ndarray, method: str, details: str) -> Scan:
    """Return a scan with new FIDs (conditions, transients, points) and a header that says SYNTHETIC."""
    result = scan.with_fids(fids[:, :, None], dimensions=("DIM_DYN", "DIM_EDIT") if len(fids) > 1 else ("DIM_DYN",))
    result.header = {key: value for key, value in result.header.items() if key in KEPT_HEADER}
    result.header["Synthetic"] = synthetic_mark(method, f"{STATEMENT} {details}")
    return result


def synthetic_mark(method: str, details: str) -> dict[str, str]:
    """Return the header's object ``Synthetic``; what was made by a model is no processing step of the standard's."""
    program = {"Program": "mrs-synthesis", "Version": __version__}
    return {"Value": "yes", "Method": method, "Description": details, **program}


@dataclass(frozen=True)
class Subject:
    """One unit's preprocessed transients, and which of them no model has seen.

    Attributes
    ----------
    scan
        The scan.
    values
        Its spectra in the model's window, complex (conditions, transients, W).
    noise_sd
        SD of the real part of the noise of its FIDs, (conditions, transients).
    eligible
        Transients of split test.
    scale
        Of all its transients; of the training ones if the split is by transients.
    """

    scan: Scan
    values: np.ndarray
    noise_sd: np.ndarray
    eligible: list[int]
    scale: float

    def bin_sd(self, transients: Sequence[int]) -> np.ndarray:
        """Return the noise SD of the real part of a bin of transients, over conditions, (transients,)."""
        own = self.noise_sd[:, list(transients)]
        return bin_sd(np.sqrt(np.mean(own**2, axis=0)), self.scan.n_points)


def read_subject(unit: str, training: Path, scan_path: Path, grid: dict) -> Subject:
    """Read one unit, of which the model has seen nothing, or only the transients that are not of split test.

    Raises
    ------
    InputError
        If the files contradict each other.
    SkippedError
        If the unit is not in the test split, or failed earlier.
    """
    ppm = np.asarray(grid["ppm"])
    scan = read_preprocessed(scan_path, grid["conditions"])
    eligible, scale = held_out(training, unit, scan.fids.shape[1], grid["split_unit"])
    try:
        values = unit_spectra(scan, ppm)
        noise = spectra.noise_sd(scan.fids[:, :, 0], scan.dwell_s, scan.frequency_mhz)
        scale = subject_scale(values[0], ppm) if scale is None else scale
    except (InputError, ValueError) as error:
        raise InputError(f"{scan_path}: {error}") from None
    return Subject(scan, values, noise, eligible, scale)


def with_noise(
    mean: np.ndarray,
    subject: Subject,
    one: cells.RealSet,
    model: generator.Generator,
    scale: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return noise-free FIDs (conditions, n, points) of one replicate with noise added."""
    scan, ppm = subject.scan, model.config["grid"]["ppm"]
    measured = np.sqrt(np.mean(subject.noise_sd[:, list(one.transients)] ** 2, axis=1))[:, None]
    inside = model.noise_sd(bin_sd(measured, scan.n_points), scale)
    return mean + noise_fids(mean.shape[:2], scan, (ppm[0], ppm[-1]), inside, measured, rng)


def as_acquired(
    fids: np.ndarray,
    subject: Subject,
    nuisances: NuisanceModel,
    origin: Origin,
    scale: float,
    rng: np.random.Generator,
) -> np.ndarray:
    """Return aligned, noisy FIDs (conditions, n, points) with water, and with shifts and phases, as of one session."""
    from mrs_synthesis.nuisance import apply

    scan = subject.scan
    raster = {"n_points": scan.n_points, "dwell_s": scan.dwell_s, "frequency_mhz": scan.frequency_mhz}
    return apply(fids, nuisances.draw(rng, fids.shape[1], scale=scale, **asdict(origin), **raster), scan.dwell_s)


def synthesise(
    unit: str,
    model_folder: Path,
    training: Path,
    scan_path: Path,
    prefix: Path,
    *,
    origin: Origin,
    modes: Sequence[str],
    decoders: Sequence[str],
    options: Options,
    count: str = "per_condition",
    nuisance: Path | None = None,
) -> None:
    """Write one unit's reconstruction and, for every mode and decoder, its synthetic transients, with sidecars.

    Raises
    ------
    InputError
        If the model does not fit the subject's data, or there are too few transients for the plan.
    SkippedError
        If the unit is not in the test split, or failed earlier.
    """
    from mrs_synthesis.nuisance import NuisanceModel
    from mrs_synthesis.scans import write_scan, write_sidecar

    grid = generator.read_config(model_folder, training)["grid"]
    subject = read_subject(unit, training, scan_path, grid)
    model = generator.load(model_folder, origin.site, options.prior, options.hybrid_sd)
    nuisances = NuisanceModel.load(nuisance) if "acquired" in decoders and modes else None
    scan, ppm = subject.scan, np.asarray(grid["ppm"])
    digest, kind = model.config["weights_sha256"], model.config["model"]
    facts = {
        **model_facts(model.config),
        "SplitUnit": grid["split_unit"],
        "ModelWindowPPM": [float(ppm[0]), float(ppm[-1])],
    }

    def write(path: Path, fids: np.ndarray, what: str, details: str, **more: object) -> None:
        result = derived(scan, fids, f"{what} by the model {kind}", f"{details} Weights {digest}.")
        write_scan(path, result)
        write_sidecar(path, result, [scan_path], **facts, **more)

    every = range(scan.fids.shape[1])
    recon = _fids(model.reconstruct(subject.values, subject.bin_sd(every), subject.scale), ppm, scan)
    details = "Every transient of the preprocessed scan by itself, without noise."
    more = {"Decoder": "mean", "Mode": "reconstruction", "Scale": subject.scale}
    write(cells.reconstruction_path(prefix), recon, "Reconstruction", details, **more)
    if not modes:
        return

    pairs = cells.amounts(options.n_real, options.n_total, count, len(scan.conditions))
    plan_seed = options.seed if options.plan_seed is None else options.plan_seed
    plan = cells.plan(subject.eligible, *zip(*pairs, strict=True), options.replicates, plan_seed, unit)
    for mode in modes:
        means, scales = [], []
        for one in plan.sets:
            rng = seeds.generator(options.seed, "synthesise", unit, mode, "codes", one.replicate)
            real = subject.values[:, list(one.transients)]
            try:
                drawn, scale = model.synthesise(mode, real, subject.bin_sd(one.transients), one.n_synthetic, rng)
            except ValueError as error:
                raise InputError(f"{scan_path}: transients {list(one.transients)}: {error}; exclude it") from None
            means.append(_fids(drawn, ppm, scan))
            scales.append(scale)
        described = _describe(plan, subject, scales, count)
        for decoder in decoders:
            parts = means
            if decoder != "mean":
                parts = []
                for one, mean, scale in zip(plan.sets, means, scales, strict=True):
                    name = (options.seed, "synthesise", unit, mode)
                    rng = seeds.generator(*name, "noise", one.replicate)
                    parts.append(with_noise(mean, subject, one, model, scale, rng))
                    if decoder == "acquired":
                        rng = seeds.generator(*name, "nuisance", one.replicate)
                        parts[-1] = as_acquired(parts[-1], subject, nuisances, origin, scale, rng)
            extra = model.describe(mode, decoder) | {
                "Mode": mode,
                "Decoder": decoder,
                "Seed": options.seed,
                "Plan": described,
            }
            details = f"Mode {mode}, decoder {decoder}."
            write(
                cells.synthetic_path(prefix, mode, decoder),
                np.concatenate(parts, axis=1),
                "Synthesis",
                details,
                **extra,
            )


def _describe(plan: cells.Plan, subject: Subject, scales: Sequence[float], count: str) -> dict[str, object]:
    """Return what a sidecar says of the plan."""
    replicates = []
    for one, scale in zip(plan.sets, scales, strict=True):
        noise = np.sqrt(np.mean(subject.noise_sd[:, list(one.transients)] ** 2, axis=1))
        replicates.append(
            {
                "NReal": one.n_real,
                "NTotal": one.n_total,
                "Replicate": one.replicate,
                "RealTransients": list(one.transients),
                "DynRange": list(one.dyn_range),
                "Scale": scale,
                "NoiseSD": noise.tolist(),
            }
        )
    return {"Count": count, "Reference": list(plan.reference), "Replicates": replicates}


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.synthesise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--unit", required=True)
    parser.add_argument("--site", help="of the scan, as in the sample sheet (default: not known)")
    parser.add_argument("--vendor", help="of the scan's site, for --nuisance (default: not known)")
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set (for the splits)")
    parser.add_argument("--scan", type=Path, required=True, help="the unit's preprocessed transients")
    parser.add_argument("--prefix", type=Path, required=True, help="outputs are named PREFIX_desc-..._svs.nii.gz")
    parser.add_argument(
        "--modes", nargs="*", choices=MODES, default=list(MODES), help="none: only the reconstruction (default: all)"
    )
    parser.add_argument(
        "--decoders", nargs="+", choices=DECODERS, default=["mean", "sampled"], help="default: mean sampled"
    )
    parser.add_argument("--nuisance", type=Path, help="model of tracks and water, for the decoder acquired")
    parser.add_argument(
        "--n-real", type=int, nargs="+", default=[2], help="real transients that a replicate may use (default: 2)"
    )
    parser.add_argument(
        "--n-total",
        type=int,
        nargs="+",
        default=[40],
        help="real and synthetic transients: one number, or one for each --n-real (default: 40)",
    )
    parser.add_argument("--count", choices=cells.COUNTS, default="per_condition", help="what --n-real, --n-total count")
    parser.add_argument("--replicates", type=int, default=4, help="disjoint sets of each --n-real (default: 4)")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--plan-seed", type=int, help="of the choice of real transients (default: --seed)")
    parser.add_argument(
        "--prior", choices=("standard", "fitted"), default="standard", help="model paper: for the mode random"
    )
    parser.add_argument(
        "--hybrid-sd", type=float, default=0.5, help="model paper: in SDs of the training codes (default: 0.5)"
    )
    add_status_argument(parser)
    a = parser.parse_args(argv)
    if a.hybrid_sd < 0:
        raise InputError(f"--hybrid-sd {a.hybrid_sd}: expected 0 or more")
    if "acquired" in a.decoders and a.nuisance is None:
        parser.error("--decoders acquired needs --nuisance")
    from mrs_synthesis.scans import sidecar_path

    images = [
        cells.reconstruction_path(a.prefix),
        *(cells.synthetic_path(a.prefix, m, d) for m in a.modes for d in a.decoders),
    ]
    run_subject(
        lambda: synthesise(
            a.unit,
            a.model,
            a.training,
            a.scan,
            a.prefix,
            origin=Origin(a.site, a.vendor),
            modes=a.modes,
            decoders=a.decoders,
            options=Options(a.n_real, a.n_total, a.replicates, a.seed, a.prior, a.hybrid_sd, a.plan_seed),
            count=a.count,
            nuisance=a.nuisance,
        ),
        stage="synthesise",
        unit=a.unit,
        outputs=[*images, *map(sidecar_path, images)],
        status=a.status,
    )


if __name__ == "__main__":
    run(main)
