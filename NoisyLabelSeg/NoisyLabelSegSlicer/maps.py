"""Probability and other maps as volumes of their own box."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import slicer
import vtk
from numpy.typing import NDArray
from vtk.util.numpy_support import numpy_to_vtk

from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.outcome import Map
from NoisyLabelSegLib.regions import Region
from NoisyLabelSegLib.review import uncertainty_of
from NoisyLabelSegSlicer.colors import perceptual_colors
from NoisyLabelSegSlicer.new_nodes import add_node
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.volumes import grid_of, ijk_to_ras, view_of

_KIND, _SEGMENT = "NoisyLabelSeg.Map", "NoisyLabelSeg.Segment"


def add_map(volume: Any, map_: Map, names: Mapping[str, str], grid: Grid) -> Any:
    """A scalar volume (float32) of the map's box, in place, with a fixed window from the map's minimum to its maximum.

    Args:
        volume: scalar volume node under whose parent transform and beside which the map goes.
        map_: must not be empty.
        names: of the segments, by their identifiers.
        grid: the volume's.
    """
    title = f"{volume.GetName()} {_title(map_.name)} {names.get(map_.segment, '')}".rstrip()
    node = add_node(volume, "vtkMRMLScalarVolumeNode", title)
    node.SetAndObserveTransformNodeID(volume.GetTransformNodeID())
    node.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(ijk_to_ras(grid.crop(map_.region.box))))
    node.SetAndObserveImageData(_image(map_.region.values))
    node.SetAttribute(_KIND, map_.name)
    node.SetAttribute(_SEGMENT, map_.segment)
    node.CreateDefaultDisplayNodes()
    display = node.GetDisplayNode()
    display.SetAndObserveColorNodeID(perceptual_colors(volume.GetScene()).GetID())
    display.AutoWindowLevelOff()
    display.SetWindowLevelMinMax(map_.minimum, map_.maximum)
    display.SetInterpolate(True)
    _add_legend(node, _title(map_.name))
    return node


def _title(name: str) -> str:
    known = {
        "probability": _("probability"),
        "entropy": _("entropy"),
        "confidence": _("confidence"),
        "suspect": _("suspect labels"),
    }
    return known.get(name, name)


def _image(values: NDArray[np.float32]) -> Any:
    image = vtk.vtkImageData()
    image.SetDimensions(values.shape[::-1])
    image.GetPointData().SetScalars(numpy_to_vtk(np.ascontiguousarray(values, np.float32).ravel(), deep=True))
    return image


def _add_legend(node: Any, title: str) -> None:
    legend = node.GetScene().AddNewNodeByClass("vtkMRMLColorLegendDisplayNode")
    if legend is None:  # a Slicer without the Colors module
        return
    legend.SetAndObservePrimaryDisplayNode(node.GetDisplayNode())
    legend.SetTitleText(title)
    legend.SetNumberOfLabels(3)  # both ends and the middle, which the usual one decimal can say
    legend.SetVisibility(False)
    node.AddAndObserveDisplayNodeID(legend.GetID())


def kind_of(node: Any) -> str:
    """The name of the map that a node holds: "probability", "entropy", …; empty for any other node."""
    return node.GetAttribute(_KIND) or ""


def segment_of(node: Any) -> str:
    """The identifier of the segment that a map is about; empty where it is about none in particular."""
    return node.GetAttribute(_SEGMENT) or ""


def region_of_map(node: Any, grid: Grid) -> Region:
    """A map's values in the grid that it was made for; a view of the node's memory."""
    own, values = grid_of(node), view_of(node.GetImageData())
    corners = own.to_physical([(0, 0, 0), tuple(n - 1 for n in own.size)])
    ends = np.rint(grid.to_index(corners)).astype(int)[:, ::-1].T.tolist()
    # Slicer turns left-handed axes on loading.
    turned = tuple(slice(None, None, 1 if first <= last else -1) for first, last in ends)
    return Region(tuple(slice(min(pair), max(pair) + 1) for pair in ends), values[turned])


def uncertainty_from(maps: Iterable[Any], ids: Sequence[str], grid: Grid) -> dict[int, Region]:
    """The uncertainty (0 to 1) for the places of segments of which there is a probability map."""
    found = {segment_of(node): node for node in maps if kind_of(node) == "probability"}
    places = {place: found[identifier] for place, identifier in enumerate(ids) if identifier in found}
    return {place: uncertainty_of(region_of_map(node, grid)) for place, node in places.items()}


def suspects_from(maps: Iterable[Any], ids: Sequence[str], grid: Grid) -> dict[int, Region]:
    """How wrong the given labels look (0 to 1), for the place of every segment; nothing without such a map."""
    found = [region_of_map(node, grid) for node in maps if kind_of(node) == "suspect"]
    return dict.fromkeys(range(len(ids)), found[0]) if found else {}
