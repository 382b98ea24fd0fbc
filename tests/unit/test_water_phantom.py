"""Absolute concentrations of the digital phantom, whose water and metabolites are on one physical scale.

What the fit's model does not hold is switched off here: broad humps beside the macromolecules, and a line width of its
own for every metabolite. At infinite SNR these two alone cost a few per cent in one subject (`mrs_synthesis.fit_truth`
measures that). The noise is 1 / 10,000 of tCr.
"""

from dataclasses import replace

import numpy as np
import pytest

from mrs_synthesis import basis as basis_sets
from mrs_synthesis import basis_simulate, fitting, lcm, lcm_model, metabolites, phantom, spectra, water
from mrs_synthesis import phantom_signal as signal
from mrs_synthesis.relaxation import Tissue

SITE = replace(phantom.SITES["siemens"], residual_water=1e-9)
SHOWN = ("tCr", "tNAA", "GABA+")
TISSUES = (Tissue(0.40, 0.50, 0.10), Tissue(0.20, 0.55, 0.25), Tissue(0.90, 0.10, 0.0))


@pytest.fixture(scope="module")
def basis_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("basis")
    arguments = f"--sequence mega-press --te-ms 68 --frequency-mhz {SITE.frequency_mhz} --dwell 0.0005 --points 2048"
    basis_simulate.main([*arguments.split(), "--output", str(folder)])
    return folder


def simple_voxel(bases, concentrations, shape, rng):
    return np.einsum("m,emt->et", concentrations, bases) * shape.decay()


def no_baseline(rng, frequency_mhz):
    return np.zeros((2, signal.N_POINTS), complex)


def undo(fids, reference, nuisance):
    """Return the mean OFF and ON and the water reference, without what the phantom says was done to them."""
    sensitivity = np.array(nuisance["coil_sensitivity"]["re"]) + 1j * np.array(nuisance["coil_sensitivity"]["im"])
    weights = sensitivity.conj() / np.sum(np.abs(sensitivity) ** 2)
    t = np.arange(signal.N_POINTS) * signal.DWELL_S
    eddy = np.exp(-1j * nuisance["eddy_phase_rad"] * np.exp(-t / nuisance["eddy_time_constant_s"]))
    shift, phase = np.array(nuisance["shift_hz"]), np.array(nuisance["phase_rad"])
    moved = spectra.shift_and_phase(np.einsum("c,ekcn->ekn", weights, fids) * eddy, signal.DWELL_S, -shift, -phase)
    kept = ~np.array(nuisance["bad"]).any(axis=0)
    return moved[:, kept].mean(axis=1), (weights @ reference[0]) * eddy


def fit(folder, condition, fids, ppm_range):
    basis = metabolites.fitted(
        basis_sets.read_json_folder(folder / condition), condition, metabolites.UNUSUAL, ppm_range
    )
    groups, options = metabolites.groups(basis.names, condition), lcm_model.Options(ppm_range=ppm_range)
    task = fitting.Task(condition, signal.N_POINTS, signal.DWELL_S, SITE.frequency_mhz, basis, groups, options)
    model = task.model()
    result = lcm.fit(fids, model)
    assert result.converged.all()
    missing = fitting.missing(task, model.ppm, len(fids))
    raw = result.c * (model.basis_scale / result.fid_scale)[:, None]
    return task, replace(missing, raw=raw, gamma=result.gamma, sigma=result.sigma, eps=result.eps)


@pytest.fixture(scope="module")
def study(basis_folder):
    """Fit every subject; return factors, amplitudes and truth of each."""
    bases, te_s = phantom.read_bases(basis_folder, SITE.frequency_mhz)
    patch = pytest.MonkeyPatch()
    patch.setattr(signal, "metabolites", simple_voxel)
    patch.setattr(signal, "baseline", no_baseline)
    made = [
        phantom.make_subject(str(i), SITE, bases, 11, 4, 1e4, te_s=te_s, tissue=tissue)
        for i, tissue in enumerate(TISSUES)
    ]
    patch.undo()
    voxels, references = zip(*(undo(one[0], one[1], one[3]) for one in made), strict=True)
    voxels = np.array(voxels)
    off = fit(basis_folder, "OFF", voxels[:, 0], (0.2, 4.2))
    diff = fit(basis_folder, "DIFF", voxels[:, 1] - voxels[:, 0], (0.5, 4.2))
    references = [water.WaterReference(fid, signal.DWELL_S, SITE.frequency_mhz) for fid in references]
    return te_s, off, diff, references, [one[2] for one in made]


def amplitudes(fitted, condition):
    names, weights = fitting.totals(fitted.names, condition)
    return dict(zip(names, weights @ fitted.raw.T, strict=True))


def one_cell(fitted, cell):
    return replace(fitted, **{name: getattr(fitted, name)[[cell]] for name in ("raw", "gamma", "sigma", "eps")})


@pytest.mark.parametrize("cell", range(len(TISSUES)))
def test_known_concentrations_are_recovered_within_one_per_cent(study, cell):
    """TCr and tNAA from OFF, GABA+ from DIFF with the factor of OFF: no factor 2, and on a common scale."""
    te_s, (task, off), (_, diff), references, concentrations = study
    tissue = TISSUES[cell]
    molal, molar = water.molality_factor(task, one_cell(off, cell), references[cell], te_s, signal.TR_S, tissue)
    raw = amplitudes(off, "OFF") | {"GABA+": amplitudes(diff, "DIFF")["GABA+"]}
    truth = {row[1]: row for row in phantom.truth_rows("x", concentrations[cell], tissue)}
    for name in SHOWN:
        assert raw[name][cell] * molar[0] == pytest.approx(truth[name][2], rel=0.01), name
        assert raw[name][cell] * molal[0] == pytest.approx(truth[name][4], rel=0.01), name


def test_leaving_out_the_tissue_is_wrong(study):
    """Pure water has 36 % more water in a litre than the voxel of 40, 50 and 10 %; hence the result is told apart."""
    te_s, (task, off), _, references, concentrations = study
    molal, molar = water.molality_factor(task, one_cell(off, 0), references[0], te_s, signal.TR_S, None)
    tcr = amplitudes(off, "OFF")["tCr"][0]
    true = concentrations[0]["Cr"] + concentrations[0]["PCr"]
    assert tcr * molar[0] / true == pytest.approx(0.9 / 0.747, rel=0.05)
    assert molal[0] == molar[0]
