"""The encoder of any network: what leads to its deepest features, by which pretext tasks teach it.

Those are what a network's ``encoder`` gives last or, where it has none, the last input of a module, in a forward pass,
with the fewest voxels: what a U-Net's decoder begins with, where such an encoder's forward pass ends. Modules that
these features do not depend on are taken out, so that a run holds what it has trained and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError

PREFIX = "encoder.network."
"""Of an encoder's tensors in what a run of pre-training keeps; behind it they are called as in the whole network."""


class Encoder(nn.Module):
    """Maps ``BCHWD`` to the network's deepest features; of ``network`` it keeps what they need.

    Args:
        network: maps images to logits; it loses its decoder.
        channels, window: of the images.

    Attributes:
        window: of the images.
        features: channels of the deepest features.
        strides: how many voxels of the image one voxel of them stands for, along each axis.
        end: the name of the module that was given them, "" where the network has an ``encoder``.

    Raises:
        InputError: the network does not take such images, or makes them no smaller.
    """

    def __init__(self, network: nn.Module, channels: int, window: Sequence[int]) -> None:
        super().__init__()
        self.network, self.window, self.end = network.eval(), tuple(window), ""
        image = torch.zeros(1, channels, *window)
        try:
            if not isinstance(getattr(network, "encoder", None), nn.Module):
                self.end = _given_the_deepest(network, image)
                _replace(network, network.get_submodule(self.end), _End())
            found, shapes = self._probed(image)
        except (RuntimeError, ValueError) as error:
            raise InputError(f"The network cannot see fragments of {list(window)} voxels: {error}") from error
        if found.shape[2:].numel() == image.shape[2:].numel():
            raise InputError("The network has no encoder that makes images smaller: choose another network.name.")
        self.features = found.shape[1]
        self.strides = tuple(-(-whole // part) for whole, part in zip(window, found.shape[2:], strict=True))
        found.sum().backward()
        _take_out_what_did_not_learn(network, shapes)
        network.zero_grad()

    def forward(self, image: Tensor) -> Tensor:
        if not self.end:
            return self.network.get_submodule("encoder")(image)[-1]
        try:
            self.network(image)
        except _Reached as reached:
            return reached.features
        raise AssertionError(f"A forward pass did not come to {self.end}.")

    def _probed(self, image: Tensor) -> tuple[Tensor, dict[nn.Module, torch.Size]]:
        """The deepest features, and the shape of what each module that was called gave."""
        shapes: dict[nn.Module, torch.Size] = {}

        def keep(module: nn.Module, _given: Any, output: Any) -> None:
            if isinstance(output, Tensor):
                shapes[module] = output.shape

        hooks = [module.register_forward_hook(keep) for module in self.network.modules()]
        found = self(image)
        for hook in hooks:
            hook.remove()
        return found, shapes


def encoder_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Of what pre-training trained, the encoder's tensors by their names in the whole network: no head of a task."""
    return {name.removeprefix(PREFIX): tensor for name, tensor in state.items() if name.startswith(PREFIX)}


class _Reached(Exception):  # noqa: N818
    """No error: the rest of a forward pass is not needed."""

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        self.features = features


class _End(nn.Module):
    """Where a forward pass ends."""

    def forward(self, features: Tensor, *_others: Any, **_named: Any) -> Tensor:
        raise _Reached(features)


class _Unneeded(nn.Module):
    """Stands for a module on whose output the deepest features do not depend: gives zeros of that shape."""

    def __init__(self, shape: Sequence[int]) -> None:
        super().__init__()
        self.shape = tuple(shape[1:])

    def forward(self, given: Tensor, *_others: Any, **_named: Any) -> Tensor:
        return given.new_zeros(()).expand(len(given), *self.shape)


def _given_the_deepest(network: nn.Module, image: Tensor) -> str:
    """The name of the outermost module that is given the features that the decoder begins with."""
    found: list[tuple[Tensor, str]] = []

    def note(name: str) -> Any:
        def hook(_module: nn.Module, given: tuple[Any, ...]) -> None:
            if name and given and isinstance(given[0], Tensor) and given[0].ndim == image.ndim:
                found.append((given[0], name))

        return hook

    hooks = [module.register_forward_pre_hook(note(name)) for name, module in network.named_modules()]
    with torch.no_grad():
        network(image)
    for one in hooks:
        one.remove()
    smallest = min(given.shape[2:].numel() for given, _ in found)
    deepest, inner = [(given, name) for given, name in found if given.shape[2:].numel() == smallest][-1]
    return next(name for given, name in found if given is deepest and f"{inner}.".startswith(f"{name}."))


def _replace(network: nn.Module, old: nn.Module, new: nn.Module) -> None:
    """Under all its names."""
    for module in list(network.modules()):
        for name in [name for name, child in module._modules.items() if child is old]:
            setattr(module, name, new)


def _take_out_what_did_not_learn(module: nn.Module, shapes: Mapping[nn.Module, Sequence[int]]) -> None:
    """Modules whose parameters have no gradient are taken out, single parameters stay as they are."""
    for name, child in list(module.named_children()):
        parameters, listed = list(child.parameters()), isinstance(child, nn.ModuleList)
        if parameters and not listed and all(one.grad is None for one in parameters):
            setattr(module, name, _Unneeded(shapes.get(child, ())))
        else:
            _take_out_what_did_not_learn(child, shapes)
    for parameter in module.parameters(recurse=False):
        parameter.requires_grad_(parameter.grad is not None)
