"""The allow-list of header fields, value by value."""

import json
from pathlib import Path

import numpy as np
import pytest

from mrs_synthesis import header

SCHEMA = Path(__file__).parents[2] / "workflow" / "schemas" / "config.schema.json"


@pytest.mark.parametrize(
    ("key", "value"),
    [  # as scanners and converters write them
        ("ManufacturersModelName", "Prisma"),
        ("ManufacturersModelName", "Prisma_fit"),
        ("ManufacturersModelName", "Investigational_Device_7T"),
        ("ManufacturersModelName", "MAGNETOM Vida"),
        ("ManufacturersModelName", "Ingenia Elition X"),
        ("ManufacturersModelName", "DISCOVERY MR750w"),
        ("ManufacturersModelName", "SIGNA Premier"),
        ("SoftwareVersions", "syngo MR E11"),
        ("SoftwareVersions", "syngo MR XA30"),
        ("SoftwareVersions", "5.1.7 ; .1.7 ;"),
        ("SoftwareVersions", "27\\LX\\MR Software release:DV26.0_R03_1831.b"),
        ("SoftwareVersions", "24"),
        ("TxCoil", "Body"),
        ("RxCoil", "HE1-4"),
        ("RxCoil", "HC1-7;NC1"),
        ("RxCoil", "32Ch_Head_7T"),
        ("RxCoil", "8HRBRAIN"),
        ("SequenceName", "svs_se"),
        ("SequenceName", "mgs_svs_ed"),
        ("SequenceName", "eja_svs_press"),
        ("SequenceName", "PROBE-P"),
        ("Manufacturer", "SIEMENS"),
        ("Manufacturer", "GE MEDICAL SYSTEMS"),
        ("PatientPosition", "HFS"),
        ("PatientPosition", "head_first supine"),
        ("WaterSuppressionType", "VAPOR"),
        ("ConversionMethod", "spec2nii v0.8.15"),
        ("kSpace", [False, False, False]),
        ("TxOffset", -1.65),
        ("EchoTime", 0.068),
        ("WaterSuppressed", True),
        ("EditPulse", {"ON": {"PulseOffset": 1.9, "PulseDuration": 0.014}, "OFF": {"PulseOffset": 7.5}}),
        ("EditPulse", {"A": {"PulseOffset": [1.9, 4.56], "PulseDuration": 0.02}}),
        ("ProcessingApplied", [{"Program": "FSL-MRS", "Version": "2.1.13", "Method": "RF coil combination"}]),
    ],
)
def test_what_scanners_write_survives(key, value):
    assert header.kept({key: value}) == ({key: value}, [])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ManufacturersModelName", "Prisma of Dr Doe"),
        ("ManufacturersModelName", "GEMSOW"),  # the name of a room
        ("SoftwareVersions", "syngo MR E11 DOE"),
        ("SoftwareVersions", "19530417"),  # a day
        ("SoftwareVersions", "17.04.1953"),
        ("SoftwareVersions", "4711815"),  # a patient's number
        ("SoftwareVersions", ["syngo MR E11"]),
        ("TxCoil", "Doe_Coil"),
        ("RxCoil", "Head 4711"),
        ("RxCoil", {"Value": "Head"}),
        ("SequenceName", "doe_svs_press"),
        ("SequenceName", "/data/doe/press"),
        ("SequenceName", "svs_se " * 20),
        ("SequenceName", "svs_ＤＯＥ"),
        ("Manufacturer", "SIEMENS, hospital of Doetown"),
        ("PatientPosition", "HFS DOE"),
        ("WaterSuppressionType", "VAPOR by Doe"),
        ("ConversionMethod", "spec2nii v0.8.15 by Doe"),
        ("kSpace", [False, False, "DOE"]),
        ("kSpace", [False, False, False, False]),
        ("TxOffset", 19530417),
        ("TxOffset", float("nan")),
        ("TxOffset", "DOE"),
        ("TxOffset", True),
        ("ExcitationFlipAngle", 19530417),
        ("WaterSuppressed", "DOE"),
        ("SequenceTriggered", 1),
        ("EditPulse", "DOE"),
        ("EditPulse", {"DOE": {"PulseOffset": 1.9}}),
        ("ProcessingApplied", "DOE"),
        ("ProcessingApplied", [{"Method": "as Doe does it"}]),
    ],
)
def test_what_somebody_wrote_by_hand_goes_and_is_noted_by_its_field_alone(key, value):
    found, notes = header.kept({key: value, "EchoTime": 0.03})
    assert found == {"EchoTime": 0.03}
    (note,) = notes
    assert key in note and "doe" not in note.lower()


@pytest.mark.parametrize("key", ["PatientName", "AccessionNumber", "private_a", "ReceiveCoilName", "echotime", "VOI"])
def test_fields_without_a_check_go_whatever_they_hold(key):
    assert header.kept({key: "svs_se"}) == ({}, [])


def test_nested_values_are_rebuilt_key_by_key():
    pulses = {
        "ON": {"PulseOffset": 1.9, "PulseDuration": 0.014, "private_who": "DOE"},
        "OFF": {"PulseOffset": [7.5, "DOE"], "PulseDuration": 19530417},
    }
    steps = [
        {
            "Time": "2017-09-23", "Program": "Doe's tool", "Version": "2017", "Method": "Phasing", "Details": "DOE.nii",
            "Link": "doe.org", "private_x": [{"a": "DOE"}],
        },
        "DOE",
    ]  # fmt: skip
    found, notes = header.kept({"EditPulse": pulses, "ProcessingApplied": steps})
    assert found["EditPulse"] == {"ON": {"PulseOffset": 1.9, "PulseDuration": 0.014}, "OFF": {}}
    assert found["ProcessingApplied"] == [{"Method": "Phasing"}]
    assert "1 of 2 steps of ProcessingApplied" in notes[0]


def test_times_that_mean_none_go_without_a_word():
    times = {"InversionTime": 0.0, "MixingTime": 0.0, "RepetitionTime": "DOE", "EchoTime": 35000.0}
    assert header.kept(times) == ({}, [])


def test_kept_on_request_with_a_warning():
    given = {"InstitutionName": "Clinic", "PatientSex": "F", "PatientWeight": "heavy", "PatientName": "DOE"}
    found, (note,) = header.kept(given, ["InstitutionName", "PatientSex", "PatientWeight"])
    assert found == {"InstitutionName": "Clinic", "PatientSex": "F"}
    assert note.startswith("WARNING") and note.endswith(": InstitutionName, PatientSex")
    assert "Clinic" not in note
    assert header.kept({"SequenceName": "doe_svs"}, ["SequenceName"])[0] == {"SequenceName": "doe_svs"}


def test_names_that_can_be_requested_are_the_schemas_and_the_standards():
    from nifti_mrs.definitions import standard_defined

    keys = json.loads(SCHEMA.read_text())["properties"]["convert"]["properties"]["keep_fields"]["items"]["enum"]
    assert set(keys) == set(header.ON_REQUEST)
    assert set(keys) | set(header.KEPT) <= set(standard_defined)
    assert not {"PatientName", "PatientID", "PatientDoB", "OriginalFile"} & {*keys, *header.KEPT}


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["ON", "OFF"], ["ON", "OFF"]),
        (["edit_on", "edit_off"], ["EDIT_ON", "EDIT_OFF"]),
        (["A", "B"], ["A", "B"]),
        (["ON of Doe", "Doe off"], ["ON", "OFF"]),
        (["Doe", 3], ["OTHER", "3"]),
    ],
)
def test_names_of_edit_conditions(names, expected):
    assert header.edit_conditions({"EditCondition": names}) == {"EditCondition": expected}
    assert header.edit_conditions({"EditCondition": {"Value": names}}) == {"EditCondition": expected}


def test_messages_without_names_of_files(tmp_path):
    folder = tmp_path / "DOE_JOHN"
    series = folder / "DOE series"
    series.mkdir(parents=True)
    (series / "DOE 1.IMA").touch()
    files = {"metab": folder / "doe_act.SDAT", "water": series, "aux": None}
    for text, expected in {
        f"{folder}/doe_act.SDAT: 3 bytes, not 8 (doe_act.SPAR); copy": "metab: 3 bytes, not 8 (metab); copy",
        f"{folder}/doe_act.SDAT: no doe_act.SPAR beside it": "metab: no metab beside it",
        f"cannot open '{series}/DOE 1.IMA'": "cannot open 'a file of water'",
        f"{series}: empty, in {folder}": "water: empty, in its folder",
    }.items():
        assert header.without_names(text, files) == expected


def nest(rng, text, depth=0):
    """Return a random JSON value with a text in it: as value or key, beside what may stand in a header."""
    usual = [0.068, True, "svs_se", "ON", "Phasing", None, [1.9, 7.5], {"PulseOffset": 1.9}]
    names = ["ON", "OFF", "Value", "PulseOffset", "PulseDuration", "Method", "Program", "Version", "Details", "Time"]
    kind = rng.integers(0, 5 if depth < 4 else 2)
    if kind < 2:
        return [text, f"svs_se {text}", f"{text}7", f"2.1.{text}"][rng.integers(0, 4)]
    inside = nest(rng, text, depth + 1)
    if kind == 2:
        return [usual[rng.integers(0, len(usual))], inside]
    if kind == 3:
        return {names[rng.integers(0, len(names))]: inside, "Method": "Phasing", "PulseOffset": 1.9}
    return {text: inside, "ON": {"PulseOffset": 1.9, text: 1.0}}


def test_no_text_of_unknown_words_survives_wherever_it_is_nested():
    rng = np.random.default_rng(5)
    survived = 0
    for _ in range(600):
        given = {key: nest(rng, "doeqx") for key in (*header.KEPT, "UserKey", "doeqx")}
        found, notes = header.kept(given)
        assert "doeqx" not in json.dumps([found, notes])
        survived += len(found)
    assert survived > 150  # edit pulses and steps whose other parts are in order
