"""From nodes to a request, through the real pipeline, to nodes: the same voxels as on the command line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scenes
import SimpleITK as sitk
from scenes import Array

from NoisyLabelSegLib.bundle import find_bundle
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.files import refine_files
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.outputs import Outputs
from NoisyLabelSegLib.pipeline import RefineSettings, refine_part
from NoisyLabelSegLib.sample_data import sample_folder
from NoisyLabelSegLib.segmentations import Segmentation, read_segmentation, write_segmentation
from NoisyLabelSegLib.worker.messages import (
    Request,
    outcome_message,
    read_outcome,
    read_request,
    request_message,
)
from NoisyLabelSegSlicer.request import make_request
from NoisyLabelSegSlicer.segments import segment_ids
from NoisyLabelSegSlicer.session import Session

MODELS = {"hippocampus": "hippocampus-refine", "lidc-nodule": "lidc-nodule-refine"}
"""The bundled samples and the bundled models for them."""


def description(model: str) -> Any:
    return json.loads((find_bundle(model).folder / "configs" / "model.json").read_text(encoding="utf-8"))


def load(scene: Any, image: Path, mask: Path) -> tuple[Any, Any]:
    """Both files in a scene, read by Slicer's own storage nodes."""
    volume = scene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "image")
    given = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", "coarse")
    kinds = ("vtkMRMLVolumeArchetypeStorageNode", "vtkMRMLSegmentationStorageNode")
    for node, path, kind in zip((volume, given), (image, mask), kinds, strict=True):
        storage = scene.AddNewNodeByClass(kind)
        storage.SetFileName(str(path))
        assert storage.ReadData(node)
    return volume, given


def compute(request: Request, model: str) -> Outcome:
    """What the worker does, without a process: through its messages and back."""
    header, blocks = request_message(request)
    request = read_request(json.loads(json.dumps(header)), blocks)
    settings = RefineSettings(stages=request.stages)
    outcome = refine_part(request.part, request.segments, request.masks, load_model(model, "cpu"), settings)
    header, blocks = outcome_message(outcome)
    return read_outcome(json.loads(json.dumps(header)), blocks, request.grid, request.segments)


def as_stored(image: sitk.Image, how: str) -> sitk.Image:
    """The same voxels in the same places, stored in another order; or turned in space."""
    if how == "flipped":
        return sitk.Flip(sitk.PermuteAxes(image, [1, 2, 0]), [False, True, False])
    if how == "oblique":
        turned = sitk.Image(image)
        turn = sitk.VersorTransform((0.6, 0.64, 0.48), 0.3).GetMatrix()
        turned.SetDirection((np.reshape(turn, (3, 3)) @ np.reshape(image.GetDirection(), (3, 3))).ravel().tolist())
        return turned
    return image


def store(folder: Path, sample: str, how: str) -> tuple[Path, Path]:
    source = sample_folder() / sample
    image, mask = folder / "image.nrrd", folder / "coarse.seg.nrrd"
    sitk.WriteImage(as_stored(sitk.ReadImage(str(source / "image.nii.gz")), how), str(image))
    coarse = read_segmentation(source / "coarse.seg.nrrd")
    write_segmentation(mask, Segmentation(as_stored(coarse.image, how), coarse.segments))
    return image, mask


def points_of_file(segmentation: Segmentation, number: int) -> Array:
    """Where a segment's voxels lie: (N, 3), RAS, mm."""
    mask = segmentation.mask(segmentation.segments[number])
    index = np.argwhere(sitk.GetArrayViewFromImage(mask))[:, ::-1]
    return np.array([mask.TransformIndexToPhysicalPoint(i.tolist()) for i in index]) * (-1, -1, 1)


def points_of_node(session: Session, place: int) -> Array:
    """Where a segment's voxels lie in the world."""
    region = session.masks()[place]
    index = np.argwhere(region.values) + [side.start for side in region.box]
    return ordered(scenes.to_world(session.volume, index[:, ::-1]))


def in_world(volume: Any, points: Array) -> Array:
    """Points of a file where the volume's parent transform brings them."""
    found = np.zeros_like(points)
    for point, place in zip(points, found, strict=True):
        volume.TransformPointToWorld(point, place)
    return ordered(found)


def ordered(points: Array) -> Array:
    """In an order that does not depend on how voxels are stored."""
    return points[np.lexsort(np.round(points, 2).T)]


@pytest.mark.parametrize("sample", MODELS)
@pytest.mark.parametrize(("how", "parent"), [("as it is", "none"), ("flipped", "both"), ("oblique", "linear")])
def test_slicer_and_the_command_line_find_the_same_voxels(tmp_path: Path, sample: str, how: str, parent: str) -> None:
    image, mask = store(tmp_path, sample, how)
    outputs = Outputs(tmp_path / "result.seg.nrrd", all_stages=True)
    result, _ = refine_files(image, mask, load_model(MODELS[sample], "cpu"), RefineSettings(), outputs)
    scene = scenes.new_scene()
    volume, given = load(scene, image, mask)
    for node in (volume, given):
        scenes.put_under(node, scenes.parents(scene, np.array(volume.GetOrigin()))[parent])
    before = scenes.state(given)
    request = make_request(volume, given, segment_ids(given), None, description(MODELS[sample]), "cpu", None)
    session = Session.create(volume, given, compute(request, MODELS[sample]), None, False)
    assert scenes.state(given) == before
    assert session.result.GetParentTransformNode() is volume.GetParentTransformNode()
    assert session.stages == len(result.stages) - 1
    for stage in range(session.stages + 1):
        session.use_stage(stage)
        written = read_segmentation(outputs.stage(stage) if stage else mask)
        for place in range(len(written.segments)):
            expected = in_world(volume, points_of_file(written, place))
            np.testing.assert_allclose(points_of_node(session, place), expected, atol=1e-2)
    assert session.review.changes, "a test of no change would show nothing"


def test_only_the_neighbourhood_of_the_mask_is_sent() -> None:
    scene = scenes.new_scene()
    array = np.random.default_rng(0).integers(-900, 100, (60, 256, 256)).astype(np.int16)
    matrix = scenes.geometry((0.7, 0.7, 2.0))
    volume = scenes.add_volume(scene, array, matrix)
    small = scenes.labelmap(np.ones((5, 20, 20)), matrix, (100, 120, 30))
    given = scenes.add_segmentation(scene, {"nodule": small, "other": np.ones(array.shape)}, matrix)
    model = description(MODELS["lidc-nodule"])
    request = make_request(volume, given, ["nodule"], None, model, "auto", 4)
    assert request.voxels.values.nbytes < array.nbytes / 50
    np.testing.assert_array_equal(request.voxels.values, array[request.voxels.box])
    assert request.value_range == (array.min(), array.max())
    assert (request.kind, request.model, request.device, request.stages) == ("refine", model["name"], "auto", 4)
    assert [segment.id for segment in request.segments] == ["nodule"] and len(request.masks) == 1
    nothing = make_request(volume, None, [], None, model, "auto", None)
    assert nothing.segments == nothing.masks == () and nothing.voxels.values.shape == array.shape
    assert not nothing.voxels.values.flags.owndata, "the whole volume is not copied"


def test_what_cannot_be_asked_for_is_said_in_one_sentence() -> None:
    scene = scenes.new_scene()
    matrix = scenes.geometry()
    volume = scenes.add_volume(scene, np.zeros((6, 8, 8), np.int16), matrix)
    ones = np.ones((6, 8, 8))
    given = scenes.add_segmentation(scene, {"a": ones, "empty": 0 * ones}, matrix)
    away = scenes.add_segmentation(scene, {"a": scenes.labelmap(ones, matrix, (50, 0, 0))}, matrix, "away")
    none = scenes.add_segmentation(scene, {}, matrix, "none")
    roi = scene.AddNewNodeByClass("vtkMRMLMarkupsROINode", "box")
    roi.SetSize(5, 5, 5)
    roi.SetCenter(900, 0, 0)
    for node, ids, limit, sentence in (
        (none, [], None, "'none' has no segments"),
        (given, [], None, "No segment of 'coarse' is chosen"),
        (given, ["empty"], None, "The chosen segments of 'coarse' have no voxel in 'image'"),
        (away, ["a"], None, "The chosen segments of 'away' have no voxel in 'image'"),
        (given, ["a", "gone"], None, "'gone' is no longer in 'coarse'"),
        (given, ["a"], roi, "'box' lies outside of the volume 'image'"),
        (None, [], roi, "'box' lies outside of the volume 'image'"),
    ):
        with pytest.raises(InputError, match=sentence) as caught:
            make_request(volume, node, ids, limit, description(MODELS["lidc-nodule"]), "auto", None)
        assert str(caught.value).endswith(".") and "\n" not in str(caught.value)
    request = make_request(volume, given, ["a", "empty"], None, description(MODELS["lidc-nodule"]), "auto", None)
    assert not request.masks[1].values.size, "an empty segment beside a filled one is no mistake"
