"""The last layer of any network, and its input."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks import build
from training.last_layer import LastLayer


class TwoBranches(nn.Module):
    """Logits of each pixel by itself, by one of two heads, or what is left of them after a ReLU."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 5, 1)
        self.heads = nn.ModuleList([nn.Conv2d(5, 2, 1), nn.Conv2d(5, 2, 1)])
        self.branch, self.rectified = 0, False

    def forward(self, image: Tensor) -> Tensor:
        features = self.body(image).tanh() * (self.branch + 1)
        logits: Tensor = self.heads[self.branch](features)
        return logits.relu() if self.rectified else logits


@pytest.mark.parametrize("branch", [0, 1])
def test_features_are_those_that_the_branch_s_head_sees(branch: int) -> None:
    network, image = TwoBranches(), torch.randn(2, 1, 8, 8)
    network.branch = branch
    last = LastLayer(network, 2)
    assert last.of(image) is network.heads[branch]
    with last.watched() as features:
        network(image)
    torch.testing.assert_close(features[0], network.body(image).tanh() * (branch + 1))
    with last.watched() as nothing:
        pass
    assert nothing == []


def test_networks_without_such_a_layer_are_refused() -> None:
    network = TwoBranches()
    with pytest.raises(InputError, match="set paradigm.alpha to 0 and paradigm.confidence.by to gradients"):
        LastLayer(network, 3)
    network.rectified = True
    with pytest.raises(InputError, match="whose last layer is a convolution"):
        LastLayer(network, 2).of(torch.randn(2, 1, 8, 8))


def test_looking_for_the_last_layer_leaves_the_network_as_it_was() -> None:
    network = build("unet", spatial_dims=2, in_channels=1, out_channels=2, features=[4] * 6, norm="batch").train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    LastLayer(network, 2).of(torch.zeros(1, 1, 32, 32))
    assert network.training
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("unet", {"features": [4] * 6}),
        ("attention_unet", {"features": [4, 8, 8]}),
        ("plain_conv_unet", {"features": [4, 8, 8]}),
        ("segresnet", {"features": 8}),
        ("vm_unet", {"features": [4, 8], "blocks": [1, 1], "state": 2, "patch": 2}),
    ],
)
def test_the_last_layer_is_found_in_any_network(name: str, arguments: dict[str, Any]) -> None:
    if name == "plain_conv_unet":
        pytest.importorskip("dynamic_network_architectures.architectures.unet")
    network = build(name, spatial_dims=2, in_channels=1, out_channels=3, **arguments).eval()
    image = torch.randn(1, 1, 32, 32)
    layer = LastLayer(network, 3).of(image)
    seen: list[Tensor] = []
    layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    with torch.no_grad():
        logits = network(image)
        torch.testing.assert_close(layer(seen[0]), logits)
    assert layer.out_channels == 3
