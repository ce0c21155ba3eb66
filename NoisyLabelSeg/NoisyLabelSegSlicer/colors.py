"""The colour map of maps: equal steps in value look equal, also to colour-blind people and in greyscale."""

from __future__ import annotations

from typing import Any

import numpy as np

_SHIPPED = "vtkMRMLColorTableNodeFileViridis.txt"
_NAME = "NoisyLabelSeg Viridis"
# Every 32nd colour of viridis (N. Smith, S. van der Walt; CC0), in sRGB.
_VIRIDIS = ("440154", "472d7b", "3b528b", "2c728e", "21918c", "28ae80", "5ec962", "addc30", "fde725")


def perceptual_colors(scene: Any) -> Any:
    """The scene's color node Viridis: Slicer's own, or where there is none, one like it, made once a scene."""
    return scene.GetNodeByID(_SHIPPED) or scene.GetFirstNode(_NAME, "vtkMRMLColorTableNode") or _made(scene)


def _made(scene: Any) -> Any:
    node = scene.CreateNodeByClass("vtkMRMLColorTableNode")
    node.UnRegister(None)
    node.SetName(_NAME)
    node.HideFromEditorsOn()
    node.SetTypeToUser()
    node.SetNumberOfColors(256)
    anchors = np.array([[int(text[n : n + 2], 16) / 255 for n in (0, 2, 4)] for text in _VIRIDIS])
    places = np.linspace(0, 255, len(anchors))
    for n in range(256):
        node.SetColor(n, str(n), *(float(np.interp(n, places, channel)) for channel in anchors.T), 1.0)
    return scene.AddNode(node)
