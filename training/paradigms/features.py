"""What a network makes of its input before its segmentation head."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError


class HeadInput:
    """Keeps the input of the head, the last convolution onto classes that a forward pass comes through.

    Args:
        network: whose passes are watched.
        classes: channels of the head's output.

    Raises:
        InputError: the network has no such convolution.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        self._watching, self._kept = False, None
        heads = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d)) and m.out_channels == classes]
        if not heads:
            raise InputError(
                "The network has no convolution onto classes, whose input L_W needs: set paradigm.alpha to 0."
            )
        for head in heads:
            head.register_forward_pre_hook(self._keep)

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """Watch the passes within; the list holds the last one's features ``BCHW[D]`` at the end."""
        found: list[Tensor] = []
        self._watching = True
        try:
            yield found
        finally:
            self._watching = False
        if self._kept is not None:
            found.append(self._kept)
        self._kept = None

    def _keep(self, _head: nn.Module, given: tuple[Any, ...]) -> None:
        if self._watching:
            self._kept = given[0]
