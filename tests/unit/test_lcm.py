"""The fit against closed forms, other solvers, known truths, and FSL-MRS's own results."""

from pathlib import Path

import numpy as np
import pytest
import torch
from analytic_basis import LINES, MHZ, analytic_basis
from scipy.optimize import lsq_linear, nnls

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import lcm, lcm_model, lcm_quality
from mrs_synthesis.scans import read_scan
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

N, DWELL = 2048, 5e-4
TRUTH = {"Cr": 4.0, "GABA": 1.5, "Glu": 9.0, "Ins": 5.0, "NAA": 10.0, "PCh": 1.2, "PCr": 3.5}
SHAPE = {"gamma": 9.0, "sigma": 11.0, "eps": 6.0, "phi0": 0.15, "phi1": 2e-5}


@pytest.fixture(scope="module")
def model() -> lcm_model.Model:
    return lcm_model.build(analytic_basis(), N, DWELL, MHZ, baseline_order=1)


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
    one = lcm_model.build(analytic_basis({"Cr": [(3.0, 2.0)]}), N, DWELL, MHZ, baseline_order=0)
    problem = lcm._Problem(one, torch.device("cpu"))
    gamma, eps, phi0 = 20.0, 12.0, 0.4
    x = torch.tensor([[1.7, gamma, 0.0, eps, phi0, 0.0, 3.0, -2.0]], dtype=torch.float64)
    predicted = problem.predict(x)[0].numpy()
    rate = 2j * np.pi * (3.0 - 4.65) * MHZ - np.pi * 1.5 - gamma - 1j * eps
    ratio = np.exp((rate - 2j * np.pi * np.fft.fftshift(np.fft.fftfreq(N, DWELL))) * DWELL)
    line = (1 - ratio**N) / (1 - ratio) - 0.5
    line = line * 1.7 * 2 * one.basis_scale * np.exp(-(gamma + 1j * eps) * DWELL) / np.sqrt(N)
    expected = line[one.first : one.last] * np.exp(-1j * phi0) + 3 - 2j
    assert np.allclose(predicted, expected, rtol=1e-9, atol=1e-9)


def test_jacobian_against_differences():
    two = lcm_model.build(analytic_basis(), N, DWELL, MHZ, groups=[0, 0, 1, 0, 0, 1, 2], baseline_order=1)
    problem = lcm._Problem(two, torch.device("cpu"))
    rng = generator(1, "test_jacobian")
    x = np.concatenate([rng.uniform(0.5, 2, 7), rng.uniform(5, 20, 3), rng.uniform(20, 200, 3), rng.normal(0, 5, 3)])
    x = torch.tensor(np.concatenate([x, [0.2, 1e-4], rng.normal(0, 1, 4)])[None])
    _, jacobian = problem.jacobian(x)
    for i in range(x.shape[1]):
        step = torch.zeros_like(x)
        step[0, i] = 1e-5 * max(1.0, abs(float(x[0, i]))) if i != 17 else 1e-9
        difference = (problem.predict(x + step) - problem.predict(x - step))[0] / (2 * step[0, i])
        assert torch.allclose(jacobian[0, i], difference, rtol=1e-5, atol=1e-6 * difference.abs().max().item())


def test_bounded_quadratic_is_the_bounded_least_squares_solution():
    rng = generator(1, "test_bounded_quadratic")
    a = rng.normal(size=(40, 60, 12))
    a[:, :, 1] = a[:, :, 0] + 1e-3 * a[:, :, 1]  # nearly collinear, as Cr and PCr
    y = rng.normal(size=(40, 60))
    h, g = np.einsum("bij,bik->bjk", a, a), -np.einsum("bij,bi->bj", a, y)
    lower = np.where(np.arange(12) < 8, 0.0, -np.inf) * np.ones((40, 1))
    found = lcm.bounded_quadratic(torch.tensor(h), torch.tensor(g), torch.tensor(lower)).numpy()
    zero = lcm.bounded_quadratic(torch.tensor(h), torch.tensor(g), torch.zeros(40, 12, dtype=torch.float64)).numpy()
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
    broad = lcm_model.build(basis, N, DWELL, MHZ, groups=[0] * 7 + [1], baseline_order=0)
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


def test_widths_and_snr():
    # A Lorentzian of 1.5 Hz broadened by gamma / pi = 8 Hz, magnitude of the real part: 9.5 Hz wide
    one = lcm_model.build(analytic_basis({"Cr": [(3.0, 2.0)]}), N, DWELL, MHZ)
    rng = generator(5, "test_snr")
    sd = 0.02
    fid = sd * (rng.normal(size=N) + 1j * rng.normal(size=N))
    c = np.array([1.0 / one.basis_scale])
    shape = (np.array([8 * np.pi]), np.zeros(1), np.zeros(1), 0.0, 0.0)
    snr, fwhm = lcm_quality.per_metabolite(fid, one, c, *shape)
    assert fwhm[0] == pytest.approx(9.5, abs=0.25)
    # Closed form: height 2 / (1 - r) - 1 with r the decay per point; noise SD sd sqrt(sum of squared weights)
    t = np.arange(1, N + 1) * DWELL
    weight = np.exp(-fwhm[0] * t)
    height = (2 * np.exp(-np.pi * 1.5 * (t - DWELL)) * np.exp(-8 * np.pi * t) * weight).sum()
    assert snr[0] == pytest.approx(height / (np.sqrt(2) * sd * np.sqrt((weight**2).sum())), rel=0.1)
    assert lcm_quality.voigt_fwhm_hz(np.array([np.pi]), np.zeros(1)) == pytest.approx(1, rel=1e-3)
    # exp(-(sigma t)^2): FWHM = 2 sqrt(ln 2) sigma / pi
    assert lcm_quality.voigt_fwhm_hz(np.zeros(1), np.ones(1)) == pytest.approx(0.53, abs=0.001)


def reference_fits(folder: Path, kind: str, tag: str, basis: str) -> tuple[lcm.Result, list, lcm_model.Model]:
    fits = sorted((folder / kind / f"fits_{tag}").iterdir())
    traces = [dict(np.load(path / "trace.npz")) for path in fits]
    scans = [read_scan(folder / kind / "data" / f"{path.name}.nii.gz") for path in fits]
    chosen = basis_sets.read_json_folder(folder / basis).select(str(name) for name in traces[0]["names"])
    scan = scans[0]
    model = lcm_model.build(chosen, scan.n_points, scan.dwell_s, scan.frequency_mhz, groups=traces[0]["groups"])
    return lcm.fit(np.array([scan.fids.ravel() for scan in scans]), model), traces, model


@pytest.mark.data
@pytest.mark.parametrize(
    ("kind", "tag", "basis"),
    [
        ("mega", "poly2", "basis_mega68_diff_mm"),
        ("press", "poly2_1group", "basis_press30_mm"),
        ("press", "poly2", "basis_press30_mm"),
    ],
)
def test_agreement_with_fsl_mrs(shared_data, kind, tag, basis):
    result, traces, model = reference_fits(shared_data / "fslmrs-reference", kind, tag, basis)
    n = len(model.names)
    assert result.converged.all() and len(traces) == 30
    assert np.allclose(result.fid_scale, [trace["fid_scale"] for trace in traces], rtol=1e-9)
    assert model.basis_scale == pytest.approx(float(traces[0]["basis_scale"]), rel=1e-9)
    relative = result.objective / np.array([float(trace["fun"]) for trace in traces]) - 1
    assert relative.max() < 1e-5, "FSL-MRS found a lower objective"
    same = np.abs(relative) < 1e-5
    assert same.mean() >= 0.9
    c = np.array([trace["x"][:n] for trace in traces])
    sd = np.sqrt(np.array([np.diag(trace["cov"])[:n] for trace in traces]))
    assert np.percentile((np.abs(result.c - c) / sd)[same], 99) < 0.05
    ours = np.sqrt(np.einsum("bii->bi", result.covariance))
    # Where the objectives agree, so do the CRLBs; those of parametrised macromolecules follow their undetermined widths
    metabolites = [not name.startswith("MM") for name in model.names]
    assert np.percentile(np.abs(ours / sd - 1)[same][:, metabolites], 99) < 1e-3
