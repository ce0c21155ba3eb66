"""The weights' file against its description, and the network made of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import nn
from torch.overrides import TorchFunctionMode

from NoisyLabelSegLib import networks
from NoisyLabelSegLib.bundle.description import Network
from NoisyLabelSegLib.errors import InputError

MAXIMUM_PARAMETERS = 500_000_000
MAXIMUM_CALLS = 200_000

Layout = Mapping[str, tuple[tuple[int, ...], str]]
"""For every tensor, by its name, the shape and "float" or "int64"."""


def sha256(path: Path) -> str:
    """Give the file's SHA-256 in lower-case hex."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def stored_layout(path: Path) -> Layout:
    """Read the header of a safetensors file; safetensors itself proves that every tensor lies within the file.

    Raises:
        InputError: when this is no sound safetensors file or a tensor has another type than float16, bfloat16, float32
            or int64.
    """
    kinds = {"F16": "float", "BF16": "float", "F32": "float", "I64": "int64"}
    try:
        with safe_open(path, framework="pt") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 - not a dict
            raw = {name: (tuple(part.get_shape()), part.get_dtype()) for name, part in slices.items()}
    except (SafetensorError, OSError) as error:
        raise InputError(f"The weights '{path}' are not a sound safetensors file: {error}.") from error
    for name, (_, dtype) in raw.items():
        if dtype not in kinds:
            raise InputError(
                f"The weights '{path}' hold {name[:200]!r} as {dtype}; only {', '.join(kinds)} are allowed."
            )
    return {name: (shape, kinds[dtype]) for name, (shape, dtype) in raw.items()}


class _CallBudget(TorchFunctionMode):
    """Stops a network whose arguments ask for endlessly many layers."""

    calls = 0

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        if self.calls > MAXIMUM_CALLS:
            raise InputError("it has too many layers")
        given = dict(kwargs or {})
        if func is torch.linspace:  # stochastic-depth rates are read back as numbers, which the meta device cannot do
            given.setdefault("device", "cpu")
        return func(*args, **given)


def expected_layout(network: Network) -> Layout:
    """Build the network on the meta device, where tensors cost no memory, and list its tensors.

    Raises:
        InputError: when it cannot be built or has more than 500 million parameters.
    """
    try:
        with torch.device("meta"), _CallBudget():
            module = networks.build(network.name, **network.arguments)
    except InputError:
        raise
    except Exception as error:  # unforeseen arguments fail anywhere inside MONAI and torch, as any exception
        raise InputError(f"The network '{network.name}' cannot be built from its arguments: {error}.") from error
    count = sum(tensor.numel() for tensor in (*module.parameters(), *module.buffers()))
    if count > MAXIMUM_PARAMETERS:
        raise InputError(f"The network has {count:,} parameters; more than {MAXIMUM_PARAMETERS:,} are not loaded.")
    return {name: (tuple(tensor.shape), _kind(tensor.dtype)) for name, tensor in module.state_dict().items()}


def _kind(dtype: torch.dtype) -> str:
    return "float" if dtype.is_floating_point else str(dtype).removeprefix("torch.")


def check_layout(path: Path, network: Network) -> None:
    """Prove that the file holds exactly the network's tensors.

    Raises:
        InputError: naming the first tensor that is missing, superfluous or of another shape or type.
    """
    stored, expected = stored_layout(path), expected_layout(network)
    for name in sorted(stored.keys() | expected.keys()):
        if name not in stored:
            raise InputError(f"The weights '{path}' lack '{name}', which the network '{network.name}' needs.")
        if name not in expected:
            raise InputError(f"The weights '{path}' hold {name[:200]!r}, which the network '{network.name}' lacks.")
        if stored[name] != expected[name]:
            texts = [f"{kind} {list(shape)}" for shape, kind in (stored[name], expected[name])]
            raise InputError(f"The weights '{path}' hold '{name}' as {texts[0]}; the network needs {texts[1]}.")


def build_loaded(path: Path, network: Network) -> nn.Module:
    """Build the network in float32 on the CPU, in evaluation mode, with the weights of ``path`` (half or full)."""
    with torch.random.fork_rng(devices=[]):  # a training run's random numbers must not depend on loading a model
        module = networks.build(network.name, **network.arguments)
    module.load_state_dict(load_file(path))
    return module.eval()
