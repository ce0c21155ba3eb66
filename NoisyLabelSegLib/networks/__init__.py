"""Networks by name and plain keyword arguments: the two things that a model bundle stores.

Every network maps a tensor ``BCHW[D]`` to logits ``BNHW[D]`` of the same spatial size. A factory accepts JSON values
only (numbers, strings, booleans, lists), so that no bundle ever has to name Python code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks.dynamic_unet import dynamic_unet
from NoisyLabelSegLib.networks.unet import unet

REGISTRY: dict[str, Callable[..., nn.Module]] = {"dynamic_unet": dynamic_unet, "unet": unet}


def build(name: str, **arguments: Any) -> nn.Module:
    """Make the network called ``name``.

    Raises:
        InputError: when no network has that name or the arguments do not fit it.
    """
    if name not in REGISTRY:
        raise InputError(f"There is no network called '{name}'; known ones are {', '.join(sorted(REGISTRY))}.")
    try:
        return REGISTRY[name](**arguments)
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"The network '{name}' cannot be built from {arguments}: {error}.") from error
