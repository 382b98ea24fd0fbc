"""Nearest training spectra: those of brute force, whichever block they are in, with one block in memory."""

import numpy as np
import pytest

from mrs_synthesis import neighbours
from mrs_synthesis.neighbours import Training, two_nearest
from mrs_synthesis.seeds import generator

W = 24


def noise(rng, shape, sd=1.0):
    return sd * (rng.standard_normal(shape) + 1j * rng.standard_normal(shape))


class Counted:
    """Spectra that note how many rows they are asked for at once, and all that they are asked for."""

    def __init__(self, values):
        self.values, self.most, self.total = values, 0, 0

    def __getitem__(self, rows):
        self.most, self.total = max(self.most, len(rows)), self.total + len(rows)
        return self.values[rows]


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(neighbours, "BLOCK", 7)
    monkeypatch.setattr(neighbours, "EXACT", 2)
    monkeypatch.setattr(neighbours, "QUERIES", 3)


def trained(values, subjects="a", rows=None):
    rows = np.arange(len(values)) if rows is None else rows
    return Training(values, rows, np.ones(len(rows)), list(subjects) * (len(rows) // len(subjects)))


def brute_force(queries, rows):
    return np.sort(np.linalg.norm(queries[:, None] - rows, axis=2), axis=1)[:, :2]


def test_nearest_distances_in_blocks():
    blocks = [np.array([[0.0, 0.0], [3.0, 4.0]]), np.array([[0.0, 1.0]])]
    found = two_nearest(np.array([[0.0, 0.0], [3.0, 4.0]]), blocks)
    assert found == pytest.approx(np.array([[0, 1], [0, np.sqrt(18)]]))


@pytest.mark.parametrize("signal", [0.0, 1e3])
def test_same_as_brute_force_whatever_the_signal(small_blocks, signal):
    """A signal in common, a thousand times the noise: |a|^2 - 2 a b + |b|^2 in single precision would be noise."""
    rng = generator(1, "brute")
    common = signal * np.exp(1j * np.linspace(0, 3, W))
    values, queries = (common + noise(rng, (n, W)) for n in (60, 10))
    training = trained(values, rows=np.arange(0, 60, 2))
    found = training.nearest(queries)
    np.testing.assert_allclose(found["window"], brute_force(queries, values[::2]), rtol=1e-10)
    scores = [training.project(neighbours.vectors(one)) for one in (queries, values[::2])]
    np.testing.assert_allclose(found["components"], brute_force(*scores), rtol=1e-6)


def test_rounding_of_the_search_is_far_below_the_gaps_it_has_to_tell():
    rng = generator(1, "gaps")
    values, queries = 30 + noise(rng, (2000, W)), 30 + noise(rng, (50, W))
    near, which = (values - 30).view(float), []
    for kind in (np.float32, np.float64):
        parts = (near[start : start + 512].astype(kind) for start in range(0, 2000, 512))
        which.append(neighbours.candidates((queries - 30).view(float).astype(kind), parts)[0])
    assert np.mean(which[0] == which[1]) > 0.999  # all four of each, while two are wanted
    assert trained(values).nearest(queries, ["window"])["window"] == pytest.approx(brute_force(queries, values))


@pytest.mark.parametrize("place", [0, 6, 7, 29])
def test_a_copy_is_found_in_whichever_block_it_is(small_blocks, place):
    rng = generator(1, "copy")
    values = noise(rng, (30, W)).astype(np.complex64)
    queries = np.concatenate([noise(rng, (4, W)), values[[place]]])
    found = trained(values).nearest(queries)["window"]
    assert found[4, 0] == 0 < 1 < found[4, 1]
    assert found[:4, 0].min() > 1


def test_copies_of_one_spectrum_fill_no_place_of_the_nearest(small_blocks):
    rng = generator(1, "same")
    values = np.concatenate([np.repeat(noise(rng, (1, W)), 9, axis=0), 5 + noise(rng, (9, W))])
    assert trained(values).nearest(values[[0]])["window"].tolist() == [[0, 0]]
    near = trained(values[[0, 10, 11]]).nearest(values[[0]])["window"][0]
    assert near == pytest.approx(brute_force(values[[0]], values[[0, 10, 11]])[0])


def test_of_one_spectrum_there_is_no_second():
    rng = generator(1, "one")
    assert trained(noise(rng, (1, W))).nearest(noise(rng, (2, W)), ["window"])["window"][:, 1].tolist() == [np.inf] * 2


@pytest.mark.parametrize("n", [70, 700])
def test_a_block_is_held_however_many_there_are(small_blocks, n):
    rng = generator(1, "held")
    spectra = Counted(noise(rng, (n, W)))
    training = trained(spectra, subjects="abcdefghij", rows=np.arange(n))
    assert spectra.most == 7 and spectra.total == 2 * n  # mean and covariance
    training.nearest(noise(rng, (3, W)))
    assert spectra.most == 2 * neighbours.CANDIDATES
    assert spectra.total == 4 * n + 3 * neighbours.CANDIDATES  # each space reads all of them once


def test_groups_keep_their_distances(small_blocks):
    rng = generator(1, "groups")
    training = trained(noise(rng, (20, W)))
    groups = [noise(rng, (n, W)) for n in (1, 5, 2)]
    together = training.nearest_of(groups, ["window"])["window"]
    for group, found in zip(groups, together, strict=True):
        np.testing.assert_array_equal(found, training.nearest(group, ["window"])["window"])


def test_means_of_subjects_and_of_all():
    rng = generator(1, "means")
    values = noise(rng, (12, W))
    training = trained(values, subjects="bcab")  # a: 2 6 10, b: 0 3 4 7 8 11, c: 1 5 9
    means = [values[[2, 6, 10]].mean(axis=0), values[[0, 3, 4, 7, 8, 11]].mean(axis=0), values[[1, 5, 9]].mean(axis=0)]
    np.testing.assert_allclose(training.subject_means([2, 0, 2]), [means[2], means[0], means[2]])
    np.testing.assert_allclose(training.population_mean, np.mean(means, axis=0))
