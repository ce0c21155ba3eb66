"""The network of two modalities: who sees whom, ARM against its equations, and the weak part alone."""

from __future__ import annotations

from typing import Any, TypeVar, get_args

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks import build
from NoisyLabelSegLib.networks.vm_unet import VMUNet
from NoisyLabelSegLib.networks.weak_to_strong import ARM, CFAM, MFEM, Fusion, WeakToStrong, weak_only
from NoisyLabelSegLib.ops.cross_scan import ScanInputs, cross_selective_scan

M = TypeVar("M", bound=nn.Module)
FUSIONS: tuple[Fusion, ...] = get_args(Fusion)
SMALL: dict[str, Any] = {
    "out_channels": 3, "features": [3, 4, 5, 6], "blocks": [1] * 4, "state": 2, "patch": 1,
}  # fmt: skip
SIZE = (8, 16)


def made(fusion: Fusion = "arm", weak: int = 1, strong: int = 1, spatial_dims: int = 2) -> WeakToStrong:
    torch.manual_seed(0)
    return WeakToStrong(spatial_dims, weak + strong, fusion=fusion, strong_channels=strong, **SMALL).eval()


def alone(in_channels: int = 1, spatial_dims: int = 2) -> VMUNet:
    torch.manual_seed(1)
    return VMUNet(spatial_dims, in_channels, **SMALL).eval()


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape)), dtype=torch.float64)


def randomised(module: M) -> M:
    """In float64, with every parameter at random: norms and biases that start as nothing would hide a mistake."""
    torch.manual_seed(0)
    for parameter in module.double().parameters():
        nn.init.normal_(parameter, std=0.5)
    return module


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize(("weak", "strong", "dimensions"), [(1, 1, 2), (3, 2, 2), (1, 1, 3)])
def test_every_fusion_answers_and_trains(fusion: Fusion, weak: int, strong: int, dimensions: int) -> None:
    network = made(fusion, weak, strong, dimensions)
    image = torch.randn(2, weak + strong, *(SIZE if dimensions == 2 else (8, 8, 8)))
    logits = network(image)
    assert logits.shape == (2, 3, *image.shape[2:])
    logits.square().mean().backward()
    assert [n for n, p in network.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []
    weak_features, fused = network.levels(image)
    assert [f.shape for f in fused] == [f.shape for f in weak_features] and len(fused) == 4


@pytest.mark.parametrize("fusion", [fusion for fusion in FUSIONS if fusion != "early"])
def test_the_weak_encoder_does_not_see_the_strong_image_and_the_fused_features_do(fusion: Fusion) -> None:
    network, image, other = made(fusion), torch.randn(1, 2, *SIZE), torch.randn(1, 2, *SIZE)
    other[:, 0] = image[:, 0]
    with torch.inference_mode():
        one, two = network.levels(image), network.levels(other)
    assert all(torch.equal(a, b) for a, b in zip(one.weak, two.weak, strict=True))
    assert not any(torch.equal(a, b) for a, b in zip(one.fused, two.fused, strict=True))


@pytest.mark.parametrize("fusion", [fusion for fusion in FUSIONS if fusion != "early"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_weak_part_alone_is_a_vm_unet(fusion: Fusion, dimensions: int) -> None:
    network, plain = made(fusion, weak=2, spatial_dims=dimensions), alone(2, dimensions)
    plain.load_state_dict(weak_only(network), strict=True)
    image = torch.randn(1, 3, *(SIZE if dimensions == 2 else (8, 8, 8)))
    with torch.inference_mode():
        features = network.levels(image).weak
        for one, other in zip(plain.encoder(image[:, :2]), features, strict=True):
            assert torch.equal(one, other)
        assert torch.equal(plain(image[:, :2]), network.decoder(features))


def test_no_parameter_of_the_strong_branch_is_in_the_weak_part() -> None:
    network = made()
    before = {name: tensor.clone() for name, tensor in weak_only(network).items()}
    with torch.no_grad():
        for parameter in (*network.strong.parameters(), *network.arms.parameters()):
            parameter.add_(1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in weak_only(network).items())
    weak = sum(p.numel() for part in (network.weak, network.decoder) for p in part.parameters())
    assert sum(tensor.numel() for tensor in before.values()) == weak


def test_fused_early_the_weak_image_stands_for_both() -> None:
    network, plain = made("early"), alone()
    plain.load_state_dict(weak_only(network), strict=True)
    image = torch.randn(1, 1, *SIZE)
    with torch.inference_mode():
        torch.testing.assert_close(plain(image), network(torch.cat([image, image], dim=1)))
    with pytest.raises(InputError, match="of 3 channels cannot stand for a strong one of 1"):
        weak_only(made("early", weak=3))


def exchanged(own: ScanInputs, other: ScanInputs) -> Tensor:
    """Equation (5.3)."""
    return cross_selective_scan(
        own.u, own.delta, own.A, own.B, other.C, own.D, own.delta_bias, delta_softplus=True
    )  # fmt: skip


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2)])
def test_mfem_is_its_equations(shape: tuple[int, ...]) -> None:
    mfem, features = randomised(MFEM(len(shape), 5, 2)), [normal(2, 5, *shape), normal(2, 5, *shape) + 1]
    streams: Any = (mfem.strong, mfem.weak)
    found = mfem(*features)
    given = []
    for stream, f in zip(streams, features, strict=True):
        linear, convolution = stream.local
        x = convolution(linear(f))  # (5.1)
        given.append(stream.selection(x))
        assert torch.equal(given[-1].u, x)
    for k in (0, 1):
        norm, wide, _, narrow = streams[k].mlp
        y = exchanged(given[k], given[1 - k]).movedim(1, -1)
        normed = F.layer_norm(y, (5,), norm.weight, norm.bias).movedim(-1, 1)
        torch.testing.assert_close(found[k], features[k] + narrow(F.gelu(wide(normed))))  # (5.4)


@pytest.mark.parametrize("removed", ["C", "B and the steps"])
def test_nothing_but_c_comes_from_the_other_modality(removed: str) -> None:
    mfem, strong, weak = randomised(MFEM(2, 4, 2)), normal(1, 4, 3, 3) + 1, normal(1, 4, 3, 3)
    selection: Any = mfem.weak.selection
    rank, state, _ = selection.sizes
    with torch.no_grad():
        rows = selection.project.weight.unflatten(0, (selection.directions, -1))
        rows[:, slice(rank + state, None) if removed == "C" else slice(rank + state)] = 0
    one, two = (mfem(strong, weak * scale)[0] for scale in (1, 2))
    assert torch.equal(one, two) == (removed == "C")


@pytest.mark.parametrize("shape", [(3, 4), (2, 3, 2)])
def test_cfam_is_its_equations(shape: tuple[int, ...]) -> None:
    cfam, strong, weak = randomised(CFAM(len(shape), 5, 2)), normal(2, 5, *shape), normal(2, 5, *shape) + 1

    def linear(layer: Any, x: Tensor) -> Tensor:
        return F.linear(x.movedim(1, -1), layer.weight.flatten(1), layer.bias).movedim(-1, 1)

    shared = cfam.shared(torch.cat([strong, weak], dim=1))  # (5.5)
    gates = torch.sigmoid(linear(cfam.strong_gate, strong)), torch.sigmoid(linear(cfam.weak_gate, weak))
    outs = (
        linear(cfam.strong_out, strong + gates[0] * shared),
        linear(cfam.weak_out, weak + gates[1] * shared),
    )  # fmt: skip
    torch.testing.assert_close(cfam(strong, weak), outs[0] + outs[1])  # (5.6)


def test_arm_aggregates_what_the_modalities_gave_each_other() -> None:
    arm, strong, weak = randomised(ARM(2, 4, 2)), normal(1, 4, 3, 3), normal(1, 4, 3, 3) + 1
    assert torch.equal(arm(strong, weak), arm.cfam(*arm.mfem(strong, weak)))


@pytest.mark.parametrize("fusion", [fusion for fusion in FUSIONS if fusion != "early"])
def test_every_level_is_fused_by_its_own_module(fusion: Fusion) -> None:
    network, image = made(fusion, weak=2), torch.randn(1, 3, *SIZE)
    with torch.inference_mode():
        weak, strong = network.weak(image[:, :2]), network.strong(image[:, 2:])
        for fused, module, w, s in zip(network.levels(image).fused, network.arms, weak, strong, strict=True):
            assert torch.equal(fused, module(strong=s, weak=w))
            if fusion in ("add", "multiply"):
                assert torch.equal(fused, s + w if fusion == "add" else s * w)


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"fusion": "late"}, "fusion must be"),
        ({"strong_channels": 2}, "of 2 channels 2 cannot be strong"),
        ({"strong_channels": 0}, "of 2 channels 0 cannot be strong"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(InputError, match=f"'weak_to_strong' cannot be built.*{sentence}"):
        build("weak_to_strong", **{"spatial_dims": 2, "in_channels": 2, **SMALL, **wrong})
