"""The study plan: disjointness, sizes, determinism, and independence from other units."""

from itertools import combinations

import pytest

from mrs_synthesis.cells import amounts, count_cells, headline, per_condition, plan, real_sizes
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


def test_plan_of_the_demo_is_as_it_was_before_there_were_grids():
    result = make(range(76), 2, 40, 4, 2603, "sub-11_acq-megapress")
    assert result.replicates == ((62, 43), (63, 54), (3, 24), (2, 11))
    assert (len(result.pool), result.pool[8:12]) == (40, (9, 74, 13, 41))
    assert (len(result.reference), sum(result.reference)) == (36, 1239)
    assert [one.dyn_range for one in result.sets] == [(0, 38), (38, 76), (76, 114), (114, 152)]


GRID = {"n_real": [2, 8, 64], "n_total": [40, 40, 80]}


def test_a_grid_shares_one_pool_and_fills_it_with_disjoint_sets():
    result = make(range(100), **GRID)
    assert (len(result.pool), len(result.reference)) == (80, 20)  # the largest n_total
    assert [(one.n_real, one.n_total, one.replicate) for one in result.sets] == [
        *((2, 40, r) for r in range(4)),
        *((8, 40, r) for r in range(4)),
        (64, 80, 0),  # 80 // 64 = 1
    ]
    for n in GRID["n_real"]:
        own = [one.transients for one in result.sets if one.n_real == n]
        used = [transient for transients in own for transient in transients]
        assert all(len(transients) == n for transients in own)
        assert used == list(result.pool[: n * len(own)])  # disjoint, from the beginning
        assert tuple(own) == result.subsets(n)
    assert not set(result.reference) & set(result.pool)


def test_synthetic_transients_of_a_grid_follow_each_other_without_a_gap():
    sets = make(range(100), **GRID).sets
    ends = [0]
    for one in sets:
        start, stop = one.dyn_range
        assert (start, stop - start) == (ends[-1], one.n_total - one.n_real)
        ends.append(stop)
    assert ends[-1] == 4 * 38 + 4 * 32 + 16


def test_pool_of_a_grid_holds_the_replicates_of_the_smallest_and_one_of_the_largest():
    assert len(make(n_real=[4, 2], n_total=10, replicates=20).pool) == 40
    assert len(make(n_real=[2, 30], n_total=[10, 31], replicates=3).pool) == 31


def test_one_n_total_serves_all_or_each_has_its_own():
    assert amounts([2, 4], 40) == amounts([2, 4], [40]) == amounts([2, 4], [40, 40]) == [(2, 40), (4, 40)]
    assert amounts(2, 40) == amounts([2], [40]) == [(2, 40)]
    assert amounts([2, 4], [20, 40], "total", 2) == [(1, 10), (2, 20)]


@pytest.mark.parametrize(
    ("n_real", "n_total"),
    [([2, 4, 8], [40, 40]), ([2, 40], 40), ([2, 4], [40, 4]), ([2, 2], 40), (2, [40, 41]), ([], 4)],
)
def test_amounts_that_do_not_fit_together_are_one_clear_line(n_real, n_total):
    with pytest.raises(InputError, match=r"n_real .* n_total .*: expected") as caught:
        amounts(n_real, n_total)
    assert "\n" not in str(caught.value)


def test_cells_are_counted_by_hand():
    pairs = amounts([2, 4], [8, 16])
    sizes = real_sizes(pairs, [1, 4, 32])
    assert sizes == [1, 2, 4, 8, 16, 32]
    assert real_sizes(amounts([2], [8], "total", 2), [3, 6], "total", 2) == [1, 3, 4]
    # a pool of 16; reference and reconstruction; 3 + 3 + 3 + 2 + 1 + 0 real ones; 6 sets of 2 kinds and 5 controls
    assert count_cells(pairs, sizes, 3, 2, 5) == 2 + 12 + 6 * 7


def test_headline_is_the_smallest_n_real():
    found = [{"NReal": 4, "Replicate": 0}, {"NReal": 2, "Replicate": 0}, {"NReal": 2, "Replicate": 1}]
    assert headline(found) == found[1:]


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
