"""Names and paths that must not become files elsewhere, options, words of a shell, or text that hides what it says."""

import copy
import gzip
import json
from pathlib import Path

import pytest

from mrs_synthesis import basis_read, names, sheet
from mrs_synthesis.stage import InputError

LETTERS = "Letters and digits (ASCII), at most 48"
SITE = f"{LETTERS}; splits are stratified by it."
SEQUENCE = (
    "Name of the sequence, e.g. megapress: letters, digits (ASCII), _ and -, at most 48; it becomes the acq- label."
)
FILE = (
    "File (or DICOM folder) of the scan, relative to the sheet. No control or direction characters, none of { } < > "
    "%unit %folder %own %threads, no name above 255 bytes."
)
EXCLUDE = (
    "Reason to leave the scan out, or empty: at most 500 characters, no control or direction characters, none of = + - "
    "@ at the start, which spreadsheets take for a formula."
)
GOOD = {"subject": "01", "site": "A", "vendor": "siemens", "format": "siemens_twix", "sequence": "press"}
GOOD |= {"metab": "raw/a.dat", "exclude": "", "session": ""}


def read(folder, **change):
    row = GOOD | change
    path = folder / "samples.tsv"
    quoted = ['"' + value.replace('"', '""') + '"' for value in row.values()]
    path.write_text("\t".join(row) + "\n" + "\t".join(quoted) + "\n", encoding="utf-8", newline="")
    return sheet.read_samples(path)


REFUSED = [
    ("subject", "../x", "'../x'", f"{LETTERS}."),
    ("subject", "/abs", "'/abs'", f"{LETTERS}."),
    ("subject", "a;b", "'a;b'", f"{LETTERS}."),
    ("subject", "$(id)", "'$(id)'", f"{LETTERS}."),
    ("subject", "`id`", "'`id`'", f"{LETTERS}."),
    ("subject", 'a"b', "'a\"b'", f"{LETTERS}."),
    ("subject", "a b", "'a b'", f"{LETTERS}."),
    ("subject", "a\nb", r"'a\nb'", f"{LETTERS}."),
    ("subject", "a\tb", r"'a\tb'", f"{LETTERS}."),
    ("subject", "--output=x", "'--output=x'", f"{LETTERS}."),
    ("subject", "%unit", "'%unit'", f"{LETTERS}."),
    ("subject", "{shard}", "'{shard}'", f"{LETTERS}."),
    ("subject", "=cmd", "'=cmd'", f"{LETTERS}."),
    ("subject", "<img src=x onerror=alert(1)>", "'<img src=x onerror=alert(1)>'", f"{LETTERS}."),
    ("subject", "\u0430dam", r"'\u0430dam'", f"{LETTERS}."),  # a Cyrillic letter that looks like a
    ("subject", "\u0661", r"'\u0661'", f"{LETTERS}."),  # a digit, but not of ASCII
    ("subject", "a\u202eb", r"'a\u202eb'", f"{LETTERS}."),
    ("subject", "a\x00b", r"'a\x00b'", f"{LETTERS}."),
    ("subject", "a" * 49, "'" + "a" * 49 + "'", f"{LETTERS}."),
    ("subject", "a" * 100, "'" + "a" * 59 + "... (100 characters)", f"{LETTERS}."),
    ("session", "..", "'..'", f"{LETTERS}, or empty."),
    ("site", "</script>", "'</script>'", SITE),
    ("sequence", "-x", "'-x'", SEQUENCE),
    ("sequence", "a/../b", "'a/../b'", SEQUENCE),
    ("metab", "a\nb.dat", r"'a\nb.dat'", FILE),
    ("metab", "a\tb.dat", r"'a\tb.dat'", FILE),
    ("metab", "a\x1b[2Jb.dat", r"'a\x1b[2Jb.dat'", FILE),
    ("metab", "a\x00b.dat", r"'a\x00b.dat'", FILE),
    ("metab", "{shard}.dat", "'{shard}.dat'", FILE),
    ("metab", "<results>/a.dat", "'<results>/a.dat'", FILE),
    ("metab", "%unit.dat", "'%unit.dat'", FILE),
    ("metab", "a%folder/b.dat", "'a%folder/b.dat'", FILE),
    ("metab", "%own", "'%own'", FILE),
    ("metab", "gpj.\u202etad", r"'gpj.\u202etad'", FILE),
    ("exclude", "=HYPERLINK(1)", "'=HYPERLINK(1)'", EXCLUDE),
    ("exclude", "@x", "'@x'", EXCLUDE),
    ("exclude", "a\nb", r"'a\nb'", EXCLUDE),
    ("exclude", "x" * 501, "'" + "x" * 59 + "... (501 characters)", EXCLUDE),
]


@pytest.mark.parametrize(("column", "value", "found", "expected"), REFUSED)
def test_a_name_in_the_sheet_is_refused_in_one_line(tmp_path, column, value, found, expected):
    with pytest.raises(InputError) as error:
        read(tmp_path, **{column: value})
    assert str(error.value) == f"{tmp_path}/samples.tsv row 2, column {column}: found {found}, expected: {expected}"
    assert str(error.value).isprintable()


def test_a_path_that_a_program_would_take_for_an_option_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for value in ("--output=x", "./-x", "a/../-x"):
        with pytest.raises(InputError, match=r"^samples.tsv row 2, column metab: '-.*' begins with -, expected a path"):
            read(Path(), metab=value)
    assert read(Path(), metab="raw/--output=x")[0]["metab"] == "raw/--output=x"


def test_a_name_too_long_for_any_file_is_refused(tmp_path):
    assert read(tmp_path, metab="\xe9" * 127)
    with pytest.raises(
        InputError, match=r"column metab: '(\\xe9){14}\\xe\.\.\. \(128 characters\), expected names of at most 255"
    ):
        read(tmp_path, metab="\xe9" * 128)


@pytest.mark.parametrize(
    "value",
    ["../elsewhere/a.dat", "/abs/a.dat", "a b;$(id)`id`'\"&|*?!#~\\.dat", "Jos\xe9 \u5f20.dat", "100%.dat", "=a"],
)
def test_other_paths_of_raw_files_are_taken_as_they_are(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    assert Path(read(Path(), metab=value)[0]["metab"]).resolve() == (tmp_path / value).resolve()


@pytest.mark.parametrize(
    ("path", "bad"),
    [
        ("a$(id)", "'$'"),
        ("O'Brien", '"\'"'),
        ('a"b', "'\"'"),
        ("a`id`", "'`'"),
        ("a\\b", r"'\\'"),
        ("a!b", "'!'"),
        ("a\xa0b", r"'\xa0'"),
    ],
)
def test_a_path_that_no_job_of_a_cluster_can_be_given_is_refused(path, bad):
    names.check_cluster_paths(["a b;c&d|e*f?g#h~i(j) 100%=\xe9 \u5f20.dat", Path("b")])
    with pytest.raises(InputError) as error:
        names.check_cluster_paths(["b", path])
    assert str(error.value) == (
        f"{names.shown(path)} has {bad}, which no job of a cluster can be given safely; rename the file or folder, or "
        "run the study on this machine (--executor local)"
    )


def test_a_sheet_that_is_no_text_is_refused_in_one_line(tmp_path):
    (tmp_path / "samples.tsv").write_bytes(b"subject\xff\n")
    with pytest.raises(InputError, match=r"samples.tsv: 'utf-8' codec .*; expected a tab-separated table in UTF-8"):
        sheet.read_samples(tmp_path / "samples.tsv")
    with pytest.raises(InputError, match=r"samples.tsv: field larger than field limit"):
        read(tmp_path, exclude="x" * 140_000)
    (tmp_path / "samples.tsv").write_text("\x1b]0;x\x07\n")
    with pytest.raises(InputError, match=r"row 1: unknown column '\\x1b\]0;x\\x07'"):
        sheet.read_samples(tmp_path / "samples.tsv")


def bids(folder, name="sub-01_acq-press", people=""):
    scan = folder / "sub-01" / "mrs" / f"{name}_svs.nii.gz"
    scan.parent.mkdir(parents=True)
    with gzip.open(scan, "wb") as stream:
        stream.write(b"{}")
    if people:
        (folder / "participants.tsv").write_text(people, encoding="utf-8")
    return sheet.read_samples(folder)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("sub-01;id_acq-press", f"column subject: found '01;id', expected: {LETTERS}."),
        ("sub-$(id)_acq-press", f"column subject: found '$(id)', expected: {LETTERS}."),
        ("sub-01\n_acq-press", rf"column subject: found '01\n', expected: {LETTERS}."),
        ("sub-01_ses-`id`_acq-press", f"column session: found '`id`', expected: {LETTERS}, or empty."),
        ("sub-01_acq-<img src=x>", f"column sequence: found '<img src=x>', expected: {SEQUENCE}"),
        ("sub-01_acq--x", f"column sequence: found '-x', expected: {SEQUENCE}"),
        ("sub-01_acq-%own", f"column sequence: found '%own', expected: {SEQUENCE}"),
        ("acq-press", f"column subject: found '', expected: {LETTERS}."),
        ("sub-01_x{y}_acq-press", f"expected: {FILE}"),
    ],
)
def test_names_in_a_bids_folder_are_refused_like_those_of_a_sheet(tmp_path, name, words):
    with pytest.raises(InputError) as error:
        bids(tmp_path, name)
    assert str(error.value).endswith(words) and str(error.value).isprintable()


WORDS = "expected letters and digits (ASCII), space, . _ and -, at most 48, a letter or digit first; rename it"


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("site", "<img src=x onerror=alert(1)>", f"column site: '<img src=x onerror=alert(1)>', {WORDS}"),
        ("site", "=cmd|x", f"column site: '=cmd|x', {WORDS}"),
        ("site", "--help", f"column site: '--help', {WORDS}"),
        ("site", "{{7*7}}", f"column site: '{{{{7*7}}}}', {WORDS}"),
        ("vendor", "a;b", f"column vendor: 'a;b', {WORDS}"),
        (
            "split",
            "$(id)",
            "column split: found '$(id)', expected: train, validation, test, or empty for a seeded split.",
        ),
    ],
)
def test_words_of_participants_are_refused(tmp_path, column, value, words):
    with pytest.raises(InputError) as error:
        bids(tmp_path, people=f"participant_id\t{column}\nsub-01\t{value}\n")
    assert str(error.value) == f"{tmp_path}/participants.tsv, sub-01, {words}"


def test_a_bids_folder_may_call_its_sites_and_vendors_as_it_likes(tmp_path):
    (row,) = bids(tmp_path, people="participant_id\tsite\tvendor\nsub-01\tP3 St. John-1\tn/a\n")
    assert (row["site"], row["vendor"]) == ("P3 St. John-1", "n/a")


@pytest.mark.parametrize(
    ("people", "words"),
    [
        ("subject\n01\n", " row 1: no column 'participant_id', expected tab-separated columns, that one first"),
        (
            "participant_id\tsite\nsub-01\tA\n\t\nsub-01\tB\n",
            " row 4: 'sub-01' stands in a row above already; keep the row that is meant",
        ),
        ("participant_id\tsite\n01\tA\n", ": no row of sub-01, expected one of each subject with MRS; add it"),
        ("participant_id\tsite\tsplit\nsub-01\ttest\n", " row 2: 3 columns expected; check the tabs"),
        (
            "participant_id\tsite\tsite\nsub-01\tA\tB\n",
            " row 1: column 'site' stands there twice; keep the one that is meant",
        ),
    ],
)
def test_a_table_of_participants_that_does_not_tell_is_refused(tmp_path, people, words):
    with pytest.raises(InputError) as error:
        bids(tmp_path, people=people)
    assert str(error.value) == f"{tmp_path}/participants.tsv{words}"


def test_a_scan_that_stands_twice_in_a_bids_folder_is_refused(tmp_path):
    bids(tmp_path)
    (tmp_path / "sub-01" / "mrs" / "sub-01_acq-press_svs.nii").write_bytes(b"{}")
    with pytest.raises(InputError) as error:
        sheet.read_samples(tmp_path)
    assert str(error.value) == (
        f"{tmp_path} sub-01/mrs/sub-01_acq-press_svs.nii.gz: sub-01_acq-press stands in "
        "sub-01/mrs/sub-01_acq-press_svs.nii already; give the second scan another session or sequence"
    )


CONFIG = {
    "study": "a",
    "samples": "s.tsv",
    "seed": 1,
    "basis": {"sets": [{"name": "m", "files": {"off": "a.basis"}}]},
    "phantom": {"basis": {"siemens": "m"}},
    "evaluate": {"ratios": ["OFF:tNAA"]},
}
PATH = "without { } < >, control or direction characters, or - at the start."


def changed(value, *keys):
    config = copy.deepcopy(CONFIG)
    place = config
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    return config


@pytest.mark.parametrize(
    ("keys", "values"),
    [
        (("study",), ["../x", "/abs", "a;b", "$(id)", "a b", "a\n", "-x", "%unit", "{x}", "<x>", "\u0430", "a" * 65]),
        (("results",), ["a;b", "$(id)", "a b", "a\n", "-x", "%unit", "{x}", "r\u202e", ""]),
        (("samples",), ["--output=x", "{shard}.tsv", "<results>", "a\nb", "a\n", "a\x00", "a\u202e", ""]),
        (("licence",), ["a b", "https://x/<script>", 'https://x/"', "https://x/{x}", "MIT\n", "-x", "javascript:1"]),
        (("phantom", "basis", "siemens"), ["../../etc", "{shard}", "a;b", "m\n"]),
        (("basis", "sets", 0, "name"), ["../x", "a|b", ".*", "a\n", "%own", "-x", "a" * 49]),
        (("basis", "sets", 0, "files", "off"), ["--output=x", "{set}", "<results>/a", "a\n"]),
        (("evaluate", "ratios", 0), ["OFF:a;b", "OFF:tNAA\n", "--x", "OFF:<b>"]),
        (("quantify",), [{"baseline": "poly, 2\n"}, {"ignore": ["$(id)"]}, {"ignore": ["--x"]}]),
        (("engine_agreement",), [{"published": "-x"}, {"published": "a{x}"}]),
        (("grid",), [{"models": ["../x"]}, {"seeds": ["1;id"]}]),
        (("augment",), [{"controls": ["$(id)"]}]),
        (("minimum_reporting",), [{"rf_coils": "=cmd"}, {"rf_coils": {"A": "-1"}}, {"shimming": "a\x1b[2J"}]),
        (("<img src=x onerror=alert(1)>",), [1]),
    ],
)
def test_a_name_in_the_config_is_refused_in_one_line(keys, values):
    for value in values:
        with pytest.raises(InputError) as error:
            names.check_config(changed(value, *keys))
        assert str(error.value).startswith("config, ") and str(error.value).isprintable(), value
        assert len(str(error.value)) < 400


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("train: {epochs: 2}\nseed: 1\ntrain: {beta: 1}\n", "row 3: the key 'train' stands in row 1 already"),
        ("train:\n  epochs: 2\n  beta: 1\n  epochs: 3\n", "row 4: the key 'epochs' stands in row 2 already"),
        ("a:\n- b: 1\n- {c: 1, c: 1}\n", "row 3: the key 'c' stands in row 3 already"),
        ('{"a": 1,\n "a": 2}', "row 2: the key 'a' stands in row 1 already"),
        ("a: &x {b: 1}\nc: *x\nd: [*x, *x]\nb: 1\n", ""),
        ("a: &x [b]\nc: &y [*x, *x]\n" + "".join(f"d{n}: &d{n} [*y, *y]\n" for n in range(9)), ""),
        ("", ""),
        ('{\n\t"a": 1\n}', ""),
    ],
)
def test_a_key_that_stands_twice_in_the_config_is_refused(tmp_path, text, words):
    (tmp_path / "c.yaml").write_text(text)
    if not words:
        names.check_keys(tmp_path / "c.yaml")
        return
    with pytest.raises(InputError) as error:
        names.check_keys(tmp_path / "c.yaml")
    assert str(error.value) == f"{tmp_path}/c.yaml {words}; make one of the two"


def test_refusals_of_the_config_say_what_was_found_and_expected():
    def said(value, *keys):
        with pytest.raises(InputError) as error:
            names.check_config(changed(value, *keys))
        return str(error.value)

    assert said("x\n", "study") == (
        r"config, study: found 'x\n', expected: Name of the study and of its folder below `results`: letters, digits, "
        "_ and -, at most 64."
    )
    assert said("a|b", "basis", "sets", 0, "name") == (
        "config, basis: sets: 0: name: found 'a|b', expected: Name of the set's folder: letters and digits, at most 48."
    )
    assert said("{x}", "samples").endswith(f"relative to the working directory; {PATH}")
    assert said(1, "x;y") == (
        "config, top level: Additional properties are not allowed ('x;y' was unexpected); correct the key "
        "(config/README.md explains all)"
    )
    assert said("1", "seed").startswith("config, seed: found '1', expected: type integer. The one seed:")


def test_configs_with_odd_but_harmless_paths_are_taken():
    for value in ("a b;$(id)`id`'\".tsv", "/abs/../s.tsv", "Jos\xe9/s.tsv"):
        names.check_config(changed(value, "samples"))
    names.check_config(changed("https://example.org/a?b=1", "licence"))
    names.check_config(changed("../results", "results"))


def test_every_text_of_the_schemas_has_a_pattern_that_no_line_end_slips_through():
    """Python's `$` also matches before a last newline."""

    def texts(content, where=()):
        if isinstance(content, dict):
            if content.get("type") == "string" or "pattern" in content:
                yield ".".join(where), content.get("pattern", "")
            for key, value in content.items():
                yield from texts(value, (*where, key))

    for path in (names.CONFIG_SCHEMA, sheet.SCHEMA):
        found = dict(texts(json.loads(path.read_text())))
        assert len(found) > 8
        for where, pattern in found.items():
            assert pattern.startswith("^") and pattern.endswith("$(?!\\n)"), (path.name, where, pattern)


@pytest.mark.parametrize(
    "name", ["../../../x", "/abs", "a/b", ".x", "a;b", "$(id)", "<img src=x>", "a\n", "=1", "\u0430", "a" * 41, ""]
)
def test_a_basis_spectrum_cannot_be_written_outside_its_folder(tmp_path, name):
    content = {"basis_re": [1.0], "basis_im": [0.0], "basis_dwell": 5e-4, "basis_centre": 123.2, "basis_name": name}
    (tmp_path / "a.json").write_text(json.dumps({"basis": content}))
    with pytest.raises(InputError) as error:
        basis_read.read(tmp_path, "OFF")
    assert str(error.value) == (
        f"{tmp_path}: a basis spectrum is called {names.shown(name)}, expected letters, digits (ASCII) and + - _ . ( ) "
        ", at most 40, a letter, digit, + or - first; rename it"
    )


def test_usual_names_of_basis_spectra_are_taken(tmp_path):
    for name in ("NAA", "-CrCH2", "MM09", "Lip13a", "GABA+", "2HG", "3-HB", "MM3co"):
        content = {"basis_re": [1.0], "basis_im": [0.0], "basis_dwell": 5e-4, "basis_centre": 123.2, "basis_name": name}
        (tmp_path / "a.json").write_text(json.dumps({"basis": content}))
        assert basis_read.read(tmp_path, "OFF").names == [name]
