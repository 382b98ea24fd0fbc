"""Simulated signals against analytic spin physics, published chemical shifts, and (where present) FID-A."""

import json

import numpy as np
import pytest

from mrs_synthesis import basis_simulate, simulation, spectra
from mrs_synthesis.simulation import SpinGroup, line_fid, lines, mega_press, metabolite_lines, press
from mrs_synthesis.stage import InputError

MHZ = 123.25
OFF = mega_press(0.068, 7.5)
ON = mega_press(0.068, 1.9)


def near(spectrum, ppm, half_width_ppm=0.15, frequency_mhz=MHZ):
    """Sum of the complex amplitudes of the lines around a chemical shift."""
    offset = spectrum.frequency_hz / frequency_mhz + 4.65 - ppm
    return spectrum.amplitude[np.abs(offset) < half_width_ppm].sum()


def test_one_proton_has_unit_amplitude_and_increasing_ppm():
    fid = line_fid(lines(SpinGroup((3.0,)), press(0.03), MHZ), 2048, 0.0005, 2.0)
    assert fid[0] == pytest.approx(1.0, abs=1e-9)
    spectrum = np.fft.fftshift(np.fft.fft(fid))
    hz = np.fft.fftshift(np.fft.fftfreq(2048, 0.0005))
    assert hz[np.argmax(spectrum.real)] / MHZ + 4.65 == pytest.approx(3.0, abs=0.005)


def test_fid_equals_the_direct_sum_of_exponentials():
    spectrum = simulation.Lines(np.array([-100.0, 33.3, 412.7]), np.array([1.0, -0.5j, 2.0 + 1j]))
    t = np.arange(777) * 0.0004
    direct = sum(
        a * np.exp((2j * np.pi * f - 3 * np.pi) * t)
        for f, a in zip(spectrum.frequency_hz, spectrum.amplitude, strict=True)
    )
    np.testing.assert_allclose(line_fid(spectrum, 777, 0.0004, 3.0), direct, atol=1e-12)


@pytest.mark.parametrize("steps", [press(0.03), press(0.144), OFF])
@pytest.mark.parametrize(
    ("name", "ppm", "protons"),
    [("NAA", 2.008, 3), ("Cr", 3.027, 3), ("Cr", 3.913, 2), ("PCr", 3.029, 3), ("PCh", 3.208, 9), ("Gly", 3.548, 2)],
)
def test_singlets_count_protons(name, ppm, protons, steps):
    assert near(metabolite_lines(name, steps, MHZ), ppm, 0.01) == pytest.approx(protons, abs=1e-6)


def test_strongly_coupled_pair_after_the_excitation():
    """AB quartet: positions (+-J +- D) / 2 and intensities (1 -+ J/D) / 2, D = sqrt(delta^2 + J^2)."""
    delta, j = 12.0, 10.0
    found = lines(SpinGroup((4.65, 4.65 + delta / MHZ), ((0, 1, j),)), [], MHZ)
    d = np.hypot(delta, j)
    centre = delta / 2
    expected = {
        centre - (d + j) / 2: (1 - j / d) / 2,
        centre - (d - j) / 2: (1 + j / d) / 2,
        centre + (d - j) / 2: (1 + j / d) / 2,
        centre + (d + j) / 2: (1 - j / d) / 2,
    }
    np.testing.assert_allclose(found.frequency_hz, list(expected), atol=1e-3)
    np.testing.assert_allclose(found.amplitude, list(expected.values()), atol=1e-9)


@pytest.mark.parametrize("te_s", [0.03, 0.0688, 0.11])
def test_weak_coupling_evolves_over_the_whole_echo_time(te_s):
    """A doublet's in-phase part is cos(pi J TE), its antiphase part sin(pi J TE), wherever the pulses stand."""
    j = 7.0
    found = lines(SpinGroup((1.0, 60.0 / 6), ((0, 1, j),)), press(te_s), 5000.0)
    low = np.abs(found.frequency_hz / 5000 + 4.65 - 1.0) < 0.01
    np.testing.assert_allclose(found.amplitude[low].real, np.cos(np.pi * j * te_s) / 2, atol=2e-3)
    np.testing.assert_allclose(np.abs(found.amplitude[low].imag), np.abs(np.sin(np.pi * j * te_s)) / 2, atol=2e-3)
    assert np.diff(found.frequency_hz[low]) == pytest.approx(j, abs=0.01)


def test_lactate_doublet_inverts_at_one_over_j():
    j = 6.933
    for te_s, sign in ((0.144, -1), (0.288, 1)):
        spectrum = metabolite_lines("Lac", press(te_s), MHZ)
        assert near(spectrum, 1.3142).real == pytest.approx(3 * sign, rel=0.05)
    methyl = np.abs(spectrum.frequency_hz / MHZ + 4.65 - 1.3142) < 0.1
    strong = methyl & (np.abs(spectrum.amplitude) > 0.3)
    clusters = spectrum.frequency_hz[strong]
    upper, lower = clusters[clusters > clusters.mean()].mean(), clusters[clusters < clusters.mean()].mean()
    assert upper - lower == pytest.approx(j, abs=0.15)


def test_editing_of_a_triplet_at_half_inverse_j():
    """At TE = 1/(2J) the outer lines are inverted in OFF and upright in ON: they double in the difference."""
    j = 1 / (2 * 0.068)
    group = SpinGroup((3.0, 1.9, 1.9), ((0, 1, j), (0, 2, j)))
    mhz = 2000.0  # weak coupling
    outer, middle = {}, {}
    for name, steps in (("OFF", OFF), ("ON", ON)):
        found = lines(group, steps, mhz)
        offset = found.frequency_hz - (3.0 - 4.65) * mhz
        outer[name] = [found.amplitude[np.abs(offset - s * j) < 0.5].sum() for s in (-1, 1)]
        middle[name] = found.amplitude[np.abs(offset) < 0.5].sum()
    np.testing.assert_allclose(outer["OFF"], -0.25, atol=5e-3)
    np.testing.assert_allclose(outer["ON"], 0.25, atol=5e-3)
    np.testing.assert_allclose([middle["OFF"], middle["ON"]], 0.5, atol=5e-3)


def test_gaba_and_naa_in_the_difference():
    off, on = (metabolite_lines("GABA", steps, MHZ) for steps in (OFF, ON))
    assert (near(on, 3.013) - near(off, 3.013)).real == pytest.approx(2.0, rel=0.1)  # two protons, all of them
    assert near(on, 1.888).real == pytest.approx(0.0, abs=0.05)
    off, on = (near(metabolite_lines("NAA", steps, MHZ), 2.008, 0.05) for steps in (OFF, ON))
    assert off == pytest.approx(3.0, abs=1e-6)
    assert abs(on) < 0.1


def test_inversion_profile():
    assert simulation.inversion(0.0) == 1.0
    assert simulation.inversion(np.array([-30.0, 30.0])) == pytest.approx(0.5)
    assert simulation.inversion((3.027 - 1.9) * MHZ) < 1e-6


def test_other_nuclei_are_neither_excited_nor_refocused():
    """14N and 31P couplings split the lines, but proton pulses refocus them: choline keeps its nine protons."""
    for name, protons in (("Cho", 9), ("GPC", 9), ("PCh", 9)):
        spectrum = metabolite_lines(name, OFF, MHZ)
        ppm = (spectrum.frequency_hz / MHZ + 4.65)[np.abs(spectrum.amplitude) > 0.05]
        assert ppm.min() > 3.1
        assert ppm.max() < 4.6
        assert near(spectrum, 3.2, 0.03).real == pytest.approx(protons, rel=1e-6)


def test_uncoupled_spins_are_separated():
    groups = simulation.spin_systems()["NAAG"]
    assert sum(len(g.shifts_ppm) for g in groups) == 3 + 4 + 6
    assert max(len(g.shifts_ppm) for g in groups) == 6
    assert sum(len(g.couplings) for g in groups) == 4 + 9


def test_too_short_echo_time():
    with pytest.raises(ValueError, match="too short"):
        press(0.008)


def test_every_metabolite_can_be_simulated():
    for name in simulation.spin_systems():
        for steps in (OFF, ON):
            fid = line_fid(metabolite_lines(name, steps, MHZ), 2048, 0.0005, 2.0)
            assert np.all(np.isfinite(fid)) and np.abs(fid[0]) < 1.001 * np.abs(fid).max()


@pytest.fixture(scope="module")
def mega():
    return basis_simulate.simulate_set("mega-press", 0.068, MHZ, 4096, 0.00025, 2.0)


def test_difference_basis_has_only_what_is_edited(mega):
    bases, left_out = mega
    assert {"GABA", "Glu", "Gln", "GSH", "NAA", "NAAG", "MM3co", "MM09"} <= set(bases["DIFF"].names)
    assert {"Cr", "PCr", "Gly", "Scyllo", "GPC", "PCh", "Cho", "Ins", "Tau"} <= set(left_out)
    assert "MM3co" not in bases["OFF"].names
    gaba = bases["DIFF"].names.index("GABA")
    expected = bases["ON"].fids[bases["ON"].names.index("GABA")] - bases["OFF"].fids[bases["OFF"].names.index("GABA")]
    np.testing.assert_array_equal(bases["DIFF"].fids[gaba], expected)


def test_one_unit_of_co_edited_macromolecule_looks_like_one_unit_of_gaba(mega):
    diff = mega[0]["DIFF"]
    ppm = spectra.ppm_axis(4096, 0.00025, MHZ)
    spectrum = spectra.to_spectrum(diff.fids).real
    inside = (ppm > 2.8) & (ppm < 3.2)
    gaba, broad = (spectrum[diff.names.index(n)] for n in ("GABA", "MM3co"))
    assert broad[inside].sum() == pytest.approx(gaba[inside].sum(), rel=1e-6)
    above = ppm[broad > broad.max() / 2]
    assert np.ptp(above) * MHZ == pytest.approx(14 * MHZ / 127.73, abs=1.5)
    assert above.mean() == pytest.approx(3.0, abs=0.01)


def test_macromolecules_have_published_places_and_protons(mega):
    off = mega[0]["OFF"]
    ppm = spectra.ppm_axis(4096, 0.00025, MHZ)
    for name, position, protons in (("MM12", 1.21, 2.0), ("MM14", 1.43, 2.0), ("MM20", 2.08, 2.39)):
        fid = off.fids[off.names.index(name)]
        assert ppm[np.argmax(spectra.to_spectrum(fid).real)] == pytest.approx(position, abs=0.02)
        assert fid[0].real == pytest.approx(protons, rel=1e-6)


def test_command_line_writes_fsl_mrs_json(tmp_path):
    folder = tmp_path / "set"
    basis_simulate.main(
        f"--sequence press --te-ms 35 --frequency-mhz {MHZ} --dwell 0.0005 --points 2048 --output {folder}".split()
    )
    content = json.loads((folder / "UNEDITED" / "NAA.json").read_text())["basis"]
    fid = np.array(content["basis_re"]) + 1j * np.array(content["basis_im"])
    assert (content["basis_name"], content["basis_dwell"], content["basis_centre"]) == ("NAA", 0.0005, MHZ)
    hz = np.fft.fftshift(np.fft.fftfreq(2048, 0.0005))
    peak = hz[np.argmax(np.fft.fftshift(np.fft.fft(fid)).real)]
    assert peak / MHZ + 4.65 == pytest.approx(2.008, abs=0.005)
    facts = json.loads((folder / "basis.json").read_text())
    assert facts["frequency_mhz"] == MHZ
    assert facts["checks"]["UNEDITED"]["Cr_methyl_protons"] == pytest.approx(3, rel=0.05)


@pytest.mark.parametrize("arguments", ["--te-ms 8 --frequency-mhz 123", "--te-ms 68 --frequency-mhz 20"])
def test_command_line_refuses_what_cannot_be_edited(tmp_path, arguments):
    with pytest.raises(InputError):
        basis_simulate.main(f"--sequence mega-press {arguments} --output {tmp_path / 'set'}".split())


@pytest.mark.data
def test_against_fida(shared_data):
    """FID-A simulated the same spin systems and timing with shaped pulses: OFF agrees, ON but for the pulse's edges."""
    from scipy.io import loadmat

    mhz, n, dwell = 127.731, 2048, 0.0005
    t = np.arange(n) * dwell
    ppm = spectra.ppm_axis(n, dwell, mhz)
    inside = (ppm > 0.5) & (ppm < 4.2)

    def reference(name, condition):
        content = loadmat(shared_data / "basis" / "mega-press-68-fida" / f"{name}_{condition}.mat", simplify_cells=True)
        content = content if "fids" in content else next(v for k, v in content.items() if not k.startswith("__"))
        return spectra.to_spectrum(np.ravel(content["fids"]) * np.exp(2j * np.pi * (3.0 - 4.65) * mhz * t))[inside]

    def ours(name, steps):
        return spectra.to_spectrum(line_fid(metabolite_lines(name, steps, mhz), n, dwell, 2.0))[inside]

    names = ["Asc", "Asp", "Cr", "GABA", "GPC", "GSH", "Glc", "Gln", "Glu", "Ins", "Lac", "NAA", "NAAG", "PCh", "Tau"]
    for name in names:
        theirs, mine = reference(name, "OFF"), ours(name, mega_press(0.068, 7.4)) * 8  # 8: its scale, one for all
        assert np.linalg.norm(theirs - mine) < 0.03 * np.linalg.norm(theirs), name
    on = mega_press(0.068, 1.88)
    for name, least in (("GABA", 0.99), ("GSH", 0.99), ("Glu", 0.96), ("Gln", 0.94), ("NAA", 0.98)):
        theirs, mine = reference(name, "ON"), ours(name, on)
        correlation = abs(np.vdot(theirs, mine)) / np.linalg.norm(theirs) / np.linalg.norm(mine)
        assert correlation > least, (name, correlation)
