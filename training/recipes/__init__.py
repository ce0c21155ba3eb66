"""What is trained, one method a file. A recipe's step fits on one screen; the engine runs it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from torch import Tensor

from training.recipes.affinity_umamba import AffinityUMamba, AffinityUMambaSettings
from training.recipes.arm import ARM, ARMSettings
from training.recipes.parts import deployed
from training.recipes.pkt import PKT, PKTSettings
from training.recipes.pseudo_labels import PseudoLabels, PseudoLabelSettings
from training.recipes.refineseg import RefineSeg, RefineSegSettings
from training.recipes.rerenet import ReReNet, ReReNetSettings
from training.recipes.supervised import Supervised, SupervisedSettings


class Registered(NamedTuple):
    """A recipe's settings (a dataclass) and the class that takes them and the experiment's `Parts`.

    `deployed` picks the exported network's weights of what a checkpoint holds. `paradigms` tells whether it learns
    from label maps, so that a paradigm of training can be chosen, and `segments` whether its network gives some.
    """

    settings: type
    recipe: Any
    deployed: Callable[[Mapping[str, Tensor]], dict[str, Tensor]] = dict
    paradigms: bool = True
    segments: bool = True


RECIPES = {
    "supervised": Registered(SupervisedSettings, Supervised),
    "rerenet": Registered(ReReNetSettings, ReReNet),
    "affinity_umamba": Registered(AffinityUMambaSettings, AffinityUMamba),
    "arm": Registered(ARMSettings, ARM),
    "pkt": Registered(PKTSettings, PKT, deployed),
    "pseudo_labels": Registered(PseudoLabelSettings, PseudoLabels, deployed, paradigms=False),
    "refineseg": Registered(RefineSegSettings, RefineSeg, deployed, paradigms=False),
}
