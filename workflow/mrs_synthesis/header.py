"""Which header fields of a scan survive conversion: an allow-list with a check of each value, nested ones too.

Whatever is not named here goes: persons, places, days, serial numbers, protocols, private and user-defined keys.
A field that is named survives only with a value of the expected kind. Numbers must lie in a range, so that no date or
record number passes for one. Texts are the danger: a site, or who sits at the console, can write a name into most of
them. So a text is kept if it is one of a vocabulary, or if each of its words is; else the whole field goes, and the
conversion's notes say which (never what it held).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from mrs_synthesis.sidecars import METHODS

LONGEST_TR_S = 60.0
LONGEST_TEXT = 80
DIMENSIONS = re.compile(r"DIM_(COIL|DYN|EDIT|MEAS|ISIS|METCYCLE|PHASE_CYCLE|INDIRECT_[0-2]|USER_[0-2])")

# Kinds of scanners as DICOM, twix, RDA, SPAR and P-files name them. Not free text in most formats, but GE's field is
# the name of the room ("Creating Suite ID"), and stations get nicknames
MODELS = """
    magnetom prisma fit skyra trio triotim tim verio vida aera avanto espree symphony allegra lumina sola altea cima
    terra plus sempra amira spectra essenza biograph mmr investigational device connectom free max
    achieva ingenia intera ambition elition evolution gyroscan panorama dstream tx quasar
    signa discovery mr hdx hdxt excite optima premier architect artist pioneer voyager explorer hero creator uhp genesis
    umr omega jupiter biospec pharmascan avance neo bruker varian agilent siemens philips ge phantom
    x w s t xr 3t 7t 9t 1 5t mr450 mr450w mr750 mr750w mr360 mr950 dv hd hde 450 450w 750 750w 1p5t
"""
# The maker's designation of the scanner's software: set by the software itself; words, and versions (see VERSION)
SOFTWARE = "syngo numaris mr lx software release paravision pv latest version n4 phantom a b c d p"
# Coil names come from the scanner's list of coils, to which sites add their own, named after who built or owns them
COILS = """
    body head neck spine knee breast flex coil array surface volume birdcage quad quadrature nova medical phased
    channel channels ch tx rx txrx transmit receive matrix hn hns hnu brain hrbrain nv sense multi dstream tim q t r
    headneck he hc hea hep ne nc bo bc sp sn pa pr fl fs fa wb nm rapid invivo helmet cryoprobe integrated
"""
# Names of sequences that exist as products or that labs share; others ("doe_gaba_v2") may be anybody's. Letters such
# as eja, dkd, mgs, tbi, jn, gls or uzay belong to published packages
SEQUENCES = """
    svs csi fid slice se st ed edit edited press steam laser slaser semi mega megapress mpress meshcher garwood special
    probe p s sv sp mrs spectro spectroscopy 1h proton single voxel volume hermes hercules isthmus herc jpress jedit
    gaba gsh lac gls eja dkd mgs tbi jn uzay cmrr jhu wip ref water act sead pat averages mm dw dwmrs
    oslaser hise presscsi gabaedit gabaplus phantom none
"""
SUPPRESSIONS = "wet vapor chess mega excitation prepulse presat pre saturation weak strong water metabolite cycling"
MAKERS = {
    "siemens", "siemens healthineers", "siemens healthcare gmbh", "siemens medical systems", "philips",
    "philips healthcare", "philips medical systems", "ge", "ge healthcare", "ge medical systems", "bruker",
    "bruker biospin", "bruker biospin mri gmbh", "uih", "united imaging", "varian", "agilent", "phantom",
}  # fmt: skip
POSITIONS = {
    *(f"{side}{way}" for side in ("hf", "ff") for way in ("s", "p", "dl", "dr")),
    *(f"{side}_first {way}" for side in ("head", "feet") for way in ("supine", "prone", "left", "right")),
}
PROGRAMS = {
    "fsl-mrs", "fsl_mrs", "nifti-mrs", "nifti_mrs", "mrs_tools", "spec2nii", "osprey", "gannet", "fid-a", "lcmodel",
    "tarquin", "jmrui", "suspect", "spant", "vespa", "mrs-synthesis", "syngo",
}  # fmt: skip
# At most four digits in a row and no year: neither a day nor a number of a patient
VERSION = re.compile(r"(?!(?:19|20)\d\d(?!\d))[a-z]{0,2}\d{1,4}[a-z]{0,2}")
CONVERTER = re.compile(r"spec2nii(?: v?\d{1,3}(?:\.\d{1,4}){0,3})?")

# Fields that say something of the person, the place or the day, or that are too free to be let through: only as they
# are and on the config's word (`convert: keep_fields`). The person's name, number and day of birth, and names of files,
# not even so: no analysis needs them
ON_REQUEST = {
    "ProtocolName": str, "InstitutionName": str, "InstitutionAddress": str, "DeviceSerialNumber": str,
    "PatientSex": str, "PatientWeight": float, "ManufacturersModelName": str, "SoftwareVersions": str, "TxCoil": str,
    "RxCoil": str, "SequenceName": str, "WaterSuppressionType": str,
}  # fmt: skip


def _number(low: float, high: float) -> Callable[[Any], Any]:
    """Return a check: the number if it lies in the range, else None."""

    def check(value: Any) -> Any:
        good = isinstance(value, int | float) and not isinstance(value, bool)
        return value if good and math.isfinite(value) and low <= value <= high else None

    return check


def _words(known: str, more: re.Pattern[str] | None = None) -> Callable[[Any], Any]:
    """Return a check: the text if every word of it is known, or is one that `more` describes, else None.

    Numbers of one or two digits are words of any text: tesla, channels, elements of a coil.
    """
    vocabulary = set(known.split())

    def is_known(word: str) -> bool:
        stem = word.rstrip("0123456789").lstrip("0123456789")
        digits = len(word) - len(stem)
        return bool(
            word in vocabulary
            or (digits <= 2 and (not stem or stem in vocabulary))
            or (more is not None and more.fullmatch(word))
        )

    def check(value: Any) -> Any:
        if not isinstance(value, str) or not value.isascii() or not 0 < len(value) <= LONGEST_TEXT:
            return None
        words = re.findall(r"[a-z0-9]+", value.lower())
        return value if words and all(map(is_known, words)) else None

    return check


def _one_of(known: Iterable[str]) -> Callable[[Any], Any]:
    allowed = set(known)
    return lambda value: value if isinstance(value, str) and value.strip().lower() in allowed else None


def _boolean(value: Any) -> Any:
    return value if isinstance(value, bool) else None


def converter(value: Any) -> str | None:
    """Return what says how a file was converted, if it is spec2nii and its version alone."""
    return value if isinstance(value, str) and CONVERTER.fullmatch(value) else None


def _k_space(value: Any) -> Any:
    good = isinstance(value, list) and len(value) == 3 and all(isinstance(one, bool) for one in value)
    return value if good else None


def _edit_pulses(value: Any) -> Any:
    """Return for each condition what is a number or a list of numbers; condition names are ON, OFF or one letter."""
    offset, duration = _number(-100, 100), _number(0, 1)
    found = {}
    for name, pulse in value.items() if isinstance(value, Mapping) else ():
        if not isinstance(pulse, Mapping) or not re.fullmatch(r"ON|OFF|[A-H]|EDIT_?\d", str(name).upper()):
            continue
        several = pulse.get("PulseOffset")
        several = [offset(one) for one in several] if isinstance(several, list) else offset(several)
        kept = {"PulseOffset": several, "PulseDuration": duration(pulse.get("PulseDuration"))}
        found[str(name)] = {
            key: one for key, one in kept.items() if one not in (None, []) and None not in [one, *_listed(one)]
        }
    return found or None


def _listed(value: Any) -> list:
    return value if isinstance(value, list) else []


def _processing(value: Any) -> Any:
    """Return steps by the standard's method, with program and version.

    Left out are the step's time, which tells the day; Details, where programs write their whole call with names of
    files; Link; and what else was added.
    """
    program, version = _one_of(PROGRAMS), _words("", VERSION)
    steps = []
    for step in value if isinstance(value, list) else ():
        if isinstance(step, Mapping) and step.get("Method") in METHODS:
            kept = {"Program": program(step.get("Program")), "Version": version(step.get("Version"))}
            steps.append({key: one for key, one in kept.items() if one is not None} | {"Method": step["Method"]})
    return steps or None


_seconds = _number(0, LONGEST_TR_S)
_ppm = _number(-100, 100)
KEPT: dict[str, Callable[[Any], Any]] = {
    "EchoTime": _seconds,
    "RepetitionTime": _seconds,
    "InversionTime": _seconds,
    "MixingTime": _seconds,
    "ExcitationFlipAngle": _number(0, 3600),
    "TxOffset": _ppm,
    "RxOffset": _ppm,
    "SpecFreqChemShift": _ppm,
    "WaterSuppressed": _boolean,
    "WaterSuppressionType": _words(SUPPRESSIONS),
    "SequenceTriggered": _boolean,
    "Manufacturer": _one_of(MAKERS),
    "ManufacturersModelName": _words(MODELS),
    "SoftwareVersions": _words(SOFTWARE, VERSION),
    "TxCoil": _words(COILS),
    "RxCoil": _words(COILS),
    "SequenceName": _words(SEQUENCES),
    "PatientPosition": _one_of(POSITIONS),
    "ConversionMethod": converter,
    "kSpace": _k_space,
    "EditPulse": _edit_pulses,
    "ProcessingApplied": _processing,
}


def kept(header: Mapping[str, Any], keep: Sequence[str] = ()) -> tuple[dict[str, Any], list[str]]:
    """Return the fields of a NIfTI-MRS header extension that survive, and notes on those that do not.

    Parameters
    ----------
    header
        The header extension, from whatever file.
    keep
        Names of `ON_REQUEST` that are kept as they are.

    Returns
    -------
    header
        New objects; nothing of the given one is shared.
    notes
        Which fields of `KEPT` were left out for what they hold, and which were kept by `keep`; never a value.
    """
    found: dict[str, Any] = {}
    left, wanted = [], []
    for key, check in KEPT.items():
        value = header.get(key)
        if key in keep or value in (None, "", [], {}):
            continue
        checked = check(value)
        if key.endswith("Time") and not checked:  # 0 means none, and spec2nii leaves InversionTime of SPAR in ms
            continue
        if checked is None:
            left.append(key)
            continue
        found[key] = checked
        if key == "ProcessingApplied" and len(checked) < len(value):
            left.append(f"{len(value) - len(checked)} of {len(value)} steps of {key}")
    for key in keep:
        value = header.get(key)
        if isinstance(value, str if ON_REQUEST[key] is str else int | float) and value != "":
            found[key] = value
            wanted.append(key)
    notes = []
    if left:
        notes.append(f"header fields left out, since what they hold might name somebody: {', '.join(left)}")
    if wanted:
        notes.append(f"WARNING: fields kept by keep_fields, which may tell who was measured: {', '.join(wanted)}")
    return found, notes


def dimension(tag: Any) -> str | None:
    """Return a dimension's tag if it is one of the standard's; else None, as if it had none."""
    return tag if isinstance(tag, str) and DIMENSIONS.fullmatch(tag) else None


def edit_conditions(tag_header: Any) -> dict[str, list[str]]:
    """Return EditCondition of a dimension's header, with names that are no usual ones reduced to ON, OFF or OTHER."""
    values = tag_header.get("EditCondition") if isinstance(tag_header, Mapping) else None
    values = values.get("Value") if isinstance(values, Mapping) else values
    if not isinstance(values, list):
        return {}
    names = [str(value).upper() for value in values]
    usual = re.compile(r"(EDIT|MEGA|CONTROL)?[ _-]?(ON|OFF|[A-H]|\d)")
    return {"EditCondition": [name if usual.fullmatch(name) else _switch(name) for name in names]}


def _switch(name: str) -> str:
    return "OFF" if "OFF" in name else "ON" if "ON" in name.replace("CONTROL", "") else "OTHER"


def without_names(text: str, paths: Mapping[str, Path | None]) -> str:
    """Return a message without the paths and names of raw files, which may hold a person's.

    Parameters
    ----------
    text
        The message.
    paths
        Files or folders by what they are called instead: the columns of the sample sheet.
    """
    given = [(role, Path(path)) for role, path in paths.items() if path is not None]
    known = {form: role for role, path in given for form in (str(path), str(path.absolute()), os.path.realpath(path))}
    for form in sorted(known, key=len, reverse=True):
        is_folder = os.path.isdir(form)  # noqa: PTH112 -- not an error where the name is too long
        inside = [str(one) for one in Path(form).rglob("*")] if is_folder else []  # files of a series
        for name in sorted((one for one in inside if one in text), key=len, reverse=True):
            text = text.replace(name, f"a file of {known[form]}")
        text = text.replace(form, known[form])
    for role, path in given:  # by name alone, also with another suffix
        stem = path.name.split(".")[0]
        for name in (re.escape(path.name), *([rf"{re.escape(stem)}\.\w+(?:\.gz)?"] if stem else [])):
            text = re.sub(rf"(?<![\w.-]){name}(?![\w-])", role, text)
    for folder in sorted({str(Path(form).parent) for form in known}, key=len, reverse=True):
        text = text.replace(folder, "its folder") if folder.strip("/.") else text
    return text
