"""Weak-to-strong, stage 1: a network that sees both modalities, with ARM or a plainer fusion (thesis chapter 5).

Dice + CE of equal weight, (5.7). Cases without a strong image cannot be used here. Any network that takes one more
channel than the image has fuses early.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field, replace

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Intensity
from training.recipes.parts import Parts
from training.recipes.supervised import Supervised, SupervisedSettings


@dataclass(frozen=True)
class ARMSettings:
    """How intensities of the strong modality are mapped."""

    strong: Intensity = field(default_factory=Intensity)


class ARM(Supervised):
    """See the module's text."""

    def __init__(self, settings: ARMSettings, parts: Parts) -> None:
        super().__init__(SupervisedSettings(), paired_only(parts), settings.strong)


def paired_only(parts: Parts) -> Parts:
    """The same without the cases that have no strong image, which are counted on the terminal.

    Raises:
        InputError: when no training case is left.
    """
    cases = tuple(case for case in parts.dataset.cases if case.strong)
    if missing := len(parts.dataset.cases) - len(cases):
        print(f"{missing} of {len(parts.dataset.cases)} cases have no strong image and are left out.", file=sys.stderr)
    if not any(case.split == "train" for case in cases):
        raise InputError(f"No training case of '{parts.dataset.name}' has a strong image: name them by 'strong'.")
    return replace(parts, dataset=replace(parts.dataset, cases=cases))
