"""One adapter a public data set or convention: from the published files to a `dataset.json`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.data.adapters import acdc, hippocampus, lidc, nnunet
from training.data.cases import DataSet

ADAPTERS: dict[str, Callable[[Path, Path], DataSet]] = {
    "lidc": lidc.adapt,
    "hippocampus": hippocampus.adapt,
    "acdc": acdc.adapt,
    "nnunet": nnunet.adapt,
    "msd": nnunet.adapt,
}
