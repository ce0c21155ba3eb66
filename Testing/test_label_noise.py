"""Planted label noise: as much as was asked for, at borders, in blobs; the same for a seed; the truth is kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from NoisyLabelSegLib.errors import InputError
from training.data.cases import read_dataset
from training.data.label_noise import borders, plant, plant_dataset


def two_structures() -> np.ndarray:
    labels = np.zeros((24, 32, 32), np.uint8)
    labels[6:18, 8:24, 6:16] = 1
    labels[6:18, 8:24, 16:26] = 2
    return labels


@pytest.mark.parametrize("share", [0.05, 0.1, 0.2])
@pytest.mark.parametrize("seed", [0, 1])
def test_as_much_of_the_border_is_flipped_as_was_asked_for(share: float, seed: int) -> None:
    labels = two_structures()
    noisy = plant(labels, share, np.random.default_rng(seed))
    flipped, border = noisy != labels, borders(labels)
    assert share <= np.mean(flipped[border]) < share + 0.02
    assert ndimage.distance_transform_edt(~border)[flipped].max() <= 3, "flips lie at borders"
    _, count = ndimage.label(flipped, np.ones((3, 3, 3)))
    assert flipped.sum() / count > 5, "flips are blobs, not single voxels"


def test_structures_grow_and_are_eaten_into_and_no_label_comes_from_nowhere() -> None:
    labels = two_structures()
    noisy = plant(labels, 0.2, np.random.default_rng(0))
    pairs = {(int(a), int(b)) for a, b in zip(labels[noisy != labels], noisy[noisy != labels], strict=True)}
    assert {(0, 1), (1, 0), (0, 2), (2, 0)} <= pairs
    for before, after in pairs:
        # Beside each flipped voxel, no farther than a blob reaches, its new label was there.
        distance = ndimage.distance_transform_edt(labels != after)
        assert distance[(labels == before) & (noisy == after)].max() <= 5


def test_the_same_seed_plants_the_same_noise() -> None:
    first, same, other = (plant(two_structures(), 0.1, np.random.default_rng(seed)) for seed in (0, 0, 1))
    assert np.array_equal(first, same) and not np.array_equal(first, other)


def test_labels_without_a_border_stay() -> None:
    assert not plant(np.zeros((4, 4, 4), np.uint8), 0.5, np.random.default_rng(0)).any()


@pytest.mark.parametrize("image", [np.eye(5, dtype=np.uint8), np.ones((1, 1), np.uint8)])
def test_borders_of_small_maps(image: np.ndarray) -> None:
    assert borders(image).any() == (image.min() != image.max())


def test_a_planted_data_set_is_noisy_in_training_alone_and_keeps_the_truth(tmp_path: Path, tiny_dataset: Path) -> None:
    clean = read_dataset(tiny_dataset / "tiny")
    before = {case.id: case.label.read_bytes() for case in clean.cases if case.label}
    plant_dataset(clean, tmp_path / "noisy", 0.2, seed=0)
    noisy = read_dataset(tmp_path / "noisy")
    assert [case.id for case in noisy.cases] == [case.id for case in clean.cases]
    for case in noisy.cases:
        assert case.label is not None and (case.clean is not None) == (case.split == "train")
        if case.clean is not None:
            labels, truth = (sitk.ReadImage(str(path)) for path in (case.label, case.clean))
            assert labels.GetSpacing() == truth.GetSpacing() and labels.GetOrigin() == truth.GetOrigin()
            assert (sitk.GetArrayFromImage(labels) != sitk.GetArrayFromImage(truth)).any()
    assert before == {case.id: case.label.read_bytes() for case in clean.cases if case.label}, "nothing is written over"


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_an_impossible_share_is_refused(share: float, tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        plant_dataset(read_dataset(tiny_dataset / "tiny"), tmp_path, share, seed=0)
