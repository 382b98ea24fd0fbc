"""The study plan: disjointness, sizes, determinism, and independence from other units."""

from itertools import combinations

import pytest

from mrs_synthesis.cells import per_condition, plan
from mrs_synthesis.stage import InputError


def make(eligible=range(100), n_real=2, n_total=40, replicates=4, seed=1, unit="sub-01"):
    return plan(eligible, n_real, n_total, replicates, seed, unit)


def test_every_eligible_transient_is_used_once():
    eligible = [7 * i + 3 for i in range(100)]
    result = make(eligible)
    assert sorted(result.reference + result.pool) == eligible
    assert (len(result.pool), len(result.reference)) == (40, 60)


def test_pool_grows_with_the_replicates():
    assert len(make(n_real=2, n_total=10, replicates=20).pool) == 40
    assert len(make(n_real=2, n_total=10, replicates=3).pool) == 10


def test_replicates_are_disjoint_and_of_the_pool():
    result = make(replicates=5, n_real=3)
    assert [len(r) for r in result.replicates] == [3] * 5
    for a, b in combinations(result.replicates, 2):
        assert not set(a) & set(b)
    assert set().union(*result.replicates) <= set(result.pool)
    assert not set(result.pool) & set(result.reference)


@pytest.mark.parametrize(("n", "expected"), [(1, 4), (8, 4), (16, 2), (40, 1), (41, 0)])
def test_learning_curve_subsets(n, expected):
    subsets = make().subsets(n)
    assert len(subsets) == expected
    used = [transient for subset in subsets for transient in subset]
    assert len(used) == len(set(used)) == n * expected
    assert set(used) <= set(make().pool)


def test_subsets_of_n_real_are_the_replicates():
    assert make().subsets(2) == make().replicates


def test_order_of_eligible_does_not_matter_but_seed_and_unit_do():
    assert make(list(range(100))[::-1]) == make()
    assert make(seed=2).pool != make().pool
    assert make(unit="sub-02").pool != make().pool
    assert list(make().pool) != sorted(make().pool)


def test_one_more_than_the_pool_is_enough_and_the_pool_alone_is_not():
    assert len(make(range(41)).reference) == 1
    with pytest.raises(InputError, match=r"sub-01: 40 eligible .* at least 41") as caught:
        make(range(40))
    assert "\n" not in str(caught.value)


def test_senseless_numbers_are_refused():
    for wrong in ({"n_real": 0}, {"n_real": 50}, {"replicates": 0}):
        with pytest.raises(InputError):
            make(**wrong)


def test_per_condition():
    assert per_condition(40, "per_condition", 2) == 40
    assert per_condition(40, "total", 2) == 20
    assert per_condition(40, "total", 1) == 40
    for arguments in ((5, "total", 2), (40, "each", 2), (1, "total", 2)):
        with pytest.raises(InputError):
            per_condition(*arguments)
