"""How well planted label noise is found: the suspect map against flipped voxels, and the first regions of the list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from rich.progress import track
from scipy.stats import rankdata

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.pipeline import map_uncertainty
from NoisyLabelSegLib.suspects import Suspect
from training.data.cases import Case, DataSet
from training.data.channels import read_channels
from training.data.label_noise import near_borders
from training.data.masks import expert_labels
from training.prediction import as_segmentation

FIRST = 20
"""So many regions of the list a person is expected to look at."""


@dataclass(frozen=True)
class Found:
    """What was suspected in one case.

    Attributes:
        score: of each voxel.
        planted: where the label was flipped.
        near: voxels near a border of the given or of the true labels, where doubt is worth something.
        regions: the suspect regions, each with the share of its voxels that were flipped.
    """

    score: NDArray[np.float32]
    planted: NDArray[np.bool_]
    near: NDArray[np.bool_]
    regions: list[tuple[Suspect, float]]


def suspected(model: Model, dataset: DataSet, limit: int = 0) -> list[Found]:
    """Ask for the suspects of every training case whose labels hold planted noise, or of the first ``limit``.

    Raises:
        InputError: when there is no such case.
    """
    cases = planted_cases(dataset)[: limit or None]
    return [_found(model, case) for case in track(cases, description=dataset.name)]


def planted_cases(dataset: DataSet) -> list[Case]:
    """The training cases whose labels hold planted noise; an `InputError` when there are none."""
    cases = [case for case in dataset.part("train") if case.clean]
    if not cases:
        raise InputError(f"No training case of '{dataset.name}' has planted noise: make such a data set with 'plant'.")
    return cases


def _found(model: Model, case: Case) -> Found:
    image, *channels = read_channels(case, model.description.channels)
    given = expert_labels(case, image)
    result = map_uncertainty(image, as_segmentation(given, model), model, channels=channels)
    score = sitk.GetArrayFromImage(result.maps["suspect"])
    return against_planted(case, sitk.GetArrayFromImage(given), score, result.regions)


def against_planted(case: Case, labels: NDArray[Any], score: NDArray[Any], regions: Sequence[Suspect] = ()) -> Found:
    """Compare with a case's planted noise."""
    truth = sitk.GetArrayFromImage(expert_labels(replace(case, label=case.clean), read_image(case.image)))
    planted = labels != truth
    shares = [float(planted[one.region.box][one.region.values].mean()) for one in regions]
    near = near_borders(labels) | near_borders(truth)
    return Found(score, planted, near, list(zip(regions, shares, strict=True)))


def figures(found: Sequence[Found]) -> dict[str, Any]:
    """AUROC over all voxels and over those near borders; precision of the first regions, of all cases and of each case.

    A region is right when more than half of its voxels were flipped.
    """
    ranked = sorted((pair for one in found for pair in one.regions), key=lambda pair: -pair[0].score)
    by_case = [precision([share for _, share in one.regions]) for one in found if one.regions]
    return {
        **aurocs(found),
        "precision_first": precision([share for _, share in ranked]),
        "precision_first_by_case": float(np.mean(by_case)) if by_case else float("nan"),
        "regions_by_case": float(np.mean([len(one.regions) for one in found])),
        "planted_voxels": int(sum(one.planted.sum() for one in found)),
    }


def aurocs(found: Sequence[Found]) -> dict[str, float]:
    """Over all voxels, and over those near borders."""
    return {"auroc": auroc(*_joined(found, near=False)), "auroc_near_borders": auroc(*_joined(found, near=True))}


def precision(shares: Sequence[float]) -> float:
    """How many of the first regions are right, by the shares of their voxels that were flipped."""
    return float(np.mean([share > 0.5 for share in shares[:FIRST]])) if shares else float("nan")


def _joined(found: Sequence[Found], *, near: bool) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    masks = [one.near if near else np.ones_like(one.near) for one in found]
    scores = [one.score[mask] for one, mask in zip(found, masks, strict=True)]
    return np.concatenate(scores), np.concatenate([one.planted[m] for one, m in zip(found, masks, strict=True)])


def auroc(score: NDArray[Any], positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: the chance that a positive's score is above a negative's; ties count half."""
    count = int(positive.sum())
    if count in (0, positive.size):
        return float("nan")
    ranks = rankdata(score)[positive].sum()
    return float((ranks - count * (count + 1) / 2) / (count * (positive.size - count)))
