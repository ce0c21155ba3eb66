"""Networks by name and plain keyword arguments: the two things that a model bundle stores.

Every network maps a tensor ``BCHW[D]`` to logits ``BNHW[D]`` of the same spatial size. A factory accepts JSON values
only (numbers, strings, booleans, lists), so that no bundle ever has to name Python code.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks.affinity_umamba import AffinityUMamba
from NoisyLabelSegLib.networks.attention_unet import attention_unet
from NoisyLabelSegLib.networks.dynamic_unet import dynamic_unet
from NoisyLabelSegLib.networks.plain_conv_unet import plain_conv_unet
from NoisyLabelSegLib.networks.res_unet_3d import ResUNet3D
from NoisyLabelSegLib.networks.residual_encoder_unet import residual_encoder_unet
from NoisyLabelSegLib.networks.segresnet import segresnet
from NoisyLabelSegLib.networks.swin_unetr import swin_unetr
from NoisyLabelSegLib.networks.unet import unet
from NoisyLabelSegLib.networks.unet_plus_plus import unet_plus_plus
from NoisyLabelSegLib.networks.unetr import unetr
from NoisyLabelSegLib.networks.vm_unet import VMUNet
from NoisyLabelSegLib.networks.weak_to_strong import WeakToStrong

REGISTRY: dict[str, Callable[..., nn.Module]] = {
    "affinity_umamba": AffinityUMamba,
    "attention_unet": attention_unet,
    "dynamic_unet": dynamic_unet,
    "plain_conv_unet": plain_conv_unet,
    "res_unet_3d": ResUNet3D,
    "residual_encoder_unet": residual_encoder_unet,
    "segresnet": segresnet,
    "swin_unetr": swin_unetr,
    "unet": unet,
    "unet_plus_plus": unet_plus_plus,
    "unetr": unetr,
    "vm_unet": VMUNet,
    "weak_to_strong": WeakToStrong,
}


def build(name: str, **arguments: Any) -> nn.Module:
    """Make the network called ``name``.

    Raises:
        InputError: when no network has that name or the arguments do not fit it.
    """
    if name not in REGISTRY:
        raise InputError(f"There is no network called '{name}'; known ones are {', '.join(sorted(REGISTRY))}.")
    try:
        return REGISTRY[name](**arguments)
    except InputError:
        raise
    except (TypeError, ValueError, AssertionError) as error:
        raise InputError(f"The network '{name}' cannot be built from {arguments}: {error}.") from error
