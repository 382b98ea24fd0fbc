"""What sidecars of synthetic scans say of the model that made them."""

from mrs_synthesis import sidecars

CONFIG = {
    "model": "subject",
    "weights_sha256": "abc",
    "training": {"counts": {"train": {"subjects": 8, "transients": 600}, "validation": {"subjects": 3}}},
}


def test_a_synthetic_scan_tells_model_training_set_and_where_its_memorisation_test_is():
    facts = sidecars.model_facts(CONFIG)
    assert facts["Synthetic"] is True and facts["SyntheticStatement"].startswith("SYNTHETIC")
    assert (facts["Model"], facts["ModelSHA256"]) == ("subject", "abc")
    assert facts["TrainingSet"] == {"Subjects": 8, "Transients": 600}
    assert "model/README.md" in facts["Memorisation"] and "tables/memorisation.tsv" in facts["Memorisation"]


def test_a_model_that_does_not_count_its_training_set_claims_none():
    assert "TrainingSet" not in sidecars.model_facts({"model": "paper", "weights_sha256": "abc"})
