"""Histograms of residual water, against measures made by hand."""

import numpy as np
import pytest

from mrs_synthesis import water_lines


def subject(value, n):
    return {name: np.full(n, float(value)) for name in water_lines.UNITS}


def test_measures_come_out_in_their_units():
    measured = {
        "amplitude": np.log([[100.0]]),
        "amplitude_change": np.log([[0.1]]),
        "phase": np.array([[0.0, 1.0]]),
        "shift": np.array([[4.7]]),
        "width": np.array([[0.05]]),
    }
    found = {name: value[0] for name, value in water_lines.in_units(measured).items()}
    wanted = {"amplitude": 2, "amplitude_change": -1, "phase_deg": 90, "shift_ppm": 4.7, "width_ppm": 0.05}
    assert found == pytest.approx(wanted)


def test_every_subject_counts_the_same_however_many_transients_it_has():
    table = water_lines.histograms(
        {"real": [subject(0, 10), subject(1, 1000)], "drawn": [subject(0, 3), subject(1, 3)]}
    )
    for source in ("real", "drawn"):
        one = table[(table["source"] == source) & (table["metric"] == "shift_ppm")]
        share = (one["density"] * one["width"]).to_numpy()
        assert share[[0, -1]] == pytest.approx([0.5, 0.5])
        assert share.sum() == pytest.approx(1)
        assert one["n"].unique().tolist() == [2]


def test_what_lies_in_the_tails_is_counted_in_the_outermost_bins():
    values = np.concatenate([np.linspace(0, 1, 1000), [50.0]])
    table = water_lines.histograms({"real": [dict.fromkeys(water_lines.UNITS, values)]})
    one = table[table["metric"] == "width_ppm"]
    assert one["x"].max() < 1
    assert (one["density"] * one["width"]).sum() == pytest.approx(1)


def test_a_measure_that_never_varies_has_no_histogram():
    assert water_lines.histograms({"real": [subject(3, 5)]}).empty
