"""One adapter a public data set or convention: from the published files to a `dataset.json`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from training.data.adapters import (
    acdc,
    apis,
    autopet,
    hecktor,
    hippocampus,
    images,
    isic2016,
    lidc,
    mosmed,
    ms_flair_t1,
    mscmrseg,
    nnunet,
    ph2,
    polyps,
    segments,
    synapse,
)
from training.data.cases import DataSet

ADAPTERS: dict[str, Callable[[Path, Path], DataSet]] = {
    "lidc": lidc.adapt,
    "hippocampus": hippocampus.adapt,
    "acdc": acdc.adapt,
    "hecktor": hecktor.adapt,
    "autopet": autopet.adapt,
    "apis": apis.adapt,
    "ms_flair_t1": ms_flair_t1.adapt,
    "mscmrseg": mscmrseg.adapt,
    "ph2": ph2.adapt,
    "isic2016": isic2016.adapt,
    "mosmed": mosmed.adapt,
    "polyps": polyps.adapt,
    "synapse": synapse.adapt,
    "nnunet": nnunet.adapt,
    "msd": nnunet.adapt,
    "segments": segments.adapt,
    "images": images.adapt,
}
