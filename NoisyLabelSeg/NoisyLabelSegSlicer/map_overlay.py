"""A map over the images in all slice views at once."""

from __future__ import annotations

from typing import Any

import slicer

from NoisyLabelSegSlicer.maps import kind_of


class MapOverlay:
    """Shows at most one map as the foreground; what a person had there comes back after it.

    Attributes:
        is_shown: whether a map is.
    """

    def __init__(self, scene: Any) -> None:
        self._scene, self.is_shown = scene, False
        self._before: dict[str, tuple[str | None, float]] = {}

    def show(self, node: Any | None, opacity: float = 0.5, threshold: float = 0.0, legend: bool = True) -> None:
        """Show a map where it is at least a threshold; None shows no map.

        Args:
            node: one of `maps.add_map`.
            opacity: 0 to 1.
            threshold: in the map's unit.
            legend: whether the slice views say what the colours mean.
        """
        self.is_shown = node is not None
        if node is not None:
            display = node.GetDisplayNode()
            with slicer.util.NodeModify(display):
                display.SetLowerThreshold(threshold)
                display.SetUpperThreshold(max(threshold, display.GetWindowLevelMax()))
                display.SetApplyThreshold(True)
        for composite in self._all("vtkMRMLSliceCompositeNode"):
            with slicer.util.NodeModify(composite):
                self._lay(composite, node, opacity)
        for other in self._all("vtkMRMLScalarVolumeNode"):
            if kind_of(other):
                _show_legend(other, legend and other is node)

    def _lay(self, composite: Any, node: Any | None, opacity: float) -> None:
        there = self._scene.GetNodeByID(composite.GetForegroundVolumeID() or "")
        is_map = there is not None and kind_of(there) != ""
        if not is_map:
            self._before[composite.GetID()] = composite.GetForegroundVolumeID(), composite.GetForegroundOpacity()
        if node is not None:
            composite.SetForegroundVolumeID(node.GetID())
            composite.SetForegroundOpacity(opacity)
        elif is_map:
            identifier, opacity = self._before.get(composite.GetID(), (None, 0.0))
            composite.SetForegroundVolumeID(identifier)
            composite.SetForegroundOpacity(opacity)

    def _all(self, kind: str) -> list[Any]:
        return [self._scene.GetNthNodeByClass(n, kind) for n in range(self._scene.GetNumberOfNodesByClass(kind))]


def _show_legend(node: Any, on: bool) -> None:
    for n in range(node.GetNumberOfDisplayNodes()):
        display = node.GetNthDisplayNode(n)
        if display.IsA("vtkMRMLColorLegendDisplayNode"):
            display.SetVisibility(on)
            display.Modified()  # a view does not notice by itself that it shows another volume
