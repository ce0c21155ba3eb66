"""What a pretext task is: something an encoder can be asked without labels, and a head that answers."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from training.pretext.encoder import Encoder


class Task(nn.Module, ABC):
    """One pretext task; random numbers are torch's."""

    @abstractmethod
    def forward(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        """The loss of a batch of fragments ``BCDHW``, one number."""

    @abstractmethod
    def tally(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        """What is counted in fragments that training does not see; it adds up over batches."""

    @abstractmethod
    def figures(self, tally: Tensor) -> dict[str, float]:
        """What a sum of tallies says; the first figure is to be as large as possible."""
