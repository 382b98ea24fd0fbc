"""Parts of a study: nothing left out of a small one, every stratum its share of a large one."""

from collections import Counter

from mrs_synthesis import subset

SITES = {f"s{i:03d}": site for i, site in enumerate("a" * 120 + "b" * 60 + "c" * 18 + "d" * 2)}


def test_all_are_taken_where_there_are_not_more():
    assert subset.evenly(5, 5).tolist() == subset.evenly(5, 9).tolist() == [0, 1, 2, 3, 4]
    backwards = dict(reversed(SITES.items()))
    assert subset.subjects(backwards, 200, 1, "x") == list(backwards)


def test_even_parts_reach_from_end_to_end():
    assert subset.evenly(9, 3).tolist() == [0, 4, 8]
    assert len(set(subset.evenly(1000, 77))) == 77


def test_every_site_has_its_share():
    chosen = subset.subjects(SITES, 20, 1, "x")
    assert len(chosen) == len(set(chosen)) == 20
    assert chosen == sorted(chosen)  # the order of the study
    counts = Counter(SITES[name] for name in chosen)
    assert abs(counts["a"] - 12) <= 1 and abs(counts["b"] - 6) <= 1
    assert counts["c"] >= 1 and counts["d"] >= 1  # of which two would have had 0.2


def test_small_sites_keep_some():
    counts = Counter(SITES[name] for name in subset.subjects(SITES, 20, 1, "x", at_least=3))
    assert counts["c"] >= 3 and counts["d"] == 2
    assert sum(counts.values()) == 20
    few = Counter(SITES[name] for name in subset.subjects(SITES, 5, 1, "x", at_least=3))
    assert len(few) == 4  # one of each before two of any


def test_choice_is_random_but_for_seed_and_names():
    first = subset.subjects(SITES, 40, 1, "x")
    assert first == subset.subjects(dict(reversed(SITES.items())), 40, 1, "x")[::-1]
    assert first != subset.subjects(SITES, 40, 2, "x") != subset.subjects(SITES, 40, 2, "y")


def test_further_subjects_change_few_of_the_choice():
    more = SITES | {f"t{i:03d}": "a" for i in range(10)}
    before, after = (set(subset.subjects(sites, 60, 1, "x")) for sites in (SITES, more))
    assert len(before - after) <= 6
