"""Pretext tasks, by which an encoder learns without labels, one a file; alone or several at once, weighted."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from training.pretext.contrastive import Contrastive, ContrastiveSettings
from training.pretext.encoder import Encoder
from training.pretext.masked import Masked, MaskedSettings
from training.pretext.rotation import Rotation, RotationSettings
from training.pretext.task import Task

TASKS: dict[str, Any] = {"rotation": Rotation, "masked": Masked, "contrastive": Contrastive}


@dataclass(frozen=True)
class Tasks:
    """Which tasks an encoder learns from; none named is the rotation alone, 3DRotNPC."""

    rotation: RotationSettings | None = None
    masked: MaskedSettings | None = None
    contrastive: ContrastiveSettings | None = None

    def __post_init__(self) -> None:
        if any(settings.weight <= 0 for settings in self.chosen().values()):
            raise ValueError("settings.tasks: a task's weight must be above 0; leave the task out instead")

    def chosen(self) -> dict[str, Any]:
        """The settings of those that take part, by name, in the order above."""
        named = {field.name: value for field in fields(self) if (value := getattr(self, field.name)) is not None}
        return named or {"rotation": RotationSettings()}

    def make(self, encoder: Encoder, channels: int) -> dict[str, Task]:
        """The tasks for an encoder of images with so many channels."""
        return {name: TASKS[name](settings, encoder, channels) for name, settings in self.chosen().items()}
