"""The temperatures of a trained network's probabilities, fitted on the validation part."""

from __future__ import annotations

import sys
from collections import defaultdict
from typing import Any

import torch
from torch.utils.data import DataLoader

from NoisyLabelSegLib.calibration import RegionName, region_mask
from NoisyLabelSegLib.inference.model import Model
from NoisyLabelSegLib.methods.affinity_umamba import branches_of
from NoisyLabelSegLib.temperature import fit_temperature, sampled_voxels
from training.recipes.image_alone import NO_MASK
from training.recipes.parts import Parts

REGION: RegionName = "predicted"


def fitted_temperatures(model: Model, parts: Parts) -> dict[str, Any]:
    """`temperatures` of the method's arguments, rounded to three digits.

    Fitted to the voxels of the validation part, seen as at inference, that the network takes for a structure: those are
    the ones whose probabilities a person reads, and of all voxels nearly all are background. A region chosen by the
    reference would ask even a calibrated network for less confidence, see `NoisyLabelSegLib.calibration`. Without an
    expert's label for every case there is nothing to fit to: none then, and that is printed.
    """
    if not parts.cases("val") or not all(case.has_expert for case in parts.cases("val")):
        print("The validation part lacks experts' labels: probabilities are not calibrated.", file=sys.stderr)
        return {}
    predict, kept = model.predictor(), defaultdict(list)
    strong = model.preprocessing.channels[-1] if model.description.channels > parts.in_channels else None
    for batch in DataLoader(parts.windows("val", NO_MASK, augment=False, strong=strong), batch_size=1):
        logits = predict(torch.cat([batch["image"], *([batch["strong"]] if strong else [])], dim=1))
        for number, branch in enumerate(branches_of(logits, parts.classes)):
            chosen = torch.from_numpy(region_mask(branch[0].numpy(), batch["expert"][0].numpy(), REGION))
            kept[number].append((branch[0, :, chosen], batch["expert"][0, chosen]))
    return {"temperatures": [round(fit_temperature(*sampled_voxels(cases)), 3) for cases in kept.values()]}
