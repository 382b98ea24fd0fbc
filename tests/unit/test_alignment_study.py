"""The study of edit alignment: its truth, its statistics, and that its methods differ as they must."""

import json

import numpy as np
import pytest

from mrs_synthesis import alignment_study, phantom, phantom_signal, spectra
from mrs_synthesis.files import read_table
from mrs_synthesis.stage import InputError

MHZ, DWELL = alignment_study.SITE.frequency_mhz, phantom_signal.DWELL_S


@pytest.fixture(scope="module")
def sets():
    return alignment_study.phantom_basis_sets(MHZ)


@pytest.fixture(scope="module")
def bases(sets):
    return alignment_study.phantom_bases(sets)


def test_what_truly_lies_between_the_averages(bases):
    """Independent of the phantom's record: the spectra themselves say the same, to a tenth of what there is to find."""
    subject = alignment_study.realise(bases, 5, 3, n_transients=48)
    assert abs(subject.shift_hz) > 0.2
    assert abs(np.degrees(subject.phase_rad)) > 4
    shift, phase = alignment_study.methods(MHZ)["match_edited"](subject.on, subject.off)
    assert shift == pytest.approx(-subject.shift_hz, abs=0.06)
    assert np.degrees(phase + subject.phase_rad) == pytest.approx(0.0, abs=1.0)


def test_true_ratio_is_that_of_the_concentrations(bases):
    subject = alignment_study.realise(bases, 5, 1, n_transients=12)
    drawn = phantom.make_subject("alignment-1", alignment_study.SITE, bases, 5, 12, 15.0)[2]
    wanted = (drawn["GABA"] + drawn["MM3co"]) / (drawn["Cr"] + drawn["PCr"])
    assert subject.gaba_per_tcr == pytest.approx(wanted, rel=1e-12)


def test_amplitudes_of_a_known_mixture(sets):
    """Two units of GABA and three of MM3co, as they are in the basis, broadened."""
    basis = sets["DIFF"]
    fid = 2 * basis.fids[basis.names.index("GABA")] + 3 * basis.fids[basis.names.index("MM3co")]
    fid = fid + 10 * basis.fids[basis.names.index("NAA")] + 8 * basis.fids[basis.names.index("Glu")]
    fid = fid[::2][: phantom_signal.N_POINTS] * np.exp(-12 * spectra.time_axis(phantom_signal.N_POINTS, DWELL))
    found = alignment_study.amplitudes(fid[None], basis, "DIFF", ("GABA", "MM3co"))
    assert found[0] == pytest.approx(5.0, rel=0.01)


def test_summary_by_hand():
    left = np.array([[0.3, 2.0], [0.1, -2.0], [-0.1, 0.0]])
    row = alignment_study.summary(left, np.array([3.0, np.nan, 5.0]))
    assert row["shift_mean_hz"] == pytest.approx(0.1)
    assert row["shift_sd_hz"] == pytest.approx(0.2)
    assert row["shift_rms_hz"] == pytest.approx(np.sqrt(0.11 / 3))
    assert row["phase_rms_deg"] == pytest.approx(np.sqrt(8 / 3))
    assert row["gaba_bias_percent"] == pytest.approx(4.0)
    assert row["gaba_bias_se_percent"] == pytest.approx(1.0)
    assert row["fits_left_out"] == 1


def test_own_reference_undoes_a_shift_and_a_phase(bases):
    mean = np.array([value for value, _ in phantom.CONCENTRATIONS.values()])
    off = mean @ bases[0] * phantom_signal.Shape(4.0, 4.0, 0.0, 1.0).decay()
    on = spectra.shift_and_phase(off, DWELL, np.asarray(0.4), np.asarray(0.1))
    shift, phase = alignment_study.own_reference(on, off, DWELL, MHZ)
    assert shift == pytest.approx(-0.4, abs=0.01)
    assert phase == pytest.approx(-0.1, abs=0.01)


def test_table(tmp_path):
    """Few and short scans: what stands out even so is that FSL-MRS's default window leaves more than the engine."""
    path = tmp_path / "edit_alignment.tsv"
    alignment_study.main(["--seed", "1", "--realisations", "2", "--output", str(path)])
    table = read_table(path).set_index("method")
    described = json.loads(path.with_suffix(".json").read_text())
    assert set(described["method"]["Levels"]) == set(table.index)
    assert (table["realisations"] == 2).all()
    assert table.loc["true", ["shift_rms_hz", "phase_rms_deg"]].tolist() == pytest.approx([0.0, 0.0], abs=1e-9)
    ours, theirs = table.loc["match_edited"], table.loc["fsl_mrs_0.2_4.2"]
    assert ours["shift_rms_hz"] < 0.1 < theirs["shift_rms_hz"]
    assert ours["phase_rms_deg"] < 1.5 < theirs["phase_rms_deg"]
    assert ours["gaba_rms_percent"] < theirs["gaba_rms_percent"]


def test_one_realisation_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 2"):
        alignment_study.main(["--seed", "1", "--realisations", "1", "--output", str(tmp_path / "t.tsv")])
