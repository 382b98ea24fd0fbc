"""Series that appear together stay apart for colour-blind readers, by colour or by line style or symbol."""

import itertools

import numpy as np
import pytest

from mrs_synthesis import report_style
from mrs_synthesis.report_data import CONTROLS, SYNTHETIC

# Machado, Oliveira & Fernandes (2009), severity 1, in linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])  # sRGB, D65
LEAST = 15  # CIELAB units; 2.3 are just noticeable side by side


def lab(colour, vision="normal"):
    """CIELAB (D65) of a hexadecimal sRGB colour as a reader with this vision sees it."""
    srgb = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
    xyz = TO_XYZ @ np.clip(np.asarray(VISION[vision]) @ linear, 0, 1) / (TO_XYZ @ np.ones(3))
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def distance(a, b, vision):
    return float(np.linalg.norm(lab(a, vision) - lab(b, vision)))


def contrast(colour, ground="#ffffff"):
    """WCAG's contrast ratio."""
    luminance = []
    for c in (colour, ground):
        srgb = np.array([int(c[i : i + 2], 16) for i in (1, 3, 5)]) / 255
        linear = np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)
        luminance.append(float(TO_XYZ[1] @ linear))
    return (max(luminance) + 0.05) / (min(luminance) + 0.05)


def test_simulation_on_known_cases():
    np.testing.assert_allclose(lab("#ff0000"), [53.24, 80.09, 67.20], atol=0.05)
    np.testing.assert_allclose(lab("#ffffff"), [100, 0, 0], atol=0.02)
    for vision in VISION:  # no vision changes greys
        np.testing.assert_allclose(lab("#808080", vision), [53.585, 0, 0], atol=0.1)
    assert distance("#ff0000", "#00a000", "normal") > 3 * distance("#a06000", "#788000", "deuteranopia")
    assert contrast("#767676") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("vision", VISION)
def test_sources_of_one_figure_stay_apart(vision):
    names = ["reference", "real", "reconstruction", *SYNTHETIC, CONTROLS[0]]
    close = {
        (a, b): round(d, 1)
        for a, b in itertools.combinations(names, 2)
        if (d := distance(report_style.COLOURS[a], report_style.COLOURS[b], vision)) < LEAST
    }
    assert not close


@pytest.mark.parametrize("vision", VISION)
def test_conditions_and_parts_of_a_fit_stay_apart(vision):
    for group in ((report_style.BLUE, report_style.RED), (report_style.BLACK, report_style.RED, report_style.BLUE)):
        assert min(distance(a, b, vision) for a, b in itertools.combinations(group, 2)) > LEAST


def test_each_control_has_its_own_symbol_since_all_are_grey():
    markers = [report_style.marker(name)["symbol"] for name in CONTROLS]
    assert len({report_style.COLOURS[name] for name in CONTROLS}) == 1
    assert len(set(markers)) == len(CONTROLS)


def test_decoders_differ_without_colour():
    for source in SYNTHETIC:
        assert report_style.marker(source, "mean")["symbol"] != report_style.marker(source, "sampled")["symbol"]


def test_lines_are_visible_on_white():
    """WCAG 1.4.11 asks for 3:1; the lighter hues of this palette reach 2, so that a style or symbol repeats them."""
    ratios = {name: contrast(colour) for name, colour in report_style.COLOURS.items()}
    assert min(ratios.values()) > 2
    assert all(ratios[name] > 3 for name in ("reference", "real", "interpolation", "hybrid", *CONTROLS))
