"""Bounded Levenberg-Marquardt for a batch of spectra, each with its own damping and convergence."""

from __future__ import annotations

import torch

from mrs_synthesis.lcm_problem import Problem

MAX_ITERATIONS = 200
NEAR = 0.02  # a step that gains less than this part of the objective is followed by one with the full Hessian
HOPE, MERGED = 10.0, 1e-6  # steps like the last one that may still be hoped for; relative distance that counts as none
SMALLEST_DAMPING = 1e-7  # the precision of the normal equations
STALL, STALLED_STEPS = 2e-6, 10  # so many steps in a row with less than this relative decrease end a fit


def half_square(residual: torch.Tensor) -> torch.Tensor:
    """Return half the sum of squares of each row of complex numbers."""
    return torch.view_as_real(residual).square().sum((-2, -1)) / 2


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
    p = g.shape[1]
    bounded = torch.isfinite(lower)
    bound = torch.where(bounded, lower, torch.zeros_like(lower))
    active = bounded & (lower >= 0) & (g > 0)
    step = torch.zeros_like(g)
    todo = torch.arange(len(g), device=g.device)
    fewest = torch.full((len(g),), p + 1, device=g.device)
    chances = torch.full((len(g),), 3, device=g.device)
    eye = torch.eye(p, dtype=g.dtype, device=g.device)
    for _ in range(100):
        free = (~active).to(g.dtype)
        at_bound = torch.where(active, bound, torch.zeros_like(bound))
        matrix = h * free[:, :, None] * free[:, None, :]
        matrix.diagonal(dim1=1, dim2=2).add_(1 - free)
        right = torch.where(active, bound, -g - (h @ at_bound[..., None])[..., 0])
        factor, failed = torch.linalg.cholesky_ex(matrix)
        if failed.any():
            factor[failed > 0] = eye
        d = torch.cholesky_solve(right[..., None], factor)[..., 0]
        multiplier = (h @ d[..., None])[..., 0] + g
        wrong = torch.where(active, multiplier < -1e-12, d < bound - 1e-12) & bounded
        count = wrong.sum(1)
        step[todo] = torch.where(bounded, torch.maximum(d, bound), d)
        better = count < fewest
        fewest = torch.where(better, count, fewest)
        chances = torch.where(better, torch.full_like(chances, 3), chances - 1)
        single = ~better & (chances < 0)
        last = p - 1 - wrong.flip(1).to(torch.int8).argmax(1)
        only_last = torch.nn.functional.one_hot(last, p).bool()
        active = active ^ torch.where(single[:, None], only_last & wrong, wrong)
        open_ = count > 0
        if not open_.any():
            break
        if not open_.all():
            todo, active, fewest, chances = todo[open_], active[open_], fewest[open_], chances[open_]
            h, g, bound, bounded = h[open_], g[open_], bound[open_], bounded[open_]
    return step


def minimise(
    problem: Problem,
    y: torch.Tensor,
    x: torch.Tensor,
    max_iterations: int = MAX_ITERATIONS,
    rival: torch.Tensor | None = None,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return parameters, cost (half the objective), convergence and number of iterations of each cell.

    Parameters
    ----------
    y
        Reduced data, complex (cells, W).
    x
        Start point, (cells, P).
    max_iterations
        Steps tried.
    rival
        Costs of another fit, (cells,): a fit that will end where that did, or above, is given up.
    """
    x = x.clone()
    residual = problem.predict(x) - y
    cost = half_square(residual)
    floor = 1e-24 * half_square(y)
    damping = torch.full_like(cost, 1e-3)
    converged = torch.zeros(len(x), dtype=torch.bool, device=x.device)
    iterations = torch.zeros(len(x), dtype=torch.long, device=x.device)
    idle, progress = torch.zeros_like(iterations), torch.ones_like(cost)
    h = x.new_zeros((len(x), x.shape[1], x.shape[1]))
    bend = torch.zeros_like(h)
    g, size = torch.zeros_like(x), torch.ones_like(x)
    todo = fresh = torch.arange(len(x), device=x.device)
    for _ in range(max_iterations):
        near = progress[fresh] < NEAR
        for curved, cells in ((False, fresh[~near]), (True, fresh[near])):
            if not cells.numel():
                continue
            gram, gradient = problem.normal_equations(x[cells], residual[cells], curved)
            gram, curvature = gram.unbind(1) if curved else (gram, torch.zeros_like(gram))
            norm = gram.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
            # A group whose concentrations are all zero has no line shape: such parameters stay where they are
            known = (norm > 1e-12 * norm.amax(1, keepdim=True)) & problem.free
            norm = torch.where(known, norm, torch.full_like(norm, torch.inf))
            size[cells] = norm
            h[cells] = gram / norm[:, :, None] / norm[:, None, :]
            bend[cells] = curvature / norm[:, :, None] / norm[:, None, :]
            g[cells] = gradient / norm
        x0, h0, g0, size0, cost0, damping0 = (array[todo] for array in (x, h, g, size, cost, damping))
        room = torch.where(torch.isinf(size0), torch.zeros_like(size0), size0)
        lower = torch.where(torch.isinf(problem.lower), -torch.inf, (problem.lower - x0) * room)
        # Newton's matrix where it is positive definite, else Gauss and Newton's; what stays at its bound does not bend
        moving = (~((x0 <= problem.lower) & (g0 > 0))).to(x.dtype)
        newton = h0 + bend[todo] * moving[:, :, None] * moving[:, None, :]
        matrix = newton.clone()
        matrix.diagonal(dim1=1, dim2=2).add_(damping0[:, None])
        definite = (torch.linalg.cholesky_ex(matrix)[1] == 0)[:, None, None]
        h0 = torch.where(definite, newton, h0)
        matrix = h0.clone()
        matrix.diagonal(dim1=1, dim2=2).add_(damping0[:, None])
        scaled = bounded_quadratic(matrix, g0, lower)
        decrease = -(g0 * scaled).sum(1) - (scaled * (h0 @ scaled[..., None])[..., 0]).sum(1) / 2
        trial = torch.maximum(x0 + scaled / size0, problem.lower)
        misfit = problem.predict(trial) - y[todo]
        new = half_square(misfit)
        gain = (cost0 - new) / decrease.clamp_min(1e-300)
        accepted = (new < cost0) & torch.isfinite(new)
        relative = torch.where(accepted, cost0 - new, torch.zeros_like(new)) / cost0.clamp_min(1e-300)
        expected = decrease / cost0.clamp_min(1e-300)
        # Nothing left to gain, as a step that is hardly damped predicts
        finished = (expected < 1e-9) & (relative < 1e-9) & (damping0 <= 1e-3)
        # A width or shift that the data do not determine drifts on and on: far below what noise does to the objective
        idle[todo] = torch.where(relative < STALL, idle[todo] + 1, torch.zeros_like(idle[todo]))
        finished |= (idle[todo] >= STALLED_STEPS) | (torch.minimum(cost0, new) < floor[todo])
        if rival is not None:
            ahead = new - rival[todo]
            hopeless = (ahead > HOPE * (cost0 - new)) | (ahead < MERGED * new)
            finished |= accepted & (ahead > -MERGED * new) & hopeless & (damping0 < 1)
        x[todo] = torch.where(accepted[:, None], trial, x0)
        cost[todo] = torch.where(accepted, new, cost0)
        residual[todo[accepted]] = misfit[accepted]
        progress[todo] = relative
        factor = torch.where(gain > 0.75, 0.2, torch.where(gain > 0.25, 1.0, 4.0))
        damping[todo] = (damping0 * factor).clamp(SMALLEST_DAMPING, 1e12)
        converged[todo] = finished
        iterations[todo] += 1
        fresh = todo[accepted & ~finished]
        todo = todo[~finished]
        if todo.numel() == 0:
            break
    return x, cost, converged, iterations
