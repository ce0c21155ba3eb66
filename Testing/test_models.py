"""The models that come with the project, on the samples that come with it: golden results on real images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from NoisyLabelSegLib import metrics
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.pipeline import refine
from NoisyLabelSegLib.segmentations import Segmentation, read_segmentation

SAMPLES = Path(__file__).parents[1] / "Resources" / "Samples"


def masks(segmentation: Segmentation) -> list[np.ndarray]:
    return [sitk.GetArrayFromImage(segmentation.mask(segment)) > 0 for segment in segmentation.segments]


@pytest.mark.parametrize(
    ("model", "sample", "before", "after"),
    [
        ("lidc-nodule-refine", "lidc-nodule", [0.781], [0.882]),
        ("hippocampus-refine", "hippocampus", [0.574, 0.756], [0.912, 0.897]),
    ],
)
def test_a_shipped_model_gives_the_result_it_gave_when_it_was_shipped(
    model: str, sample: str, before: list[float], after: list[float]
) -> None:
    folder = SAMPLES / sample
    expert = masks(read_segmentation(folder / "expert.seg.nrrd"))
    given = read_segmentation(folder / "coarse.seg.nrrd")
    result = refine(read_image(folder / "image.nii.gz"), given, load_model(model, "cpu"))
    for stage, expected in ((result.stages[0], before), (result.stages[-1], after)):
        scores = [metrics.dice(mask, reference) for mask, reference in zip(masks(stage), expert, strict=True)]
        assert scores == pytest.approx(expected, abs=0.003)
    assert result.stages[-1].names == given.names
    for old, new in zip(masks(given), masks(result.stages[0]), strict=True):
        assert np.array_equal(old, new), "the given mask is kept as stage 0"
