"""Training: finds a known noise level, stops on validation subjects, and survives a kill bit for bit."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from mrs_synthesis import finished, modelcard, train, training_set, vae_training  # noqa: E402
from mrs_synthesis.files import write_json, write_table  # noqa: E402
from mrs_synthesis.stage import InputError  # noqa: E402
from mrs_synthesis.vae import SpectrumVAE, load_model, to_complex  # noqa: E402

WIDTH, NOISE = 64, 0.05
PPM = np.linspace(1.0, 4.0, WIDTH)


def make_training_set(folder, per_subject=60, drop=()):
    """Two peaks whose heights vary independently: two latent dimensions are enough. Returns noise-free spectra."""
    rng = np.random.default_rng(5)
    rows, clean = [], []
    for s, split in enumerate(["train"] * 3 + ["validation", "test"]):
        for c, condition in enumerate(("OFF", "ON")):
            for k in range(per_subject):
                heights = 1 + 0.3 * rng.standard_normal(2)
                peaks = [1 / (1 + 1j * (PPM - p) / 0.15) for p in (2.0, 3.0 + 0.3 * c)]
                clean.append(heights[0] * peaks[0] + heights[1] * peaks[1])
                rows.append((len(rows), f"sub-{s}_acq-a", str(s), "A", condition, k, split, 1.0, NOISE))
    clean = np.array(clean)
    noise = rng.standard_normal((*clean.shape, 2)) @ [NOISE, NOISE * 1j]
    table = pd.DataFrame(rows, columns=training_set.INDEX_COLUMNS)
    table.loc[table["split"].isin(drop), "split"] = "test"
    folder.mkdir(parents=True)
    np.save(folder / "spectra.npy", (clean + noise).astype(np.complex64))
    write_table(folder / "index.tsv", table)
    grid = {"ppm": PPM.tolist(), "conditions": ["OFF", "ON"], "split_unit": "subject", "window_ppm": [1.0, 4.0]}
    write_json(folder / "grid.json", grid | {"frequency_mhz": 100.0, "dwell_s": 1e-3, "n_points": 128})
    return clean


def command(folder, output, *more):
    options = [
        "--model",
        "paper",
        "--latent-size",
        "4",
        "--channels",
        "8",
        "8",
        "--batch-size",
        "32",
        "--device",
        "cpu",
        "--seed",
        "3",
    ]
    return ["--training", str(folder / "training"), "--output", str(output), *options, *more]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("train")
    clean = make_training_set(folder / "training")
    train.main(command(folder, folder / "model", "--epochs", "40", "--learning-rate", "0.003"))
    return folder, clean


def test_decoder_sd_is_the_noise_and_held_out_spectra_are_denoised(trained):
    folder, clean = trained
    model, config = load_model(folder / "model")
    assert model.sigma == pytest.approx(NOISE, rel=0.1)
    data = training_set.TrainingSet(folder / "training")
    rows = data.rows("test")
    x, condition = next(data.batches(rows, len(rows)))
    with torch.no_grad():
        output = to_complex(model.decode(model.encode(x, condition)[0], condition))
    error = np.sqrt(np.mean(np.abs(output - clean[rows]) ** 2) / 2)
    # Two heights out of 128 numbers: the best possible is about NOISE * sqrt(2 / 128) = NOISE / 8.
    assert error < NOISE / 3
    assert config["training"]["counts"]["train"] == {"subjects": 3, "units": 3, "transients": 180, "spectra": 360}


def test_codes_are_described_per_condition(trained):
    folder, _ = trained
    model, _ = load_model(folder / "model")
    data = training_set.TrainingSet(folder / "training")
    rows = data.rows("train")
    x, condition = next(data.batches(rows, len(rows)))
    with torch.no_grad():
        codes = model.encode(x, condition)[0].numpy()
    for c in (0, 1):
        part = codes[condition.numpy() == c]
        np.testing.assert_allclose(model.code_mean[c], part.mean(0), atol=1e-5)
        np.testing.assert_allclose(model.code_covariance[c], np.cov(part.T), atol=1e-4)


def made_card(model):
    modelcard.main(["--config", str(model / "config.json"), "--output", str(model / "README.md")])
    return (model / "README.md").read_text()


def test_losses_and_card(trained):
    folder, _ = trained
    table = pd.read_csv(folder / "model" / "losses.csv")
    config = json.loads((folder / "model" / "config.json").read_text())
    best = config["training"]["best_epoch"]
    assert table["validation_loss"].idxmin() + 1 == best
    np.testing.assert_allclose(table["train_loss"], table["train_reconstruction"] + table["train_kl"], rtol=1e-6)
    card = made_card(folder / "model")
    assert card.startswith("---\nlibrary_name: pytorch\n")
    assert "SYNTHETIC" in card
    assert "| train | 3 | 3 | 180 | 360 |" in card
    everything = card + (folder / "model" / "config.json").read_text()
    assert str(folder) not in everything


def test_standardisation_is_that_of_the_training_rows(trained):
    folder, _ = trained
    data = training_set.TrainingSet(folder / "training")
    rows = data.rows("train")
    model = SpectrumVAE(WIDTH, 2, 2, (4,), 3)
    vae_training.standardise(model, data, rows, size=50)
    values = np.array(data.spectra[rows])
    mean = np.stack([values[data.condition[rows] == c].mean(0) for c in (0, 1)])
    np.testing.assert_allclose(to_complex(model.mean), mean, atol=1e-6)
    rest = values - mean[data.condition[rows]]
    assert float(model.spread) == pytest.approx(np.sqrt(np.mean(np.abs(rest) ** 2) / 2), rel=1e-5)


def test_mixed_precision_is_near_full_precision(trained):
    folder, _ = trained
    options = ["--epochs", "8", "--learning-rate", "0.003"]
    losses = []
    for name, more in (("full", []), ("mixed", ["--amp"])):
        train.main(command(folder, folder / name, *options, *more))
        model, _ = load_model(folder / name)
        assert {value.dtype for value in model.state_dict().values()} == {torch.float32}
        losses.append(pd.read_csv(folder / name / "losses.csv")["validation_loss"].to_numpy())
    full, mixed = losses
    assert np.isfinite(mixed).all()
    assert not np.array_equal(full, mixed)
    # bfloat16 has 8 bits: outputs of about 1 are off by 2^-9 = 0.002 in units in which the noise is 0.05
    assert abs(mixed[-1] - full[-1]) < 0.1 * (full[0] - full[-1])


def test_early_stop(trained, capsys):
    folder, _ = trained
    train.main(command(folder, folder / "early", "--epochs", "100", "--patience", "3", "--learning-rate", "0.02",
                       "--beta", "300"))  # fmt: skip
    config = json.loads((folder / "early" / "config.json").read_text())["training"]
    assert config["epochs_run"] == max(config["best_epoch"], 15) + 3  # the warm-up of 15 % does not count
    assert "at most" in capsys.readouterr().out


def test_plain_likelihood_gets_a_measured_sd(trained):
    folder, _ = trained
    train.main(command(folder, folder / "plain", "--epochs", "20", "--likelihood", "plain", "--beta", "0.003",
                       "--learning-rate", "0.003"))  # fmt: skip
    model, _ = load_model(folder / "plain")
    assert model.sigma == pytest.approx(NOISE, rel=0.15)


def test_killed_run_ends_like_an_undisturbed_one(tmp_path):
    make_training_set(tmp_path / "training", per_subject=100)
    environment = os.environ | {"PYTHONPATH": str(Path(train.__file__).parents[1]), "OMP_NUM_THREADS": "1"}
    program = [sys.executable, "-m", "mrs_synthesis.train"]
    options = ["--epochs", "8", "--checkpoint-seconds", "0"]
    undisturbed = [*program, *command(tmp_path, tmp_path / "whole", *options)]
    subprocess.run(undisturbed, env=environment, check=True, capture_output=True)

    killed = [*program, *command(tmp_path, tmp_path / "killed", *options)]
    with subprocess.Popen(killed, env=environment, stdout=subprocess.PIPE, text=True) as process:
        for line in process.stdout:
            if line.startswith("epoch 4/8"):
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "model.safetensors").exists()
    again = subprocess.run(killed, env=environment, check=True, capture_output=True, text=True)
    assert "resumed after epoch" in again.stdout
    assert "epoch 1/8" not in again.stdout
    for name in ("model.safetensors", "density.safetensors", "config.json", "losses.csv", "losses.svg"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes(), name


LEVELS, SCALES = (0.04, 0.08, 0.12, 0.06, 0.1), (1.0, 4.0, 0.5, 2.0, 3.0)


@pytest.fixture(scope="module")
def known(tmp_path_factory):
    """Subjects differ in noise (LEVELS) and scale; the index states the noise of a FID's real part, as measured."""
    folder = tmp_path_factory.mktemp("known")
    clean = make_training_set(folder / "training")
    table = pd.read_csv(folder / "training" / "index.tsv", sep="\t", dtype={"subject": str})
    subject = table["subject"].astype(int).to_numpy()
    sd, table["scale"] = np.array(LEVELS)[subject], np.array(SCALES)[subject]
    table["noise_sd"] = sd * table["scale"] / np.sqrt(128)
    write_table(folder / "training" / "index.tsv", table)
    noise = np.random.default_rng(8).standard_normal((*clean.shape, 2)) @ [1, 1j]
    np.save(folder / "training" / "spectra.npy", (clean + sd[:, None] * noise).astype(np.complex64))
    options = ["--epochs", "30", "--learning-rate", "0.003", "--likelihood", "known"]
    train.main(command(folder, folder / "model", *options))
    return folder, clean


def test_known_noise_is_carried_by_config_card_and_weights(known):
    folder, _ = known
    model, config = load_model(folder / "model")
    assert config["architecture"]["likelihood"] == config["training"]["options"]["likelihood"] == "known"
    assert model.sigma == pytest.approx(np.sqrt(np.mean(np.square(LEVELS[:3]))), rel=1e-5)
    # Two of 128 numbers are explained by chance at the best: sqrt(1 - 2 / 128) = 0.992.
    for value in config["training"]["residual_over_noise"].values():
        assert 0.97 < value < 1.06
    card = " ".join(made_card(folder / "model").split())
    assert "Decoder likelihood: known" in card
    assert f"{config['training']['residual_over_noise']['validation']:.3f} (validation)" in card
    data = training_set.TrainingSet(folder / "training")
    for subject, level in enumerate(LEVELS):
        rows = data.index.loc[data.index["subject"].astype(int) == subject, "row"].to_numpy()
        x, condition = next(data.batches(rows, len(rows)))
        with torch.no_grad():
            output = to_complex(model.decode(model.encode(x, condition)[0], condition))
        rest = np.sqrt(np.mean(np.abs(output - data.spectra[rows]) ** 2) / 2)
        assert rest == pytest.approx(level, rel=0.12)


def test_each_spectrum_meets_its_own_noise_in_shuffled_batches(known, monkeypatch):
    folder, _ = known
    data, seen = training_set.TrainingSet(folder / "training"), []
    model = SpectrumVAE(WIDTH, 2, 4, (8, 8), 7, "known").eval()

    def record(x, output, sd, mean):
        seen.append((x, sd))
        return x.mean()

    monkeypatch.setattr(model, "reconstruction_loss", record)
    rows = np.random.default_rng(0).permutation(data.rows("train"))
    stated = np.array(LEVELS, np.float32)[data.index["subject"].astype(int)]
    options = vae_training.Options(seed=1, latent_size=4, batch_size=32)
    with torch.no_grad():
        vae_training._epoch(model, data, rows, options, torch.Generator(), "cpu", stated)
    np.testing.assert_array_equal(np.concatenate([sd.numpy() for _, sd in seen]), stated[rows])
    np.testing.assert_array_equal(to_complex(torch.cat([x for x, _ in seen])), data.spectra[rows])


def test_known_noise_resumes_to_the_same_bytes(known, monkeypatch):
    from mrs_synthesis import checkpoint

    folder, _ = known
    options = ["--epochs", "4", "--likelihood", "known", "--checkpoint-seconds", "0"]
    train.main(command(folder, folder / "whole", *options))
    write = checkpoint.write_checkpoint

    def killed(where, state, *more):
        write(where, state, *more)
        if len(state["history"]) == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoint, "write_checkpoint", killed)
    with pytest.raises(KeyboardInterrupt):
        train.main(command(folder, folder / "again", *options))
    monkeypatch.undo()
    train.main(command(folder, folder / "again", *options))
    for name in ("model.safetensors", "density.safetensors", "config.json", "losses.csv", "losses.svg"):
        assert (folder / "again" / name).read_bytes() == (folder / "whole" / name).read_bytes(), name


def test_checkpoint_of_other_options_or_damaged_is_ignored(trained, capsys):
    folder, _ = trained
    output = folder / "options"
    train.main(command(folder, output, "--epochs", "2"))
    (output / "checkpoint" / finished.RECORD).unlink()
    train.main(command(folder, output, "--epochs", "2"))
    assert "resumed after epoch 2" in capsys.readouterr().out
    train.main(command(folder, output, "--epochs", "2", "--learning-rate", "0.01"))
    assert "ignored the checkpoint of another run (other learning_rate)" in capsys.readouterr().out
    path = output / "checkpoint" / "state.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    train.main(command(folder, output, "--epochs", "2"))
    assert "ignored an unreadable checkpoint" in capsys.readouterr().out


def test_a_finished_training_is_not_done_again(trained, capsys, monkeypatch):
    folder, _ = trained
    output, options = folder / "twice", ["--epochs", "2"]
    train.main(command(folder, output, *options))
    files = {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()}
    assert set(files) == set(train.OUTPUTS)
    for name in files:  # as a workflow does before it runs the rule anew
        (output / name).unlink()
    capsys.readouterr()
    monkeypatch.setattr(train, "fit", None)  # fails if it is called
    train.main(command(folder, output, *options))
    assert "was finished before" in capsys.readouterr().out
    assert {path.name: path.read_bytes() for path in output.iterdir() if path.is_file()} == files
    monkeypatch.undo()
    # A kept file that changed is no result, nor is one of other settings
    kept = output / "checkpoint" / finished.FOLDER / "losses.csv"
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1])
    train.main(command(folder, output, *options))
    assert "resumed after epoch 2" in capsys.readouterr().out
    assert kept.read_bytes() == (output / "losses.csv").read_bytes() == whole
    train.main(command(folder, output, *options, "--beta", "2"))
    assert "epoch 1/2" in capsys.readouterr().out


def test_the_key_of_a_training_knows_every_module_that_decides_it():
    package = Path(train.__file__).parent
    apart = {"stage", "finished"} | {"subject_fit", "subject_model"}  # the last two: the other model
    for name in train.CODE:
        text = (package / f"{name}.py").read_text()
        used = re.findall(r"from mrs_synthesis\.(\w+)", text)
        for names in re.findall(r"from mrs_synthesis import (.+)", text):
            used += re.findall(r"\w+", names)
        assert set(used) <= set(train.CODE) | apart, name


def test_codes_are_described_in_parts_as_at_once(monkeypatch):
    values = np.random.default_rng(0).standard_normal((50, 3)) @ np.diag([1.0, 5.0, 0.1]) + 7
    monkeypatch.setattr(vae_training, "CODES", 8)
    own = vae_training.Gaussian()
    for part in np.split(values, [3, 10, 11, 40]):
        own.add(part)
    mean, covariance = own.moments()
    np.testing.assert_allclose(mean, values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(covariance, np.cov(values.T), rtol=1e-10)


def test_bad_input_is_one_line(tmp_path):
    make_training_set(tmp_path / "training", per_subject=4, drop=("validation",))
    with pytest.raises(InputError, match="24 train and 0 validation rows"):
        train.main(command(tmp_path, tmp_path / "model"))
    with pytest.raises(InputError, match="multiple of 128"):
        make_training_set(tmp_path / "other" / "training", per_subject=4)
        train.main(command(tmp_path / "other", tmp_path / "model", "--channels", *["4"] * 7))
    np.save(tmp_path / "training" / "spectra.npy", np.zeros((3, 4), np.complex64))
    with pytest.raises(InputError, match="expected complex64"):
        train.main(command(tmp_path, tmp_path / "model"))
    with pytest.raises(InputError, match="no such file"):
        train.main(command(tmp_path / "absent", tmp_path / "model"))
