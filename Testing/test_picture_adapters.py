"""Photographs with masks become data sets of three channels: PH2, ISIC, MosMedData+ and the polyp sets as published."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from numpy.typing import NDArray

from NoisyLabelSegLib.inference.preprocessing import Preprocessing
from training.__main__ import main
from training.data.cases import read_dataset
from training.data.windows import Starts, Windows

HEIGHT, WIDTH = 24, 32


def write(path: Path, pixels: NDArray[np.uint8]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=pixels.ndim == 3), str(path))


def photograph(height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[..., 0], pixels[..., 1], pixels[..., 2] = 200, np.arange(width), 7
    return pixels


def mask(full: int = 255, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint8]:
    drawn = np.zeros((height, width), np.uint8)
    drawn[height // 4 : height // 2, width // 4 : width // 2] = full
    return drawn


LAYOUTS: dict[str, list[tuple[str, str, str]]] = {  # image, mask, split ("" where patients are hashed)
    "ph2": [
        ("imagesTr/IMD002.png", "labelsTr/IMD002.png", ""),
        (
            "PH2 Dataset images/IMD003/IMD003_Dermoscopic_Image/IMD003.bmp",
            "PH2 Dataset images/IMD003/IMD003_lesion/IMD003_lesion.bmp",
            "",
        ),
    ],
    "isic2016": [
        (
            "ISBI2016_ISIC_Part1_Training_Data/ISIC_0000000.png",
            "ISBI2016_ISIC_Part1_Training_GroundTruth/ISIC_0000000_Segmentation.png",
            "",
        ),
        (
            "ISBI2016_ISIC_Part1_Test_Data/ISIC_0000003.png",
            "ISBI2016_ISIC_Part1_Test_GroundTruth/ISIC_0000003_Segmentation.png",
            "test",
        ),
    ],
    "mosmed": [
        ("Train_Folder/img/a.png", "Train_Folder/labelcol/a.png", "train"),
        ("Val_Folder/img/b.png", "Val_Folder/labelcol/mask_b.png", "val"),
        ("Test_Folder/img/c.png", "Test_Folder/labelcol/c.png", "test"),
    ],
    "polyps": [
        ("TrainDataset/image/1.png", "TrainDataset/mask/1.png", ""),
        ("TestDataset/CVC-300/images/1.png", "TestDataset/CVC-300/masks/1.png", "test"),
        ("TestDataset/Kvasir/images/1.png", "TestDataset/Kvasir/masks/1.png", "test"),
    ],
}


def publish(adapter: str, folder: Path) -> Path:
    for image, label, _ in LAYOUTS[adapter]:
        write(folder / image, photograph())
        write(folder / label, mask())
    return folder


@pytest.mark.parametrize("adapter", LAYOUTS)
def test_published_pictures_become_a_data_set(adapter: str, tmp_path: Path) -> None:
    source = publish(adapter, tmp_path / "published")
    assert main(["prepare", adapter, str(source), "--data", str(tmp_path / "data")]) == 0
    dataset = read_dataset(tmp_path / "data" / adapter)
    assert dataset.channels == 3 and len(dataset.cases) == len(LAYOUTS[adapter])
    splits = [case.split for case in dataset.cases]
    for split, wanted in zip(splits, [split for *_, split in LAYOUTS[adapter]], strict=True):
        assert split == wanted or (not wanted and (split != "test" or adapter == "ph2"))
    preprocessing = Preprocessing(2, window=(32, 32), margin=0)
    sample = Windows(dataset.cases, preprocessing, Starts(coarse=0, empty=1), None, 0)[0]
    assert sample["image"].shape == (3, 32, 32)
    assert int(sample["expert"].sum()) == (HEIGHT // 4) * (WIDTH // 4)


@pytest.mark.parametrize("full", [1, 255, 200])
def test_a_mask_is_what_is_nearer_to_its_largest_value(full: int, tmp_path: Path) -> None:
    write(tmp_path / "published/imagesTr/a.png", photograph())
    drawn = mask(full)
    drawn[0, 0] = full // 3  # as JPEG leaves it
    write(tmp_path / "published/labelsTr/a.png", drawn)
    write(tmp_path / "published/imagesTr/b.png", photograph())
    write(tmp_path / "published/labelsTr/b.png", mask(0))
    assert main(["prepare", "ph2", str(tmp_path / "published"), "--data", str(tmp_path / "data")]) == 0
    labels = [sitk.GetArrayFromImage(sitk.ReadImage(str(c.label))) for c in read_dataset(tmp_path / "data/ph2").cases]
    assert [int(one.sum()) for one in labels] == [48, 0] and labels[0].shape == (1, HEIGHT, WIDTH)


def test_large_pictures_are_halved(tmp_path: Path) -> None:
    write(tmp_path / "published/imagesTr/a.png", photograph(600, 1200))
    write(tmp_path / "published/labelsTr/a.png", mask(255, 600, 1200))
    assert main(["prepare", "ph2", str(tmp_path / "published"), "--data", str(tmp_path / "data")]) == 0
    case = read_dataset(tmp_path / "data/ph2").cases[0]
    image, label = (sitk.ReadImage(str(path)) for path in (case.image, case.label))
    assert image.GetSize() == label.GetSize() == (300, 150, 1)
    assert int(sitk.GetArrayFromImage(label).sum()) == 38 * 75, "a row that is half lesion is lesion"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("gone", "labelsTr/IMD002.png' is missing from the data set"),
        ("smaller", "is not as large as"),
        ("nothing", "There are no pictures of PH2 here"),
    ],
)
def test_what_is_wrong_with_pictures_is_named(
    tmp_path: Path, change: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    source = publish("ph2", tmp_path / "published")
    if change == "gone":
        (source / "labelsTr/IMD002.png").unlink()
    elif change == "smaller":
        write(source / "labelsTr/IMD002.png", mask(255, 12, 16))
    else:
        source = tmp_path / "elsewhere"
        source.mkdir()
    assert main(["prepare", "ph2", str(source), "--data", str(tmp_path / "data")]) == 2
    assert message in capsys.readouterr().err
