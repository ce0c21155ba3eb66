"""How the result looks while something else is to be seen in its place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import slicer

from NoisyLabelSegLib.segmentations import Color

NEUTRAL_COLOR: Color = (1.0, 1.0, 1.0)


def step_back(result: Any, ids: Sequence[str], *, outlined: bool, neutral: bool) -> None:
    """Draw segments as mere outlines in slices, so as not to hide a map, and in white instead of their own colours,
    which may be those of the changes; or as they were.
    """
    display = result.GetDisplayNode()
    with slicer.util.NodeModify(display):
        for identifier in ids:
            display.SetSegmentVisibility2DFill(identifier, not outlined)
            if neutral:
                display.SetSegmentOverrideColor(identifier, *NEUTRAL_COLOR)
            else:
                display.UnsetSegmentOverrideColor(identifier)
