"""Make synthetic transients for one subject from a few of its real ones, and the reconstruction of all of them.

Modes, from the codes z (posterior means) of a replicate's real transients and per edit condition:

random
    z from the standard normal prior, or from a Gaussian fitted to the training codes of the condition.
interpolation
    (1 - l) z_i + l z_j, l uniform in (0, 1), i and j two different real transients (with one real transient: its z).
hybrid
    interpolation plus normal noise of `hybrid_sd` times the SD of the training codes in each dimension.

The k-th synthetic transients of the edit conditions form a pair, as real ones do: they share the random numbers
(prior draw, i, j, l, hybrid noise), each in its own condition's codes. Noise in the signal is never shared.

Decoders: ``mean`` is the decoder's mean; its FID carries nothing outside the model's window. ``sampled`` adds complex
white noise over the full bandwidth: outside the window with the SD measured on the replicate's real transients, inside
with the decoder's SD, or with the measured one there, too, if the model was trained with the likelihood ``known``.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import cells, seeds, spectra
from mrs_synthesis.assemble import read_preprocessed, subject_scale, unit_spectra
from mrs_synthesis.known_noise import bin_sd
from mrs_synthesis.stage import InputError, SkippedError, add_status_argument, run, run_subject

if TYPE_CHECKING:
    from mrs_synthesis.scans import Scan
    from mrs_synthesis.vae import SpectrumVAE

MODES = ("random", "interpolation", "hybrid")
DECODERS = ("mean", "sampled")
NOISE_SOURCE = "NoiseSD of the replicate's real transients, inside and outside the model's window"
STATEMENT = "SYNTHETIC: made by a variational autoencoder, not measured. Not for diagnosis."
KEPT_HEADER = ("EchoTime", "RepetitionTime", "TxOffset", "SequenceName")


@dataclass(frozen=True)
class Options:
    """How synthetic transients are made; all numbers of transients are per edit condition."""

    n_real: int
    n_total: int
    replicates: int
    seed: int
    prior: str = "standard"
    hybrid_sd: float = 0.5


def encode(model: SpectrumVAE, normalised: np.ndarray) -> np.ndarray:
    """Return posterior means, shape (conditions, transients, latent), of (conditions, transients, W) spectra."""
    import torch

    from mrs_synthesis.vae import to_channels

    with torch.no_grad():
        codes = [
            model.encode(to_channels(part), torch.full((len(part),), c))[0].numpy() for c, part in enumerate(normalised)
        ]
    return np.stack(codes).astype(float)


def decode(model: SpectrumVAE, codes: np.ndarray) -> np.ndarray:
    """Return decoder means, complex, shape (conditions, transients, W), of codes (conditions, transients, latent)."""
    import torch

    from mrs_synthesis.vae import to_complex

    with torch.no_grad():
        parts = [
            to_complex(model.decode(torch.from_numpy(part.astype(np.float32)), torch.full((len(part),), c)))
            for c, part in enumerate(codes)
        ]
    return np.stack(parts).astype(complex)


def draw_codes(
    mode: str,
    real_codes: np.ndarray,
    n: int,
    rng: np.random.Generator,
    *,
    code_mean: np.ndarray,
    code_covariance: np.ndarray,
    prior: str,
    hybrid_sd: float,
) -> np.ndarray:
    """Return codes of `n` synthetic transients of one replicate, shape (conditions, n, latent).

    Parameters
    ----------
    mode
        One of `MODES`, as defined at the top of the module.
    real_codes
        Codes of the replicate's real transients, shape (conditions, n_real, latent); ``random`` ignores them.
    n
        How many.
    rng
        Random numbers; the conditions share them.
    code_mean, code_covariance
        Gaussian of the training codes of each condition, shapes (conditions, latent), (conditions, latent, latent).
    prior
        ``standard`` or ``fitted``, for ``random``.
    hybrid_sd
        Size of the noise of ``hybrid``, as a share of the SD of the training codes.
    """
    conditions, n_real, latent = real_codes.shape
    if mode == "random":
        normal = rng.standard_normal((n, latent))
        if prior == "standard":
            return np.broadcast_to(normal, (conditions, n, latent)).copy()
        values, vectors = np.linalg.eigh(code_covariance)
        # Symmetric roots, so that the same numbers mean much the same in the two conditions.
        roots = np.einsum("cij,cj,ckj->cik", vectors, np.sqrt(np.clip(values, 0, None)), vectors)
        return code_mean[:, None] + np.einsum("nj,cij->cni", normal, roots)
    first = rng.integers(n_real, size=n)
    second = (first + rng.integers(1, n_real, size=n)) % n_real if n_real > 1 else first
    weight = rng.uniform(size=n)[:, None]
    codes = (1 - weight) * real_codes[:, first] + weight * real_codes[:, second]
    if mode == "hybrid":
        sd = np.sqrt(np.diagonal(code_covariance, axis1=1, axis2=2))
        codes = codes + hybrid_sd * sd[:, None] * rng.standard_normal((n, latent))
    return codes


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


def _derived(scan: Scan, fids: np.ndarray, method: str, details: str) -> Scan:
    """Return a scan with new FIDs (conditions, transients, points) and a header that says SYNTHETIC."""
    from mrs_synthesis.scans import add_processing

    result = scan.with_fids(fids[:, :, None], dimensions=("DIM_DYN", "DIM_EDIT") if len(fids) > 1 else ("DIM_DYN",))
    result.header = {key: value for key, value in result.header.items() if key in KEPT_HEADER}
    result.header["Synthetic"] = {"Value": "yes", "Description": f"{STATEMENT} {details}"}
    add_processing(result, method, f"{STATEMENT} {details}")
    return result


def synthesise(
    unit: str,
    model_folder: Path,
    training: Path,
    scan_path: Path,
    prefix: Path,
    *,
    modes: Sequence[str],
    decoders: Sequence[str],
    options: Options,
    count: str = "per_condition",
) -> None:
    """Write one unit's reconstruction and, for every mode and decoder, its synthetic transients, with sidecars.

    Raises
    ------
    InputError
        If the model does not fit the subject's data, or there are too few transients for the plan.
    SkippedError
        If the unit is not in the test split, or failed earlier.
    """
    import torch

    from mrs_synthesis.files import read_table
    from mrs_synthesis.scans import write_scan, write_sidecar
    from mrs_synthesis.vae import load_model

    try:
        index = read_table(training / "index.tsv", ("unit", "transient", "split", "scale"))
    except (OSError, ValueError) as error:
        raise InputError(f"{training}: no training set ({error}); assemble it first") from None
    own = index[index["unit"] == unit]
    eligible = sorted(set(own.loc[own["split"] == "test", "transient"].tolist()))
    if own.empty:
        raise SkippedError(
            f"{unit} is not in {training / 'index.tsv'}: it failed before the training set was assembled"
        )
    if not eligible:
        raise SkippedError(f"{unit} is not in the test split: synthetic transients would be made of training data")

    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    model, config = load_model(model_folder)
    ppm = np.asarray(config["grid"]["ppm"])
    scan = read_preprocessed(scan_path, config["grid"]["conditions"])
    if scan.fids.shape[1] <= max(own["transient"]):
        raise InputError(
            f"{scan_path}: {scan.fids.shape[1]} transients, but the training set names number {max(own['transient'])}; "
            "assemble it again"
        )
    try:
        values = unit_spectra(scan, ppm)
    except InputError as error:
        raise InputError(f"{scan_path}: {error}") from None

    digest = config["weights_sha256"]
    facts = {
        "Synthetic": True,
        "SyntheticStatement": STATEMENT,
        "ModelSHA256": digest,
        "SplitUnit": config["grid"]["split_unit"],
        "ModelWindowPPM": [float(ppm[0]), float(ppm[-1])],
    }
    source = Path(os.path.relpath(scan_path, prefix.parent)).as_posix()

    scale = float(own["scale"].iloc[0])
    recon = _fids(decode(model, encode(model, values / scale)) * scale, ppm, scan)
    path = cells.reconstruction_path(prefix)
    result = _derived(
        scan,
        recon,
        "Reconstruction by a variational autoencoder",
        f"Decoder mean of every transient of the preprocessed scan. Weights {digest}.",
    )
    write_scan(path, result)
    write_sidecar(path, result, [source], **facts, Decoder="mean", Mode="reconstruction", Scale=scale)
    if not modes:
        return

    n_real = cells.per_condition(options.n_real, count, len(scan.conditions))
    n_total = cells.per_condition(options.n_total, count, len(scan.conditions))
    plan = cells.plan(eligible, n_real, n_total, options.replicates, options.seed, unit)
    n = n_total - n_real
    if n < 1:
        raise InputError(f"{unit}: --n-total {options.n_total} leaves nothing to add to --n-real {options.n_real}")
    scales = [subject_scale(values[0, list(real)], ppm) for real in plan.replicates]
    # A replicate knows its own real transients only: its scale, codes and noise level come from them.
    real_codes = [
        encode(model, values[:, list(real)] / scale) for real, scale in zip(plan.replicates, scales, strict=True)
    ]
    try:
        measured = spectra.noise_sd(scan.fids[:, :, 0], scan.dwell_s, scan.frequency_mhz)
    except ValueError as error:
        raise InputError(f"{scan_path}: {error}") from None
    noise = [np.sqrt(np.mean(measured[:, list(real)] ** 2, axis=1)) for real in plan.replicates]
    described = {
        "Count": count,
        "NReal": n_real,
        "NTotal": n_total,
        "NSynthetic": n,
        "Reference": list(plan.reference),
        "Replicates": [
            {
                "Replicate": r,
                "RealTransients": list(real),
                "DynRange": [r * n, (r + 1) * n],
                "Scale": scales[r],
                "NoiseSD": noise[r].tolist(),
            }
            for r, real in enumerate(plan.replicates)
        ],
    }
    known = model.likelihood == "known"
    for mode in modes:
        decoded = []
        for r, codes in enumerate(real_codes):
            rng = seeds.generator(options.seed, "synthesise", unit, mode, "codes", r)
            drawn = draw_codes(
                mode,
                codes,
                n,
                rng,
                code_mean=model.code_mean.numpy().astype(float),
                code_covariance=model.code_covariance.numpy().astype(float),
                prior=options.prior,
                hybrid_sd=options.hybrid_sd,
            )
            decoded.append(decode(model, drawn) * scales[r])
        mean = _fids(np.concatenate(decoded, axis=1), ppm, scan)
        for decoder in decoders:
            fids = mean
            if decoder == "sampled":
                added = [
                    noise_fids(
                        (len(scan.conditions), n),
                        scan,
                        (ppm[0], ppm[-1]),
                        bin_sd(noise[r], scan.n_points)[:, None] if known else model.sigma * scales[r],
                        noise[r][:, None],
                        seeds.generator(options.seed, "synthesise", unit, mode, "noise", r),
                    )
                    for r in range(len(scales))
                ]
                fids = mean + np.concatenate(added, axis=1)
            path = cells.synthetic_path(prefix, mode, decoder)
            details = f"Mode {mode}, decoder {decoder}. Weights {digest}."
            result = _derived(scan, fids, "Synthesis by a variational autoencoder", details)
            write_scan(path, result)
            extra: dict[str, object] = {"Prior": options.prior} if mode == "random" else {}
            if mode == "hybrid":
                extra["HybridSD"] = options.hybrid_sd
            if decoder == "sampled":
                extra |= {"NoiseSource": NOISE_SOURCE} if known else {"DecoderSD": model.sigma}
            write_sidecar(
                path, result, [source], **facts, **extra, Mode=mode, Decoder=decoder, Seed=options.seed, Plan=described
            )


def main(argv: Sequence[str] | None = None) -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="python -m mrs_synthesis.synthesise",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--unit", required=True)
    parser.add_argument("--model", type=Path, required=True, help="folder of the trained model")
    parser.add_argument("--training", type=Path, required=True, help="folder of the training set (for the splits)")
    parser.add_argument("--scan", type=Path, required=True, help="the unit's preprocessed transients")
    parser.add_argument("--prefix", type=Path, required=True, help="outputs are named PREFIX_desc-..._svs.nii.gz")
    parser.add_argument(
        "--modes", nargs="*", choices=MODES, default=list(MODES), help="none: only the reconstruction (default: all)"
    )
    parser.add_argument("--decoders", nargs="+", choices=DECODERS, default=list(DECODERS), help="default: both")
    parser.add_argument("--n-real", type=int, default=2, help="real transients that a replicate may use (default: 2)")
    parser.add_argument("--n-total", type=int, default=40, help="real and synthetic transients (default: 40)")
    parser.add_argument("--count", choices=cells.COUNTS, default="per_condition", help="what --n-real, --n-total count")
    parser.add_argument("--replicates", type=int, default=4, help="disjoint sets of real transients (default: 4)")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--prior", choices=("standard", "fitted"), default="standard", help="for the mode random")
    parser.add_argument("--hybrid-sd", type=float, default=0.5, help="in SDs of the training codes (default: 0.5)")
    add_status_argument(parser)
    a = parser.parse_args(argv)
    if a.hybrid_sd < 0:
        raise InputError(f"--hybrid-sd {a.hybrid_sd}: expected 0 or more")
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
            modes=a.modes,
            decoders=a.decoders,
            options=Options(a.n_real, a.n_total, a.replicates, a.seed, a.prior, a.hybrid_sd),
            count=a.count,
        ),
        stage="synthesise",
        unit=a.unit,
        outputs=[*images, *map(sidecar_path, images)],
        status=a.status,
    )


if __name__ == "__main__":
    run(main)
