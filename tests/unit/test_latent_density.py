"""The fitted density of codes, against densities that are known."""

import os
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import latent_density
from mrs_synthesis.files import write_json, write_table
from mrs_synthesis.latent_density import LatentDensity, fit_density
from mrs_synthesis.stage import InputError

MEANS = np.array([[0.0, 0, 0, 0], [5, 0, 0, 2], [0, -5, 3, 0]])
WEIGHTS = np.array([0.5, 0.3, 0.2])
ROOTS = np.random.default_rng(11).standard_normal((3, 4, 4)) + np.eye(4)


def mixture(rng, n, weights=WEIGHTS):
    component = rng.choice(3, size=n, p=weights)
    return MEANS[component] + np.einsum("nij,nj->ni", ROOTS[component], rng.standard_normal((n, 4))), component


def log_density(x, mean, covariance):
    centred = x - mean
    distance = np.einsum("ni,ni->n", centred, np.linalg.solve(covariance, centred.T).T)
    return -0.5 * (distance + np.linalg.slogdet(2 * np.pi * covariance)[1])


def known(codes):
    """A set without posterior variances, of one site."""
    return codes, np.zeros_like(codes), np.full(len(codes), "A", object)


@pytest.fixture(scope="module")
def three():
    rng = np.random.default_rng(0)
    train, validation = mixture(rng, 2000)[0], mixture(rng, 1000)[0]
    return train, validation, fit_density(*known(train), known(validation), 4)


def test_a_mixture_of_three_is_found(three):
    _, _, density = three
    assert density.components == 3
    held_out = mixture(np.random.default_rng(1), 20_000)[0]
    parts = [np.log(w) + log_density(held_out, m, r @ r.T) for w, m, r in zip(WEIGHTS, MEANS, ROOTS, strict=True)]
    truth = np.logaddexp.reduce(parts).mean()
    # 44 parameters from 2000 codes: 44 / 2 / 2000 = 0.011 nats are lost on average.
    assert truth - 0.03 < density.log_likelihood(held_out).mean() < truth + 0.002
    order = np.argsort(density.weights)[::-1]
    np.testing.assert_allclose(density.weights[order], WEIGHTS, atol=0.03)
    np.testing.assert_allclose(density.means[order], MEANS, atol=0.25)


def test_draws_have_the_moments_of_the_codes(three):
    train, _, density = three
    drawn = density.draw(np.random.default_rng(2), 100_000)
    np.testing.assert_allclose(drawn.mean(0), train.mean(0), atol=0.05)
    np.testing.assert_allclose(np.cov(drawn.T), np.cov(train.T), atol=0.03 * np.cov(train.T).max())


def test_one_gaussian_has_one_component():
    rng = np.random.default_rng(3)
    sets = [rng.standard_normal((n, 4)) @ ROOTS[0].T for n in (400, 200)]
    density = fit_density(*known(sets[0]), known(sets[1]), 4)
    assert density.components == 1
    assert len(density.scores) == latent_density.MAX_COMPONENTS
    covariance = np.cov(sets[0].T, bias=True)
    np.testing.assert_allclose(density.covariances[0], covariance, rtol=1e-6)
    expected = log_density(sets[1], sets[0].mean(0), covariance)
    np.testing.assert_allclose(density.log_likelihood(sets[1]), expected, rtol=1e-6)


def test_what_the_posteriors_leave_open_is_in_the_density():
    """Codes of variance 1 seen through posteriors of variance s: means of variance 1 - s; the sum is N(0, 1) again."""
    rng = np.random.default_rng(5)
    variances = np.tile([0.1, 0.5, 0.9], (20_000, 1))
    means = np.sqrt(1 - variances) * rng.standard_normal(variances.shape)
    sites = np.full(len(means), None, object)
    density = fit_density(means, variances, sites, (means, variances, sites), 4, max_components=2)
    drawn = density.draw(rng, 100_000)
    np.testing.assert_allclose(np.cov(drawn.T), np.eye(3), atol=0.03)
    # The expected log density over a posterior, against an average over draws from it.
    draws = means[:50, None] + np.sqrt(variances[:50, None]) * rng.standard_normal((50, 4000, 3))
    average = density.log_likelihood(draws.reshape(-1, 3)).reshape(50, -1).mean(axis=1)
    exact = density.log_likelihood(means[:50], None, variances[:50])
    np.testing.assert_allclose(exact, average, atol=0.15)
    assert exact.mean() == pytest.approx(average.mean(), abs=0.02)


def test_off_and_on_of_a_drawn_pair_belong_together():
    rng = np.random.default_rng(6)
    shared = 3.0 * rng.choice([-1.0, 1.0], size=(1500, 1)) + 0.3 * rng.standard_normal((1500, 2))
    own = 0.3 * rng.standard_normal((1500, 4))
    codes = np.concatenate([shared, -shared], axis=1) + own
    density = fit_density(*known(codes[:1000]), known(codes[1000:]), 4)
    assert density.components > 1
    drawn = density.draw(rng, 20_000)
    for i in (0, 1):
        expected = np.corrcoef(codes[:, i], codes[:, 2 + i])[0, 1]
        assert expected < -0.95
        assert np.corrcoef(drawn[:, i], drawn[:, 2 + i])[0, 1] == pytest.approx(expected, abs=0.01)


def test_site_weights_are_shrunk_to_those_of_all():
    rng = np.random.default_rng(7)
    many, _ = mixture(rng, 3000)
    only_first = mixture(rng, 1000, [1.0, 0, 0])[0]
    few = mixture(rng, 10, [0, 0, 1.0])[0]
    codes = np.concatenate([many, only_first, few])
    sites = np.array(["many"] * 3000 + ["first"] * 1000 + ["few"] * 10, object)
    validation = mixture(rng, 1000)[0]
    density = fit_density(codes, np.zeros_like(codes), sites, known(validation), 4)
    order = np.argsort(density.weights)[::-1]
    strength, pooled = latent_density.SITE_STRENGTH, density.weights[order]
    np.testing.assert_allclose(pooled, (3000 * WEIGHTS + [1000, 0, 10]) / 4010, atol=0.02)
    np.testing.assert_allclose(density.weights_at("many")[order], WEIGHTS, atol=0.03)
    first = (strength * pooled + [1000, 0, 0]) / (strength + 1000)
    np.testing.assert_allclose(density.weights_at("first")[order], first, atol=0.02)
    np.testing.assert_allclose(density.weights_at("few")[order], (strength * pooled + [0, 0, 10]) / 110, atol=0.01)
    for unknown in (None, "elsewhere", float("nan")):
        np.testing.assert_array_equal(density.weights_at(unknown), density.weights)
    held_out = mixture(rng, 2000, [1.0, 0, 0])[0]
    assert density.log_likelihood(held_out, "first").mean() > density.log_likelihood(held_out).mean() + 0.2
    drawn = density.draw(rng, 20_000, "first")
    np.testing.assert_allclose(drawn.mean(0), first @ MEANS, atol=0.15)


def test_same_input_same_bytes_whatever_the_clock(three, tmp_path, monkeypatch):
    train, validation, density = three
    digest = latent_density.save(tmp_path / "a", density)
    again = fit_density(*known(train), known(validation), 4)
    monkeypatch.setattr(time, "time", lambda: 2e9)
    assert latent_density.save(tmp_path / "b", again) == digest
    read = latent_density.load(tmp_path / "b", {"density_sha256": digest})
    np.testing.assert_array_equal(
        read.draw(np.random.default_rng(1), 5, "A"), density.draw(np.random.default_rng(1), 5)
    )
    assert {v.dtype.kind for k, v in density.tensors().items() if k != "sites"} == {"f"}
    with pytest.raises(InputError, match="SHA-256"):
        latent_density.load(tmp_path / "b", {"density_sha256": "0" * 64})
    with pytest.raises(InputError, match="no usable density"):
        latent_density.load(tmp_path / "b", {})
    with pytest.raises(ValueError, match="site_weights has shape"):
        LatentDensity.from_tensors(density.tensors() | {"site_weights": np.ones((1, 7))})


def test_few_equal_or_bad_codes():
    equal = fit_density(*known(np.ones((5, 3))), known(np.ones((2, 3))), 4)
    np.testing.assert_allclose(equal.draw(np.random.default_rng(0), 3), 1, atol=1e-4)
    alone = fit_density(*known(np.array([[1.0, 2.0]])), None, 4)
    assert (alone.components, len(alone.scores)) == (1, 0)
    for bad in (np.empty((0, 3)), np.array([[np.nan, 1.0]])):
        with pytest.raises(InputError, match="expected at least one"):
            fit_density(*known(bad), None, 4)


def test_more_codes_than_are_fitted(monkeypatch):
    codes = mixture(np.random.default_rng(8), 600)[0]
    monkeypatch.setattr(latent_density, "MAX_CODES", 200)
    density = fit_density(*known(codes), None, 4)
    # 200 of the 600, not the first 200 and not all.
    assert np.abs(density.means[0] - codes.mean(0)).max() > 1e-3
    assert np.abs(density.means[0] - codes[:200].mean(0)).max() > 1e-3
    np.testing.assert_allclose(density.means[0], codes.mean(0), atol=0.8)


def make_training_set(folder, rng, change=0.0):
    """Spectra of 3 units; the last transient of the second has no ON. `change` is added to the test unit's."""
    rows = []
    for unit, (site, split) in enumerate((("A", "train"), (None, "validation"), ("B", "test"))):
        for condition in ("ON", "OFF"):
            for k in range(12):
                if not (unit == 1 and condition == "ON" and k == 11):
                    rows.append((len(rows), f"sub-{unit}", str(unit), site, condition, k, split, 1.0, 0.1))
    names = ["row", "unit", "subject", "site", "condition", "transient", "split", "scale", "noise_sd"]
    table = pd.DataFrame(rows, columns=names)
    spectra = (rng.standard_normal((len(rows), 16, 2)) @ [1, 1j]).astype(np.complex64)
    spectra[table["split"] == "test"] += change
    folder.mkdir()
    np.save(folder / "spectra.npy", spectra)
    write_table(folder / "index.tsv", table)
    write_json(folder / "grid.json", {"ppm": list(range(16)), "conditions": ["OFF", "ON"]})
    return spectra, table


def test_pairs_of_a_training_set_and_no_influence_of_the_test_rows(tmp_path, monkeypatch):
    torch = pytest.importorskip("torch")
    from mrs_synthesis.training_set import TrainingSet
    from mrs_synthesis.vae import SpectrumVAE, to_channels

    torch.manual_seed(0)
    model = SpectrumVAE(16, 2, 2, (4,), 3).eval()
    spectra, table = make_training_set(tmp_path / "a", np.random.default_rng(9))
    encode = latent_density.encode_pairs
    data = TrainingSet(tmp_path / "a")
    codes, variances, sites = latent_density.encode_pairs(
        model, data, latent_density.pair_rows(data, data.rows("train")), size=5
    )
    assert codes.shape == variances.shape == (12, 4)
    assert sites.tolist() == ["A"] * 12
    for c, condition in enumerate(("OFF", "ON")):
        row = table[(table["unit"] == "sub-0") & (table["transient"] == 7) & (table["condition"] == condition)].index[0]
        with torch.no_grad():
            mean, log_variance = model.encode(to_channels(spectra[row : row + 1]), torch.tensor([c]))
        np.testing.assert_allclose(codes[7, 2 * c : 2 * c + 2], mean[0], rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(variances[7, 2 * c : 2 * c + 2], log_variance[0].exp(), rtol=1e-4)
    codes, _, sites = latent_density.encode_pairs(model, data, latent_density.pair_rows(data, data.rows("validation")))
    assert len(codes) == 11
    assert set(sites) == {None}

    facts = latent_density.fit_to_model(model, data, tmp_path / "a", 4)
    encoded = []
    monkeypatch.setattr(latent_density, "MAX_CODES", 5)
    monkeypatch.setattr(latent_density, "encode_pairs", lambda *a: encoded.append(a[2]) or encode(*a))
    latent_density.fit_to_model(model, data, tmp_path / "a", 4)
    assert [len(pairs) for pairs in encoded] == [5, 5] and len(np.unique(encoded[0])) == 10
    monkeypatch.undo()
    make_training_set(tmp_path / "b", np.random.default_rng(9), change=100.0)
    other = TrainingSet(tmp_path / "b")
    assert not np.array_equal(other.spectra[:], data.spectra[:])
    assert latent_density.fit_to_model(model, other, tmp_path / "b", 4) == facts
    density = latent_density.load(tmp_path / "b", facts)
    assert density.sites.tolist() == ["A"]
    assert facts["density"]["components"] == density.components


def test_import_needs_numpy_only(root):
    line = "import sys, mrs_synthesis.latent_density; print({'torch', 'scipy', 'pandas'} & set(sys.modules))"
    environment = os.environ | {"PYTHONPATH": str(root / "workflow")}
    command = [sys.executable, "-c", line]
    assert subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout == "set()\n"
