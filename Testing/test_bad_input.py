"""Bad input: one clear sentence on stderr, a non-zero exit code, inputs untouched and nothing left behind."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_models import SIZE, ball, contents, picture, voxels, write_case, write_model

from NoisyLabelSegLib import cli

Spoil = Callable[[Path], None]
COMMAND = ("refine", "image.nii.gz", "mask.nii.gz", "--model", "tiny", "-o", "out.seg.nrrd", "--report", "r.html")


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny")
    write_model(folder / "parts", ("anterior", "posterior"))
    return folder


@pytest.fixture
def work(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a good image and mask, and a copy of the models to spoil."""
    folder = tmp_path / "desk"
    image, mask = write_case(folder)
    sitk.WriteImage(picture(ball()), str(folder / "mask.nii.gz"))
    mask.unlink()
    assert image.name == "image.nii.gz"
    shutil.copytree(models, tmp_path / "models")
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(tmp_path / "models"))
    for variable in ("HOME", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    return folder


def refused(work: Path, capsys: pytest.CaptureFixture[str], sentence: str, *command: str) -> None:
    before = contents(work.parent)
    assert cli.main(command) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.count("\n") == 1, "one sentence"
    assert sentence in err
    assert "Traceback" not in err
    assert contents(work.parent) == before, "inputs are untouched and nothing is left behind"


def noted(capsys: pytest.CaptureFixture[str], sentence: str, *command: str) -> None:
    assert cli.main(command) == 0
    assert sentence in capsys.readouterr().err
    assert Path("out.seg.nrrd").is_file()


def save(name: str, array: np.ndarray, origin: tuple[float, float, float] = (10, -20, 30)) -> None:
    sitk.WriteImage(picture(array, origin), name)


def image_with(value: float) -> None:
    array = voxels().astype(np.float32)
    array[2, 3, 4] = value
    save("image.nii.gz", array)


def four_dimensions() -> None:
    sitk.WriteImage(sitk.GetImageFromArray(np.stack([voxels()] * 2), isVector=False), "image.nii.gz")


def colours() -> None:
    sitk.WriteImage(sitk.Compose([picture(ball())] * 3), "image.nii.gz")


def cut(name: str) -> None:
    Path(name).write_bytes(Path(name).read_bytes()[:150])


BAD_IMAGES_AND_MASKS = {
    "NaN": (lambda: image_with(np.nan), "1 voxels that are not a number or infinite"),
    "infinite": (lambda: image_with(-np.inf), "1 voxels that are not a number or infinite"),
    "NaN in a mask": (lambda: save("mask.nii.gz", ball() * np.float64(np.nan)), "not a number or infinite"),
    "constant": (lambda: save("image.nii.gz", 0 * voxels()), "the same value everywhere"),
    "4D": (four_dimensions, "4 dimensions"),
    "RGB": (colours, "3 values per voxel"),
    "image cut off": (lambda: cut("image.nii.gz"), "image.nii.gz cannot be read"),
    "mask cut off": (lambda: cut("mask.nii.gz"), "mask.nii.gz cannot be read"),
    "image absent": (lambda: Path("image.nii.gz").unlink(), "image.nii.gz does not exist"),
    "mask absent": (lambda: Path("mask.nii.gz").unlink(), "mask.nii.gz does not exist"),
    "empty file": (lambda: Path("image.nii.gz").write_bytes(b""), "image.nii.gz cannot be read"),
    "mask elsewhere": (lambda: save("mask.nii.gz", ball(), (900, 0, 0)), "do not overlap in space"),
    "mask empty": (lambda: save("mask.nii.gz", 0 * ball()), "The mask is empty"),
    "mask of fractions": (lambda: save("mask.nii.gz", 0.5 * ball()), "not whole numbers"),
    "mask is an image": (lambda: shutil.copy("image.nii.gz", "mask.nii.gz"), ""),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD_IMAGES_AND_MASKS.values(), ids=BAD_IMAGES_AND_MASKS.keys())
def test_unusable_images_and_masks(
    work: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[], None], sentence: str
) -> None:
    spoil()
    model = "parts" if not sentence else "tiny"
    refused(work, capsys, sentence, *COMMAND[:4], model, *COMMAND[5:])


UNUSUAL = {
    "another grid": (lambda: save("mask.nii.gz", ball(), (11, -20, 30)), "was resampled to it"),
    "at the border": (lambda: save("mask.nii.gz", ball(shift=9)), "touches the image's border"),
    "wrong modality": (lambda: save("image.nii.gz", voxels() * 20), "was made for CT numbers (-1024 to 3000 HU)"),
}


@pytest.mark.parametrize(("change", "sentence"), UNUSUAL.values(), ids=UNUSUAL.keys())
def test_unusual_input_works_with_a_note(
    work: Path, capsys: pytest.CaptureFixture[str], change: Callable[[], None], sentence: str
) -> None:
    change()
    noted(capsys, sentence, *COMMAND)


@pytest.mark.parametrize("suffix", [".nii", ".nrrd", ".mha"])
def test_not_a_number_is_refused_in_every_format(work: Path, capsys: pytest.CaptureFixture[str], suffix: str) -> None:
    sitk.WriteImage(picture(np.where(voxels() > -500, np.nan, 0.0)), f"image{suffix}")
    refused(work, capsys, "not a number or infinite", "refine", f"image{suffix}", *COMMAND[2:])


def test_image_and_mask_the_wrong_way_round(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("mask.nii.gz", "mask.seg.nrrd")
    refused(work, capsys, "give the image first, then the mask", "refine", "mask.seg.nrrd", *COMMAND[1:2], *COMMAND[3:])


def test_one_slice_works(work: Path) -> None:
    save("image.nii.gz", voxels()[3:4])
    save("mask.nii.gz", ball()[3:4])
    assert cli.main(COMMAND) == 0
    assert sitk.ReadImage("out.seg.nrrd").GetSize() == (*SIZE[:2], 1)


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (("refine",), "the following arguments are required"),
        (("nonsense",), "invalid choice: 'nonsense'"),
        ((*COMMAND[:2], *COMMAND[3:]), "Give IMAGE and MASK"),
        ((*COMMAND, "--from-nothing"), "--from-nothing takes no MASK"),
        ((*COMMAND, "--cases", "."), "not both"),
        ((*COMMAND, "--reports"), "--reports is for many cases"),
        ((*COMMAND[:1], *COMMAND[3:], "--cases", "."), "--report and --figures are for one case"),
        ((*COMMAND[:1], *COMMAND[3:-2], "--cases", "."), "lacks the subfolders images/ and masks/"),
        ((*COMMAND[:1], *COMMAND[3:-2], "--cases", "none.csv"), "none.csv does not exist"),
        ((*COMMAND, "--stages", "0"), "argument --stages: invalid choice"),
        ((*COMMAND, "--segments", "liver"), "no segment 'liver'; it has: Label 1"),
        ((*COMMAND, "--device", "abacus"), "The device 'abacus' cannot be used"),
        ((*COMMAND, "-m", "huge"), "no model called 'huge', nor such a folder; known models: "),
        ((*COMMAND, "-o", "out.txt"), "use a name that ends in .seg.nrrd"),
        ((*COMMAND, "-o", "out.mhd"), "use a name that ends in .seg.nrrd"),
        ((*COMMAND, "--report", "r.pdf"), "use a name that ends in .html"),
        ((*COMMAND, "--figures", "f.csv"), "use a name that ends in .json"),
        ((*COMMAND, "-o", "image.nii.gz/out.seg.nrrd"), "is not a folder"),
        ((*COMMAND, "-o", "absent/out.seg.nrrd"), "is not a folder"),
        ((*COMMAND, "--report", "image.nii.gz/r.html"), "is not a folder"),
        ((*COMMAND, "-o", "n" * 300 + ".seg.nrrd"), "cannot be written"),
        (("models", "show", "huge"), "no model called 'huge'"),
        (("models", "verify", "huge"), "no model called 'huge'"),
        (("models", "import", "huge.zip"), "no folder or zip file"),
        (("models", "import", "image.nii.gz"), "cannot be unpacked as a zip file"),
    ],
)
def test_unusable_commands(
    work: Path, capsys: pytest.CaptureFixture[str], command: tuple[str, ...], sentence: str
) -> None:
    refused(work, capsys, sentence, *command)


@pytest.mark.parametrize("name", ["mask.nii.gz", "../desk/mask.nii.gz", "MASK.nii.gz", "link.nii.gz", "hard.nii.gz"])
@pytest.mark.parametrize("option", ["--overwrite", "--from-nothing"])
def test_an_input_is_never_overwritten(work: Path, capsys: pytest.CaptureFixture[str], name: str, option: str) -> None:
    os.symlink("mask.nii.gz", "link.nii.gz")
    os.link("mask.nii.gz", "hard.nii.gz")
    if option == "--from-nothing":
        shutil.move("image.nii.gz", "other.nii.gz")
        inputs: tuple[str, ...] = ("mask.nii.gz", option, "--overwrite")
    else:
        inputs = ("image.nii.gz", "mask.nii.gz", option)
    refused(work, capsys, "is an input of this run", "refine", *inputs, "-m", "tiny", "-o", name)


def test_a_stage_never_overwrites_an_input(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copy("mask.nii.gz", "out_stage1.nii.gz")
    command = ("refine", "image.nii.gz", "out_stage1.nii.gz", "-m", "tiny", "-o", "out.nii.gz", "--overwrite")
    refused(work, capsys, "is an input of this run", *command, "--all-stages")


def test_segments_that_a_model_of_several_structures_does_not_know(
    work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save("mask.nii.gz", ball() * 7)
    sentence = "does not know the segment 'Label 7'; it knows anterior (label 1), posterior (label 2)"
    refused(work, capsys, sentence, *COMMAND, "-m", "parts")


# Models


def weights(model: Path) -> Path:
    return model / "models" / "model.safetensors"


def damage(model: Path) -> None:
    data = bytearray(weights(model).read_bytes())
    data[-100] ^= 1
    weights(model).write_bytes(bytes(data))


def edit(**changes: object) -> Spoil:
    def spoil(model: Path) -> None:
        path = model / "configs" / "model.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return spoil


def giant(model: Path) -> None:
    """A tensor of 10^15 numbers in a file of a few bytes."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [10**15], "data_offsets": [0, 4 * 10**15]}}).encode()
    data = struct.pack("<Q", len(header)) + header
    weights(model).write_bytes(data)
    entry = {"file": "models/model.safetensors", "bytes": len(data), "sha256": _sha256(data)}
    edit(weights=entry)(model)


def _sha256(data: bytes) -> str:
    import hashlib

    return hashlib.sha256(data).hexdigest()


BAD_MODELS = {
    "damaged": (damage, "damaged or exchanged (SHA-256)"),
    "cut off": (lambda model: weights(model).write_bytes(b"short"), "get the model again"),
    "no weights": (lambda model: weights(model).unlink(), "lacks the file models/model.safetensors"),
    "no description": (lambda model: (model / "configs/model.json").write_text("{"), "model.json"),
    "pickle inside": (lambda model: (model / "x.pkl").write_bytes(pickle.dumps(1)), "may hold code"),
    "code inside": (lambda model: (model / "x.py").touch(), "may hold code"),
    "weights elsewhere": (
        edit(weights={"file": "../x.safetensors", "bytes": 1, "sha256": "0" * 64}),
        "a path inside the model's folder",
    ),
    "giant tensor": (giant, "not a sound safetensors file"),
    "giant network": (edit(network={"name": "unet", "arguments": {"features": [65536] * 6}}), ""),
    "unknown network": (edit(network={"name": "os.system", "arguments": {}}), "no network called 'os.system'"),
    "unknown preprocessing": (edit(preprocessing={"shell": "rm"}), "unknown key 'shell'"),
    "unknown key": (edit(shell="rm"), "shell"),
}


@pytest.mark.parametrize(("spoil", "sentence"), BAD_MODELS.values(), ids=BAD_MODELS.keys())
def test_damaged_and_hostile_models(
    work: Path, capsys: pytest.CaptureFixture[str], spoil: Spoil, sentence: str
) -> None:
    spoil(work.parent / "models" / "tiny")
    refused(work, capsys, sentence, *COMMAND)


@pytest.mark.parametrize("name", ["../../evil.txt", "/evil.txt", "tiny/../../evil.txt", "C:\\evil.txt"])
def test_a_zip_cannot_write_elsewhere(work: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    archive = shutil.make_archive(str(work / "new"), "zip", work.parent / "models" / "tiny")
    with zipfile.ZipFile(archive, "a") as file:
        file.writestr(name, "evil")
    refused(work, capsys, "leads out of its folder", "models", "import", archive)
