"""Features in fuzzy regions are to be spread like those in clear ones: DALE's calibration, equations (13) and (14).

Of each class's features a Gaussian, in both sets, and the 2-Wasserstein distance between the two. A covariance
is written as A'A, A being weighted, centred rows: no matrix is squared or has its root taken, and (14)'s last trace
is the nuclear norm of A B', whose gradient is finite for covariances of any rank.

Decisions where the paper is silent or needs reading:

- The clear set's Gaussians are what is aimed at, without gradient: it reaches the fuzzy set's features only.
- A pixel counts as much as its mask says, in the fuzzy set times (12)'s indicator. Negative weights count as 0.
- (13) adds a number to all entries of the covariance, ``perturbation: paper``, which widens it along one direction
  alone; ``identity`` widens all. Its epsilon is random: between 0 and `epsilon`, drawn anew for each class.
- At most `pixels` of each class and set take part, drawn at random.
- (14) squares the distance: ``squared``. Its gradient grows with it, and the few pixels of a small lesion that (12)
  leaves may lie twenty times as far off as usual for a step: that step outweighs the labels, and Adam's second moment
  remembers it for hundreds more. The distance itself, the default, has the same gradient far off as near; alpha is the
  paper's, of the square.
- A class counts if more pixels of it than there are channels take part in both sets, else there is no Gaussian to speak
  of; without any class the loss is 0.
- Computed in float32, or in float64 if the features are, whether autocast is on or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Perturbation = Literal["paper", "identity"]


@dataclass(frozen=True)
class Alignment:
    """L_W, equation (14).

    Attributes:
        pixels: of each class and set, at most.
        epsilon: the largest perturbation of the clear set's covariances; 0 leaves them.
        perturbation, squared: see the module's text.
    """

    pixels: int = 1024
    epsilon: float = 0.01
    perturbation: Perturbation = "paper"
    squared: bool = False

    def __post_init__(self) -> None:
        if not (self.pixels >= 1 and self.epsilon >= 0):
            raise ValueError("The alignment needs at least one pixel and an epsilon of at least 0.")

    def __call__(
        self, fuzzy: Tensor, fuzzy_weights: Tensor, clear: Tensor, clear_weights: Tensor, labels: Tensor
    ) -> Tensor:
        """The sum over the classes.

        Args:
            fuzzy, clear: features of both sets, ``BCHW[D]``.
            fuzzy_weights, clear_weights: how much each pixel counts, ``BHW[D]``.
            labels: both sets' ``BHW[D]``.
        """
        if fuzzy.shape != clear.shape or fuzzy[:, 0].shape != labels.shape:
            raise ValueError(
                f"Features {tuple(fuzzy.shape)}, {tuple(clear.shape)} and labels {tuple(labels.shape)} differ."
            )
        wide = torch.promote_types(fuzzy.dtype, torch.float32)
        total = torch.zeros((), dtype=wide, device=fuzzy.device)
        with torch.autocast(fuzzy.device.type, enabled=False):
            for value in labels.unique():
                own = labels == value
                ours = self._gaussian(fuzzy, fuzzy_weights * own, wide)
                aim = self._gaussian(clear.detach(), clear_weights * own, wide)
                if ours is not None and aim is not None:
                    spread = ours[1].square().sum() + aim[1].square().sum()
                    apart = wasserstein(*ours, aim[0], self._perturbed(aim[1]))
                    total = total + (apart if self.squared else _root(apart, spread))
        return total

    def _gaussian(self, features: Tensor, weights: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor] | None:
        """Mean ``(C,)`` and factor ``(n, C)`` of the covariance; None of no more pixels than channels."""
        where = torch.nonzero(weights.detach() > 0)
        where = where[torch.randperm(len(where), device=where.device)[: self.pixels]]
        if len(where) <= features.shape[1]:
            return None
        chosen = where.unbind(dim=1)
        rows = features.movedim(1, -1)[chosen].to(dtype)
        return gaussian(rows, weights.detach()[chosen].to(dtype))

    def _perturbed(self, factor: Tensor) -> Tensor:
        """The factor of (13)'s covariance."""
        channels = factor.shape[1]
        root = (self.epsilon * torch.rand((), dtype=factor.dtype, device=factor.device)).sqrt()
        more = factor.new_ones(1, channels) if self.perturbation == "paper" else torch.eye(channels).to(factor)
        return torch.cat([factor, root * more])


def _root(squared: Tensor, spread: Tensor) -> Tensor:
    """The root, less steep where the square is but what rounding makes of covariances of that trace, maybe below 0."""
    number = torch.finfo(spread.dtype)
    return (squared.clamp(min=0) + 8 * number.eps * spread.detach() + number.tiny).sqrt()


def gaussian(rows: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Mean ``(C,)`` of weighted rows ``(n, C)``, and A ``(n, C)`` of their covariance A'A."""
    shares = (weights / weights.sum()).unsqueeze(1)
    mean = (shares * rows).sum(dim=0)
    return mean, shares.sqrt() * (rows - mean)


def wasserstein(mean: Tensor, factor: Tensor, aim_mean: Tensor, aim_factor: Tensor) -> Tensor:
    """A term of (14): the squared 2-Wasserstein distance of two Gaussians whose covariances are A'A.

    Args:
        mean, factor: ``(C,)`` and A, ``(n, C)``.
        aim_mean, aim_factor: ``(C,)`` and A, ``(m, C)``, of the other one; they get no gradient.

    Returns:
        A number at least 0; NaN of features that are not finite.
    """
    aim_mean, aim_factor = aim_mean.detach(), aim_factor.detach()
    # The same covariance of at most C rows.
    aim_factor = torch.linalg.qr(aim_factor, mode="r").R
    both = aim_factor @ factor.T
    if not both.isfinite().all():
        return torch.full_like(mean.sum(), torch.nan)  # singular values of such numbers are refused
    overlap = torch.linalg.matrix_norm(both, ord="nuc")
    return (mean - aim_mean).square().sum() + factor.square().sum() + aim_factor.square().sum() - 2 * overlap
