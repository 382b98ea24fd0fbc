"""The bound against closed forms, brute force, the phantom's own draws, and an estimator that reaches it."""

import json
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from analytic_basis import analytic_basis

from mrs_synthesis import bayes_bound as bound
from mrs_synthesis import phantom
from mrs_synthesis import phantom_signal as signal
from mrs_synthesis.files import read_table
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

SITE = phantom.SITES["philips"]
NOTHING = np.zeros((0, 64))


def random_fids(rng, *shape):
    return rng.standard_normal(shape) + 1j * rng.standard_normal(shape)


def noise_free(bases, x, m, shape):
    """Return the metabolites' FIDs of logarithms x: concentrations, factors, Lorentzian and Gaussian width."""
    widths = replace(
        shape, lorentz_hz=shape.lorentz_hz * np.exp(x[2 * m]), gauss_hz=shape.gauss_hz * np.exp(x[2 * m + 1])
    )
    return np.einsum("m,emt,mt->et", np.exp(x[:m]), bases, widths.decay(np.exp(x[m : 2 * m])))


def test_one_amplitude_has_its_closed_form():
    fid, sd, prior = random_fids(generator(1, "toy"), 2, 1, 64), 3.0, 0.2
    one = bound.linearise(fid, np.zeros((2, 2, 64)), NOTHING, sd)
    for n in (1, 5):
        told = bound.information(one, n, np.eye(4 * n))
        energy = n * np.sum(np.abs(fid) ** 2) / sd**2
        with_prior, without = bound.covariances(told, np.array([1 / prior**2]), 1)
        assert with_prior == pytest.approx(1 / (energy + 1 / prior**2))
        assert without == pytest.approx(1 / energy)


def test_an_overlapping_line_of_unknown_size_takes_the_share_that_they_have_in_common():
    rng = generator(2, "toy")
    one_fid = random_fids(rng, 64)
    other = random_fids(rng, 64) + 0.7 * one_fid
    derivatives = np.tile(np.stack([one_fid, other]), (2, 1, 1))
    one = bound.linearise(derivatives, np.zeros((2, 2, 64)), NOTHING, 1.0)
    _, free = bound.covariances(bound.information(one, 3, np.eye(12)), np.array([1.0, 0.0]), 1)
    square = np.vdot(other, one_fid).real ** 2 / (np.vdot(one_fid, one_fid) * np.vdot(other, other)).real
    assert free == pytest.approx(1 / (6 * np.vdot(one_fid, one_fid).real * (1 - square)))
    # The same line with a complex amplitude of its own in every transient takes the complex share
    one = bound.linearise(derivatives[:, :1], np.zeros((2, 2, 64)), other[None], 1.0)
    complex_square = abs(np.vdot(other, one_fid)) ** 2 / (np.vdot(one_fid, one_fid) * np.vdot(other, other)).real
    told = bound.information(one, 3, np.eye(12))
    assert told == pytest.approx(6 * np.vdot(one_fid, one_fid).real * (1 - complex_square))


def test_a_parameter_like_the_phase_is_as_uncertain_as_the_transients_phases():
    fid, sd, jitter, n = random_fids(generator(3, "toy"), 2, 1, 64), 2.0, 0.3, 4
    moved = np.concatenate([np.zeros_like(fid), 1j * fid], axis=1)
    one = bound.linearise(1j * fid, moved, NOTHING, sd)
    energy = np.sum(np.abs(fid[:, 0]) ** 2, axis=-1) / sd**2
    told = bound.information(one, n, jitter**2 * np.eye(4 * n))
    assert told == pytest.approx(np.sum(n / (jitter**2 + 1 / energy)))
    amplitude = bound.linearise(fid, moved, NOTHING, sd)  # an amplitude is orthogonal to the phase: nothing is lost
    assert bound.information(amplitude, n, 1e6 * np.eye(4 * n)) == pytest.approx(n * energy.sum())


def test_shifts_and_phases_of_all_transients_agree_with_brute_force():
    rng, n, p = generator(4, "toy"), 3, 5
    derivatives, moved = random_fids(rng, 2, p, 64), random_fids(rng, 2, 2, 64)
    tracks = bound.track_covariance(n, 8)
    told = bound.information(bound.linearise(derivatives, moved, NOTHING, 4.0), n, tracks)
    design = np.zeros((2, n, 64, p + 4 * n), complex)  # every transient's points by every parameter
    for e in range(2):
        for k in range(n):
            design[e, k, :, :p] = derivatives[e].T
            at = p + 2 * (e * n + k)
            design[e, k, :, at : at + 2] = moved[e].T
    design = design.reshape(-1, p + 4 * n) / 4.0
    whole = (design.conj().T @ design).real
    whole[p:, p:] += np.linalg.inv(tracks)
    np.testing.assert_allclose(np.linalg.inv(told), np.linalg.inv(whole)[:p, :p], rtol=1e-6)


def test_derivatives_of_the_metabolites_are_those_of_the_signal():
    m = 3
    bases = random_fids(generator(5, "toy"), 2, m, signal.N_POINTS)
    shape = signal.Shape(3.0, 5.0, 0.0, 1.0)
    x = np.array([0.3, -0.2, 1.0, 0.1, -0.1, 0.05, 0, 0])
    total, derivatives = bound.metabolite_derivatives(bases, np.exp(x[:m]), shape, np.exp(x[m : 2 * m]))
    np.testing.assert_allclose(total, noise_free(bases, x, m, shape), atol=1e-12)
    for i, step in enumerate(1e-5 * np.eye(2 * m + 2)):
        change = (noise_free(bases, x + step, m, shape) - noise_free(bases, x - step, m, shape)) / 2e-5
        np.testing.assert_allclose(derivatives[:, i], change, atol=1e-6)


def test_baseline_has_the_covariance_of_the_phantoms():
    points = [0, 3, 8]
    drawn = [signal.baseline(generator(6, "baseline", i), SITE.frequency_mhz)[:, points] for i in range(3000)]
    drawn = np.array([np.concatenate([b.real, b.imag]).ravel() for b in drawn])
    shapes = bound.baseline_shapes(SITE.frequency_mhz, 1e-3)[:, :, points]
    ours = np.concatenate([shapes.real, shapes.imag]).transpose(0, 2, 1).reshape(-1, shapes.shape[1])
    expected, found = ours @ ours.T, drawn.T @ drawn / len(drawn)
    sd = np.sqrt(np.diag(expected))
    np.testing.assert_allclose(np.diag(found), sd**2, rtol=0.12)
    np.testing.assert_allclose(found / np.outer(sd, sd), expected / np.outer(sd, sd), atol=0.1)
    # The conditions differ by 5 % of the baseline each, which sampling noise does not hide
    difference = ours[:3] - ours[3:6]
    assert np.var(drawn[:, 0] - drawn[:, 3]) == pytest.approx(np.sum(difference[0] ** 2), rel=0.15)


def test_shifts_and_phases_have_the_covariance_of_the_phantoms(monkeypatch):
    monkeypatch.setattr(signal, "BAD_SHARE", 0.0)
    site, n = replace(SITE, n_coils=4), 20
    motions = [signal.draw_motion(partial(generator, 7, i), site, n) for i in range(1500)]
    covariance = bound.track_covariance(n, n).reshape(2, n, 2, 2, n, 2)
    for kind, name in enumerate(("shift_hz", "phase_rad")):
        drawn = np.array([getattr(motion, name) for motion in motions])
        for a, b in (((0, 0), (1, 0)), ((0, 0), (0, n - 1)), ((0, n // 2), (1, n // 2))):
            ours = covariance[(*a, kind, *a, kind)] + covariance[(*b, kind, *b, kind)]
            ours -= 2 * covariance[(*a, kind, *b, kind)]
            assert np.var(drawn[:, *a] - drawn[:, *b]) == pytest.approx(ours, rel=0.2), (name, a, b)
        assert np.var(drawn[:, 1, 0]) == pytest.approx(covariance[1, 0, kind, 1, 0, kind], rel=0.15), name


def test_the_posterior_mean_reaches_the_bound():
    """Two overlapping lines and a common width, all lognormal: the posterior by quadrature, no linearisation."""
    rng, n_points, m, n, n_drawn = generator(8, "reduced"), 512, 2, 3, 1500
    lines = {"A": [(3.00, 2), (2.28, 2)], "B": [(3.06, 3), (3.9, 2)]}
    on = {"A": [(3.00, 2)], "B": [(3.06, 3), (3.9, 2)]}
    bases = np.stack([analytic_basis(x, n_points=n_points).fids for x in (lines, on)])
    shape, prior, noise = signal.Shape(3.0, 5.0, 0.0, 1.0), np.array([0.2, 0.1, 0.12]), 6.0
    gradient = np.array([1.0, -1.0])

    def fids(width):  # (m, 2 * n_points)
        decay = replace(shape, lorentz_hz=shape.lorentz_hz * np.exp(width)).decay()[:n_points]
        return (bases * decay).transpose(1, 0, 2).reshape(m, -1)

    nodes = np.linspace(-4, 4, 25)
    grid = nodes[:, None] * prior
    columns = np.stack([fids(width) for width in grid[:, 2]])
    gram = np.einsum("wat,wbt->wab", columns.conj(), columns).real
    a, b = np.exp(grid[:, 0])[:, None], np.exp(grid[:, 1])
    square = (a**2 * gram[:, 0, 0, None, None] + b**2 * gram[:, 1, 1, None, None]) + 2 * a * b * gram[:, 0, 1][
        :, None, None
    ]
    log_prior = -0.5 * (nodes[:, None, None] ** 2 + nodes[:, None] ** 2 + nodes**2)
    variance = noise**2 / n
    truths, errors, estimates, limits = rng.standard_normal((n_drawn, 3)) * prior, [], [], []
    for x in truths:
        data = np.exp(x[:m]) @ fids(x[2]) + noise / np.sqrt(n) * random_fids(rng, 2 * n_points)
        seen = (columns.conj() @ data).real
        log_posterior = log_prior + (a * seen[:, 0, None, None] + b * seen[:, 1, None, None] - square / 2) / variance
        weight = np.exp(log_posterior - log_posterior.max())
        estimates.append(np.sum(weight * (grid[:, 0][:, None] - grid[:, 1])) / weight.sum())
        errors.append(estimates[-1] - gradient @ x[:m])
    for x in truths[:100]:
        widths = replace(shape, lorentz_hz=shape.lorentz_hz * np.exp(x[2]))
        _, derivatives = bound.metabolite_derivatives(bases, np.exp(x[:m]), widths, np.ones(m))
        one = bound.linearise(derivatives[:, [0, 1, 4]], np.zeros((2, 2, n_points)), NOTHING[:, :0], noise)
        covariance, _ = bound.covariances(bound.information(one, n, np.eye(4 * n)), 1 / prior**2, m)
        limits.append(gradient @ covariance @ gradient)
    limit, before = np.mean(limits), np.sum(prior[:m] ** 2)
    assert 0.2 < limit / before < 0.8  # neither the prior nor the data decide alone
    assert np.sqrt(np.mean(np.square(errors))) == pytest.approx(np.sqrt(limit), rel=0.05)  # sampling: 1.8 %
    slope = np.polyfit(truths[:, 0] - truths[:, 1], estimates, 1)[0]
    assert slope == pytest.approx(1 - limit / before, abs=0.05)


@pytest.fixture(scope="module")
def bases():
    """A line for each of the phantom's metabolites; MM3co only in ON."""
    places = np.linspace(0.9, 4.1, len(bound.NAMES))
    off = {name: [(ppm, 3), (ppm + 0.3, 1)] for name, ppm in zip(bound.NAMES, places, strict=True)}
    fids = np.stack([analytic_basis(off, mhz=SITE.frequency_mhz).fids] * 2)
    fids[0, bound.NAMES.index("MM3co")] = 0
    return fids


def variances(bases, n_real, **change):
    settings = {"n_transients": 80, "snr": 15.0, "n_subjects": 3, "seed": 1} | change
    return bound.site_variances(SITE, bases, ["GABA+", "tNAA"], n_real, **settings)


def test_limits_of_noise_and_number(bases):
    prior, limit, free = np.moveaxis(variances(bases, [1, 4, 16]), -1, 0)
    assert (limit < prior).all() and (limit < free).all()
    assert (np.diff(limit, axis=1) < 0).all() and (np.diff(free, axis=1) < 0).all()
    assert (free[:, 1:] > free[:, :-1] / 4 * 0.999).all()  # what is common to all transients does not average out
    blind = variances(bases, [1], snr=0.01)[:, 0]
    np.testing.assert_allclose(blind[:, 1], blind[:, 0], rtol=1e-3)
    # Four transients are one of half the noise, but that everyone has a shift and phase of its own
    np.testing.assert_allclose(variances(bases, [1], snr=30.0)[:, 0, 1], limit[:, 1], rtol=0.05)


def test_prior_is_the_spread_of_the_phantoms_ratios(bases):
    expected = np.sqrt(variances(bases, [1], n_subjects=60)[:, 0, 0])
    subjects = [phantom.draw_concentrations(partial(generator, 9, i)) for i in range(2000)]
    rows = [{row[1]: row[3] for row in phantom.truth_rows("x", concentrations)} for concentrations in subjects]
    for name, sd in zip(("GABA+", "tNAA"), expected, strict=True):
        ratios = np.array([row[name] for row in rows])
        assert ratios.std() / ratios.mean() == pytest.approx(sd, rel=0.05)


@pytest.fixture
def study(tmp_path, bases):
    folder = tmp_path / "mega128"
    for condition, fids in zip(signal.CONDITIONS, bases, strict=True):
        (folder / condition).mkdir(parents=True)
        for name, fid in zip(bound.NAMES, fids, strict=True):
            content = {"basis_re": fid.real.tolist(), "basis_im": fid.imag.tolist(), "basis_name": name}
            content |= {"basis_dwell": 0.0005, "basis_centre": SITE.frequency_mhz, "basis_width": 1.5}
            (folder / condition / f"{name}.json").write_text(json.dumps({"basis": content}))
    (folder / "basis.json").write_text(json.dumps({"sequence": "mega-press", "te_ms": 68}))
    units = "unit\tsite\tvendor\tsplit\na\tp1\tphilips\ttest\nb\tp1\tphilips\ttest\nc\tp2\tphilips\ttest\n"
    (tmp_path / "units.tsv").write_text(units + "d\ts1\tsiemens\ttrain\n")
    words = ["--units", tmp_path / "units.tsv", "--vendors", "philips", "--bases", folder, "--seed", "1"]
    words += ["--subjects", "2", "--transients", "8", "--output", tmp_path / "bayes_bound.tsv"]
    return tmp_path, [str(word) for word in words]


def test_table(study):
    folder, words = study
    bound.main([*words, "--ratios", "DIFF:GABA+", "OFF:mI", "OFF:Xyz", "--n-real", "2", "8", "40"])
    table = read_table(folder / "bayes_bound.tsv")
    assert tuple(table.columns) == bound.COLUMNS
    assert set(json.loads((folder / "bayes_bound.json").read_text())) >= set(bound.COLUMNS)
    assert set(table["metabolite"]) == {"GABA+", "Ins"} and set(table["n_real"]) == {2, 8}  # a scan has but 8
    assert dict(zip(table["site"], table["n"], strict=True)) == {"all": 3, "p1": 2, "p2": 1}  # training scans: no part
    slope = 1 - (table["bound_rmse_percent"] / table["prior_cv_percent"]) ** 2
    np.testing.assert_allclose(table["slope"], slope, rtol=1e-5)
    first = (folder / "bayes_bound.tsv").read_bytes()
    bound.main([*words, "--ratios", "DIFF:GABA+", "OFF:mI", "--n-real", "2", "8"])
    assert (folder / "bayes_bound.tsv").read_bytes() == first


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--ratios", "GABA+"], "expected CONDITION:METABOLITE"),
        (["--ratios", "OFF:Xyz"], "none of these"),
        (["--ratios", "OFF:tNAA", "--n-real", "40"], "--transients"),
        (["--ratios", "OFF:tNAA", "--vendors", "siemens"], "vendor philips at p1"),
        (["--ratios", "OFF:tNAA", "--vendors", "siemens", "philips"], "as many"),
    ],
)
def test_bad_input_is_one_line(study, change, message):
    with pytest.raises(InputError, match=message) as error:
        bound.main([*study[1], *change])
    assert "\n" not in str(error.value)
