"""The temperatures of a trained network's probabilities, fitted on the validation part."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader

from NoisyLabelSegLib.calibration import RegionName
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.methods.affinity_umamba import branches_of
from NoisyLabelSegLib.temperature import fit_temperature, sampled_voxels
from training.recipes.image_alone import NO_MASK
from training.recipes.parts import Parts

REGION: RegionName = "predicted"


def fitted_temperatures(model: Model, parts: Parts) -> dict[str, Any]:
    """`temperatures` of the method's arguments, rounded to three digits.

    Fitted to the voxels of the validation windows that the network takes for a structure: those are the ones whose
    probabilities a person reads, and of all voxels nearly all are background. A region chosen by the reference would
    ask even a calibrated network for less confidence, see `NoisyLabelSegLib.calibration`.
    """
    logits, labels = [], []
    for batch in DataLoader(parts.windows("val", NO_MASK, augment=False), batch_size=1):
        with torch.inference_mode():
            logits.append(branches_of(model.network(batch["image"].to(model.device)).float().cpu(), parts.classes))
        labels.append(batch["expert"][0])
    found = []
    for branch in zip(*logits, strict=True):
        cases = ((part[0], given) for part, given in zip(branch, labels, strict=True))
        found.append(round(fit_temperature(*sampled_voxels(cases, REGION)), 3))
    return {"temperatures": found}
