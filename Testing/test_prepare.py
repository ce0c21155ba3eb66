"""Any data set in the convention of nnU-Net or the Decathlon: what is wrong is named, and it trains."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import MakeImage
from numpy.typing import NDArray

from training.__main__ import main
from training.data.adapters.nnunet import patient_of
from training.data.cases import Case, read_dataset

NAMES = [f"patient{number:03}_frame{frame:02}" for number in range(6) for frame in (1, 12)]
LABELS = {"0": "background", "1": "one", "2": "two"}
TEXT = """\
recipe: supervised
data: made
preprocessing: {{dimensions: 3, window: [8, 16, 16], multiple: 8, sliding: {sliding}}}
augmentation: {{jitter: 0, patches: {patches}}}
network: {{name: attention_unet, arguments: {{features: [4, 4]}}}}
engine: {{epochs: 1, batch_size: 2, accelerator: cpu, devices: 1, threads: 1}}
"""


def case_of(number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Two channels (channel, slice, row, column) and labels."""
    labels = np.zeros((10, 20, 24), np.uint8)
    labels[2:5, 4:12, 4:12], labels[6:9, 8:16, 8:20] = 1, 2
    noise = np.random.default_rng(number).normal(0, 1, (2, *labels.shape))
    return (noise + np.stack([labels, -3.0 * labels])).astype(np.float32), labels


def write_nnunet(folder: Path, make_image: MakeImage) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        channels, labels = case_of(number)
        for channel, array in enumerate(channels):
            sitk.WriteImage(make_image(array, (1, 1, 2)), str(folder / "imagesTr" / f"{name}_{channel:04}.nii.gz"))
        sitk.WriteImage(make_image(labels, (1, 1, 2)), str(folder / "labelsTr" / f"{name}.nii.gz"))
    labels_by_name = {name: int(value) for value, name in LABELS.items()}
    content = {"name": "Made", "channel_names": {"0": "T1", "1": "T2"}, "labels": labels_by_name}
    (folder / "dataset.json").write_text(json.dumps(content), "utf-8")
    return folder


def write_msd(folder: Path, make_image: MakeImage) -> Path:
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for number, name in enumerate(NAMES):
        channels, labels = case_of(number)
        image = sitk.JoinSeries([make_image(array, (1, 1, 2)) for array in channels])
        sitk.WriteImage(image, str(folder / "imagesTr" / f"{name}.nii.gz"))
        sitk.WriteImage(make_image(labels, (1, 1, 2)), str(folder / "labelsTr" / f"{name}.nii.gz"))
    entries = [{"image": f"./imagesTr/{n}.nii.gz", "label": f"./labelsTr/{n}.nii.gz"} for n in NAMES]
    (folder / "dataset.json").write_text(json.dumps({"name": "Made", "labels": LABELS, "training": entries}), "utf-8")
    return folder


WRITERS = {"nnunet": write_nnunet, "msd": write_msd}


def prepare(adapter: str, source: Path, data: Path, *more: str) -> int:
    return main(["prepare", adapter, str(source), "--data", str(data), "--name", "made", *more])


@pytest.mark.parametrize("adapter", WRITERS)
@pytest.mark.parametrize("patches", [0, 2])
def test_two_channels_are_prepared_and_trained_on(
    tmp_path: Path, make_image: MakeImage, adapter: str, patches: int
) -> None:
    source, data = WRITERS[adapter](tmp_path / "source", make_image), tmp_path / "data"
    assert prepare(adapter, source, data, "--val", "0.3", "--test", "0.2") == 0
    dataset = read_dataset(data / "made")
    assert (dataset.channels, dict(dataset.labels)) == (2, {1: "one", 2: "two"})
    assert [case.id for case in dataset.cases] == NAMES
    assert {case.patient for case in dataset.cases} == {name.partition("_")[0] for name in NAMES}
    for number, case in enumerate(dataset.cases[:2]):
        arrays = [sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (case.image, *case.channels)]
        assert np.array_equal(np.stack(arrays), case_of(number)[0])
    assert dataset.part("train") and dataset.part("val")
    experiment = tmp_path / "made.yaml"
    experiment.write_text(TEXT.format(patches=patches, sliding=str(bool(patches)).lower()), "utf-8")
    threads = torch.get_num_threads()
    assert main(["train", str(experiment), "--data", str(data), "--runs", str(tmp_path / "runs")]) == 0
    torch.set_num_threads(threads)
    weights = torch.load(tmp_path / "runs" / "made-full-seed0" / "best.ckpt", weights_only=True)["network"]
    first = next(tensor for tensor in weights.values() if tensor.ndim == 5)
    assert first.shape[1] == 2, "the network sees both channels"


def test_without_shares_the_split_is_4_1_1_by_patient(tmp_path: Path, make_image: MakeImage) -> None:
    source = write_nnunet(tmp_path / "source", make_image)
    assert prepare("nnunet", source, tmp_path / "data") == 0
    assert prepare("nnunet", source, tmp_path / "same", "--val", "0.1666667", "--test", "0.1666667") == 0
    parts = [{c.id: c.split for c in read_dataset(tmp_path / d / "made").cases} for d in ("data", "same")]
    assert parts[0] == parts[1]
    assert all(parts[0][one] == parts[0][two] for one, two in zip(NAMES[::2], NAMES[1::2], strict=True))


def change(path: Path, **values: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text("utf-8")), **values}), "utf-8")


def relabel(path: Path, values: NDArray[Any]) -> None:
    old = sitk.ReadImage(str(path))
    image = sitk.GetImageFromArray(values)
    image.CopyInformation(old)
    sitk.WriteImage(image, str(path))


def shift(path: Path) -> None:
    image = sitk.ReadImage(str(path))
    image.SetOrigin((1, 2, 3))
    sitk.WriteImage(image, str(path))


FIRST = NAMES[0]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda f: (f / f"imagesTr/{FIRST}_0000.nii.gz").unlink(), f"{FIRST}_0000.nii.gz' is missing"),
        (lambda f: (f / f"imagesTr/{FIRST}_0001.nii.gz").unlink(), f"{FIRST}_0001.nii.gz' is missing"),
        (lambda f: (f / f"imagesTr/{FIRST}_0000.nii.gz").write_text("x"), f"{FIRST}_0000.nii.gz"),
        (lambda f: shift(f / f"imagesTr/{FIRST}_0001.nii.gz"), f"{FIRST}_0001.nii.gz' is not on the grid"),
        (lambda f: shift(f / f"labelsTr/{FIRST}.nii.gz"), f"{FIRST}.nii.gz' is not on the grid"),
        (
            lambda f: relabel(f / f"labelsTr/{FIRST}.nii.gz", np.full((10, 20, 24), 7, np.int16)),
            f"'{FIRST}' has the value 7, which dataset.json does not declare (1 one, 2 two)",
        ),
        (lambda f: relabel(f / f"labelsTr/{FIRST}.nii.gz", np.full((10, 20, 24), 0.5)), "has the value 0.5"),
        (lambda f: relabel(f / f"labelsTr/{FIRST}.nii.gz", np.full((10, 20, 24), -1, np.int16)), "the value -1"),
        (lambda f: change(f / "dataset.json", labels={"background": 0, "all": [1, 2]}), "one integer is supported"),
        (lambda f: (f / "dataset.json").unlink(), "cannot be read"),
    ],
)
def test_what_is_wrong_is_named(
    tmp_path: Path, make_image: MakeImage, spoil: Any, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_nnunet(tmp_path / "source", make_image)
    spoil(source)
    assert prepare("nnunet", source, tmp_path / "data") == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "data" / "made" / "dataset.json").exists()


def test_a_case_without_a_label_is_named(
    tmp_path: Path, make_image: MakeImage, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_msd(tmp_path / "source", make_image)
    change(source / "dataset.json", training=[{"image": f"imagesTr/{FIRST}.nii.gz"}])
    assert prepare("msd", source, tmp_path / "data") == 2
    assert f"'{FIRST}' has no label" in capsys.readouterr().err


def test_a_declared_label_that_no_case_has_and_an_empty_part_are_said(
    tmp_path: Path, make_image: MakeImage, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write_nnunet(tmp_path / "source", make_image)
    change(source / "dataset.json", labels={"background": 0, "one": 1, "two": 2, "third": 5})
    for path in (source / "labelsTr").glob("patient00[1-9]*"):
        path.unlink()
    assert prepare("nnunet", source, tmp_path / "data") == 0
    said = capsys.readouterr().err
    assert "no label map has the value 5 (third)" in said and "one" not in said
    assert said.count("part is empty") == 2, "one patient is in one part"


@pytest.mark.parametrize(
    ("name", "patient"),
    [
        ("patient001_frame01", "patient001"),
        ("sub-r001s001_ses-1_space-T1w", "sub-r001s001"),
        ("BraTS20_Training_001", "BraTS20_Training_001"),
        ("amos_0507", "amos_0507"),
        ("framework_01", "framework_01"),
        ("p1_visit2", "p1"),
    ],
)
def test_a_patient_is_what_comes_before_a_frame_or_session(name: str, patient: str) -> None:
    assert patient_of(Case(name, Path("x"), patient=name)) == patient
    assert patient_of(Case(name, Path("x"), patient="given")) == "given"


def test_rerenet_takes_one_channel(tmp_path: Path, make_image: MakeImage, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_nnunet(tmp_path / "source", make_image)
    assert prepare("nnunet", source, tmp_path / "data") == 0
    experiment = tmp_path / "made.yaml"
    experiment.write_text(TEXT.format(patches=0, sliding="false").replace("supervised", "rerenet"), "utf-8")
    assert main(["train", str(experiment), "--data", str(tmp_path / "data"), "--runs", str(tmp_path / "runs")]) == 2
    assert "ReReNet takes images of one channel; 'Made' has 2" in capsys.readouterr().err
