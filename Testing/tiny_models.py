"""Models and cases small enough to run in no time, for the tests of the command line."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch

from NoisyLabelSegLib import networks
from NoisyLabelSegLib.bundle import (
    UNWRITTEN,
    ExpectedIntensity,
    Label,
    ModelDescription,
    Network,
    Quality,
    TrainingData,
    write_bundle,
)
from NoisyLabelSegLib.images import write_image
from NoisyLabelSegLib.segmentations import Segment, Segmentation, write_segmentation

SIZE = (24, 20, 6)  # IJK


def write_model(folder: Path, names: tuple[str, ...] = ("nodule",), dimensions: int = 2) -> Path:
    """A bundle whose U-Net has seeded random weights, one label a name."""
    classes = len(names) + 1
    arguments = {
        "spatial_dims": dimensions,
        "in_channels": classes,
        "out_channels": classes,
        "features": [4] * 6,
    }
    torch.manual_seed(0)
    network = networks.build("unet", **arguments)
    network(torch.rand(2, classes, *[16 * (1 + (dimensions == 3))] * dimensions))  # statistics for its normalisation
    arguments_of_method = {"stages": 3, "update": "mean"}
    return _write(folder, names, dimensions, "refine", "rerenet", arguments_of_method, "unet", arguments, network)


def write_uncertainty_model(
    folder: Path,
    names: tuple[str, ...] = ("nodule",),
    dimensions: int = 3,
    network: str = "affinity_umamba",
    **method: Any,
) -> Path:
    """The same for AffinityUMamba; ``method`` are the method's arguments."""
    classes = len(names) + 1
    arguments: dict[str, Any] = {"spatial_dims": dimensions, "in_channels": 1, "out_channels": classes}
    if network == "affinity_umamba":
        arguments |= {"features": [4, 8, 8], "mamba_from": 1, "state": 4, "pne": [3]}
    else:
        arguments |= {"features": [4] * 6}
    torch.manual_seed(0)
    built = networks.build(network, **arguments)
    built(torch.rand(2, 1, *[32] * dimensions))
    return _write(folder, names, dimensions, "uncertainty", "affinity_umamba", method, network, arguments, built)


def _write(
    folder: Path,
    names: tuple[str, ...],
    dimensions: int,
    kind: Any,
    method: str,
    method_arguments: dict[str, Any],
    network: str,
    network_arguments: dict[str, Any],
    built: torch.nn.Module,
) -> Path:
    labels = tuple(Label(n + 1, name, (1, 0.5, 0), "") for n, name in enumerate(names))
    description = ModelDescription(
        format_version=1,
        name=folder.name,
        version="0.1.0",
        kind=kind,
        method=method,
        method_arguments=method_arguments,
        network=Network(network, network_arguments),
        weights=UNWRITTEN,
        preprocessing={
            "dimensions": dimensions,
            "window": [16] * dimensions,
            "margin": 4,
            "spacing": [],
            "multiple": 16,
            "intensity": {"rule": "min-max", "scope": "case"},
        },
        labels=labels,
        modality="CT",
        anatomy="lung",
        expected_intensity=(ExpectedIntensity(-1024, 3000, "CT numbers", "HU"),),
        licence="CC0-1.0",
        training_data=(TrainingData("Noise", "CC0-1.0", "https://example.org", "Nobody (2024)"),),
        intended_use="Tests.",
        not_for="Anything else.",
        quality=(Quality("Dice", 0.9, "Noise", 3, "mean", None),),
    )
    return write_bundle(folder, description, built.eval().state_dict(), "# Card\n", "A licence.\n", half=False).folder


def voxels(size: tuple[int, int, int] = SIZE) -> np.ndarray[Any, Any]:
    """A noisy bright ball, int16, in array order."""
    noise = np.random.default_rng(0).normal(0, 20, size[::-1])
    return (noise - 800 + 700.0 * ball(size)).astype(np.int16)


def ball(size: tuple[int, int, int] = SIZE, shift: int = 0) -> np.ndarray[Any, Any]:
    """0 and 1, uint8, in array order: a ball about the middle, shifted along I."""
    k, j, i = np.ogrid[: size[2], : size[1], : size[0]]
    distance = (i - size[0] // 2 - shift) ** 2 + (j - size[1] // 2) ** 2 + (3 * (k - size[2] // 2)) ** 2
    return (distance < 30).astype(np.uint8)


def picture(array: np.ndarray[Any, Any], origin: tuple[float, float, float] = (10, -20, 30)) -> sitk.Image:
    image = sitk.GetImageFromArray(array, isVector=array.ndim == 4)
    image.SetSpacing((0.7, 0.7, 2.5))
    image.SetOrigin(origin)
    return image


def write_case(folder: Path) -> tuple[Path, Path]:
    """image.nii.gz and mask.seg.nrrd."""
    folder.mkdir(parents=True, exist_ok=True)
    image, mask = folder / "image.nii.gz", folder / "mask.seg.nrrd"
    write_image(image, picture(voxels()))
    write_segmentation(mask, Segmentation(picture(ball(shift=2)), (Segment("my nodule", 1, id="Segment_1"),)))
    return image, mask


def write_overlapping(path: Path) -> None:
    """Two segments in two layers that share voxels."""
    image = picture(np.stack([ball(), ball(shift=2)], axis=-1))
    segments = (Segment("left one", 1, 0, (1, 0, 0), "A"), Segment("right one", 1, 1, (0, 0, 1), "B"))
    write_segmentation(path, Segmentation(image, segments))


def contents(folder: Path) -> dict[str, str]:
    """Every file under a folder with its hash, hidden ones too."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
