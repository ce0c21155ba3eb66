"""Bundles: what is written loads back the same, and nothing hostile gets in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import shutil
import stat
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from NoisyLabelSegLib import networks
from NoisyLabelSegLib.bundle import (
    UNWRITTEN,
    BrokenBundle,
    Bundle,
    ExpectedAcquisition,
    ExpectedIntensity,
    Label,
    ModelDescription,
    Network,
    Quality,
    TrainingData,
    find_bundle,
    import_bundle,
    list_bundles,
    load_bundle,
    search_folders,
    user_folder,
    write_bundle,
)
from NoisyLabelSegLib.errors import InputError

ARGUMENTS = {"spatial_dims": 2, "in_channels": 4, "out_channels": 4, "features": [4, 4, 4, 4, 4, 4]}
PREPROCESSING = {
    "dimensions": 2,
    "window": [32, 32],
    "margin": 8,
    "spacing": [1.5, 1.5],
    "multiple": 16,
    "intensity": {"rule": "window", "scope": "case", "low": -100, "high": 240.5},
}
LIVER = (
    "Segmentation category and type - 3D Slicer General Anatomy list~SCT^123037004^Anatomical Structure"
    "~SCT^10200004^Liver~^^~Anatomic codes - DICOM master list~^^~^^"
)
DESCRIPTION = ModelDescription(
    format_version=1,
    name="tiny",
    version="0.1.0",
    kind="refine",
    method="rerenet",
    method_arguments={"stages": 3},
    network=Network("unet", ARGUMENTS),
    weights=UNWRITTEN,
    preprocessing=PREPROCESSING,
    labels=(Label(1, "liver", (0.9, 0.5, 0.0), LIVER), Label(3, "lesion", (0, 1, 0.25), "")),
    modality="CT",
    anatomy="liver",
    expected_intensity=(ExpectedIntensity(-1024, None, "CT numbers", "HU"),),
    licence="CC-BY-4.0",
    training_data=(TrainingData("Made up", "CC0", "https://example.org", "Nobody (2024)"),),
    intended_use="Tests.",
    not_for="Anything else.",
    quality=(Quality("Dice", 0.9, "Made up", 3, "mean", None), Quality("HD95", 2.5, "Made up", 3, "mean", "mm")),
    expected_acquisition=ExpectedAcquisition("none", None, (300, 1400.5)),
)


def make(folder: Path, half: bool = False, **changes: Any) -> Bundle:
    description = dataclasses.replace(DESCRIPTION, **changes)
    return write_bundle(folder, description, trained().state_dict(), "# Tiny é\n", "A licence.\n", half)


def trained() -> torch.nn.Module:
    torch.manual_seed(0)
    network = networks.build("unet", **ARGUMENTS)
    network(torch.rand(2, 4, 16, 16))  # gives the batch normalisation statistics of its own
    return network.eval()


@pytest.fixture(scope="module")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(tmp_path_factory.mktemp("template") / "tiny").folder


@pytest.fixture
def folder(template: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(template, tmp_path / "source" / "tiny"))


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for variable in ("HOME", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.delenv("NOISYLABELSEG_MODELS", raising=False)
    return user_folder()


# ---------------------------------------------------------------------------------------------- round trip


@pytest.mark.parametrize(("half", "tolerance"), [(False, 0.0), (True, 5e-3)])
def test_what_is_written_gives_the_same_outputs(tmp_path: Path, half: bool, tolerance: float) -> None:
    bundle = make(tmp_path / "tiny", half)
    network = bundle.network()
    image = torch.rand(1, 4, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(network(image), trained()(image), rtol=0, atol=tolerance)
    assert not network.training
    assert {tensor.dtype for tensor in network.parameters()} == {torch.float32}


def test_half_is_smaller(tmp_path: Path) -> None:
    sizes = [make(tmp_path / str(half), half).description.weights.bytes for half in (False, True)]
    assert sizes[1] < sizes[0]


def test_a_large_weight_stays_in_float32_when_half_cannot_hold_it(tmp_path: Path) -> None:
    network = trained()
    first = next(network.parameters())
    first.data[0, 0, 0, 0] = 1e6
    bundle = write_bundle(tmp_path / "big", DESCRIPTION, network.state_dict(), "", "", half=True)
    torch.testing.assert_close(next(bundle.network().parameters()).data, first.data, rtol=0, atol=0)


def test_the_description_comes_back_equal(folder: Path) -> None:
    loaded = load_bundle(folder).description
    assert dataclasses.replace(loaded, weights=UNWRITTEN) == DESCRIPTION


def test_loading_leaves_the_random_numbers_alone(folder: Path) -> None:
    before = torch.get_rng_state()
    load_bundle(folder).network()
    assert torch.equal(before, torch.get_rng_state())


def test_writing_refuses_what_exists_unless_told(folder: Path) -> None:
    state = trained().state_dict()
    with pytest.raises(InputError, match="exists already"):
        write_bundle(folder, DESCRIPTION, state, "", "", half=False)
    renamed = dataclasses.replace(DESCRIPTION, name="other")
    assert write_bundle(folder, renamed, state, "", "", half=False, overwrite=True).description.name == "other"
    assert os.listdir(folder.parent) == ["tiny"]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda state: state.popitem(), "lack 'final_conv.weight'|lack 'final_conv.bias'"),
        (lambda state: state.update(extra=torch.ones(1)), "hold 'extra'"),
        (lambda state: state["final_conv.bias"].fill_(torch.nan), "NaN"),
        (lambda state: state.update({"final_conv.bias": torch.ones(2).double()}), "F64"),
    ],
)
def test_weights_that_do_not_fit_are_not_written(
    tmp_path: Path, change: Callable[[dict[str, torch.Tensor]], object], sentence: str
) -> None:
    state = dict(trained().state_dict())
    change(state)
    with pytest.raises(InputError, match=sentence):
        write_bundle(tmp_path / "bad", DESCRIPTION, state, "", "", half=False)
    assert os.listdir(tmp_path) == []


def test_monai_reads_the_metadata(folder: Path) -> None:
    from monai.bundle import ConfigParser
    from monai.bundle.properties import MetaProperties
    from monai.utils import BundleProperty, BundlePropertyConfig

    parser = ConfigParser()
    parser.read_meta(folder / "configs" / "metadata.json")
    required = [p for p in MetaProperties.values() if p[BundleProperty.REQUIRED]]
    assert all(isinstance(parser[str(p[BundlePropertyConfig.ID])], str) for p in required)
    assert parser["_meta_::network_data_format::outputs::pred::channel_def"]["3"] == "lesion"
    # what the schema named in the file requires
    keys = {"schema", "required_packages_version", "task", "description", "authors", "copyright", "network_data_format"}
    assert keys <= set(parser["_meta_"])


# ---------------------------------------------------------------------------------------------- hostile: model.json


def edit(folder: Path, *path: Any, value: Any) -> None:
    """Set one entry of model.json."""
    file = folder / "configs" / "model.json"
    content = json.loads(file.read_text("utf-8"))
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    file.write_text(json.dumps(content), "utf-8")


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("format_version",), 2, "newer NoisyLabelSeg"),
        (("format_version",), 0, "format_version must be 1"),
        (("format_version",), True, "format_version must be a whole number"),
        (("surprise",), 1, "unknown key 'surprise'"),
        (("name",), "../../etc", "name must be"),
        (("name",), "a/b", "name must be"),
        (("name",), 5, "name must be a text"),
        (("kind",), "execute", "kind must be one of 'refine'"),
        (("network",), {"name": "unet"}, "network lacks the key 'arguments'"),
        (("network", "arguments"), [1], "arguments must be a JSON object"),
        (("network", "arguments", "in_channels"), 10**12, "in_channels must be at most"),
        (("network", "arguments", "features"), [4] * 1000, "features is longer than"),
        (("weights", "file"), "../model.safetensors", "inside the model's folder"),
        (("weights", "file"), "/etc/model.safetensors", "inside the model's folder"),
        (("weights", "file"), "C:\\model.safetensors", "inside the model's folder"),
        (("weights", "file"), "models/model.pt", "must be a .safetensors file"),
        (("weights", "file"), "models/other.safetensors", "lacks the file models/other.safetensors"),
        (("weights", "bytes"), 17, "bytes instead of 17"),
        (("weights", "bytes"), 10**14, "bytes must be 0 to"),
        (("weights", "sha256"), "abc", "sha256 must be 64 digits"),
        (("labels",), [], "at least one structure"),
        (("labels",), {}, "labels must be a list"),
        (("labels", 1, "value"), 1, "different values"),
        (("labels", 0, "value"), 0, r"labels\[0\]: value must be a whole number from 1"),
        (("labels", 0, "value"), 1.5, r"labels\[0\], value must be a whole number"),
        (("labels", 0, "color"), [1, 2, 3], "three numbers from 0 to 1"),
        (("labels", 0, "color"), [1, 0], "color must have 3 entries, not 2"),
        (("labels", 0, "terminology"), "liver", "TerminologyEntry"),
        (("labels", 0, "name"), "\x1b[2J", "control characters"),
        (("labels", 0, "name"), "\ud800", "control characters"),
        (("labels", 0, "value"), 300, r"labels\[0\]: value must be a whole number from 1 to 255, not 300"),
        (("expected_intensity",), {}, "expected_intensity must be a list"),
        (("expected_intensity", 0, "maximum"), -2000, r"expected_intensity\[0\]: minimum must be below maximum"),
        (("training_data", 0, "url"), "file:///etc/passwd", "url must begin with"),
        (("quality", 0, "cases"), 0, "cases must be 1 or more"),
        (("quality", 0, "value"), "good", "value must be a number"),
        (("licence",), "", "licence must not be empty"),
        (("preprocessing",), float("nan"), "not a finite number"),
        (("preprocessing", "spacing"), 10**400, "digits"),
    ],
)
def test_a_wrong_description_is_refused(folder: Path, path: tuple[Any, ...], value: Any, sentence: str) -> None:
    edit(folder, *path, value=value)
    with pytest.raises(InputError, match=sentence):
        load_bundle(folder)


NEEDED = [field.name for field in dataclasses.fields(ModelDescription) if field.default is dataclasses.MISSING]


@pytest.mark.parametrize("key", NEEDED)
def test_every_key_without_a_default_is_needed(folder: Path, key: str) -> None:
    file = folder / "configs" / "model.json"
    content = json.loads(file.read_text("utf-8"))
    del content[key]
    file.write_text(json.dumps(content), "utf-8")
    with pytest.raises(InputError, match=f"lacks the key '{key}'"):
        load_bundle(folder)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[1]", "must be a JSON object"),
        (b"", "Expecting value"),
        (b"\xff\xfe", "utf-8"),
        (b'{"a": 1, "a": 2}', "'a' occurs twice"),
        (b'{"a": NaN}', "not a finite number"),
        (b'{"a": -Infinity}', "not a finite number"),
        (b'{"a": 1e999}', "not a finite number"),
        (b'{"a": ' + b"9" * 10_000 + b"}", "digits"),
        (b"[" * 30 + b"]" * 30, "nested more than 20"),
        (b"[" * 400_000, "nested more than 20"),
        (b" " * 1_000_001, "larger than 1000 kB"),
    ],
)
def test_hostile_json_is_refused(folder: Path, content: bytes, sentence: str) -> None:
    (folder / "configs" / "model.json").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        load_bundle(folder)


# ---------------------------------------------------------------------------------------------- hostile: files


def _remove(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).unlink()


def _add(name: str) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(b"x")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        *[(_add(f"models/x{suffix}"), "may hold code") for suffix in (".pt", ".PTH", ".pkl", ".py", ".ckpt")],
        *[(_remove(name), f"lacks the file {name}") for name in ("LICENSE", "docs/README.md", "configs/metadata.json")],
        (_remove("models/model.safetensors"), "lacks the file models/model.safetensors"),
        (_remove("configs/model.json"), "is not a model"),
        (lambda folder: shutil.rmtree(folder), "is not a model"),
        (lambda folder: [(folder / f"{i}.txt").touch() for i in range(1001)], "more than 1000 files"),
    ],
)
def test_a_wrong_folder_is_refused(folder: Path, change: Callable[[Path], object], sentence: str) -> None:
    change(folder)
    with pytest.raises(InputError, match=sentence):
        load_bundle(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege on Windows")
@pytest.mark.parametrize(
    ("name", "target", "sentence"),
    [
        ("docs/secret.txt", "../../outside.txt", "leads out of its folder"),
        ("docs/root", "/", "leads out of its folder"),
        ("docs/loop", "loop", "neither a file nor a folder"),
    ],
)
def test_links_out_of_the_folder_are_refused(folder: Path, name: str, target: str, sentence: str) -> None:
    (folder.parent / "outside.txt").write_text("secret")
    (folder / name).symlink_to(target)
    with pytest.raises(InputError, match=sentence):
        load_bundle(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_refused(folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    with pytest.raises(InputError, match="neither a file nor a folder"):
        load_bundle(folder)


# ---------------------------------------------------------------------------------------------- hostile: weights


def safetensors(header: dict[str, Any], data: bytes = b"") -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


def replace_weights(folder: Path, content: bytes) -> Bundle:
    """Exchange the weights and describe them honestly, as a hostile author would."""
    (folder / "models" / "model.safetensors").write_bytes(content)
    edit(folder, "weights", "bytes", value=len(content))
    edit(folder, "weights", "sha256", value=hashlib.sha256(content).hexdigest())
    return load_bundle(folder)


def one(dtype: str, shape: list[int], size: int) -> bytes:
    return safetensors({"a": {"dtype": dtype, "shape": shape, "data_offsets": [0, size]}}, b"0" * size)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (pickle.dumps({"a": 1}), "not a sound safetensors file"),
        (b"", "not a sound safetensors file"),
        (struct.pack("<Q", 2**63) + b"{}", "not a sound safetensors file"),
        (one("F32", [10**12], 4), "not a sound safetensors file"),
        (one("F32", [2**40, 2**40], 4), "not a sound safetensors file"),
        (one("F32", [-1], 4), "not a sound safetensors file"),
        (one("F32", [1], 4) + b"hidden", "not a sound safetensors file"),
        (struct.pack("<Q", 100_000) + b"[" * 100_000, "not a sound safetensors file"),
        (one("F64", [1], 8), "as F64"),
        (one("F32", [1], 4), "hold 'a', which"),
        (safetensors({}), "lack 'conv_0.conv_0.adn.N.bias'"),
    ],
)
def test_hostile_weights_are_refused(folder: Path, content: bytes, sentence: str) -> None:
    bundle = replace_weights(folder, content)
    with pytest.raises(InputError, match=sentence):
        bundle.verify()
    with pytest.raises(InputError, match=sentence):
        bundle.network()


def test_exchanged_weights_are_refused(folder: Path) -> None:
    path = folder / "models" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match="damaged or exchanged"):
        load_bundle(folder).network()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"features": [65_536] * 6}, "parameters; more than 500,000,000"),
        ({"features": [8] * 6}, "the network needs float"),
        ({"features": [4]}, "cannot be built"),
        ({"in_channels": -1}, "cannot be built"),
        ({"in_channels": "many"}, "cannot be built"),
        ({"spatial_dims": 7}, "cannot be built"),
        ({"name": "again"}, "cannot be built"),
        ({"surprise": 1}, "cannot be built"),
    ],
)
def test_hostile_arguments_are_refused(folder: Path, arguments: dict[str, Any], sentence: str) -> None:
    edit(folder, "network", "arguments", value=ARGUMENTS | arguments)
    with pytest.raises(InputError, match=sentence):
        load_bundle(folder).verify()


@pytest.mark.parametrize(
    ("path", "value", "sentence"),
    [
        (("preprocessing",), {}, "preprocessing lacks the key 'dimensions'"),
        (("preprocessing", "window"), [32], r"window \[32\] does not fit 2 dimensions"),
        (("preprocessing", "margin"), "8", "margin must be a whole number"),
        (
            ("preprocessing",),
            PREPROCESSING | {"dimensions": 3, "window": [32] * 3, "spacing": []},
            r"spatial_dims is 2 instead of 3 \(its preprocessing has 3 dimensions\)",
        ),
        (("method",), "dale", "method 'dale', which is not known"),
        (("method_arguments",), {"update": "banana"}, "update must be one of 'replace', 'mean'"),
        (("method_arguments",), {"stages": 40}, "stages must lie between 1 and 9, not 40"),
        (("method_arguments",), {"stages": "x"}, "stages must be a whole number"),
        (("method_arguments",), {"stages": True}, "stages must be a whole number"),
        (("method_arguments",), {"memory": True}, r"in_channels is 4 instead of 7 \(4 classes with memory\)"),
        (("method_arguments",), {"memory": 1}, "memory must be true or false"),
        (("method_arguments",), {"surprise": 1}, "unknown key 'surprise'"),
        (("labels", 1, "value"), 2, r"in_channels is 4 instead of 3 \(3 classes without memory\)"),
        (("labels", 1, "value"), 255, "in_channels is 4 instead of 256"),
    ],
)
def test_what_cannot_run_is_neither_verified_nor_imported(
    folder: Path, home: Path, path: tuple[Any, ...], value: Any, sentence: str
) -> None:
    edit(folder, *path, value=value)
    for use in (Bundle.verify, Bundle.network, lambda bundle: import_bundle(bundle.folder)):
        with pytest.raises(InputError, match=sentence):
            use(load_bundle(folder))
    assert not home.exists()


def test_too_many_output_channels_are_refused(tmp_path: Path) -> None:
    arguments = ARGUMENTS | {"in_channels": 2}
    description = dataclasses.replace(DESCRIPTION, labels=DESCRIPTION.labels[:1], network=Network("unet", arguments))
    state = networks.build("unet", **arguments).state_dict()
    with pytest.raises(InputError, match=r"out_channels is 4 instead of 2 \(its largest label is 1\)"):
        write_bundle(tmp_path / "bad", description, state, "", "", half=False)


def test_listing_does_not_wait_for_torch(folder: Path) -> None:
    code = "import sys, NoisyLabelSegLib.bundle as b; print(len(b.list_bundles()), 'torch' in sys.modules)"
    environment = {**os.environ, "NOISYLABELSEG_MODELS": str(folder.parent)}
    root = Path(networks.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, env=environment, capture_output=True, text=True, check=True
    )
    count, torch_loaded = done.stdout.split()
    assert int(count) >= 1 and torch_loaded == "False"


@pytest.mark.parametrize(
    ("low", "high", "fits"),
    [
        (-1024, 3071, True),
        (-3024, 1500, True),
        (-400, 300, True),
        (0, 255, True),
        (0, 2000, False),
        (-200, 300, False),
        (-5000, 0, False),
    ],
)
def test_expected_intensities_tell_ct_from_mr(low: float, high: float, fits: bool) -> None:
    ct = ExpectedIntensity(-3100, 4100, "CT in Hounsfield units", "HU", lowest_below=-300)
    scaled = ExpectedIntensity(0, 255, "CT scaled to 8 bits", "")
    assert (ct.fits(low, high) or scaled.fits(low, high)) == fits
    assert str(ct) == "CT in Hounsfield units (-3100 to 4100 HU, the lowest below -300)"
    assert str(scaled) == "CT scaled to 8 bits (0 to 255)"


def test_an_unknown_network_is_refused(folder: Path) -> None:
    edit(folder, "network", "name", value="os.system")
    with pytest.raises(InputError, match=r"no network called 'os\.system'"):
        load_bundle(folder).verify()


def test_endless_layers_are_refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def deep(depth: int) -> torch.nn.Module:
        return torch.nn.Sequential(*(torch.nn.Linear(1, 1) for _ in range(depth)))

    monkeypatch.setitem(networks.REGISTRY, "deep", deep)
    monkeypatch.setattr("NoisyLabelSegLib.bundle.weights.MAXIMUM_CALLS", 100)
    edit(folder, "network", value={"name": "deep", "arguments": {"depth": 65_536}})
    with pytest.raises(InputError, match="too many layers"):
        load_bundle(folder).verify()


# ---------------------------------------------------------------------------------------------- search


def test_search_order(tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABELSEG_MODELS", os.pathsep.join(["/one", "/two"]))
    assert search_folders()[:3] == [Path("/one"), Path("/two"), home]
    assert home.is_relative_to(tmp_path)
    assert home.parts[-2:] == ("noisylabelseg", "models")


@pytest.mark.parametrize(
    ("platform", "end"),
    [
        ("linux", "data/noisylabelseg/models"),
        ("win32", "data/noisylabelseg/models"),
        ("darwin", "Library/Application Support/noisylabelseg/models"),
    ],
)
def test_user_folder_by_platform(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, platform: str, end: str) -> None:
    monkeypatch.setattr(sys, "platform", platform)
    for variable in ("XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "data"))
    assert user_folder().as_posix().endswith(end)


def test_a_model_is_found_by_name_and_by_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="no model called 'tiny'"):
        find_bundle("tiny")
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(folder.parent))
    expected = load_bundle(folder)
    assert find_bundle("tiny") == find_bundle(folder) == find_bundle(str(folder)) == expected
    with pytest.raises(InputError, match=r"no model called 'tinny'.*known models: .*tiny"):
        find_bundle("tinny")


def test_a_broken_model_does_not_hide_the_others(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(folder.parent))
    broken = folder.parent / "aaa"
    shutil.copytree(folder, broken)
    edit(broken, "kind", value="?")
    (folder.parent / ".staging").mkdir()
    found = [b for b in list_bundles() if b.folder.parent == folder.parent]
    assert isinstance(found[0], BrokenBundle)
    assert "kind must be one of" in found[0].reason
    assert isinstance(found[1], Bundle)
    assert len(found) == 2
    with pytest.raises(InputError, match="kind must be one of"):
        find_bundle("aaa")


def test_the_first_of_two_models_with_one_name_is_listed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_bundle(folder)
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(folder.parent))
    named = [b for b in list_bundles() if isinstance(b, Bundle) and b.description.name == "tiny"]
    assert [b.folder for b in named] == [folder]


# ---------------------------------------------------------------------------------------------- import


def zipped(folder: Path, prefix: str = "") -> Path:
    path = folder.parent / "model.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(folder.rglob("*")):
            archive.write(file, f"{prefix}{file.relative_to(folder).as_posix()}")
    return path


@pytest.mark.parametrize("source", [lambda f: f, zipped, lambda f: zipped(f, "some-folder/")])
def test_import_copies_to_the_user_folder(folder: Path, home: Path, source: Callable[[Path], Path]) -> None:
    bundle = import_bundle(source(folder))
    assert bundle.folder == home / "tiny"
    assert bundle.description == load_bundle(folder).description
    assert find_bundle("tiny") == bundle
    with pytest.raises(InputError, match="exists already"):
        import_bundle(source(folder))
    (home / "tiny" / "old.txt").touch()
    assert not (import_bundle(source(folder), overwrite=True).folder / "old.txt").exists()
    assert os.listdir(home) == ["tiny"]


def test_a_model_that_fails_verification_is_not_imported(folder: Path, home: Path) -> None:
    replace_weights(folder, one("F32", [1], 4))
    for source in (folder, zipped(folder)):
        with pytest.raises(InputError, match="hold 'a', which"):
            import_bundle(source)
    assert not home.exists()


def test_a_failed_overwrite_keeps_the_old_model(folder: Path, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import_bundle(folder)

    def full(*_: object, **__: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(shutil, "copytree", full)
    with pytest.raises(InputError, match="No space left"):
        import_bundle(folder, overwrite=True)
    find_bundle("tiny").verify()
    assert os.listdir(home) == ["tiny"]


def _link(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (stat.S_IFLNK | 0o777) << 16
    return info


@pytest.mark.parametrize(
    ("member", "sentence"),
    [
        ("../evil.txt", "leads out of its folder"),
        ("docs/../../evil.txt", "leads out of its folder"),
        ("/evil.txt", "leads out of its folder"),
        ("C:evil.txt", "leads out of its folder"),
        ("docs//evil.txt", "leads out of its folder"),
        (_link("docs/link"), "is a link"),
        ("evil.py", "may hold code"),
        ("other/configs/model.json", "exactly one configs/model.json"),
        ("LICENSE", "cannot be unpacked"),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_hostile_zips_are_refused(folder: Path, home: Path, member: str | zipfile.ZipInfo, sentence: str) -> None:
    path = zipped(folder)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(InputError, match=sentence):
        import_bundle(path)
    assert not home.exists()
    assert not list(folder.parent.parent.rglob("evil*"))


def test_a_zip_bomb_is_refused_by_its_size(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = zipped(folder)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("docs/bomb.txt", b"0" * 10_000_000)
    monkeypatch.setattr("NoisyLabelSegLib.bundle.folder.MAXIMUM_BYTES", 1_000_000)
    with pytest.raises(InputError, match="more than 1000 files or"):
        import_bundle(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not really", b"\x00" * 1000])
def test_what_is_no_zip_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.zip"
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be unpacked as a zip file"):
        import_bundle(path)


def test_what_is_not_there_is_not_imported(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no folder or zip file"):
        import_bundle(tmp_path / "nothing")
