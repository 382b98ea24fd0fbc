"""Synthetic transients: the definition of the modes, the noise, what may be used, and the files."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

torch = pytest.importorskip("torch")

from mrs_synthesis import assemble, cells, generator, latent_density, spectra, synthesise, vae  # noqa: E402
from mrs_synthesis.files import write_json, write_table  # noqa: E402
from mrs_synthesis.scans import Scan, read_scan, write_scan  # noqa: E402
from mrs_synthesis.stage import InputError, SkippedError  # noqa: E402

FREQUENCY, DWELL, POINTS, TRANSIENTS = 127.74, 5e-4, 1024, 30
SIGMA, NOISE = 0.03, 0.4
UNIT = "sub-09_acq-mega"
LATENT = 3


def peak(ppm, amplitude):
    t = np.arange(POINTS) * DWELL
    return amplitude * np.exp((2j * np.pi * (ppm - 4.65) * FREQUENCY - 20) * t)


def fids(rng):
    clean = np.stack([peak(2.008, 12) + peak(3.027, 6), peak(3.027, 6)])
    return clean[:, None] + rng.standard_normal((2, TRANSIENTS, POINTS, 2)) @ [NOISE, NOISE * 1j]


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A model with random weights (no definition here depends on training), one test unit, one training unit."""
    folder = tmp_path_factory.mktemp("synth")
    ppm = assemble.window_ppm(spectra.ppm_axis(POINTS, DWELL, FREQUENCY), 0.0, 4.4)
    torch.manual_seed(0)
    model = vae.SpectrumVAE(len(ppm), 2, LATENT, (4, 4), 5).eval()
    with torch.no_grad():
        model.log_sigma.fill_(np.log(SIGMA))
        model.code_mean.copy_(torch.tensor([[1.0, 0, 0], [0, 0, -1.0]]))
        model.code_covariance.copy_(torch.diag(torch.tensor([0.25, 1.0, 4.0])).repeat(2, 1, 1))
    grid = {"ppm": ppm.tolist(), "conditions": ["OFF", "ON"], "split_unit": "subject"}
    config = {"model": "paper", "architecture": vae.architecture(model, (4, 4), 5), "grid": grid}
    vae.save_model(folder / "model", model, config)
    rows = [("sub-01_acq-mega", "A", 0, "train", 800.0)]
    (folder / "training").mkdir()
    columns = ["unit", "site", "transient", "split", "scale"]
    write_table(folder / "training" / "index.tsv", pd.DataFrame(rows, columns=columns))
    write_json(folder / "training" / "grid.json", grid)
    header = {"EchoTime": 0.068, "RepetitionTime": 2.0, "PatientName": "nobody"}
    scan = Scan(fids(np.random.default_rng(0))[:, :, None], FREQUENCY, DWELL, header, ("OFF", "ON"))
    write_scan(folder / f"{UNIT}_desc-preproc_svs.nii.gz", scan)
    return folder, model, ppm


def arguments(folder, prefix, *more, unit=UNIT):
    scan = prefix.parent / f"{UNIT}_desc-preproc_svs.nii.gz"
    if not scan.exists():
        scan.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(folder / scan.name, scan)
    fixed = ["--unit", unit, "--model", folder / "model", "--training", folder / "training", "--scan", scan]
    fixed += ["--site", "A"]
    numbers = ["--n-real", "2", "--n-total", "12", "--replicates", "3", "--seed", "5"]
    return [*map(str, fixed), "--prefix", str(prefix), *numbers, *more]


@pytest.fixture(scope="module")
def outputs(study, tmp_path_factory):
    folder, _, _ = study
    prefix = tmp_path_factory.mktemp("out") / UNIT
    synthesise.main(arguments(folder, prefix))
    return prefix


def sidecar(path):
    return json.loads(Path(str(path).replace(".nii.gz", ".json")).read_text())


def draw(mode, n, real=None, hybrid_sd=0.5, covariance=None, **more):
    return generator.draw_codes(
        mode,
        np.zeros((2, 2, LATENT)) if real is None else real,
        n,
        np.random.default_rng(1),
        code_covariance=np.stack([np.eye(LATENT)] * 2) if covariance is None else covariance,
        hybrid_sd=hybrid_sd,
        **more,
    )


def gaussians(weights, means, covariances, sites=(), site_weights=()):
    site_weights = np.reshape(site_weights, (len(sites), len(weights))).astype(float)
    parts = (np.array(weights), np.array(means), np.array(covariances), np.array(sites, str), site_weights)
    return latent_density.LatentDensity(*parts, np.empty(0))


def test_fitted_prior_draws_pairs_with_the_weights_of_the_units_site(study, tmp_path):
    """Two points in the space of joint codes; at the unit's site, A, only the second occurs."""
    folder, model, ppm = study
    shutil.copytree(folder / "model", tmp_path / "model")
    points = np.random.default_rng(2).standard_normal((2, 2 * LATENT))
    tight = [1e-12 * np.eye(2 * LATENT)] * 2
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    arguments_ = ["--model", str(tmp_path / "model"), "--modes", "random", "--decoders", "mean", "--prior", "fitted"]
    for site, used, words in (("A", 1, "weights of A"), ("B", 0, "weights of all training sites")):
        density = gaussians([1.0, 0.0], points, tight, [site], [[0.0, 1.0]])
        digest = latent_density.save(tmp_path / "model", density)
        write_json(tmp_path / "model" / "config.json", config | {"density_sha256": digest})
        synthesise.main(arguments(folder, tmp_path / site / UNIT, *arguments_))
        path = cells.synthetic_path(tmp_path / site / UNIT, "random", "mean")
        scan, facts = read_scan(path), sidecar(path)
        assert facts["Prior"] == f"fitted mixture, K = 2, {words}"
        found = assemble.window_spectra(scan.fids[:, :10, 0], ppm, DWELL, FREQUENCY)
        with torch.no_grad():
            codes = torch.from_numpy(points[used].reshape(2, LATENT).astype(np.float32))
            expected = (
                vae.to_complex(model.decode(codes, torch.tensor([0, 1]))) * facts["Plan"]["Replicates"][0]["Scale"]
            )
        for c in (0, 1):
            np.testing.assert_allclose(
                found[c], np.broadcast_to(expected[c], found[c].shape), atol=1e-3 * np.abs(expected).max()
            )
    write_json(tmp_path / "model" / "config.json", config | {"density_sha256": "0" * 64})
    with pytest.raises(InputError, match="train the model again"):
        synthesise.main(arguments(folder, tmp_path / "C" / UNIT, *arguments_))


def test_random_codes_have_the_moments_of_the_prior():
    standard = draw("random", 40_000)
    np.testing.assert_allclose(standard.mean(1), 0, atol=0.02)
    np.testing.assert_allclose(np.cov(standard[1].T), np.eye(LATENT), atol=0.03)
    np.testing.assert_array_equal(standard[0], standard[1])  # a pair shares its draw
    root = np.random.default_rng(3).standard_normal((2 * LATENT, 2 * LATENT))
    covariance, mean = root @ root.T, np.array([1.0, 2, 3, -1, 0, 1])
    fitted = draw("random", 40_000, density=gaussians([1.0], [mean], [covariance]))
    for c in (0, 1):
        np.testing.assert_allclose(fitted[c].mean(0), mean[LATENT * c : LATENT * (c + 1)], atol=0.06)
    found = np.cov(np.concatenate(list(fitted), axis=1).T)  # between the conditions, too: a pair is one draw
    np.testing.assert_allclose(found, covariance, atol=0.05 * np.abs(covariance).max())


def test_interpolated_codes_lie_between_two_real_codes_of_their_condition():
    real = np.random.default_rng(2).standard_normal((2, 2, LATENT))
    codes = draw("interpolation", 500, real=real)
    weights = []
    for c in (0, 1):
        direction = real[c, 1] - real[c, 0]
        weight = (codes[c] - real[c, 0]) @ direction / (direction @ direction)
        np.testing.assert_allclose(codes[c], real[c, 0] + weight[:, None] * direction, atol=1e-12)
        weights.append(weight)
    np.testing.assert_allclose(weights[0], weights[1])  # a pair shares i, j and l
    assert 0 <= weights[0].min() < 0.02
    assert 0.98 < weights[0].max() <= 1
    assert np.mean(weights[0]) == pytest.approx(0.5, abs=0.04)
    one = real[:, :1]
    np.testing.assert_allclose(draw("interpolation", 4, real=one), np.repeat(one, 4, axis=1), atol=1e-12)


def test_interpolation_pairs_two_different_transients():
    real = np.stack([np.eye(5)] * 2)
    codes = draw("interpolation", 300, real=real, covariance=np.stack([np.eye(5)] * 2))
    assert (np.count_nonzero(codes[0] > 1e-9, axis=1) == 2).all()
    np.testing.assert_allclose(codes[0].sum(1), 1)


def test_hybrid_adds_noise_in_units_of_the_training_codes():
    covariance = np.stack([np.diag([0.25, 1.0, 4.0]), np.diag([1.0, 1.0, 9.0])])
    codes = draw("hybrid", 20_000, real=np.ones((2, 2, LATENT)), covariance=covariance, hybrid_sd=0.5)
    np.testing.assert_allclose(codes[0].std(0), [0.25, 0.5, 1.0], rtol=0.03)
    np.testing.assert_allclose(codes[1].std(0), [0.5, 0.5, 1.5], rtol=0.03)


def test_noise_has_one_level_inside_and_another_outside():
    scan = Scan(np.zeros((1, 1, 1, POINTS), complex), FREQUENCY, DWELL)
    noise = synthesise.noise_fids((2, 400), scan, (0.0, 4.4), 3.0, np.array([[0.5], [1.0]]), np.random.default_rng(0))
    spectrum = np.fft.fftshift(np.fft.fft(noise), axes=-1)
    inside = (scan.ppm >= 0) & (scan.ppm <= 4.4)
    for part in (spectrum.real, spectrum.imag):
        np.testing.assert_allclose(part[..., inside].std(axis=(1, 2)), 3.0, rtol=0.01)
    outside = spectra.noise_sd(noise, DWELL, FREQUENCY).mean(axis=1)
    np.testing.assert_allclose(outside, [0.5, 1.0], rtol=0.01)
    # Independent from one transient to the next: the mean of 400 has a 20th of the noise.
    assert spectra.noise_sd(noise.mean(axis=1), DWELL, FREQUENCY)[1] == pytest.approx(1 / 20, rel=0.1)


def test_files_hold_replicates_by_blocks_and_their_plan(outputs):
    expected = cells.plan(range(TRANSIENTS), 2, 12, 3, 5, UNIT)
    for mode in synthesise.MODES:
        for decoder in ("mean", "sampled"):
            path = cells.synthetic_path(outputs, mode, decoder)
            assert path.name == f"{UNIT}_desc-synth{mode.capitalize()}{decoder.capitalize()}_svs.nii.gz"
            scan = read_scan(path)
            assert scan.fids.shape == (2, 3 * 10, 1, POINTS)
            assert scan.conditions == ("OFF", "ON")
            assert scan.header["EchoTime"] == 0.068
            assert "PatientName" not in scan.header
            assert "SYNTHETIC" in scan.header["Synthetic"]["Description"]
            facts = sidecar(path)
            assert "SYNTHETIC" in facts["SyntheticStatement"]
            assert facts["Sources"] == [f"{UNIT}_desc-preproc_svs.nii.gz"]
            plan = facts["Plan"]
            assert [tuple(r["RealTransients"]) for r in plan["Replicates"]] == list(expected.replicates)
            assert [r["DynRange"] for r in plan["Replicates"]] == [[0, 10], [10, 20], [20, 30]]
            assert plan["Reference"] == list(expected.reference)


def test_mean_has_nothing_outside_the_window_and_sampled_has_both_levels(outputs, study):
    _, _, ppm = study
    mean = read_scan(cells.synthetic_path(outputs, "hybrid", "mean"))
    sampled = read_scan(cells.synthetic_path(outputs, "hybrid", "sampled"))
    inside = (mean.ppm >= ppm[0] - 1e-6) & (mean.ppm <= ppm[-1] + 1e-6)
    spectrum = spectra.to_spectrum(mean.fids)
    assert np.abs(spectrum[..., ~inside]).max() < 1e-5 * np.abs(spectrum).max()
    added = np.fft.fftshift(np.fft.fft(sampled.fids - mean.fids), axes=-1)
    replicates = sidecar(cells.synthetic_path(outputs, "hybrid", "sampled"))["Plan"]["Replicates"]
    for r, replicate in enumerate(replicates):
        block = added[:, 10 * r : 10 * (r + 1)]
        assert block[..., inside].real.std() == pytest.approx(SIGMA * replicate["Scale"], rel=0.05)
        assert block[..., ~inside].imag.std() == pytest.approx(NOISE * np.sqrt(POINTS), rel=0.08)


def test_known_likelihood_samples_the_replicates_own_noise_everywhere(study, tmp_path):
    """OFF and ON have noise of 0.5 and 2 times the usual; the transients outside the replicates have 5 times that."""
    folder, model, ppm = study
    shutil.copytree(folder / "model", tmp_path / "model")
    known = vae.SpectrumVAE(len(ppm), 2, LATENT, (4, 4), 5, "known").eval()
    known.load_state_dict(model.state_dict())
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    vae.save_model(tmp_path / "model", known, config | {"architecture": vae.architecture(known, (4, 4), 5)})
    scan = read_scan(folder / f"{UNIT}_desc-preproc_svs.nii.gz")
    levels = np.full((2, TRANSIENTS), 5.0) * [[0.5], [2.0]]
    for replicate in cells.plan(range(TRANSIENTS), 2, 12, 3, 5, UNIT).replicates:
        levels[:, list(replicate)] = [[0.5], [2.0]]
    rng = np.random.default_rng(1)
    clean = np.stack([peak(2.008, 12) + peak(3.027, 6), peak(3.027, 6)])
    noise = rng.standard_normal((2, TRANSIENTS, POINTS, 2)) @ [NOISE, NOISE * 1j]
    scan.fids[:, :, 0] = clean[:, None] + levels[..., None] * noise
    write_scan(tmp_path / f"{UNIT}_desc-preproc_svs.nii.gz", scan)
    more = ["--model", str(tmp_path / "model"), "--modes", "hybrid", "--n-total", "10"]
    synthesise.main(arguments(folder, tmp_path / UNIT, *more))

    mean, sampled = (read_scan(cells.synthetic_path(tmp_path / UNIT, "hybrid", d)) for d in ("mean", "sampled"))
    inside = (mean.ppm >= ppm[0] - 1e-6) & (mean.ppm <= ppm[-1] + 1e-6)
    added = np.fft.fftshift(np.fft.fft(sampled.fids - mean.fids), axes=-1)[:, :, 0]
    for c, level in enumerate((0.5, 2.0)):
        expected = level * NOISE * np.sqrt(POINTS)
        for region in (inside, ~inside):
            part = added[c][:, region]
            assert part.real.std() == pytest.approx(expected, rel=0.05)
            assert part.imag.std() == pytest.approx(expected, rel=0.05)
            # White: neighbouring bins, and the two parts of a bin, are independent (3000 bins and more).
            together = np.mean(part[:, 1:] * part[:, :-1].conj()) / np.mean(np.abs(part) ** 2)
            assert abs(together) < 0.06
            assert abs(np.mean(part.real * part.imag)) / np.mean(part.real**2) < 0.06
        # Independent between transients: the mean of n has a share 1 / sqrt(n).
        n = added.shape[1]
        assert added[c].mean(0).real.std() * np.sqrt(n) == pytest.approx(expected, rel=0.1)
    facts = sidecar(cells.synthetic_path(tmp_path / UNIT, "hybrid", "sampled"))
    assert "DecoderSD" not in facts
    assert "inside and outside" in facts["NoiseSource"]
    np.testing.assert_allclose([r["NoiseSD"] for r in facts["Plan"]["Replicates"]], [[0.2, 0.8]] * 3, rtol=0.05)


def test_interpolation_is_the_decoder_between_the_replicates_codes(outputs, study):
    """Whatever l was, each synthetic spectrum lies on the line that the decoder draws between the two codes."""
    folder, model, ppm = study
    scan = read_scan(folder / f"{UNIT}_desc-preproc_svs.nii.gz")
    written = read_scan(cells.synthetic_path(outputs, "interpolation", "mean"))
    found = assemble.window_spectra(written.fids[:, :, 0], ppm, DWELL, FREQUENCY)
    replicate = sidecar(cells.synthetic_path(outputs, "interpolation", "mean"))["Plan"]["Replicates"][1]
    values = assemble.window_spectra(scan.fids[:, replicate["RealTransients"], 0], ppm, DWELL, FREQUENCY)
    scale = np.abs(values[0].mean(0))[(ppm >= 1.8) & (ppm <= 3.4)].max()
    assert replicate["Scale"] == pytest.approx(scale, rel=1e-6)
    with torch.no_grad():
        codes = model.encode(vae.to_channels(values[1] / scale), torch.tensor([1, 1]))[0]
        weights = torch.linspace(0, 1, 2001)[:, None]
        line = vae.to_complex(model.decode((1 - weights) * codes[0] + weights * codes[1], torch.ones(2001).long()))
    for one in found[1, 10:20] / scale:
        distance = np.linalg.norm(line - one, axis=1)
        assert distance.min() < 1e-3 * np.linalg.norm(line[0] - line[-1]) + 1e-5 * np.linalg.norm(one)


def test_reconstruction_is_every_transient_through_the_model(outputs, study):
    folder, model, ppm = study
    scan = read_scan(folder / f"{UNIT}_desc-preproc_svs.nii.gz")
    recon = read_scan(cells.reconstruction_path(outputs))
    assert recon.fids.shape == scan.fids.shape
    values = assemble.window_spectra(scan.fids[0, :, 0], ppm, DWELL, FREQUENCY)
    scale = np.abs(values.mean(axis=0))[(ppm >= 1.8) & (ppm <= 3.4)].max()  # of all its transients
    values = values / scale
    with torch.no_grad():
        zeros = torch.zeros(TRANSIENTS, dtype=torch.long)
        expected = vae.to_complex(model.decode(model.encode(vae.to_channels(values), zeros)[0], zeros)) * scale
    found = assemble.window_spectra(recon.fids[0, :, 0], ppm, DWELL, FREQUENCY)
    np.testing.assert_allclose(found, expected, atol=1e-4 * np.abs(expected).max())


def test_same_bytes_again_and_no_influence_of_the_reference(outputs, study, tmp_path):
    folder, _, _ = study
    scan = read_scan(folder / f"{UNIT}_desc-preproc_svs.nii.gz")
    used = {k for r in cells.plan(range(TRANSIENTS), 2, 12, 3, 5, UNIT).replicates for k in r}
    others = [k for k in range(TRANSIENTS) if k not in used]
    scan.fids[:, others] = 7 * scan.fids[:, others] + 1
    write_scan(tmp_path / f"{UNIT}_desc-preproc_svs.nii.gz", scan)
    synthesise.main(arguments(folder, tmp_path / UNIT))
    for mode in synthesise.MODES:
        for decoder in ("mean", "sampled"):
            new, old = (cells.synthetic_path(p, mode, decoder) for p in (tmp_path / UNIT, outputs))
            assert new.read_bytes() == old.read_bytes()
            assert sidecar(new) == sidecar(old)


def test_another_seed_with_the_same_plan_draws_anew_from_the_same_real_transients(outputs, study, tmp_path):
    folder, _, _ = study
    more = ["--modes", "random", "--decoders", "mean", "--seed", "6"]
    synthesise.main(arguments(folder, tmp_path / "same" / UNIT, *more, "--plan-seed", "5"))
    synthesise.main(arguments(folder, tmp_path / "other" / UNIT, *more))
    first, same, other = (
        cells.synthetic_path(prefix, "random", "mean")
        for prefix in (outputs, tmp_path / "same" / UNIT, tmp_path / "other" / UNIT)
    )
    plans = [
        [(one["RealTransients"], one["DynRange"]) for one in sidecar(path)["Plan"]["Replicates"]]
        for path in (first, same, other)
    ]
    assert plans[0] == plans[1] != plans[2]
    assert sidecar(first)["Plan"]["Reference"] == sidecar(same)["Plan"]["Reference"]
    assert not np.allclose(read_scan(first).fids, read_scan(same).fids, rtol=1e-3)


def test_mrs_tools_reads_the_files(outputs):
    tool = Path(sys.executable).with_name("mrs_tools")
    if not tool.exists():
        pytest.skip("needs mrs_tools, which comes with nifti-mrs, beside Python")
    path = cells.synthetic_path(outputs, "random", "sampled")
    shown = subprocess.run([tool, "info", path], check=True, capture_output=True, text=True).stdout
    assert "DIM_DYN" in shown
    assert "DIM_EDIT" in shown
    assert "127.74" in shown


def test_no_modes_means_reconstruction_only(study, tmp_path):
    folder, _, _ = study
    synthesise.main([*arguments(folder, tmp_path / UNIT, "--decoders", "mean"), "--modes"])
    written = {p.name.split("_desc-")[1] for p in tmp_path.iterdir()}
    assert written == {"preproc_svs.nii.gz", "recon_svs.nii.gz", "recon_svs.json"}


def test_count_total_is_divided_over_the_conditions(study, tmp_path):
    folder, _, _ = study
    more = ["--count", "total", "--n-real", "4", "--n-total", "20", "--modes", "random", "--decoders", "mean"]
    synthesise.main(arguments(folder, tmp_path / UNIT, *more))
    plan = sidecar(cells.synthetic_path(tmp_path / UNIT, "random", "mean"))["Plan"]
    assert {(one["NReal"], one["NTotal"]) for one in plan["Replicates"]} == {(2, 10)}
    assert [one["DynRange"] for one in plan["Replicates"]] == [[0, 8], [8, 16], [16, 24]]


def test_a_grid_of_n_real_is_one_file_of_what_single_runs_make(study, tmp_path):
    folder, _, _ = study
    few = ["--modes", "hybrid", "--decoders", "sampled", "--replicates", "2", "--n-total", "12"]
    found = {}
    for n_real in (["2", "6"], ["2"], ["6"]):  # a pool of 12 transients each
        prefix = tmp_path / "_".join(n_real) / UNIT
        synthesise.main(arguments(folder, prefix, *few, "--n-real", *n_real))
        path = cells.synthetic_path(prefix, "hybrid", "sampled")
        found["_".join(n_real)] = read_scan(path).fids, sidecar(path)["Plan"]["Replicates"]
    fids, plan = found["2_6"]
    assert [(one["NReal"], one["NTotal"], one["Replicate"], one["DynRange"]) for one in plan] == [
        (2, 12, 0, [0, 10]),
        (2, 12, 1, [10, 20]),
        (6, 12, 0, [20, 26]),
        (6, 12, 1, [26, 32]),
    ]
    np.testing.assert_array_equal(fids, np.concatenate([found["2"][0], found["6"][0]], axis=1))
    for ours, single in zip(plan, found["2"][1] + found["6"][1], strict=True):
        for key in ("NReal", "RealTransients", "Scale", "NoiseSD"):
            assert ours[key] == single[key]


def test_split_by_transients_uses_the_training_set_s_scale_and_test_transients(tmp_path):
    rng = np.random.default_rng(6)
    scan = Scan(fids(rng)[:, :, None], FREQUENCY, DWELL, {}, ("OFF", "ON"))
    path = tmp_path / "scan.nii.gz"
    write_scan(path, scan)
    columns = ["unit", "transient", "split", "scale"]
    rows = [(UNIT, k, "test" if k % 3 == 0 else "train", 123.0) for k in range(TRANSIENTS)]
    write_table(tmp_path / "index.tsv", pd.DataFrame(rows, columns=columns))
    grid = {"ppm": assemble.window_ppm(scan.ppm, 0.0, 4.4), "conditions": ["OFF", "ON"], "split_unit": "transient"}
    subject = synthesise.read_subject(UNIT, tmp_path, path, grid)
    assert subject.eligible == list(range(0, TRANSIENTS, 3)) and subject.scale == 123.0
    with pytest.raises(SkippedError, match="it failed before"):
        synthesise.read_subject("sub-10_acq-mega", tmp_path, path, grid)
    assert synthesise.read_subject("sub-10_acq-mega", tmp_path, path, grid | {"split_unit": "subject"}).eligible == [
        *range(TRANSIENTS)
    ]
    write_table(tmp_path / "index.tsv", pd.DataFrame([(UNIT, TRANSIENTS, "test", 1.0)], columns=columns))
    with pytest.raises(InputError, match=f"{TRANSIENTS} transients, but .* names number {TRANSIENTS}"):
        synthesise.read_subject(UNIT, tmp_path, path, grid)


def test_units_outside_the_test_split_are_skipped(study, tmp_path):
    folder, _, _ = study
    with pytest.raises(SkippedError, match="not in the test split"):
        synthesise.main(arguments(folder, tmp_path / UNIT, unit="sub-01_acq-mega"))
    status = tmp_path / "status.json"
    synthesise.main(arguments(folder, tmp_path / UNIT, "--status", str(status), unit="sub-01_acq-mega"))
    assert json.loads(status.read_text())["status"] == "skipped"
    assert cells.synthetic_path(tmp_path / UNIT, "random", "mean").stat().st_size == 0


def test_bad_numbers_and_models_are_refused(study, tmp_path):
    folder, _, _ = study
    with pytest.raises(InputError, match="expected 1 <= n_real < n_total"):
        synthesise.main(arguments(folder, tmp_path / UNIT, "--n-total", "2"))
    with pytest.raises(InputError, match="30 eligible transients"):
        synthesise.main(arguments(folder, tmp_path / UNIT, "--n-total", "40"))
    shutil.copytree(folder / "model", tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    write_json(tmp_path / "model" / "config.json", config | {"weights_sha256": "0" * 64})
    with pytest.raises(InputError, match="SHA-256"):
        synthesise.main(arguments(folder, tmp_path / UNIT, "--model", str(tmp_path / "model")))
