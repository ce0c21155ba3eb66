"""Planted label noise: as much as was asked for, of known kinds; the same for a seed; the truth is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

from NoisyLabelSegLib.errors import InputError
from training.__main__ import main
from training.data.cases import read_dataset
from training.data.label_noise import borders, plant, shift
from training.data.noisy_sets import Noise, by_centre, plant_dataset


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
    plant_dataset(clean, tmp_path / "noisy", Noise(0.2))
    noisy = read_dataset(tmp_path / "noisy")
    assert [case.id for case in noisy.cases] == [case.id for case in clean.cases]
    for case in noisy.cases:
        assert case.label is not None and (case.clean is not None) == (case.split == "train")
        if case.clean is not None:
            labels, truth = (sitk.ReadImage(str(path)) for path in (case.label, case.clean))
            assert labels.GetSpacing() == truth.GetSpacing() and labels.GetOrigin() == truth.GetOrigin()
            assert (sitk.GetArrayFromImage(labels) != sitk.GetArrayFromImage(truth)).any()
    assert before == {case.id: case.label.read_bytes() for case in clean.cases if case.label}, "nothing is written over"


def test_noise_in_a_noisy_copy_keeps_the_first_truth_and_no_case_is_verified_any_more(
    tmp_path: Path, tiny_dataset: Path
) -> None:
    clean = read_dataset(tiny_dataset / "tiny")
    sure = replace(clean, cases=tuple(replace(case, verified=True) for case in clean.cases))
    once = plant_dataset(sure, tmp_path / "once", Noise(0.2))
    twice = plant_dataset(once, tmp_path / "twice", Noise(0.2, ("shifts",)))
    for case, before in zip(twice.part("train"), clean.part("train"), strict=True):
        assert case.clean == before.label and not case.verified
    assert not any(case.verified for case in once.part("train")) and all(case.verified for case in once.part("val"))


@pytest.mark.parametrize("share", [0.0, 1.0, -0.1])
def test_an_impossible_share_is_refused(share: float, tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(InputError, match="between 0 and 1"):
        plant_dataset(read_dataset(tiny_dataset / "tiny"), tmp_path, Noise(share))


@pytest.mark.parametrize("share", [0.05, 0.2, 0.4])
@pytest.mark.parametrize("shape", [(24, 32, 32), (32, 32), (1, 64, 48)])
def test_shifts_flip_as_much_of_the_border_as_was_asked_for(shape: tuple[int, ...], share: float) -> None:
    labels = np.zeros(shape, np.uint8)
    labels[tuple(slice(n // 4, n - n // 4) if n > 1 else slice(None) for n in shape)] = 2
    noisy, border = shift(labels, share, np.random.default_rng(0)), borders(labels)
    flipped = noisy != labels
    assert np.mean(flipped[border]) == pytest.approx(share, abs=0.02)
    pairs = {(int(a), int(b)) for a, b in zip(labels[flipped], noisy[flipped], strict=True)}
    assert pairs == {(0, 2), (2, 0)} or (share < 0.1 and pairs <= {(0, 2), (2, 0)}), "it grows and shrinks"
    assert np.array_equal(noisy, shift(labels, share, np.random.default_rng(0)))


def test_shifts_are_measured_on_the_outer_border_whatever_lies_within() -> None:
    labels = np.zeros((96, 96), np.uint8)
    labels[8:88, 8:88] = 1
    within = labels.copy()
    within[8:88, 8:88] += np.indices((80, 80)).sum(axis=0).astype(np.uint8) // 10 % 3
    one, other = (shift(given, 0.2, np.random.default_rng(0)) > 0 for given in (labels, within))
    assert np.array_equal(one, other) and (one != labels).any()


@pytest.mark.parametrize("value", [0, 1])
def test_labels_without_a_border_are_not_shifted(value: int) -> None:
    labels = np.full((4, 8, 8), value, np.uint8)
    assert np.array_equal(shift(labels, 0.2, np.random.default_rng(0)), labels)


def test_the_kind_of_each_case_s_noise_is_written_down(tmp_path: Path, tiny_dataset: Path) -> None:
    data = ["--data", str(tmp_path)]
    (tmp_path / "tiny").symlink_to(tiny_dataset / "tiny")
    kinds = ["--kinds", "blobs", "shifts", "swaps"]
    assert main(["plant", "tiny", "--share", "0.3", *kinds, *data]) == 0
    cases = read_dataset(tmp_path / "tiny_planted30_blobs+shifts+swaps").cases
    assert sorted(case.noise for case in cases) == ["", "", "blobs", "blobs", "shifts", "shifts", "swaps", "swaps"]
    for case in cases:
        assert bool(case.noise) == (case.split == "train") == (case.clean is not None)
    one, other = (case for case in cases if case.noise == "swaps")
    for case, source in ((one, other), (other, one)):
        labels, theirs = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in (case.label, source.clean))
        assert np.array_equal(labels, theirs)


def test_cases_that_are_not_swapped_are_clean_where_there_is_no_other_kind(tmp_path: Path, tiny_dataset: Path) -> None:
    plant_dataset(read_dataset(tiny_dataset / "tiny"), tmp_path, Noise(0.3, ("swaps",)))
    cases = read_dataset(tmp_path).part("train")
    assert sorted(case.noise for case in cases) == ["", "", "", "", "swaps", "swaps"]
    assert all((case.label == case.clean) == (not case.noise) for case in cases)


def test_swapped_labels_of_another_grid_lie_about_the_same_middle() -> None:
    small, large = np.zeros((4, 10, 10), np.uint8), np.zeros((8, 20, 30), np.uint8)
    small[1:3, 2:8, 2:8] = 1
    one, like = sitk.GetImageFromArray(small), sitk.GetImageFromArray(large)
    one.SetSpacing((2, 2, 2))
    one.SetOrigin((500, 0, 0))
    like.SetDirection((-1, 0, 0, 0, 1, 0, 0, 0, 1))
    like.SetOrigin((7, -3, 11))
    found = sitk.GetArrayFromImage(by_centre(one, like))
    expected = np.zeros_like(large)
    expected[2:6, 4:16, 9:21] = 1
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("noise", [Noise(0.1, ("swaps",)), Noise(0.2, verified=0.9)])
def test_a_copy_without_any_noise_is_refused(noise: Noise, tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(InputError, match="None of the 6 training cases"):
        plant_dataset(read_dataset(tiny_dataset / "tiny"), tmp_path, noise)
    assert not any(tmp_path.iterdir())


def test_a_kind_named_twice_is_one_and_seeds_are_not_negative(
    tmp_path: Path, tiny_dataset: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "tiny").symlink_to(tiny_dataset / "tiny")
    given = ["plant", "tiny", "--share", "0.2", "--data", str(tmp_path)]
    assert main([*given, "--kinds", "blobs", "blobs"]) == 0 and (tmp_path / "tiny_planted20").is_dir()
    with pytest.raises(SystemExit):
        main([*given, "--seed", "-1"])
    assert "a whole number of at least 0" in capsys.readouterr().err


def test_more_than_can_be_shifted_is_refused(tmp_path: Path, tiny_dataset: Path) -> None:
    with pytest.raises(InputError, match="at most 0.4"):
        plant_dataset(read_dataset(tiny_dataset / "tiny"), tmp_path, Noise(0.5, ("shifts",)))


def test_raters_consensus_is_kept_as_the_truth(tmp_path: Path, tiny_dataset: Path) -> None:
    clean = read_dataset(tiny_dataset / "tiny")
    cases = tuple(replace(case, label=None, raters=(case.label,) * 3) for case in clean.cases if case.label)
    plant_dataset(replace(clean, cases=cases), tmp_path, Noise(0.2))
    for case, before in zip(read_dataset(tmp_path).part("train"), clean.part("train"), strict=True):
        truth, label = (sitk.GetArrayFromImage(sitk.ReadImage(str(p))) for p in (case.clean, before.label))
        assert np.array_equal(truth, label)
