"""VM-UNet and its blocks: sizes, what a block sees, and its layers against the formulas that they stand for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks import build
from NoisyLabelSegLib.networks.vm_unet import VMUNet
from NoisyLabelSegLib.networks.vss import SS2D, PatchMerging, VSSBlock, patch_expanding
from NoisyLabelSegLib.ops.cross_scan import cross_selective_scan

SMALL: dict[str, Any] = {"in_channels": 1, "out_channels": 3, "features": [3, 5, 6, 7], "blocks": [1] * 4, "state": 2}


def made(spatial_dims: int, **arguments: Any) -> VMUNet:
    torch.manual_seed(0)
    return VMUNet(spatial_dims, **{**SMALL, **arguments}).eval()


@pytest.mark.parametrize(
    ("arguments", "shape", "levels"),
    [
        ({"patch": 2}, (32, 16), [(16, 8), (8, 4), (4, 2), (2, 1)]),
        ({"patch": [4, 2]}, (32, 32), [(8, 16), (4, 8), (2, 4), (1, 2)]),
        ({"patch": 1, "features": [4, 3], "blocks": [0, 2]}, (6, 8), [(6, 8), (3, 4)]),
        ({"patch": 2, "in_channels": 3}, (16, 16), [(8, 8), (4, 4), (2, 2), (1, 1)]),
        ({"patch": 1}, (8, 8, 16), [(8, 8, 16), (4, 4, 8), (2, 2, 4), (1, 1, 2)]),
        ({"patch": [1, 2, 2], "in_plane_levels": 2}, (2, 16, 16), [(2, 8, 8), (2, 4, 4), (2, 2, 2), (1, 1, 1)]),
        ({"patch": [1, 2, 2], "in_plane_levels": 3}, (5, 16, 16), [(5, 8, 8), (5, 4, 4), (5, 2, 2), (5, 1, 1)]),
    ],
)
def test_levels_are_halved_and_logits_have_the_image_s_size(
    arguments: dict[str, Any], shape: tuple[int, ...], levels: list[tuple[int, ...]]
) -> None:
    network = made(len(shape), **arguments)
    image = torch.randn(2, arguments.get("in_channels", 1), *shape)
    with torch.inference_mode():
        features = network.encoder(image)
        assert network(image).shape == (2, 3, *shape)
    widths = arguments.get("features", SMALL["features"])
    assert [tuple(f.shape) for f in features] == [(2, c, *size) for c, size in zip(widths, levels, strict=True)]


@pytest.mark.parametrize("shape", [(40, 32), (32, 40), (16, 32)])
def test_sizes_that_cannot_be_halved_are_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(InputError, match=r"multiples of \[32, 32\] .*set preprocessing.multiple to 32"):
        made(2)(torch.randn(1, 1, *shape))


@pytest.mark.parametrize(
    "wrong", [{"patch": [4, 4, 4]}, {"patch": 0}, {"blocks": [1, 1]}, {"features": "many"}, {"depths": 2}]
)
def test_arguments_that_do_not_fit_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="'vm_unet' cannot be built"):
        build("vm_unet", **{"spatial_dims": 2, **SMALL, **wrong})


@pytest.mark.parametrize("shape", [(5, 7), (3, 4, 5)])
def test_a_voxel_sees_the_whole_map_through_one_block(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    block = VSSBlock(len(shape), 3, 2).double()
    image = torch.randn(1, 3, *shape, dtype=torch.float64, requires_grad=True)
    centre = (0, 0, *(n // 2 for n in shape))
    (gradient,) = torch.autograd.grad(block(image)[centre], image)
    assert gradient.abs().sum(dim=1).min() > 0


def literal_ss2d(layer: SS2D, x: Tensor) -> Tensor:
    """Matrices on channels-last maps, direction by direction."""
    x, gate = _linear(x, _matrix(layer.enter)).chunk(2, dim=1)
    u, given = F.silu(layer.local(x)), layer.selection
    projections, steps = (_matrix(m).unflatten(0, (given.directions, -1)) for m in (given.project, given.step))
    directions = []
    for project, step in zip(projections, steps, strict=True):
        low, b_k, c_k = _linear(u, project).split(given.sizes, dim=1)
        directions.append((_linear(low, step), b_k, c_k))
    delta, b, c = (torch.stack(maps, dim=1) for maps in zip(*directions, strict=True))
    y = cross_selective_scan(u, delta, -given.decay.exp(), b, c, given.skip, given.step_bias, delta_softplus=True)
    normed = F.layer_norm(y.movedim(1, -1), y.shape[1:2], layer.norm.weight, layer.norm.bias).movedim(-1, 1)
    return _linear(normed * F.silu(gate), _matrix(layer.leave))


def _linear(x: Tensor, matrix: Tensor) -> Tensor:
    return (x.movedim(1, -1) @ matrix.T).movedim(-1, 1)


def _matrix(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight.flatten(1)


@pytest.mark.parametrize("shape", [(4, 3), (2, 3, 4)])
def test_projections_for_all_directions_at_once_are_those_of_each(shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    layer = SS2D(len(shape), 3, 40, 5, 2).double()  # its steps have a rank of 2
    x = torch.randn(2, 3, *shape, dtype=torch.float64)
    torch.testing.assert_close(layer(x), literal_ss2d(layer, x), rtol=1e-10, atol=1e-12)


def test_merging_is_a_linear_layer_of_the_normed_patch() -> None:
    merging, x = PatchMerging(3, 5, (2, 2)).double(), torch.randn(2, 3, 6, 4, dtype=torch.float64)
    nn.init.normal_(merging.norm.weight)
    merged = merging(x)
    assert merged.shape == (2, 5, 3, 2)
    patch = torch.cat([x[:, :, 2, 2], x[:, :, 2, 3], x[:, :, 3, 2], x[:, :, 3, 3]], dim=1)
    normed = F.layer_norm(patch, (12,), merging.norm.weight, merging.norm.bias)
    torch.testing.assert_close(merged[:, :, 1, 1], normed @ _matrix(merging.reduce).T)


def test_expanding_is_a_linear_layer_whose_channels_become_a_patch() -> None:
    expanding, x = patch_expanding(4, 3, (2, 2)).double(), torch.randn(2, 4, 3, 2, dtype=torch.float64)
    weight = next(expanding.parameters())  # (in, out, 2, 2)
    patch = torch.einsum("bc,cohw->bhwo", x[:, :, 1, 1], weight)
    expected = F.layer_norm(patch, (3,)).movedim(-1, 1)
    torch.testing.assert_close(expanding(x)[:, :, 2:4, 2:4], expected)


def test_it_is_exported() -> None:
    network, image = made(2, patch=2, features=[3, 5], blocks=[1, 1]), torch.randn(1, 1, 8, 12)
    program = torch.export.export(network, (image,))
    torch.testing.assert_close(program.module()(image), network(image))
