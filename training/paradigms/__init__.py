"""Ways to train, for any recipe that learns from labels; one a file or package. In a YAML: ``paradigm: dale``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from training.paradigms.dale.paradigm import DALE, DALESettings
from training.paradigms.plain import Paradigm, Plain, PlainSettings
from training.paradigms.small_loss import SmallLoss, SmallLossSettings


class Registered(NamedTuple):
    """A paradigm's settings (a dataclass with its `name`), and what makes one of them and the number of classes."""

    settings: type
    make: Callable[[Any, int], Paradigm]


PARADIGMS = {
    "plain": Registered(PlainSettings, Plain),
    "small_loss": Registered(SmallLossSettings, SmallLoss),
    "dale": Registered(DALESettings, DALE),
}
