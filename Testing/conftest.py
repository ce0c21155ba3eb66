"""What several tests share: tiny phantoms, a model without weights and a data set of eight cases."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from numpy.typing import NDArray
from torch import nn

from NoisyLabelSegLib.bundle import UNWRITTEN, Label, ModelDescription, Network, TrainingData
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.inference.preprocessing import Preprocessing

Ellipsoid = Callable[..., NDArray[np.bool_]]
MakeImage = Callable[..., sitk.Image]
MakeModel = Callable[..., Model]


def _ellipsoid(shape: tuple[int, ...], centre: tuple[float, ...], radii: tuple[float, ...]) -> NDArray[np.bool_]:
    grid = np.ogrid[tuple(slice(0, n) for n in shape)]
    return np.asarray(sum(((g - c) / r) ** 2 for g, c, r in zip(grid, centre, radii, strict=True)) <= 1)


def _make_image(
    array: NDArray[Any],
    spacing: tuple[float, ...] = (0.7, 0.7, 2.5),
    direction: NDArray[np.float64] | None = None,
    origin: tuple[float, ...] = (-31.5, 17.25, 204.125),
) -> sitk.Image:
    image = sitk.GetImageFromArray(array)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection((np.eye(3) if direction is None else direction).ravel().tolist())
    return image


def _make_model(
    network: nn.Module, preprocessing: Preprocessing, labels: tuple[str, ...] = ("lesion",), **arguments: object
) -> Model:
    description = ModelDescription(
        format_version=1,
        name="tiny",
        version="0.1.0",
        kind="refine",
        method="rerenet",
        method_arguments={"stages": 3, "update": "mean", **arguments},
        network=Network("unet", {}),
        weights=UNWRITTEN,
        preprocessing={},
        labels=tuple(Label(n, name, (1, 0, 0), "") for n, name in enumerate(labels, 1)),
        modality="CT",
        anatomy="phantom",
        expected_intensity=(),
        licence="CC0-1.0",
        training_data=(TrainingData("phantoms", "CC0-1.0", "", ""),),
        intended_use="Tests.",
        not_for="Patients.",
        quality=(),
    )
    return Model(description, preprocessing, network.eval(), torch.device("cpu"))


@pytest.fixture(scope="session")
def ellipsoid() -> Ellipsoid:
    """``ellipsoid(shape, centre, radii)``: a filled ellipsoid as a boolean array."""
    return _ellipsoid


@pytest.fixture(scope="session")
def make_image() -> MakeImage:
    """``make_image(array, spacing, direction, origin)``: an image on an odd but exact grid."""
    return _make_image


@pytest.fixture(scope="session")
def make_model() -> MakeModel:
    """``make_model(network, preprocessing, labels, **method_arguments)``: a model that has no bundle."""
    return _make_model


@pytest.fixture(scope="session")
def tiny_dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data sets with one, "tiny": bright ellipsoids of 8 patients, coarse masks shifted; 6 train, 2 val."""
    from training.data.cases import Case, DataSet, write_dataset

    folder = tmp_path_factory.mktemp("data")
    target = folder / "tiny"
    target.mkdir()
    cases = []
    for number in range(8):
        rng = np.random.default_rng(number)
        expert = _ellipsoid((16, 32, 32), tuple(np.array([8, 16, 16]) + rng.uniform(-2, 2, 3)), (3.5, 6, 7))
        voxels = (100 * expert + rng.normal(0, 10, expert.shape)).astype(np.float32)
        paths = {kind: target / f"case{number}_{kind}.nii.gz" for kind in ("image", "label", "coarse")}
        coarse = np.roll(expert, (1, 3, -2), axis=(0, 1, 2))
        arrays: list[NDArray[Any]] = [voxels, expert.astype(np.uint8), coarse.astype(np.uint8)]
        for array, path in zip(arrays, paths.values(), strict=True):
            sitk.WriteImage(_make_image(array, (1, 1, 2)), str(path))
        case = Case(f"case{number}", paths["image"], paths["label"], paths["coarse"], (), f"patient{number}")
        cases.append(Case(**{**vars(case), "split": "train" if number < 6 else "val"}))
    write_dataset(target, DataSet("tiny", {1: "lesion"}, tuple(cases), "CC0-1.0"))
    return folder


@pytest.fixture
def drawn_desk(tmp_path: Path, tiny_dataset: Path) -> Path:
    """A folder with the experiment `tiny_trainings.from_drawings` and its data set of drawings."""
    from tiny_trainings import from_drawings

    from training.__main__ import main

    shutil.copytree(tiny_dataset / "tiny", tmp_path / "data" / "tiny")
    assert main(["draw", "tiny", "--name", "coarse", "--inside", "1", "--data", str(tmp_path / "data")]) == 0
    from_drawings(tmp_path)
    return tmp_path
