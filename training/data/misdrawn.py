"""Full drawings of an annotator who errs in a known way, to see whether RefineSeg finds out how.

Of some classes a rim is lost, of others contiguous pieces; what is lost is drawn as background. The rim follows from
the image, so nothing but somebody else's drawing can tell it from what is not there; pieces lie at random places.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from training.data.adapters.files import write_labels
from training.data.cases import Case, DataSet, Drawing, write_dataset
from training.data.drawn import eroded
from training.data.masks import expert_labels

Labels = NDArray[np.uint8]
PIECE = 3.0
"""How large missed pieces are: the standard deviation of the field that they are cut from, voxels in the plane."""


@dataclass(frozen=True)
class Errors:
    """How an annotator errs.

    Attributes:
        erode: of a class, the width of the rim that is lost in every slice, voxels.
        miss: of a class, the share that is lost in pieces, 0 to 1.
    """

    erode: Mapping[int, float] = field(default_factory=dict)
    miss: Mapping[int, float] = field(default_factory=dict)


def misdraw_dataset(dataset: DataSet, folder: Path, errors: Errors, experts: float, seed: int) -> DataSet:
    """Write a copy whose cases have a full drawing of "planted", and of some patients one of "expert", and no others.

    Args:
        dataset: cases with experts' labels, which stay for measuring.
        folder: of the copy.
        errors: how "planted" errs.
        experts: share of the patients whose expert's labels are drawings, too.
        seed: every random number comes from it.

    Raises:
        InputError: no such class, or a width or share that cannot be.
    """
    if unknown := {*errors.erode, *errors.miss} - {*dataset.labels}:
        raise InputError(f"'{dataset.name}' has no class {min(unknown)}: it has {', '.join(map(str, dataset.labels))}.")
    if any(width < 0 for width in errors.erode.values()) or any(not 0 <= s <= 1 for s in errors.miss.values()):
        raise InputError("Classes are eroded by 0 voxels or more, and shares of them missed between 0 and 1.")
    cases = tuple(_misdrawn(case, folder, errors, experts, seed) for case in dataset.cases)
    told = {f"{what}_{value}": x for what, each in vars(errors).items() for value, x in each.items()}
    simulation = {**dataset.simulation, **told, "experts": experts, "misdrawn_seed": float(seed)}
    misdrawn = replace(dataset, name=f"{dataset.name}, misdrawn", cases=cases, simulation=simulation)
    write_dataset(folder, misdrawn)
    return misdrawn


def misdraw(labels: Labels, errors: Errors, rng: np.random.Generator) -> Labels:
    """What the annotator draws of true ``labels`` (slices, rows, columns)."""
    drawn = labels.copy()
    for value, width in errors.erode.items():
        structure = labels == value
        drawn[structure & ~eroded(structure, width)] = 0
    for value, share in errors.miss.items():
        structure = labels == value
        noise = ndimage.gaussian_filter(rng.standard_normal(labels.shape), (PIECE / 4, PIECE, PIECE))
        if share and structure.any():
            drawn[structure & (noise <= np.quantile(noise[structure], share))] = 0
    return drawn


def _misdrawn(case: Case, folder: Path, errors: Errors, experts: float, seed: int) -> Case:
    expert = expert_labels(case, read_image(case.image))
    rng = np.random.default_rng((seed, zlib.crc32(case.id.encode())))
    drawn = misdraw(sitk.GetArrayFromImage(expert).astype(np.uint8), errors, rng)
    path = write_labels(folder / "misdrawnTr" / f"{case.id}.nii.gz", drawn, expert)
    drawings = [Drawing(path, "planted", "full")]
    if np.random.default_rng((seed, zlib.crc32(case.patient.encode()))).random() < experts:
        true = case.label or write_labels(folder / "expertTr" / path.name, sitk.GetArrayFromImage(expert), expert)
        drawings.append(Drawing(true, "expert", "full"))
    return replace(case, drawings=tuple(drawings))
