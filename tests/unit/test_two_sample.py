"""Limits of the two-sample tests: what is below them is compared as ever, what is above keeps its strata and pairs."""

from collections import Counter

import numpy as np
import pytest

from mrs_synthesis import two_sample


@pytest.mark.parametrize("dimensions", [1, 2])
def test_mean_distances_are_those_of_all_pairs(dimensions):
    rng = np.random.default_rng(1)
    samples = [rng.standard_normal((n, dimensions)) for n in (5, 96, 1)]
    found = two_sample.between(samples)
    for i, a in enumerate(samples):
        for j, b in enumerate(samples):
            pairs = [np.linalg.norm(x - y) for k, x in enumerate(a) for m, y in enumerate(b) if i != j or k != m]
            assert found[i, j] == pytest.approx(np.mean(pairs) if pairs else 0)


def test_of_many_subjects_few_transients_of_each_count(monkeypatch):
    monkeypatch.setattr(two_sample, "MOST_ROWS", 12)
    samples = [np.arange(31.0)[:, None], np.arange(31.0)[:, None] + 100, np.zeros((2, 1))]
    ends = np.array([0.0, 10.0, 20.0, 30.0])  # four of each
    expected = np.abs(ends[:, None] - ends).sum() / 12
    found = two_sample.between(samples)
    assert found[0, 0] == pytest.approx(expected) and found[0, 1] == pytest.approx(100)
    assert two_sample.most_rows(1000) == 2


def test_no_more_subjects_than_the_limit_and_every_site_its_share(monkeypatch):
    monkeypatch.setattr(two_sample, "MOST_SUBJECTS", 10)
    labels = ["x"] * 30 + ["y"] * 15
    first = [np.full((1, 1), i) for i in range(45)]
    groups, strata = two_sample.limited((first, first[:9]), (labels, labels[:9]), np.random.default_rng(1))
    assert [len(group) for group in groups] == [10, 9]
    assert abs(Counter(strata[0])["x"] - 7) <= 1
    assert [labels[int(one[0, 0])] for one in groups[0]] == list(strata[0])
    pairs, _ = two_sample.limited((first, first), (labels, labels), np.random.default_rng(2))
    assert [int(one[0, 0]) for one in pairs[0]] == [int(one[0, 0]) for one in pairs[1]]  # made of each other
    same = two_sample.limited((first[:10], first[:3]), (labels[:10], labels[:3]), np.random.default_rng(1))[0]
    assert same[0] == first[:10] and same[1] == first[:3]


def test_large_groups_of_one_population_and_of_two_are_told(monkeypatch):
    monkeypatch.setattr(two_sample, "MOST_SUBJECTS", 20)
    rng = np.random.default_rng(3)
    first, second = ([rng.standard_normal(1) + rng.standard_normal((8, 1)) for _ in range(60)] for _ in range(2))
    strata = (["x", "y"] * 30,) * 2
    apart = [one + 2 for one in second]
    assert two_sample.energy_test(first, second, strata, rng, 200).p > 0.05
    assert two_sample.energy_test(first, apart, strata, rng, 200).p < 0.01
    assert two_sample.classify(first, apart, strata, rng)[0] > 0.65


def test_the_classifier_sees_a_limited_number_of_rows(monkeypatch):
    monkeypatch.setattr(two_sample, "MOST_ROWS", 80)
    seen = []
    fit = two_sample._logistic
    monkeypatch.setattr(two_sample, "_logistic", lambda rows, *more: (seen.append(len(rows)), fit(rows, *more))[1])
    rng = np.random.default_rng(4)
    group = [rng.standard_normal((50, 3)) for _ in range(4)]
    two_sample.classify(group, group, (["x"] * 4,) * 2, rng)
    assert max(seen) == 60  # ten of each of six subjects, two being left out
