"""Where the bundled sample cases are: folders with `image.nii.gz`, `coarse.seg.nrrd` and `expert.seg.nrrd`."""

from __future__ import annotations

from importlib import resources
from pathlib import Path


def sample_folder() -> Path:
    """Give the folder of the samples: beside the package in a checkout or in the extension, else in the package."""
    package = Path(str(resources.files("NoisyLabelSegLib")))
    checkout = package.parent / "Resources" / "Samples"
    return checkout if checkout.is_dir() else package / "samples"
