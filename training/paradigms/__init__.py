"""Ways to train, for any recipe that learns from labels; one a file or package. In a YAML: ``paradigm: dale``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from training.paradigms.co_teaching import CoTeaching, CoTeachingSettings
from training.paradigms.dale.paradigm import DALE, DALESettings
from training.paradigms.meta_weight_net import MetaWeightNet, MetaWeightNetSettings
from training.paradigms.plain import Paradigm, Plain, PlainSettings
from training.paradigms.small_loss import SmallLoss, SmallLossSettings


class Registered(NamedTuple):
    """A paradigm's settings (a dataclass with its `name`), and what makes one of them and the number of classes."""

    settings: type
    make: Callable[[Any, int], Paradigm]


PARADIGMS = {
    "plain": Registered(PlainSettings, Plain),
    "small_loss": Registered(SmallLossSettings, SmallLoss),
    "co_teaching": Registered(CoTeachingSettings, CoTeaching),
    "meta_weight_net": Registered(MetaWeightNetSettings, MetaWeightNet),
    "dale": Registered(DALESettings, DALE),
}
