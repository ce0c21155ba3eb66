"""A picture of a case's trust: the slices with most distrust, plain, with the given labels, with what omega lost."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.report_pictures import (
    GREY_LEVELS,
    SLICES_SHOWN,
    View,
    crop,
    encode_png,
    enlarge,
    grey_levels,
    inner_edge,
)
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.uncertainty_pictures import overlaid

GAP = 4  # White pixels between slices.


def picture(result: Result) -> bytes:
    """A PNG, a row for each slice; of a result with labels and a suspect map. A volume is cut about its labels."""
    view = View.of(result)
    given = view.plane.array(result.stages[0].label_map())
    suspect = view.plane.array(result.maps["suspect"])
    order = np.argsort(-suspect.sum(axis=(1, 2), dtype=np.float64), kind="stable")[:SLICES_SHOWN]
    window = crop(np.logical_or.reduce(given > 0, axis=0), view.spacing)
    colours = [np.round(255 * np.array(segment.color)) for segment in result.stages[0].segments]
    places = [(z, *window) for z in sorted(order.tolist(), key=view.number)]
    rows = [_row(view.image[at], given[at], suspect[at], view.spacing, colours) for at in places]
    return encode_png(np.vstack([np.pad(row, ((0, GAP), (0, 0), (0, 0)), constant_values=255) for row in rows]))


def _row(
    plane: NDArray[Any],
    given: NDArray[Any],
    suspect: NDArray[Any],
    spacing: tuple[float, float],
    colours: list[NDArray[Any]],
) -> NDArray[np.uint8]:
    greys = enlarge(grey_levels(plane), spacing).astype(float) * 255 / (GREY_LEVELS - 1)
    plain = np.repeat(greys[..., None], 3, axis=2).astype(np.uint8)
    labels, outlined = enlarge(given, spacing), plain.copy()
    outlined[ndimage.binary_dilation(labels > 0) & (labels == 0)] = 0
    for number, colour in enumerate(colours, 1):
        outlined[inner_edge(labels == number)] = colour
    return np.hstack([plain, outlined, overlaid(plain, enlarge(suspect, spacing))])
