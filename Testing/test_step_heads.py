"""PKT's heads against the literal loop of algorithm 5.1, which runs the block again for each step."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from NoisyLabelSegLib.networks.vm_unet import VMEncoder, strides_of
from training.recipes.step_heads import StepHeads
from training.recipes.step_heads_reference import literal_loop

FEATURES, STEPS = [3, 5], 4


def encoder(spatial_dims: int) -> VMEncoder:
    torch.manual_seed(0)
    return VMEncoder(1, FEATURES, [1, 1], strides_of(spatial_dims, 2, 2), 2).double()


def trained(anchored: bool = False) -> StepHeads:
    torch.manual_seed(1)
    heads = StepHeads(FEATURES, STEPS, anchored).double()
    for parameter in heads.parameters():
        nn.init.normal_(parameter)
    return heads


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("shape", [(8, 4), (4, 8, 4)])
def test_all_steps_at_once_are_the_papers_loop(shape: tuple[int, ...], anchored: bool) -> None:
    network, heads = encoder(len(shape)), trained(anchored)
    image = torch.randn(2, 1, *shape, dtype=torch.float64)
    found, loop = heads(network(image)), literal_loop(network, heads, image)
    parameters = [*network.parameters(), *heads.parameters()]
    gradients = [
        torch.autograd.grad(torch.cat([x.sin().flatten() for x in p]).sum(), parameters) for p in (found, loop)
    ]
    for one, other in zip([*found, *gradients[0]], [*loop, *gradients[1]], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


def test_they_start_as_the_identity_and_learn() -> None:
    heads, levels = StepHeads(FEATURES, STEPS), [torch.randn(2, c, 3, 4) for c in FEATURES]
    for f, predictions in zip(levels, heads(levels), strict=True):
        assert torch.equal(predictions, f.expand(STEPS, *f.shape))
    optimizer = torch.optim.SGD(heads.parameters(), lr=0.1)
    for _ in range(2):  # the first step moves the weights, without which scale and shift do nothing
        before = [p.detach().clone() for p in heads.parameters()]
        optimizer.zero_grad()
        torch.cat([(x - 0.5).square().flatten() for x in heads(levels)]).mean().backward()
        optimizer.step()
    assert not any(torch.equal(p, b) for p, b in zip(heads.parameters(), before, strict=True))


def test_anchored_the_first_step_is_the_features_and_the_others_are_as_they_were() -> None:
    levels = [torch.randn(1, c, 2, 2, dtype=torch.float64) for c in FEATURES]
    for f, free, anchored in zip(levels, trained()(levels), trained(anchored=True)(levels), strict=True):
        assert torch.equal(anchored[0], f) and not torch.equal(free[0], f)
        assert torch.equal(anchored[1:], free[1:])


def test_steps_differ_once_they_have_learnt() -> None:
    for level in trained()([torch.randn(1, c, 2, 2, dtype=torch.float64) for c in FEATURES]):
        assert torch.pdist(level.flatten(1)).min() > 0
