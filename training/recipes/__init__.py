"""What is trained, one method a file. A recipe's step fits on one screen; the engine runs it."""

from __future__ import annotations

from typing import Any, NamedTuple

from training.recipes.affinity_umamba import AffinityUMamba, AffinityUMambaSettings
from training.recipes.rerenet import ReReNet, ReReNetSettings
from training.recipes.supervised import Supervised, SupervisedSettings


class Registered(NamedTuple):
    """A recipe's settings (a dataclass) and the class that takes them and the experiment's `Parts`."""

    settings: type
    recipe: Any


RECIPES = {
    "supervised": Registered(SupervisedSettings, Supervised),
    "rerenet": Registered(ReReNetSettings, ReReNet),
    "affinity_umamba": Registered(AffinityUMambaSettings, AffinityUMamba),
}
