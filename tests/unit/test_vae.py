"""The VAE's formulas against independent ones, and the safety of its files."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from mrs_synthesis import vae  # noqa: E402


def small(likelihood="analytic", **changes):
    torch.manual_seed(0)
    arguments = {"width": 64, "conditions": 2, "latent_size": 3, "channels": (4, 6), "kernel": 5} | changes
    return vae.SpectrumVAE(**arguments, likelihood=likelihood)


def test_kl_equals_torch_distributions():
    mean, log_variance = torch.randn(7, 5), torch.randn(7, 5)
    normal = torch.distributions.Normal(mean, torch.exp(0.5 * log_variance))
    standard = torch.distributions.Normal(torch.zeros(5), torch.ones(5))
    expected = torch.distributions.kl_divergence(normal, standard).sum(1).mean()
    assert vae.kl_divergence(mean, log_variance) == pytest.approx(float(expected), rel=1e-5)
    assert float(vae.kl_divergence(torch.zeros(2, 3), torch.zeros(2, 3))) == 0.0


def test_reparameterised_codes_have_the_stated_moments():
    noise = torch.randn(200_000, 1, generator=torch.Generator().manual_seed(1))
    z = vae.reparameterise(torch.tensor([[2.0]]), torch.tensor([[np.log(0.25)]]), noise)
    assert float(z.mean()) == pytest.approx(2.0, abs=0.01)
    assert float(z.std()) == pytest.approx(0.5, rel=0.01)


def test_channels_keep_the_complex_spectrum():
    values = np.array([[1 + 2j, -3j], [0.5, 4 - 1j]], np.complex64)
    channels = vae.to_channels(values)
    np.testing.assert_array_equal(channels[0].numpy(), [[1, 0], [2, -3]])
    np.testing.assert_array_equal(vae.to_complex(channels), values)


@pytest.mark.parametrize("channels", [(4,), (4, 6), (2, 3, 4, 5, 6)])
def test_shapes(channels):
    model = small(channels=channels)
    x, condition = torch.randn(5, 2, 64), torch.tensor([0, 1, 1, 0, 1])
    output, mean, log_variance = model(x, condition, torch.zeros(5, 3))
    assert output.shape == (5, 2, 64)
    assert mean.shape == log_variance.shape == (5, 3)


def test_both_encoder_and_decoder_know_the_condition():
    model = small()
    x, z = torch.randn(1, 2, 64), torch.randn(1, 3)
    zero, one = torch.tensor([0]), torch.tensor([1])
    assert not torch.allclose(model.encode(x, zero)[0], model.encode(x, one)[0])
    assert not torch.allclose(model.decode(z, zero), model.decode(z, one))


def test_plain_likelihood_is_half_the_sum_of_squares():
    x, y = torch.zeros(2, 2, 64), torch.full((2, 2, 64), 0.5)
    assert float(small("plain").reconstruction_loss(x, y)) == pytest.approx(0.5 * 128 * 0.25)


@pytest.mark.parametrize("likelihood", ["learned", "analytic"])
def test_likelihood_is_gaussian(likelihood):
    model = small(likelihood).eval()
    with torch.no_grad():
        model.log_sigma.fill_(-1.3)
    x, y = torch.randn(4, 2, 64), torch.randn(4, 2, 64)
    normal = torch.distributions.Normal(y, model.sigma)
    constant = 128 * 0.5 * np.log(2 * np.pi)
    expected = float(-normal.log_prob(x).flatten(1).sum(1).mean()) - constant
    assert model.reconstruction_loss(x, y).item() == pytest.approx(expected, rel=1e-4)
    if likelihood == "analytic":
        assert model.sigma == pytest.approx(np.exp(-1.3), rel=1e-6)


def test_known_likelihood_has_each_spectrums_own_sd():
    model = small("known")
    sd = torch.tensor([0.001, 0.1, 0.7, 3.0])
    y = torch.randn(4, 2, 64)
    x = y + sd[:, None, None] * torch.randn(4, 2, 64)
    expected = -torch.distributions.Normal(y, sd[:, None, None]).log_prob(x).flatten(1).sum(1).mean()
    expected = float(expected) - 128 * 0.5 * np.log(2 * np.pi)
    before = model.log_sigma.clone()
    assert model.reconstruction_loss(x, y, sd).item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(model.log_sigma, before)  # measured: training does not move it
    with torch.no_grad():
        model.log_sigma.fill_(np.log(1e-4))
    assert model.sigma == pytest.approx(1e-4, rel=1e-5)  # and no floor biases it


def test_analytic_sigma_is_the_optimum_and_its_running_estimate_converges():
    x = torch.zeros(8, 2, 64)
    y = 0.05 * torch.randn(8, 2, 64, generator=torch.Generator().manual_seed(0))
    rmse = float(y.square().mean().sqrt())
    analytic, fixed = small("analytic"), small("learned").eval()
    loss = float(analytic.reconstruction_loss(x, y))
    grid = np.linspace(-4, -2, 401)
    losses = []
    for value in grid:
        with torch.no_grad():
            fixed.log_sigma.fill_(value)
        losses.append(fixed.reconstruction_loss(x, y).item())
    assert loss == pytest.approx(min(losses), abs=0.01)
    for _ in range(300):
        analytic.reconstruction_loss(x, y)
    assert analytic.sigma == pytest.approx(rmse, rel=1e-3)


def test_saved_model_is_the_same_and_equal_bytes(tmp_path):
    model = small("learned").eval()
    with torch.no_grad():
        model.mean.normal_()
        model.spread.fill_(0.3)
    grid = {"ppm": list(range(64)), "conditions": ["OFF", "ON"]}
    config = {"model": "paper", "architecture": vae.architecture(model, (4, 6), 5), "grid": grid}
    digests = [vae.save_model(tmp_path / name, model, config) for name in "ab"]
    assert digests[0] == digests[1]
    loaded, read = vae.load_model(tmp_path / "a")
    assert read["weights_sha256"] == digests[0]
    x, condition, noise = torch.randn(3, 2, 64), torch.tensor([0, 1, 0]), torch.randn(3, 3)
    with torch.no_grad():
        assert torch.equal(loaded(x, condition, noise)[0], model(x, condition, noise)[0])
    assert loaded.sigma == model.sigma
