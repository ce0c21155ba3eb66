"""Fragments of volumes: nothing padded, square, upright, the same for the same seed; bad volumes are told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from training.data.cases import Case, DataSet
from training.data.fragments import Fragments, with_turned_slices
from training.data.pooled import pooled
from training.data.windows import EpochSampler

PLAIN = Preprocessing(3, (6, 8, 8), intensity=Intensity("window", "case", 0.0, 1.0))


def case(folder: Path, array: NDArray[Any], spacing: tuple[float, ...] = (1, 1, 1), name: str = "a") -> Case:
    image = sitk.GetImageFromArray(array.astype(np.float32))
    image.SetSpacing(spacing)
    path = folder / f"{name}.nii.gz"
    sitk.WriteImage(image, str(path))
    return Case(name, path, patient=name)


def ramp(*shape: int) -> NDArray[Any]:
    """0 to 1, every voxel another value."""
    return np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)


@pytest.mark.parametrize(("window", "square"), [((6, 8, 8), "window"), ((6, 32, 32), "window"), ((6, 8, 8), "whole")])
def test_a_fragment_has_the_window_s_size(tmp_path: Path, window: tuple[int, ...], square: Any) -> None:
    data = Fragments([case(tmp_path, ramp(9, 20, 14))], replace(PLAIN, window=window), 0, 3, vary=True, square=square)
    assert len(data) == 3
    for index in range(3):
        sample = data[1, index]
        assert sample["image"].shape == (1, *window) and type(sample["image"]) is torch.Tensor
        assert sample["image"].dtype == torch.float32 and torch.isfinite(sample["image"]).all()


def test_it_is_a_part_of_the_volume_and_nothing_else(tmp_path: Path) -> None:
    volume = ramp(9, 20, 14)
    data = Fragments([case(tmp_path, volume)], PLAIN, 0, 20, vary=False)
    starts = set()
    for index in range(20):
        found = data[2, index]["image"][0].numpy()
        start = np.unravel_index(np.abs(volume.astype(np.float16) - found[0, 0, 0]).argmin(), volume.shape)
        z, y, x = (int(one) for one in start)
        np.testing.assert_allclose(found, volume[z : z + 6, y : y + 8, x : x + 8], atol=1e-3)
        starts.add((z, y, x))
    assert len(starts) > 10, "places are random"
    assert {z for z, _, _ in starts} == {0, 1, 2, 3}, "any of the slices may be the first"


def test_a_volume_smaller_than_the_window_is_enlarged_not_padded(tmp_path: Path) -> None:
    rows = np.broadcast_to(np.linspace(0, 1, 10)[None, :, None], (6, 10, 8))
    image = Fragments([case(tmp_path, rows)], replace(PLAIN, window=(6, 16, 16)), 0, vary=False)[0]["image"][0]
    assert (image.diff(dim=1)[:, 1:-1] > 0.03).all(), "a border that repeats itself would tell how a slice is turned"
    assert torch.allclose(image.diff(dim=2), torch.zeros(()), atol=2e-3)


def test_pixels_become_square_before_slices_can_be_turned(tmp_path: Path) -> None:
    y, x = np.mgrid[0:20, 0:40]
    disc = np.broadcast_to((np.hypot(y - 9.5, (x - 19.5) / 2) < 6).astype(float), (6, 20, 40))  # columns half as wide
    wanted = replace(PLAIN, window=(6, 36, 36), spacing=(5, 1, 1))
    image = Fragments([case(tmp_path, disc, (0.5, 1, 5))], wanted, 0, vary=False)[0]["image"][0, 3] > 0.5
    height, width = (int(image.any(dim=axis).sum()) for axis in (1, 0))
    assert abs(height - width) <= 1 and height > 20


@pytest.mark.parametrize("orientation", ["LPS", "RAS", "PIR", "SLP"])
def test_volumes_of_any_orientation_are_seen_alike(tmp_path: Path, orientation: str) -> None:
    straight = case(tmp_path, ramp(9, 20, 14))
    turned = tmp_path / "other.nii.gz"
    sitk.WriteImage(sitk.DICOMOrient(sitk.ReadImage(str(straight.image)), orientation), str(turned))
    one, other = (Fragments([c], PLAIN, 0, vary=False)[0]["image"] for c in (straight, replace(straight, image=turned)))
    torch.testing.assert_close(one, other)


def test_a_sample_follows_from_seed_epoch_and_index(tmp_path: Path) -> None:
    cases = [case(tmp_path, ramp(9, 20, 14), name=name) for name in "ab"]
    data, again, other = (Fragments(cases, PLAIN, seed, 2, vary=True) for seed in (3, 3, 4))
    first = [data[1, index]["image"] for index in range(4)]
    backwards = [again[1, index]["image"] for index in reversed(range(4))][::-1]
    assert all(torch.equal(a, b) for a, b in zip(first, backwards, strict=True))
    assert not any(torch.equal(a, other[1, index]["image"]) for index, a in enumerate(first))
    assert not any(torch.equal(a, data[2, index]["image"]) for index, a in enumerate(first))
    batches = [
        next(iter(DataLoader(data, 4, sampler=EpochSampler(4, 3, 2), num_workers=workers)))["image"]
        for workers in (0, 1)
    ]
    assert torch.equal(*batches)


def test_intensities_vary_alike_in_all_slices(tmp_path: Path) -> None:
    flat = np.full((9, 12, 12), 0.5)
    flat[:, 3, 3] = 1
    data = Fragments([case(tmp_path, flat)], replace(PLAIN, window=(6, 12, 12)), 0, vary=True)
    for epoch in range(8):
        slices = data[epoch, 0]["image"][0].flatten(1).median(dim=1).values
        assert slices.std() < 0.03


def test_what_cannot_be_used_is_left_out_counted_and_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good = case(tmp_path, ramp(9, 20, 14), name="good")
    flat = case(tmp_path, ramp(4, 20, 14), name="flat")
    broken = case(tmp_path, ramp(9, 20, 14), name="broken")
    broken.image.write_bytes(broken.image.read_bytes()[:200])
    moving = Case("moving", tmp_path / "moving.nii.gz")
    sitk.WriteImage(sitk.JoinSeries([sitk.ReadImage(str(good.image))] * 2), str(moving.image))
    gone = Case("gone", tmp_path / "gone.nii.gz")
    data = Fragments([flat, broken, good, moving, gone], PLAIN, 0, 2, vary=False)
    assert len(data) == 2 and data.names_of(torch.tensor([0, 1])) == ["good"]
    assert list(data.skipped) == ["flat", "broken", "moving", "gone"]
    said = capsys.readouterr().err
    assert "4 of 5 volumes are left out" in said
    for text in ("It has 4 slices, a fragment 6: set preprocessing.window", "damaged", "4 dimensions", "not exist"):
        assert text in said
    with pytest.raises(InputError, match="None of 2 volumes can be used"):
        Fragments([flat, gone], PLAIN, 0, vary=False)


@pytest.mark.parametrize(
    ("spacing", "wanted", "usable"),
    [
        ((0.5, 1, 1), None, False),
        ((1, 0.5, 1), (1, 0.9, 0.9), False),
        ((0.5, 1, 1), (1, 1, 1), True),
        ((0.5, 0.54, 1), None, True),
    ],
)
def test_pixels_that_would_tell_how_they_were_turned_are_left_out(
    tmp_path: Path, spacing: Any, wanted: Any, usable: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    cases = [case(tmp_path, ramp(9, 20, 20), name="square"), case(tmp_path, ramp(9, 20, 20), spacing, "odd")]
    data = Fragments(cases, replace(PLAIN, spacing=wanted), 0, vary=False)
    assert len(data) == 1 + usable
    assert ("set preprocessing.spacing to 1 mm or more" in capsys.readouterr().err) != usable


def test_values_that_overflow_half_precision_are_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cases = [case(tmp_path, scale * ramp(9, 20, 14), name=name) for name, scale in (("good", 6e4), ("large", 7e4))]
    data = Fragments(cases, replace(PLAIN, intensity=Intensity("z-score", "case", mean=0.0, std=1.0)), 0, vary=False)
    assert list(data.skipped) == ["large"] and "overflow half precision" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"window": (6, 8, 10)}, "Slices of 8 x 10 cannot be turned"),
        ({"spacing": (5.0, 1.0, 0.5)}, "Pixels of 1 x 0.5 mm cannot be turned"),
        ({"dimensions": 2, "window": (8, 8)}, "set preprocessing.dimensions to 3"),
    ],
)
def test_only_squares_can_be_turned(changed: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=sentence):
        Fragments([], replace(PLAIN, **changed), 0, vary=False)


def test_the_control_turns_every_slice_of_the_central_square_by_itself() -> None:
    volume = ramp(40, 12, 20)
    image = sitk.GetImageFromArray(volume)
    image.SetSpacing((0.5, 1.0, 3.0))
    found = with_turned_slices(image, np.random.default_rng(0))
    assert found.GetSize() == (12, 12, 40) and found.GetSpacing() == (0.5, 1.0, 3.0)
    turns = []
    for one, given in zip(sitk.GetArrayFromImage(found), volume[:, :, 4:16], strict=True):
        turns += [n for n in range(4) if np.array_equal(np.rot90(given, n), one)]
    assert len(turns) == 40 and min(np.bincount(turns, minlength=4)) > 3


def test_data_sets_are_pooled_under_their_names() -> None:
    one, two = (DataSet(name, {1: "x"}, (Case("a", Path("a.nii"), patient="p"),), "CC0") for name in ("one", "two"))
    found = pooled([one, two])
    assert [(c.id, c.patient) for c in found.cases] == [("one: a", "one: p"), ("two: a", "two: p")]
    assert found.name == "one + two" and not found.labels
    with pytest.raises(InputError, match="same name"):
        pooled([one, one])
    wide = replace(two, cases=(replace(two.cases[0], channels=(Path("b.nii"),)),))
    with pytest.raises(InputError, match="'two' has images of 2 channels and 'one' of 1"):
        pooled([one, wide])
