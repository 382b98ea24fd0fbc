"""The residual water of training subjects, each as a few numbers from which new water of its kind is drawn.

A donor's water is a handful of damped exponentials common to all its transients, summed in a few fixed combinations
(`shapes`); a transient is a point in the space of these. The mean direction in it, and the statistics of the walk about
it (size, phase, and all the rest), are kept. No transient's water, and nothing of the metabolites, is. What is still a
person's is the shape of the water's line: it reflects the suppression and the shim of one scan.

Water is kept in units of the subject's scale (`assemble.subject_scale`), which is the height of a spectrum and thus
grows as one over the dwell time: amplitudes are FID values over scale and dwell time. Places are in ppm, dampings in
1/s, so that water is drawn on any raster and at any field strength.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

from mrs_synthesis import spectra, wander

N_SHAPES = 4
N_POLES = 8
N_PEAK = 301  # points of the spectrum that a peak's place and width are read from
BAND_PPM = 0.5  # about water, in which poles are looked for: HLSVD removes less
SMALLEST_DAMPING = 1.0  # 1/s
ONE_DIRECTION = 0.8  # of the energy: a subject's water is one line whose size and phase change
STEADY = 0.5  # largest SD of the log of this size
WEAKEST = 1e-9  # of the subject's scale: below it there is no water


@dataclass(frozen=True)
class Donors:
    """The water of D subjects, E edit conditions, R shapes of K exponentials each; y = 2 + 2 R numbers walk.

    Attributes
    ----------
    place_ppm, damping
        (D, K): of the exponentials.
    shapes
        (D, R, K) complex: amplitudes of orthogonal combinations; padded with zeros.
    direction
        (D, E, R) complex: of a condition's water, of unit length, or zero where no direction has it nearly all.
    level, phase
        (D, E): log amplitude (-inf: no water) and mean phase.
    axes
        (D, y, y): columns are the principal axes of the walk.
    offset
        (D, E, y): means along the axes.
    wander_sd, white_sd
        (D, y): along the axes.
    memory
        (D, y): steps of the walk's memory along the axes.
    top_ppm, width_ppm
        (D,): where the water's spectrum (root mean square over transients) is highest, above 4.65 ppm, and its full
        width at half height.
    """

    place_ppm: np.ndarray
    damping: np.ndarray
    shapes: np.ndarray
    direction: np.ndarray
    level: np.ndarray
    phase: np.ndarray
    axes: np.ndarray
    offset: np.ndarray
    wander_sd: np.ndarray
    white_sd: np.ndarray
    memory: np.ndarray
    top_ppm: np.ndarray
    width_ppm: np.ndarray

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    @property
    def wet(self) -> np.ndarray:
        """Which donors have water, shape (D,)."""
        return np.isfinite(self.level).all(axis=1)


def stack(donors: list[Donors]) -> Donors:
    """Join donors of one each into one object."""
    arrays = [donor.arrays() for donor in donors]
    return Donors(**{name: np.concatenate([array[name] for array in arrays]) for name in arrays[0]})


def describe(
    water: np.ndarray, index: np.ndarray, noise_sd: np.ndarray, *, dwell_s: float, frequency_mhz: float, scale: float
) -> Donors:
    """Describe one subject's water.

    Parameters
    ----------
    water
        FIDs of the water, shape (E, T, N).
    index
        Place of each transient in the acquisition of its condition, shape (T,), increasing.
    noise_sd
        SD of the real part of each FID's noise, shape (E, T): what of the water's jitter is noise that HLSVD caught,
        which new transients get with their own noise.
    dwell_s, frequency_mhz
        Raster of the FIDs.
    scale
        The subject's.
    """
    n_conditions, n_transients, n_points = water.shape
    unit = scale * dwell_s
    flat = water.reshape(-1, n_points) / unit
    empty = _empty(n_conditions)
    if not np.abs(flat).max() > WEAKEST / dwell_s:
        return empty
    energy, vectors = np.linalg.eigh(np.conj(flat) @ flat.T)  # Gram matrix of the transients
    strongest = np.argsort(energy)[::-1][:N_SHAPES]
    strongest = strongest[energy[strongest] > 1e-9 * energy[strongest[0]]]
    basis = (flat.T @ vectors[:, strongest]).T / np.sqrt(energy[strongest])[:, None]  # right singular vectors
    weights = np.sqrt(energy[strongest])
    poles = common_poles(basis * weights[:, None], dwell_s, BAND_PPM * frequency_mhz)
    lines = np.exp(poles[:, None] * spectra.time_axis(n_points, dwell_s))
    fitted = np.linalg.lstsq(lines.T, basis.T, rcond=1e-8)[0].T
    points = (flat @ np.conj(basis).T).reshape(n_conditions, n_transients, -1)
    direction, level, mean_phase, walk = _as_walk(points, fitted.sum(axis=1))
    top, width = _peak(flat, dwell_s, frequency_mhz)
    caught = float(np.median(noise_sd)) / unit / np.exp(level.mean())
    offset, axes, wander_sd, white_sd, memory = _walk(walk, index, caught)

    shapes = np.zeros((1, N_SHAPES, N_POLES), complex)
    shapes[0, : strongest.size, : poles.size] = fitted / np.sqrt(dwell_s)  # orthonormal in time, on whatever raster
    directions = np.zeros((1, n_conditions, N_SHAPES), complex)
    directions[0, :, : strongest.size] = direction
    place, damping = np.zeros((1, N_POLES)), np.full((1, N_POLES), SMALLEST_DAMPING)
    place[0, : poles.size] = poles.imag / (2 * np.pi * frequency_mhz)
    damping[0, : poles.size] = -poles.real
    return Donors(
        place_ppm=place,
        damping=damping,
        shapes=shapes,
        direction=directions,
        level=level[None] + np.log(dwell_s) / 2,
        phase=mean_phase[None],
        axes=axes[None],
        offset=offset[None],
        wander_sd=wander_sd[None],
        white_sd=white_sd[None],
        memory=memory[None],
        top_ppm=np.array([top]),
        width_ppm=np.array([width]),
    )


def _peak(fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> tuple[float, float]:
    """Return place and width of the root mean square spectrum of FIDs (transients, points), in ppm from water."""
    ppm = np.linspace(-BAND_PPM, BAND_PPM, N_PEAK)
    matrix = spectra.window_matrix(ppm + spectra.WATER_PPM, fids.shape[-1], dwell_s, frequency_mhz)
    height = np.sqrt(np.mean(np.abs(fids @ matrix) ** 2, axis=0))
    return float(ppm[height.argmax()]), float(np.sum(height > height.max() / 2) * (ppm[1] - ppm[0]))


def _empty(n_conditions: int) -> Donors:
    """Return the donor without water."""
    size = 2 + 2 * N_SHAPES
    return Donors(
        place_ppm=np.zeros((1, N_POLES)),
        damping=np.full((1, N_POLES), SMALLEST_DAMPING),
        shapes=np.zeros((1, N_SHAPES, N_POLES), complex),
        direction=np.zeros((1, n_conditions, N_SHAPES), complex),
        level=np.full((1, n_conditions), -np.inf),
        phase=np.zeros((1, n_conditions)),
        axes=np.eye(size)[None],
        offset=np.zeros((1, n_conditions, size)),
        wander_sd=np.zeros((1, size)),
        white_sd=np.zeros((1, size)),
        memory=np.ones((1, size)),
        top_ppm=np.zeros(1),
        width_ppm=np.ones(1),
    )


def common_poles(fids: np.ndarray, dwell_s: float, half_band_hz: float) -> np.ndarray:
    """Return the exponents (1/s, at most `N_POLES`) of damped exponentials common to FIDs of shape (R, N).

    Hankel SVD of all FIDs side by side (Barkhuijsen et al., J Magn Reson 1987), on every q-th point, which changes
    nothing for exponentials that lie within the band.
    """
    every = max(int(1.0 / (4.0 * half_band_hz * dwell_s)), 1)
    thin = fids[:, ::every]
    n_columns = thin.shape[1] // 2
    if n_columns < 2:
        return np.full(1, -SMALLEST_DAMPING, complex)
    hankel = np.lib.stride_tricks.sliding_window_view(thin, n_columns, axis=1).reshape(-1, n_columns)
    values, vectors = np.linalg.eigh(np.conj(hankel.T) @ hankel)
    n_poles = min(N_POLES, n_columns - 1, int(np.sum(values > 1e-10 * values[-1])))
    signal = np.conj(vectors[:, ::-1][:, :n_poles])
    found = np.linalg.eigvals(np.linalg.pinv(signal[:-1]) @ signal[1:])
    exponents = np.log(np.maximum(np.abs(found), 1e-12)) + 1j * np.angle(found)
    exponents = exponents / (every * dwell_s)
    return np.minimum(exponents.real, -SMALLEST_DAMPING) + 1j * exponents.imag


def _as_walk(points: np.ndarray, first: np.ndarray) -> tuple[np.ndarray, ...]:
    """Turn points (E, T, R) into numbers that walk, (E, T, y), about a direction (E, R), a level and a phase (E,).

    Where one direction holds the water, its size and its phase walk: it may turn as far as it likes. Where several
    parts interfere, the direction is zero, the walk is all in the rest. `first` are the first points of the R shapes.
    """
    n_conditions, n_transients, n_shapes = points.shape
    walk = np.zeros((n_conditions, n_transients, 2 + 2 * N_SHAPES))
    direction = np.stack([np.linalg.svd(part, full_matrices=False)[2][0] for part in points])
    direction = direction * np.exp(-1j * np.angle(direction @ first))[:, None]  # along it a FID begins real
    along = np.einsum("etr,er->et", points, np.conj(direction))
    size = np.maximum(np.abs(along), 1e-12 * np.abs(along).max())
    energy = np.sum(np.abs(points) ** 2, axis=(1, 2))
    if np.all(np.sum(size**2, axis=1) > ONE_DIRECTION * energy) and np.all(np.log(size).std(axis=1) < STEADY):
        level, mean_phase = np.log(size).mean(axis=1), np.angle(along.sum(axis=1))
        phase = np.angle(along * np.exp(-1j * mean_phase[:, None]))
        walk[..., 0], walk[..., 1] = np.log(size) - level[:, None], phase
        rest = (points - along[..., None] * direction[:, None]) * np.exp(-1j * phase)[..., None]
    else:
        level, mean_phase = np.log(energy / n_transients) / 2, np.angle(points.mean(axis=1) @ first)
        direction, rest = np.zeros_like(direction), points
    rest = rest * np.exp(-1j * mean_phase - level)[:, None, None]
    walk[..., 2 : 2 + n_shapes] = rest.real
    walk[..., 2 + N_SHAPES : 2 + N_SHAPES + n_shapes] = rest.imag
    return direction, level, mean_phase, walk


def _walk(walk: np.ndarray, index: np.ndarray, noise: float) -> tuple[np.ndarray, ...]:
    """Describe the walk (E, T, y): means by condition, axes, SDs of wander and jitter and memory along these.

    `noise` is the SD of what noise does to each number.
    """
    n_conditions, n_transients, size = walk.shape
    nothing = (np.zeros((n_conditions, size)), np.eye(size), np.zeros(size), np.zeros(size), np.ones(size))
    if n_conditions * n_transients < 4 * wander.NEIGHBOURS:
        return nothing
    for e in range(n_conditions):
        walk[e, :, 1] = wander.unwrapped(walk[e, :, 1])
    clean = np.apply_along_axis(wander.without_outliers, 1, walk)
    middle = np.nanmean(clean, axis=1, keepdims=True)
    flat = np.nan_to_num(clean - middle).reshape(-1, size)
    _, axes = np.linalg.eigh(flat.T @ flat)
    spread = (clean - middle) @ axes  # a missing number makes all of its transient's missing: it was an outlier
    sequence = in_order(spread, index)
    design = in_order(np.broadcast_to(np.eye(n_conditions)[:, None], (n_conditions, n_transients, n_conditions)), index)
    alive = np.nanstd(sequence, axis=0) > 1e-6
    if not alive.any():
        return nothing
    wander_sd, white_sd, memory = np.zeros(size), np.zeros(size), np.ones(size)
    offset = middle[:, 0] @ axes
    for k in np.flatnonzero(alive):  # each for itself: weak axes are mostly noise, strong ones hardly
        found = wander.fit(sequence[None, :, k], np.nan_to_num(design), len(sequence) / 4)
        memory[k] = found.memory
        wander_sd[k] = found.sd[0] * np.sqrt(1 - found.share)
        white_sd[k] = np.sqrt(max(found.share * found.sd[0] ** 2 - noise**2, 0.0))
        offset[:, k] += found.coefficients[0]
    return offset, axes, wander_sd, white_sd, memory


def in_order(values: np.ndarray, index: np.ndarray) -> np.ndarray:
    """Put values (E, T, ...) in order of acquisition, (steps, ...): conditions of a pair follow each other.

    NaN where a transient is missing between the first and the last of `index`, shape (T,).
    """
    n_conditions = values.shape[0]
    first, last = (int(index[0]), int(index[-1])) if len(index) else (0, -1)
    result = np.full(((last - first + 1) * n_conditions, *values.shape[2:]), np.nan)
    for e in range(n_conditions):
        result[(np.asarray(index) - first) * n_conditions + e] = values[e]
    return result


def by_condition(sequence: np.ndarray, n_conditions: int) -> np.ndarray:
    """Invert `in_order` for complete sequences (steps, ...): (E, T, ...)."""
    return np.moveaxis(sequence.reshape(-1, n_conditions, *sequence.shape[1:]), 1, 0)


def draw(
    donors: Donors,
    pool: np.ndarray,
    rng: np.random.Generator,
    n_transients: int,
    *,
    scale: float,
    n_points: int,
    dwell_s: float,
    frequency_mhz: float,
) -> np.ndarray:
    """Draw the water of a new subject, complex64 FIDs of shape (E, n_transients, n_points).

    One donor of `pool` (positions in `donors`) lends its shapes and walk; amplitude, phase, place and width of all the
    subject's water are drawn from their distribution between the pool's subjects, smoothed, so that they are not the
    donor's. The share of dry subjects in the pool is that of dry draws.
    """
    n_conditions = donors.level.shape[1]
    donor = int(pool[rng.integers(len(pool))])
    dry = np.zeros((n_conditions, n_transients, n_points), np.complex64)
    if not donors.wet[donor] or n_transients == 0:
        return dry
    wet = pool[donors.wet[pool]]
    level = donors.level[wet].mean(axis=1)
    gain = wander.redraw(rng, level) - donors.level[donor].mean()
    turn = wander.redraw_angle(rng, donors.phase[wet, 0]) - donors.phase[donor, 0]
    moved = wander.redraw(rng, donors.top_ppm[wet]) - donors.top_ppm[donor]
    spread = np.std(np.log(donors.width_ppm[wet]), ddof=1) if wet.size > 1 else 0.0
    wider = np.exp(wander.bandwidth(wet.size) * spread * rng.standard_normal())

    axes, sds = donors.axes[donor], (donors.wander_sd[donor], donors.white_sd[donor])
    steps = wander.simulate(rng, n_conditions * n_transients, donors.memory[donor], *sds).T
    walk = (by_condition(steps, n_conditions) + donors.offset[donor][:, None]) @ axes.T
    size, phase = np.exp(walk[..., 0]), walk[..., 1]
    aside = walk[..., 2 : 2 + N_SHAPES] + 1j * walk[..., 2 + N_SHAPES :]
    points = size[..., None] * donors.direction[donor][:, None] + aside
    mean = np.exp(donors.level[donor] + gain + 1j * (donors.phase[donor] + turn)) * scale * dwell_s
    points = points * (mean[:, None] * np.exp(1j * phase))[..., None]
    exponents = -donors.damping[donor] * wider + 2j * np.pi * (donors.place_ppm[donor] + moved) * frequency_mhz
    lines = donors.shapes[donor] @ np.exp(exponents[:, None] * spectra.time_axis(n_points, dwell_s))
    return (points @ lines).astype(np.complex64)
