"""HECKTOR 2022, head and neck tumours: CT is weak, FDG-PET (SUV) is strong. Terms of use: see the challenge's site.

Published (hecktor.grand-challenge.org/Data): ``imagesTr/<centre>-<number>__CT.nii.gz`` and ``__PT.nii.gz``, each on its
own grid, ``labelsTr/<centre>-<number>.nii.gz`` with 1 primary tumour (GTVp) and 2 lymph nodes (GTVn): both are lesion.
"""

from __future__ import annotations

from pathlib import Path

from training.data.adapters.files import published_images
from training.data.adapters.pairs import Pair, Pairs, adapt_pairs
from training.data.cases import DataSet

ENDING = "__CT.nii.gz"


def adapt(source: Path, target: Path) -> DataSet:
    """One case a patient; see `adapt_pairs`."""
    described = Pairs("HECKTOR 2022", "HECKTOR 2022 end user agreement", "CT", "PET", "tumour")
    return adapt_pairs(described, [_pair(source, ct) for ct in published_images(source, f"*{ENDING}")], target)


def _pair(source: Path, ct: Path) -> Pair:
    name = ct.name[: -len(ENDING)]
    return Pair(name, name, ct, ct.with_name(f"{name}__PT.nii.gz"), source / "labelsTr" / f"{name}.nii.gz")
