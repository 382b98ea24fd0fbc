"""Identifiers planted in every format are in no output, record or log of the conversion; files' names in logs alone."""

import base64
import contextlib
import gzip
import io
import json
import re

import numpy as np
import planted
import pytest
from planted import FIELDS, FILE, FOLDER, PERSON, leaks
from scan_files import OFF, edited, fid, interleave

from mrs_synthesis import convert, scans, vendor_twix

MARKERS = set(PERSON.values())
NAMES = {FOLDER, FILE}


@pytest.mark.parametrize(
    "hide",
    [
        str.encode,
        lambda text: text.lower().encode(),
        lambda text: text.encode("latin-1"),
        lambda text: text.encode("utf-16"),
        lambda text: text.encode("utf-16-be"),
        lambda text: json.dumps([text]).encode(),
        lambda text: b"x" + base64.b64encode(b"..." + text.encode() + b"."),
        lambda text: base64.b64encode(b"a" + text.encode() + b"b"),
        lambda text: base64.urlsafe_b64encode(b"ab" + text.encode()),
        lambda text: gzip.compress(b"..." + text.encode("utf-16")),
        lambda text: text.encode().hex().encode(),
    ],
)
def test_the_search_finds_what_is_there(tmp_path, hide):
    (tmp_path / "sub").mkdir()
    for number, marker in enumerate(sorted(MARKERS)):
        (tmp_path / "sub" / f"{number}.bin").write_bytes(b"\0\1" + hide(marker) + b"\2" if hide(marker)[:1] != b"\x1f"
                                                         else hide(marker))  # fmt: skip
    (tmp_path / "clean").write_text("nothing of that kind")
    assert {line.partition(": ")[0] for line in leaks(tmp_path, MARKERS)} == MARKERS
    assert not [line for line in leaks(tmp_path, MARKERS) if "clean" in line]


def test_the_search_looks_into_archives_and_at_names(tmp_path):
    np.savez_compressed(tmp_path / "a.npz", text=np.frombuffer(b"..QXDEEPVZ..", np.uint8), **{"QXKEYVZ": np.zeros(2)})
    with open(tmp_path / "b.gz", "wb") as stream, gzip.GzipFile("QXORIGINALVZ", "wb", fileobj=stream) as packed:
        packed.write(gzip.compress(b"QXINNERVZ"))
    (tmp_path / "c.html").write_text(f"<i>{base64.b64encode(gzip.compress(b'QXPAGEVZ' * 9)).decode()}</i>")
    (tmp_path / "QXNAMEVZ.txt").touch()
    wanted = {"QXKEYVZ", "QXDEEPVZ", "QXORIGINALVZ", "QXINNERVZ", "QXPAGEVZ", "QXNAMEVZ"}
    assert {line.partition(":")[0] for line in leaks(tmp_path, wanted)} == wanted
    assert leaks(tmp_path, {"QXNOWHEREVZ"}) == []


def go(out, *words, fails=False):
    """Run the conversion as a shard does; leave its log beside the outputs; return its record."""
    out.mkdir(exist_ok=True)
    log = io.StringIO()
    words = [*words, "--unit", "sub-01_acq-press", "--output", out / "sub-01_acq-press_svs.nii.gz"]
    with contextlib.redirect_stderr(log), contextlib.redirect_stdout(log):
        convert.main([*map(str, words), "--status", str(out / "record.json")])
    (out / "convert.log").write_text(log.getvalue())
    record = json.loads((out / "record.json").read_text())
    assert record["status"] == ("failed" if fails else "ok"), record
    return record


def rows(n=4):
    return np.array([fid(OFF) * (1 + 0.01 * k) for k in range(n)])


@pytest.fixture
def raw(tmp_path):
    """A folder with a person's name in it."""
    folder = tmp_path / FOLDER / "mr"
    folder.mkdir(parents=True)
    return folder


def water_pair(make, raw, ending):
    return make(raw / f"{FILE}_act{ending}", rows()), make(
        raw / f"{FILE}_ref{ending}", np.array([500 * fid(("water",))] * 4)
    )


CASES = ["twix", "twix_edited", "twix_vb", "philips_sdat", "philips_data_list", "nifti_mrs"]


def prepare(case, raw, monkeypatch):
    """Return format, file, words of a case, and how many of its markers the files hold (a control of the test)."""
    if case == "twix":
        return "siemens_twix", planted.twix(raw / f"{FILE}.dat", rows(), monkeypatch), []
    if case == "twix_edited":
        pair = interleave(edited(4, noise=0.2)[::-1, :, 0])
        path = planted.twix(raw / f"{FILE}.dat", pair, monkeypatch, vendor_twix.EDITED)
        return "siemens_twix", path, ["--edit-scheme", "mega"]
    if case == "twix_vb":
        return "siemens_twix", planted.twix_vb(raw / f"{FILE}.dat", rows(), monkeypatch), []
    make, ending = {
        "philips_sdat": (planted.spar, ".SDAT"),
        "philips_data_list": (planted.data_list, ".data"),
        "nifti_mrs": (planted.nifti, ".nii.gz"),
    }[case]
    metab, water = water_pair(make, raw, ending)
    return case, metab, ["--water", water, "--water-role", "both"]


def with_reference(words, out):
    return [*words, "--output-ref", out / "sub-01_acq-press_mrsref.nii.gz"] if "--water-role" in words else words


@pytest.mark.parametrize("case", CASES)
def test_nothing_of_a_person_survives_conversion(tmp_path, raw, monkeypatch, case):
    kind, metab, words = prepare(case, raw, monkeypatch)
    assert len({line.partition(": ")[0] for line in leaks(raw, MARKERS)}) >= 20  # they are there to be found
    out = tmp_path / "out"
    record = go(out, "--format", kind, "--metab", metab, *with_reference(words, out))
    assert leaks(out, MARKERS | NAMES) == []
    check_fields(out)
    assert "left out" in record["notes"]


def check_fields(out):
    for path in out.glob("*.nii.gz"):
        found = scans.read_scan(path)
        text = json.dumps(found.header)
        assert not [field for field in FIELDS if field in text]
        assert not re.search("private|dim_5_info|UserKey", text)
        assert found.header["EchoTime"] > 0.02  # not everything is thrown away
        content = gzip.decompress(path.read_bytes())
        assert content[240:344].strip(b"\0") == b"", "NIfTI-2's descrip and aux_file"
        assert path.read_bytes()[3] & 8 == 0, "gzip's flag of a file name"
    for path in out.glob("*.json"):
        assert not [field for field in FIELDS if f'"{field}"' in path.read_text()]


@pytest.mark.data
@pytest.mark.parametrize("case", ["siemens_dicom", "siemens_rda", "ge_pfile"])
def test_nothing_of_a_person_survives_conversion_of_real_files(tmp_path, raw, shared_data, case):
    words, least = [], 18
    if case == "siemens_dicom":
        files = sorted((shared_data / "siemens-mega-press-68" / "mrsref").glob("*.IMA"))[:2]
        metab = planted.dicom(raw / FILE, files)
    elif case == "siemens_rda":
        metab = planted.rda(raw / f"{FILE}.rda", shared_data / "siemens-rda-press-30" / "ACC_PRESS.rda")
    else:
        metab, done = planted.pfile(raw / f"{FILE}.7", shared_data / "ge-press-35" / "P29184.7")
        assert {"rhe_patname", "rhe_hospname", "rhe_ex_sysid", "rhi_cname", "rhs_se_desc"} <= done
        words, least = ["--water-role", "embedded"], 8
    assert len({line.partition(": ")[0] for line in leaks(raw, MARKERS)}) >= least
    out = tmp_path / "out"
    go(out, "--format", case, "--metab", metab, *with_reference(words, out))
    assert leaks(out, MARKERS | NAMES | {"QXCREATORVZ"}) == []
    check_fields(out)


def break_spar(path, key, value):
    path.write_text(re.sub(rf"^{key} : .*$", f"{key} : {value}", path.read_text("latin-1"), flags=re.M), "latin-1")


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("spar without a number", "spec2nii could not read it as philips_sdat (TypeError: "),
        ("spar without a field", "spec2nii could not read it as philips_sdat (KeyError: 'echo_time', philips.py line "),
        ("cut", "metab: 100 bytes, expected 32768 (4 rows of 1024 points in its SPAR file)"),
        ("no spar", "metab: no .SPAR file of the same name beside it"),
        ("missing", "metab: no such file"),
        ("twix software", "spec2nii could not read it as siemens_twix (IncompatibleSoftwareVersion"),
        ("nucleus", "metab: nucleus of another name, expected 1H"),
        ("frequency", "metab: MRS header extension that is no JSON object with SpectrometerFrequency"),
        ("tag", "metab: dimension untagged of length 4, untagged of length 2"),
        ("condition", "metab: EditCondition of the edit dimension is OTHER, OTHER, expected ON and OFF"),
        ("water missing", "water: no such file"),
        ("echo time", "metab: no EchoTime in the header"),
        ("fault", "unexpected"),
    ],
)
def test_failures_name_no_person_and_no_file(tmp_path, raw, monkeypatch, case, message):
    kind, words, out = "nifti_mrs", [], tmp_path / "out"
    if case in ("spar without a number", "spar without a field", "cut", "no spar"):
        kind, metab = "philips_sdat", planted.spar(raw / f"{FILE}.SDAT", rows())
        side = raw / f"{FILE}.SPAR"
        if case == "cut":
            metab.write_bytes(metab.read_bytes()[:100])
        elif case == "no spar":
            side.unlink()
        elif case == "spar without a field":
            side.write_text(side.read_text("latin-1").replace("\necho_time :", "\nx :"), "latin-1")
        else:
            break_spar(side, "repetition_time", PERSON["PatientID"])
    elif case == "twix software":
        kind = "siemens_twix"
        metab = planted.twix(raw / f"{FILE}.dat", rows(), monkeypatch)
        metab.write_bytes(metab.read_bytes().replace(b"syngo MR E11 QX", b"QXONGO MR E1 QX"))
    else:
        metab = raw / f"{FILE}.nii.gz"
        change = {
            "nucleus": {"ResonantNucleus": [PERSON["PatientID"]]},
            "frequency": {"SpectrometerFrequency": PERSON["PatientID"]},
            "tag": {"dim_5": PERSON["PatientID"], "dim_6": PERSON["PatientName"]},
            "condition": {
                "dim_5": "DIM_DYN",
                "dim_6": "DIM_EDIT",
                "dim_6_header": {"EditCondition": [PERSON["PatientID"], PERSON["PatientName"]]},
            },
            "echo time": {"EchoTime": PERSON["PatientID"]},
        }.get(case, {})
        if case != "missing":
            rewrite(planted.nifti(metab, rows(8 if case in ("tag", "condition") else 4)), change)
        if case == "echo time":
            (raw / f"{FILE}.json").unlink()
        if case == "condition":
            words = ["--edit-scheme", "mega"]
        if case == "water missing":
            words = ["--water", raw / f"{FILE}_w.nii.gz", "--water-role", "both"]
        if case == "fault":

            def fault(*_, **__):
                raise ValueError(f"could not convert {PERSON['PatientID']}")

            monkeypatch.setattr("mrs_synthesis.editing.arrange", fault)
            with pytest.raises(RuntimeError, match=r"^ValueError in test_privacy.py line \d+$") as caught:
                go(out, "--format", kind, "--metab", metab)
            assert PERSON["PatientID"] not in str(caught.value)
            assert caught.value.__cause__ is None and caught.value.__suppress_context__  # nor in a traceback
            return
    record = go(out, "--format", kind, "--metab", metab, *with_reference(words, out), fails=True)
    assert message in record["reason"]
    assert leaks(out, MARKERS) == []
    (out / "convert.log").unlink()  # a log may name files: somebody must be able to find the bad one
    assert leaks(out, NAMES | {str(tmp_path)}) == []


def rewrite(path, change):
    """Change the header extension of a NIfTI-MRS file."""
    import nibabel as nib

    image = nib.load(path)
    data = np.asanyarray(image.dataobj)
    if "dim_6" in change:
        data = data.reshape(1, 1, 1, data.shape[3], -1, 2)
    extensions = [(e.get_code(), e.get_content()) for e in image.header.extensions]
    new = nib.Nifti2Image(data, image.affine, image.header)
    new.header.extensions.clear()
    for code, content in extensions:
        if code == 44:
            content = content if isinstance(content, str | bytes) else json.dumps(content)
            content = json.dumps(json.loads(content) | change).encode()
            new.header.extensions.append(nib.nifti1.Nifti1Extension(44, content))
    nib.save(new, path)


def test_the_log_of_a_failure_names_the_file(tmp_path, raw):
    out = tmp_path / "out"
    go(out, "--format", "nifti_mrs", "--metab", raw / f"{FILE}.nii.gz", fails=True)
    assert f"{raw}/{FILE}.nii.gz: no such file" in (out / "convert.log").read_text()


def test_fields_that_are_asked_for_are_kept_and_warned_of(tmp_path, raw):
    metab, out = planted.nifti(raw / f"{FILE}.nii.gz", rows()), tmp_path / "out"
    asked = ["InstitutionName", "PatientSex", "SequenceName"]
    record = go(out, "--format", "nifti_mrs", "--metab", metab, "--keep-fields", *asked)
    found = scans.read_scan(out / "sub-01_acq-press_svs.nii.gz").header
    assert [found[key] for key in asked] == [PERSON["InstitutionName"], "F", PERSON["SequenceName"]]
    warning = "WARNING: fields kept by keep_fields, which may tell who was measured: InstitutionName, PatientSex"
    assert warning in record["notes"] and warning in (out / "convert.log").read_text()
    assert leaks(out, MARKERS - {PERSON["InstitutionName"], PERSON["SequenceName"]}) == []
    with pytest.raises(SystemExit):
        go(out, "--format", "nifti_mrs", "--metab", metab, "--keep-fields", "PatientName")
