"""Start points of the fit: the best linear fit on a grid of common line shapes, shifts and phases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from mrs_synthesis.lcm_problem import Problem
from mrs_synthesis.lcm_solver import bounded_quadratic, half_square, minimise

SHIFT_PPM = 0.24  # beyond FSL-MRS's bound of 0.16 ppm on its start point
SHIFT_STEP_PPM = 0.02
WIDTHS = ((3.0, 5.0), (8.0, 12.0), (30.0, 20.0))  # common (gamma, sigma) tried, 1/s
PHASES = (0.0, np.pi / 2, np.pi, -np.pi / 2)
PHASE_GAIN = 0.8  # data should come phased: another start phase must make this much of the residual
RIDGE = 1e-10
BROAD_SIGMA = 80.0  # 1/s, a width of 42 Hz: from 10 to 120, what left the fewest local minima
TIED_STEPS = 3
FWHM_PER_SIGMA = 0.53  # of exp(-sigma^2 t^2), in Hz


class Start:
    """The grid's basis spectra, prepared once per model."""

    def __init__(self, problem: Problem) -> None:
        self.problem, self.common = problem, None
        if problem.model.n_shifts > 1:
            one = replace(problem.model.options, free_shift=False)
            model = replace(problem.model, groups=np.zeros_like(problem.model.groups), options=one)
            self.common = Problem(model, problem.device)
        count = round(SHIFT_PPM / SHIFT_STEP_PPM)
        step = SHIFT_STEP_PPM * 2 * np.pi * problem.model.frequency_mhz
        voigt = problem.model.options.line_shape == "voigt"
        grid = [(g, s**2 * voigt, k * step) for g, s in WIDTHS for k in range(-count, count + 1)]
        self.grid = torch.tensor(grid, dtype=torch.float64, device=problem.device)
        columns, bases, grams = [], [], []
        for gamma, v, eps in self.grid:
            decay = problem.turn(eps) * torch.exp(-(gamma + v * problem.t) * problem.t)
            spectra = problem.transform(problem.m * decay)
            spectra = problem.reduced(spectra)
            columns.append(spectra)
            bases.append(torch.linalg.qr(spectra.T)[0].T)
            grams.append((spectra.conj() @ spectra.T).real)
        self.columns, self.gram = torch.stack(columns), torch.stack(grams)
        self.orthonormal = torch.cat(bases).conj().to(torch.complex64)
        self.size = self.gram.diagonal(dim1=1, dim2=2).clamp_min(torch.finfo(torch.float64).tiny).sqrt()

    def shortlist(self, y: torch.Tensor) -> torch.Tensor:
        """Return the two grid points to begin at, (cells, 2).

        The one whose basis spectra, with complex amplitudes, explain most of a spectrum; and the best without shift.

        Parameters
        ----------
        y
            Reduced data, complex (cells, W).
        """
        explained = (y.to(torch.complex64) @ self.orthonormal.T).abs().square()
        explained = explained.unflatten(-1, (len(self.grid), self.problem.n)).sum(-1)
        unshifted = torch.where(self.grid[:, 2] == 0, explained, torch.full_like(explained, -1.0))
        return torch.stack([explained.argmax(1), unshifted.argmax(1)], 1)

    def points(self, y: torch.Tensor) -> torch.Tensor:
        """Return the start point of reduced data, complex (cells, W), as (cells, P)."""
        problem, n, g = self.problem, self.problem.n, self.problem.n_groups
        energy = 2 * half_square(y)
        best = torch.full_like(energy, torch.inf)
        x = energy.new_zeros((len(y), problem.n_parameters))
        first, second = self.shortlist(y).T
        for index, phase in [*((first, phase) for phase in PHASES), (second, 0.0)]:
            size = self.size[index]
            gram = self.gram[index] / size[:, :, None] / size[:, None, :]
            gram.diagonal(dim1=1, dim2=2).add_(RIDGE)
            product = (self.columns[index].conj() @ y[..., None])[..., 0] * complex(np.cos(phase), np.sin(phase))
            right = product.real / size
            weights = bounded_quadratic(gram, -right, torch.zeros_like(right))
            cost = energy - (weights * (2 * right - (gram @ weights[..., None])[..., 0])).sum(1)
            cost = cost if phase == 0 else cost / PHASE_GAIN
            trial = torch.zeros_like(x)
            trial[:, :n], trial[:, problem.slices[4]] = weights / size, phase
            gamma, v, eps = self.grid[index].T[..., None]
            trial[:, n : n + g], trial[:, n + g : n + 2 * g], trial[:, problem.slices[3]] = gamma, v, eps
            x = torch.where((cost < best)[:, None], trial, x)
            best = torch.minimum(cost, best)
        return x

    def tied(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """Return start points improved by a few steps in which all groups keep one common line shape and shift."""
        problem, common, g = self.problem, self.common, self.problem.n_groups
        if common is None:
            return x
        c, gamma, v, eps, phi0, phi1 = problem.parts(x)
        back = torch.argsort(problem.order)
        start = torch.cat([c[:, back], gamma[:, :1], v[:, :1], eps[:, :1], phi0, phi1], 1)
        c, gamma, v, eps, phi0, phi1 = common.parts(minimise(common, y, start, TIED_STEPS)[0])
        shifts = eps.expand(-1, problem.model.n_shifts)
        return torch.cat([c[:, problem.order], gamma.expand(-1, g), v.expand(-1, g), shifts, phi0, phi1], 1)

    def broad(self, x: torch.Tensor) -> torch.Tensor:
        """Return start points with the smaller groups (macromolecules) broad and unshifted.

        A broad resonance fits nearly as well with a Lorentzian as with a Gaussian, and may slip under its neighbours:
        started again from here, a fit leaves many of its local minima.
        """
        problem = self.problem
        small = torch.bincount(problem.groups, minlength=problem.n_groups)
        small = small < small.max()
        if problem.model.options.line_shape == "lorentzian":
            shape = (FWHM_PER_SIGMA * np.pi * BROAD_SIGMA, 0.0, 0.0)
        else:
            shape = (0.0, BROAD_SIGMA**2, 0.0)
        x = x.clone()
        for part, value in zip(problem.parts(x)[1:4], shape, strict=True):
            part[:, small[problem.groups] if part.shape[1] > problem.n_groups else small] = value
        return x
