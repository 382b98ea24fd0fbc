"""The model card: what it must say of each model, and of copies."""

import json

import pytest

from mrs_synthesis import modelcard
from mrs_synthesis.files import write_json
from mrs_synthesis.stage import InputError

COUNTS = {"subjects": 8, "units": 8, "transients": 600, "spectra": 1200}
CONFIG = {
    "model": "subject",
    "weights_sha256": "abc",
    "grid": {"ppm": [0.0, 2.0, 4.4], "conditions": ["OFF", "ON"]},
    "training": {
        "options": {"seed": 7},
        "split_unit": "subject",
        "counts": {"train": COUNTS, "validation": COUNTS, "test": COUNTS},
        "sites": 2,
        "codes": 300,
        "codes_above_noise": 210,
        "prior_strength": 30.0,
        "codes_that_differ_between_sites": 3,
        "metabolites": ["NAA", "Cr"],
    },
}
VERDICTS = {
    "model_sha256": ["abc"],
    "verdicts": [
        {"source": "copier_0", "decoder": None, "sentence": "copies training spectra", "distance_ratio_window": 0.42},
        {"source": "random", "decoder": "sampled", "sentence": "not nearer", "distance_ratio_window": 0.999},
    ],
}


def run(folder, config=CONFIG, verdicts=VERDICTS):
    write_json(folder / "config.json", config)
    words = ["--config", str(folder / "config.json"), "--output", str(folder / "README.md")]
    if verdicts is not None:
        write_json(folder / "verdicts.json", verdicts)
        words += ["--verdicts", str(folder / "verdicts.json")]
    modelcard.main(words)
    return (folder / "README.md").read_text()


def test_the_card_of_a_model_of_subjects_says_what_it_is_and_whether_it_copies(tmp_path):
    text = run(tmp_path)
    assert text.startswith("---\nlibrary_name: numpy\n")
    for words in ("SYNTHETIC", "| train | 8 | 8 | 600 | 1200 |", "30 subjects", "OFF, ON", "Sites: 2.", "`, abc."):
        assert words in text
    assert "- copier_0: copies training spectra (median distance times 0.420)." in text
    assert "- random, decoder sampled: not nearer (median distance times 0.999)." in text
    assert "Not tested" in run(tmp_path, verdicts=None)
    assert "lines of 2 metabolites of a basis set" in text
    alone = run(tmp_path, CONFIG | {"training": CONFIG["training"] | {"metabolites": []}})
    assert "Nothing but the training subjects" in alone and "basis set" not in alone
    assert "derived from the spectra of 8 training subjects," in text


def test_one_subject_and_splits_within_it_are_said(tmp_path):
    training = CONFIG["training"] | {"prior_strength": None, "split_unit": "transient"}
    text = run(tmp_path, CONFIG | {"training": training})
    assert "there is no variation to be seen" in text
    assert "splits are within subjects" in text


def test_verdicts_about_another_model_are_refused(tmp_path):
    with pytest.raises(InputError, match="another model"):
        run(tmp_path, verdicts=VERDICTS | {"model_sha256": ["other"]})
    with pytest.raises(InputError, match="train the model again"):
        run(tmp_path, json.loads(json.dumps(CONFIG)) | {"training": {"options": {"seed": 1}, "counts": {}}})
