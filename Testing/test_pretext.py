"""Pretext tasks and the encoders that they teach: any 3D network's, and nothing beside it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from test_networks import SMALL, require
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib import networks
from NoisyLabelSegLib.errors import InputError
from training.pretext import Tasks
from training.pretext.contrastive import Contrastive, ContrastiveSettings, nt_xent, random_view
from training.pretext.encoder import Encoder, encoder_weights
from training.pretext.masked import Masked, MaskedSettings, random_boxes, spread
from training.pretext.rotation import Rotation, RotationSettings
from training.recipes.pretrain import Pretraining

DEEPEST = {
    "affinity_umamba": ((4, 4, 4), 8),
    "attention_unet": ((4, 4, 4), 8),
    "dynamic_unet": ((4, 4, 4), 8),
    "plain_conv_unet": ((4, 4, 4), 8),
    "residual_encoder_unet": ((4, 4, 4), 8),
    "res_unet_3d": ((2, 4, 4), 8),
    "segresnet": ((4, 4, 4), 16),
    "swin_unetr": ((32, 32, 32), 192),
    "unet": ((16, 16, 16), 4),
    "unet_plus_plus": ((16, 16, 16), 4),
    "unetr": ((16, 16, 16), 24),
    "vm_unet": ((16, 16, 16), 8),
}


def network(name: str, window: list[int]) -> nn.Module:
    require(name)
    torch.manual_seed(0)
    sized = {"image_size": window} if name == "unetr" else {}
    return networks.build(name, spatial_dims=3, in_channels=1, out_channels=2, **SMALL[name], **sized)


def window_of(name: str) -> list[int]:
    return [64, 32, 32] if name in ("swin_unetr", "unet", "unet_plus_plus", "unetr", "vm_unet") else [16, 16, 16]


def test_every_network_but_that_of_two_modalities_is_tested() -> None:
    assert DEEPEST.keys() == networks.REGISTRY.keys() - {"weak_to_strong"}


@pytest.mark.parametrize("name", sorted(DEEPEST))
def test_any_encoder_can_be_pre_trained(name: str) -> None:
    window = window_of(name)
    whole = network(name, window)
    layout = {key: tensor.shape for key, tensor in whole.state_dict().items()}
    encoder = Encoder(whole, 1, window)
    assert (encoder.strides, encoder.features) == DEEPEST[name]
    trained = Pretraining(encoder, Tasks(RotationSettings()).make(encoder, 1)).train()
    torch.stack([*trained(torch.randn(2, 1, *window)).values()]).sum().backward()
    # A parameter without a gradient would stop a training of several processes.
    assert [n for n, p in trained.named_parameters() if p.grad is None] == []
    kept = encoder_weights(trained.state_dict())
    assert {key: tensor.shape for key, tensor in kept.items()}.items() < layout.items()


@pytest.mark.parametrize("name", ["attention_unet", "dynamic_unet", "segresnet", "unet"])
def test_deepest_features_are_those_that_the_whole_network_makes(name: str) -> None:
    window = window_of(name)
    whole, image, seen = network(name, window), torch.randn(1, 1, *window), []
    encoder = Encoder(network(name, window), 1, window).eval()
    module = whole.eval().get_submodule(encoder.end)
    module.register_forward_pre_hook(lambda _module, given: seen.append(given[0]))
    with torch.no_grad():
        whole(image)
        assert torch.equal(encoder(image), seen[0])


def test_what_a_network_cannot_see_is_told() -> None:
    with pytest.raises(InputError, match=r"multiples of \[2, 4, 4\]|cannot see fragments of \[3, 16, 16\]"):
        Encoder(network("res_unet_3d", []), 1, [3, 16, 16])
    with pytest.raises(InputError, match=r"cannot see fragments of \[2, 4, 4\] voxels"):
        Encoder(network("res_unet_3d", []), 1, [2, 4, 4])
    with pytest.raises(InputError, match="no encoder that makes images smaller"):
        Encoder(nn.Sequential(nn.Conv3d(1, 2, 3, padding=1)), 1, [4, 8, 8])


@pytest.mark.parametrize(("depth", "size"), [(16, 32), (8, 16), (6, 32)])
def test_each_slice_gets_an_answer(depth: int, size: int) -> None:
    encoder = Encoder(network("res_unet_3d", []), 1, [depth, size, size])
    task = Rotation(RotationSettings(), encoder, 1)
    fragments = torch.randn(3, 1, depth, size, size)
    assert task.logits(encoder, fragments).shape == (3, depth, 4)
    assert int(task.tally(encoder, fragments).sum()) == 3 * depth


def test_the_same_share_of_every_fragment_is_hidden_in_boxes() -> None:
    torch.manual_seed(0)
    hidden = random_boxes((5, 2, 8, 16, 16), (4, 8, 8), 0.5)
    assert hidden.shape == (5, 1, 8, 16, 16)
    boxes = F.avg_pool3d(hidden.float(), (4, 8, 8))
    assert set(boxes.unique().tolist()) == {0, 1}, "a box is hidden whole or not at all"
    assert (boxes.flatten(1).sum(dim=1) == 4).all()
    assert len({tuple(one.flatten().tolist()) for one in boxes}) > 1, "fragments differ"
    assert random_boxes((1, 1, 7, 9, 9), (4, 8, 8), 0.5).shape == (1, 1, 7, 9, 9)


def test_spreading_puts_every_number_in_its_place() -> None:
    values = torch.arange(2 * 1 * 8 * 2 * 3 * 4.0).view(2, 8, 2, 3, 4)
    whole = spread(values, (1, 2, 4), (2, 5, 16))
    assert whole.shape == (2, 1, 2, 5, 16)
    for z, y, x in ((0, 0, 0), (1, 3, 5), (1, 4, 15)):
        channel = (y % 2) * 4 + x % 4
        assert float(whole[1, 0, z, y, x]) == float(values[1, channel, z, y // 2, x // 4])


@pytest.mark.parametrize("changed", [{"box": (8, 16, 16)}, {"box": (8, 8, 16), "share": 0.9}])
def test_something_has_to_be_left_to_tell_what_is_hidden_by(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="all are hidden: make settings.tasks.masked.box"):
        Masked(MaskedSettings(**changed), Encoder(network("res_unet_3d", []), 1, [8, 16, 16]), 1)


def test_only_what_was_hidden_counts() -> None:
    encoder = Encoder(network("res_unet_3d", []), 1, [8, 16, 16])
    task = Masked(MaskedSettings(share=0.5, box=(4, 8, 8)), encoder, 1)
    nn.init.zeros_(task.head.weight)
    assert task.head.bias is not None
    nn.init.constant_(task.head.bias, 2.0)
    torch.manual_seed(3)
    hidden = random_boxes((2, 1, 8, 16, 16), (4, 8, 8), 0.5)
    fragments = torch.where(hidden, torch.tensor(5.0), torch.tensor(-100.0))
    torch.manual_seed(3)
    assert float(task(encoder, fragments).detach()) == pytest.approx(3.0)


def literal_nt_xent(rows: Tensor, temperature: float) -> Tensor:
    rows, losses = rows.double() / rows.double().norm(dim=1, keepdim=True), []
    for i in range(len(rows)):
        partner = (i + len(rows) // 2) % len(rows)
        all_others = [torch.exp(rows[i] @ rows[k] / temperature) for k in range(len(rows)) if k != i]
        losses.append(-torch.log(torch.exp(rows[i] @ rows[partner] / temperature) / torch.stack(all_others).sum()))
    return torch.stack(losses).mean()


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_is_the_paper_s_in_values_and_gradients(temperature: float) -> None:
    torch.manual_seed(0)
    rows = torch.randn(6, 5, requires_grad=True)
    ours, expected = nt_xent(rows, temperature), literal_nt_xent(rows, temperature)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)
    gradients = [torch.autograd.grad(loss, rows)[0] for loss in (ours, expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-6)


def test_one_fragment_cannot_be_contrasted() -> None:
    encoder = Encoder(network("res_unet_3d", []), 1, [8, 16, 16])
    with pytest.raises(InputError, match="engine.batch_size to at least 2"):
        Contrastive(ContrastiveSettings(), encoder, 1)(encoder, torch.randn(1, 1, 8, 16, 16))


def test_a_view_shows_a_part_of_its_fragment_only() -> None:
    torch.manual_seed(0)
    fragments = torch.arange(4.0).view(4, 1, 1, 1, 1).expand(4, 1, 8, 16, 16) * 10
    views = random_view(fragments, 0.5)
    assert views.shape == fragments.shape
    spread_within = views.flatten(1).std(dim=1)
    assert (spread_within < 0.1).all(), "of one value nothing but noise differs"
    assert not torch.equal(random_view(fragments, 0.5), views)


@pytest.mark.parametrize(
    ("tasks", "names"),
    [
        (Tasks(), ["rotation"]),
        (Tasks(masked=MaskedSettings()), ["masked"]),
        (Tasks(RotationSettings(), MaskedSettings(), ContrastiveSettings()), ["rotation", "masked", "contrastive"]),
    ],
)
def test_tasks_are_learnt_alone_or_together(tasks: Tasks, names: list[str]) -> None:
    encoder = Encoder(network("res_unet_3d", []), 1, [8, 16, 16])
    made: Any = Pretraining(encoder, tasks.make(encoder, 1))
    losses = made(torch.randn(2, 1, 8, 16, 16))
    assert set(losses) == set(names) and all(loss.ndim == 0 and torch.isfinite(loss) for loss in losses.values())
    for name, task in made.tasks.items():
        figures = task.figures(task.tally(encoder, torch.randn(2, 1, 8, 16, 16)))
        assert figures and all(isinstance(value, float) for value in figures.values()), name
