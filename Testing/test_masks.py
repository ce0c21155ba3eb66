"""Expert and coarse masks of a case, from a label, a coarse mask or several raters."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from training.data.cases import Case
from training.data.coarse import CoarseSettings
from training.data.masks import coarse_labels, expert_labels, start_labels

VOTES = np.array([[1, 1, 1, 0], [1, 1, 0, 0], [0, 1, 1, 1]], np.uint8)[:, None, None]


def _write(path: Path, labels: np.ndarray, spacing: float = 1.0) -> Path:
    image = sitk.GetImageFromArray(labels)
    image.SetSpacing([spacing] * 3)
    sitk.WriteImage(image, str(path))
    return path


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return _write(tmp_path / "image.nii.gz", np.zeros(VOTES[0].shape, np.int16))


def test_several_raters_make_an_expert_and_a_coarse_mask(image: Path, tmp_path: Path) -> None:
    raters = tuple(_write(tmp_path / f"rater{n}.nii.gz", votes) for n, votes in enumerate(VOTES))
    case = Case("a", image, raters=raters)
    picture = sitk.ReadImage(str(image))
    assert sitk.GetArrayFromImage(expert_labels(case, picture)).ravel().tolist() == [1, 1, 1, 0]
    coarse = coarse_labels(case, picture)
    assert coarse is not None
    assert sitk.GetArrayFromImage(coarse).ravel().tolist() == [0, 1, 1, 1]


def test_files_of_their_own_come_before_the_raters(image: Path, tmp_path: Path) -> None:
    label, coarse = (_write(tmp_path / f"{n}.nii.gz", VOTES[n]) for n in (1, 2))
    case = Case("a", image, label, coarse, raters=(label,))
    picture = sitk.ReadImage(str(image))
    assert sitk.GetArrayFromImage(expert_labels(case, picture)).ravel().tolist() == [1, 1, 0, 0]
    given = coarse_labels(case, picture)
    assert given is not None
    assert sitk.GetArrayFromImage(given).ravel().tolist() == [0, 1, 1, 1]


def test_a_case_without_labels_or_on_another_grid_is_refused(image: Path, tmp_path: Path) -> None:
    picture = sitk.ReadImage(str(image))
    assert coarse_labels(Case("a", image), picture) is None
    with pytest.raises(InputError, match="no label and no raters"):
        expert_labels(Case("a", image), picture)
    with pytest.raises(InputError, match="not on the grid"):
        expert_labels(Case("a", image, _write(tmp_path / "other.nii.gz", VOTES[0], spacing=2)), picture)


def test_a_case_starts_from_its_coarse_mask_or_always_the_same_simulation(image: Path, tmp_path: Path) -> None:
    picture = sitk.ReadImage(str(image))
    label, coarse = (_write(tmp_path / f"{n}.nii.gz", VOTES[n]) for n in (1, 2))
    simulated = CoarseSettings(warp=0, grow=1)

    def start(case: Case, settings: CoarseSettings | None) -> list[int] | None:
        found = start_labels(case, picture, settings)
        return None if found is None else sitk.GetArrayFromImage(found).ravel().tolist()

    assert start(Case("a", image, label, coarse), simulated) == [0, 1, 1, 1]
    assert start(Case("a", image, label), None) is None
    assert start(Case("a", image, label), simulated) == start(Case("a", image, label), simulated)
    assert len({str(start(Case(name, image, label), simulated)) for name in "abcdefgh"}) > 1
