"""Distances between groups of spectra, against hand-computed cases, closed forms, scipy and scikit-learn."""

import numpy as np
import pytest
from scipy import linalg, stats
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors

from mrs_synthesis import fidelity_metrics as metrics
from mrs_synthesis.seeds import generator


def neighbours(real, other, subjects=None, k=metrics.NEIGHBOURS):
    subjects = subjects or (np.arange(len(real)), np.arange(len(other)))
    pairs = ((real, real), (real, other), (other, other))
    return metrics.neighbours(*(metrics.distances(a, b) for a, b in pairs), subjects, k)


def test_neighbours_by_hand():
    # Real balls: [-1, 1], [0, 2], [1, 3], [2, 18]; the other ones': [-0.5, 1.5], [0.5, 2.5], [1.5, 58.5]
    real, other = np.array([[0.0], [1], [2], [10]]), np.array([[0.5], [1.5], [30]])
    found = neighbours(real, other, k=1)
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == 1.0
    assert found["density"] == pytest.approx(4 / 3)
    assert found["coverage"] == pytest.approx(3 / 4)


def test_radii_are_those_of_scikit_learn():
    points = generator(1, "points").standard_normal((40, 3))
    expected = NearestNeighbors(n_neighbors=4).fit(points).kneighbors(points)[0][:, 3]
    np.testing.assert_allclose(metrics.radii(metrics.distances(points, points), np.arange(40), 3), expected)


def test_neighbours_are_of_other_subjects():
    within = metrics.distances(*2 * (np.array([[0.0], [0.1], [5], [5.3]]),))
    np.testing.assert_allclose(metrics.radii(within, np.array([0, 0, 1, 1]), 1), [5, 4.9, 4.9, 5.2])
    np.testing.assert_allclose(metrics.radii(within, np.array([0, 0, 1, 1]), 2), [5.3, 5.2, 5, 5.3])


def test_expected_coverage_and_density_of_equal_distributions():
    # Naeem et al. 2020: E coverage = 1 - (N-1)...(N-k) / ((M+N-1)...(M+N-k)), E density = 1
    rng, n, k = generator(1, "coverage"), 50, 3
    found = [neighbours(*rng.standard_normal((2, n, 2))) for _ in range(60)]
    expected = 1 - np.prod([(n - i) / (2 * n - i) for i in range(1, k + 1)])
    assert np.mean([one["coverage"] for one in found]) == pytest.approx(expected, abs=0.02)
    assert np.mean([one["density"] for one in found]) == pytest.approx(1.0, abs=0.05)


def test_too_few_points_have_no_neighbours():
    assert all(np.isnan(value) for value in neighbours(np.zeros((3, 1)), np.zeros((9, 1))).values())


def test_frechet_is_that_of_scipy_and_of_the_closed_form():
    rng = generator(1, "frechet")
    real, other = rng.standard_normal((60, 4)) @ rng.standard_normal((4, 4)), rng.standard_normal((50, 4)) + 1
    first, second = np.cov(real.T), np.cov(other.T)
    apart = np.sum((real.mean(0) - other.mean(0)) ** 2)
    expected = apart + np.trace(first + second - 2 * linalg.sqrtm(first @ second).real)
    assert metrics.frechet(real, other) == pytest.approx(expected / np.trace(first), rel=1e-8)
    one, two = real[:, :1], other[:, :1]
    closed = (one.mean() - two.mean()) ** 2 + (one.std(ddof=1) - two.std(ddof=1)) ** 2
    assert metrics.frechet(one, two) == pytest.approx(closed / one.var(ddof=1))
    assert metrics.frechet(real, real) == pytest.approx(0, abs=1e-8)


def groups(n_first, n):
    return np.arange(n) < n_first, np.arange(n) >= n_first


def test_mmd_is_the_double_sum_and_the_closed_form_of_two_normals():
    rng, width, shift = generator(1, "mmd"), 1.5, 1.0
    points = np.concatenate([rng.standard_normal((900, 1)), rng.standard_normal((900, 1)) + shift])
    kernel = metrics.mean_kernel(points, np.arange(1800), width)
    found = metrics.mmd(kernel, *groups(900, 1800))
    closed = 2 * width / np.sqrt(width**2 + 2) * (1 - np.exp(-(shift**2) / (2 * (width**2 + 2))))
    assert found == pytest.approx(closed, abs=0.02)

    def k(a, b):
        return np.exp(-((a - b) ** 2) / (2 * width**2))

    x, y = [0.0, 1.0, 3.0], [2.0, 5.0]
    within = sum(k(a, b) for a in x for b in x if a != b) / 6 + sum(k(a, b) for a in y for b in y if a != b) / 2
    expected = within - 2 * sum(k(a, b) for a in x for b in y) / 6
    kernel = metrics.mean_kernel(np.array([*x, *y])[:, None], np.arange(5), width)
    assert metrics.mmd(kernel, *groups(3, 5)) == pytest.approx(expected)


def test_mmd_is_unbiased_where_transients_of_a_subject_are_alike():
    rng, by_subject, by_transient = generator(1, "clusters"), [], []
    for _ in range(150):
        points = rng.standard_normal((12, 1, 2)) + 0.1 * rng.standard_normal((12, 5, 2))
        flat = points.reshape(-1, 2)
        kernel = metrics.mean_kernel(flat, np.repeat(np.arange(12), 5), 1.0)
        by_subject.append(metrics.mmd(kernel, *groups(6, 12)))
        kernel = metrics.mean_kernel(flat, np.arange(60), 1.0)
        by_transient.append(metrics.mmd(kernel, *groups(30, 60)))
    error = 3 * np.std(by_subject) / np.sqrt(150)
    assert abs(np.mean(by_subject)) < error
    assert np.mean(by_transient) > error


def test_mmd_of_groups_with_as_many_subjects_of_each_site():
    rng, plain, stratified = generator(1, "strata"), [], []
    labels = ["a", "a", "a", "b", "b", "b"] * 2
    for _ in range(150):
        points = rng.standard_normal((12, 1)) + 6.0 * (np.array(labels) == "b")[:, None]
        kernel = metrics.mean_kernel(points, np.arange(12), 2.0)
        plain.append(metrics.mmd(kernel, *groups(6, 12)))
        stratified.append(metrics.mmd(kernel, *groups(6, 12), metrics.usable_strata(labels, 6)))
    error = 3 * np.std(stratified) / np.sqrt(150)
    assert abs(np.mean(stratified)) < error
    assert np.mean(plain) < -error
    assert metrics.usable_strata([*"aab", *"aaa"], 3) is None


def test_permutation_of_subjects():
    points = np.concatenate([np.zeros((5, 1)), np.full((5, 1), 9.0)]) + 0.1 * generator(1, "p").standard_normal((10, 1))
    kernel = metrics.mean_kernel(points, np.arange(10), 1.0)
    # Two of the 252 arrangements separate the groups
    assert metrics.permutation_p(kernel, 5, ["a"] * 10, 2000, generator(1, "a")) == pytest.approx(2 / 252, abs=0.006)
    assert np.isnan(metrics.permutation_p(kernel, 5, ["a"] * 5 + ["b"] * 5, 10, generator(1, "b")))


def test_jackknife_of_a_difference_of_means_is_welchs_interval():
    rng = generator(1, "jackknife")
    x, y = rng.standard_normal(8), 3 * rng.standard_normal(6)
    value, low, high = metrics.jackknife(lambda a, b: {"d": x[a].mean() - y[b].mean()}, 8, 6)["d"]
    half = stats.t.ppf(0.975, 5) * np.sqrt(x.var(ddof=1) / 8 + y.var(ddof=1) / 6)
    assert (value, low, high) == pytest.approx((x.mean() - y.mean(), value - half, value + half))
    many = metrics.jackknife(lambda a, b: {"precision": a.mean()}, 40, 25)["precision"]
    assert many == pytest.approx((1.0, 1.0, 1.0))
    assert np.isnan(metrics.jackknife(lambda a, b: {"d": 1.0}, 2, 6)["d"][1])


def test_axes_are_principal_components_above_the_noise():
    rng = generator(1, "axes")
    ways = np.linalg.qr(rng.standard_normal((60, 3)))[0].T
    signal = (rng.standard_normal((300, 3)) * [3, 2, 1.5]) @ (ways[:, :30] + 1j * ways[:, 30:])
    noise = 0.1 * (rng.standard_normal((300, 30)) + 1j * rng.standard_normal((300, 30)))
    axes = metrics.fit_axes(signal + noise, 0.1, 10)
    expected = PCA(3).fit(metrics.stacked(signal + noise))
    assert axes.basis.shape == (60, 3)
    np.testing.assert_allclose(np.abs(np.sum(axes.basis.T * expected.components_, axis=1)), 1, atol=1e-9)
    np.testing.assert_allclose(axes.share, expected.explained_variance_ratio_, rtol=1e-9)
    assert metrics.fit_axes(noise, 0.1, 10).basis.shape == (60, 2)
    np.testing.assert_allclose(axes.scores(signal).mean(axis=0), 0, atol=0.05)


def test_nmse_and_noise_share_by_hand():
    target = np.array([[3 + 4j, 0], [0, 5j]])
    assert metrics.nmse(target + np.array([1, 1j]), target) == pytest.approx(4 / 50)
    assert metrics.noise_share(np.array([1.0, 2.0]), target) == pytest.approx(2 * 2 * (1 + 4) / 50)


def test_classifier_sees_noise_as_roughness():
    x = np.linspace(0, 3, 64)
    smooth = np.exp(1j * x)[None]
    rng = generator(1, "rough")
    noisy = smooth + 0.05 * (rng.standard_normal((1, 64)) + 1j * rng.standard_normal((1, 64)))
    features = [metrics.classifier_features(values)[0] for values in (smooth, noisy)]
    assert features[0].shape == (24,)
    np.testing.assert_allclose(features[0][:8], smooth.real.reshape(8, 8).mean(axis=1))
    assert np.all(features[1][16:] - features[0][16:] > 1)
