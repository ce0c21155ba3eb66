"""DALE's confidence: the quick gradient of omega against the step differentiated through, and what omega does."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from NoisyLabelSegLib.networks import build
from training.losses.maps import PIXEL_LOSSES, Loss
from training.paradigms.dale.confidence import (
    By,
    Confidence,
    ConfidenceSettings,
    Keep,
    Losses,
    Update,
    agreement,
    confidence_gradient,
    derivative_of,
    find_confidence,
    forward_mode_works,
    last_layer_agreement,
    losses_of,
    parameters_of,
    slopes,
)
from training.paradigms.dale.confidence_reference import confidence_gradient_reference

RATE = 0.05


def small_network(dimensions: int, norm: str, classes: int = 3) -> nn.Module:
    torch.manual_seed(0)
    convolution: Any = {2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    norms: dict[str, Any] = {
        "instance": {2: nn.InstanceNorm2d, 3: nn.InstanceNorm3d}[dimensions],
        "batch": {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[dimensions],
    }
    return nn.Sequential(
        convolution(2, 5, 3, padding=1),
        norms[norm](5, affine=True),
        nn.LeakyReLU(0.1),
        nn.Dropout(0.3),
        convolution(5, classes, 3, padding=1),
    ).double()


def weighed(network: nn.Module, image: Tensor, labels: Tensor, mask: Tensor, loss: Loss) -> Losses:
    return losses_of(network, lambda net: mask * PIXEL_LOSSES[loss](net(image), labels))


def two_sets(network: nn.Module, dimensions: int, loss: Loss = "dice_cross_entropy") -> tuple[Losses, Losses, Tensor]:
    """Fuzzy and clear losses, and random weights."""
    generator = torch.Generator().manual_seed(1)
    shape = (2, 7, 6, 5)[: dimensions + 1]
    image = torch.randn(2, 2, *shape[1:], generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 3, shape, generator=generator)
    mask, weights = (torch.rand(shape, generator=generator, dtype=torch.float64) for _ in range(2))
    fuzzy, clear = (weighed(network, image, labels, m, loss) for m in (mask, 1 - mask))
    return fuzzy, clear, weights


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
@pytest.mark.parametrize("norm", ["instance", "batch"])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_gradient_is_that_of_the_differentiated_step(dimensions: int, norm: str, loss: Loss) -> None:
    network = small_network(dimensions, norm).train()
    fuzzy, clear, weights = two_sets(network, dimensions, loss)
    parameters = parameters_of(network)
    expected = confidence_gradient_reference(parameters, fuzzy, clear, weights, RATE)
    assert expected.abs().max() > 1e-8
    torch.testing.assert_close(
        confidence_gradient(parameters, fuzzy, clear, weights, RATE), expected, rtol=1e-9, atol=0
    )
    near = confidence_gradient(parameters, fuzzy, clear, weights, RATE, "difference")
    torch.testing.assert_close(near, expected, rtol=1e-3, atol=1e-3 * expected.abs().max().item())


@pytest.mark.parametrize("loss", PIXEL_LOSSES)
@pytest.mark.parametrize("dimensions", [2, 3])
def test_the_last_layer_s_agreement_is_that_of_its_parameters_alone(dimensions: int, loss: Loss) -> None:
    network = small_network(dimensions, "batch").eval()
    fuzzy, clear, _ = two_sets(network, dimensions, loss)
    own = {name: value for name, value in parameters_of(network).items() if name.startswith("4.")}
    assert len(own) == 2
    expected = agreement(own, own, fuzzy, clear)
    leaves = dict(network.named_parameters())
    values = fuzzy(leaves), clear(leaves)
    found = last_layer_agreement(*values, [leaves[name] for name in own])
    assert expected.abs().max() > 1e-8
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=0)
    values[0].mean().backward()  # the graph is still there
    assert all(leaf.grad is not None for leaf in leaves.values())


def test_the_gradient_is_the_slope_of_the_clear_loss() -> None:
    network = small_network(2, "batch").train()
    fuzzy, clear, weights = two_sets(network, 2)
    parameters = parameters_of(network)

    def after(omega: Tensor) -> float:
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        towards = torch.autograd.grad((omega * fuzzy(leaves)).mean(), list(leaves.values()))
        return clear({n: p - RATE * g for (n, p), g in zip(parameters.items(), towards, strict=True)}).mean().item()

    gradient = confidence_gradient(parameters, fuzzy, clear, weights, RATE)
    for place in [(0, 0, 0), (1, 3, 4), (0, 6, 5)]:
        nudge = torch.zeros_like(weights)
        nudge[place] = 0.1
        assert gradient[place].item() == pytest.approx(
            (after(weights + nudge) - after(weights - nudge)) / 0.2, rel=1e-3
        )


def test_nothing_of_the_network_moves() -> None:
    network = small_network(2, "batch").train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    random = torch.get_rng_state()
    fuzzy, clear, weights = two_sets(network, 2)
    torch.set_rng_state(random)
    find_confidence(
        parameters_of(network), fuzzy, clear, torch.ones_like(weights), RATE, ConfidenceSettings("virtual_step", 2)
    )
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert all(parameter.grad is None for parameter in network.parameters())
    assert torch.equal(torch.get_rng_state(), random)


def test_dropout_draws_the_same_numbers_each_time() -> None:
    network = small_network(2, "instance").train()
    fuzzy, clear, _ = two_sets(network, 2)
    parameters = parameters_of(network)
    assert torch.equal(fuzzy(parameters), fuzzy(parameters))
    assert not torch.equal(fuzzy(parameters), two_sets(network, 2)[0](parameters))
    assert clear(parameters).shape == (2, 7, 6)


def test_one_step_of_adam_is_hardly_more_than_a_sign_and_descent_keeps_proportions() -> None:
    network = small_network(2, "batch").train()
    fuzzy, clear, weights = two_sets(network, 2)
    ones, parameters = torch.ones_like(weights), parameters_of(network)
    adam, descent = (
        find_confidence(parameters, fuzzy, clear, ones, RATE, ConfidenceSettings("virtual_step", update=update))
        for update in ("adam", "descent")
    )
    expected = confidence_gradient_reference(parameters, fuzzy, clear, ones, RATE)
    torch.testing.assert_close(adam.weights, 1 - 0.1 * expected.sign(), atol=1e-4, rtol=0)
    torch.testing.assert_close(descent.weights, 1 - 0.1 * expected / expected.square().mean().sqrt())
    assert torch.equal(adam.gradient, descent.gradient)


def test_both_gradients_at_theta_are_a_virtual_step_of_no_length() -> None:
    network = small_network(2, "batch").train()
    fuzzy, clear, weights = two_sets(network, 2)
    given = parameters_of(network), fuzzy, clear, torch.ones_like(weights)
    virtual = find_confidence(*given, 1e-9, ConfidenceSettings("virtual_step"))
    at_once = find_confidence(*given, 1e-9, ConfidenceSettings("gradients"))
    torch.testing.assert_close(virtual.gradient, at_once.gradient, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(virtual.weights, at_once.weights, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("update", ["adam", "descent"])
def test_more_steps_lower_the_clear_loss_further(update: Update) -> None:
    network = small_network(2, "batch").train()
    fuzzy, clear, weights = two_sets(network, 2)
    parameters, ends = parameters_of(network), []
    for steps in (1, 3, 6):
        omega = find_confidence(
            parameters,
            fuzzy,
            clear,
            torch.ones_like(weights),
            RATE,
            ConfidenceSettings("virtual_step", steps, update=update),
        ).weights
        leaves = {name: value.clone().requires_grad_() for name, value in parameters.items()}
        towards = torch.autograd.grad((omega * fuzzy(leaves)).mean(), list(leaves.values()))
        moved = {n: p - RATE * g for (n, p), g in zip(parameters.items(), towards, strict=True)}
        ends.append(clear(moved).mean().item())
    assert ends == sorted(ends, reverse=True) and ends[0] < clear(parameters).mean()


def test_omega_is_never_negative() -> None:
    network = small_network(2, "batch").train()
    fuzzy, clear, weights = two_sets(network, 2)
    settings = ConfidenceSettings("virtual_step", 4, 2, "descent")
    omega = find_confidence(parameters_of(network), fuzzy, clear, torch.ones_like(weights), RATE, settings).weights
    assert omega.min() == 0 and omega.max() > 1 and not omega.requires_grad


def test_wrong_labels_among_right_ones_lose_confidence() -> None:
    """A network that has to tell bright from dark learns it from the clear half; flipped labels speak against it."""
    torch.manual_seed(0)
    image = torch.randn(2, 1, 16, 16).double()
    truth = (image[:, 0] > 0).long()
    flipped = torch.rand(truth.shape) < 0.2
    flipped[:, :8] = False
    labels, below = torch.where(flipped, 1 - truth, truth), torch.zeros(truth.shape).double()
    below[:, 8:] = 1
    network = nn.Conv2d(1, 2, 1).double()
    fuzzy, clear = (weighed(network, image, labels, mask, "cross_entropy") for mask in (below, 1 - below))
    found = find_confidence(
        parameters_of(network),
        fuzzy,
        clear,
        torch.ones_like(below),
        RATE,
        ConfidenceSettings("gradients", update="adam"),
    )
    fuzzy_half = below > 0
    assert found.weights[flipped].mean() < 0.95 < 1.05 < found.weights[fuzzy_half & ~flipped].mean()
    assert (found.weights[~fuzzy_half] == 1).all()
    assert found.kept()[fuzzy_half & ~flipped].double().mean() > 0.8 > 0.2 > found.kept()[flipped].double().mean()


@pytest.mark.parametrize(("keep", "kept"), [("negative", [True, False, False]), ("positive", [False, False, True])])
def test_which_sign_is_kept_can_be_chosen(keep: Keep, kept: list[bool]) -> None:
    gradient = torch.tensor([-0.5, 0.0, 2.0])
    assert Confidence(1 - gradient, gradient).kept(keep).tolist() == kept


@pytest.mark.parametrize("by", ["gradients", "virtual_step"])
def test_without_a_clear_set_every_label_keeps_its_confidence(by: By) -> None:
    network = small_network(2, "batch").train()
    fuzzy, clear, weights = two_sets(network, 2)
    given = parameters_of(network), fuzzy, lambda p: 0 * clear(p), torch.ones_like(weights), RATE
    found = find_confidence(*given, ConfidenceSettings(by))
    assert (found.weights == 1).all() and not found.kept().any()


def test_only_trained_parameters_take_part_and_unused_ones_do_no_harm() -> None:
    network = small_network(2, "batch").train()
    network.register_parameter("unused", nn.Parameter(torch.ones(3).double()))
    next(network.children()).requires_grad_(False)
    fuzzy, clear, weights = two_sets(network, 2)
    parameters = parameters_of(network)
    assert set(parameters) == {"unused", "1.weight", "1.bias", "4.weight", "4.bias"}
    assert confidence_gradient(parameters, fuzzy, clear, weights, RATE).abs().max() > 0


@pytest.mark.parametrize(
    ("name", "works"), [("unet", True), ("segresnet", True), ("vm_unet", False), ("affinity_umamba", False)]
)
def test_it_is_noticed_where_forward_mode_does_not_go_through(name: str, works: bool) -> None:
    """The selective scan drops slopes silently, the affinities refuse."""
    torch.manual_seed(0)
    network = build(name, spatial_dims=2, in_channels=1, out_channels=2).train()
    image, labels = torch.randn(1, 1, 32, 32), torch.randint(0, 2, (1, 32, 32))
    losses = weighed(network, image, labels, torch.ones(1, 32, 32), "cross_entropy")
    parameters = parameters_of(network)
    assert forward_mode_works(losses, parameters) is works
    for mute in (0, torch.nan):
        assert derivative_of(lambda p, mute=mute: mute * losses(p), parameters) is None  # type: ignore[misc]
    along = {p: torch.randn_like(value) for p, value in parameters.items()}
    assert slopes(losses, parameters, along, "difference").isfinite().all()


@pytest.mark.parametrize("by", ["gradients", "virtual_step"])
def test_mixed_precision_gives_the_same_signs_where_they_matter(by: By) -> None:
    network = small_network(2, "batch").float().train()
    image, labels = torch.randn(2, 2, 16, 16), torch.randint(0, 3, (2, 16, 16))
    mask = torch.rand(2, 16, 16)
    fuzzy, clear = (weighed(network, image, labels, m, "cross_entropy") for m in (mask, 1 - mask))
    given = parameters_of(network), fuzzy, clear, torch.ones(2, 16, 16), RATE, ConfidenceSettings(by)
    exact = find_confidence(*given).gradient
    with torch.autocast("cpu", torch.bfloat16):
        mixed = find_confidence(*given).gradient
    large = exact.abs() > 0.5
    assert mixed.dtype == torch.float32
    assert (exact.sign() == mixed.sign())[large].float().mean() > 0.98


@pytest.mark.parametrize("by", ["gradients", "virtual_step"])
def test_the_gradients_size_does_not_matter(by: By) -> None:
    network = small_network(2, "batch").float().train()
    image, labels, mask = torch.randn(2, 2, 9, 9), torch.randint(0, 3, (2, 9, 9)), torch.rand(2, 9, 9)
    fuzzy, clear = (weighed(network, image, labels, m, "cross_entropy") for m in (mask, 1 - mask))
    parameters, ones = parameters_of(network), torch.ones(2, 9, 9)
    found, smaller = (
        find_confidence(parameters, fuzzy, one, ones, RATE, ConfidenceSettings(by)).weights
        for one in (clear, lambda p: 1e-22 * clear(p))
    )
    torch.testing.assert_close(smaller, found, atol=1e-3, rtol=0)


@pytest.mark.parametrize("by", ["last_layer", "none"])
def test_only_the_ways_of_all_layers_are_found_here(by: By) -> None:
    fuzzy, clear, weights = two_sets(small_network(2, "batch"), 2)
    with pytest.raises(ValueError, match=f"not found here by '{by}'"):
        find_confidence({}, fuzzy, clear, weights, RATE, ConfidenceSettings(by))


@pytest.mark.parametrize("arguments", [{"steps": 0}, {"rate": 0.0}, {"by": "gradients", "steps": 2}, {"steps": 2}])
def test_senseless_settings_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="confidence"):
        ConfidenceSettings(**arguments)
