"""What metabolites add to a mean spectrum, recovered from a made-up mean, and what knowing it is worth."""

import numpy as np
import pytest
from analytic_basis import LINES, MHZ, analytic_basis, edited

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import metabolite_patterns, spectra, subject_fit
from mrs_synthesis.assemble import window_spectra
from mrs_synthesis.stage import InputError
from mrs_synthesis.subject_model import Means

N, DWELL, GAMMA = 1024, 5e-4, 12.0
AMOUNTS = {"Cr": 5.0, "PCr": 3.5, "GABA": 2.0, "Glu": 9.0, "Ins": 6.0, "NAA": 10.0, "PCh": 1.0}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return the folder of a basis set, the grid, and each metabolite's spectra as the basis has them."""
    folder = tmp_path_factory.mktemp("patterns") / "set"
    off, on = edited()
    difference = basis_sets.difference(on, off)
    for condition, basis in (("OFF", off), ("ON", on), ("DIFF", difference)):
        basis_sets.write_json_folder(folder / condition, basis)
    own = spectra.ppm_axis(N, DWELL, MHZ)
    ppm = own[(own > 0.0) & (own < 4.4)]
    grid = {"ppm": ppm.tolist(), "dwell_s": DWELL, "n_points": N, "frequency_mhz": MHZ, "conditions": ["OFF", "ON"]}
    decay = np.exp(-GAMMA * spectra.time_axis(N, DWELL))
    parts = np.stack(
        [window_spectra(basis.fids[:, :N] * decay, ppm, DWELL, MHZ) for basis in (off, on)], axis=1
    )  # (metabolites, 2, W)
    return folder, grid, off.names, parts


def test_amounts_and_lines_of_each_metabolite_are_found(study):
    folder, grid, names, parts = study
    mean = sum(AMOUNTS[name] * part for name, part in zip(names, parts, strict=True))
    found = metabolite_patterns.patterns(mean, grid, [folder])
    assert found.explained > 0.999
    assert set(found.names) == set(LINES)
    for name, pattern in zip(found.names, found.spectra, strict=True):
        true = AMOUNTS[name] * parts[names.index(name)]
        if name in ("Cr", "PCr"):  # known together: their lines are 0.002 ppm apart
            continue
        assert np.linalg.norm(pattern - true) < 0.03 * np.linalg.norm(true), name
    np.testing.assert_allclose(found.spectra.sum(axis=0), mean, atol=0.02 * np.abs(mean).max())


def test_unedited_spectra_need_one_condition(study, tmp_path):
    _, grid, names, parts = study
    basis_sets.write_json_folder(tmp_path / "set" / "UNEDITED", analytic_basis())
    mean = sum(AMOUNTS[name] * part[:1] for name, part in zip(names, parts, strict=True))
    found = metabolite_patterns.patterns(mean, grid | {"conditions": ["UNEDITED"]}, [tmp_path / "set"])
    assert found.spectra.shape[1:] == mean.shape


def test_another_sequence_s_basis_is_refused(study):
    folder, grid, _, parts = study
    rng = np.random.default_rng(0)
    other = np.abs(parts).max() * (rng.standard_normal(parts[0].shape) + 1j * rng.standard_normal(parts[0].shape))
    with pytest.raises(InputError, match="expected at least 80 %"):
        metabolite_patterns.patterns(other, grid, [folder])


def test_patterns_make_up_for_few_training_subjects(study):
    # Five training subjects whose metabolites vary by 15 %: Glu of new ones is nearer to the truth with the patterns
    folder, grid, names, parts = study
    rng = np.random.default_rng(1)

    def subjects(n, sd):
        amounts = np.array([AMOUNTS[name] for name in names]) * (1 + 0.15 * rng.standard_normal((n, len(names))))
        clean = np.einsum("nm,mew->new", amounts, parts)
        noise = rng.standard_normal(clean.shape) + 1j * rng.standard_normal(clean.shape)
        return clean, clean + sd * noise

    sd, fine = 0.15 * np.abs(parts).max(), 0.01 * np.abs(parts).max()
    train = Means(subjects(5, fine)[1], np.full(5, fine**2))
    validation = Means(subjects(3, fine)[1], np.full(3, fine**2))
    mean = train.spectra.mean(axis=0)
    known = metabolite_patterns.patterns(mean, grid, [folder])
    step = grid["ppm"][1] - grid["ppm"][0]
    clean, noisy = subjects(30, sd)
    errors = []
    for spectrum in (None, known.spectra):
        model, _ = subject_fit.fit_means(train, validation, step, spectrum)
        got = np.array([model.posterior(y, sd, 1).spectrum() for y in noisy])
        errors.append(np.sqrt(np.mean(np.abs(got - clean) ** 2)))
    assert errors[1] < 0.85 * errors[0]
