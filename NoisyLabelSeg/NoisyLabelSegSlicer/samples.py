"""The bundled sample cases in 3D Slicer's Sample Data module: loaded from the extension, nothing is downloaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import slicer

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.sample_data import sample_folder
from NoisyLabelSegSlicer.translation import _


@dataclass(frozen=True)
class Sample:
    """A case: the name of its folder and of its thumbnail, and what a person reads."""

    folder: str
    title: str


def samples() -> tuple[Sample, ...]:
    """The cases, in the order in which they are offered."""
    return (
        Sample("lidc-nodule", _("Lung nodule (CT)")),
        Sample("hippocampus", _("Hippocampus (MR)")),
    )


def load(sample: Sample) -> tuple[Any, Any]:
    """Load the image and the coarse mask of a case, and show them.

    Returns:
        The volume node and the segmentation node.

    Raises:
        InputError: the files are missing.
    """
    folder = sample_folder() / sample.folder
    if not folder.is_dir():
        raise InputError(_("The sample {folder} is missing: install NoisyLabelSeg again.").format(folder=folder))
    volume = slicer.util.loadVolume(str(folder / "image.nii.gz"), {"name": sample.folder})
    coarse = slicer.util.loadSegmentation(str(folder / "coarse.seg.nrrd"), {"name": f"{sample.folder} coarse"})
    coarse.SetReferenceImageGeometryParameterFromVolumeNode(volume)
    slicer.util.setSliceViewerLayers(background=volume, fit=True)
    return volume, coarse


def register(thumbnails: Path) -> None:
    """Offer the cases in the Sample Data module, with the pictures `<folder>.png` from a folder."""
    import SampleData

    for sample in samples():
        SampleData.SampleDataLogic.registerCustomSampleDataSource(
            category="NoisyLabelSeg",
            sampleName=sample.title,
            uris=[],
            fileNames=[],
            nodeNames=[],
            thumbnailFileName=str(thumbnails / f"{sample.folder}.png"),
            customDownloader=lambda _source, sample=sample: load(sample),
        )
