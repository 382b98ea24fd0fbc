"""The measured noise in units of the training set's rows: made FIDs through `assemble`'s own transform."""

import numpy as np
import pandas as pd
import pytest

from mrs_synthesis import assemble, known_noise, spectra, training_set
from mrs_synthesis.files import write_json, write_table
from mrs_synthesis.stage import InputError

FREQUENCY, DWELL, POINTS, SCALE, NOISE = 127.74, 5e-4, 1024, 40.0, 0.3
OTHER_POINTS = 2048


def make(folder, points=(POINTS, POINTS), transients=30, smooth=False, noise=NOISE, column=False):
    """Two units with noise only; rows, index and grid as `assemble` writes them. Returns the noise's SD in the rows."""
    rng = np.random.default_rng(2)
    ppm = assemble.window_ppm(spectra.ppm_axis(POINTS, DWELL, FREQUENCY), 0.0, 4.4)
    rows, table = [], []
    for u, n in enumerate(points):
        for condition in ("OFF", "ON"):
            fids = rng.standard_normal((transients, n, 2)) @ [noise, noise * 1j]
            values = assemble.window_spectra(fids, ppm, DWELL, FREQUENCY) / SCALE
            rows.append((values + np.roll(values, 1, axis=1)) / 2 if smooth else values)
            for t, sd in enumerate(spectra.noise_sd(fids, DWELL, FREQUENCY)):
                entry = (len(table), f"sub-{u}_acq-a", str(u), "A", condition, t, "train", SCALE, sd)
                table.append((*entry, n) if column else entry)
    folder.mkdir()
    np.save(folder / "spectra.npy", np.concatenate(rows).astype(np.complex64))
    columns = [*training_set.INDEX_COLUMNS, "n_points"][: 10 if column else 9]
    write_table(folder / "index.tsv", pd.DataFrame(table, columns=columns))
    grid = {"ppm": ppm.tolist(), "conditions": ["OFF", "ON"], "split_unit": "subject", "window_ppm": [0.0, 4.4]}
    write_json(folder / "grid.json", grid | {"frequency_mhz": FREQUENCY, "dwell_s": DWELL, "n_points": POINTS})
    return training_set.TrainingSet(folder)


def test_row_sd_is_that_of_the_rows(tmp_path):
    data = make(tmp_path / "a")
    sd = known_noise.row_sd(data)
    found = np.array(data.spectra)
    for part in (found.real, found.imag):
        assert np.sqrt(np.mean((part / sd[:, None]) ** 2)) == pytest.approx(1, abs=0.01)
    # 1024 points of SD 0.3 add up to 0.3 * 32 = 9.6; divided by 40.
    assert sd.mean() == pytest.approx(0.24, rel=0.01)
    assert list(known_noise.check(data, sd).values()) == pytest.approx([1, 1], abs=0.02)


def test_units_of_another_number_of_points_state_it_or_are_noticed(tmp_path, capsys):
    stated = make(tmp_path / "stated", (POINTS, OTHER_POINTS), column=True)
    sd = known_noise.row_sd(stated)
    assert np.mean(sd[-60:]) / np.mean(sd[:60]) == pytest.approx(np.sqrt(2), rel=0.01)
    assert list(known_noise.check(stated, sd).values()) == pytest.approx([1, 1], abs=0.03)
    assert capsys.readouterr().out == ""
    more = make(tmp_path / "more", (POINTS, OTHER_POINTS))
    known_noise.check(more, known_noise.row_sd(more))
    assert "sub-1_acq-a: transients differ by 1.4" in capsys.readouterr().out
    fewer = make(tmp_path / "fewer", (POINTS, POINTS // 2))
    with pytest.raises(InputError, match=r"sub-1_acq-a: transients differ by 0\.7"):
        known_noise.check(fewer, known_noise.row_sd(fewer))


def test_smoothed_data_and_data_without_noise_are_refused(tmp_path):
    data = make(tmp_path / "smooth", smooth=True)
    with pytest.raises(InputError, match="smoothed data"):
        known_noise.check(data, known_noise.row_sd(data))
    with pytest.raises(InputError, match="of sub-0_acq-a, transient 0, expected a positive number"):
        known_noise.row_sd(make(tmp_path / "clean", noise=0.0))


def test_single_transients_cannot_be_checked(tmp_path):
    data = make(tmp_path / "a", transients=1)
    assert known_noise.check(data, known_noise.row_sd(data)) == {}


class PerfectModel:
    """Decodes to nothing: of rows that are noise alone, all that a model should explain."""

    width = None

    def encode(self, x, condition):
        return x, None

    def decode(self, z, condition):
        return z * self.keep


def test_residual_over_noise_is_one_for_the_truth_and_less_for_copied_noise(tmp_path):
    pytest.importorskip("torch")
    data = make(tmp_path / "a")
    model, rows = PerfectModel(), np.arange(len(data.index))[::-1].copy()
    model.width = data.spectra.shape[1]
    model.keep = 0.0
    assert known_noise.residual_over_noise(model, data, rows, size=50) == pytest.approx(1, abs=0.01)
    model.keep = 0.4
    assert known_noise.residual_over_noise(model, data, rows, size=50) == pytest.approx(0.6, abs=0.01)
