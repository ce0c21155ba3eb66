"""A model as a folder that is safe to load from a stranger: data only, no code, no expressions, no pickle.

The layout is MONAI's bundle::

    NAME/configs/metadata.json        MONAI's metadata, for MONAI's tools
    NAME/configs/model.json           what this library reads: see `ModelDescription`
    NAME/models/model.safetensors     the weights
    NAME/docs/README.md               the model card
    NAME/LICENSE
"""

from __future__ import annotations

from NoisyLabelSegLib.bundle.description import (
    UNWRITTEN,
    ExpectedAcquisition,
    ExpectedIntensity,
    Label,
    ModelDescription,
    Network,
    Quality,
    TrainingData,
    Weights,
)
from NoisyLabelSegLib.bundle.folder import Bundle, load_bundle
from NoisyLabelSegLib.bundle.importing import import_bundle, is_own, remove_bundle
from NoisyLabelSegLib.bundle.search import BrokenBundle, find_bundle, list_bundles, search_folders, user_folder
from NoisyLabelSegLib.bundle.writing import write_bundle

__all__ = [
    "UNWRITTEN",
    "BrokenBundle",
    "Bundle",
    "ExpectedAcquisition",
    "ExpectedIntensity",
    "Label",
    "ModelDescription",
    "Network",
    "Quality",
    "TrainingData",
    "Weights",
    "find_bundle",
    "import_bundle",
    "is_own",
    "list_bundles",
    "load_bundle",
    "remove_bundle",
    "search_folders",
    "user_folder",
    "write_bundle",
]
