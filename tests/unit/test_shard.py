"""Shards: every scan done once, finished ones kept, no partial file taken for a result."""

import json
import sys
import types
from pathlib import Path

import pytest

from mrs_synthesis import records, shard, stage
from mrs_synthesis.files import read_table, write_text

IDS = ["nothing", "added", "order", "words", "code", "input", "lost-input", "lost", "cut", "status", "status-cut"]
IDS += ["shared", "forced", "other-forced"]
COUNT: list[str] = []  # scans that the stage below was called for


def copy_upper(argv):
    """A stage: write what is in a file in capitals."""
    words = dict(zip(argv[::2], argv[1::2], strict=True))
    COUNT.append(words["--unit"])

    def work():
        text = stage.require(words["--scan"]).read_text()
        if text == "bad":
            raise stage.InputError(f"{words['--scan']}: bad, expected good; correct it")
        if text == "bug":
            write_text(words["--output"], "half")
            raise ZeroDivisionError("a bug")
        if text == "disk":
            raise OSError("No space left on device")
        write_text(words["--output"], text.upper() * int(words["--times"]))
        return {"length": len(text)}

    for name in ("--scan", "--output", "--status"):
        words[name] = Path(words[name])
    stage.run_subject(work, stage="upper", unit=words["--unit"], outputs=[words["--output"]], status=words["--status"])


@pytest.fixture(autouse=True)
def a_stage(monkeypatch):
    COUNT.clear()
    module = types.ModuleType("mrs_synthesis.upper")
    module.main = copy_upper
    monkeypatch.setitem(sys.modules, "mrs_synthesis.upper", module)


@pytest.fixture
def study(tmp_path):
    folder = tmp_path / "study"
    for name in "abc":
        (folder / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "in" / name).write_text(f"text of {name}")
    return folder


def go(study, names="abc", times=1, code="1", shared=()):
    units = [{"unit": name, "folder": f"sub-{name}", "words": ["--times", times]} for name in names]
    argv = ["--units", json.dumps(units), "--record", study / "records" / "upper" / "seen-0001.json", "--study", study]
    argv += ["--code", code, "--reads", study / "in" / "%unit", "--writes", study / "out" / "%folder" / "%unit.txt"]
    argv += ["--shared", *shared, "--", "upper", "--scan", study / "in" / "%unit", "%own"]
    argv += ["--output", study / "out" / "%folder" / "%unit.txt"]
    shard.main([str(word) for word in argv])
    done, _ = COUNT[:], COUNT.clear()
    return done, json.loads((study / "records" / "upper" / "seen-0001.json").read_text())


def test_scans_stay_in_their_shards_when_others_are_added():
    few = records.divide(["a", "b", "c", "d", "e"], 2, "seen")
    more = records.divide(["a", "b", "c", "d", "e", "f", "g"], 2, "seen")
    assert few == {"seen-0001": ["a", "b"], "seen-0002": ["c", "d"], "seen-0003": ["e"]}
    assert [more[name][: len(few[name])] for name in few] == list(few.values())


def test_names_of_thousands_of_records_fit_into_one_command():
    names = [f"r/convert/{name}.json" for part in ("seen", "heldout") for name in records.divide(range(1234), 1, part)]
    assert records.compact(names) == ["r/convert/seen-0001..1234.json", "r/convert/heldout-0001..1234.json"]
    gaps = [names[k] for k in (0, 1, 4, 1236, 1237, 2)]
    for some in (names, gaps, names[:1], [], [f"r/x/{name}.json" for name in records.divide(range(12000), 1, "seen")]):
        assert [str(path) for path in records.expand(records.compact(some))] == some
    assert records.expand(["other.json"]) == [Path("other.json")]


def test_every_scan_is_done_and_recorded_with_hashes_and_without_times(study):
    done, record = go(study)
    assert done == ["a", "b", "c"]
    first = record["units"][0]
    assert (first["status"], first["length"]) == ("ok", 9)
    # printf 'TEXT OF A' | sha256sum
    digest = "64e5af15a6293f28f0b121670292eb4ada4b3d908d8f1464f738925fab823535"
    assert first["files"] == {"out/sub-a/a.txt": {"bytes": 9, "sha256": digest}}
    assert (study / "out" / "sub-a" / "a.txt").read_text() == "TEXT OF A"
    before = (study / "records" / "upper" / "seen-0001.json").read_bytes()
    (study / "records" / "upper" / "seen-0001.json").unlink()
    go(study)
    assert (study / "records" / "upper" / "seen-0001.json").read_bytes() == before


def test_times_are_told_beside_the_record(study):
    go(study, "ab")
    times = read_table(study / "benchmarks" / "upper" / "seen-0001.units.tsv")
    assert times["unit"].tolist() == ["a", "b", "start-up"]
    assert times["kept"].tolist() == [0, 0, 0]
    assert times["cpu_seconds"].iloc[-1] > 0


@pytest.mark.parametrize(
    ("change", "again"),
    [
        (lambda study: {}, ""),
        (lambda study: {"names": "abcd"}, "d"),
        (lambda study: {"names": "cab"}, ""),
        (lambda study: {"times": 2}, "abc"),
        (lambda study: {"code": "2"}, "abc"),
        (lambda study: (study / "in" / "b").write_text("new") and {}, "b"),
        (lambda study: (study / "in" / "b").unlink() or {}, ""),  # what was made of a lost raw file is still true
        (lambda study: (study / "out" / "sub-b" / "b.txt").unlink() or {}, "b"),
        (lambda study: (study / "out" / "sub-b" / "b.txt").write_text("TEXT") and {}, "b"),  # cut short
        (lambda study: (study / "status" / "upper" / "sub-c" / "c.json").unlink() or {}, "c"),
        (lambda study: (study / "status" / "upper" / "sub-c" / "c.json").write_text('{"sta') and {}, "c"),
        (lambda study: (study / "common").write_text("new") and {}, "abc"),
        (lambda study: records.forget(study, {"upper"}) or {}, "abc"),
        (lambda study: records.forget(study, {"lower"}) or {}, ""),
    ],
    ids=IDS,
)
def test_exactly_what_a_change_asks_for_is_made_again(study, change, again):
    (study / "in" / "d").write_text("text of d")
    (study / "common").write_text("old")
    go(study, shared=[study / "common"])
    done, record = go(study, shared=[study / "common"], **change(study))
    assert done == list(again)
    assert all(unit["status"] == "ok" for unit in record["units"])


def test_a_failed_scan_stops_no_other_and_is_tried_again(study):
    (study / "in" / "b").write_text("bad")
    done, record = go(study)
    assert done == ["a", "b", "c"]
    assert [unit["status"] for unit in record["units"]] == ["ok", "failed", "ok"]
    assert "expected good" in record["units"][1]["reason"]
    assert record["units"][1]["files"] == {}
    assert (study / "out" / "sub-b" / "b.txt").read_bytes() == b""
    (study / "in" / "b").write_text("good")
    assert go(study)[0] == ["b"]


def test_a_fault_of_the_program_costs_only_its_scan(study):
    (study / "in" / "b").write_text("bug")
    _, record = go(study)
    assert [unit["status"] for unit in record["units"]] == ["ok", "failed", "ok"]
    assert "unexpected ZeroDivisionError: a bug" in record["units"][1]["reason"]
    assert (study / "out" / "sub-b" / "b.txt").read_bytes() == b""  # what it had written is no result


def test_a_full_disk_ends_the_job_and_keeps_what_is_done(study):
    (study / "in" / "b").write_text("disk")
    with pytest.raises(OSError, match="No space"):
        go(study)
    assert not (study / "records").exists()
    COUNT.clear()
    (study / "in" / "b").write_text("fine")
    assert go(study)[0] == ["b", "c"]


def test_a_killed_scan_is_not_vouched_for_by_an_older_run(study, monkeypatch):
    go(study)

    def killed(argv):
        write_text(study / "out" / "sub-a" / "a.txt", "TEXT OF B")  # of the same size
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["mrs_synthesis.upper"], "main", killed)
    with pytest.raises(KeyboardInterrupt):
        go(study, times=2)
    monkeypatch.setattr(sys.modules["mrs_synthesis.upper"], "main", copy_upper)
    assert go(study, times=1)[0] == ["a"]
    assert (study / "out" / "sub-a" / "a.txt").read_text() == "TEXT OF A"


def test_lost_files_are_noticed_by_their_record(study):
    go(study)
    assert records.lost(study) == {}
    (study / "out" / "sub-b" / "b.txt").unlink()
    assert records.lost(study) == {study / "records" / "upper" / "seen-0001.json": ["b"]}


def test_names_of_raw_files_are_not_recorded(study, tmp_path):
    raw = tmp_path / "Jane_Doe.dat"
    raw.write_text("raw")
    units = [{"unit": "a", "folder": "sub-a", "words": ["--scan", str(raw)], "reads": {"metab": str(raw)}}]
    argv = [
        "--units",
        json.dumps(units),
        "--record",
        str(study / "records" / "upper" / "x.json"),
        "--study",
        str(study),
    ]
    argv += ["--code", "1", "--writes", str(study / "out.txt")]
    argv += ["--", "upper", "%own", "--times", "1", "--output", str(study / "out.txt")]
    shard.main(argv)
    assert all("Jane" not in path.read_text() for path in study.rglob("*.json"))


def test_later_stages_of_a_chain_follow_and_temporary_files_go(study):
    units = [{"unit": name, "folder": f"sub-{name}"} for name in "ab"]
    (study / "in" / "b").write_text("bad")
    first, second = str(study / "first" / "%unit"), str(study / "second" / "%unit")
    argv = ["--units", json.dumps(units), "--record", str(study / "records" / "two" / "x.json"), "--study", str(study)]
    argv += ["--code", "1", "--reads", str(study / "in" / "%unit"), "--writes", second, "--temporary", first]
    argv += ["--", "upper", "--scan", str(study / "in" / "%unit"), "--times", "1", "--output", first]
    argv += ["--", "upper", "--scan", first, "--times", "2", "--output", second]
    shard.main(argv)
    good, bad = json.loads((study / "records" / "two" / "x.json").read_text())["units"]
    assert (study / "second" / "a").read_text() == "TEXT OF A" * 2
    assert list(good["files"]) == ["second/a"]
    assert bad["status"] == "failed" and "expected good" in bad["reason"]  # the first failure, not what followed
    assert not list((study / "first").iterdir())
