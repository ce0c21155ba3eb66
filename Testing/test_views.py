"""What a person sees in Slicer's views at each step, rendered off screen and compared with pictures kept here.

``NOISYLABELSEG_GOLDEN=write python -m pytest Testing/test_views.py`` makes the pictures anew: look at them then.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

slicer = pytest.importorskip("slicer", reason="slicer-core has no wheel for this Python or machine")

import views  # noqa: E402
from PIL import Image  # noqa: E402
from scenes import SHEAR, add_linear, add_segmentation, add_volume, geometry, new_scene, put_under  # noqa: E402
from vtkmodules.vtkRenderingCore import vtkRenderWindow  # noqa: E402

from NoisyLabelSegLib.outcome import Map, Outcome  # noqa: E402
from NoisyLabelSegLib.regions import Region  # noqa: E402
from NoisyLabelSegLib.segmentations import Segment  # noqa: E402
from NoisyLabelSegSlicer.session import ADDED_COLOR, REMOVED_COLOR, Session  # noqa: E402

GOLDEN = Path(__file__).resolve().parent / "golden"
SHAPE, SPACING = (24, 64, 72), (0.8, 0.8, 2.0)
SIZE = (160, 160)


def _can_render() -> bool:
    window = vtkRenderWindow()
    window.SetOffScreenRendering(1)
    return bool(window.SupportsOpenGL())


pytestmark = pytest.mark.skipif(not _can_render(), reason="no OpenGL, not even in software: install libegl1 and Mesa")


def _ball(centre: tuple[float, ...], radii: tuple[float, ...]) -> Any:
    grid = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return np.asarray(sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1)


class _Desk:
    """A refinement with three slice views and a 3D view of it."""

    def __init__(self) -> None:
        self.scene = new_scene()
        self.application = views.prepare(self.scene)
        true, given = _ball((12, 32, 36), (7, 17, 20)), _ball((11, 29, 42), (6, 17, 18))
        halfway = _ball((12, 31, 38), (7, 17, 19))
        rng = np.random.default_rng(3)
        image = (120 * true + rng.normal(0, 18, SHAPE) + 60).astype(np.int16)
        matrix = geometry(SPACING, origin=(-28, -25, -24))
        self.volume = add_volume(self.scene, image, matrix)
        self.volume.CreateDefaultDisplayNodes()
        self.volume.GetDisplayNode().AutoWindowLevelOff()
        self.volume.GetDisplayNode().SetWindowLevelMinMax(0, 260)
        coarse = add_segmentation(self.scene, {"lesion": given.astype(np.uint8)}, matrix)
        probability = 1 / (1 + np.exp(8 * (_distance() - 1))).astype(np.float32)
        whole = tuple(slice(0, n) for n in SHAPE)
        outcome = Outcome(
            segments=(Segment("lesion", 1, id="lesion"),),
            stages=tuple((Region(whole, mask).trimmed(),) for mask in (given, halfway, true)),
            maps=(Map("probability", "lesion", Region(whole, probability.astype(np.float32)), 0.0, 1.0),),
            statistics=(),
            provenance={"model": {"name": "none"}},
            notes=(),
            slice_axis=2,
        )
        coarse.GetDisplayNode().SetVisibility(False)
        self.session = Session.create(self.volume, coarse, outcome, None, True)
        self.session.result.CreateClosedSurfaceRepresentation()
        self.slices = [views.SliceView(self.application, name, SIZE) for name in ("Red", "Green", "Yellow")]
        for view in self.slices:
            view.show(self.volume)
        self.threed = views.ThreeDView(self.application, SIZE)

    def pictures(self) -> views.Picture:
        return np.concatenate([view.picture() for view in (*self.slices, self.threed)], axis=1)


def _distance() -> Any:
    grid = np.ogrid[tuple(slice(n) for n in SHAPE)]
    return np.sqrt(sum(((g - c) / r) ** 2 for g, c, r in zip(grid, (12, 32, 36), (7, 17, 20), strict=True)))


@pytest.fixture
def desk() -> _Desk:
    return _Desk()


def _compare(name: str, picture: views.Picture) -> None:
    path = GOLDEN / f"{name}.png"
    if os.environ.get("NOISYLABELSEG_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        views.save(path, picture)
    golden = np.asarray(Image.open(path).convert("RGB")).astype(int)
    difference = np.abs(golden - picture.astype(int)).max(axis=2)
    # Another renderer draws edges a little differently; a missing or displaced structure is far more than that.
    assert (difference > 48).mean() < 0.01


def _near(picture: views.Picture, color: tuple[float, ...], share: float = 0.12) -> int:
    """Number of pixels whose hue is that of a colour, however it is mixed with grey."""
    target = np.array(color) - np.mean(color)
    chroma = picture / 255 - (picture / 255).mean(axis=2, keepdims=True)
    length = np.linalg.norm(chroma, axis=2)
    return int(
        ((chroma @ target) / (np.linalg.norm(target) * np.maximum(length, 1e-9)) > 1 - share)[length > 0.08].sum()
    )


@pytest.mark.parametrize("stage", [0, 1, 2])
def test_each_stage_is_shown_in_all_views_at_once(desk: _Desk, stage: int) -> None:
    desk.session.show_stage(2 - stage)  # coming from another one
    before = desk.pictures()
    desk.session.show_stage(stage)
    after = desk.pictures()
    if stage != 1:
        for place in range(4):
            columns = slice(place * SIZE[0], (place + 1) * SIZE[0])
            assert (before[:, columns] != after[:, columns]).any(axis=2).mean() > 0.005
    if stage == 0:
        _compare("given", after)


def test_changes_are_blue_and_orange(desk: _Desk) -> None:
    desk.session.show_changes(True)
    picture = desk.pictures()[:, : 3 * SIZE[0]]
    assert _near(picture, ADDED_COLOR) > 200
    assert _near(picture, REMOVED_COLOR) > 200
    _compare("changes", desk.pictures())


def test_a_reverted_change_is_not_coloured_any_more(desk: _Desk) -> None:
    desk.session.show_changes(True)
    desk.session.revert([c.key for c in desk.session.review.changes if c.kind == "removed"])
    assert _near(desk.pictures()[:, : 3 * SIZE[0]], REMOVED_COLOR) < 20


def test_a_map_lies_over_the_image_and_vanishes_below_the_threshold(desk: _Desk) -> None:
    plain = desk.pictures()
    desk.session.show_map(desk.session.maps[0], opacity=0.0)
    outlined = desk.pictures()
    desk.session.show_map(desk.session.maps[0], opacity=0.7, threshold=0.5)
    shown = desk.pictures()
    desk.session.show_map(desk.session.maps[0], opacity=0.7, threshold=0.99)
    hidden = desk.pictures()
    desk.session.show_map(None)
    changed = [(picture != outlined).any(axis=2).sum() for picture in (shown, hidden)]
    assert changed[0] > 2 * changed[1] and (desk.pictures() == plain).all()
    _compare("map", shown)


def test_a_transform_moves_image_and_result_together(desk: _Desk) -> None:
    before = desk.pictures()[:, : SIZE[0]]
    parent = add_linear(desk.scene, SHEAR)
    for node in (desk.volume, desk.session.result):
        put_under(node, parent)
    for view in desk.slices:
        view.show(desk.volume)
    after = desk.pictures()[:, : SIZE[0]]
    assert (before != after).any()
    _compare("sheared", desk.pictures())
