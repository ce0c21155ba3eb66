"""Closed surfaces and labelmaps made from each other, without touching the node that holds them."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegSlicer.transforms import Between
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.volumes import ijk_to_ras

LABELMAP = "Binary labelmap"
SURFACE = "Closed surface"


def surface_of(labelmap: Any, segmentation: Any) -> Any:
    """The closed surface (vtkPolyData) of a labelmap of 0 and 1, smoothed as a vtkSegmentation is set to."""
    surface = _converted(LABELMAP, labelmap, SURFACE, segmentation.SerializeAllConversionParameters())
    return surface or vtk.vtkPolyData()


def voxelised(segmentation: Any, segment_id: str, to_volume: Between, grid: Grid) -> Any:
    """The labelmap, on a volume's lattice and in its coordinates, of a segment that is none.

    Args:
        segmentation: vtkSegmentation whose segments are closed surfaces, contours or what else can be made into these.
        segment_id: which one.
        to_volume: from the segmentation's coordinates to the volume's.
        grid: the volume's.

    Raises:
        InputError: Slicer cannot make a labelmap of it.
    """
    segment, source = segmentation.GetSegment(segment_id), segmentation.GetSourceRepresentationName()
    parameters = segmentation.SerializeAllConversionParameters()
    surface = segment.GetRepresentation(SURFACE) or _converted(
        source, segment.GetRepresentation(source), SURFACE, parameters
    )
    if surface is None:
        text = _(
            "The segment '{name}' cannot be made a labelmap: convert its segmentation in the Segmentations module."
        )
        raise InputError(text.format(name=segment.GetName()))
    bent = vtk.vtkTransformPolyDataFilter()
    bent.SetInputData(surface)
    bent.SetTransform(to_volume.transform)
    bent.Update()
    return _converted(SURFACE, bent.GetOutput(), LABELMAP, parameters, grid) or slicer.vtkOrientedImageData()


def _converted(source: str, data: Any, target: str, parameters: str, grid: Grid | None = None) -> Any | None:
    """One representation made of another one, in a segmentation that exists for no longer than that."""
    scratch = slicer.vtkSegmentation()
    scratch.SetSourceRepresentationName(source)
    scratch.DeserializeConversionParameters(parameters)
    if grid is not None:
        matrix = slicer.util.vtkMatrixFromArray(ijk_to_ras(grid))
        extent = [index for n in grid.size for index in (0, n - 1)]
        geometry = slicer.vtkSegmentationConverter.SerializeImageGeometry(matrix, extent)
        scratch.SetConversionParameter("Reference image geometry", geometry)
    segment = slicer.vtkSegment()
    segment.AddRepresentation(source, data)
    scratch.AddSegment(segment, "segment")
    scratch.CreateRepresentation(target)
    return segment.GetRepresentation(target)
