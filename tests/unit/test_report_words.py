"""The report's sentences: fixed rules on the tables' numbers, never optimistic by default."""

import pandas as pd
import pytest

from mrs_synthesis import comparisons, report_agreement, report_reconstruction, report_words

NAN = float("nan")


def row(source="random", decoder="mean", **changes):
    """A row of the table `worth`; the filling is worth 5 transients."""
    found = {"source": source, "decoder": decoder, "n_real": 2, "n_eff": 5.0, "n_eff_ci_low": 4.0}
    found |= {"n_eff_ci_high": 6.0, "n_eff_clipped": "no", "slope": 0.9, "worth": "open", "p_worst": 0.2}
    return found | {"reason": "not shown to be better than the control shrinkage"} | changes


def table(*rows):
    frame = pd.DataFrame(rows).assign(metabolite="tNAA", condition="OFF")
    return report_agreement.with_measure(frame)


def test_verdict_is_the_tables_and_yes_names_only_what_is_worth_it():
    rows = [row(worth="yes", reason="all"), row("hybrid", "sampled", n_eff=30.0, slope=0.1, worth="no", reason="slope")]
    found = report_words.verdict(rows, [], 2)
    assert found["kind"] == "yes"
    assert "1 of 2 synthetic fillings is worth more than the 2 real transients alone" in found["text"]
    assert "random (mean): N_eff 5 (4 to 6), slope 0.9" in found["text"] and "hybrid" not in found["text"]


def test_open_names_the_one_nearest_by_p_even_if_a_hopeless_one_has_more():
    rows = [row(p_worst=0.3, n_eff=9.0), row("interpolation", p_worst=0.06), row("hybrid", n_eff=30.0, worth="no")]
    found = report_words.verdict(rows, [], 2)
    assert found["kind"] == "open"
    assert "the nearest, interpolation (mean)" in found["text"]
    assert "not shown to be better than the linear shrinkage control" in found["text"]


def test_nothing_is_worth_it_if_all_are_ruled_out():
    found = report_words.verdict([row(worth="no", reason="slope 0.1, below 0.8"), row("hybrid", worth="no")], [], 2)
    assert found["kind"] == "no" and found["text"].startswith("no filling is worth it")


@pytest.mark.parametrize("worth", [None, NAN, "", "perhaps", "n/a"])
def test_what_was_not_compared_is_open_and_said_to_be(worth):
    found = report_words.verdict([row(worth=worth, n_eff=99.0, n_eff_ci_low=98.0)], [], 2)
    assert (found["kind"], found["compared"]) == ("open", False)
    assert "no filling was compared with the controls" in found["text"]
    assert report_words.lead({"tNAA/tCr": {2: found}}).startswith("The synthetic fillings were not compared")


def test_without_the_table_of_worth_nothing_is_claimed():
    effective = table(*(row(n_eff=50.0) | {"worth": NAN}, row("shrinkage", None, n_eff=1.0)))
    found = report_words.verdicts(None, None, effective.drop(columns=["worth", "reason", "p_worst"]))
    assert found["tNAA/tCr (OFF)"][2]["compared"] is False
    assert report_words.verdicts(None, None, None) == {}


def test_the_best_of_real_and_controls_is_named_beside():
    others = [row("real", None, n_eff=2.0), row("shrinkage", None, n_eff=12.0, slope=0.1), row("duplicated", n_eff=NAN)]
    text = report_words.verdict([row()], [], 2, others)["text"]
    assert text.endswith("For comparison, the linear shrinkage control: N_eff 12 (4 to 6), slope 0.1.")


def test_comparisons_stand_beside_their_own_filling():
    common = {
        "decoder": "mean",
        "rmse_ratio": 0.5,
        "rmse_ratio_ci_low": 0.25,
        "rmse_ratio_ci_high": 0.75,
        "p_holm": 0.01,
    }
    found = report_words.judged(
        [row(), row("hybrid")],
        [
            common | {"source": "random", "against": "shrinkage", "against_n_real": 2, "verdict": "worse"},
            common | {"source": "random", "against": "real", "against_n_real": 8, "verdict": "no difference shown"},
            common | {"source": "random", "against": "real", "against_n_real": 2, "verdict": "better"},
        ],
    )
    assert [entry["name"] for entry in found] == ["random (mean)", "hybrid (mean)"]
    against = found[0]["against"]
    assert list(against) == ["real transients alone", "as many real transients", "linear shrinkage control"]
    assert [one["mark"] for one in against.values()] == ["good", "unsure", "poor"]
    alone = against["real transients alone"]
    assert (alone["ratio"], alone["interval"], alone["value"]) == ("0.5", "0.25 to 0.75", 0.5)
    assert found[1]["against"] == {}


def test_several_n_real_are_judged_one_by_one():
    worth = table(row(n_real=2, worth="no"), row(n_real=4, worth="yes"), row(n_real=8, worth="open"))
    found = report_words.verdicts(worth, None, None)
    assert {n: v["kind"] for n, v in found["tNAA/tCr (OFF)"].items()} == {2: "no", 4: "yes", 8: "open"}
    lead = report_words.lead(found)
    assert "For 1 of 3 combinations" in lead and "tNAA/tCr (OFF) from 4 real" in lead
    assert lead.endswith("ruled out for 1, not decided for 1.")


def test_none_is_said_first_if_nothing_is_worth_it():
    found = report_words.verdicts(table(row(worth="open")), None, None)
    lead = report_words.lead(found)
    assert lead.startswith("For none of the 1 metabolite ratios")
    assert lead.endswith("ruled out for 0, not decided for 1.")


def test_rules_on_the_page_are_those_of_the_table():
    assert comparisons.SLOPE_LIMIT == report_words.SLOPE_LIMIT and comparisons.ALPHA == report_words.ALPHA
    assert {comparisons.BETTER, comparisons.WORSE, comparisons.ALIKE} == set(report_words.MARKS)
    assert {comparisons.YES, comparisons.NO, comparisons.OPEN} == set(report_words.KINDS)


def test_clipped_numbers_are_marked():
    assert report_words.numbers(row(n_eff=80.0, n_eff_clipped="high")).startswith("N_eff ≥ 80 (")


def test_bias_sentences_count_by_holm_where_it_is_known():
    rows = [row(bias_percent=-3.0, tost_p=0.01, tost_p_holm=0.2), row(bias_percent=1.0, tost_p=0.001, tost_p_holm=0.01)]
    corrected = report_words.bias_sentences(table(*rows), 10.0)[0]
    assert "for 1 of 2" in corrected and "Holm" in corrected and "the largest bias is -3 %" in corrected
    plain = report_words.bias_sentences(table(*rows).drop(columns="tost_p_holm"), 10.0)[0]
    assert "for 2 of 2" in plain and "not corrected" in plain


def test_differences_between_sites_are_counted():
    terms = [("intercept", 0.001), ("site B - A", 0.01), ("site C - A", 0.2), ("vendor X - Y", NAN), ("sd_site", NAN)]
    mixed = pd.DataFrame([{"source": "random", "term": term, "p": p} for term, p in terms])
    mixed.loc[len(mixed)] = {"source": "real", "term": "site B - A", "p": 0.001}
    (sentence,) = report_words.site_sentence(mixed)
    assert "between sites, p < 0.05 for 1 of 2 comparisons" in sentence and "vendor" not in sentence
    assert report_words.site_sentence(mixed.iloc[:1]) == [] and report_words.site_sentence(None) == []


def test_memorisation_is_in_words():
    content = {"verdicts": [{"source": "copier_1", "decoder": None, "verdict": "copies", "sentence": "copies"}]}
    content["verdicts"].append({"source": "random", "decoder": "mean", "verdict": "not nearer", "sentence": "far"})
    found = report_words.memorised(content)
    assert [f["mark"] for f in found] == ["poor", "good"]
    assert [f["name"] for f in found] == ["positive control, copies + noise", "random (mean)"]


def test_reconstruction_is_judged_by_both_bias_and_slope():
    row = {"metabolite": "Ins", "condition": "UNEDITED", "source": "reconstruction", "bias_percent": -1.0}
    row |= {"bias_ci_low": -3.0, "bias_ci_high": 2.0, "tost_p": 0.001, "slope": 0.9, "slope_ci_low": 0.7}

    def judged(**changes):
        table = report_agreement.with_measure(pd.DataFrame([row | {"slope_ci_high": 1.1} | changes]))
        return report_reconstruction.reconstruction_verdicts(table, None, 10.0)["Ins/tCr"]

    assert judged()["kind"] == "yes"
    assert judged(slope=0.5)["kind"] == "open"  # its interval reaches 0.8
    assert judged(slope=0.5, slope_ci_high=0.7)["kind"] == "no"
    assert judged(slope=float("nan"))["kind"] == "open"
    assert judged(tost_p=0.2)["kind"] == "open"
    assert judged(bias_percent=14.0, bias_ci_low=11.0, bias_ci_high=17.0, tost_p=0.99)["kind"] == "no"
