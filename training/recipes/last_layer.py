"""The last layer of any network, found by what it gives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError


def last_layer(network: nn.Module, image: Tensor) -> Any:
    """The convolution whose output is what the network gives of an image, its logits; nothing else of it changes.

    Raises:
        InputError: the network ends in something else.
    """
    made: dict[nn.Module, Tensor] = {}
    convolutions = [m for m in network.modules() if isinstance(m, (nn.Conv2d, nn.Conv3d))]
    hooks = [m.register_forward_hook(lambda m, _, out: made.__setitem__(m, out)) for m in convolutions]
    training = network.training
    with torch.no_grad():
        logits = network.eval()(image)
    network.train(training)
    for hook in hooks:
        hook.remove()
    for layer, out in made.items():
        if out.shape == logits.shape and torch.equal(out, logits):
            return layer
    raise InputError("RefineSeg needs a network whose last layer is a convolution: choose another network.name.")
