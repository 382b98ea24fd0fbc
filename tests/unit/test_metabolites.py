"""Macromolecules of edited spectra: added, tied, and their share of GABA+."""

from dataclasses import replace

import numpy as np
import pytest
from analytic_basis import LINES, analytic_basis, edited, highest_ppm

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import metabolites, spectra
from mrs_synthesis.stage import InputError


def integral(basis, name, low, high):
    """Area of the real spectrum, 1 for a line of FID amplitude 1; first point halved as its DFT needs."""
    fid = np.pad(basis.fids[basis.names.index(name)], (0, basis.fids.shape[1]))
    ppm = spectra.ppm_axis(fid.size, basis.dwell_s, basis.frequency_mhz)
    return 2 * spectra.to_spectrum(fid).real[(ppm > low) & (ppm < high)].sum() / fid.size


@pytest.fixture
def difference():
    off, on = edited()
    return metabolites.add_macromolecules(basis_sets.difference(on, off), "DIFF")


def test_co_edited_macromolecule_has_gabas_integral(difference):
    areas = {name: integral(difference, name, 2.75, 3.25) for name in ("GABA", "MM3co")}
    assert areas["MM3co"] == pytest.approx(areas["GABA"], rel=0.1) and areas["GABA"] > 0
    assert metabolites.add_macromolecules(difference, "DIFF").names == difference.names


def test_difference_has_what_the_on_pulse_saturates(difference):
    # Pulse of 60 Hz at 1.9 ppm: MM17 (29 Hz off) and the main part of MM20 (23 Hz off) lose most, MM14 little; unit as
    # the singlet of NAA, whose 3 protons are those of MM09 in LCModel's definition
    assert -2.0 < integral(difference, "MM17", 1.2, 2.1) < -1.0
    assert -0.5 < integral(difference, "MM14", 1.0, 1.9) < 0
    assert -2.2 < integral(difference, "MM20", 1.6, 2.7) < -1.0
    assert highest_ppm(difference, "MM17") == pytest.approx(1.67, abs=0.05)
    assert "MM12" not in difference.names  # 86 Hz off


def test_unit_of_the_difference_is_not_the_remainder_of_creatine():
    off, on = edited()
    left = on.fids.copy()
    left[on.names.index("Cr")] *= 1.001
    basis = basis_sets.difference(replace(on, fids=left), off)
    assert metabolites.proton(basis, "DIFF") == pytest.approx(1.0, rel=0.1)  # NAA's three
    assert metabolites.proton(off, "OFF") == pytest.approx(1.0, rel=0.1)


def test_broad_macromolecules_lie_where_lcmodel_has_them():
    basis = metabolites.add_macromolecules(analytic_basis(), "UNEDITED")
    for name, ppm in {"MM09": 0.91, "MM12": 1.21, "MM14": 1.43, "MM17": 1.67, "MM20": 2.08}.items():
        assert highest_ppm(basis, name) == pytest.approx(ppm, abs=0.03)
    # areas in protons: MM09 has 3, as the methyl singlet of Cr
    assert basis.fids[basis.names.index("MM09"), 0].real == pytest.approx(3, rel=0.1)


def test_tied_spectrum_carries_three_protons_at_09_for_two_at_30(difference):
    tied = metabolites.tie_co_edited(difference)
    assert tied.names == [name for name in difference.names if name != "MM09"]
    at_3, at_09 = integral(tied, "MM3co", 2.6, 3.4), integral(tied, "MM3co", 0.5, 1.3)
    assert at_09 / at_3 == pytest.approx(1.5, rel=0.01)
    # The unit stays: GABA+ is still GABA + MM3co
    assert at_3 == pytest.approx(integral(difference, "MM3co", 2.6, 3.4), rel=0.01)
    assert metabolites.sums(tied.names, "DIFF")["GABA+"] == ["GABA", "MM3co"]
    for name in tied.names:
        if name != "MM3co":
            assert np.array_equal(tied.select([name]).fids, difference.select([name]).fids)


def test_tie_does_not_depend_on_mm09s_own_scale(difference):
    scaled = difference.fids.copy()
    scaled[difference.names.index("MM09")] *= 7
    one, other = (metabolites.tie_co_edited(b) for b in (difference, replace(difference, fids=scaled)))
    assert np.allclose(one.fids, other.fids)


@pytest.mark.parametrize(
    ("left_out", "message"),
    [(["MM09"], "no MM09 to tie"), (["MM3co"], "no MM3co to tie"), (["MM09", "MM3co"], "no MM09 and no MM3co")],
)
def test_tie_needs_both(difference, left_out, message):
    with pytest.raises(InputError, match=message) as error:
        metabolites.tie_co_edited(difference.select(n for n in difference.names if n not in left_out))
    assert "\n" not in str(error.value)


def test_tie_needs_a_positive_mm09(difference):
    wrong = difference.fids.copy()
    wrong[difference.names.index("MM09")] *= -1
    with pytest.raises(InputError, match=r"MM09 has no positive signal at 0\.9 ppm"):
        metabolites.tie_co_edited(replace(difference, fids=wrong))


def test_gaba_alone_is_gaba_plus_without_mm3co():
    assert metabolites.sums(["GABA", "NAA"], "DIFF")["GABA+"] == ["GABA"]
    assert "GABA+" not in metabolites.sums(["MM3co", "NAA"], "DIFF")


def test_groups_of_line_shapes():
    names = [*LINES, "MM09", "MM17", "MM3co"]
    assert metabolites.groups(names, "OFF") == [0] * len(LINES) + [1, 2, 0]
    assert metabolites.groups(names, "DIFF") == [0] * len(names)


def test_weak_remainders_are_not_fitted_in_the_difference(difference):
    kept = metabolites.fitted(difference, "DIFF", ["Glu"], (0.5, 4.2)).names
    assert {"GABA", "NAA", "MM3co", "MM09"} <= set(kept) and not {"Cr", "PCr", "PCh", "Glu"} & set(kept)
    assert "Cr" in metabolites.fitted(analytic_basis(), "OFF", [], (0.2, 4.2)).names
