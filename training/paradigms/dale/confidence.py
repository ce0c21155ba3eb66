"""How far each label in fuzzy regions is trusted: DALE's bi-level optimisation of omega, equations (8) to (12).

A virtual SGD step on the fuzzy set, each pixel's loss l_i weighed by omega_i, leads from theta to theta'. What the loss
L of the clear set at theta' gains from omega_i is, by the chain rule and exactly,

    dL(theta') / domega_i = -rate / n <grad L(theta'), grad l_i(theta)>,

a slope of l_i along the one direction grad L(theta'). One pass in forward mode gives those of all pixels at once, and
nothing is differentiated twice (`confidence_reference` does).

The virtual step is so short that L's gradient hardly differs at its two ends: ``by: gradients`` takes both at theta and
saves the step. ``by: last_layer`` takes them with respect to the last layer alone, where the pass that is made anyway
gives them for next to nothing: a label is compared with those of pixels with like features. It finds wrong labels
better, too.

Decisions where the paper is silent or needs reading:

- omega starts from 1 in every step, and is kept at 0 or above.
- (8) and (9) sum over pixels. The virtual step is made of the mean, else it leaves the network's surroundings; the
  gradient is then divided by its root mean square over the batch, so that omega's rate means the same for any network,
  rate and window. Adam's epsilon would swallow it otherwise.
- ``update: adam`` is the paper's (rate 0.1). Its first step is 0.1 or -0.1 whatever the gradient, so after one omega is
  0.9 or 1.1. ``descent`` keeps the proportions.
- Several steps (K) all start from theta, as (8) says; algorithm 1 can be read as going on from theta'.
- By (11) a label is sound where the gradient is negative, there descent raises omega. (12) keeps pixels whose gradient
  is positive: ``keep: positive``. Its text calls negative ones noisy, which fits (11) if omega's change is meant:
  ``negative``. This decides which features are aligned; omega itself always descends, as (9) says.
- Some operators have no forward mode (the selective scan, neighbourhood affinities); nor can they be differentiated
  twice. Central differences of two forward passes do there.
- Each process of several has its own batch, and its own virtual step.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call

Parameters = Mapping[str, Tensor]
Losses = Callable[[Parameters], Tensor]
"""Maps a network's parameters to weighted losses of a batch's pixels, ``BHW[D]``; the same ones to the same."""
PixelLosses = Callable[[nn.Module], Tensor]
Derivative = Literal["forward", "difference"]
Update = Literal["adam", "descent"]
Keep = Literal["negative", "positive"]
By = Literal["last_layer", "gradients", "virtual_step", "none"]

OPTIMIZERS: dict[Update, Callable[..., torch.optim.Optimizer]] = {"adam": torch.optim.Adam, "descent": torch.optim.SGD}


class Confidence(NamedTuple):
    """What is known of the fuzzy set's labels.

    Attributes:
        weights: omega, at least 0, ``BHW[D]``.
        gradient: dL / domega of the last step, in units of its root mean square, ``BHW[D]``.
    """

    weights: Tensor
    gradient: Tensor

    def kept(self, keep: Keep = "negative") -> Tensor:
        """Equation (12): the pixels whose labels are not taken for noise, bool, ``BHW[D]``."""
        return self.gradient < 0 if keep == "negative" else self.gradient > 0


@dataclass(frozen=True)
class ConfidenceSettings:
    """How omega is found; see the module's text.

    Attributes:
        by: what tells whether a label agrees with clear regions: the last layer's gradients at theta, all layers', the
            paper's virtual step, or nothing.
        steps: K (paper: 1), of the virtual step; gradients at theta, which does not move, are taken once.
        rate: of omega's update (paper: 0.1).
        update: see the module's text.
    """

    by: By = "last_layer"
    steps: int = 1
    rate: float = 0.1
    update: Update = "descent"

    def __post_init__(self) -> None:
        if not (self.steps >= 1 and self.rate > 0):
            raise ValueError("The confidence needs at least one step and a rate above 0.")
        if self.by != "virtual_step" and self.steps > 1:
            raise ValueError("Only a virtual step has several steps: raise the rate of the confidence instead.")


def losses_of(network: nn.Module, pixel_losses: PixelLosses) -> Losses:
    """The losses of a batch as a function of the network's parameters alone.

    Running statistics do not move, and dropout draws the same numbers each time.

    Args:
        network: not wrapped: several processes would wait for each other.
        pixel_losses: calls the network it is given, as often as it wants, and makes ``BHW[D]`` of that.
    """
    used, seed = _Used(network, pixel_losses), int(torch.randint(2**31, ()))

    def losses(parameters: Parameters) -> Tensor:
        buffers = {name: buffer.clone() for name, buffer in network.named_buffers()}
        state = {f"network.{name}": tensor for name, tensor in {**parameters, **buffers}.items()}
        devices = {tensor.device for tensor in parameters.values() if tensor.device.type == "cuda"}
        with torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            found: Tensor = functional_call(used, state, ())
        return found

    return losses


class _Used(nn.Module):
    """A network and what is made of it, as a module: `functional_call` takes nothing else."""

    def __init__(self, network: nn.Module, pixel_losses: PixelLosses) -> None:
        super().__init__()
        self.network, self.pixel_losses = network, pixel_losses

    def forward(self) -> Tensor:
        return self.pixel_losses(self.network)


def parameters_of(network: nn.Module) -> dict[str, Tensor]:
    """The trained parameters' values."""
    return {name: value.detach() for name, value in network.named_parameters() if value.requires_grad}


def find_confidence(
    parameters: Parameters,
    fuzzy: Losses,
    clear: Losses,
    start: Tensor,
    inner_rate: float,
    settings: ConfidenceSettings,
    derivative: Derivative = "forward",
) -> Confidence:
    """Omega after K steps, by the virtual step or by all layers' gradients.

    Args:
        parameters: theta, without gradient.
        fuzzy, clear: losses of both sets.
        start: omega at first (paper: ones), ``BHW[D]``.
        inner_rate: of the virtual SGD step.
        settings: see its class.
        derivative: see `slopes`.
    """
    if settings.by not in ("gradients", "virtual_step"):
        raise ValueError(f"Omega is not found here by '{settings.by}'.")
    if settings.by == "gradients":
        gradient = agreement(parameters, parameters, fuzzy, clear, derivative)
        return descended(start, lambda _: gradient, settings)

    def gradient_at(weights: Tensor) -> Tensor:
        return confidence_gradient(parameters, fuzzy, clear, weights, inner_rate, derivative)

    return descended(start, gradient_at, settings)


def descended(start: Tensor, gradient_at: Callable[[Tensor], Tensor], settings: ConfidenceSettings) -> Confidence:
    """Omega after K steps down a gradient."""
    weights = start.clone().requires_grad_()
    optimizer = OPTIMIZERS[settings.update]([weights], lr=settings.rate)
    for _ in range(settings.steps):
        weights.grad = _scaled(gradient_at(weights.detach()))
        optimizer.step()
        weights.detach().clamp_(min=0)
    assert weights.grad is not None
    return Confidence(weights.detach(), weights.grad)


def _scaled(gradient: Tensor) -> Tensor:
    """In units of its root mean square; made of two steps, as squares of numbers so small underflow."""
    unit = gradient / gradient.abs().amax().clamp(min=torch.finfo(gradient.dtype).tiny)
    return unit / unit.square().mean().sqrt().clamp(min=1e-9)


def confidence_gradient(
    parameters: Parameters,
    fuzzy: Losses,
    clear: Losses,
    weights: Tensor,
    inner_rate: float,
    derivative: Derivative = "forward",
) -> Tensor:
    """dL(theta') / domega at ``weights``, ``BHW[D]``; for the arguments see `find_confidence`."""
    towards = _gradient(fuzzy, parameters, weights)
    moved = {name: value - inner_rate * towards[name] for name, value in parameters.items()}
    return agreement(parameters, moved, fuzzy, clear, derivative) * (inner_rate / weights.numel())


def agreement(
    parameters: Parameters, moved: Parameters, fuzzy: Losses, clear: Losses, derivative: Derivative = "forward"
) -> Tensor:
    """How each pixel's loss at ``parameters`` rises where L falls at ``moved``: -<grad L, grad l_i>, ``BHW[D]``."""
    return -slopes(fuzzy, parameters, _gradient(clear, moved), derivative)


def last_layer_agreement(fuzzy: Tensor, clear: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    """`agreement` by a few parameters alone, from a pass that has its graph, which stays, ``BHW[D]``.

    The gradient of a weighted sum of the losses is linear in the weights, and its slope along grad L with respect to
    them is what is asked for.

    Args:
        fuzzy, clear: a pass's losses, times the masks of both sets.
        parameters: of the network, best the last layer's: only what comes after them is differentiated.
    """
    direction = torch.autograd.grad(clear.mean(), parameters, retain_graph=True)
    weights = torch.ones_like(fuzzy, requires_grad=True)
    towards = torch.autograd.grad(fuzzy, parameters, weights, create_graph=True)
    along = torch.stack([(one * other).sum() for one, other in zip(towards, direction, strict=True)]).sum()
    return -torch.autograd.grad(along, weights, retain_graph=True)[0]


def _gradient(losses: Losses, parameters: Parameters, weights: Tensor | None = None) -> dict[str, Tensor]:
    """Of the weighted losses' mean; 0 for parameters that have no part in them."""
    leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
    with torch.enable_grad():
        values = losses(leaves)
        loss = (values if weights is None else weights * values).mean()
    found = torch.autograd.grad(loss, list(leaves.values()), allow_unused=True, materialize_grads=True)
    return dict(zip(leaves, found, strict=True))


@torch.no_grad()
def slopes(losses: Losses, parameters: Parameters, direction: Parameters, derivative: Derivative = "forward") -> Tensor:
    """How each pixel's loss changes along a direction of the parameters, ``BHW[D]``.

    ``forward`` is exact; `forward_mode_works` tells where it can be had. ``difference`` needs no derivative, but
    all bits of float32, so it leaves out mixed precision.
    """
    if derivative == "difference":
        return _central_difference(losses, parameters, direction)
    with forward_ad.dual_level():
        values = losses({name: forward_ad.make_dual(value, direction[name]) for name, value in parameters.items()})
        tangent = forward_ad.unpack_dual(values).tangent
    return torch.zeros_like(values) if tangent is None else tangent


def _central_difference(losses: Losses, parameters: Parameters, direction: Parameters) -> Tensor:
    """Of two points whose distance from theta is a small share of theta's own length."""
    length, size = (torch.stack([x.norm() for x in vectors.values()]).norm() for vectors in (parameters, direction))
    share = torch.finfo(length.dtype).eps ** (1 / 3)
    h = share * length / size if size > 0 else torch.ones_like(size)
    with torch.autocast(length.device.type, enabled=False):
        ahead, behind = (losses({n: p + s * h * direction[n] for n, p in parameters.items()}) for s in (1, -1))
    return (ahead - behind) / (2 * h)


def derivative_of(losses: Losses, parameters: Parameters) -> Derivative | None:
    """How slopes are to be found, which is said where it is not the exact way; None where the losses cannot tell."""
    works = forward_mode_works(losses, parameters)
    if works is None:
        return None
    if works:
        return "forward"
    print("This network has no forward-mode derivative: labels are weighed by differences.", file=sys.stderr)
    return "difference"


def forward_mode_works(losses: Losses, parameters: Parameters) -> bool | None:
    """Whether forward mode goes through all of a network's operators; None of losses without a finite slope.

    Some refuse it, others silently give no slope; so the mean slope along the mean loss's own gradient is compared with
    that gradient's square.
    """
    gradient = _gradient(losses, parameters)
    square = torch.stack([part.square().sum() for part in gradient.values()]).sum()
    if not 0 < square < torch.inf:
        return None
    try:
        mean = slopes(losses, parameters, gradient).mean()
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    return bool((mean - square).abs() <= 0.02 * square)
