"""Edit conditions of MEGA-edited scans: arrange them as (OFF, ON), and check the order against the spectra.

The editing pulse at 1.9 ppm saturates NAA at 2.0 ppm, so NAA shows which condition is which: OFF has it, ON has not.
The measures below need neither phasing nor alignment, so that they work on raw single transients: power, averaged over
transients, of spectra whose FIDs were multiplied by ``t * exp(-20 t)``. That weight turns a spectrum into its
derivative, in which the tails of residual water fall as 1/distance^2 while narrow peaks remain.
"""

from __future__ import annotations

import numpy as np

from mrs_synthesis import spectra
from mrs_synthesis.convert_formats import Raw
from mrs_synthesis.stage import InputError

EDIT_ORDERS = ("interleaved_on_off", "interleaved_off_on", "blocked_on_off", "blocked_off_on", "from_header")
TCHO_PPM = 3.208
DECAY_PER_S = 20.0
SEARCH_PPM = 0.3  # how far a raw spectrum may lie from its nominal position
CONTRAST = 3.0  # NAA power in OFF over that in ON; with half the transients exchanged it is 1
SIGNIFICANCE = 8.0  # least difference of the two powers in SDs of the noise; pure noise passes 1 time in 200


def arrange(raw: Raw, name: str, edit_scheme: str, edit_order: str) -> tuple[np.ndarray, str, list[str]]:
    """Return FIDs of shape (conditions, transients, coils, points), the order they had, and notes.

    Parameters
    ----------
    raw
        The scan.
    name
        What errors call it.
    edit_scheme
        ``"mega"``: conditions (OFF, ON). ``"none"``: one condition. ``"merge"``: one condition, into which a dimension
        of edit conditions is merged (water references).
    edit_order
        For ``"mega"``. Without an edit dimension: how the transients, in order of acquisition, alternate. With one:
        ``..._on_off`` means that its first index is ON, ``from_header`` reads EditCondition.

    Returns
    -------
    fids, order, notes
        The order is one of `EDIT_ORDERS` without ``from_header``, or ``"dimension_on_off"``, ``"dimension_off_on"`` if
        the file has an edit dimension, or ``"none"``.

    Raises
    ------
    InputError
        If the dimensions do not give two conditions with equally many transients, or have no known meaning.
    """
    roles = _roles(raw, name, edit_scheme)
    axes = {role: [i + 1 for i, r in enumerate(roles) if r == role] for role in ("edit", "transient", "coil")}
    # Of several dimensions of transients the earlier one is the faster loop, hence reversed for C order.
    order = [*axes["edit"], *reversed(axes["transient"]), *axes["coil"]]
    single = [axis for axis in range(1, raw.data.ndim) if axis not in order]
    data = raw.data.transpose([*order, *single, 0])
    lengths = [int(np.prod([raw.data.shape[a] for a in axes[role]])) for role in ("edit", "transient", "coil")]
    fids = data.reshape([*lengths, raw.data.shape[0]])
    if edit_scheme != "mega":
        # Transients of an edit dimension alternate, as they were acquired.
        return fids.swapaxes(0, 1).reshape(1, -1, *fids.shape[2:]), "none", []
    if axes["edit"]:
        first_is_on, notes = _first_is_on(raw, axes["edit"][0], name, edit_order)
        layout = "dimension"
    else:
        if edit_order == "from_header":
            raise InputError(
                f"{name}: no edit dimension in it, so edit_order from_header says nothing; state "
                "interleaved_on_off, interleaved_off_on, blocked_on_off or blocked_off_on"
            )
        if fids.shape[1] % 2:
            raise InputError(
                f"{name}: {fids.shape[1]} transients, expected an even number (ON and OFF equally often); "
                "was the scan cut short, or is it not MEGA-edited (edit_scheme none)?"
            )
        layout, notes = edit_order.split("_")[0], []
        first_is_on = edit_order.endswith("on_off")
        fids = _split(fids[0], layout)
    return (fids[::-1] if first_is_on else fids), f"{layout}_{'on_off' if first_is_on else 'off_on'}", notes


def _roles(raw: Raw, name: str, edit_scheme: str) -> list[str]:
    known = {"DIM_COIL": "coil", "DIM_DYN": "transient", "DIM_EDIT": "edit"}
    roles = [
        "single" if length == 1 else known.get(tag or "", "unknown")
        for tag, length in zip(raw.tags, raw.data.shape[1:], strict=True)
    ]
    lengths = dict(enumerate(raw.data.shape[1:]))
    unknown = [i for i, role in enumerate(roles) if role == "unknown"]
    if edit_scheme != "none" and "edit" not in roles:
        pairs = [i for i in unknown if lengths[i] == 2]  # e.g. DIM_USER_0 of a Siemens VB twix
        if len(pairs) == 1:
            roles[pairs[0]] = "edit"
            unknown.remove(pairs[0])
    if len(unknown) == 1 and "transient" not in roles:
        roles[unknown[0]] = "transient"
        unknown = []
    if unknown:
        listing = ", ".join(f"{raw.tags[i] or 'untagged'} of length {lengths[i]}" for i in unknown)
        raise InputError(
            f"{name}: dimension {listing}, expected only DIM_COIL, DIM_DYN and DIM_EDIT; "
            "rename it with mrs_tools and give the result as nifti_mrs"
        )
    edits = [lengths[i] for i, role in enumerate(roles) if role == "edit"]
    if edit_scheme == "none" and edits:
        raise InputError(f"{name}: {edits[0]} edit conditions in it, but edit_scheme is none; state mega")
    if edit_scheme == "mega" and edits and edits != [2]:
        raise InputError(f"{name}: {edits[0]} edit conditions (HERMES, HERCULES?), expected the 2 of MEGA editing")
    return roles


def _first_is_on(raw: Raw, axis: int, name: str, edit_order: str) -> tuple[bool, list[str]]:
    values = raw.tag_headers[axis - 1].get("EditCondition")
    values = values.get("Value") if isinstance(values, dict) else values
    names = [str(value).upper() for value in values or ()]
    # "OFF" has no "ON" in it, but "EDIT_ON" and "ON" do.
    switches = ["OFF" if "OFF" in text else "ON" if "ON" in text.replace("CONTROL", "") else "" for text in names]
    known = sorted(switches) == ["OFF", "ON"]
    if edit_order == "from_header":
        if not known:
            found = ", ".join(names) or "missing"
            raise InputError(
                f"{name}: EditCondition of the edit dimension is {found}, expected ON and OFF; state edit_order as "
                "interleaved_on_off if its first index is edit-ON, else as interleaved_off_on"
            )
        return switches[0] == "ON", []
    first_is_on = edit_order.endswith("on_off")
    contradicted = known and (switches[0] == "ON") != first_is_on
    note = f"edit_order {edit_order} contradicts the header's EditCondition ({', '.join(names)}) and is used"
    return first_is_on, [note] if contradicted else []


def _split(series: np.ndarray, layout: str) -> np.ndarray:
    """Return (first, second) condition, shape (2, n / 2, ...), of an acquired series of shape (n, ...)."""
    half = series.shape[0] // 2
    shape = series.shape[1:]
    if layout == "interleaved":
        return series.reshape(half, 2, *shape).swapaxes(0, 1)
    return series.reshape(2, half, *shape)


def _join(pair: np.ndarray, layout: str) -> np.ndarray:
    """Invert `_split`."""
    pair = pair.swapaxes(0, 1) if layout == "interleaved" else pair
    return pair.reshape(-1, *pair.shape[2:])


def combine_coils(fids: np.ndarray, dwell_s: float) -> np.ndarray:
    """Return FIDs of shape (..., points) from (..., coils, points), good enough to look at, not to quantify.

    The weights are the leading eigenvector of the coils' covariance over the FIDs' beginning, whitened by the
    covariance over their end.
    """
    coils, points = fids.shape[-2:]
    if coils == 1:
        return fids[..., 0, :]
    some = fids.reshape(-1, coils, points)
    some = some[:: max(1, len(some) // 32)]
    start = max(8, min(points // 4, int(0.1 / dwell_s)))
    signal = some[..., :start].swapaxes(0, 1).reshape(coils, -1)
    noise = some[..., -(points // 4) :].swapaxes(0, 1).reshape(coils, -1)
    covariance = noise @ noise.conj().T / noise.shape[1]
    covariance += np.eye(coils) * (1e-6 * np.trace(covariance).real / coils + 1e-30)
    inverse = np.linalg.inv(np.linalg.cholesky(covariance.astype(complex)))
    _, vectors = np.linalg.eigh(inverse @ (signal @ signal.conj().T) @ inverse.conj().T)
    weights = inverse.conj().T @ vectors[:, -1]
    weights = (weights / np.linalg.norm(weights)).astype(np.complex64)
    return weights.conj() @ fids


def derivative_spectrum(fid: np.ndarray, dwell_s: float) -> np.ndarray:
    """Return spectra of FIDs (..., points) weighted by ``t exp(-20 t)``, in which tails are short."""
    t = spectra.time_axis(fid.shape[-1], dwell_s)
    return spectra.to_spectrum(fid * (t * np.exp(-DECAY_PER_S * t)))


def _window(ppm: np.ndarray, centre: float, half_width: float) -> np.ndarray:
    return np.abs(ppm - centre) <= half_width


def _offset(power: np.ndarray, ppm: np.ndarray) -> float:
    """Return the shift in ppm at which NAA, creatine and choline are strongest together; `power` is (2, bins)."""
    floor = np.median(power, axis=-1, keepdims=True)
    amplitude = np.sqrt(np.maximum(power - floor, 0.0))
    shifts = np.arange(-SEARCH_PPM, SEARCH_PPM + 1e-9, 0.01)
    scores = []
    for shift in shifts:
        lines = [
            amplitude[:, _window(ppm, line + shift, 0.04)].sum(axis=-1)
            for line in (spectra.NAA_PPM, spectra.TCR_PPM, TCHO_PPM)
        ]
        # Small shifts are likelier; the prior keeps a stray echo or lipid from winning at the edge of the search.
        scores.append((lines[0].max() + lines[1].mean() + lines[2].mean()) * np.exp(-0.5 * (shift / SEARCH_PPM) ** 2))
    return float(shifts[int(np.argmax(scores))])


def naa_energy(fid: np.ndarray, dwell_s: float, frequency_mhz: float) -> tuple[np.ndarray, float]:
    """Return the power of the NAA peak above its surroundings, and the SD that noise gives one transient's value.

    The surroundings, 0.16 to 0.3 ppm to either side, hold the noise and whatever is broad there (baseline, stray echo).

    Parameters
    ----------
    fid
        Coil-combined, shape (2, transients, points); neither phased nor aligned.

    Returns
    -------
    energy, sd
        Shape (2, transients), expectation 0 without a signal; the SD of a mean over n transients is sd / sqrt(n).

    Raises
    ------
    ValueError
        If the spectral width leaves no signal-free part.
    """
    power = np.abs(derivative_spectrum(fid, dwell_s)) ** 2
    ppm = spectra.ppm_axis(fid.shape[-1], dwell_s, frequency_mhz)
    centre = spectra.NAA_PPM + _offset(power.mean(axis=1), ppm)
    inside = _window(ppm, centre, max(0.05, 6.0 / frequency_mhz))
    beside = _window(ppm, centre, 0.3) & ~_window(ppm, centre, 0.16)
    width = int(inside.sum())
    empty = power[..., (ppm < -1.0) | (ppm > 9.0)]
    blocks = empty.shape[-1] // width if width else 0
    if blocks < 4:
        raise ValueError("the spectral width leaves no signal-free region below -1 and above 9 ppm")
    noise = empty[..., : blocks * width].reshape(*power.shape[:2], blocks, width).sum(axis=-1)
    sd = 1.4826 * np.median(np.abs(noise - np.median(noise, axis=-1, keepdims=True)))
    return power[..., inside].sum(axis=-1) - width * power[..., beside].mean(axis=-1), float(sd)


def _is_ordered(off: np.ndarray, on: np.ndarray, sd: float) -> bool:
    """Say whether the first set of energies has NAA and the second has not."""
    difference = off.mean() - on.mean()
    return difference > SIGNIFICANCE * sd * np.sqrt(2 / off.size) and off.mean() > CONTRAST * on.mean()


def check_edit_order(fids: np.ndarray, dwell_s: float, frequency_mhz: float, name: str, order: str) -> None:
    """Check that NAA is in the first condition (OFF) and not in the second (ON).

    Passes if the power at 2.0 ppm is at least `CONTRAST` times higher in OFF and the difference is beyond the noise.
    Otherwise the same transients are regrouped in every other order, so that the message can name the one that fits;
    if none fits, the scan is refused too, since a difference spectrum of unknown sign is worse than none.

    Parameters
    ----------
    fids
        Shape (2, transients, coils, points), as arranged by `arrange`.
    name
        What the message calls the scan.
    order
        What `arrange` returned beside the FIDs.

    Raises
    ------
    InputError
        If the order is another one or cannot be told.
    """
    try:
        energy, sd = naa_energy(combine_coils(fids, dwell_s), dwell_s, frequency_mhz)
    except ValueError as error:
        raise InputError(f"{name}: {error}, so the order of the edit conditions cannot be checked") from None
    if _is_ordered(energy[0], energy[1], sd):
        return
    off, on = energy.mean(axis=1)
    found = (
        f"NAA at 2.0 ppm has {on / off:.2g} times the power in ON that it has in OFF" if off > 0 else "no NAA in OFF"
    )
    layout, switch = order.split("_", 1)
    acquired = energy[::-1] if switch == "on_off" else energy
    if layout == "dimension":
        candidates = {f"interleaved_{way}": acquired for way in ("on_off", "off_on")}
    else:
        series = _join(acquired, layout)
        candidates = {other: _split(series, other.split("_")[0]) for other in EDIT_ORDERS[:4]}
    for other, (first, second) in candidates.items():
        pair = (second, first) if other.endswith("on_off") else (first, second)
        if _is_ordered(*pair, sd):
            raise InputError(f"{name}: {found} (order {order}), expected NAA in OFF only; set edit_order to {other}")
    raise InputError(
        f"{name}: {found} (SD of the noise: {sd / np.sqrt(energy.shape[1]) / max(abs(off), abs(on), 1e-300):.2g} of "
        "it), and no order of the transients gives NAA in OFF only, so OFF and ON cannot be told; "
        "is it MEGA editing at 1.9 ppm?"
    )


def inverted_condition(fids: np.ndarray, dwell_s: float, frequency_mhz: float) -> bool:
    """Say whether the two conditions have opposite signs, as Philips files of some sites store them.

    Compares creatine and choline, present in both conditions, between the transients of a pair; a frequency
    difference of up to 15 Hz between them is allowed for. `fids` has shape (2, transients, coils, points).
    """
    fid = combine_coils(fids, dwell_s)
    spectrum = derivative_spectrum(fid, dwell_s)
    ppm = spectra.ppm_axis(fid.shape[-1], dwell_s, frequency_mhz)
    shift = _offset((np.abs(spectrum) ** 2).mean(axis=1), ppm)
    spectrum[..., ~_window(ppm, 0.5 * (spectra.TCR_PPM + TCHO_PPM) + shift, 0.17)] = 0.0
    off, on = spectra.to_fid(spectrum)
    product = np.fft.fft((off.conj() * on).sum(axis=0))
    near = np.abs(np.fft.fftfreq(product.size, dwell_s)) <= 15.0
    largest = product[near][np.argmax(np.abs(product[near]))]
    coherence = abs(largest) / np.sqrt((np.abs(off) ** 2).sum() * (np.abs(on) ** 2).sum())
    return bool(coherence > 0.3 and np.cos(np.angle(largest)) < -0.7)


def align_signs(fids: np.ndarray) -> int:
    """Give all water transients, shape (1, transients, coils, points), one sign in place; return how many changed."""
    first = fids[0, 0, :, : fids.shape[-1] // 8]
    product = np.einsum("cn,tcn->t", first.conj(), fids[0, :, :, : fids.shape[-1] // 8])
    inverted = np.flatnonzero(np.cos(np.angle(product)) < -0.7)
    fids[0, inverted] *= -1
    return int(inverted.size)


def check_axis(fids: np.ndarray, dwell_s: float, frequency_mhz: float, name: str) -> None:
    """Refuse a scan whose frequency axis is mirrored: metabolites at 5.9-7.4 ppm instead of 1.9-3.4 ppm.

    Raises
    ------
    InputError
        If the mirrored range holds far more power than the metabolites' range.
    """
    fid = combine_coils(fids, dwell_s)
    power = (np.abs(derivative_spectrum(fid, dwell_s)) ** 2).mean(axis=(0, 1))
    ppm = spectra.ppm_axis(fid.shape[-1], dwell_s, frequency_mhz)
    floor = np.median(power)
    peaks = []
    for low, high in ((1.8, 3.4), (2 * spectra.WATER_PPM - 3.4, 2 * spectra.WATER_PPM - 1.8)):
        peaks.append((power[(ppm > low) & (ppm < high)]).max(initial=0.0) - floor)
    if peaks[1] > 10 * max(peaks[0], floor):
        raise InputError(
            f"{name}: the metabolites' signals lie at {2 * spectra.WATER_PPM - 3.4:.1f}-"
            f"{2 * spectra.WATER_PPM - 1.8:.1f} ppm, expected 1.8-3.4 ppm: the data are complex-conjugated; "
            "convert the original file again"
        )
