"""What turning slices costs: a batch's at once on its device, and MONAI's RandRotate90 slice by slice in a loader.

Both turn as many slices of as many fragments, which lie at half precision, and both give a batch on the device; the
loader has one process. Also the ways of turning a batch that were tried: a choice among all four turns of every voxel
(`where`), and one gather.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
from monai.transforms import RandRotate90
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from training.pretext.rotation import CLASSES, random_turns, turn_

SHAPES = ((16, 16, 64), (16, 16, 256))
"""Fragments, slices, and rows or columns."""
SLICES, BATCH, REPEATS = 4, 8, 3


def main() -> None:
    """Print the time of each, the best of some in turns, and the ratios."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    print(f"batches of {BATCH}, {SLICES} slices turned, {device.type}, {torch.get_num_threads()} threads")
    for shape in SHAPES:
        _compare(shape, device)


def _compare(shape: tuple[int, int, int], device: torch.device) -> None:
    fragments = torch.randn(shape[0], 1, shape[1], shape[2], shape[2]).half()
    batch = fragments[:BATCH].float().to(device)
    turns = random_turns(BATCH, shape[1], SLICES)
    ways: dict[str, Callable[[], object]] = {
        "loader, MONAI slice by slice": lambda: _epoch(_SliceBySlice(fragments), device),
        "loader, turned at once": lambda: [turn_(one, turns) for one in _epoch(_Plain(fragments), device)],
        "loader alone": lambda: _epoch(_Plain(fragments), device),
        "one batch at once": lambda: turn_(batch, turns),
        "one batch by where": lambda: by_where(batch, turns),
        "one batch by gather": lambda: by_gather(batch, turns),
    }
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(REPEATS):
        for name, run in ways.items():
            best[name] = min(best[name], _seconds(run, device))
    print(f"{shape[0]} fragments of {shape[1]} × {shape[2]} × {shape[2]}:")
    for name, seconds in best.items():
        print(f"  {name}: {1000 * seconds:.2f} ms")
    theirs, ours, neither = (best[name] for name in list(ways)[:3])
    print(f"  MONAI in the loader takes {theirs / ours:.1f} times as long as ours, loading included")
    print(f"  turning alone: {(theirs - neither) / (best['one batch at once'] * shape[0] / BATCH):.1f} times")


def _epoch(data: Dataset[Tensor], device: torch.device) -> list[Tensor]:
    return [batch.to(device) for batch in DataLoader(data, BATCH)]


def _seconds(run: Callable[[], object], device: torch.device) -> float:
    start = time.perf_counter()
    run()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


class _Plain(Dataset[Tensor]):
    def __init__(self, fragments: Tensor) -> None:
        self.fragments = fragments

    def __len__(self) -> int:
        return len(self.fragments)

    def __getitem__(self, index: int) -> Tensor:
        return self.fragments[index].float()


class _SliceBySlice(_Plain):
    """Turns each of some slices by MONAI, 25 % of them by nothing."""

    turn: Any = RandRotate90(prob=1 - 1 / CLASSES, max_k=CLASSES - 1)

    def __getitem__(self, index: int) -> Tensor:
        fragment = super().__getitem__(index)
        for number in torch.randperm(fragment.shape[1])[:SLICES].tolist():
            fragment[:, number] = self.turn(fragment[:, number]).as_tensor()
        return fragment


def by_where(fragments: Tensor, turns: Tensor) -> Tensor:
    """`turn_` of a copy by a choice among all four turns of everything."""
    result, which = fragments, turns.to(fragments.device)[:, None, :, None, None]
    for quarters in range(1, CLASSES):
        result = torch.where(which == quarters, torch.rot90(fragments, quarters, (-2, -1)), result)
    return result


def by_gather(fragments: Tensor, turns: Tensor) -> Tensor:
    """`turn_` of a copy by one gather of all voxels."""
    side = fragments.shape[-1]
    own = torch.arange(side * side).view(side, side)
    places = torch.stack([torch.rot90(own, quarters, (0, 1)).flatten() for quarters in range(CLASSES)])
    index = places[turns].to(fragments.device)[:, None].expand(*fragments.shape[:3], -1)
    return fragments.flatten(3).gather(3, index).view_as(fragments)


if __name__ == "__main__":
    main()
