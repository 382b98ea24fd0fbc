"""Linear-combination fits of many spectra at once: bounded Levenberg-Marquardt on FSL-MRS's model, in torch.

All spectra of a call share basis and raster (`mrs_synthesis.lcm_model`); each has its own damping and convergence. The
solver's parameters are c, gamma, v = sigma^2, eps, phi0, phi1, b: with v instead of sigma the derivative does not
vanish at the bound, where a fit could otherwise stay for ever. Everything is in double precision.
"""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch

from mrs_synthesis.lcm_model import Model, scale_fids

MAX_ITERATIONS = 200
STALL, STALLED_STEPS = 2e-6, 10  # so many steps in a row with less than this relative decrease end a fit
START_SHIFT_PPM = 0.16  # FSL-MRS's bound on the common shift of its start point
START_SHIFT_STEP_PPM = 0.02
START_WIDTHS = ((3.0, 5.0), (8.0, 12.0), (30.0, 20.0))  # common (gamma, sigma) tried, 1/s
START_PHASES = (0.0, np.pi / 2, np.pi, -np.pi / 2)
PHASE_GAIN = 0.8  # data should come phased: another start phase must make this much of the residual
BROAD_SIGMA = 30.0
RIDGE = 1e-5  # FSL-MRS adds this to the information matrix


@dataclass
class Result:
    """Fits of `cells` spectra with `n` basis spectra and G groups.

    Attributes
    ----------
    c, gamma, sigma, eps, phi0, phi1, b
        Parameters in FSL-MRS's units: (cells, n), three times (cells, G), twice (cells,), (cells, 2 k) with the real
        coefficients of the baseline shapes before the imaginary ones.
    covariance
        Of c, (cells, n, n): ``inv(Re(J^H J) / s2 + 1e-5 I) / 2`` with s2 the variance of the complex residual.
    objective
        Sum over the window of ``|data - fit|^2`` for data scaled to norm 100.
    fid_scale
        ``scaled = fid_scale * FID``; amplitude on the data's scale is ``c * basis_scale / fid_scale``.
    data, fit, baseline
        Spectra over the window, complex (cells, n_window), of the scaled FIDs.
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
    b: np.ndarray
    covariance: np.ndarray
    objective: np.ndarray
    fid_scale: np.ndarray
    data: np.ndarray
    fit: np.ndarray
    baseline: np.ndarray
    converged: np.ndarray
    iterations: np.ndarray


class _Problem:
    """The model on a device: prediction, Jacobian, bounds."""

    def __init__(self, model: Model, device: torch.device) -> None:
        def real(x: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(x), dtype=torch.float64, device=device)

        self.device = device
        self.n, self.n_groups = len(model.names), model.n_groups
        self.m = torch.as_tensor(model.basis, dtype=torch.complex128, device=device)
        self.t, self.nu = real(model.time_s), real(model.nu_hz)
        self.bins = torch.as_tensor(model.bins, device=device)
        self.groups = torch.as_tensor(model.groups, device=device)
        self.membership = torch.nn.functional.one_hot(self.groups, self.n_groups).T.to(torch.complex128)  # (G, n)
        self.shapes = real(model.baseline)
        self.start_shift = START_SHIFT_PPM * 2 * np.pi * model.frequency_mhz
        n, g, k = self.n, self.n_groups, self.shapes.shape[1]
        edges = np.cumsum([0, n, g, g, g, 1, 1, 2 * k])
        self.slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
        self.n_parameters = int(edges[-1])
        self.lower = torch.full((self.n_parameters,), -torch.inf, dtype=torch.float64, device=device)
        self.lower[: n + 2 * g] = 0.0

    def transform(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the window of the spectra; overwrites the first point of `fid`."""
        fid[..., 0] *= 0.5
        return torch.fft.fft(fid, norm="ortho")[..., self.bins]

    def parts(self, x: torch.Tensor) -> list[torch.Tensor]:
        return [x[:, s] for s in self.slices]

    def decay(self, gamma: torch.Tensor, v: torch.Tensor, eps: torch.Tensor) -> torch.Tensor:
        size = torch.exp(-(gamma[..., None] + v[..., None] * self.t) * self.t)
        return torch.polar(size, -eps[..., None] * self.t)  # faster than the complex exponential

    def phase(self, phi0: torch.Tensor, phi1: torch.Tensor) -> torch.Tensor:
        angle = phi0 + phi1 * self.nu
        return torch.polar(torch.ones_like(angle), -angle)

    def smooth(self, b: torch.Tensor) -> torch.Tensor:
        k = self.shapes.shape[1]
        return torch.complex(b[:, :k] @ self.shapes.T, b[:, k:] @ self.shapes.T)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Return the model spectra, (cells, n_window)."""
        c, gamma, v, eps, phi0, phi1, b = self.parts(x)
        mixed = (self.membership * c[:, None, :].to(torch.complex128)) @ self.m  # (cells, G, n_points)
        fid = (self.decay(gamma, v, eps) * mixed).sum(1)
        return self.phase(phi0, phi1) * self.transform(fid) + self.smooth(b)

    def jacobian(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the model spectra and their derivatives, (cells, n_parameters, n_window)."""
        c, gamma, v, eps, phi0, phi1, b = self.parts(x)
        decay, phase = self.decay(gamma, v, eps), self.phase(phi0, phi1)
        mixed = (self.membership * c[:, None, :].to(torch.complex128)) @ self.m * decay
        columns = phase[:, None] * self.transform(self.m * decay[:, self.groups])
        first = phase[:, None] * self.transform(self.t * mixed)
        second = phase[:, None] * self.transform(self.t**2 * mixed)
        signal = torch.einsum("bnw,bn->bw", columns, c.to(torch.complex128))[:, None]
        shapes = self.shapes.T.to(torch.complex128).expand(len(x), -1, -1)
        pieces = [columns, -first, -second, -1j * first, -1j * signal, -1j * self.nu * signal, shapes, 1j * shapes]
        return signal[:, 0] + self.smooth(b), torch.cat(pieces, 1)


def _cost(residual: torch.Tensor) -> torch.Tensor:
    return torch.view_as_real(residual).square().sum((1, 2)) / 2


def bounded_quadratic(h: torch.Tensor, g: torch.Tensor, lower: torch.Tensor) -> torch.Tensor:
    """Minimise ``d' h d / 2 + g' d`` subject to ``d >= lower`` for each of a batch, by block principal pivoting.

    Parameters
    ----------
    h
        Positive definite, (cells, P, P).
    g, lower
        (cells, P); `lower` is at most 0 and may be -inf.

    Notes
    -----
    Judice and Pires, Comput Oper Res 1994: all infeasible variables change sides at once, and one at a time where that
    does not help. Whatever is infeasible after 100 exchanges is clipped, which is still a valid trial step.
    """
    cells, p = g.shape
    active = torch.isfinite(lower) & (lower >= 0) & (g > 0)
    finite_lower = torch.where(torch.isfinite(lower), lower, torch.zeros_like(lower))
    step = torch.zeros_like(g)
    todo = torch.arange(cells, device=g.device)
    fewest = torch.full((cells,), p + 1, device=g.device)
    chances = torch.full((cells,), 3, device=g.device)
    eye = torch.eye(p, dtype=g.dtype, device=g.device)
    for _ in range(100):
        fixed, bound = active[todo], finite_lower[todo]
        free = (~fixed).to(g.dtype)
        at_bound = torch.where(fixed, bound, torch.zeros_like(bound))
        matrix = h[todo] * free[:, :, None] * free[:, None, :] + torch.diag_embed(1 - free) * eye
        right = torch.where(fixed, bound, -g[todo] - (h[todo] @ at_bound[..., None])[..., 0])
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed.any():
            factor[failed > 0] = eye
        d = torch.cholesky_solve(right[..., None], factor)[..., 0]
        multiplier = (h[todo] @ d[..., None])[..., 0] + g[todo]
        step[todo] = torch.maximum(d, lower[todo])
        wrong = torch.where(fixed, multiplier < -1e-12, d < bound - 1e-12) & torch.isfinite(lower[todo])
        count = wrong.sum(1)
        better = count < fewest[todo]
        fewest[todo] = torch.where(better, count, fewest[todo])
        chances[todo] = torch.where(better, 3, chances[todo] - 1)
        single = ~better & (chances[todo] < 0)
        last = p - 1 - wrong.flip(1).to(torch.int8).argmax(1)
        only_last = torch.nn.functional.one_hot(last, p).bool()
        active[todo] = fixed ^ torch.where(single[:, None], only_last & wrong, wrong)
        todo = todo[count > 0]
        if todo.numel() == 0:
            break
    return step


def _start(problem: _Problem, y: torch.Tensor) -> torch.Tensor:
    """Return the start point, (cells, P): the best linear fit on a grid of common line shapes, shifts and phases."""
    cells, n, g = len(y), problem.n, problem.n_groups
    count = int(np.ceil(START_SHIFT_PPM / START_SHIFT_STEP_PPM))
    shifts = np.linspace(-1, 1, 2 * count + 1) * problem.start_shift
    shapes = problem.shapes.T.to(torch.complex128)
    one = torch.ones((1,), dtype=problem.t.dtype, device=y.device)
    lower = torch.cat([problem.lower[:n], problem.lower[n + 3 * g + 2 :]]).expand(cells, -1)
    turned = [y * complex(np.cos(phase), np.sin(phase)) for phase in START_PHASES]
    right_sides = [torch.cat([z.real, z.imag], 1) for z in turned]
    best = torch.inf * torch.ones_like(right_sides[0][:, 0])
    x = torch.zeros((cells, problem.n_parameters), dtype=one.dtype, device=y.device)
    for gamma, sigma in START_WIDTHS:
        for shift in shifts:
            columns = problem.transform(problem.m * problem.decay(gamma * one, sigma**2 * one, shift * one))
            columns = torch.cat([columns, shapes, 1j * shapes])
            design = torch.cat([columns.real, columns.imag], 1)  # (n + 2k, 2 W)
            gram = design @ design.T
            size = gram.diagonal().clamp_min(torch.finfo(one.dtype).tiny).sqrt()
            scaled = gram / size / size[:, None] + 1e-10 * torch.diag(torch.ones_like(size))
            for phase, right_side in zip(START_PHASES, right_sides, strict=True):
                rhs = right_side @ design.T
                weights = bounded_quadratic(scaled.expand(cells, -1, -1), -rhs / size, lower) / size
                cost = (weights @ design - right_side).square().sum(1)
                cost = cost if phase == 0 else cost / PHASE_GAIN
                trial = torch.zeros_like(x)
                trial[:, :n], trial[:, n + 3 * g] = weights[:, :n], phase
                trial[:, n : n + g], trial[:, n + g : n + 2 * g] = gamma, sigma**2
                trial[:, n + 2 * g : n + 3 * g] = shift
                if phase == 0:  # the baseline is not phased in the model: elsewhere it starts at zero
                    trial[:, n + 3 * g + 2 :] = weights[:, n:]
                x = torch.where((cost < best)[:, None], trial, x)
                best = torch.minimum(cost, best)
    return x


def _second_start(problem: _Problem, x: torch.Tensor) -> torch.Tensor | None:
    """Return the start point with the smaller groups (macromolecules) broad and Gaussian; None if there is one group.

    A broad resonance fits nearly as well with a Lorentzian as with a Gaussian: the few local minima met were of that
    kind.
    """
    if problem.n_groups == 1:
        return None
    small = torch.bincount(problem.groups, minlength=problem.n_groups)
    small = small < small.max()
    gamma, v = problem.slices[1], problem.slices[2]
    x = x.clone()
    x[:, gamma] = torch.where(small, torch.zeros_like(x[:, gamma]), x[:, gamma])
    x[:, v] = torch.where(small, torch.full_like(x[:, v], BROAD_SIGMA**2), x[:, v])
    return x


def _minimise(
    problem: _Problem, y: torch.Tensor, x: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return parameters, cost (half the objective), convergence and iterations of each cell."""
    cells, p = x.shape
    x = x.clone()
    cost = _cost(problem.predict(x) - y)
    floor = 1e-24 * _cost(y)
    damping = torch.full_like(cost, 1e-3)
    converged = torch.zeros(cells, dtype=torch.bool, device=x.device)
    iterations = torch.zeros(cells, dtype=torch.long, device=x.device)
    idle = torch.zeros(cells, dtype=torch.long, device=x.device)
    h = torch.zeros((cells, p, p), dtype=x.dtype, device=x.device)
    g = torch.zeros_like(x)
    size = torch.ones_like(x)
    todo, fresh = torch.arange(cells, device=x.device), torch.arange(cells, device=x.device)
    eye = torch.eye(p, dtype=x.dtype, device=x.device)
    for _ in range(MAX_ITERATIONS):
        if fresh.numel():
            predicted, jacobian = problem.jacobian(x[fresh])
            columns = torch.view_as_real(jacobian).flatten(2)
            residual = torch.view_as_real(predicted - y[fresh]).flatten(1)
            gram = columns @ columns.transpose(1, 2)
            norm = gram.diagonal(dim1=1, dim2=2).sqrt()
            # A group whose concentrations are all zero has no line shape: such parameters stay where they are
            norm = torch.where(norm > 1e-12 * norm.amax(1, keepdim=True), norm, torch.ones_like(norm) * torch.inf)
            size[fresh] = norm
            h[fresh] = gram / norm[:, :, None] / norm[:, None, :]
            g[fresh] = (columns @ residual[..., None])[..., 0] / norm
        matrix = h[todo] + damping[todo, None, None] * eye
        room = torch.where(torch.isinf(size[todo]), torch.zeros_like(size[todo]), size[todo])
        lower = torch.where(torch.isinf(problem.lower), -torch.inf, (problem.lower - x[todo]) * room)
        scaled = bounded_quadratic(matrix, g[todo], lower)
        decrease = -(g[todo] * scaled).sum(1) - (scaled * (h[todo] @ scaled[..., None])[..., 0]).sum(1) / 2
        trial = torch.maximum(x[todo] + scaled / size[todo], problem.lower)
        new = _cost(problem.predict(trial) - y[todo])
        gain = (cost[todo] - new) / decrease.clamp_min(1e-300)
        accepted = (new < cost[todo]) & torch.isfinite(new)
        relative = torch.where(accepted, cost[todo] - new, torch.zeros_like(new)) / cost[todo].clamp_min(1e-300)
        expected = decrease / cost[todo].clamp_min(1e-300)
        # Nothing left to gain, as a step that is hardly damped predicts
        finished = (expected < 1e-9) & (relative < 1e-9) & (damping[todo] <= 1e-3)
        # A width or shift that the data do not determine drifts on and on: far below what noise does to the objective
        idle[todo] = torch.where(relative < STALL, idle[todo] + 1, torch.zeros_like(idle[todo]))
        finished |= (idle[todo] >= STALLED_STEPS) | (torch.minimum(cost[todo], new) < floor[todo])
        x[todo] = torch.where(accepted[:, None], trial, x[todo])
        cost[todo] = torch.where(accepted, new, cost[todo])
        factor = torch.where(gain > 0.75, 0.2, torch.where(gain > 0.25, 1.0, 4.0))
        damping[todo] = (damping[todo] * factor).clamp(1e-10, 1e12)
        converged[todo] = finished
        iterations[todo] += 1
        fresh = todo[accepted & ~finished]
        todo = todo[~finished]
        if todo.numel() == 0:
            break
    return x, cost, converged, iterations


def _covariance(problem: _Problem, y: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    predicted, jacobian = problem.jacobian(x)
    v = problem.slices[2]
    jacobian[:, v] *= 2 * x[:, v, None].clamp_min(0).sqrt()  # d/d sigma
    columns = torch.view_as_real(jacobian).flatten(2)
    residual = y - predicted
    variance = (residual - residual.mean(1, keepdim=True)).abs().square().mean(1)
    variance = variance.clamp_min(torch.finfo(x.dtype).tiny)
    information = columns @ columns.transpose(1, 2) / variance[:, None, None]
    information = information + RIDGE * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    size = information.diagonal(dim1=1, dim2=2).sqrt()
    scaled = information / size[:, :, None] / size[:, None, :]
    inverse = torch.linalg.inv(scaled) / size[:, :, None] / size[:, None, :]
    return inverse[:, : problem.n, : problem.n] / 2


def fit(fids: np.ndarray, model: Model, *, device: str = "cpu", chunk: int | None = None) -> Result:
    """Fit spectra.

    Each is fitted from the best point of a grid of common line shapes, and where there are several groups from a second
    point with broad macromolecules; the lower objective is kept.

    Parameters
    ----------
    fids
        Complex, (cells, n_points), in the project's convention, any scale.
    model
        From `lcm_model.build`.
    device
        ``"cpu"`` or a CUDA device.
    chunk
        Spectra in memory at once. None: 32 on the CPU, 512 otherwise.

    Raises
    ------
    ValueError
        If a FID is zero, NaN or infinite.
    """
    scaled, fid_scale = scale_fids(np.asarray(fids))
    problem = _Problem(model, torch.device(device))
    on_cpu = problem.device.type == "cpu"
    chunk = chunk or (32 if on_cpu else 512)
    y = torch.as_tensor(scaled, dtype=torch.complex128, device=problem.device)
    y = torch.cat([problem.transform(part.clone()) for part in y.split(chunk)])
    # The arrays are small: threads inside an operation cost more than they save, so each thread takes chunks of its own
    threads = torch.get_num_threads()
    if on_cpu:
        torch.set_num_threads(1)
    try:
        chunks = zip(y.split(chunk), _start(problem, y).split(chunk), strict=True)
        if on_cpu and threads > 1 and len(y) > chunk:
            with ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,)) as pool:
                parts = list(pool.map(lambda part: _fit_chunk(problem, *part), chunks))
        else:
            parts = [_fit_chunk(problem, *part) for part in chunks]
    finally:
        torch.set_num_threads(threads)
    merged = [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
    return Result(*merged[:9], fid_scale, *merged[9:])


def _fit_chunk(problem: _Problem, y: torch.Tensor, first: torch.Tensor) -> list[np.ndarray]:
    """Fit spectra in the window from the start point `first`; return the fields of `Result` but `fid_scale`."""
    x, cost, converged, iterations = _minimise(problem, y, first)
    second = _second_start(problem, first)
    if second is not None:
        x2, cost2, converged2, iterations2 = _minimise(problem, y, second)
        # A tie within rounding goes to the first, so that all devices choose alike
        better = cost2 < cost * (1 - 1e-8)
        x = torch.where(better[:, None], x2, x)
        cost, converged = torch.where(better, cost2, cost), torch.where(better, converged2, converged)
        iterations = iterations + iterations2
    c, gamma, v, eps, phi0, phi1, b = problem.parts(x)
    covariance = _covariance(problem, y, x)
    fields = [c, gamma, v.sqrt(), eps, phi0[:, 0], phi1[:, 0], b, covariance, 2 * cost]
    fields += [y, problem.predict(x), problem.smooth(b), converged, iterations]
    return [field.cpu().numpy() for field in fields]
