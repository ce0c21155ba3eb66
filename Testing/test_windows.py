"""Training windows: random, but the very same for the same seed, epoch and index."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
from torch.utils.data import DataLoader

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from training.data.cases import Case, read_dataset
from training.data.coarse import CoarseSettings, mean_dice
from training.data.windows import Augmentation, EpochSampler, Starts, Windows

TWO = Preprocessing(2, (16, 24), 4, (), 8, Intensity("min-max", "slice"))
THREE = Preprocessing(3, (8, 16, 24), 4, (), 8)
MIXED = Starts(1, 1, 1, 1, simulated=CoarseSettings(warp=0.2, grow=1, blobs=1))
Sample = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def cases(tiny_dataset: Path) -> list[Case]:
    return read_dataset(tiny_dataset / "tiny").part("train")


def windows(cases: list[Case], preprocessing: Preprocessing, *, augment: bool = True, seed: int = 3) -> Windows:
    return Windows(cases[:2], preprocessing, MIXED, Augmentation(jitter=3) if augment else None, seed)


def same(a: Sample, b: Sample) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
@pytest.mark.parametrize("augment", [True, False])
def test_shapes_types_and_values(cases: list[Case], preprocessing: Preprocessing, augment: bool) -> None:
    data = windows(cases, preprocessing, augment=augment)
    assert len(data) == (2 if preprocessing.dimensions == 3 else sum(len(crop.expert) for crop in data.crops))
    for index in range(len(data)):
        sample = data[5, index]
        assert sample["image"].shape == (1, *preprocessing.window)
        assert sample["expert"].shape == sample["start"].shape == preprocessing.window
        assert sample["image"].dtype == torch.float32 and sample["expert"].dtype == torch.int64
        assert torch.isfinite(sample["image"]).all()
        assert set(torch.unique(torch.stack([sample["expert"], sample["start"]])).tolist()) <= {0, 1}


@pytest.mark.parametrize("preprocessing", [TWO, THREE], ids=["2D", "3D"])
def test_a_sample_follows_from_seed_epoch_and_index(cases: list[Case], preprocessing: Preprocessing) -> None:
    data, again, other = (windows(cases, preprocessing, seed=seed) for seed in (3, 3, 4))
    forwards = [data[1, index] for index in range(len(data))]
    backwards = [again[1, index] for index in reversed(range(len(data)))][::-1]
    assert all(same(a, b) for a, b in zip(forwards, backwards, strict=True))
    assert not all(same(a, data[2, index]) for index, a in enumerate(forwards))
    assert not all(same(a, other[1, index]) for index, a in enumerate(forwards))


def test_loader_processes_change_nothing(cases: list[Case]) -> None:
    data = windows(cases, TWO)
    batches = [
        list(DataLoader(data, 4, sampler=EpochSampler(len(data), 3, 2), num_workers=workers, drop_last=True))
        for workers in (0, 2)
    ]
    assert len(batches[0]) == len(data) // 4
    assert all(same(a, b) for a, b in zip(*batches, strict=True))


def test_validation_windows_do_not_change_with_the_epoch_but_for_the_start(cases: list[Case]) -> None:
    data = Windows(cases[:2], TWO, Starts(), None, 0)
    assert all(same(data[index], data[7, index]) for index in range(len(data)))


@pytest.mark.parametrize("kind", ["coarse", "expert", "damaged", "empty"])
def test_the_first_mask_is_of_the_kind_asked_for(cases: list[Case], kind: str) -> None:
    shares: dict[str, Any] = {"coarse": 0.0, kind: 1.0}
    starts = Starts(**shares)
    data = Windows(cases[:1], THREE, starts, None, 0)
    sample, coarse = data[0], torch.from_numpy(data.crops[0].coarse.astype("int64"))
    expected = {"coarse": coarse, "expert": sample["expert"], "empty": torch.zeros_like(coarse)}
    if kind in expected:
        assert torch.equal(sample["start"], expected[kind])
    else:
        samples = [data[epoch, 0] for epoch in range(10)]
        scores = [mean_dice(s["expert"].numpy(), s["start"].numpy()) for s in samples]
        assert 0.6 < sum(scores) / 10 < 1


def test_image_and_masks_move_together(cases: list[Case]) -> None:
    data = Windows(cases[:2], TWO, Starts(coarse=0, expert=1), Augmentation(jitter=3), 0)
    for index in range(len(data)):
        sample = data[1, index]
        assert torch.equal(sample["start"], sample["expert"])
        inside = sample["image"][0][sample["expert"] == 1]
        if len(inside) > 20:
            assert inside.mean() > sample["image"][0][sample["expert"] == 0].mean()


@pytest.mark.parametrize("training", [True, False])
def test_without_a_first_mask_only_training_may_know_where_the_expert_s_is(
    cases: list[Case], tmp_path: Path, training: bool
) -> None:
    image, label = (sitk.ReadImage(str(path)) for path in (cases[0].image, cases[0].label))
    for name, picture in (("image", image), ("label", label)):
        # The structure now lies in a corner, out of reach of a window at the image's centre.
        sitk.WriteImage(sitk.ConstantPad(picture, (0, 0, 0), (40, 40, 0)), str(tmp_path / f"{name}.nii.gz"))
    case = replace(cases[0], image=tmp_path / "image.nii.gz", label=tmp_path / "label.nii.gz", coarse=None)
    data = Windows([case], TWO, Starts(coarse=0, empty=1), Augmentation(jitter=0) if training else None, 0)
    assert any(bool(data[0, index]["expert"].any()) for index in range(len(data))) == training


def test_processes_share_an_epoch_without_overlap() -> None:
    whole = list(EpochSampler(21, 0, 4))
    assert sorted(whole) == [(4, index) for index in range(21)]
    shares = [list(EpochSampler(21, 0, 4, rank, 2)) for rank in range(2)]
    assert [len(share) for share in shares] == [10, 10]
    assert not set(shares[0]) & set(shares[1])
    assert set(shares[0]) | set(shares[1]) == set(whole[:20])
    assert whole != list(EpochSampler(21, 1, 4))
    assert [index for _, index in whole] != [index for _, index in EpochSampler(21, 0, 5)]


@pytest.mark.parametrize("skip", [0, 4, 10, 12])
def test_skipping_goes_on_where_a_killed_run_stood(skip: int) -> None:
    share = list(EpochSampler(21, 0, 4, 1, 2))
    sampler = EpochSampler(21, 0, 4, 1, 2, skip=skip)
    assert list(sampler) == share[skip:]
    assert len(sampler) == max(10 - skip, 0)


def test_files_that_cannot_be_used_are_named(cases: list[Case], tmp_path: Path) -> None:
    missing = tmp_path / "gone.nii.gz"
    for broken in (
        replace(cases[0], image=missing),
        replace(cases[0], label=missing),
        replace(cases[0], coarse=missing),
    ):
        with pytest.raises(InputError, match="gone.nii.gz"):
            Windows([broken], TWO, Starts(), None, 0)
    with pytest.raises(InputError, match="has no label"):
        Windows([replace(cases[0], label=None)], TWO, Starts(), None, 0)
    shifted = sitk.ReadImage(str(cases[0].label))
    shifted.SetOrigin((0, 0, 0))
    sitk.WriteImage(shifted, str(tmp_path / "shifted.nii.gz"))
    with pytest.raises(InputError, match="not on the grid"):
        Windows([replace(cases[0], label=tmp_path / "shifted.nii.gz")], TWO, Starts(), None, 0)
