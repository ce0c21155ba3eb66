"""Every network of the registry: builds without memory, maps to the same size, trains, and lies in a file."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from NoisyLabelSegLib import networks
from NoisyLabelSegLib.bundle import Network
from NoisyLabelSegLib.bundle.weights import build_loaded, check_layout, expected_layout
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.predictor import Predictor
from training.losses.maps import dice_cross_entropy_map

SMALL: dict[str, dict[str, Any]] = {
    "affinity_umamba": {"features": [4, 8, 8], "mamba_from": 2, "state": 2},
    "attention_unet": {"features": [4, 8, 8]},
    "dynamic_unet": {"features": [4, 8, 8]},
    "plain_conv_unet": {"features": [4, 8, 8]},
    "res_unet_3d": {"features": [4, 8, 8]},
    "residual_encoder_unet": {"features": [4, 8, 8], "blocks": [1, 2, 1]},
    "segresnet": {"features": 8, "blocks_down": [1, 1, 1], "blocks_up": [1, 1]},
    "swin_unetr": {"features": 12, "depths": [1, 1, 1, 1], "heads": [1, 1, 2, 2], "window": 2},
    "unet": {"features": [4] * 6},
    "unet_plus_plus": {"features": [4] * 6},
    "unetr": {"features": 4, "hidden": 24, "mlp": 16, "heads": 2},
    "vm_unet": {"features": [4, 4, 8], "blocks": [1, 1, 1], "state": 2},
    "weak_to_strong": {"features": [4, 4, 8], "blocks": [1, 1, 1], "state": 2},
}
CASES = [(name, dimensions) for name in SMALL for dimensions in (2, 3)]
LARGE = {"swin_unetr", "unet", "unet_plus_plus", "unetr"}  # Their lowest level must be more than one voxel.
IN, OUT = 2, 3


def size(name: str, dimensions: int) -> list[int]:
    return [32] * (dimensions - 1) + [64] if name in LARGE else [16] * dimensions


def arguments(name: str, dimensions: int) -> dict[str, Any]:
    sized = {"image_size": size(name, dimensions)} if name == "unetr" else {}
    return {"spatial_dims": dimensions, "in_channels": IN, "out_channels": OUT, **SMALL[name], **sized}


def require(name: str) -> None:
    """Skip what needs a package that is not one of the tests': it brings others that few want."""
    if name in ("plain_conv_unet", "residual_encoder_unet"):
        pytest.importorskip("dynamic_network_architectures.architectures.unet")


def made(name: str, dimensions: int) -> nn.Module:
    require(name)
    torch.manual_seed(0)
    return networks.build(name, **arguments(name, dimensions))


def test_every_network_is_tested() -> None:
    assert SMALL.keys() == networks.REGISTRY.keys()


@pytest.mark.parametrize(("name", "dimensions"), CASES)
def test_the_output_has_the_input_s_size(name: str, dimensions: int) -> None:
    image = torch.rand(2, IN, *size(name, dimensions))
    with torch.inference_mode():
        logits = made(name, dimensions).eval()(image)
    assert logits.shape[0] == 2 and logits.shape[1] in (OUT, 2 * OUT) and logits.shape[2:] == image.shape[2:]
    assert torch.isfinite(logits).all()


@pytest.mark.parametrize(
    ("name", "dimensions", "half"), [*((*case, False) for case in CASES), *((name, 2, True) for name in SMALL)]
)
def test_every_parameter_learns(name: str, dimensions: int, half: bool) -> None:
    network = made(name, dimensions).train()
    shape = size(name, dimensions)
    image, labels = torch.randn(2, IN, *shape), torch.randint(0, OUT, (2, *shape))
    with torch.autocast("cpu", torch.bfloat16, enabled=half):
        logits = network(image)
    branches = logits.float().split(OUT, dim=1)  # AffinityUMamba has two, the others have one.
    torch.stack([dice_cross_entropy_map(branch, labels).mean() for branch in branches]).sum().backward()
    # A parameter without a gradient would stop a training of several processes.
    assert [n for n, p in network.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()] == []


@pytest.mark.parametrize(("name", "dimensions"), [case for case in CASES if case[0] != "dynamic_unet"])
def test_a_file_of_weights_holds_it(name: str, dimensions: int, tmp_path: Path) -> None:
    network, described = made(name, dimensions).eval(), Network(name, arguments(name, dimensions))
    file = tmp_path / "model.safetensors"
    save_file(network.state_dict(), file)  # refuses tensors that share memory
    check_layout(file, described)
    image = torch.rand(1, IN, *size(name, dimensions))
    with torch.inference_mode():
        assert torch.equal(build_loaded(file, described)(image), network(image))
    assert sum(t.numel() for t in network.state_dict().values()) == sum(
        t.numel() for t in (*network.parameters(), *network.buffers())
    )


@pytest.mark.parametrize("name", sorted(networks.REGISTRY))
def test_its_defaults_are_built_without_memory(name: str) -> None:
    require(name)
    sized = {"image_size": [96, 96, 96]} if name == "unetr" else {}
    layout = expected_layout(Network(name, {"spatial_dims": 3, "in_channels": 2, "out_channels": 4, **sized}))
    assert len(layout) > 10


@pytest.mark.parametrize("name", ["plain_conv_unet", "residual_encoder_unet"])
def test_a_missing_package_is_named_with_its_remedy(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "dynamic_network_architectures.architectures.unet", None)
    with pytest.raises(InputError, match=r"dynamic-network-architectures: pip install .noisylabelseg\[nnunet\]"):
        networks.build(name, **arguments(name, 2))


def test_nnunet_s_networks_answer_as_the_package_s_own() -> None:
    require("plain_conv_unet")
    package = importlib.import_module("dynamic_network_architectures.architectures.unet")
    ours = made("plain_conv_unet", 2)
    theirs = package.PlainConvUNet(
        IN, 3, [4, 8, 8], nn.Conv2d, 3, [1, 2, 2], 2, OUT, 2, conv_bias=True, norm_op=nn.InstanceNorm2d,
        norm_op_kwargs={"eps": 1e-5, "affine": True}, nonlin=nn.LeakyReLU, nonlin_kwargs={"inplace": True},
    )  # fmt: skip
    theirs.decoder.seg_layers = theirs.decoder.seg_layers[-1:]
    result = theirs.load_state_dict(ours.state_dict(), strict=False)
    assert not result.unexpected_keys, "the names are those of nnU-Net's checkpoints"
    image = torch.rand(1, IN, 16, 16)
    with torch.inference_mode():
        assert torch.equal(ours(image), theirs(image))


@pytest.mark.parametrize("shape", [(32, 64), (48, 80), (16, 64), (33, 70)])
def test_unetr_sees_other_sizes_through_windows(shape: tuple[int, int]) -> None:
    network = made("unetr", 2).eval()
    image = torch.rand(1, IN, *shape)
    logits = Predictor(network, torch.device("cpu"))(image)
    assert logits.shape == (1, OUT, *shape) and torch.isfinite(logits).all()
    if shape == (48, 80):
        with torch.inference_mode():  # only the first window sees the corner
            assert torch.allclose(logits[..., :8, :8], network(image[..., :32, :64])[..., :8, :8], atol=1e-5)


def test_unetr_does_not_learn_from_another_size() -> None:
    with pytest.raises(InputError, match=r"built for windows of \[32, 64\].*\[48, 48\].*image_size"):
        made("unetr", 2).train()(torch.rand(1, IN, 48, 48))


@pytest.mark.parametrize("given", [[], [32], [30, 32], [0, 16]])
def test_unetr_needs_its_size(given: list[int]) -> None:
    with pytest.raises(InputError, match="multiples of 16"):
        networks.build("unetr", **{**arguments("unetr", 2), "image_size": given})


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("plain_conv_unet", {"features": "many"}),
        ("residual_encoder_unet", {"blocks": [1]}),
        ("segresnet", {"features": 7}),
        ("swin_unetr", {"features": 13}),
        ("attention_unet", {"levels": 3}),
    ],
)
def test_arguments_that_do_not_fit_are_refused(name: str, wrong: dict[str, Any]) -> None:
    require(name)
    with pytest.raises(InputError, match=f"'{name}' cannot be built"):
        networks.build(name, **{**arguments(name, 2), **wrong})
