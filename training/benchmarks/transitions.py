"""RefineSeg's transition matrices at the pixels that were drawn on, and at all pixels as the paper writes them."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

from training.benchmarks.neighbourhood import resident
from training.losses.drawings import positive_loss, regulariser
from training.recipes.transitions import Transitions, expected_drawings

SIDE, CLASSES, CHANNELS, BATCH = 224, 14, 32, 4
SHARES = (0.01, 0.05, 0.2, 1.0)


def main() -> None:
    """Print the peak memory of a forward and backward pass for some shares of drawn pixels, and the ratio to all."""
    print(f"{BATCH} × {SIDE} × {SIDE} pixels, L = {CLASSES}, float32; one strategy, forward and backward")
    dense = _in_own_process(1.0, dense=True)
    print(f"a matrix for every pixel: {dense:.0f} MB")
    for share in SHARES:
        ours = _in_own_process(share, dense=False)
        print(f"{share:.0%} drawn on: {ours:.0f} MB, 1/{dense / ours:.1f} of that")


def _in_own_process(share: float, dense: bool) -> float:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_megabytes, share, dense).result()


def _megabytes(share: float, dense: bool) -> float:
    """Peak memory beyond what is there before."""
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(BATCH, SIDE, SIDE, CHANNELS, generator=generator).requires_grad_()
    logits = torch.randn(BATCH, SIDE, SIDE, CLASSES, generator=generator).requires_grad_()
    drawn = torch.randint(CLASSES, (BATCH, SIDE, SIDE), generator=generator)
    where = torch.rand(BATCH, SIDE, SIDE, generator=generator) < share
    head = Transitions(CHANNELS, CLASSES)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = resident("VmRSS")
    _loss(head, features, logits, drawn, where, dense).backward()
    return resident("VmHWM") - before


def _loss(head: Transitions, features: Tensor, logits: Tensor, drawn: Tensor, where: Tensor, dense: bool) -> Tensor:
    p = logits.softmax(dim=-1)
    if dense:
        a = head(features.flatten(0, 2))
        observed = expected_drawings(a, p.flatten(0, 2))
        chosen = where.flatten()
        return positive_loss(observed[chosen], drawn.flatten()[chosen]) + regulariser(a, "identity")
    a = head(features[where])
    return positive_loss(expected_drawings(a, p[where]), drawn[where]) + regulariser(a, "identity")


if __name__ == "__main__":
    main()
