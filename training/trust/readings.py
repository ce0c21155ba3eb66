"""How well each reading of omega finds planted noise: one short training, and every way to find omega at its end."""

from __future__ import annotations

from collections import defaultdict

import SimpleITK as sitk
from rich.progress import track

from NoisyLabelSegLib.errors import InputError
from training.checkpoints import Run
from training.data.masks import expert_labels
from training.paradigms.dale.confidence import ConfidenceSettings
from training.suspicion import Found, against_planted, aurocs, planted_cases
from training.trust.asked import maps_of

READINGS = {
    "last layer": ConfidenceSettings("last_layer"),
    "last layer, Adam": ConfidenceSettings("last_layer", update="adam"),
    "all layers": ConfidenceSettings("gradients"),
    "virtual step": ConfidenceSettings("virtual_step"),
    "virtual step, K = 3": ConfidenceSettings("virtual_step", steps=3),
    "virtual step, Adam": ConfidenceSettings("virtual_step", update="adam"),  # as published
    "virtual step, Adam, K = 3": ConfidenceSettings("virtual_step", steps=3, update="adam"),
}


def compare(run: Run, passes: int = 5, limit: int = 0, steps: int = 15) -> dict[str, dict[str, float]]:
    """The AUROCs of 1 - omega in each reading, and of the loss at that moment, against planted noise.

    Omega read the other way round, as more than 1 of what is wrong, has 1 less these. (`trust` measures omega's
    gradient, which goes on where omega is 0.)

    Args:
        run, passes, limit, steps: see `training.trust.asked.trust_of`.

    Raises:
        InputError: the data set has no planted noise; and as `trust_of`.
    """
    planted_cases(run.parts.dataset)  # which says how to make some
    if not any(case.clean for case in run.parts.dataset.part("train")[: limit or None]):
        raise InputError("None of these cases has planted noise: raise --limit or leave it out.")
    found: dict[str, list[Found]] = defaultdict(list)
    cases = maps_of(run, "train", passes, limit, steps, list(READINGS.values()))
    for case, (*maps, loss) in track(cases, description=run.parts.dataset.name):
        if case.clean is None:
            continue
        labels = sitk.GetArrayFromImage(expert_labels(case, loss))
        scores = {name: 1 - sitk.GetArrayFromImage(omega) for name, omega in zip(READINGS, maps, strict=True)}
        for name, score in {**scores, "loss": sitk.GetArrayFromImage(loss)}.items():
            found[name].append(against_planted(case, labels, score))
    return {name: aurocs(every) for name, every in found.items()}
