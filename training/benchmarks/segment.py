"""A whole CT segmented by a network of the weak modality alone: beside MONAI's sliding window, and beside its like.

MONAI's `SliceInferer` shows the same network windows of its training size, with the default options, and ends in a
label map; ours ends in a segmentation with probability, entropy and confidence, on the image's grid. Each runs in a
process of its own. MONAI's time is that of some slices, multiplied; its memory is measured on all of them, with a
network that does nothing. The last figure is the network beside one of the same architecture that PKT never taught.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

import numpy as np
import SimpleITK as sitk
import torch
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.model import Model, load_model
from NoisyLabelSegLib.networks import build
from training.benchmarks.neighbourhood import resident
from training.prediction import segmented

Result = TypeVar("Result")
MODEL, DEVICE = "lidc-nodule-segment", "auto"
SHAPE, SPACING = (200, 512, 512), (0.7, 0.7, 1.5)
PEERS_SLICES = 10
REPEATS = 9


def main() -> None:
    """Print seconds, peak memory and their ratios."""
    try:
        model = load_model(MODEL, DEVICE)
    except InputError as error:
        print(f"{MODEL}: {error}")
        return
    size = " × ".join(map(str, SHAPE[::-1]))
    print(f"{MODEL} on {size} voxels, {model.device}, {torch.get_num_threads()} threads")
    seconds, megabytes = _in_own_process(_ours)
    their_seconds, their_megabytes = _in_own_process(_monai_seconds), _in_own_process(_monai_megabytes)
    print(f"NoisyLabelSeg: {seconds:.1f} s, peak {megabytes:.0f} MB beyond what was loaded")
    print(f"MONAI's SliceInferer: {their_seconds:.1f} s (from {PEERS_SLICES} slices), {their_megabytes:.0f} MB")
    print(f"time {seconds / their_seconds:.2f}, memory {megabytes / their_megabytes:.2f} of MONAI's")
    print(f"time of the network beside its like that PKT never taught: {_beside_its_like(model):.3f}")


def _in_own_process(run: Callable[[], Result]) -> Result:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        return executor.submit(run).result()


def _ours() -> tuple[float, float]:
    model, image = load_model(MODEL, DEVICE), _scan()
    return _cost(lambda: segmented(image, model))


def _monai_seconds() -> float:
    model = load_model(MODEL, DEVICE)
    image = _prepared(model)[:, :, :PEERS_SLICES]
    return _cost(lambda: _labels_by_monai(image, model, model.network))[0] * SHAPE[0] / PEERS_SLICES


def _monai_megabytes() -> float:
    model = load_model(MODEL, DEVICE)
    image = _prepared(model)
    return _cost(lambda: _labels_by_monai(image, model, lambda x: x.repeat(1, model.classes, 1, 1)))[1]


def _prepared(model: Model) -> Tensor:
    return torch.from_numpy(model.preprocessing.intensity(sitk.GetArrayFromImage(_scan())))[None, None]


def _labels_by_monai(image: Tensor, model: Model, network: Callable[[Tensor], Tensor]) -> Tensor:
    from monai.inferers import SliceInferer

    with torch.inference_mode():
        logits = SliceInferer(roi_size=model.preprocessing.window, spatial_dim=0)(image.to(model.device), network)
        assert isinstance(logits, Tensor)
        return logits.argmax(dim=1).to("cpu", torch.uint8)


def _cost(run: Callable[[], object]) -> tuple[float, float]:
    """Seconds, and MB at the peak beyond what was there before."""
    with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
        file.write("5")
    before, start = resident("VmRSS"), time.perf_counter()
    run()
    return time.perf_counter() - start, resident("VmHWM") - before


def _scan() -> sitk.Image:
    """Air and noise about a cylinder of soft tissue."""
    rng = np.random.default_rng(0)
    rows, columns = np.ogrid[: SHAPE[1], : SHAPE[2]]
    body = ((rows - 256) / 180) ** 2 + ((columns - 256) / 230) ** 2 < 1
    voxels = np.where(body, 40, -1000).astype(np.int16) + rng.integers(-20, 20, SHAPE, dtype=np.int16)
    image = sitk.GetImageFromArray(voxels)
    image.SetSpacing(SPACING)
    return image


def _beside_its_like(model: Model) -> float:
    """Ratio of the best times of forward passes in turns."""
    network = model.description.network
    other = build(network.name, **network.arguments).to(model.device).eval()
    slices = torch.rand(8, model.description.channels, 256, 256, device=model.device)
    best = [float("inf")] * 2
    for _ in range(REPEATS):
        for number, one in enumerate((model.network, other)):
            best[number] = min(best[number], _forward(one, slices))
    return best[0] / best[1]


def _forward(network: nn.Module, slices: Tensor) -> float:
    start = time.perf_counter()
    with torch.inference_mode():
        network(slices).sum().item()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
