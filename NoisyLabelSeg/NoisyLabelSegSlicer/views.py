"""Where the slice views look."""

from __future__ import annotations

from typing import Any

import slicer


def is_background(volume: Any) -> bool:
    """Whether a slice view shows a volume behind everything else."""
    scene, kind = volume.GetScene(), "vtkMRMLSliceCompositeNode"
    composites = [scene.GetNthNodeByClass(n, kind) for n in range(scene.GetNumberOfNodesByClass(kind))]
    return any(composite.GetBackgroundVolumeID() == volume.GetID() for composite in composites)


def jump_to(scene: Any, point: tuple[float, float, float]) -> None:
    """Bring a point (world, RAS, mm) to the middle of all slice views, and the crosshair onto it."""
    for n in range(scene.GetNumberOfNodesByClass("vtkMRMLCrosshairNode")):
        crosshair = scene.GetNthNodeByClass(n, "vtkMRMLCrosshairNode")
        with slicer.util.NodeModify(crosshair):
            crosshair.SetCrosshairRAS(*point)
            if crosshair.GetCrosshairMode() == slicer.vtkMRMLCrosshairNode.NoCrosshair:
                crosshair.SetCrosshairMode(slicer.vtkMRMLCrosshairNode.ShowBasic)
    slicer.vtkMRMLSliceNode.JumpAllSlices(scene, *point, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
