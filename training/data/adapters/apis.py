"""APIS (ISBI 2023), ischaemic stroke: non-contrast CT is weak, ADC is strong. Terms of use: see the challenge's site.

Published (bivl2ab.uis.edu.co/challenges/apis): ``<case>/<case>_ncct.nii.gz``, ``<case>/<case>_adc.nii.gz`` and
``<case>/masks/<case>_r1_mask.nii.gz``, the first radiologist's lesion, drawn on the ADC.
"""

from __future__ import annotations

from pathlib import Path

from training.data.adapters.pairs import Pair, Pairs, adapt_pairs
from training.data.cases import DataSet


def adapt(source: Path, target: Path) -> DataSet:
    """One case a patient; see `adapt_pairs`."""
    described = Pairs("APIS", "APIS terms of use", "CT", "ADC", "ischaemic lesion")
    folders = sorted(path for path in source.glob("train_*") if path.is_dir())
    return adapt_pairs(described, [_pair(folder) for folder in folders], target)


def _pair(folder: Path) -> Pair:
    name = folder.name
    weak, strong = (folder / f"{name}_{kind}.nii.gz" for kind in ("ncct", "adc"))
    return Pair(name, name, weak, strong, folder / "masks" / f"{name}_r1_mask.nii.gz")
