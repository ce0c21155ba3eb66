"""A training step of the whole AffinityUMamba at 64³: with this project's neighbourhood operators, and with unfold."""

from __future__ import annotations

import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from unittest.mock import patch

import torch

from NoisyLabelSegLib.methods import affinity_umamba as method
from NoisyLabelSegLib.networks import affinity_umamba as network
from NoisyLabelSegLib.networks import build
from NoisyLabelSegLib.ops import neighbourhood_reference as unfold
from training.benchmarks.neighbourhood import resident
from training.losses import affinity as losses
from training.recipes.affinity_umamba import supervision

USED = (
    (network, ("gaussian_aggregate", "thresholded_aggregate")),
    (method, ("label_affinity",)),
    (losses, ("local_spread", "neighbour_counts")),
)
FEATURES, CLASSES = (16, 32, 64, 128), 3


def main() -> None:
    """Print seconds, peak memory beyond the network's, and the ratios."""
    (ours, megabytes), (theirs, unfold_megabytes) = (_in_own_process(copied) for copied in (False, True))
    print(f"one step of 1 × 64³, features {FEATURES}, {torch.get_num_threads()} threads, float32")
    print(f"ours: {ours:.2f} s, {megabytes:.0f} MB; unfold: {theirs:.2f} s, {unfold_megabytes:.0f} MB")
    print(f"unfold takes {theirs / ours:.1f} times the time and {unfold_megabytes / megabytes:.1f} times the memory")


def _in_own_process(copied: bool) -> tuple[float, float]:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(_cost, copied).result()


def _cost(copied: bool) -> tuple[float, float]:
    """Seconds and peak memory in MB of a step, with neighbours copied out or not."""
    if copied:
        for module, names in USED:
            for name in names:
                patch.object(module, name, getattr(unfold, name)).start()
    torch.manual_seed(0)
    arguments = {"spatial_dims": 3, "in_channels": 1, "out_channels": CLASSES, "features": FEATURES, "mamba_from": 2}
    made = build("affinity_umamba", **arguments)
    image, labels = torch.randn(1, 1, 64, 64, 64), torch.randint(0, CLASSES, (1, 64, 64, 64))
    Path("/proc/self/clear_refs").write_text("5")
    before, start = resident("VmRSS"), time.perf_counter()
    am, cnn = method.branches_of(made(image), CLASSES)
    refined = method.refine_labels(am.detach(), cnn.detach(), labels).labels
    loss = supervision([[am, cnn]], labels) + 0.1 * supervision([[am, cnn]], refined)
    loss = loss + 0.1 * losses.margin_loss(am, "variance") + 0.01 * losses.affinity_loss(am, refined)
    loss.backward()
    return time.perf_counter() - start, resident("VmHWM") - before


if __name__ == "__main__":
    main()
