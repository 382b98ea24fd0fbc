"""The measured noise of each row of a training set, as the SD of a Gaussian decoder (``train: likelihood: known``).

`spectra.noise_sd` gives the SD of the noise in a FID's real part. A bin of the spectrum is a sum over all points, so
its SD is ``sqrt(n_points)`` times that, and rows of the training set are divided by the subject's scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from mrs_synthesis.stage import InputError

if TYPE_CHECKING:
    from mrs_synthesis.training_set import TrainingSet
    from mrs_synthesis.vae import SpectrumVAE

PAIRS = 40  # transients next to each other that are compared, per unit and edit condition
LEAST_RATIO = 0.85  # of what transients differ by to their stated noise; 0.71 if a unit has half the stated points
NOTED_RATIO = 1.25


def bin_sd(noise_sd: np.ndarray, n_points: np.ndarray | int, scale: np.ndarray | float = 1.0) -> np.ndarray:
    """Return the noise SD of the real (and of the imaginary) part of a spectrum's bin, from that of the FID."""
    return np.asarray(noise_sd) * np.sqrt(n_points) / scale


def row_sd(data: TrainingSet) -> np.ndarray:
    """Return the noise SD of every row's real part, shape (rows,), float32, in units of the rows.

    The number of points is that of the grid, unless the index has a column ``n_points`` of its own (units of different
    rasters in one study).

    Raises
    ------
    InputError
        If a row's noise is not positive.
    """
    n_points = data.index["n_points"] if "n_points" in data.index else data.grid["n_points"]
    result = np.asarray(bin_sd(data.index["noise_sd"], n_points, data.index["scale"]), np.float32)
    wrong = np.flatnonzero(~(np.isfinite(result) & (result > 0)))
    if wrong.size:
        row = data.index.iloc[wrong[0]]
        raise InputError(
            f"{data.folder / 'index.tsv'}: noise_sd {row['noise_sd']} of {row['unit']}, transient {row['transient']}, "
            "expected a positive number; use --model paper --likelihood analytic for data without measured noise"
        )
    return result


def check(data: TrainingSet, sd: np.ndarray) -> dict[str, float]:
    """Compare the stated noise with what neighbouring transients differ by; return that ratio per unit.

    The median over bins and pairs is hardly moved by a few lines that change from one transient to the next. Units
    with one transient per edit condition cannot be checked and are left out.

    Raises
    ------
    InputError
        If transients of a unit differ by less than their noise: it was not measured on these data.
    """
    ratios = {}
    for unit, rows in data.index.groupby("unit", sort=False)["row"]:
        rows = rows.to_numpy()
        same = np.flatnonzero(data.condition[rows[1:]] == data.condition[rows[:-1]])
        if not same.size:
            continue
        chosen = same[np.linspace(0, same.size - 1, min(PAIRS, same.size)).astype(int)]
        first, second = rows[chosen], rows[chosen + 1]
        difference = data.spectra[second] - data.spectra[first]
        squares = np.abs(difference) ** 2 / (sd[first] ** 2 + sd[second] ** 2)[:, None]
        ratio = float(np.sqrt(np.median(squares) / (2 * np.log(2))))  # median of a chi-square with two degrees
        if ratio < LEAST_RATIO:
            raise InputError(
                f"{unit}: transients differ by {ratio:.2f} times their measured noise, expected at least 1 (another "
                "number of points than in grid.json, or smoothed data); use --model paper --likelihood analytic"
            )
        if ratio > NOTED_RATIO:
            print(
                f"{unit}: transients differ by {ratio:.2f} times their measured noise: signals change between them, "
                "or it has more points than grid.json says",
                flush=True,
            )
        ratios[unit] = ratio
    return ratios


def residual_over_noise(model: SpectrumVAE, data: TrainingSet, rows: np.ndarray, size: int = 1024) -> float:
    """Return the root mean square of (row - decoded posterior mean) / noise SD over `rows`.

    1 if the decoder explains all but noise, less if codes hold noise: with k of the 2 W numbers of a spectrum explained
    by chance, a linear model has sqrt(1 - k / 2 W).
    """
    import torch

    sd, squares = row_sd(data), 0.0
    with torch.no_grad():
        for start, (x, condition) in zip(range(0, len(rows), size), data.batches(rows, size), strict=True):
            rest = x - model.decode(model.encode(x, condition)[0], condition)
            scaled = rest / torch.from_numpy(sd[rows[start : start + size]])[:, None, None]
            squares += float(scaled.double().square().sum())
    return float(np.sqrt(squares / (len(rows) * 2 * model.width)))
