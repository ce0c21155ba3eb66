"""Starting a network from another run's weights."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError


def start_from(network: nn.Module, checkpoint: Path) -> None:
    """Give ``network`` the weights of a run's ``best.ckpt``.

    A convolution that sees more channels than the other run keeps its answer at first: the weights of the new channels,
    behind the known ones, are zero.

    Raises:
        InputError: when the file is missing or a tensor does not fit, naming the tensor.
    """
    if not checkpoint.is_file():
        raise InputError(f"There is no '{checkpoint}' to start from: train that run first.")
    source: dict[str, Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["network"]
    target = network.state_dict()
    if names := source.keys() ^ target.keys():
        raise InputError(f"'{checkpoint}' is of another network: only one of both has {min(names)}.")
    network.load_state_dict({name: _fitted(name, source[name], tensor) for name, tensor in target.items()})


def _fitted(name: str, source: Tensor, target: Tensor) -> Tensor:
    if source.shape == target.shape:
        return source
    wider = source.ndim > 1 and source.shape[:1] + source.shape[2:] == target.shape[:1] + target.shape[2:]
    if not wider or source.shape[1] > target.shape[1]:
        raise InputError(f"The tensor {name} has the shape {list(source.shape)}, but {list(target.shape)} is needed.")
    result = torch.zeros_like(target)
    result[:, : source.shape[1]] = source
    return result
