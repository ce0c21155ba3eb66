"""Patches: random places of whole images, a third about labelled voxels; validation sees whole cases."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from conftest import MakeImage
from torch.utils.data import DataLoader

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from training.data.cases import Case, DataSet
from training.data.patches import Patches
from training.data.windows import Augmentation, EpochSampler, Starts, Windows
from training.recipes.image_alone import NO_MASK
from training.recipes.parts import NetworkSettings, OptimizerSettings, Parts, validation_dice

STILL: dict[str, Any] = {"flips": (), "affine": 0.0}
THREE = Preprocessing(3, (8, 16, 16), 0, (), 8)
TWO = Preprocessing(2, (16, 16), 0, (), 8)
SHAPE, CORNER = (12, 40, 48), (slice(1, 4), slice(2, 6), slice(40, 46))


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory, make_image: MakeImage) -> list[Case]:
    """Two channels, of which the second is -1 times the first; a rare label 3 in a corner, label 1 in the middle."""
    folder, found = tmp_path_factory.mktemp("patches"), []
    for number in range(2):
        labels = np.zeros(SHAPE, np.uint8)
        labels[4:8, 10:30, 10:30] = 1
        labels[CORNER] = 3
        voxels = np.random.default_rng(number).normal(0, 1, SHAPE).astype(np.float32) + 10 * labels
        paths = [folder / f"case{number}_{name}.nii.gz" for name in ("0000", "0001", "label")]
        for path, array in zip(paths, (voxels, -voxels, labels), strict=True):
            sitk.WriteImage(make_image(array, (1, 1, 1)), str(path))
        found.append(Case(f"case{number}", paths[0], paths[2], patient=f"case{number}", channels=(paths[1],)))
    return found


def patches(cases: list[Case], preprocessing: Preprocessing, count: int = 60, seed: int = 0, **more: Any) -> Patches:
    return Patches(cases, preprocessing, NO_MASK, Augmentation(patches=count, **{**STILL, **more}), seed)


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
def test_shapes_and_normalised_channels(cases: list[Case], preprocessing: Preprocessing) -> None:
    data = patches(cases, preprocessing)
    assert len(data) == 2 * 60
    sample = data[1, 0]
    assert sample["image"].shape == (2, *preprocessing.window)
    assert sample["expert"].shape == sample["start"].shape == preprocessing.window
    stored: Any = data.crops[0]
    assert np.abs(stored.voxels.astype(np.float32).mean(axis=(1, 2, 3))).max() < 1e-3
    assert stored.voxels.astype(np.float32).std(axis=(1, 2, 3)) == pytest.approx([1, 1], abs=1e-3)
    assert np.allclose(stored.voxels[0], -stored.voxels[1], atol=1e-2)


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
def test_a_sample_follows_from_seed_epoch_and_index(cases: list[Case], preprocessing: Preprocessing) -> None:
    data, again, other = (patches(cases, preprocessing, 8, seed, affine=0.5) for seed in (3, 3, 4))
    ours = [data[1, index]["image"] for index in range(16)]
    assert all(torch.equal(again[1, index]["image"], ours[index]) for index in reversed(range(16)))
    assert not all(torch.equal(a, data[2, index]["image"]) for index, a in enumerate(ours))
    assert not all(torch.equal(a, other[1, index]["image"]) for index, a in enumerate(ours))


def test_a_third_of_the_patches_lies_about_a_labelled_voxel_every_label_alike(
    tmp_path: Path, make_image: MakeImage
) -> None:
    numbers = np.arange(8 * 16 * 16, dtype=np.float32).reshape(8, 16, 16)
    labels = np.zeros(numbers.shape, np.uint8)
    labels[4, 8, 8] = labels[0, 0, 15] = 1
    labels[7, 0, 0] = 3
    paths = [tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"]
    for path, array in zip(paths, (numbers, labels), strict=True):
        sitk.WriteImage(make_image(array, (1, 1, 1)), str(path))
    plain = Preprocessing(3, (2, 4, 4), 0, (), 1, intensity=Intensity("window", low=0, high=numbers.size))
    data = patches([Case("a", paths[0], paths[1])], plain, 1200)
    data.transforms = None  # of intensities
    seen: Counter[tuple[int, ...]] = Counter()
    for index in range(len(data)):
        patch = (data[0, index]["image"][0] * numbers.size).numpy()
        start = np.unravel_index(int(patch[0, 0, 0]), numbers.shape)
        view = tuple(slice(s, s + n) for s, n in zip(start, plain.window, strict=True))
        assert np.array_equal(patch, numbers[view])
        seen[tuple(int(s) for s in start)] += 1
    shares = [seen[place] / 1200 for place in ((3, 6, 6), (0, 0, 12), (6, 0, 0))]
    assert shares == pytest.approx([1 / 12, 1 / 12, 1 / 6], abs=0.04)
    assert len(seen) > 300, "the others lie anywhere"


def test_loader_processes_share_what_is_prepared(cases: list[Case]) -> None:
    data = patches(cases, THREE, 4)
    folder: Any = data.crops
    assert not list(folder.folder.iterdir()), "nothing is read before it is needed"
    batches = [list(DataLoader(data, 2, sampler=EpochSampler(8, 0, 1), num_workers=n)) for n in (2, 0)]
    assert all(torch.equal(a["image"], b["image"]) for a, b in zip(*batches, strict=True))
    assert sorted(path.name for path in folder.folder.iterdir()) == ["0", "1"]


def test_the_folder_goes_with_the_data(cases: list[Case]) -> None:
    data = patches(cases, THREE, 4)
    crops: Any = data.crops
    folder = crops.folder
    assert data[0, 0] and folder.is_dir()
    del data, crops
    assert not folder.exists()


@pytest.mark.parametrize(("preprocessing", "count", "shape"), [(TWO, 24, (40, 48)), (THREE, 2, SHAPE)])
def test_validation_sees_whole_cases_without_padding(
    cases: list[Case], preprocessing: Preprocessing, count: int, shape: tuple[int, ...]
) -> None:
    data = Patches(cases, preprocessing, NO_MASK, None, 0)
    assert len(data) == count
    assert data[0]["image"].shape == (2, *shape) and data[0]["expert"].shape == shape


def test_images_smaller_than_the_window_are_measured_alone(cases: list[Case]) -> None:
    """What is found beyond them, where a window is padded, counts for nothing."""
    wide = Preprocessing(2, (64, 96), 0, (), 8)
    parts = Parts(
        DataSet("two", {1: "one", 3: "three"}, tuple(cases)),
        wide,
        NetworkSettings(),
        OptimizerSettings(),
        0,
        Augmentation(patches=4),
    )
    data = parts.windows("train", NO_MASK, augment=False)
    truth = {index: data[index]["expert"] for index in range(len(data))}

    def right_inside(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        found = torch.ones_like(batch["start"])
        found[:, 12:52, 24:72] = truth[seen.pop(0)]
        return found

    seen = list(range(len(data)))
    assert validation_dice(data, parts, torch.device("cpu"), right_inside) == 1


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
def test_validation_goes_through_windows(cases: list[Case], preprocessing: Preprocessing) -> None:
    dataset = DataSet("two", {1: "one", 3: "three"}, tuple(cases))
    augmentation = Augmentation(patches=4)
    parts = Parts(dataset, preprocessing, NetworkSettings(), OptimizerSettings(), 0, augmentation)
    assert (parts.in_channels, parts.classes) == (2, 4)
    assert isinstance(parts.windows("train", NO_MASK, augment=True), Patches)
    data, device = parts.windows("train", NO_MASK, augment=False), torch.device("cpu")
    seen = []

    def by_threshold(batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        image = batch["image"]
        seen.append(tuple(image.shape[2:]))
        return torch.where(image[:, 0] > 5, 3, torch.where(image[:, 0] > 1.3, 1, 0))

    score = validation_dice(data, parts, device, by_threshold)
    assert set(seen) == {preprocessing.window}
    assert score > 0.9
    assert validation_dice(data, parts, device, lambda batch: torch.zeros_like(batch["start"])) == 0


def test_patches_start_from_the_mask_asked_for(cases: list[Case]) -> None:
    data = Patches(cases, THREE, Starts(coarse=0, expert=1), Augmentation(patches=9, **STILL), 0)
    assert all(torch.equal(data[0, index]["start"], data[0, index]["expert"]) for index in range(9))
    with pytest.raises(InputError, match="has no coarse mask"):
        Patches(cases, THREE, Starts(), Augmentation(patches=1), 0)[0, 0]


def test_thick_slices_are_turned_within_themselves(cases: list[Case], tmp_path: Path, make_image: MakeImage) -> None:
    slices = np.broadcast_to(np.arange(8, dtype=np.float32)[:, None, None], (8, 16, 16))
    paths = [tmp_path / "image.nii.gz", tmp_path / "label.nii.gz"]
    for path, array in zip(paths, (slices, (slices == 3).astype(np.uint8)), strict=True):
        sitk.WriteImage(make_image(array.copy(), (1, 1, 5)), str(path))
    plain = Preprocessing(3, (8, 16, 16), 0, (), 8, intensity=Intensity("window", low=0, high=8))
    spreads = []
    for in_plane in (True, False):
        augmentation = Augmentation(jitter=0, flips=(), affine=1, in_plane=in_plane)
        data = Windows([Case("a", paths[0], paths[1])], plain, NO_MASK, augmentation, 0)
        experts = torch.stack([data[epoch, 0]["expert"] for epoch in range(4)]).float()
        spreads.append(experts[..., 5:11, 5:11].flatten(2).std(dim=2).max().item())
    assert spreads[0] == 0 < spreads[1]


def test_a_channel_on_another_grid_is_named(cases: list[Case], tmp_path: Path) -> None:
    shifted = sitk.ReadImage(str(cases[0].channels[0]))
    shifted.SetOrigin((0, 0, 0))
    sitk.WriteImage(shifted, str(tmp_path / "shifted.nii.gz"))
    case = Case("a", cases[0].image, cases[0].label, channels=(tmp_path / "shifted.nii.gz",))
    with pytest.raises(InputError, match=r"shifted\.nii\.gz' is not on the grid"):
        Windows([case], THREE, NO_MASK, None, 0)


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
def test_windows_of_several_channels(cases: list[Case], preprocessing: Preprocessing) -> None:
    data = Windows(cases, preprocessing, NO_MASK, Augmentation(jitter=2), 0)
    sample = data[0, 0]
    assert sample["image"].shape == (2, *preprocessing.window)
    still = Windows(cases, preprocessing, NO_MASK, None, 0)[0]["image"]
    assert torch.allclose(still[0], -still[1], atol=1e-5)
