"""Two networks that begin elsewhere, each taught by the pixels that the other finds easy (Han et al., NeurIPS 2018).

What a network has mistaken is not confirmed by itself: of a batch's pixels, those that lose most by the *other* one
take no part. Both see the same batches; the first one is kept, the other is there in training only.

Decisions:

- What is left out: see `forgetting`. Its share grows from 0 to `forget` over the first epochs, as published.
- Networks that begin alike, from a whole other network's weights as PKT's do, stay alike: they are refused.
- BECO, a rival in DALE's paper, exchanges labels instead of a choice, which not every loss here could take.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import torch
from lightning_fabric import Fabric
from torch import Tensor

from NoisyLabelSegLib.errors import InputError
from training.paradigms.forgetting import Forgetting, kept
from training.paradigms.plain import Companion, Learner, Objective, Paradigm, descend

if TYPE_CHECKING:
    from training.recipes.parts import Parts


@dataclass(frozen=True)
class CoTeachingSettings(Forgetting):
    """Settings of the paradigm "co_teaching": its name, and those of `Forgetting`."""

    name: Literal["co_teaching"] = "co_teaching"


class CoTeaching(Paradigm):
    """See the module's text."""

    def __init__(self, settings: CoTeachingSettings, classes: int = 2) -> None:
        self.settings = settings
        self.peer: Companion | None = None

    @property
    def companions(self) -> Mapping[str, Learner]:
        return {"peer": self.peer} if self.peer else {}

    def prepare(self, learner: Learner, parts: Parts, another: Callable[[], Learner]) -> None:
        other = another()
        pairs = zip(learner.network.parameters(), other.network.parameters(), strict=True)
        if all(torch.equal(ours, theirs) for ours, theirs in pairs):
            raise InputError(
                "Co-teaching's two networks would begin alike and stay so: start them from no whole network, or use "
                "paradigm: small_loss, which comes to the same."
            )
        self.peer = Companion(other.network, other.optimizer)

    def step(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        batch: Mapping[str, Tensor],
        epoch: int,
        fabric: Fabric,
    ) -> dict[str, Tensor]:
        assert self.peer is not None, "prepare was not called"
        ours, theirs = objective(learner.network, image), objective(self.peer.network, image)
        forget = self.settings.share(epoch)
        by_us, by_them = (kept(losses.pixels.detach(), batch["expert"], forget) for losses in (ours, theirs))
        return {
            "loss": descend(learner, ours.pixels[by_them].mean() + ours.rest, fabric),
            "peer": descend(self.peer, theirs.pixels[by_us].mean() + theirs.rest, fabric),
            "agreed": (by_us == by_them).float().mean(),
        }
