"""Maps as volumes of their own box, and as an overlay in all slice views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scenes
import slicer
from test_scene_session import SHAPE, Case, outcome, probability

from NoisyLabelSegLib.outcome import Map
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegSlicer.colors import perceptual_colors
from NoisyLabelSegSlicer.map_overlay import MapOverlay
from NoisyLabelSegSlicer.maps import region_of_map
from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.views import is_background
from NoisyLabelSegSlicer.volumes import grid_of


@pytest.mark.parametrize("parent", ["none", "linear", "grid", "both"])
def test_a_map_lies_where_its_voxels_do_and_holds_no_others(parent: str) -> None:
    case = Case(parent)
    session = case.session()
    [node] = session.maps
    given = probability()
    assert node.GetName() == "image probability lesion"
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node), given.region.values)
    inner = np.array([(i, j, k) for k, j, i in np.ndindex(*given.region.values.shape)])
    start = [side.start for side in given.region.box[::-1]]
    np.testing.assert_allclose(
        scenes.to_world(node, inner[::7]), scenes.to_world(case.volume, inner[::7] + start), atol=1e-9
    )
    found = region_of_map(node, grid_of(case.volume))
    assert found.box == given.region.box
    np.testing.assert_array_equal(found.values, given.region.values)


def test_only_the_volume_behind_everything_else_is_the_one_that_is_looked_at() -> None:
    case = Case()
    composite = case.scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode")
    assert not is_background(case.volume)
    composite.SetForegroundVolumeID(case.volume.GetID())
    assert not is_background(case.volume)
    composite.SetBackgroundVolumeID(case.volume.GetID())
    assert is_background(case.volume)


def test_a_maps_window_is_its_range_whatever_values_it_has() -> None:
    case = Case()
    values = np.full((2, 2, 2), 0.25, np.float32)
    map_ = Map("entropy", "", Region((slice(1, 3),) * 3, values), 0.0, 0.7)
    empty = Map("confidence", "", Region((slice(0, 0),) * 3, np.zeros((0, 0, 0), np.float32)), 0.0, 1.0)
    lesion = case.outcome.stages[0][0].cut(tuple(slice(0, n) for n in SHAPE))
    case.outcome = outcome(case.outcome.segments, (lesion,), (lesion,), maps=(map_, empty))
    [node] = case.session().maps
    assert node.GetName() == "image entropy", "an empty map is left out"
    display = node.GetDisplayNode()
    node.GetImageData().Modified()
    assert not display.GetAutoWindowLevel()
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == pytest.approx((0, 0.7))
    assert display.GetInterpolate()


def test_equal_steps_of_the_colour_map_grow_evenly_brighter() -> None:
    scene = scenes.new_scene()
    node = perceptual_colors(scene)
    assert perceptual_colors(scene) is node and node.GetNumberOfColors() == 256
    color, brightness = [0.0] * 4, []
    for n in range(256):
        node.GetColor(n, color)
        linear = [(c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4) for c in color[:3]]
        brightness.append(116 * np.cbrt(np.dot((0.2126, 0.7152, 0.0722), linear)) - 16)
    assert min(np.diff(brightness[::3])) > 0, "it can be told from a greyscale print"
    assert np.ptp(np.diff(brightness[::16])) < 3.5


def test_the_colours_are_slicers_own_where_it_has_them() -> None:
    scene = scenes.new_scene()
    own = slicer.vtkMRMLColorTableNode()
    own.SetSingletonTag("FileViridis.txt")
    scene.AddNode(own)
    assert own.GetID() == "vtkMRMLColorTableNodeFileViridis.txt" and perceptual_colors(scene) is own


class Views:
    """Two slice views, one with a foreground of the person's own."""

    def __init__(self, scene: Any) -> None:
        self.own = scenes.add_volume(scene, np.zeros((2, 2, 2), np.int16), scenes.geometry(), "own")
        self.nodes = [scene.AddNewNodeByClass("vtkMRMLSliceCompositeNode") for _ in range(2)]
        self.nodes[0].SetForegroundVolumeID(self.own.GetID())
        self.nodes[0].SetForegroundOpacity(0.2)

    @property
    def state(self) -> list[tuple[Any, float]]:
        return [(node.GetForegroundVolumeID(), node.GetForegroundOpacity()) for node in self.nodes]


@pytest.fixture
def session() -> Session:
    case = Case()
    lesion = case.outcome.stages[0][0].cut(tuple(slice(0, n) for n in SHAPE))
    maps = (probability(), probability("organ"))
    case.outcome = outcome(case.outcome.segments, (lesion,), (lesion,), maps=maps)
    return case.session()


def legends(session: Session) -> list[bool]:
    return [bool(node.GetNthDisplayNode(1).GetVisibility()) for node in session.maps]


def test_one_map_is_shown_in_all_views_and_leaves_them_as_they_were(session: Session) -> None:
    views = Views(session.result.GetScene())
    before = views.state
    first, second = session.maps
    assert legends(session) == [False, False]
    session.show_map(first, 0.6, 0.3)
    assert views.state == [(first.GetID(), 0.6)] * 2 and legends(session) == [True, False]
    session.show_map(second, 0.7, 0.1)
    assert views.state == [(second.GetID(), 0.7)] * 2 and legends(session) == [False, True]
    session.show_map(None)
    assert views.state == before and legends(session) == [False, False]
    session.show_map(None)
    assert views.state == before


def test_a_map_of_a_loaded_scene_can_be_taken_away(session: Session) -> None:
    views = Views(session.result.GetScene())
    session.show_map(session.maps[0])
    MapOverlay(session.result.GetScene()).show(None)
    assert views.state == [(None, 0.0)] * 2


@pytest.mark.parametrize("threshold", [0.0, 0.25, 1.0])
def test_nothing_is_shown_below_the_threshold(session: Session, threshold: float) -> None:
    node = session.maps[0]
    session.show_map(node, 1.0, threshold)
    display = node.GetDisplayNode()
    assert display.GetApplyThreshold()
    assert display.GetLowerThreshold() == threshold and display.GetUpperThreshold() == 1.0
    assert (display.GetWindowLevelMin(), display.GetWindowLevelMax()) == (0.0, 1.0), "the colours mean the same"


def test_where_labels_are_suspect_the_review_begins_with_them() -> None:
    whole = tuple(slice(0, n) for n in SHAPE)
    given, found = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
    found[1:4, 1:4, 1:4] = True
    given[6, 6, 6] = True
    score = np.where(given, 0.9, 0.1).astype(np.float32)
    for maps, order in (((Map("suspect", "", Region(whole, score), 0.0, 1.0),), [1, 27]), ((), [27, 1])):
        case = Case()
        case.outcome = outcome(case.outcome.segments[:1], (given,), (found,), maps=maps)
        reviewed = case.session()
        for review in (reviewed.review, restored(reviewed).review):
            assert [change.voxels for change in review.changes] == order
            assert review.uncertain_first == bool(maps)


def restored(session: Session) -> Session:
    again = Session.restore(session.result)
    assert again is not None
    return again
