"""What nnU-Net's two networks share: the arguments that nnU-Net gives them, and a state dict without repetitions."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from torch import nn

from NoisyLabelSegLib.errors import InputError

SLOPE = 1e-2  # Of the leaky ReLU.


def build_nnunet(name: str, spatial_dims: int, features: Sequence[int], **arguments: Any) -> nn.Module:
    """A network of dynamic-network-architectures with 3x3[x3] kernels that halves the image between levels.

    Args:
        name: "PlainConvUNet" or "ResidualEncoderUNet".
        spatial_dims: 2 or 3.
        features: channels of each level.
        arguments: what the two take differently.

    Raises:
        InputError: when the package is not installed.
    """
    try:
        package = importlib.import_module("dynamic_network_architectures.architectures.unet")
    except ImportError as error:
        raise InputError(
            f'The network {name} needs dynamic-network-architectures: pip install "noisylabelseg[nnunet]".'
        ) from error
    two = spatial_dims == 2
    network: nn.Module = getattr(package, name)(
        n_stages=len(features),
        features_per_stage=list(features),
        conv_op=nn.Conv2d if two else nn.Conv3d,
        kernel_sizes=3,
        strides=[1] + [2] * (len(features) - 1),
        conv_bias=True,
        norm_op=nn.InstanceNorm2d if two else nn.InstanceNorm3d,
        norm_op_kwargs={"eps": 1e-5, "affine": True},
        nonlin=nn.LeakyReLU,
        nonlin_kwargs={"inplace": True, "negative_slope": SLOPE},
        **arguments,
    )
    network.apply(getattr(package, name).initialize)
    return _each_tensor_once(network)


def _each_tensor_once(network: Any) -> nn.Module:
    """Drop the second names of modules, which no file of weights can hold, and the heads that are only supervised."""
    del network.decoder.encoder
    network.decoder.seg_layers = network.decoder.seg_layers[-1:]
    for module in list(network.modules()):
        inner = module._modules.get("all_modules")
        for name in [n for n, child in module._modules.items() if inner and any(child is part for part in inner)]:
            delattr(module, name)
    return network
