"""One request from files to files: what the command line, a list of cases and the demonstration share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import SimpleITK as sitk

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.outputs import Outputs
from NoisyLabelSegLib.pipeline import (
    RefineSettings,
    SegmentSettings,
    UncertaintySettings,
    map_uncertainty,
    refine,
    segment,
)
from NoisyLabelSegLib.progress import Progress, silent
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import read_segmentation
from NoisyLabelSegLib.uncertainty_outputs import UncertaintyOutputs


def refine_files(
    image: Path,
    mask: Path | None,
    model: Model,
    settings: RefineSettings,
    outputs: Outputs,
    progress: Progress = silent,
) -> tuple[Result, list[Path]]:
    """Read, refine and write; return the result and the files written.

    Args:
        image: an image file or a folder of DICOM slices.
        mask: a segmentation file; None starts from nothing.
        model, settings, progress: see `pipeline.refine_part`.
        outputs: already checked, see `Outputs.check`.

    Raises:
        InputError: when something given cannot be used or written; then no file has been written.
    """
    picture = _read_image(image)
    given = read_segmentation(mask) if mask else None
    if given is not None and not outputs.keeps_overlaps:
        given.label_map()  # refuses overlapping segments before the computation rather than after it
    result = refine(picture, given, model, settings, progress)
    result = _with_origin(result, image=image, mask=mask)
    return result, outputs.write(result)


def uncertainty_files(
    images: Sequence[Path],
    labels: Path | None,
    model: Model,
    settings: UncertaintySettings,
    outputs: UncertaintyOutputs,
    progress: Progress = silent,
) -> tuple[Result, list[Path]]:
    """Read, map the uncertainty and write; return the result and the files written.

    Args:
        images: an image file or a folder of DICOM slices, and one for each further channel.
        labels: a segmentation file, or None.
        model, settings, progress: see `pipeline.map_uncertainty`.
        outputs: already prepared, see `UncertaintyOutputs.prepared`.

    Raises:
        InputError: when something given cannot be used or written; then no file has been written.
    """
    result = _computed(map_uncertainty, images, labels, model, settings, progress)
    result = _with_origin(result, **_named(images), labels=labels)
    return result, outputs.write(result)


def segment_files(
    images: Sequence[Path],
    roi: Path | None,
    model: Model,
    settings: SegmentSettings,
    outputs: UncertaintyOutputs,
    progress: Progress = silent,
) -> tuple[Result, list[Path]]:
    """Read, segment and write; return the result and the files written.

    Args:
        images: see `uncertainty_files`.
        roi: a segmentation file, all of it the region of interest; or None.
        model, settings, progress: see `pipeline.segment`.
        outputs: already prepared, see `UncertaintyOutputs.prepared`.

    Raises:
        InputError: when something given cannot be used or written; then no file has been written.
    """
    result = _computed(segment, images, roi, model, settings, progress)
    result = _with_origin(result, **_named(images), region_of_interest=roi)
    return result, outputs.write(result)


def _computed(
    compute: Callable[..., Result],
    images: Sequence[Path],
    given: Path | None,
    model: Model,
    settings: object,
    progress: Progress,
) -> Result:
    """What a function of the pipeline makes of an image, its further channels and a segmentation, read from files."""
    picture, *channels = map(_read_image, images)
    segmentation = read_segmentation(given) if given else None
    return compute(picture, segmentation, model, settings, progress, channels)


def _named(images: Sequence[Path]) -> dict[str, Path]:
    return {"image": images[0], **{f"channel_{number}": path for number, path in enumerate(images[1:], 2)}}


def _read_image(path: Path) -> sitk.Image:
    if path.name.lower().endswith(".seg.nrrd"):
        raise InputError(f"{path} is a segmentation: give the image first, then the mask.")
    return read_image(path)


def _with_origin(result: Result, **files: Path | None) -> Result:
    """The result with the names of the files that it was made of."""
    names = {key: _name(path) if path else None for key, path in files.items()}
    return replace(result, provenance={**names, **result.provenance})


def _name(path: Path) -> str:
    """The name alone, since folders may tell more than a result should; always valid Unicode."""
    return path.resolve().name.encode("utf-8", errors="replace").decode("utf-8")
