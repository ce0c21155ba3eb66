"""The last layer of any network, its segmentation head, and what the network makes of an image before it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError

OTHERWISE = "choose another network.name, or, by DALE, set paradigm.alpha to 0 and paradigm.confidence.by to gradients"


class LastLayer:
    """Keeps the input of the last layer: the last convolution onto classes that a forward pass comes through.

    Args:
        network: whose passes are watched. One with several branches has as many last layers, each in its own passes.
        classes: channels of the layer's output.

    Raises:
        InputError: the network has no such convolution.
    """

    def __init__(self, network: nn.Module, classes: int) -> None:
        self.network, self._watching = network, False
        self._layer: nn.Module | None = None
        self._kept: Tensor | None = None
        layers = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d)) and m.out_channels == classes]
        if not layers:
            raise InputError(f"The network has no convolution onto classes, whose input is asked for: {OTHERWISE}.")
        for layer in layers:
            layer.register_forward_pre_hook(self._keep)

    def parameters(self) -> list[nn.Parameter]:
        """The trained parameters of the convolution that the last watched pass came through last.

        Raises:
            InputError: there are none.
        """
        found = [] if self._layer is None else [one for one in self._layer.parameters() if one.requires_grad]
        if not found:
            raise InputError(f"The network's last convolution has nothing that is trained: {OTHERWISE}.")
        return found

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """Watch the passes within; the list holds the last one's features ``BCHW[D]`` at the end.

        It is empty if none came through such a convolution.
        """
        found: list[Tensor] = []
        self._watching = True
        try:
            yield found
            found += [] if self._kept is None else [self._kept]
        finally:
            self._watching, self._kept = False, None

    @torch.no_grad()
    def of(self, image: Tensor) -> Any:
        """The convolution itself, whose output is what the network gives of an image; nothing of the network changes.

        Raises:
            InputError: the network ends in something else.
        """
        training = self.network.training
        with self.watched() as features:
            logits = self.network.eval()(image)
        self.network.train(training)
        if features and self._layer is not None and torch.equal(self._layer(features[0]), logits):
            return self._layer
        raise InputError("RefineSeg needs a network whose last layer is a convolution: choose another network.name.")

    def _keep(self, layer: nn.Module, given: tuple[Any, ...]) -> None:
        if self._watching:
            self._layer, self._kept = layer, given[0]
