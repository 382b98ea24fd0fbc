"""A model whose files are damaged, exchanged, or of another study is refused in one line."""

import hashlib
import json
import struct

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch

from mrs_synthesis import augment, evaluate, generator, model_files, subject_model, vae
from mrs_synthesis.stage import InputError
from mrs_synthesis.subject_model import SubjectModel

W, CODES = 32, 3
PPM = np.linspace(0.5, 4.0, W).tolist()
GRID = {"ppm": PPM, "frequency_mhz": 123.2, "conditions": ["OFF", "ON"], "split_unit": "subject"}
GRID |= {"n_points": 2048, "dwell_s": 5e-4, "window_ppm": [0.5, 4.0], "spectra_sha256": "a" * 64}


def write_paper(folder, grid=GRID):
    model = vae.SpectrumVAE(W, 2, latent_size=4, channels=(4, 6), kernel=5)
    config = {"model": "paper", "architecture": vae.architecture(model, (4, 6), 5), "grid": grid}
    vae.save_model(folder, model, config)


def write_subject(folder, grid=GRID):
    rng = np.random.default_rng(1)
    model = SubjectModel(
        rng.standard_normal((2, W)) + 1j,
        np.linalg.qr(rng.standard_normal((4 * W, CODES)))[0].T,
        np.ones(CODES),
        np.eye(CODES),
        np.zeros(CODES),
        {"a": np.zeros(CODES), "b": np.ones(CODES)},
        9,
    )
    subject_model.save(folder, model, {"model": "subject", "grid": grid})


WRITE = {"paper": write_paper, "subject": write_subject}
SHAPED = {"paper": "code_mean", "subject": "variances"}  # a tensor of each


@pytest.fixture(params=WRITE)
def model(request, tmp_path):
    WRITE[request.param](tmp_path / "model")
    return tmp_path / "model"


def load(folder):
    return generator.load(folder, "a")


def refusal(folder, call=load):
    with pytest.raises(InputError) as caught:
        call(folder)
    text = str(caught.value)
    assert "\n" not in text and len(text) < 600, text
    assert text.endswith("; train the model again")
    return text.replace(f"{folder}/", "")


def configured(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps(config | changes))
    return config


def vouch(folder):
    """Let config.json name the weights that lie there, as one who exchanges both would."""
    configured(folder, weights_sha256=hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest())


def reweigh(folder, change, listed=False):
    """Change the tensors, and let config.json name them (and list them)."""
    path = folder / "model.safetensors"
    tensors = change(dict(safetensors.numpy.load(path.read_bytes())))
    path.write_bytes(safetensors.numpy.save(tensors))
    vouch(folder)
    if listed:
        names = {name: {"dtype": str(one.dtype), "shape": list(one.shape)} for name, one in tensors.items()}
        configured(folder, tensors=names)


def test_config_states_format_hash_and_every_tensor(model):
    config = json.loads((model / "config.json").read_text())
    content = (model / "model.safetensors").read_bytes()
    assert config["format"] == 1 and config["weights_sha256"] == hashlib.sha256(content).hexdigest()
    (size,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + size])
    names = {"F32": "float32", "F64": "float64"}
    stated = {name: {"dtype": names[one["dtype"]], "shape": one["shape"]} for name, one in header.items()}
    assert config["tensors"] == stated
    load(model)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("", "Expecting value: line 1 column 1 (char 0)"),
        ("[1, 2]", "it holds a list, expected an object"),
        ("null", "it holds a NoneType, expected an object"),
        ('{"model": "paper"', "Expecting ',' delimiter: line 1 column 18 (char 17)"),
        ("{}", "model None, expected paper or subject"),
        ('{"model": ["paper"]}', "model ['paper'], expected paper or subject"),
        ('{"model": "paper"}', "format None, expected 1"),
        ('{"model": "subject", "format": 2}', "format 2, expected 1"),
        ('{"model": "subject", "format": 1, "grid": 3}', "no object grid"),
        ("[" * 100_000, "maximum recursion depth exceeded while decoding a JSON array from a unicode string"),
    ],
)
def test_no_usable_config(tmp_path, text, found):
    (tmp_path / "config.json").write_text(text)
    expected = f"config.json: no usable config of a model ({found}); train the model again"
    assert refusal(tmp_path) == expected
    assert refusal(tmp_path, generator.read_config) == expected


def test_no_files(tmp_path, model):
    assert "config.json: no usable config of a model ([Errno 2] No such file or directory" in refusal(tmp_path)
    (model / "model.safetensors").unlink()
    assert "model.safetensors: weights refused ([Errno 2] No such file or directory" in refusal(model)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"weights_sha256": None}, "weights_sha256 'None', expected 64 hexadecimal digits"),
        ({"weights_sha256": "x" * 900}, f"weights_sha256 '{'x' * 70}', expected 64 hexadecimal digits"),
        ({"grid": GRID | {"ppm": "4.0"}}, "grid: ppm is no list of increasing numbers"),
        ({"grid": GRID | {"ppm": [1.0, float("nan"), 2.0]}}, "grid: ppm is no list of increasing numbers"),
        ({"grid": GRID | {"ppm": PPM[::-1]}}, "grid: ppm is no list of increasing numbers"),
        ({"grid": GRID | {"conditions": ["OFF", "OFF"]}}, "grid: conditions is no list of different names"),
        ({"grid": GRID | {"conditions": []}}, "grid: no conditions"),
    ],
)
def test_a_config_that_says_nothing_of_use(model, changes, found):
    configured(model, **changes)
    assert refusal(model) == f"config.json: no usable config of a model ({found}); train the model again"


def bad_header(content):
    return content[:8] + b"\xff" * 40 + content[48:]


UNCOVERED = "incomplete metadata, file not fully covered"
DAMAGE = {  # of the file's bytes, and what is said if config.json names even these
    "a bit": (lambda content: content[:-1] + bytes([content[-1] ^ 64]), None),
    "truncated": (lambda content: content[: len(content) // 2], UNCOVERED),
    "more behind the tensors": (lambda content: content + b"MZ", UNCOVERED),
    "no bytes": (lambda content: b"", "header too small"),
    "text": (lambda content: b"<html>not found</html>", "header too large"),
    "a pickle": (lambda content: b"\x80\x04cos\nsystem\n(S'true'\ntR.", "header too large"),
    "a header of no text": (bad_header, "invalid UTF-8 in header: invalid utf-8 sequence of 1 bytes from index 0"),
    "a header of 2^60 bytes": (lambda content: struct.pack("<Q", 1 << 60) + content[8:], "header too large"),
    "a header longer than the file": (
        lambda content: struct.pack("<Q", 90_000_000) + content[8:],
        "invalid header length",
    ),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_weights(model, damage):
    change, found = DAMAGE[damage]
    path = model / "model.safetensors"
    good = hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(content := change(path.read_bytes()))
    digest = hashlib.sha256(content).hexdigest()
    assert refusal(model) == (
        f"model.safetensors: weights refused (SHA-256 {digest[:12]}..., config.json names {good[:12]}...); "
        "train the model again"
    )
    if found:
        vouch(model)
        assert refusal(model) == (
            f"model.safetensors: weights refused (no tensors (Error while deserializing: {found})); "
            "train the model again"
        )


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(model, value):
    def spoil(tensors):
        for name in sorted(tensors)[-1:]:
            tensors[name] = np.full_like(tensors[name], value)
        return tensors

    reweigh(model, spoil)
    assert "holds numbers that are not finite); train the model again" in refusal(model)


@pytest.mark.parametrize("listed", [False, True])  # by config.json, too
def test_other_tensors(model, listed):
    name = SHAPED[json.loads((model / "config.json").read_text())["model"]]
    good = safetensors.numpy.load((model / "model.safetensors").read_bytes())[name]
    what = f"{good.dtype} {good.shape}"
    cases = [
        ({name: None}, f"no tensor {name}, which the model in config.json has"),
        ({"another": good}, "tensor another, which the model in config.json has not"),
        ({name: good.astype(np.float16)}, f"{name} is float16 {good.shape}, the model in config.json has {what}"),
        ({name: good.astype(np.int32)}, f"{name} is int32 {good.shape}, the model in config.json has {what}"),
        ({name: good[..., :-1]}, f"{name} is {good.dtype} {good[..., :-1].shape}, the model in config.json has {what}"),
    ]
    content = {one: (model / one).read_bytes() for one in ("config.json", "model.safetensors")}
    for change, found in cases:
        reweigh(model, lambda t, new=change: {k: v for k, v in (t | new).items() if v is not None}, listed)
        assert refusal(model) == f"model.safetensors: weights refused ({found}); train the model again"
        for one, original in content.items():
            (model / one).write_bytes(original)


@pytest.mark.parametrize(
    ("tensors", "found"),
    [
        (None, "config.json lists no tensors"),
        ([1], "config.json lists no tensors"),
        ({"x": {"dtype": "float32"}}, "config.json lists no tensors"),
        ({}, ", which the list in config.json has not"),
    ],
)
def test_a_list_of_tensors_that_is_wrong(model, tensors, found):
    configured(model, tensors=tensors)
    assert found in refusal(model)


NONE = "config.json: no architecture of this model ("
ARCHITECTURES = [
    ("paper", {"latent_size": 5}, "code_covariance is float32 (2, 4, 4), ... float32 (2, 5, 5)"),
    ("paper", {"latent_size": 10**9}, "code_covariance is float32 (2, 4, 4), ... float32 (2, 1000000000, 1000000000)"),
    ("paper", {"latent_size": "4"}, NONE),
    ("paper", {"latent_size": -4}, NONE),
    ("paper", {"channels": []}, f"{NONE}list index out of range)"),
    ("paper", {"channels": [4, 7]}, "down.2.bias is float32 (6,), ... float32 (7,)"),
    ("paper", {"kernel": 4}, f"{NONE}width 32, 2 channels, kernel 4, likelihood analytic: expected"),
    ("paper", {"likelihood": "other"}, f"{NONE}width 32, 2 channels, kernel 5, likelihood other: expected"),
    ("paper", {"code": "print(1)"}, f"{NONE}SpectrumVAE.__init__() got an unexpected keyword argument 'code')"),
    ("paper", {"width": 64}, f"{NONE}the grid has 32 points, 2 conditions, the model 64, 2)"),
    ("subject", {"codes": 4}, "directions is float32 (3, 128), ... float32 (4, 128)"),
    ("subject", {"codes": -1}, f"{NONE}n_subjects 9, codes -1)"),
    ("subject", {"n_subjects": 0}, f"{NONE}n_subjects 0, codes 3)"),
    ("subject", {"sites": ["a", "a"]}, f"{NONE}sites is no list of different names)"),
    ("subject", {"sites": ["a"]}, "site_codes is float64 (2, 3), ... float64 (1, 3)"),
]


@pytest.mark.parametrize(("kind", "changes", "found"), ARCHITECTURES)
def test_another_architecture(tmp_path, kind, changes, found):
    WRITE[kind](tmp_path)
    config = configured(tmp_path)
    configured(tmp_path, architecture=config["architecture"] | changes)
    assert found.replace("...", "the model in config.json has") in refusal(tmp_path)


@pytest.mark.parametrize("architecture", [None, [1, 2], "x", {}])
def test_no_architecture(model, architecture):
    configured(model, architecture=architecture)
    assert "config.json: no architecture of this model (" in refusal(model)


def test_swapped_models(tmp_path):
    for kind, write in WRITE.items():
        write(tmp_path / kind)
    for name in ("config.json", "model.safetensors"):
        for kind, other in (("paper", "subject"), ("subject", "paper")):
            (tmp_path / f"{kind}-{name}").mkdir()
            for one in ("config.json", "model.safetensors"):
                source = other if one == name else kind
                (tmp_path / f"{kind}-{name}" / one).write_bytes((tmp_path / source / one).read_bytes())
            assert "weights refused (SHA-256" in refusal(tmp_path / f"{kind}-{name}")
    assert "model 'paper', expected subject" in refusal(tmp_path / "paper", subject_model.load)
    assert "model 'subject', expected paper" in refusal(tmp_path / "subject", vae.load_model)


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({}, None),
        ({"spectra_sha256": "c" * 64, "part_of": "a" * 64}, None),  # trained on a part of the study
        ({"spectra_sha256": "b" * 64}, "spectra"),
        ({"spectra_sha256": "a" * 64, "part_of": "b" * 64}, "spectra"),
        ({"spectra_sha256": None}, "spectra"),
        ({"ppm": [one + 0.001 for one in PPM]}, "ppm"),
        ({"frequency_mhz": 127.7, "dwell_s": 4e-4}, "dwell_s, frequency_mhz"),
        ({"conditions": ["ON", "OFF"]}, "conditions"),
        ({"split_unit": "transient"}, "split_unit"),
        ({"more": 1}, "more"),
    ],
)
def test_a_model_of_another_study(tmp_path, changes, found):
    write_subject(tmp_path / "model", GRID | changes)
    (tmp_path / "grid.json").write_text(json.dumps(GRID))

    def read(folder):
        return generator.read_config(folder, tmp_path)

    if found is None:
        assert read(tmp_path / "model")["grid"] == GRID | changes
    else:
        text = refusal(tmp_path / "model", read)
        assert text.endswith(f"/model: the model was trained on another study (other {found}); train the model again")


def test_a_study_without_a_grid(tmp_path):
    write_subject(tmp_path / "model")
    with pytest.raises(InputError, match=r"grid\.json: no usable grid \(.*No such file.*\); assemble it again$"):
        generator.read_config(tmp_path / "model", tmp_path)
    (tmp_path / "grid.json").write_text("[]")
    with pytest.raises(InputError, match=r"it holds a list, expected an object\); assemble it again$"):
        generator.read_config(tmp_path / "model", tmp_path)


def test_results_of_one_model_name_it_and_of_several_are_refused(tmp_path):
    """Study cells and tables alike, from the sidecars of what they are made of."""
    units = [{"unit": f"sub-{k}", "folder": f"sub-{k}"} for k in (1, 2)]
    folders = [tmp_path / row["folder"] / "mrs" for row in units]
    synthetic = [folder / f"{row['unit']}_desc-cells_svs.nii.gz" for folder, row in zip(folders, units, strict=True)]
    assert augment.model_of(synthetic) == {} and evaluate.model_of(units, tmp_path) is None
    for folder, row in zip(folders, units, strict=True):
        folder.mkdir(parents=True)
        (folder / f"{row['unit']}_desc-cells_svs.json").write_text('{"ModelSHA256": "a"}')
    assert augment.model_of(synthetic) == {"ModelSHA256": "a"} and evaluate.model_of(units, tmp_path) == "a"
    (folders[1] / "sub-2_desc-cells_svs.json").write_text('{"ModelSHA256": "b"}')
    with pytest.raises(InputError, match=r"made by 2 models; synthesise again$"):
        augment.model_of(synthetic)
    with pytest.raises(InputError, match=r"study cells of 2 models \(a, b\); synthesise again$"):
        evaluate.model_of(units, tmp_path)


def test_arrays_come_back_and_others_are_refused(tmp_path):
    arrays = {"a": np.arange(3), "b": np.array([1 + 2j, 3.5]), "c": np.zeros((0, 2), np.float32), "d": np.array(2.0)}
    digest = model_files.write_arrays(tmp_path / "x", arrays)
    found = model_files.read_arrays(tmp_path / "x", digest)
    assert {name: (one.dtype, one.shape, one.tolist()) for name, one in found.items()} == {
        name: (one.dtype, one.shape, one.tolist()) for name, one in arrays.items()
    }
    assert model_files.write_arrays(tmp_path / "y", arrays) == digest
    for other in (None, "0" * 64):
        with pytest.raises(ValueError, match=r"^SHA-256"):
            model_files.read_arrays(tmp_path / "x", other)
    digest = model_files.write_arrays(tmp_path / "x", {"b": np.array([1, 1j * np.nan])})
    with pytest.raises(ValueError, match="numbers that are not finite"):
        model_files.read_arrays(tmp_path / "x", digest)


def test_layouts_are_told_by_type_and_shape():
    assert model_files.layout_of({"a": np.zeros((2, 3), np.float32)}) == {"a": ("float32", (2, 3))}
