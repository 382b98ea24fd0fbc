"""Linear-combination fits of many spectra at once, on FSL-MRS's model, in torch.

All spectra of a call share basis and raster (`mrs_synthesis.lcm_model`). `lcm_start` finds where to begin,
`lcm_solver` minimises, `lcm_problem` holds the model. Everything that decides a result is in double precision.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from mrs_synthesis.lcm_model import Model, scale_fids
from mrs_synthesis.lcm_problem import Problem
from mrs_synthesis.lcm_solver import minimise
from mrs_synthesis.lcm_start import Start

RIDGE = 1e-5  # FSL-MRS adds this to the information matrix
ROUNDING = 1e-14  # keeps the matrix invertible where two basis spectra are equal and the noise is nil
CHUNK = 64  # spectra at once on the CPU
CHUNK_CUDA = 1024


@dataclass
class Result:
    """Fits of `cells` spectra with `n` basis spectra and G groups.

    Attributes
    ----------
    c, gamma, sigma, eps, phi0, phi1
        Parameters in FSL-MRS's units: (cells, n), twice (cells, G), (cells, G) or (cells, n) with free shifts, twice
        (cells,).
    covariance
        Of c, (cells, n, n): ``inv(Re(J^H J) / s2 + 1e-5 I + penalty) / 2`` with s2 the variance of the complex residual
        and J over all parameters, the baseline's coefficients included.
    objective
        What is minimised, for data scaled to norm 100: sum over the window of ``|data - fit|^2``, plus the penalty of a
        spline baseline.
    fid_scale
        ``scaled = fid_scale * FID``; amplitude on the data's scale is ``c * basis_scale / fid_scale``.
    data, fit, baseline
        Spectra over the window, complex (cells, W), of the scaled FIDs.
    converged
        Whether the objective could not be made smaller to speak of; False if the iterations ran out.
    iterations
        Number of steps tried.
    """

    c: np.ndarray
    gamma: np.ndarray
    sigma: np.ndarray
    eps: np.ndarray
    phi0: np.ndarray
    phi1: np.ndarray
    covariance: np.ndarray
    objective: np.ndarray
    fid_scale: np.ndarray
    data: np.ndarray
    fit: np.ndarray
    baseline: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


def _covariance(problem: Problem, residual: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    """Return the covariance of c, (cells, n, n); `residual` is complex, with the baseline taken off.

    The baseline's coefficients are eliminated from the information matrix by their Schur complement.
    """
    variance = (residual - residual.mean(1, keepdim=True)).abs().square().mean(1)
    variance = variance.clamp_min(RIDGE**4)[:, None, None]
    jacobian = problem.jacobian(x)[0][:, problem.free]
    v = problem.slices[2]
    if problem.free[v].all():
        jacobian[:, v] *= 2 * x[:, v, None].clamp_min(0).sqrt()  # d/d sigma
    flat = torch.view_as_real(jacobian).flatten(2)
    information = flat @ flat.transpose(1, 2) / variance
    information.diagonal(dim1=1, dim2=2).add_(RIDGE)
    columns = torch.as_tensor(problem.model.baseline.columns, device=x.device)
    penalty = torch.as_tensor(problem.model.baseline.penalty, device=x.device)
    own = columns.T @ columns / variance + penalty
    own.diagonal(dim1=1, dim2=2).add_(RIDGE)
    shared = jacobian @ columns.to(jacobian.dtype) / variance
    shared = torch.cat([shared.real, shared.imag], 1).transpose(1, 2)  # both parts have coefficients of their own
    half = torch.linalg.solve_triangular(torch.linalg.cholesky(own), shared, upper=False)
    half = torch.cat(half.chunk(2, dim=2), 1)
    information = information - half.transpose(1, 2) @ half
    size = information.diagonal(dim1=1, dim2=2).clamp_min(RIDGE).sqrt()
    scaled = information / size[:, :, None] / size[:, None, :]
    scaled.diagonal(dim1=1, dim2=2).add_(ROUNDING)
    inverse = torch.linalg.inv(scaled) / size[:, :, None] / size[:, None, :]
    return inverse[:, : problem.n, : problem.n] / 2


class Fitter:
    """A model made ready once, for fits of any number of spectra.

    Parameters
    ----------
    model
        From `lcm_model.build`.
    device
        ``"cpu"`` or a CUDA device.
    chunk
        Spectra in memory at once, per thread. None: 64 on the CPU, 1024 otherwise.
    """

    def __init__(self, model: Model, device: str = "cpu", chunk: int | None = None) -> None:
        self.model = model
        self.problem = Problem(model, torch.device(device))
        self.start = Start(self.problem)
        self.chunk = chunk or (CHUNK if self.problem.device.type == "cpu" else CHUNK_CUDA)

    def fit(self, fids: np.ndarray) -> Result:
        """Fit spectra.

        Each is fitted from the best point of a grid of common line shapes, and where there are several groups again
        with the smaller ones (macromolecules) broad; the lower objective is kept.

        Parameters
        ----------
        fids
            Complex, (cells, n_points), in the project's convention, any scale.

        Raises
        ------
        ValueError
            If a FID is zero, NaN or infinite.
        """
        scaled, fid_scale = scale_fids(np.asarray(fids))
        parts = torch.as_tensor(scaled, dtype=torch.complex128).split(self.chunk)
        # The arrays are small: threads inside an operation cost more than they save, so each thread has its own chunks
        threads = torch.get_num_threads()
        if self.problem.device.type == "cpu":
            torch.set_num_threads(1)
        try:
            if self.problem.device.type == "cpu" and min(threads, len(parts)) > 1:
                with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                    answers = list(pool.map(self._fit_chunk, parts))
            else:
                answers = [self._fit_chunk(part) for part in parts]
        finally:
            torch.set_num_threads(threads)
        merged = {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}
        return Result(**merged, fid_scale=fid_scale)

    def _fit_chunk(self, fids: torch.Tensor) -> dict[str, np.ndarray]:
        """Return the fields of `Result` but `fid_scale`."""
        problem = self.problem
        data = problem.window(fids.to(problem.device))
        y = problem.reduced(data)
        x, cost, converged, iterations = minimise(problem, y, self.start.tied(self.start.points(y), y))
        if problem.n_groups > 1:
            x2, cost2, converged2, iterations2 = minimise(problem, y, self.start.broad(x), rival=cost)
            # A tie within rounding goes to the first, so that all devices choose alike
            better = cost2 < cost * (1 - 1e-8)
            x = torch.where(better[:, None], x2, x)
            cost, converged = torch.where(better, cost2, cost), torch.where(better, converged2, converged)
            iterations = iterations + iterations2
        signal = problem.signal(x)
        baseline = problem.smooth(data - signal)
        c, gamma, v, eps, phi0, phi1 = problem.parts(x)
        covariance = [
            _covariance(problem, *part)
            for part in zip(*(a.split(problem.block) for a in (data - signal - baseline, x)), strict=True)
        ]
        back = torch.argsort(problem.order)
        answer = {
            "c": c[:, back],
            "gamma": gamma,
            "sigma": v.sqrt(),
            "eps": eps[:, back] if self.model.options.free_shift else eps,
            "phi0": phi0[:, 0],
            "phi1": phi1[:, 0],
            "covariance": torch.cat(covariance)[:, back][:, :, back],
            "objective": 2 * cost,
            "data": data,
            "fit": signal + baseline,
            "baseline": baseline,
            "converged": converged,
            "iterations": iterations,
        }
        return {name: field.cpu().numpy() for name, field in answer.items()}


def fit(fids: np.ndarray, model: Model, *, device: str = "cpu", chunk: int | None = None) -> Result:
    """Fit spectra once; see `Fitter` for many calls with one model."""
    return Fitter(model, device, chunk).fit(fids)
