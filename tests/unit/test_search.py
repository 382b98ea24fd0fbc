"""The search reads no test row, finds back a good setting, goes on after a kill, and compares like with like."""

import math

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("torch")

from test_train import make_training_set

from mrs_synthesis import search, training_set, vae_training

EPOCHS = "3"


def call(folder, trials, name="search", training="training", **more):
    flags = {"latent-size": 4, "batch-size": 32, "device": "cpu", "seed": 4, "trials": trials, "epochs": EPOCHS} | more
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    output = folder / name / "search.tsv"
    search.main(["--training", str(folder / training), "--folder", str(folder / name), "--output", str(output),
                 "--channels", "8", "8", *words])  # fmt: skip
    return pd.read_csv(output, sep="\t", na_values="n/a")


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    folder = tmp_path_factory.mktemp("search")
    make_training_set(folder / "training", per_subject=20)
    return folder, call(folder, 2)


def test_values_of_test_rows_do_not_matter(searched):
    folder, table = searched
    data = training_set.TrainingSet(folder / "training")
    changed = np.array(data.spectra)
    changed[data.rows("test")] = np.nan
    (folder / "other").mkdir()
    for name in ("grid.json", "index.tsv"):
        (folder / "other" / name).write_bytes((folder / "training" / name).read_bytes())
    np.save(folder / "other" / "spectra.npy", changed)
    pd.testing.assert_frame_equal(call(folder, 2, "again", "other"), table)
    changed[data.rows("validation")] *= 1.1
    np.save(folder / "other" / "spectra.npy", changed)
    assert not np.isclose(call(folder, 1, "third", "other")["validation_loss"], table["validation_loss"][:2]).any()


def test_table_is_sorted_and_holds_the_configured_settings(searched, capsys):
    folder, table = searched
    assert sorted(table["trial"]) == ["1", "2", "configured"]
    assert table["validation_loss"].is_monotonic_increasing
    configured = table[table["trial"] == "configured"].iloc[0]
    assert (configured["difference"], configured["channels"], configured["latent_size"]) == (0, "8 8", 4)
    np.testing.assert_allclose(table["validation_loss"], table["reconstruction"] + table["kl"], rtol=1e-6)
    call(folder, 2)
    printed = capsys.readouterr().out
    assert f"learning_rate: {table['learning_rate'][0]:g}\n" in printed.partition("train:\n")[2]
    assert "epoch 1/" not in printed  # nothing is trained twice


def test_a_finished_trial_is_kept_and_another_is_not_mistaken_for_it(searched, monkeypatch):
    folder, table = searched
    trained = []
    monkeypatch.setattr(search, "fit", lambda data, output, options, *more: trained.append(options) or vae_training.fit(
        data, output, options, *more))  # fmt: skip
    path = folder / "search" / "trial-02.json"
    whole = path.read_bytes()
    path.unlink()
    pd.testing.assert_frame_equal(call(folder, 2), table)
    assert len(trained) == 1 and path.read_bytes() == whole
    call(folder, 3)
    assert len(trained) == 2
    call(folder, 1, seed=5)
    assert len(trained) == 4


def test_drawn_settings_are_in_range_and_follow_from_seed_and_number():
    options = vae_training.Options(seed=1)
    drawn = [search.draw(options, 64, trial) for trial in range(1, 201)]
    assert drawn[:8] == [search.draw(options, 64, trial) for trial in range(1, 9)]
    for name, (low, high) in search.RANGES.items():
        values = np.log([getattr(one, name) for one in drawn])
        assert math.log(low * 0.95) <= values.min() and values.max() <= math.log(high * 1.05)
        # Uniform between a and b: mean (a + b) / 2 with SD (b - a) / sqrt(12 n)
        width = math.log(high / low)
        assert abs(values.mean() - math.log(low * high) / 2) < 4 * width / math.sqrt(12 * 200)
    for name, values in search.CHOICES.items():
        assert {getattr(one, name) for one in drawn} == set(values)
    assert {len(search.draw(options, 40, trial).channels) for trial in range(1, 100)} == {3}  # 40 is not 16 x n
    assert {one.likelihood for one in drawn} == {"analytic"}


def test_beta_of_a_plain_likelihood_is_not_drawn():
    options = vae_training.Options(seed=1, likelihood="plain", beta=0.01)
    assert {search.draw(options, 64, trial).beta for trial in range(1, 20)} == {0.01}
