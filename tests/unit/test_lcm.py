"""The fit against closed forms, other solvers, known truths, and FSL-MRS's own results."""

from pathlib import Path

import numpy as np
import pytest
import torch
from analytic_basis import LINES, MHZ, analytic_basis
from scipy.optimize import lsq_linear, nnls
from scipy.signal import find_peaks
from scipy.stats import levene

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import lcm, lcm_baseline, lcm_model, lcm_quality, lcm_solver
from mrs_synthesis.lcm_model import Options
from mrs_synthesis.lcm_problem import Problem
from mrs_synthesis.scans import read_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

N, DWELL = 2048, 5e-4
TRUTH = {"Cr": 4.0, "GABA": 1.5, "Glu": 9.0, "Ins": 5.0, "NAA": 10.0, "PCh": 1.2, "PCr": 3.5}
SHAPE = {"gamma": 9.0, "sigma": 11.0, "eps": 6.0, "phi0": 0.15, "phi1": 2e-5}


@pytest.fixture(scope="module")
def model() -> lcm_model.Model:
    return lcm_model.build(analytic_basis(), N, DWELL, MHZ, options=Options(baseline="poly, 1"))


def simulated(scale: float = 1.0, c: dict[str, float] = TRUTH, **changes: float) -> np.ndarray:
    """FID of the documented model, written out: time from one dwell, phase over an axis that includes both ends."""
    shape = SHAPE | changes
    t = np.arange(1, N + 1) * DWELL
    basis = analytic_basis()
    fid = sum(c[name] * fid for name, fid in zip(basis.names, basis.fids, strict=True))
    fid = fid * np.exp(-(1j * shape["eps"] + shape["gamma"] + t * shape["sigma"] ** 2) * t)
    fid[0] /= 2
    nu = np.linspace(-1 / (2 * DWELL), 1 / (2 * DWELL), N)
    spectrum = np.fft.fftshift(np.fft.fft(fid)) * np.exp(-1j * (shape["phi0"] + shape["phi1"] * nu))
    fid = np.fft.ifft(np.fft.ifftshift(spectrum))
    fid[0] *= 2
    return scale * fid


def amplitudes(result: lcm.Result, model: lcm_model.Model) -> np.ndarray:
    return result.c * (model.basis_scale / result.fid_scale)[:, None]


def test_resampling_keeps_lines_in_place_and_amplitude():
    fine = analytic_basis(n_points=8192, dwell_s=2.5e-4)
    coarse = lcm_model.resample(fine.fids, 2.5e-4, DWELL, N)
    expected = analytic_basis().fids
    # band limitation rings at the first points
    assert np.abs(coarse - expected)[:, 20:-20].max() < 0.02 * np.abs(expected).max()
    with pytest.raises(InputError, match=r"lasts 0\.512 s, the data 1\.024 s"):
        lcm_model.resample(expected[:, :1024], DWELL, DWELL, N)


def test_window_and_axis_are_fsl_mrss(model):
    # argmin of |ppm - limit| on the axis of 2048 points including both ends, last excluded
    ppm = np.linspace(-1000, 1000, N) / MHZ + 4.65
    first, last = np.argmin(np.abs(ppm - 0.2)), np.argmin(np.abs(ppm - 4.2))
    assert (model.first, model.last) == (first, last) and np.allclose(model.ppm, ppm[first:last])
    assert np.linalg.norm(model.basis.mean(axis=0)) == pytest.approx(100)


def test_prediction_of_one_line_is_the_geometric_series():
    one = lcm_model.build(analytic_basis({"Cr": [(3.0, 2.0)]}), N, DWELL, MHZ)
    problem = Problem(one, torch.device("cpu"))
    gamma, eps, phi0 = 20.0, 12.0, 0.4
    x = torch.tensor([[1.7, gamma, 0.0, eps, phi0, 0.0]], dtype=torch.float64)
    predicted = problem.signal(x)[0].numpy()
    rate = 2j * np.pi * (3.0 - 4.65) * MHZ - np.pi * 1.5 - gamma - 1j * eps
    ratio = np.exp((rate - 2j * np.pi * np.fft.fftshift(np.fft.fftfreq(N, DWELL))) * DWELL)
    line = (1 - ratio**N) / (1 - ratio) - 0.5
    line = line * 1.7 * 2 * one.basis_scale * np.exp(-(gamma + 1j * eps) * DWELL) / np.sqrt(N)
    expected = line[one.first : one.last] * np.exp(-1j * phi0)
    assert np.allclose(predicted, expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("free_shift", [False, True])
def test_derivatives_against_differences(free_shift):
    options = Options(baseline="spline, stiff", free_shift=free_shift)
    model = lcm_model.build(analytic_basis(), N, DWELL, MHZ, groups=[0, 0, 1, 0, 0, 1, 2], options=options)
    problem = Problem(model, torch.device("cpu"))
    rng = generator(1, "test_jacobian")
    n_shifts = 7 if free_shift else 3
    x = [*rng.uniform(0.5, 2, 7), *rng.uniform(5, 20, 3), *rng.uniform(20, 200, 3), *rng.normal(0, 5, n_shifts)]
    x = torch.tensor([[*x, 0.2, 1e-4]], dtype=torch.float64)
    y = problem.predict(1.1 * x)
    jacobian, _ = problem.jacobian(x)
    matrices, gradient = problem.normal_equations(x, problem.predict(x) - y, curved=True)
    hessian = (matrices[:, 0] + matrices[:, 1])[0]
    size = matrices[0, 0].diagonal().sqrt()
    for i in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[0, i] = 1e-9 if i == x.shape[1] - 1 else 1e-5 * max(1.0, abs(float(x[0, i])))
        difference = (problem.signal(x + step) - problem.signal(x - step))[0] / (2 * step[0, i])
        assert torch.allclose(jacobian[0, i], difference, rtol=1e-5, atol=1e-6 * difference.abs().max().item())
        cost = [lcm_solver.half_square(problem.predict(x + k * step) - y) for k in (-1, 1)]
        slope = float(cost[1] - cost[0]) / (2 * float(step[0, i]))
        assert float(gradient[0, i]) == pytest.approx(slope, rel=1e-3, abs=1e-4 * float(size[i]))
        # Derivatives that only point the way are in single precision: differences of gradients need larger steps
        step *= 1e3
        ends = [problem.normal_equations(x + k * step, problem.predict(x + k * step) - y, False)[1] for k in (-1, 1)]
        row = (ends[1] - ends[0])[0] / (2 * step[0, i])
        assert torch.allclose(hessian[i] / size[i] / size, row / size[i] / size, atol=0.02)


def test_reduced_residual_is_what_the_best_penalised_baseline_leaves():
    rng = generator(2, "test_baseline")
    r = rng.normal(size=400)
    for text in ("poly, 3", "spline, moderate", "spline, 7.5"):
        baseline = lcm_baseline.make(text, 400, 4.0)
        u, h = baseline.shapes, baseline.kept
        penalty = baseline.penalty / 2  # the information matrix has it doubled
        b = np.linalg.solve(baseline.columns.T @ baseline.columns + penalty, baseline.columns.T @ r)
        least = np.sum((r - baseline.columns @ b) ** 2) + b @ penalty @ b
        left = r - u @ ((1 - np.sqrt(1 - h)) * (u.T @ r))
        assert np.sum(left**2) == pytest.approx(least, rel=1e-9)
        assert np.allclose(u @ (h * (u.T @ r)), baseline.columns @ b, atol=1e-8)
    # Effective dimensions of FSL-MRS's names (Wilson, Magn Reson Med 2021, counts them so)
    assert lcm_baseline.make("spline, moderate", 400, 4.0).kept.sum() == pytest.approx(20, abs=0.01)
    assert lcm_baseline.make("spline, very-stiff", 400, 4.0).kept.sum() == pytest.approx(3, abs=0.01)
    assert lcm_baseline.make("off", 400, 4.0).shapes.shape == (400, 0)


@pytest.mark.parametrize(
    "text", ["poly", "poly, 1.5", "poly, -1", "spline, 1", "spline, soft", "cubic, 2", "off, 2", ""]
)
def test_unknown_baselines_are_refused_in_one_line(text):
    with pytest.raises(InputError, match="expected off, 'poly, ORDER'") as error:
        Options(baseline=text)
    assert "\n" not in str(error.value)


def test_truncated_powers_and_b_splines_are_the_same():
    # Eilers and Marx 1996, section 2 and appendix: differences of truncated powers
    n, intervals = 90, 12
    x, step = np.arange(1, n + 1), (n - 1) / intervals
    knots = 1 + step * np.arange(-3, intervals + 4)
    powers = np.clip(x[:, None] - knots, 0, None) ** 3
    difference = np.diff(np.eye(knots.size), n=4, axis=0) / (6 * step**3)
    assert np.allclose(lcm_baseline.spline_columns(n, intervals), powers @ difference.T, atol=1e-9)


def test_bounded_quadratic_is_the_bounded_least_squares_solution():
    rng = generator(1, "test_bounded_quadratic")
    a = rng.normal(size=(40, 60, 12))
    a[:, :, 1] = a[:, :, 0] + 1e-3 * a[:, :, 1]  # nearly collinear, as Cr and PCr
    y = rng.normal(size=(40, 60))
    h, g = np.einsum("bij,bik->bjk", a, a), -np.einsum("bij,bi->bj", a, y)
    lower = np.where(np.arange(12) < 8, 0.0, -np.inf) * np.ones((40, 1))
    found = lcm_solver.bounded_quadratic(torch.tensor(h), torch.tensor(g), torch.tensor(lower)).numpy()
    zero = lcm_solver.bounded_quadratic(
        torch.tensor(h), torch.tensor(g), torch.zeros(40, 12, dtype=torch.float64)
    ).numpy()
    for b in range(40):
        expected = lsq_linear(a[b], y[b], (lower[b], np.inf), tol=1e-14).x
        assert np.allclose(found[b], expected, atol=1e-5)
        assert np.allclose(zero[b], nnls(a[b], y[b])[0], atol=1e-8)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e5])
def test_noise_free_recovery(model, scale):
    result = lcm.fit(simulated(scale)[None], model)
    assert result.converged.all()
    expected = np.array([TRUTH[name] for name in model.names]) * scale
    assert np.allclose(amplitudes(result, model)[0], expected, rtol=1e-6)
    for name, value in SHAPE.items():
        assert float(np.ravel(getattr(result, name))[0]) == pytest.approx(value, rel=1e-5)
    assert np.allclose(result.baseline, 0, atol=1e-5)


@pytest.mark.parametrize("phi0", [1.4, -2.5, 3.1])
def test_unphased_data_are_fitted(model, phi0):
    result = lcm.fit(simulated(phi0=phi0)[None], model)
    expected = np.array([TRUTH[name] for name in model.names])
    assert np.allclose(amplitudes(result, model)[0], expected, rtol=1e-5)


def test_covariance_matches_the_scatter_of_fits_and_z_scores_are_standard(model):
    rng = generator(3, "test_lcm_noise")
    n, sd = 150, 0.25
    noise = sd * (rng.normal(size=(n, N)) + 1j * rng.normal(size=(n, N)))
    result = lcm.fit(simulated()[None] + noise, model)
    assert result.converged.all()
    scale = (model.basis_scale / result.fid_scale)[:, None]
    found, error = result.c * scale, np.sqrt(np.einsum("bii->bi", result.covariance)) * scale
    z = (found - np.array([TRUTH[name] for name in model.names])) / error
    # 7 metabolites (two nearly collinear) of 150 spectra; the SD of a SD from 150 is 6 %
    assert np.all(np.abs(z.mean(axis=0)) < 4 / np.sqrt(n))
    assert np.all(np.abs(z.std(axis=0) - 1) < 0.24) and abs(z.std() - 1) < 0.1
    # Objective: 2 x points minus parameters degrees of freedom; orthonormal transform keeps the noise's SD
    freedom = 2 * (model.last - model.first) - model.n_parameters
    chi2 = result.objective / (sd * result.fid_scale) ** 2
    assert chi2.mean() == pytest.approx(freedom, abs=4 * np.sqrt(2 * freedom / n))


def test_absent_metabolites_stop_at_zero_and_groups_have_their_own_shape():
    lines = LINES | {"MM09": [(0.91, 3)]}
    basis = analytic_basis(lines)
    broad = lcm_model.build(basis, N, DWELL, MHZ, groups=[0] * 7 + [1], options=Options(baseline="poly, 0"))
    t = np.arange(1, N + 1) * DWELL
    macromolecule = 4 * basis.fids[-1] * np.exp(-(40 + t * 25**2 - 5j) * t)
    truth = dict(TRUTH, GABA=-1.0, Ins=0.0)  # a negative GABA cannot be fitted: its bound must be active
    result = lcm.fit((simulated(c=truth) + macromolecule)[None], broad)
    c = dict(zip(broad.names, amplitudes(result, broad)[0], strict=True))
    assert c["GABA"] == 0 and result.converged.all() and min(c.values()) >= 0
    result = lcm.fit((simulated(phi0=0.0, phi1=0.0) + macromolecule)[None], broad)
    assert result.gamma[0] == pytest.approx([9, 40], rel=1e-4) and result.sigma[0] == pytest.approx([11, 25], rel=1e-4)
    assert result.eps[0] == pytest.approx([6, -5], abs=1e-3)


def test_a_spectrum_does_not_depend_on_its_neighbours(model):
    rng = generator(4, "test_lcm_chunks")
    fids = simulated()[None] + 0.5 * (rng.normal(size=(5, N)) + 1j * rng.normal(size=(5, N)))
    together, alone = lcm.fit(fids, model, chunk=3), lcm.fit(fids[4:], model)
    assert np.allclose(together.c[4], alone.c[0], rtol=1e-5) and together.c.shape == (5, 7)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2 if before == 1 else 1)
        other = lcm.fit(fids, model, chunk=3)
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(together.c, other.c) and np.array_equal(together.fit, other.fit)


@pytest.mark.parametrize("bad", [0.0, np.nan])
def test_empty_or_nan_data_are_refused(model, bad):
    fids = np.stack([simulated(), simulated() * bad])
    with pytest.raises(ValueError, match="FID 1"):
        lcm.fit(fids, model)


def test_covariance_is_that_of_all_parameters_with_the_baselines():
    """FSL-MRS's matrix written out: all columns, the baseline's included, and its penalty."""
    for text, groups in (("poly, 2", [0] * 7), ("spline, moderate", [0, 0, 1, 0, 0, 0, 1]), ("off", [0] * 7)):
        model = lcm_model.build(analytic_basis(), N, DWELL, MHZ, groups=groups, options=Options(baseline=text))
        rng = generator(6, "test_covariance")
        fids = simulated()[None] + 0.3 * (rng.normal(size=(1, N)) + 1j * rng.normal(size=(1, N)))
        result = lcm.fit(fids, model)
        problem = Problem(model, torch.device("cpu"))
        order = problem.order.numpy()
        x = [result.c[:, order], result.gamma, result.sigma**2, result.eps, result.phi0[:, None], result.phi1[:, None]]
        jacobian = problem.jacobian(torch.tensor(np.hstack(x)))[0][0].numpy()
        n, g = 7, max(groups) + 1
        jacobian[n + g : n + 2 * g] *= 2 * result.sigma[0, :, None]
        columns = model.baseline.columns.T
        everything = np.vstack([jacobian, columns, 1j * columns])
        noise = np.var(result.data[0] - result.fit[0])
        information = np.real(np.conj(everything) @ everything.T) / noise + 1e-5 * np.eye(len(everything))
        k = len(columns)
        for start in (len(jacobian), len(jacobian) + k):
            information[start : start + k, start : start + k] += model.baseline.penalty
        expected = np.linalg.inv(information)[:n, :n] / 2
        found = result.covariance[0][order][:, order]
        assert np.allclose(found, expected, rtol=1e-5, atol=1e-7 * np.abs(expected).max())


def test_lorentzian_and_free_shifts():
    options = Options(line_shape="lorentzian")
    model = lcm_model.build(analytic_basis(), N, DWELL, MHZ, options=options)
    result = lcm.fit(simulated(sigma=0.0)[None], model)
    assert result.sigma[0, 0] == 0 and result.gamma[0, 0] == pytest.approx(SHAPE["gamma"], rel=1e-5)
    assert lcm.fit(simulated()[None], model).sigma[0, 0] == 0
    basis = analytic_basis()
    t = np.arange(1, N + 1) * DWELL
    shifts = np.array([3.0, -8.0, 0.0, 5.0, -2.0, 6.0, 1.0])  # rad/s, of each basis spectrum
    amplitude = np.array([TRUTH[name] for name in basis.names])
    fid = (amplitude[:, None] * basis.fids * np.exp(-(1j * shifts[:, None] + 9 + 11**2 * t) * t)).sum(0)
    free = lcm_model.build(basis, N, DWELL, MHZ, options=Options(free_shift=True))
    result = lcm.fit(fid[None], free)
    known = [i for i, name in enumerate(basis.names) if name not in ("Cr", "PCr")]  # nearly the same spectrum
    assert result.eps[0][known] == pytest.approx(shifts[known], abs=0.05)
    assert amplitudes(result, free)[0][known] == pytest.approx(amplitude[known], rel=1e-3)


def test_equal_basis_spectra_give_finite_results():
    basis = analytic_basis()
    double = basis.select([*basis.names, "NAA"])
    double.names[-1] = "copy"
    model = lcm_model.build(double, N, DWELL, MHZ)
    result = lcm.fit(simulated()[None], model)
    c = dict(zip(model.names, amplitudes(result, model)[0], strict=True))
    assert c["NAA"] + c["copy"] == pytest.approx(TRUTH["NAA"], rel=1e-4)
    assert np.isfinite(result.covariance).all() and result.converged.all()
    sd = np.sqrt(np.diag(result.covariance[0]))
    assert sd[-1] > 5 * sd[model.names.index("Glu")]  # one alone is not known


def test_widths_and_snr():
    # A Lorentzian of 1.5 Hz broadened by gamma / pi = 8 Hz, magnitude of the real part: 9.5 Hz wide
    one = lcm_model.build(analytic_basis({"Cr": [(3.0, 2.0)]}), N, DWELL, MHZ)
    rng = generator(5, "test_snr")
    sd = 0.02
    fids = sd * (rng.normal(size=(60, N)) + 1j * rng.normal(size=(60, N)))
    result = lcm.fit(fids, one)
    result.c[:] = 1.0 / one.basis_scale
    result.gamma[:], result.sigma[:], result.eps[:], result.phi0[:], result.phi1[:] = 8 * np.pi, 0, 0, 0, 0
    snr, fwhm = lcm_quality.per_metabolite(fids, one, result)
    assert fwhm == pytest.approx(9.5, abs=0.25)
    # Closed form: height 2 / (1 - r) - 1 with r the decay per point; noise SD sd sqrt(sum of squared weights)
    t = np.arange(1, N + 1) * DWELL
    weight = np.exp(-fwhm[0, 0] * t)
    height = (2 * np.exp(-np.pi * 1.5 * (t - DWELL)) * np.exp(-8 * np.pi * t) * weight).sum()
    # Neighbouring points of apodised noise are alike, so that one spectrum's SD is uncertain by about 10 %
    assert np.median(snr) == pytest.approx(height / (np.sqrt(2) * sd * np.sqrt((weight**2).sum())), rel=0.08)
    assert lcm_quality.voigt_fwhm_hz(np.array([np.pi]), np.zeros(1)) == pytest.approx(1, rel=1e-3)
    # exp(-(sigma t)^2): FWHM = 2 sqrt(ln 2) sigma / pi
    assert lcm_quality.voigt_fwhm_hz(np.zeros(1), np.ones(1)) == pytest.approx(0.53, abs=0.001)


def test_widths_of_all_rows_at_once_are_those_of_find_peaks():
    rng = generator(7, "test_peaks")
    x = np.arange(300)
    rows = []
    for _ in range(300):
        lines = zip(rng.uniform(-20, 320, 4), rng.uniform(2, 40, 4), rng.normal(size=4), strict=True)
        rows.append(sum(a / (1 + ((x - at) / width) ** 2) for at, width, a in lines) + 0.02 * rng.normal(size=300))
    rows = np.array(rows)
    widest = rng.uniform(5, 80, 300)
    expected = []
    for row, limit in zip(np.abs(rows), widest, strict=True):
        peaks, facts = find_peaks(row / row.max(), prominence=0.4, width=(None, limit))
        expected.append(facts["widths"][np.argmax(facts["prominences"])] if peaks.size else 0.0)
    assert np.allclose(lcm_quality.peak_fwhm_hz(rows, widest, 1.0), expected, atol=1e-9)
    assert 20 < np.count_nonzero(expected) < 300


def test_p_values_are_those_of_levene():
    rng = generator(8, "test_levene")
    first, second = rng.normal(size=(5, 60)), rng.normal(size=(5, 90)) * np.array([[1], [1.2], [1.5], [2], [1]])
    expected = [levene(a, b, center="mean").pvalue for a, b in zip(first, second, strict=True)]
    assert np.allclose(lcm_quality.levene_p(first, second), expected, rtol=1e-9)


def reference_fits(
    folder: Path, kind: str, tag: str, basis: str, baseline: str
) -> tuple[lcm.Result, list, lcm_model.Model]:
    fits = sorted((folder / kind / f"fits_{tag}").iterdir())
    traces = [dict(np.load(path / "trace.npz")) for path in fits]
    scans = [read_scan(folder / kind / "data" / f"{path.name}.nii.gz") for path in fits]
    chosen = basis_sets.read_json_folder(folder / basis).select(str(name) for name in traces[0]["names"])
    raster = scans[0].n_points, scans[0].dwell_s, scans[0].frequency_mhz
    model = lcm_model.build(chosen, *raster, groups=traces[0]["groups"], options=Options(baseline=baseline))
    return lcm.fit(np.array([scan.fids.ravel() for scan in scans]), model), traces, model


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "tag", "basis", "baseline"),
    [
        ("mega", "poly2", "basis_mega68_diff_mm", "poly, 2"),
        ("press", "poly2_1group", "basis_press30_mm", "poly, 2"),
        ("press", "poly2", "basis_press30_mm", "poly, 2"),
        ("mega", "spline_stiff", "basis_mega68_diff_mm", "spline, stiff"),
        ("press", "spline_moderate", "basis_press30_mm", "spline, moderate"),
    ],
)
def test_agreement_with_fsl_mrs(shared_data, kind, tag, basis, baseline):
    result, traces, model = reference_fits(shared_data / "fslmrs-reference", kind, tag, basis, baseline)
    n = len(model.names)
    assert result.converged.all()
    assert np.allclose(result.fid_scale, [trace["fid_scale"] for trace in traces], rtol=1e-9)
    assert model.basis_scale == pytest.approx(float(traces[0]["basis_scale"]), rel=1e-9)
    relative = result.objective / np.array([float(trace["fun"]) for trace in traces]) - 1
    assert relative.max() < 1e-6
    same = np.abs(relative) < 1e-5
    assert same.mean() >= 0.7
    # Two spectra have two minima less than 1e-5 apart in objective, ours the lower
    other = relative < -1e-6
    assert np.count_nonzero(same & other) <= 1
    same &= ~other
    c = np.array([trace["x"][:n] for trace in traces])
    sd = np.sqrt(np.array([np.diag(trace["cov"])[:n] for trace in traces]))
    assert np.percentile((np.abs(result.c - c) / sd)[same], 99) < 0.05
    ours = np.sqrt(np.einsum("bii->bi", result.covariance))
    # Where the minima agree, so do the CRLBs; those of parametrised macromolecules follow their undetermined widths
    ratio = np.abs(ours / sd - 1)[same][:, [not name.startswith("MM") for name in model.names]]
    assert ratio.max() < 1e-3
