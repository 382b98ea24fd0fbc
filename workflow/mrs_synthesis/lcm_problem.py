"""The linear-combination model on a device: predictions and derivatives for many spectra at once.

Parameters of one spectrum, in this order: c (n), gamma (G), v = sigma^2 (G), eps (G, or n with free shifts), phi0,
phi1. With v instead of sigma the derivative does not vanish at the bound, where a fit could stay for ever. The
baseline is no parameter (see `lcm_baseline`): spectra are `reduced`, that is multiplied by the square root of what the
baseline cannot explain. What decides a result is in double precision; derivatives, which only point the way, in single.
"""

from __future__ import annotations

import itertools

import numpy as np
import torch

from mrs_synthesis.lcm_model import Model

TURN_BLOCK = 64  # exp(i a t) is the outer product of coarse and fine steps: sine and cosine cost more than products
BLOCK_POINTS = 1 << 19  # complex numbers in one temporary array: what a processor's cache holds


class Problem:
    """A model's arrays on a device, and functions of the parameters x, (cells, P).

    Inside, basis spectra are sorted by group: ``order`` says which of the model's each is.
    """

    def __init__(self, model: Model, device: torch.device) -> None:
        def real(x: np.ndarray) -> torch.Tensor:
            return torch.as_tensor(np.ascontiguousarray(x), dtype=torch.float64, device=device)

        self.model, self.device = model, device
        self.n, self.n_groups, self.n_points = len(model.names), model.n_groups, model.n_points
        self.width = model.last - model.first
        self.dwell, self.t, self.nu = model.dwell_s, real(model.time_s), real(model.nu_hz)
        # Turned so that the window comes first in the transform, its first point halved, its norm included
        k = np.arange(self.n_points)
        prepared = np.exp(-2j * np.pi * (model.first - self.n_points // 2) * k / self.n_points)
        prepared[0] *= 0.5
        prepared /= np.sqrt(self.n_points)
        self.prepared = torch.as_tensor(prepared, device=device)
        # Groups lie together, so that each is a slice
        self.order = torch.as_tensor(np.argsort(model.groups, kind="stable"), device=device)
        self.m = torch.as_tensor(model.basis, dtype=torch.complex128, device=device)[self.order] * self.prepared
        self.groups = torch.as_tensor(model.groups, device=device)[self.order]
        ends = np.cumsum([0, *np.bincount(model.groups, minlength=self.n_groups)])
        self.members = [slice(int(a), int(b)) for a, b in itertools.pairwise(ends)]
        self.group_m = [torch.view_as_real(self.m[members]).flatten(1) for members in self.members]
        self.shift_groups = torch.arange(self.n, device=device) if model.options.free_shift else self.groups
        self.shapes = real(model.baseline.shapes)
        self.kept = real(model.baseline.kept)
        self.taken = 1 - (1 - self.kept).clamp_min(0).sqrt()
        self.fast = {"m": self.m.to(torch.complex64), "t": self.t.float(), "nu": self.nu.float()}
        self.fast |= {"shapes": self.shapes.to(torch.complex64), "kept": self.kept.float().repeat_interleave(2)}
        n, g = self.n, self.n_groups
        edges = np.cumsum([0, n, g, g, model.n_shifts, 1, 1])
        self.slices = [slice(a, b) for a, b in itertools.pairwise(edges)]
        self.n_parameters = int(edges[-1])
        self.free = torch.ones(self.n_parameters, dtype=torch.bool, device=device)
        self.free[self.slices[2]] = model.options.line_shape == "voigt"
        self.lower = torch.full((self.n_parameters,), -torch.inf, dtype=torch.float64, device=device)
        self.lower[: n + 2 * g] = 0.0
        rows = self.n + 2 * self.n_groups + (self.n if model.options.free_shift else 0)
        self.block = max(1, BLOCK_POINTS // (rows * self.n_points))
        self.predict_block = max(1, BLOCK_POINTS // (4 * model.n_shifts * self.n_points))

    def parts(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return views of c, gamma, v, eps, phi0 and phi1."""
        return [x[:, s] for s in self.slices]

    def transform(self, fid: torch.Tensor) -> torch.Tensor:
        """Return the window of the spectra of FIDs that carry the factor `prepared`."""
        return torch.fft.fft(fid)[..., : self.width]

    def window(self, fids: torch.Tensor) -> torch.Tensor:
        """Return the window of the spectra of FIDs (cells, n_points), complex."""
        return self.transform(fids * self.prepared)

    def reduced(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return complex spectra (..., W) less what the baseline explains; what its penalty resists stays in part."""
        if not self.shapes.shape[1]:
            return spectrum
        shapes = self.shapes.to(spectrum.dtype)
        return spectrum - ((spectrum @ shapes) * self.taken.to(spectrum.dtype)) @ shapes.T

    def smooth(self, spectrum: torch.Tensor) -> torch.Tensor:
        """Return the best baseline of a complex residual (cells, W)."""
        shapes = self.shapes.to(spectrum.dtype)
        return ((spectrum @ shapes) * self.kept) @ shapes.T

    def turn(self, rate: torch.Tensor, dtype: torch.dtype = torch.complex128) -> torch.Tensor:
        """Return exp(-i rate t) at all times, (..., n_points)."""
        n_coarse = -(-self.n_points // TURN_BLOCK)
        coarse = torch.arange(n_coarse, device=self.device, dtype=torch.float64) * (TURN_BLOCK * self.dwell)
        steps = []
        for times in (coarse, self.t[:TURN_BLOCK]):
            angle = rate[..., None] * times
            steps.append(torch.complex(torch.cos(angle), -torch.sin(angle)).to(dtype))
        return (steps[0][..., :, None] * steps[1][..., None, :]).flatten(-2)[..., : self.n_points]

    def decay(
        self, gamma: torch.Tensor, v: torch.Tensor, eps: torch.Tensor, dtype: torch.dtype = torch.complex128
    ) -> torch.Tensor:
        """Return the decay of each group, (cells, G, n_points); of each basis spectrum with free shifts."""
        t = self.t if dtype == torch.complex128 else self.fast["t"]
        size = (v[..., None].to(t.dtype) * t).add_(gamma[..., None].to(t.dtype)).mul_(-t).exp_()
        turn = self.turn(eps, dtype)
        return turn.mul_(size[:, self.groups] if eps.shape[1] != size.shape[1] else size)

    def phase(self, phi0: torch.Tensor, phi1: torch.Tensor) -> torch.Tensor:
        """Return exp(-i (phi0 + phi1 nu)), (cells, W)."""
        angle = phi0 + phi1 * self.nu
        return torch.complex(torch.cos(angle), -torch.sin(angle))

    def signal(self, x: torch.Tensor) -> torch.Tensor:
        """Return the model spectra without baseline, complex (cells, W)."""
        return torch.cat([self._signal(part) for part in x.split(self.predict_block)])

    def _signal(self, x: torch.Tensor) -> torch.Tensor:
        c, gamma, v, eps, phi0, phi1 = self.parts(x)
        decay = self.decay(gamma, v, eps)
        fid = torch.zeros((len(x), self.n_points), dtype=torch.complex128, device=self.device)
        if decay.shape[1] == self.n_groups:
            for g, (members, fids) in enumerate(zip(self.members, self.group_m, strict=True)):
                mixed = torch.view_as_complex((c[:, members] @ fids).unflatten(-1, (self.n_points, 2)))
                fid += mixed * decay[:, g]
        else:
            for i in range(self.n):
                fid += c[:, i, None] * decay[:, i] * self.m[i]
        return self.transform(fid) * self.phase(phi0, phi1)

    def predict(self, x: torch.Tensor) -> torch.Tensor:
        """Return the reduced model spectra, complex (cells, W)."""
        return self.reduced(self.signal(x))

    def jacobian(self, x: torch.Tensor, exact: bool = True) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the derivatives of the model spectra, not reduced, complex (cells, P, W).

        And the broadened basis FIDs with the factor `prepared`, (cells, n, n_points). Not `exact`: in single precision.
        """
        basis, t, nu = (self.m, self.t, self.nu) if exact else (self.fast[key] for key in ("m", "t", "nu"))
        c, gamma, v, eps, phi0, phi1 = self.parts(x)
        decay, phase = self.decay(gamma, v, eps, basis.dtype), self.phase(phi0, phi1).to(basis.dtype)[:, None]
        c = c.to(t.dtype)
        n, n_groups, free_shift = self.n, self.n_groups, self.model.options.free_shift
        rows = n + 2 * n_groups + (n if free_shift else 0)
        fids = torch.empty((len(x), rows, self.n_points), dtype=basis.dtype, device=self.device)
        columns = fids[:, :n]
        for g, members in enumerate(self.members):
            torch.mul(basis[members], decay[:, members if free_shift else slice(g, g + 1)], out=columns[:, members])
        if free_shift:
            torch.mul(columns, -t * c[..., None], out=fids[:, n + 2 * n_groups :])
        for g, members in enumerate(self.members):
            mixed = (c[:, None, members].to(basis.dtype) @ columns[:, members])[:, 0]
            torch.mul(mixed, -t, out=fids[:, n + g])
            torch.mul(fids[:, n + g], t, out=fids[:, n + n_groups + g])
        spectra = self.transform(fids)
        jacobian = torch.empty((len(x), self.n_parameters, self.width), dtype=basis.dtype, device=self.device)
        linear = slice(0, n + 2 * n_groups)  # d/d c, d/d gamma, d/d v
        torch.mul(spectra[:, linear], phase, out=jacobian[:, linear])
        first = slice(n + 2 * n_groups, rows) if free_shift else slice(n, n + n_groups)
        torch.mul(spectra[:, first], 1j * phase, out=jacobian[:, self.slices[3]])
        zero, one = self.slices[4].start, self.slices[5].start
        torch.matmul(-1j * c[:, None], jacobian[:, :n], out=jacobian[:, zero : zero + 1])
        torch.mul(jacobian[:, zero], nu, out=jacobian[:, one])
        return jacobian, columns

    def normal_equations(
        self, x: torch.Tensor, residual: torch.Tensor, curved: bool
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return J'J and the gradient (cells, P) of half the objective.

        J'J has the shape (cells, P, P), or (cells, 2, P, P) if `curved`.

        Parameters
        ----------
        x
            (cells, P).
        residual
            `predict` less the reduced data, complex (cells, W).
        curved
            Also return what is missing in J'J, the first matrix of two then: see `curvature`.
        """
        hessians, gradients = [], []
        for part, misfit in zip(x.split(self.block), residual.to(torch.complex64).split(self.block), strict=True):
            jacobian, columns = self.jacobian(part, exact=False)
            misfit = self.reduced(misfit)  # a second time, instead of the derivatives
            flat = torch.view_as_real(jacobian).flatten(2)
            gram = flat @ flat.transpose(1, 2)
            if self.shapes.shape[1]:  # the product of reduced derivatives, without reducing them
                smooth = torch.view_as_real(jacobian @ self.fast["shapes"]).flatten(2)
                gram -= (smooth * self.fast["kept"]) @ smooth.transpose(1, 2)
            gradients.append((flat @ torch.view_as_real(misfit).flatten(1)[..., None])[..., 0])
            hessians.append(torch.stack([gram, self.curvature(part, misfit, columns)], 1) if curved else gram)
        return torch.cat(hessians).double(), torch.cat(gradients).double()

    def curvature(self, x: torch.Tensor, residual: torch.Tensor, columns: torch.Tensor) -> torch.Tensor:
        """Return the inner products of the residual with the model's second derivatives, (cells, P, P).

        They are moments in time of the residual's transform times the broadened basis FIDs, so that no further column
        needs a transform. `residual`: reduced twice, complex (cells, W); `columns`: of `jacobian`.
        """
        c, _, _, _, phi0, phi1 = self.parts(x)
        t, nu = self.fast["t"], self.fast["nu"]
        turned = residual.conj() * self.phase(phi0, phi1).to(columns.dtype)
        back = torch.fft.fft(torch.stack([turned, turned * nu], 1), self.n_points)  # (cells, 2, n_points)
        powers = t ** torch.arange(5, device=self.device)[:, None]
        weights = torch.cat([back[:, :1] * powers, back[:, 1:] * powers[:3]], 1)
        moments = columns @ weights.transpose(1, 2)  # (cells, n, 8)
        c = c.to(t.dtype)
        weighted = moments * c[..., None]
        groups = torch.stack([weighted[:, members].sum(1) for members in self.members], 1)  # (cells, G, 8)
        shifts = weighted if self.model.options.free_shift else groups
        total = weighted.sum(1)
        h = torch.zeros((len(x), self.n_parameters, self.n_parameters), device=self.device)
        rows = torch.arange(self.n, device=self.device)
        gamma, v, eps = (s.start for s in self.slices[1:4])
        g, e = self.groups, self.shift_groups
        zero, one = self.slices[4].start, self.slices[5].start
        h[:, rows, gamma + g] = -moments[..., 1].real
        h[:, rows, v + g] = -moments[..., 2].real
        h[:, rows, eps + e] = moments[..., 1].imag
        h[:, rows, zero] = moments[..., 0].imag
        h[:, rows, one] = moments[..., 5].imag
        k = torch.arange(self.n_groups, device=self.device)
        h[:, gamma + k, v + k] = groups[..., 3].real
        for start, first in ((gamma, 1), (v, 2)):
            h[:, start + k, zero] = -groups[..., first].imag
            h[:, start + k, one] = -groups[..., 5 + first].imag
            if self.model.options.free_shift:
                h[:, start + g, eps + e] = -weighted[..., 1 + first].imag
            else:
                h[:, start + k, eps + k] = -groups[..., 1 + first].imag
        j = torch.arange(shifts.shape[1], device=self.device)
        h[:, eps + j, zero] = -shifts[..., 1].real
        h[:, eps + j, one] = -shifts[..., 6].real
        h[:, zero, one] = -total[..., 5].real
        h = h + h.transpose(1, 2)
        h[:, gamma + k, gamma + k] = groups[..., 2].real
        h[:, v + k, v + k] = groups[..., 4].real
        h[:, eps + j, eps + j] = -shifts[..., 2].real
        h[:, zero, zero] = -total[..., 0].real
        signal = (turned * nu.square() * self.transform((columns * c[..., None]).sum(1))).sum(-1)
        h[:, one, one] = -signal.real
        return h
