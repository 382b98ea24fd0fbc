"""The model of subjects: exact posteriors, what it learns of a known population, and its files."""

import numpy as np
import pytest

from mrs_synthesis import generator, subject_fit, subject_model
from mrs_synthesis.stage import InputError
from mrs_synthesis.subject_model import Means, SubjectModel, rotate, unrotate

W, BIN_PPM = 64, 0.02
PPM = 1.9 + BIN_PPM * np.arange(W)


def line(centre, width=0.04):
    """Return a Lorentzian's complex spectrum of height 1."""
    return 1 / (1 + 1j * (PPM - centre) / width)


LINES = np.array([[line(2.0), line(3.0), 0 * PPM], [0.2 * line(2.0), line(3.0), 0.4 * line(2.6)]])  # OFF, ON: 3 parts
AMOUNT, SPREAD = np.array([1.0, 0.6, 1.0]), np.array([0.10, 0.05, 0.3])


def population(n, seed, sd=0.0):
    """Return amounts (n, 3) and noisy spectra (n, 2, W) of subjects; the third part is edited and in ON alone."""
    rng = np.random.default_rng(seed)
    amounts = AMOUNT + SPREAD * rng.standard_normal((n, 3))
    noise = rng.standard_normal((n, 2, W)) + 1j * rng.standard_normal((n, 2, W))
    return amounts, np.einsum("nm,emw->new", amounts, LINES) + sd * noise


def fitted(n=200, sd=0.01, sites=()):
    train = Means(population(n, 1, sd)[1], np.full(n, sd**2), sites)
    validation = Means(population(20, 2, sd)[1], np.full(20, sd**2), sites[:20])
    return subject_fit.fit_means(train, validation, BIN_PPM)[0]


def known(sd_prior=0.3, n_subjects=10**9):
    """Return a model with one direction, the edited part."""
    direction = rotate(LINES[:, 2])
    size = np.linalg.norm(direction)
    mean = LINES @ AMOUNT if LINES.ndim == 2 else np.einsum("m,emw->ew", AMOUNT, LINES)
    sd = np.array([sd_prior * size])
    return SubjectModel(mean, direction[None] / size, sd**2, sd[None], np.zeros(1), n_subjects=n_subjects)


def test_rotation_is_orthonormal_and_invertible():
    rng = np.random.default_rng(0)
    for conditions in (1, 2):
        spectra = rng.standard_normal((5, conditions, W)) + 1j * rng.standard_normal((5, conditions, W))
        vectors = rotate(spectra)
        assert np.linalg.norm(vectors) == pytest.approx(np.linalg.norm(spectra))
        np.testing.assert_allclose(unrotate(vectors, conditions), spectra, atol=1e-12)
    same = np.ones((1, 2, W), complex)
    assert np.all(rotate(same)[0, W : 2 * W] == 0)  # equal conditions have no difference


@pytest.mark.parametrize("n", [1, 7])
def test_the_posterior_of_one_amount_is_that_of_the_textbook(n):
    # y = gain (mean + a direction) + noise: with the gain known (the mean has much more signal than noise), the
    # posterior variance of the code is 1 / (1 / prior + n / sd^2)
    model, sd = known(), 0.2
    own = model.posterior(model.mean, sd, n)
    prior = model.variances[0]
    assert own.variance[0] == pytest.approx(1 / (1 / prior + n / sd**2 * own.gain**2), rel=1e-9)
    direction = rotate(LINES[:, 2])
    more = model.mean + 0.3 * LINES[:, 2]
    shift = model.posterior(more, 1e-6, 1)
    assert shift.gain == pytest.approx(1.0, abs=1e-6)
    assert shift.mean[0] == pytest.approx(0.3 * np.linalg.norm(direction), rel=1e-4)
    np.testing.assert_allclose(shift.spectrum(), more, atol=1e-4)


def test_the_gain_scales_everything_and_is_no_information():
    model = known()
    own = model.posterior(model.mean + 0.2 * LINES[:, 2], 0.1, 4)
    large = model.posterior(1e4 * (model.mean + 0.2 * LINES[:, 2]), 1e3, 4)
    assert large.gain == pytest.approx(1e4 * own.gain)
    np.testing.assert_allclose(large.mean, own.mean)
    np.testing.assert_allclose(large.spectrum(), 1e4 * own.spectrum())


def test_calibrated_over_subjects_and_noise():
    # z scores of the truth in the posterior have variance 1 if truth and data follow the model
    model, sd, rng = known(), 0.5, np.random.default_rng(3)
    size = np.sqrt(model.variances[0])
    z = []
    for _ in range(400):
        code = size * rng.standard_normal()
        noise = sd * (rng.standard_normal((2, W)) + 1j * rng.standard_normal((2, W)))
        own = model.posterior(model.decode(np.array([[code]]))[0] + noise, sd, 1)
        z.append((own.mean[0] - code) / np.sqrt(own.variance[0]))
    assert np.std(z) == pytest.approx(1.0, abs=0.12)
    assert 0.92 < np.mean(np.abs(z) < 1.96) < 0.98


def test_learns_a_population_and_beats_the_few_transients_and_the_mean():
    model = fitted()
    amounts, clean = population(60, 9)
    sd = 0.2
    rng = np.random.default_rng(4)
    noisy = clean + sd * (rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape))
    expected = np.array([model.posterior(y, sd, 1).spectrum() for y in noisy])

    def edited(spectra):
        """Least-squares amount of the third part in ON - OFF."""
        basis = np.concatenate([LINES[1] - LINES[0]]).T
        return np.linalg.lstsq(basis, (spectra[:, 1] - spectra[:, 0]).T, rcond=None)[0][2].real

    truth = amounts[:, 2]

    def error(estimate):
        return np.sqrt(np.mean((estimate - truth) ** 2))

    alone = error(edited(noisy))
    best = np.sqrt(1 / (1 / SPREAD[2] ** 2 + 1 / alone**2))  # of prior and data together
    assert error(edited(expected)) < min(1.15 * best, 0.85 * alone, 0.85 * SPREAD[2])
    slope = np.polyfit(truth, edited(expected), 1)[0]
    assert slope == pytest.approx(1 - best**2 / SPREAD[2] ** 2, abs=0.15)  # what is missing to 1 is shrinkage


def test_many_transients_are_believed_more_even_where_training_showed_nothing():
    model = fitted(n=8)
    _, clean = population(1, 11)
    new = clean[0] + 0.3 * np.stack([line(2.3), line(2.3)])  # a line that no training subject has
    nearly = model.posterior(new, 1e-4, 64).spectrum()
    few = model.posterior(new, 1.0, 1).spectrum()
    there = np.argmin(np.abs(PPM - 2.3))
    gap = np.abs(nearly - new)[:, there]
    assert np.all(gap < 0.75 * np.abs(few - new)[:, there])


def test_draws_have_the_population_s_mean_and_spread():
    model = fitted()
    drawn = model.draw(np.random.default_rng(5), 4000)
    np.testing.assert_allclose(drawn.mean(axis=0), np.einsum("m,emw->ew", AMOUNT, LINES), atol=0.05)
    at = np.argmin(np.abs(PPM - 2.6))
    edited = (drawn[:, 1] - drawn[:, 0])[:, at].real
    assert edited.std() == pytest.approx(np.abs(0.4 * SPREAD[2]), rel=0.2)
    # OFF and ON share the code: what both hold of NAA varies together
    naa = np.argmin(np.abs(PPM - 2.0))
    assert np.corrcoef(drawn[:, 0, naa].real, drawn[:, 1, naa].real)[0, 1] > 0.9


def test_posterior_draws_spread_by_what_is_not_known():
    model = known()
    own = model.posterior(model.mean, 0.5, 2)
    drawn = own.draw(np.random.default_rng(6), 3000)
    size = np.linalg.norm(rotate(LINES[:, 2]))
    codes = rotate(drawn / own.gain - model.mean) @ rotate(LINES[:, 2]) / size
    assert codes.std() == pytest.approx(np.sqrt(own.variance[0]), rel=0.05)
    np.testing.assert_allclose(drawn.mean(axis=0), own.spectrum(), atol=0.02)


def test_sites_that_differ_are_told_apart():
    sites = tuple("ab"[i % 2] for i in range(200))
    _, spectra = population(200, 1, 0.01)
    spectra[1::2] += 0.5 * np.stack([line(2.3), line(2.3)])  # a signal that site b has
    validation = Means(spectra[:20], np.full(20, 1e-4), sites[:20])
    model, _ = subject_fit.fit_means(Means(spectra, np.full(200, 1e-4), sites), validation, BIN_PPM)
    there = np.argmin(np.abs(PPM - 2.3))
    heights = [model.draw(np.random.default_rng(0), 500, site)[:, 0, there].real.mean() for site in ("a", "b")]
    assert 0.4 < heights[1] - heights[0] < 0.55  # of 0.5
    assert not fitted(sites=sites).site_shares.any()  # and where they do not differ, no difference is made up


def test_one_training_subject_knows_no_variation():
    one = Means(population(1, 1, 0.01)[1], np.array([1e-4]), ("a",))
    model, trials = subject_fit.fit_means(one, one, BIN_PPM)
    assert not trials and model.variances.size == 0
    spectrum = model.posterior(2 * one.spectra[0], 0.1, 2).spectrum()
    np.testing.assert_allclose(spectrum, 2 * one.spectra[0], rtol=1e-9)


def test_more_noise_in_some_subjects_does_not_pass_for_variation():
    n = 100
    sd = np.where(np.arange(n) % 2, 0.01, 0.2)
    rng = np.random.default_rng(7)
    clean = np.repeat(np.einsum("m,emw->ew", AMOUNT, LINES)[None], n, axis=0)  # all subjects alike
    noise = rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape)
    data = Means(clean + sd[:, None, None] * noise, sd**2)
    model, _ = subject_fit.fit_means(data, Means(data.spectra[:10], data.variance[:10]), BIN_PPM)
    assert model.variances.sum() < 0.1 * np.mean(sd**2) * 4 * W


def test_files_round_trip_and_refuse_what_they_are_not(tmp_path):
    model = fitted(n=30, sites=tuple("ab"[i % 2] for i in range(30)))
    config = {"model": "subject", "grid": {"ppm": PPM.tolist(), "conditions": ["OFF", "ON"]}}
    subject_model.save(tmp_path / "m", model, config)
    first = (tmp_path / "m" / "model.safetensors").read_bytes()
    subject_model.save(tmp_path / "again", model, config)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == first
    loaded = generator.load(tmp_path / "m", "a")
    spectrum = population(1, 20)[1][0]
    expected = model.posterior(spectrum, 0.1, 3, "a").spectrum()
    np.testing.assert_allclose(loaded.model.posterior(spectrum, 0.1, 3, "a").spectrum(), expected, rtol=1e-5)
    (tmp_path / "m" / "model.safetensors").write_bytes(first[:-1] + b"x")
    with pytest.raises(InputError, match="SHA-256"):
        generator.load(tmp_path / "m", "a")
    with pytest.raises(InputError, match="train the model again"):
        generator.load(tmp_path / "nothing", "a")


def test_a_spectrum_of_something_else_is_an_error():
    model = known()
    with pytest.raises(ValueError, match="does not resemble"):
        model.posterior(-model.mean, 0.1, 1)


def test_generator_modes():
    model = fitted()
    maker = generator.SubjectGenerator(model, {}, None)
    rng = np.random.default_rng(8)
    clean = population(1, 30)[1][0]
    real = np.repeat(clean[:, None], 3, axis=1) + 0.1 * (
        rng.standard_normal((2, 3, W)) + 1j * rng.standard_normal((2, 3, W))
    )
    sd = np.full(3, 0.1)
    expected = model.posterior(real.mean(axis=1), 0.1, 3).spectrum()
    same, _ = maker.synthesise("interpolation", real, sd, 5, rng)
    np.testing.assert_allclose(same, np.repeat(expected[:, None], 5, axis=1))
    drawn, _ = maker.synthesise("hybrid", real, sd, 400, rng)
    np.testing.assert_allclose(drawn.mean(axis=1), expected, atol=0.02)
    new, _ = maker.synthesise("random", real, sd, 400, rng)
    at = np.argmin(np.abs(PPM - 2.6))
    assert new[1, :, at].real.std() > 3 * drawn[1, :, at].real.std()  # new subjects differ more than what is unknown
