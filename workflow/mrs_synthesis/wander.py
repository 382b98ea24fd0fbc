"""Tracks that drift, wander and jitter: their parameters by restricted maximum likelihood, and new tracks.

A track is a regression (offset, drift, ...) plus a stationary first-order autoregressive process, which is an
Ornstein-Uhlenbeck process sampled at every step, plus white noise; any value may be missing. Drift and wander hardly
differ in a short track, and taking a fitted drift away takes some of the wander with it. The restricted
likelihood (Patterson and Thompson, Biometrika 1971) allows for that. It is computed by a Kalman filter that treats the
columns of the regression as it treats the track (de Jong, Ann Stat 1991), for many tracks and parameters at once.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

SHARES = np.array([0.0, 0.01, 0.03, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.97, 1.0])
N_MEMORIES = 14
SHORTEST = 0.5  # steps
ROUNDS = 3  # of the grid, each about the best of the one before
NEIGHBOURS = 9  # values in a running median
OUTLYING = 5.0  # robust SDs


@dataclass(frozen=True)
class Wander:
    """What was found in S tracks.

    Attributes
    ----------
    memory
        Steps after which the autoregressive part has forgotten all but 1/e, common to the tracks.
    share
        Share of white noise in the variance about the regression, common to the tracks.
    sd
        Square root of this variance, shape (S,).
    coefficients, errors
        Of the regression and their standard errors, shape (S, columns).
    """

    memory: float
    share: float
    sd: np.ndarray
    coefficients: np.ndarray
    errors: np.ndarray


def fit(values: np.ndarray, design: np.ndarray, longest: float | None = None) -> Wander:
    """Find the parameters of tracks by restricted maximum likelihood.

    Parameters
    ----------
    values
        Shape (S, steps); NaN where there is no value. Every track needs more values than `design` has columns.
    design
        Columns of the regression, shape (steps, columns), or (S, steps, columns).
    longest
        Longest memory, in steps; by default the tracks' length. Of one short track the SD of a wander whose memory is
        as long as the track is hardly known.

    Returns
    -------
    Wander
        Memory and share of white noise are those under which all tracks together are likeliest, each with its own SD
        and regression.
    """
    seen = np.isfinite(values)
    columns = np.broadcast_to(design, (*values.shape, design.shape[-1]))
    data = np.where(seen[..., None], np.concatenate([columns, np.nan_to_num(values)[..., None]], axis=-1), 0.0)
    memories = np.geomspace(SHORTEST, max(longest or values.shape[1], 2 * SHORTEST), N_MEMORIES)
    shares = SHARES
    for _ in range(ROUNDS):
        grid = np.stack(np.meshgrid(memories, shares, indexing="ij"), axis=-1).reshape(-1, 2)
        likelihood, *_ = _likelihood(data, seen, grid)
        memory, share = grid[int(np.argmax(likelihood))]
        memories, shares = _about(memories, memory, np.log), _about(shares, share, np.asarray)
    _, sd, coefficients, errors = _likelihood(data, seen, np.array([[memory, share]]))
    return Wander(float(memory), float(share), sd[0], coefficients[0], errors[0])


def _about(grid: np.ndarray, best: float, scale: np.ufunc) -> np.ndarray:
    """Return a finer grid between the neighbours of its best value, even on a scale."""
    place = int(np.argmin(np.abs(grid - best)))
    ends = scale(grid[[max(place - 1, 0), min(place + 1, grid.size - 1)]])
    fine = np.linspace(*ends, 9)
    return np.exp(fine) if scale is np.log else fine


def _likelihood(
    data: np.ndarray, seen: np.ndarray, grid: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return the restricted log likelihood (G,), and by G: SDs (S,), coefficients and their errors (S, columns).

    `data` has shape (S, steps, columns + 1), the track last; `grid` pairs of memory and share.
    """
    keep = np.exp(-1.0 / grid[:, 0])[:, None]
    white = grid[:, 1][:, None]
    n_tracks, n_steps, width = data.shape
    mean = np.zeros((len(grid), n_tracks, width))
    variance = np.broadcast_to(1.0 - white, (len(grid), n_tracks)).copy()
    products = np.zeros((len(grid), n_tracks, width, width))
    log_variance = np.zeros((len(grid), n_tracks))
    for step in range(n_steps):
        there = seen[:, step]
        total = np.maximum(variance + white, 1e-12)
        new = np.where(there[:, None], data[:, step] - mean, 0.0)
        scaled = new / total[..., None]
        products += new[..., :, None] * scaled[..., None, :]
        log_variance += np.where(there, np.log(total), 0.0)
        gain = np.where(there, variance / total, 0.0)
        mean = keep[..., None] * (mean + gain[..., None] * new)
        variance = keep**2 * variance * (1.0 - gain) + (1.0 - keep**2) * (1.0 - white)
    normal, right, squares = products[..., :-1, :-1], products[..., :-1, -1], products[..., -1, -1]
    inverse = np.linalg.pinv(normal, hermitian=True)
    coefficients = np.einsum("gsij,gsj->gsi", inverse, right)
    freedom = np.maximum(seen.sum(axis=1) - (width - 1), 1)
    residual = np.maximum(squares - np.einsum("gsi,gsi->gs", coefficients, right), 0.0)
    sigma = np.sqrt(residual / freedom)
    floor = 1e-9 * np.maximum(np.sqrt(squares / np.maximum(seen.sum(axis=1), 1)), 1e-300)  # a track that never varies
    _, determinant = np.linalg.slogdet(normal + 1e-12 * np.eye(width - 1))
    log_likelihood = -0.5 * (log_variance + determinant) - freedom * np.log(np.maximum(sigma, floor))
    errors = sigma[..., None] * np.sqrt(np.maximum(np.einsum("gsii->gsi", inverse), 0.0))
    return log_likelihood.sum(axis=1), sigma, coefficients, errors


def simulate(
    rng: np.random.Generator, n_steps: int, memory: np.ndarray | float, wander_sd: np.ndarray, white_sd: np.ndarray
) -> np.ndarray:
    """Return new tracks without their regression, shape (tracks, n_steps), given SDs and memory of shape (tracks,)."""
    wander_sd, white_sd = np.asarray(wander_sd, float), np.asarray(white_sd, float)
    keep = np.exp(-1.0 / np.asarray(memory, float))
    steps = rng.standard_normal((wander_sd.size, n_steps))
    for i in range(1, n_steps):
        steps[:, i] = keep * steps[:, i - 1] + np.sqrt(1 - keep**2) * steps[:, i]
    return wander_sd[:, None] * steps + white_sd[:, None] * rng.standard_normal((white_sd.size, n_steps))


def without_outliers(track: np.ndarray) -> np.ndarray:
    """Return a track, shape (steps,), with NaN where it lies far from the running median of its neighbours."""
    present = np.flatnonzero(np.isfinite(track))
    if present.size < NEIGHBOURS:
        return track
    values = track[present]
    distance = values - running_median(values)
    limit = OUTLYING * 1.4826 * np.median(np.abs(distance))
    cleaned = track.copy()
    cleaned[present[np.abs(distance) > limit]] = np.nan
    return cleaned


def running_median(values: np.ndarray) -> np.ndarray:
    """Return the running median of values along the first axis; at the ends the nearest whole window counts."""
    windows = np.lib.stride_tricks.sliding_window_view(values, NEIGHBOURS, axis=0)
    middle = np.median(windows, axis=-1)
    half = NEIGHBOURS // 2
    return middle[np.clip(np.arange(len(values)) - half, 0, len(middle) - 1)]


def unwrapped(angles: np.ndarray) -> np.ndarray:
    """Return angles, shape (steps,) with NaN, unwrapped about their running direction, so that one jump stays one."""
    present = np.flatnonzero(np.isfinite(angles))
    if present.size == 0:
        return angles
    turns = np.exp(1j * angles[present])
    if present.size >= NEIGHBOURS:
        turns = running_median(turns.real) + 1j * running_median(turns.imag)
    direction = np.unwrap(np.angle(turns))
    result = angles.copy()
    result[present] = direction + np.angle(np.exp(1j * (angles[present] - direction)))
    return result - 2 * np.pi * np.round(np.mean(direction) / (2 * np.pi))


def redraw(rng: np.random.Generator, values: np.ndarray, errors: np.ndarray | float = 0.0) -> float:
    """Draw from the distribution that subjects' values, shape (S,), come from: a smoothed bootstrap.

    One value plus a Gaussian kernel of Silverman's width, drawn together to the values' own variance, less what their
    standard errors account for (Silverman, Density Estimation, 1986, section 6.4). With one subject: its value.
    """
    pick = values[rng.integers(values.size)]
    kernel = rng.standard_normal()
    if values.size < 2:
        return float(pick)
    mean, sd = values.mean(), values.std(ddof=1)
    if sd == 0:
        return float(mean)
    width = bandwidth(values.size)
    keep = np.sqrt(max(1.0 - float(np.mean(np.square(errors))) / sd**2, 0.0))
    return float(mean + keep * (pick - mean + width * sd * kernel) / np.hypot(1.0, width))


def redraw_angle(rng: np.random.Generator, angles: np.ndarray) -> float:
    """Draw an angle as `redraw` draws a value, on the circle: the kernel is a wrapped Gaussian."""
    pick = angles[rng.integers(angles.size)]
    kernel = rng.standard_normal()
    if angles.size < 2:
        return float(pick)
    mean = np.exp(1j * angles).mean()
    sd = np.sqrt(-2 * np.log(np.clip(np.abs(mean), 1e-6, 1.0)))
    return float(np.angle(np.exp(1j * (pick + bandwidth(angles.size) * sd * kernel))))


def bandwidth(n: int) -> float:
    """Return the width of Silverman's Gaussian kernel for n values, in their SDs."""
    return 1.06 * n**-0.2
