"""What PKT's T predictions cost a training step of the weak network: by light heads, and by the thesis's loop."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
from torch import Tensor

from NoisyLabelSegLib.networks.vm_unet import VMUNet
from training.recipes.step_heads import StepHeads
from training.recipes.step_heads_reference import literal_loop

FEATURES, STATE, STEPS, SHAPE = (16, 32, 64, 128), 4, 10, (16, 1, 64, 64)
REPEATS = 5


def main() -> None:
    """Print the time of a forward and backward pass of each, the best of some in turns, and the ratios."""
    torch.manual_seed(0)
    network = VMUNet(2, 1, 2, features=FEATURES, blocks=[1] * 4, state=STATE, patch=4)
    heads, image = StepHeads(FEATURES, STEPS), torch.randn(SHAPE)
    ways: dict[str, Callable[[], list[Tensor]]] = {
        "no transfer": lambda: network.encoder(image),
        "heads": lambda: heads(network.encoder(image)),
        "loop": lambda: literal_loop(network.encoder, heads, image),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for name, run in ways.items():
            best[name] = min(best[name], _seconds(run))
    print(f"T = {STEPS}, batch {SHAPE}, features {FEATURES}, {torch.get_num_threads()} threads, encoder alone")
    for name, seconds in best.items():
        print(f"{name}: {1000 * seconds:.0f} ms, {seconds / best['no transfer']:.2f} times no transfer")
    print(f"the loop takes {best['loop'] / best['heads']:.1f} times the heads' time")


def _seconds(run: Callable[[], list[Tensor]]) -> float:
    start = time.perf_counter()
    torch.stack([level.square().mean() for level in run()]).sum().backward()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
