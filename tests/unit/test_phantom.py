"""The digital phantom: what it claims is in its files, in published ranges, and read by spec2nii."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from mrs_synthesis import basis_simulate, phantom, spectra
from mrs_synthesis import phantom_signal as signal
from mrs_synthesis.relaxation import Tissue
from mrs_synthesis.seeds import generator
from mrs_synthesis.stage import InputError

SPEC2NII = Path(sys.executable).with_name("spec2nii")
SITE = phantom.SITES["siemens"]


def simulate(folder, frequency_mhz, sequence="mega-press"):
    arguments = f"--sequence {sequence} --te-ms 68 --frequency-mhz {frequency_mhz} --dwell 0.0005 --points 2048"
    basis_simulate.main([*arguments.split(), "--output", str(folder)])
    return folder


@pytest.fixture(scope="module")
def basis_folders(tmp_path_factory):
    folder = tmp_path_factory.mktemp("basis")
    return {vendor: simulate(folder / vendor, site.frequency_mhz) for vendor, site in phantom.SITES.items()}


@pytest.fixture(scope="module")
def bases(basis_folders):
    return phantom.read_bases(basis_folders["siemens"], SITE.frequency_mhz)[0]


@pytest.fixture(scope="module")
def subject(bases):
    fids, reference, concentrations, nuisance = phantom.make_subject("07", SITE, bases, 5, 40, 15.0)
    sensitivity, covariance = (
        np.array(nuisance[key]["re"]) + 1j * np.array(nuisance[key]["im"])
        for key in ("coil_sensitivity", "coil_noise_covariance")
    )
    weights = np.linalg.solve(covariance, sensitivity)
    weights = weights.conj() / np.vdot(sensitivity, weights)
    combined = np.einsum("c,ekct->ekt", weights, fids)
    return combined, np.einsum("c,kct->kt", weights, reference), concentrations, nuisance


def corrected(subject):
    fids, _, _, nuisance = subject
    shift, phase = np.array(nuisance["shift_hz"]), np.array(nuisance["phase_rad"])
    kept = ~np.array(nuisance["bad"]).any(axis=0)
    return spectra.shift_and_phase(fids, signal.DWELL_S, -shift, -phase)[:, kept].mean(axis=1)


def run(vendor, folder, basis, *, subject="01", seed=1, transients=4, tissue=()):
    suffix = {"siemens": ".dat", "philips": ".SDAT"}[vendor]
    paths = {name: folder / f"{name}{suffix}" for name in ("metab", "water")}
    paths |= {"truth": folder / "truth.tsv", "nuisance-truth": folder / "nuisance.json", "basis": basis}
    options = {"subject": subject, "vendor": vendor, "seed": seed, "transients": transients} | paths
    words = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    phantom.main([*words, *(["--tissue", *map(str, tissue)] if tissue else [])])
    return paths


def test_population_has_published_means_and_spread():
    values = [phantom.draw_concentrations(partial(generator, 1, "phantom", s)) for s in range(600)]
    table = {name: np.array([v[name] for v in values]) for name in values[0]}
    gaba_plus, tcr = table["GABA"] + table["MM3co"], table["Cr"] + table["PCr"]
    assert gaba_plus.std() / gaba_plus.mean() == pytest.approx(0.12, abs=0.012)  # Mikkelsen et al. 2017
    assert tcr.std() / tcr.mean() < 0.05
    # Govindaraju et al. 2000, ranges in the adult brain, mmol/kg
    for name, low, high in (("NAA", 7.9, 16.6), ("Cr", 5.1, 10.6), ("PCr", 3.2, 5.5), ("GABA", 1.3, 1.9)):
        assert low <= round(table[name].mean(), 1) <= high
    for name, low, high in (("Glu", 6.0, 12.5), ("Gln", 3.0, 5.8), ("Ins", 3.8, 8.1)):
        assert low <= round(table[name].mean(), 1) <= high
    correlation = np.corrcoef([table["GABA"], table["NAA"], table["MM3co"]])
    assert np.abs(correlation - np.eye(3)).max() < 0.15


def test_published_area_ratio(bases):
    """(ON - OFF) / 2 at 3.0 ppm over creatine's methyl: 0.116 +- 0.014 in Big GABA (Gannet)."""
    names = list(phantom.CONCENTRATIONS)
    mean = np.array([value for value, _ in phantom.CONCENTRATIONS.values()])
    ppm = spectra.ppm_axis(signal.N_POINTS, signal.DWELL_S, SITE.frequency_mhz)
    inside = (ppm > 2.8) & (ppm < 3.2)

    def area(weights, chosen):
        fid = sum(mean[names.index(n)] * (weights @ bases[:, names.index(n)]) for n in chosen)
        return spectra.to_spectrum(fid).real[inside].sum()

    ratio = area(np.array([-0.5, 0.5]), ("GABA", "MM3co")) / area(np.array([1.0, 0.0]), ("Cr", "PCr"))
    assert 0.116 - 0.014 < ratio < 0.116 + 0.014


def test_order_of_acquisition():
    values = np.arange(12).reshape(2, 3, 2)
    np.testing.assert_array_equal(signal.in_order(values)[:, 0], [6, 0, 8, 2, 10, 4])  # ON first
    np.testing.assert_array_equal(signal._by_condition(signal.in_order(values[..., 0])), values[..., 0])


def test_wander_is_stationary_with_its_memory():
    steps = signal.wander(np.random.default_rng(0), (4000, 60), 0.2, 60.0)
    assert steps[:, 0].std() == pytest.approx(0.2, rel=0.05)
    assert steps[:, -1].std() == pytest.approx(0.2, rel=0.05)
    lag = np.mean(steps[:, 20] * steps[:, 50]) / 0.2**2  # 30 repetitions of 2 s are the memory
    assert lag == pytest.approx(np.exp(-1), abs=0.06)


def test_coils_combine_to_the_stated_noise():
    receiver = signal.draw_receiver(np.random.default_rng(2), 4, 0.5)
    noisy = receiver.receive(np.ones((200, 500), complex), np.random.default_rng(3))
    noise = noisy - receiver.sensitivity[:, None]
    covariance = np.einsum("ict,idt->cd", noise, noise.conj()) / noise[:, 0].size
    expected = receiver.noise_factor @ receiver.noise_factor.conj().T
    np.testing.assert_allclose(covariance, expected, atol=0.03 * np.abs(expected).max())
    assert np.abs(expected[0, 1]) > 0.02 * expected[0, 0].real  # correlated
    weights = np.linalg.solve(expected, receiver.sensitivity)
    combined = np.einsum("c,ict->it", weights.conj(), noisy) / np.vdot(weights, receiver.sensitivity).real
    assert combined.mean() == pytest.approx(1.0, abs=0.01)
    assert combined.real.std() == pytest.approx(0.5, rel=0.02)


def test_noise_and_snr_are_as_stated(subject):
    fids, _, _, nuisance = subject
    measured = np.median(spectra.noise_sd(fids, signal.DWELL_S, SITE.frequency_mhz))
    assert measured == pytest.approx(nuisance["noise_sd"], rel=0.03)
    ppm = spectra.ppm_axis(signal.N_POINTS, signal.DWELL_S, SITE.frequency_mhz)
    off = spectra.to_spectrum(corrected(subject)[0]).real
    peak = off[np.abs(ppm - 3.027) < 0.1].max()
    assert 10 < peak / (measured * np.sqrt(signal.N_POINTS)) < 20


def test_peaks_and_editing_after_undoing_the_true_nuisances(subject):
    ppm = spectra.ppm_axis(signal.N_POINTS, signal.DWELL_S, SITE.frequency_mhz)
    off, on = spectra.to_spectrum(corrected(subject)).real
    for low, high, expected in ((1.8, 2.2, 2.008), (2.9, 3.15, 3.027), (3.85, 4.0, 3.92)):
        inside = (ppm > low) & (ppm < high)
        assert ppm[inside][np.argmax(off[inside])] == pytest.approx(expected, abs=0.02)
    naa, gaba = np.abs(ppm - 2.008) < 0.05, (ppm > 2.9) & (ppm < 3.1)
    assert (on - off)[naa].min() < -0.7 * off[naa].max()
    assert 0.03 < (on - off)[gaba].mean() / off[gaba].max() < 0.2
    width = np.ptp(ppm[(off > off[gaba].max() / 2) & gaba]) * SITE.frequency_mhz
    assert 4 < width < 10


def test_residual_water_changes_and_the_reference_shares_the_eddy_current(subject):
    fids, reference, _, nuisance = subject
    ppm = spectra.ppm_axis(signal.N_POINTS, signal.DWELL_S, SITE.frequency_mhz)
    water = spectra.to_spectrum(fids[0])[:, np.abs(ppm - 4.65) < 0.15]
    heights = np.abs(water).max(axis=1)
    assert heights.std() / heights.mean() > 0.05
    metabolite = np.abs(spectra.to_spectrum(fids[0])[:, np.abs(ppm - 3.027) < 0.1]).max(axis=1)
    assert 0.5 < np.median(heights / metabolite) < 20
    t = np.arange(signal.N_POINTS) * signal.DWELL_S
    phase = np.unwrap(np.angle(reference[0][:200]))
    eddy = nuisance["eddy_phase_rad"] * np.exp(-t[:200] / nuisance["eddy_time_constant_s"])
    rest = phase - eddy
    straight = np.polyval(np.polyfit(t[:200], rest, 1), t[:200])
    assert np.abs(rest - straight).max() < 0.02  # beside the eddy current only a frequency and a phase
    assert np.abs(eddy).max() > 0.02


def test_bad_transients_are_rare():
    bad = [signal.draw_motion(partial(generator, 1, s), SITE, 100).bad for s in range(30)]
    assert 0.02 < np.mean(bad) < 0.04


def test_drift_rate_is_as_published():
    rates = []
    for s in range(200):
        motion = signal.draw_motion(partial(generator, 2, s), SITE, 80)
        shift = signal.in_order(motion.shift_hz)[~signal.in_order(motion.bad)]
        minutes = np.arange(160)[~signal.in_order(motion.bad)] * 2 / 60
        rates.append(abs(np.polyfit(minutes, shift, 1)[0]))
    assert np.median(rates) == pytest.approx(0.3, abs=0.06)


def test_truth_table(tmp_path, basis_folders):
    run("siemens", tmp_path, basis_folders["siemens"])
    lines = [line.split("\t") for line in (tmp_path / "truth.tsv").read_text().splitlines()]
    assert lines[0] == ["subject", "metabolite", "concentration_mm", "per_tcr", "molality_mmol_kg"]
    mm, ratio, molality = ({row[1]: float(row[i]) for row in lines[1:]} for i in (2, 3, 4))
    assert mm["tCr"] == pytest.approx(mm["Cr"] + mm["PCr"], rel=1e-6)
    assert mm["GABA+"] == pytest.approx(mm["GABA"] + mm["MM3co"], rel=1e-6)
    assert mm["tCho"] == pytest.approx(mm["GPC"] + mm["PCh"] + mm["Cho"], rel=1e-6)
    assert ratio["tNAA"] == pytest.approx((mm["NAA"] + mm["NAAG"]) / mm["tCr"], rel=1e-6)
    assert {row[0] for row in lines[1:]} == {"01"}
    # A litre of a voxel with 40 % white matter, 50 % grey matter and 10 % CSF holds 0.26 + 0.39 + 0.097 kg of water
    assert molality["NAA"] == pytest.approx(mm["NAA"] / 0.747, rel=1e-6)


def test_water_reference_follows_tissue_and_relaxation(bases):
    """Amplitude over that of a metabolite's proton, computed by hand for TE 68 ms, TR 2 s at 3 T."""

    def first_point(tissue):
        _, reference, _, nuisance = phantom.make_subject("07", SITE, bases, 5, 2, 1e6, te_s=0.068, tissue=tissue)
        sensitivity = np.array(nuisance["coil_sensitivity"]["re"]) + 1j * np.array(nuisance["coil_sensitivity"]["im"])
        received = np.abs(sensitivity.conj() @ reference[0][:, 0]) / np.sum(np.abs(sensitivity) ** 2)
        return received / nuisance["gain"]

    metabolite = (1 - np.exp(-2 / 1.29)) * np.exp(-68 / 194)  # 0.5549
    grey = 2 * 55510 * 0.78 * (1 - np.exp(-2 / 1.50)) * np.exp(-68 / 88)
    white = 2 * 55510 * 0.65 * (1 - np.exp(-2 / 0.97)) * np.exp(-68 / 73)
    fluid = 2 * 55510 * 0.97 * (1 - np.exp(-2 / 4.47)) * np.exp(-68 / 2030)
    assert first_point(Tissue(0, 1, 0)) == pytest.approx(grey / metabolite, rel=1e-3)
    expected = (0.4 * white + 0.5 * grey + 0.1 * fluid) / (0.9 * metabolite)
    assert first_point(Tissue(0.4, 0.5, 0.1)) == pytest.approx(expected, rel=1e-3)
    assert expected == pytest.approx(56_880, abs=150)


def test_tissue_changes_the_water_and_nothing_else(bases):
    one, two = (
        phantom.make_subject("07", SITE, bases, 5, 3, 15.0, tissue=tissue)
        for tissue in (Tissue(0.4, 0.5, 0.1), Tissue(0.6, 0.2, 0.2))
    )
    np.testing.assert_array_equal(one[0], two[0])
    assert one[2] == two[2]
    ratio = np.abs(two[1][..., 0]).sum() / np.abs(one[1][..., 0]).sum()
    assert ratio > 1.1  # less tissue beside it, so more water for the same metabolites
    assert one[3]["metabolite_share_seen"] == pytest.approx(0.9 * 0.5549, abs=2e-4)


def test_same_input_same_bytes_and_subjects_are_independent(tmp_path, basis_folders):
    contents = []
    for name, subject, transients in (("a", "01", 3), ("b", "01", 3), ("c", "02", 3), ("d", "01", 5)):
        (tmp_path / name).mkdir()
        paths = run("philips", tmp_path / name, basis_folders["philips"], subject=subject, transients=transients)
        contents.append((paths["metab"].read_bytes(), paths["truth"].read_text()))
    assert contents[0] == contents[1]
    assert contents[0][0] != contents[2][0]
    assert contents[0][1] == contents[3][1]  # the number of transients changes nobody's concentrations


@pytest.mark.parametrize("vendor", ["siemens", "philips"])
def test_spec2nii_reads_the_scan_with_on_first(tmp_path, basis_folders, vendor):
    import nibabel

    paths = run(vendor, tmp_path, basis_folders[vendor], transients=4)
    command = {
        "siemens": ["twix", "-e", "image", "-q", paths["metab"]],
        "philips": [
            "philips",
            paths["metab"],
            paths["metab"].with_suffix(".SPAR"),
            *["-s", "2", "4", "-t", "DIM_EDIT", "DIM_DYN"],
        ],
    }[vendor]
    subprocess.run(
        [str(SPEC2NII), *map(str, command), "-o", str(tmp_path), "-f", "scan"], check=True, capture_output=True
    )
    image = nibabel.load(tmp_path / "scan.nii.gz")
    header = json.loads(image.header.extensions[0].get_content())
    n_coils = phantom.SITES[vendor].n_coils
    data = np.conj(np.asarray(image.dataobj)).reshape(2048, n_coils, 2, 4)
    assert header["SpectrometerFrequency"] == [phantom.SITES[vendor].frequency_mhz]
    assert float(image.header["pixdim"][4]) == pytest.approx(0.0005)
    nuisance = json.loads(paths["nuisance-truth"].read_text())
    shift, phase = (np.array(nuisance[key])[::-1].T for key in ("shift_hz", "phase_rad"))  # ON, OFF
    sensitivity = np.array(nuisance["coil_sensitivity"]["re"]) + 1j * np.array(nuisance["coil_sensitivity"]["im"])
    combined = np.einsum("c,tcek->ket", sensitivity.conj(), data) / np.sum(np.abs(sensitivity) ** 2)
    on, off = spectra.to_spectrum(spectra.shift_and_phase(combined, 0.0005, -shift, -phase)).mean(axis=0).real
    ppm = spectra.ppm_axis(2048, 0.0005, phantom.SITES[vendor].frequency_mhz)
    naa = np.abs(ppm - 2.008) < 0.03
    assert off[naa].max() > 3 * on[naa].max()
    assert ppm[(ppm > 1.8) & (ppm < 2.2)][np.argmax(off[(ppm > 1.8) & (ppm < 2.2)])] == pytest.approx(2.008, abs=0.03)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"vendor": "philips"}, "MHz"), ({"transients": 0}, "at least 1"), ({"tissue": (0.5, 0.5, 0.5)}, "sum 1")],
)
def test_bad_input_is_one_line(tmp_path, basis_folders, change, message):
    options = {"vendor": "siemens", "transients": 2} | change
    with pytest.raises(InputError, match=message) as caught:
        run(options.pop("vendor"), tmp_path, basis_folders["siemens"], **options)
    assert "\n" not in str(caught.value)


def test_press_basis_is_refused(tmp_path):
    with pytest.raises(InputError, match="mega-press"):
        phantom.read_bases(simulate(tmp_path / "press", SITE.frequency_mhz, "press"), SITE.frequency_mhz)
