"""The physical limit on the digital phantom: how well any method can know a subject's ratios from n real transients.

Bayesian Cramer-Rao bound (Van Trees, Detection, Estimation, and Modulation Theory, part I, 1968, section 2.4): the
covariance of an estimate is at least the inverse of the Fisher information of the data plus the precision of the prior.
Edit-OFF and edit-ON are used together, every point of every FID. Unknown are the 28 concentrations, both line widths
and a factor of the Lorentzian one for each metabolite (as logarithms, in which the phantom's priors are normal), the
baseline (as the normal process that has the phantom's own mean and covariance), the residual water (places and widths
of its components; its amplitudes in every transient without any prior), and shift and phase of every transient (with
the priors of drift, wander and jitter, which tie OFF to ON). Known are the basis, the receiver's gain, the noise and
the eddy current; spoilt transients do not count. To know more than a method can know only lowers the bound.

The information depends on the subject: subjects are drawn from the phantom's prior, the bound is computed at each, and
the squared errors are averaged. This expected bound is the error of the best estimator as far as the signal is linear
in the parameters over their posterior; with the average information instead, which is Van Trees' bound to the letter,
it is 1 to 6 % lower on this phantom. Errors are relative to the truth, by the delta method.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis import phantom, spectra
from mrs_synthesis import phantom_signal as signal
from mrs_synthesis.metabolites import DIFF_SUMS, SUMS, canonical
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError, require, run

if TYPE_CHECKING:
    import pandas as pd

TOGETHER = "all"
NAMES = list(phantom.CONCENTRATIONS)
GROUPS = SUMS | DIFF_SUMS
WIDTH_SD, FACTOR_SD = 0.12, 0.10  # of log line widths and log factors: phantom_signal.draw_shape and .metabolites
HUMPS, HUMP_PPM, HUMP_WIDTH_HZ = 4, (0.5, 4.2), (90.0, 180.0)  # phantom_signal.baseline
HUMP_AREA_SD, HUMP_PHASE_SD, HUMP_CONDITION_SD = 8.0, 0.3, 0.05
WATER_SIZE_LOG_SD, WATER_PLACE_SD_PPM, WATER_WIDTH_HZ = 0.4, 0.03, (5.0, 20.0)  # phantom_signal.residual_water
SHIFT_SD_HZ, DRIFT_LOG_SD = 1.5, 0.5  # phantom_signal.draw_motion, as is what follows
PHASE_SD_RAD, PHASE_WANDER_RAD, PHASE_JITTER_RAD = np.pi / np.sqrt(3), 0.06, 0.05
NOISE_LOG_SD = 0.08  # phantom.make_subject
NEGLIGIBLE = 1e-3  # a baseline shape that is so small beside one transient's noise is left out
COLUMNS = (
    "metabolite",
    "condition",
    "site",
    "n_real",
    "n",
    "prior_cv_percent",
    "bound_rmse_percent",
    "crb_rmse_percent",
    "slope",
)
DESCRIPTIONS = {
    "metabolite": {"Description": "Ratio to tCr of this metabolite or sum"},
    "condition": {
        "Description": "As in the study's ratios. The bound uses OFF and ON together: it is the same for each"
    },
    "site": {"Description": f"Site; {TOGETHER}: the study's test scans together, variances averaged over them"},
    "n_real": {"Description": "Real transients per edit condition"},
    "n": {"Description": "Test scans of the study at this site, the weight in the rows of all"},
    "prior_cv_percent": {
        "Description": "SD of the ratio over the phantom's subjects: the RMS error of who knows only the population",
        "Units": "percent",
    },
    "bound_rmse_percent": {
        "Description": "Bayesian Cramer-Rao bound: least RMS error, relative to the truth, of any method that knows "
        "the phantom's population and has n_real transients of the subject",
        "Units": "percent",
    },
    "crb_rmse_percent": {
        "Description": "Cramer-Rao bound of a method that knows nothing of the concentrations beforehand, but the "
        "nuisances' distributions: least RMS error without drawing anybody to the population",
        "Units": "percent",
    },
    "slope": {
        "Description": "Slope over subjects of the best estimate (the posterior mean) on the truth: 1 - posterior "
        "variance / prior variance. What is missing to 1 is drawn to the population's mean"
    },
}


@dataclass(frozen=True)
class Linearised:
    """What one transient of each condition tells, at one subject's true parameters.

    Attributes
    ----------
    theta
        Fisher information of the subject's parameters, (2, P, P).
    cross
        That between them and the transient's own shift (Hz) and phase (rad), (2, P, 2).
    own
        That of shift and phase, (2, 2, 2).
    """

    theta: np.ndarray
    cross: np.ndarray
    own: np.ndarray


def metabolite_derivatives(
    bases: np.ndarray, concentrations: np.ndarray, shape: signal.Shape, factors: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return FIDs of metabolites, (2, points), and their derivatives (2, 2 M + 2, points).

    The derivatives are by the logarithms of concentrations (M), of factors of the Lorentzian width (M), of the
    Lorentzian and of the Gaussian width. `bases`: (2, M, points).
    """
    t = spectra.time_axis(bases.shape[-1], signal.DWELL_S)
    parts = concentrations[:, None] * bases * shape.decay(factors)[..., : t.size]
    by_factor = -np.pi * shape.lorentz_hz * factors[:, None] * t * parts
    total = parts.sum(axis=1)
    by_gauss = -((np.pi * shape.gauss_hz * t) ** 2) / (2 * np.log(2)) * total
    return total, np.concatenate([parts, by_factor, by_factor.sum(axis=1)[:, None], by_gauss[:, None]], axis=1)


def baseline_shapes(frequency_mhz: float, noise_sd: float, n_grid: tuple[int, int] = (24, 6)) -> np.ndarray:
    """Return FIDs (2, K, points) whose sum with independent standard normal weights is distributed as the baseline.

    Alike in mean (zero) and covariance: of the phantom's humps, whose place, width, area and phase are integrated over.
    """
    t = spectra.time_axis(signal.N_POINTS, signal.DWELL_S)
    places, widths = (
        low + (np.arange(n) + 0.5) / n * (high - low)
        for (low, high), n in zip((HUMP_PPM, HUMP_WIDTH_HZ), n_grid, strict=True)
    )
    hz = (places - spectra.WATER_PPM) * frequency_mhz
    decay = np.exp(-((np.pi * widths[:, None] * t) ** 2) / (4 * np.log(2)))
    humps = (np.exp(2j * np.pi * hz[:, None, None] * t) * decay).reshape(-1, t.size)
    humps *= np.sqrt(HUMPS / len(humps)) * HUMP_AREA_SD
    # A real area times exp(i phase): its real and imaginary parts are uncorrelated
    real_share = (1 + np.exp(-2 * HUMP_PHASE_SD**2)) / 2
    _, size, rows = np.linalg.svd(np.concatenate([humps.real, humps.imag], axis=1), full_matrices=False)
    rows = (size[:, None] * rows)[size > NEGLIGIBLE * noise_sd]
    shapes = rows[:, : t.size] + 1j * rows[:, t.size :]
    shapes = np.concatenate([np.sqrt(real_share) * shapes, 1j * np.sqrt(1 - real_share) * shapes])
    none, single = np.zeros_like(shapes), HUMP_CONDITION_SD * shapes
    return np.stack([np.concatenate([shapes, single, none]), np.concatenate([shapes, none, single])])


def track_covariance(n: int, n_transients: int) -> np.ndarray:
    """Return the prior covariance of shift (Hz) and phase (rad) of n pairs spread over a scan, (4 n, 4 n).

    In the order condition (OFF, ON), transient, shift or phase.
    """
    pairs = np.floor((np.arange(n) + 0.5) * n_transients / n)
    times = np.concatenate([2 * pairs + 1, 2 * pairs]) * signal.TR_S  # ON is acquired first
    apart = np.abs(times[:, None] - times)
    rate = signal.DRIFT_HZ_PER_MIN / 60
    drift = rate**2 * np.exp(2 * DRIFT_LOG_SD**2)
    covariance = np.zeros((2 * n, 2, 2 * n, 2))
    covariance[:, 0, :, 0] = (
        SHIFT_SD_HZ**2 + drift * np.outer(times, times) + signal.WANDER_HZ**2 * np.exp(-apart / signal.WANDER_S)
    )
    covariance[:, 1, :, 1] = (
        PHASE_SD_RAD**2 + PHASE_WANDER_RAD**2 * np.exp(-apart / 60.0) + PHASE_JITTER_RAD**2 * np.eye(2 * n)
    )
    return covariance.reshape(4 * n, 4 * n)


def linearise(derivatives: np.ndarray, moved: np.ndarray, free: np.ndarray, noise_sd: float) -> Linearised:
    """Return the Fisher information of one transient of each condition.

    Parameters
    ----------
    derivatives
        Of the noise-free FID by the subject's parameters, complex (2, P, points).
    moved
        By the transient's shift and phase, complex (2, 2, points).
    free
        FIDs (K, points) that every transient contains with complex amplitudes of its own of which nothing is known.
    noise_sd
        SD of the noise per real point of a FID.
    """
    columns = np.concatenate([derivatives, moved], axis=1)
    if len(free):
        q, _ = np.linalg.qr(free.T)
        columns = columns - (columns @ q.conj()) @ q.T
    flat = np.concatenate([columns.real, columns.imag], axis=-1) / noise_sd
    gram = flat @ flat.transpose(0, 2, 1)
    p = derivatives.shape[1]
    return Linearised(gram[:, :p, :p], gram[:, :p, p:], gram[:, p:, p:])


def information(one: Linearised, n: int, tracks: np.ndarray) -> np.ndarray:
    """Return what n transients of each condition tell of the subject's parameters, shift and phase unknown: (P, P).

    `tracks`: prior covariance of shifts and phases, as `track_covariance` gives it.
    """
    # own and cross are alike in all transients of a condition. What unknown shifts and phases take is
    # cross (own + tracks^-1)^-1 cross', here in a form without the inverse of tracks
    own = np.zeros((4 * n, 4 * n))
    cross = np.concatenate([np.tile(one.cross[i], (1, n)) for i in range(2)], axis=1)
    for i in range(2 * n):
        own[2 * i : 2 * i + 2, 2 * i : 2 * i + 2] = one.own[i // n]
    taken = cross @ np.linalg.solve(np.eye(4 * n) + tracks @ own, tracks @ cross.T)
    return n * one.theta.sum(axis=0) - (taken + taken.T) / 2


def covariances(told: np.ndarray, precision: np.ndarray, n_shown: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the bounds on the covariance of the first `n_shown` parameters, with their prior and without it.

    `precision`: of the independent normal priors of all parameters, (P,); the other parameters keep theirs.
    """
    shown, rest = slice(n_shown), slice(n_shown, None)
    loss = told[shown, rest] @ np.linalg.solve(told[rest, rest] + np.diag(precision[rest]), told[rest, shown])
    left = told[shown, shown] - (loss + loss.T) / 2
    return np.linalg.inv(left + np.diag(precision[shown])), np.linalg.pinv(left, rcond=1e-14, hermitian=True)


def log_ratio_gradient(concentrations: np.ndarray, metabolite: str) -> np.ndarray:
    """Return the derivatives of log(metabolite / tCr) by the logarithms of the phantom's concentrations."""
    gradient = np.zeros(len(NAMES))
    for name, sign in ((metabolite, 1.0), ("tCr", -1.0)):
        index = [NAMES.index(member) for member in GROUPS.get(name, (name,))]
        gradient[index] += sign * concentrations[index] / concentrations[index].sum()
    return gradient


def draw(stream: signal.Stream, site: signal.Site, bases: np.ndarray, shapes: np.ndarray, sd: float) -> tuple:
    """Draw a subject as the phantom does; return its concentrations, and what one transient tells of it."""
    concentrations = np.array(list(phantom.draw_concentrations(stream).values()))
    shape = signal.draw_shape(stream("shape"), site)
    factors = stream("widths").lognormal(0, FACTOR_SD, concentrations.size)
    total, derivatives = metabolite_derivatives(bases, concentrations, shape, factors)
    total = total + signal.baseline(stream("baseline"), site.frequency_mhz)
    rng, t = stream("water"), spectra.time_axis(signal.N_POINTS, signal.DWELL_S)
    n_water = signal.WATER_COMPONENTS
    size = site.residual_water * rng.lognormal(0, WATER_SIZE_LOG_SD) * rng.dirichlet(np.full(n_water, 2.0))
    amplitudes = size * np.exp(2j * np.pi * rng.random(n_water))
    hz = rng.normal(0, WATER_PLACE_SD_PPM, n_water) * site.frequency_mhz
    lines = np.exp((2j * np.pi * hz - np.pi * rng.uniform(*WATER_WIDTH_HZ, n_water))[:, None] * t)
    water = amplitudes[:, None] * lines
    total = total + water.sum(axis=0)
    by_water = np.broadcast_to(np.concatenate([2j * np.pi * t * water, -np.pi * t * water]), (2, 2 * n_water, t.size))
    moved = np.stack([2j * np.pi * t * total, 1j * total], axis=1)
    noise = sd * stream("noise level").lognormal(0, NOISE_LOG_SD)
    return concentrations, linearise(np.concatenate([derivatives, by_water, shapes], axis=1), moved, lines, noise)


def prior_precision(site: signal.Site, n_shapes: int) -> np.ndarray:
    """Return the precision of the prior of each of the subject's parameters, (P,)."""
    cv = np.array([value for _, value in phantom.CONCENTRATIONS.values()])
    water = (WATER_PLACE_SD_PPM * site.frequency_mhz, np.ptp(WATER_WIDTH_HZ) / np.sqrt(12))
    sd = [np.sqrt(np.log1p(cv**2)), np.full(cv.size, FACTOR_SD), np.full(2, WIDTH_SD)]
    sd += [np.full(signal.WATER_COMPONENTS, value) for value in water] + [np.ones(n_shapes)]
    return 1 / np.concatenate(sd) ** 2


def site_variances(
    site: signal.Site,
    bases: np.ndarray,
    metabolites: Sequence[str],
    n_real: Sequence[int],
    *,
    n_transients: int,
    snr: float,
    n_subjects: int,
    seed: int,
) -> np.ndarray:
    """Return squared relative errors averaged over subjects, (metabolites, n_real, 3): prior, bound, bound without it.

    `bases`: OFF and ON of the phantom's metabolites, (2, M, points); `snr`: of tCr in one OFF transient; `n_transients`
    of a whole scan per condition, over which those used are spread.
    """
    sd = phantom.noise_sd(bases, site, snr)
    shapes = baseline_shapes(site.frequency_mhz, sd)
    precision = prior_precision(site, shapes.shape[1])
    tracks = [track_covariance(n, n_transients) for n in n_real]
    variances = np.zeros((len(metabolites), len(n_real), 3))
    for i in range(n_subjects):
        concentrations, one = draw(partial(generator, seed, "bayes_bound", i), site, bases, shapes, sd)
        gradients = np.array([log_ratio_gradient(concentrations, name) for name in metabolites])
        variances[:, :, 0] += (gradients**2 / precision[: len(NAMES)]).sum(axis=1)[:, None]
        for k, (n, covariance) in enumerate(zip(n_real, tracks, strict=True)):
            bounds = covariances(information(one, n, covariance), precision, len(NAMES))
            for kind, bound in enumerate(bounds, start=1):
                variances[:, k, kind] += np.einsum("rm,mk,rk->r", gradients, bound, gradients)
    return variances / n_subjects


def table_rows(
    ratios: Sequence[tuple[str, str]], n_real: Sequence[int], site: str, n: int, variances: np.ndarray
) -> list[dict]:
    """Return rows of the table; `variances`: (ratios, n_real, 3) as of `site_variances`."""
    rows = []
    for (condition, metabolite), ratio in zip(ratios, variances, strict=True):
        for number, (prior, bound, free) in zip(n_real, ratio, strict=True):
            percent = 100 * np.sqrt([prior, bound, free])
            values = (metabolite, condition, site, number, n, *percent, 1 - bound / prior)
            rows.append(dict(zip(COLUMNS, values, strict=True)))
    return rows


def read_ratios(texts: Sequence[str]) -> list[tuple[str, str]]:
    """Return (condition, metabolite) pairs of texts like ``DIFF:GABA+``; what the phantom lacks is left out.

    Raises
    ------
    InputError
        If a text is not of this form, or nothing is left.
    """
    pairs = []
    for text in texts:
        condition, _, metabolite = text.partition(":")
        if condition not in ("OFF", "ON", "DIFF", "UNEDITED") or not metabolite:
            raise InputError(f"--ratios {text}: expected CONDITION:METABOLITE, e.g. DIFF:GABA+ or OFF:tNAA")
        if condition != "UNEDITED" and canonical(metabolite) in {*NAMES, *GROUPS}:
            pairs.append((condition, canonical(metabolite)))
        else:
            print(f"not in the phantom, left out: {text}", flush=True)
    if not pairs:
        raise InputError(f"--ratios {' '.join(texts)}: the phantom has none of these; name what it has")
    return pairs


def bound_table(a: argparse.Namespace) -> pd.DataFrame:
    """Return the table for the sites of the study's test scans, one by one and together."""
    import pandas as pd

    from mrs_synthesis.files import read_table

    ratios = read_ratios(a.ratios)
    if len(a.vendors) != len(a.bases):
        raise InputError(f"--vendors and --bases: {len(a.vendors)} and {len(a.bases)} values; give as many of each")
    n_real = sorted({n for n in a.n_real if 1 <= n <= a.transients})
    if not n_real or a.subjects < 1 or a.snr <= 0:
        raise InputError("--n-real: a number from 1 to --transients wanted, --subjects at least 1, --snr above 0")
    try:
        units = read_table(require(a.units), ("unit", "site", "vendor", "split"))
    except ValueError as error:
        raise InputError(str(error)) from None
    units = units[units["split"].isna() | (units["split"] == "test")]
    if units.empty:
        raise InputError(f"{a.units}: no scan of split test; nothing to give a bound for")
    folders, known, rows, parts = dict(zip(a.vendors, a.bases, strict=True)), {}, [], []
    for (site, vendor), group in units.groupby(["site", "vendor"], sort=True, dropna=False):
        if vendor not in folders or vendor not in phantom.SITES:
            raise InputError(f"{a.units}: vendor {vendor} at {site}; no basis in --bases, or not of the phantom")
        if vendor not in known:
            scanner = phantom.SITES[vendor]
            bases, _ = phantom.read_bases(folders[vendor], scanner.frequency_mhz)
            known[vendor] = site_variances(
                scanner,
                bases,
                [metabolite for _, metabolite in ratios],
                n_real,
                n_transients=a.transients,
                snr=a.snr,
                n_subjects=a.subjects,
                seed=a.seed,
            )
        rows += table_rows(ratios, n_real, site, len(group), known[vendor])
        parts += [known[vendor]] * len(group)
    together = table_rows(ratios, n_real, TOGETHER, len(units), np.mean(parts, axis=0))
    return pd.DataFrame(together + rows, columns=list(COLUMNS))


def main(argv: Sequence[str] | None = None) -> None:
    """Write the Bayesian Cramer-Rao bound on the phantom's ratios to tCr, by number of real transients."""
    parser = argparse.ArgumentParser(prog="python -m mrs_synthesis.bayes_bound", description=main.__doc__)
    parser.add_argument("--units", type=Path, required=True, help="table of scans: site, vendor, split")
    parser.add_argument("--vendors", nargs="+", choices=tuple(phantom.SITES), required=True)
    parser.add_argument("--bases", type=Path, nargs="+", required=True, help="basis of each vendor's subjects")
    parser.add_argument("--ratios", nargs="+", required=True, help="CONDITION:METABOLITE, e.g. DIFF:GABA+ OFF:tNAA")
    parser.add_argument(
        "--n-real",
        type=int,
        nargs="+",
        default=[1, 2, 4, 8, 16, 32, 40, 64],
        help="transients per edit condition; those above --transients are left out (default %(default)s)",
    )
    parser.add_argument("--transients", type=int, default=80, help="of a scan, per condition (default %(default)s)")
    parser.add_argument("--snr", type=float, default=15.0, help="of tCr in one OFF transient (default %(default)s)")
    parser.add_argument("--subjects", type=int, default=48, help="drawn from the population (default %(default)s)")
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--output", type=Path, required=True, help="table (TSV)")
    args = parser.parse_args(argv)
    from mrs_synthesis.dictionary import write_described_table

    table = bound_table(args)
    about = (
        "Physical limit of one ratio to tCr on the digital phantom: Bayesian Cramer-Rao bound from n_real transients"
    )
    write_described_table(args.output, table, about, DESCRIPTIONS)
    for row in table[table["site"] == TOGETHER].to_dict("records"):
        ratio = f"{row['condition']}:{row['metabolite']}/tCr from {row['n_real']}"
        print(f"{ratio}: RMS error at least {row['bound_rmse_percent']:.2f} %, slope {row['slope']:.2f}", flush=True)


if __name__ == "__main__":
    run(main)
