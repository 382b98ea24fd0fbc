"""Nuisances drawn anew: round trip, recovery, sites, rasters, and scans too short or dry."""

import json

import fake_water
import numpy as np
import pytest

from mrs_synthesis import donors, model_files, nuisance, spectra
from mrs_synthesis.stage import InputError

RASTER = {"n_points": fake_water.POINTS, "dwell_s": fake_water.DWELL, "frequency_mhz": fake_water.FREQUENCY}


def subjects(rng, n_each=4, **more):
    """Of site A small waters, of site B (another vendor) ten times as large; the last one of each is for testing."""
    return [
        {
            "arrays": fake_water.draw_subject(rng, amplitude, **more),
            "site": site,
            "vendor": vendor,
            "split": "test" if k == n_each else "train",
        }
        for site, vendor, amplitude in (("A", "siemens", 1.0), ("B", "philips", 10.0))
        for k in range(n_each + 1)
    ]


def fit(folder):
    return nuisance.fit_nuisance(folder / "training", folder / "derivatives", folder / "units.tsv")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return fake_water.write_study(tmp_path_factory.mktemp("study"), subjects(np.random.default_rng(1)))


@pytest.fixture(scope="module")
def model(study):
    return fit(study)


def draw(model, seed=0, n=30, scale=1.0, site="A", **raster):
    return model.draw(np.random.default_rng(seed), n, scale=scale, site=site, **(RASTER | raster))


def first_points(model, site, n=60):
    return np.array([np.abs(draw(model, seed, 8, site=site).water_fid[:, :, 0]).mean() for seed in range(n)])


def test_corrections_undo_what_apply_does(model):
    drawn = draw(model)
    fids = np.random.default_rng(2).standard_normal((2, 30, fake_water.POINTS, 2)) @ [1, 1j]
    acquired = nuisance.apply(fids, drawn, fake_water.DWELL)
    assert np.abs(acquired - fids).max() > 0.5
    back = spectra.shift_and_phase(acquired, fake_water.DWELL, drawn.shift_hz, drawn.phase_rad) - drawn.water_fid
    assert np.allclose(back, fids, atol=1e-6)


def test_acquired_transients_lie_where_the_corrections_say(model):
    drawn = draw(model)
    fid = np.broadcast_to(
        np.exp(2j * np.pi * 100 * spectra.time_axis(fake_water.POINTS, fake_water.DWELL)), (2, 30, 512)
    )
    still = nuisance.Drawn(np.full((2, 30), 3.0), np.full((2, 30), 0.5), np.zeros((2, 30, 512)))
    moved = nuisance.apply(fid, still, fake_water.DWELL)
    step = np.angle(moved[..., 1] / moved[..., 0]) / (2 * np.pi * fake_water.DWELL)
    assert np.allclose(step, 97.0)  # the scan will be shifted up by 3 Hz
    assert np.allclose(np.angle(moved[..., 0]), -0.5)
    assert drawn.shift_hz.shape == drawn.phase_rad.shape == (2, 30)
    assert drawn.water_fid.shape == (2, 30, fake_water.POINTS)


def test_tracks_have_the_training_subjects_parameters(model):
    shift, phase = (model.tracks[name].found for name in nuisance.TRACKS)
    assert np.median(shift.sd) * np.sqrt(1 - shift.share) == pytest.approx(0.2, rel=0.4)
    assert np.median(shift.sd) * np.sqrt(shift.share) == pytest.approx(0.05, rel=0.3)
    assert np.median(phase.sd) * np.sqrt(phase.share) == pytest.approx(0.05, rel=0.25)
    for seed in range(3):  # one scan: neighbours in time differ by wander and jitter only, subjects by Hz
        track = donors.in_order(draw(model, seed, 40).shift_hz, np.arange(40))
        assert np.std(np.diff(track)) == pytest.approx(np.sqrt(2 * 0.05**2 + 2 * 0.04 * (1 - np.exp(-1 / 25))), rel=0.4)


def test_offsets_differ_between_draws_as_between_subjects(model):
    offsets = [draw(model, seed, 2).shift_hz.mean() for seed in range(200)]
    trained = model.tracks["shift_hz"].found.coefficients[:4, 0]
    assert np.std(offsets) == pytest.approx(trained.std(ddof=1), rel=0.3)


def test_water_is_the_training_subjects_of_the_site(model):
    small, large = first_points(model, "A"), first_points(model, "B")
    assert np.median(large) / np.median(small) == pytest.approx(10, rel=0.5)
    everybody = first_points(model, "elsewhere")
    assert everybody.max() > 4 > 2.5 > everybody.min()


def test_a_site_with_few_subjects_takes_its_vendors(tmp_path):
    rng = np.random.default_rng(3)
    group = subjects(rng)
    group[0]["site"] = group[1]["site"] = "C"  # siemens too
    model = fit(fake_water.write_study(tmp_path, group))
    assert sorted(model.pool("C")) == [0, 1, 2, 3]
    assert sorted(model.pool("A")) == [0, 1, 2, 3]
    assert sorted(model.pool("B")) == [4, 5, 6, 7]
    assert model.pool(None).size == 8


def walk(water):
    """SD of log size and phase within a scan, and of the phase's steps, of one-line water (E, T, N)."""
    first = water[..., 0]
    angle = np.angle(first / np.exp(1j * np.angle(first.mean())))
    return [
        np.log(np.abs(first)).std(),
        angle.std(),
        np.std(np.diff(donors.in_order(angle, np.arange(angle.shape[1])))),
    ]


def test_water_walks_as_the_donors_does():
    rng = np.random.default_rng(12)
    about = {"dwell_s": fake_water.DWELL, "frequency_mhz": fake_water.FREQUENCY, "scale": 1.0}
    real = [fake_water.water(rng, 2, 40) for _ in range(20)]
    described = [donors.describe(water, np.arange(40), np.full((2, 40), 1e-4), **about) for water in real]
    everybody = donors.stack(described)
    drawn = [donors.draw(everybody, np.arange(20), rng, 40, **RASTER, scale=1.0) for _ in range(60)]
    mine, theirs = (np.mean([walk(water) for water in waters], axis=0) for waters in (drawn, real))
    assert mine == pytest.approx(theirs, rel=0.25)
    # within 80 steps a process with a memory of 20 shows 0.79 of its SD; a step is sqrt(2 - 2 exp(-1 / 20)) SDs
    assert mine == pytest.approx([0.79 * 0.15, 0.79 * 0.25, 0.25 * np.sqrt(2 - 2 * np.exp(-1 / 20))], rel=0.3)


def test_one_donor_is_described_exactly_up_to_its_walk():
    rng = np.random.default_rng(4)
    arrays = fake_water.draw_subject(rng, 1.0)
    about = {"dwell_s": fake_water.DWELL, "frequency_mhz": fake_water.FREQUENCY, "scale": 2.0}
    one = donors.describe(arrays["water_fid"], arrays["kept_index"], arrays["noise_sd"], **about)
    raster = RASTER | {"scale": 2.0}
    drawn = donors.draw(one, np.array([0]), np.random.default_rng(5), 400, **raster)
    real = arrays["water_fid"]
    assert np.abs(drawn[..., 0]).mean() == pytest.approx(np.abs(real[..., 0]).mean(), rel=0.1)
    shape = real.mean(axis=(0, 1)) / real.mean(axis=(0, 1))[0]  # all transients are multiples of one line
    ratio = drawn / drawn[..., :1]
    assert np.abs(ratio - shape).max() < 0.02


def test_interfering_parts_that_cancel_are_described_too():
    rng = np.random.default_rng(6)
    first, second = (fake_water.water(rng, 2, 60, place_hz=hz, damping=d) for hz, d in ((3.0, 25.0), (-4.0, 40.0)))
    turn = np.exp(1j * (np.pi + np.angle(first.mean(axis=(0, 1))[0] / second.mean(axis=(0, 1))[0])))
    real = first + second * turn
    about = {"dwell_s": fake_water.DWELL, "frequency_mhz": fake_water.FREQUENCY, "scale": 1.0}
    one = donors.describe(real, np.arange(60), np.full((2, 60), 1e-3), **about)
    drawn = donors.draw(one, np.array([0]), np.random.default_rng(7), 600, **RASTER, scale=1.0)
    for part in (slice(0, 1), slice(10, 30), slice(60, 100)):
        mine, theirs = (np.sqrt(np.mean(np.abs(fids[..., part]) ** 2)) for fids in (drawn, real))
        assert mine == pytest.approx(theirs, rel=0.25)


def test_water_keeps_its_ratio_to_the_scale_on_any_raster(model):
    plain = draw(model, 3)
    assert np.allclose(draw(model, 3, scale=5.0).water_fid, 5 * plain.water_fid, rtol=1e-4)
    half = draw(model, 3, dwell_s=fake_water.DWELL / 2, n_points=2 * fake_water.POINTS)
    assert np.allclose(2 * half.water_fid[..., ::2], plain.water_fid, rtol=1e-4, atol=1e-5)
    height = [np.abs(spectra.to_spectrum(w.water_fid)).max() for w in (plain, half)]
    assert height[1] == pytest.approx(height[0], rel=0.05)  # which is what a scale is made of


def test_no_transient_is_a_copy(model, study):
    with np.load(study / "derivatives" / "sub-00" / "mrs" / "sub-00_acq-x_desc-preproc_nuisance.npz") as file:
        real = file["water_fid"].reshape(-1, fake_water.POINTS)
    drawn = np.concatenate([draw(model, seed).water_fid.reshape(-1, fake_water.POINTS) for seed in range(20)])
    distance = np.linalg.norm(drawn[:, None] - real[None, ::4], axis=-1) / np.linalg.norm(real[::4], axis=-1)
    assert distance.min() > 1e-3


def test_same_seed_same_bytes_and_a_saved_model_is_the_model(model, tmp_path):
    model.save(tmp_path / "a.safetensors")
    again = nuisance.NuisanceModel.load(tmp_path / "a.safetensors")
    for name in ("shift_hz", "phase_rad", "water_fid"):
        assert np.array_equal(getattr(draw(model, 8), name), getattr(draw(again, 8), name))
        assert not np.array_equal(getattr(draw(model, 8), name), getattr(draw(model, 9), name))
    again.save(tmp_path / "b.safetensors")
    assert (tmp_path / "a.safetensors").read_bytes() == (tmp_path / "b.safetensors").read_bytes()


def test_a_new_site_takes_the_subjects_of_the_vendor_it_is_said_to_have(model):
    """No training subject is of it, so the model cannot know its vendor: test subjects are not what it is made of."""
    assert sorted(model.pool("elsewhere", "philips")) == [4, 5, 6, 7]
    assert model.pool("elsewhere", "ge").size == 8
    assert sorted(model.pool("A", "philips")) == [0, 1, 2, 3]  # a known site's own


def test_averaged_data_has_water_but_no_tracks(tmp_path):
    group = subjects(np.random.default_rng(10), n_conditions=1, n_transients=1)
    fake_water.write_study(tmp_path, group, conditions=("UNEDITED",))
    nuisance.main(fake_water.words(tmp_path, output=tmp_path / "model.safetensors"))
    model = nuisance.NuisanceModel.load(tmp_path / "model.safetensors")
    assert model.summary()["state"].startswith("no tracks")
    drawn = draw(model, n=3)
    assert not drawn.shift_hz.any() and not drawn.phase_rad.any()
    assert np.abs(drawn.water_fid[0, :, 0]).min() > 0.1
    assert np.allclose(drawn.water_fid[:, 0], drawn.water_fid[:, 2])


def test_without_removed_water_none_is_drawn(tmp_path):
    group = subjects(np.random.default_rng(11))
    for subject in group:
        subject["arrays"]["water_fid"][:] = 0
    model = fit(fake_water.write_study(tmp_path, group))
    assert "no water" in model.summary()["state"]
    drawn = draw(model)
    assert not drawn.water_fid.any()
    assert drawn.shift_hz.any()


def test_only_training_transients_are_looked_at(study, model, tmp_path):
    group = subjects(np.random.default_rng(1))
    for subject in group:
        if subject["split"] == "test":
            subject["arrays"]["water_fid"] *= 100
            subject["arrays"]["shift_hz"] += 50
    other = fit(fake_water.write_study(tmp_path, group))
    assert json.dumps(other.summary()) == json.dumps(model.summary())
    assert np.array_equal(draw(other).water_fid, draw(model).water_fid)


def test_missing_transients_leave_the_others_in_their_place():
    values = np.arange(6.0).reshape(2, 3)
    order = donors.in_order(values, np.array([1, 2, 4]))
    assert np.array_equal(order, [0, 3, 1, 4, np.nan, np.nan, 2, 5], equal_nan=True)
    whole = np.arange(8.0).reshape(2, 4)
    assert np.array_equal(donors.by_condition(donors.in_order(whole, np.arange(4)), 2), whole)


def test_foreign_files_are_refused(study, tmp_path):
    digest = model_files.write_arrays(tmp_path / "model.safetensors", {"nothing": np.zeros(1)})
    for text in ("{}", "[]", "no JSON", f'{{"format": {nuisance.FORMAT}, "sha256": "{digest}"}}'):
        (tmp_path / "model.json").write_text(text)
        with pytest.raises(InputError, match="no nuisance model"):
            nuisance.NuisanceModel.load(tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="no nuisance model"):
        nuisance.NuisanceModel.load(tmp_path / "model.safetensors")
    (tmp_path / "x_svs.json").write_text("{}")
    np.savez(tmp_path / "x_nuisance.npz", nothing=np.zeros(1))
    with pytest.raises(InputError, match="preprocess again"):
        nuisance.read_unit(tmp_path / "x")


def test_of_many_scans_some_of_every_site_make_the_model(study, model, monkeypatch, tmp_path):
    monkeypatch.setattr(nuisance, "MOST_SCANS", 6)
    monkeypatch.setattr(nuisance, "FEW_OF_SITE", 3)
    few = fit(study)
    assert [sum(unit["site"] == site for unit in few.units) >= 3 for site in "AB"] == [True, True]
    assert len(few.units) == few.water.level.shape[0] == few.tracks["shift_hz"].subjects.size == 6
    assert few.units == tuple(unit for unit in model.units if unit in few.units)  # in the order of all
    assert few.summary()["n_training_scans"] == 8
    assert "n_training_scans" not in model.summary()
    few.save(tmp_path / "few.safetensors")
    model.save(tmp_path / "all.safetensors")
    assert nuisance.NuisanceModel.load(tmp_path / "few.safetensors").n_scans == 8
    assert (tmp_path / "few.safetensors").stat().st_size < (tmp_path / "all.safetensors").stat().st_size
    large, small = (np.median(first_points(few, site, 20)) for site in "BA")
    assert large > 4 * small
