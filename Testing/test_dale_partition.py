"""DALE's fuzzy and clear regions: equations (3) to (6), patch by patch."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import pytest
import torch
from scipy import ndimage
from torch import Tensor

from training.paradigms.dale.partition import (
    Clear,
    Entropy,
    Measure,
    Partition,
    label_edges,
    patch_entropy,
    patch_numbers,
)

SHAPES = [(32, 32), (37, 20), (5, 7), (1, 16), (9, 12, 6), (20, 17, 3)]


def batch_of(shape: tuple[int, ...], classes: int = 3, channels: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    image = torch.randn(2, channels, *shape, generator=generator)
    labels = torch.randint(0, classes, (2, *[-(-n // 4) for n in shape]), generator=generator)
    for axis, length in enumerate(shape, start=1):
        labels = labels.repeat_interleave(4, dim=axis).narrow(axis, 0, length)
    return image, labels


def boxes(shape: tuple[int, ...], patch: int) -> list[tuple[slice, ...]]:
    starts = [range(0, n, patch) for n in shape]
    return [tuple(slice(s, s + patch) for s in corner) for corner in itertools.product(*starts)]


def literal_entropy(values: list[int], kind: Entropy) -> float:
    """(3), pixel by pixel, of one patch's levels."""
    count = Counter(values)
    p = [count[value] / len(values) for value in values]
    return -sum((x if kind == "paper" else 1) * math.log(x) for x in p) / len(values)


@pytest.mark.parametrize("shape", SHAPES)
def test_patches_are_numbered_in_order(shape: tuple[int, ...]) -> None:
    numbers = patch_numbers(shape, 8)
    assert numbers.shape == shape
    for number, box in enumerate(boxes(shape, 8)):
        assert (numbers[box] == number).all()


@pytest.mark.parametrize("kind", ["paper", "shannon"])
@pytest.mark.parametrize("shape", SHAPES)
def test_entropy_is_the_equation_pixel_by_pixel(shape: tuple[int, ...], kind: Entropy) -> None:
    image, _ = batch_of(shape)
    found = patch_entropy(image, patch_numbers(shape, 8), bins=6, kind=kind)
    for item, entropies in zip(image, found, strict=True):
        spread = [(c - c.min()) / (c.max() - c.min()) for c in item]
        levels = [(c * 6).long().clamp(max=5) for c in spread]
        for box, entropy in zip(boxes(shape, 8), entropies.tolist(), strict=True):
            expected = [literal_entropy(level[box].flatten().tolist(), kind) for level in levels]
            assert entropy == pytest.approx(sum(expected) / 2, abs=1e-5)


@pytest.mark.parametrize(("kind", "rises"), [("shannon", True), ("paper", False)])
def test_only_shannons_entropy_rises_with_the_number_of_equally_frequent_values(kind: Entropy, rises: bool) -> None:
    numbers = torch.zeros(64, 1, dtype=torch.int64)
    patterns = [torch.arange(64.0).remainder(n).view(1, 1, 64, 1) for n in (4, 8, 16)]
    found = [patch_entropy(pattern, numbers, 16, kind).item() for pattern in patterns]
    assert (sorted(found) == found) is rises


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_are_the_morphological_gradient(shape: tuple[int, ...]) -> None:
    _, labels = batch_of(shape)
    for item, edges in zip(labels.numpy(), label_edges(labels).numpy(), strict=True):
        assert ((ndimage.morphological_gradient(item, size=3, mode="nearest") > 0) == edges).all()


@pytest.mark.parametrize("measure", ["both", "entropy", "edges"])
@pytest.mark.parametrize("shape", [(48, 40), (18, 20, 17)])
def test_the_masks_are_equation_6(shape: tuple[int, ...], measure: Measure) -> None:
    image, labels = batch_of(shape)
    labels[..., :9] = 0
    masks = Partition(patch=8, measure=measure, threshold=0.7)(image, labels)
    edges, places = label_edges(labels), boxes(shape, 8)
    entropy = patch_entropy(image, patch_numbers(shape, 8))
    for n in range(2):
        share = torch.tensor([edges[n][box].float().mean() for box in places])
        measures = {"entropy": entropy[n], "edges": share}
        used = [v for k, v in measures.items() if measure in ("both", k)]
        m = torch.stack([(v - v.min()) / (v.max() - v.min()) for v in used]).amax(dim=0)
        for box, value in zip(places, m.tolist(), strict=True):
            assert masks.fuzzy[n][box].unique().tolist() == pytest.approx([1 if value > 0.7 else value], abs=1e-5)
            assert masks.clear[n][box].unique().tolist() == pytest.approx([1 if value < 0.7 else 1 - value], abs=1e-5)


@pytest.mark.parametrize(("clear", "lowest"), [("paper", 0.3 - 1), ("complement", 0.0), ("clamp", 0.0)])
def test_only_the_papers_mask_is_negative(clear: Clear, lowest: float) -> None:
    image, labels = batch_of((64, 64))
    masks = Partition(clear=clear)(image, labels)
    assert masks.clear.min().item() == pytest.approx(lowest)
    assert masks.fuzzy.max() == masks.clear.max() == 1


def test_a_jagged_border_and_a_noisy_patch_are_fuzzy() -> None:
    image, labels = torch.zeros(1, 1, 64, 64), torch.zeros(1, 64, 64, dtype=torch.int64)
    image[..., 0, 0] = 5
    image[..., 16:32, 16:32] = torch.rand(16, 16, generator=torch.Generator().manual_seed(0))
    labels[:, 32:48:3, 32:48] = 1
    both, entropy, edges = (Partition(measure=m)(image, labels).fuzzy for m in ("both", "entropy", "edges"))
    assert entropy[0, 20, 20] == 1 and entropy[0, 40, 40] == 0
    assert edges[0, 20, 20] < 0.1 and edges[0, 40, 40] == 1
    assert both[0, 20, 20] == both[0, 40, 40] == 1 and both[0, 5, 60] == 0


def test_each_image_is_divided_by_itself() -> None:
    image, labels = batch_of((40, 40))
    together, alone = Partition()(image, labels), Partition()(image[1:], labels[1:])
    assert torch.equal(together.fuzzy[1:], alone.fuzzy) and torch.equal(together.clear[1:], alone.clear)


@pytest.mark.parametrize("shape", [(8, 8), (15, 3), (40, 40), (4, 40, 40), (6, 6, 6)])
@pytest.mark.parametrize("image", ["constant", "noise"])
def test_nothing_to_tell_apart_is_clear(shape: tuple[int, ...], image: str) -> None:
    """A constant image has no entropy, and an image smaller than a patch nothing to be compared with."""
    pixels = torch.full((2, 3, *shape), 7.0) if image == "constant" else torch.randn(2, 3, *shape)
    masks = Partition(measure="both" if image == "constant" or max(shape) < 16 else "edges")(
        pixels, torch.ones(2, *shape, dtype=torch.int64)
    )
    assert (masks.fuzzy == 0).all() and (masks.clear == 1).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_masks_are_float32_whatever_the_image_is(dtype: torch.dtype) -> None:
    image, labels = batch_of((33, 33))
    masks = Partition()(image.to(dtype), labels)
    assert masks.fuzzy.dtype == masks.clear.dtype == torch.float32
    assert masks.fuzzy.isfinite().all() and masks.clear.isfinite().all()


@pytest.mark.parametrize("arguments", [{"patch": 0}, {"threshold": 0.0}, {"threshold": 1.5}, {"bins": 1}])
def test_senseless_settings_are_refused(arguments: dict[str, int | float]) -> None:
    with pytest.raises(ValueError, match="partition"):
        Partition(**arguments)  # type: ignore[arg-type]


def test_labels_of_another_shape_are_refused() -> None:
    with pytest.raises(ValueError, match="shape"):
        Partition()(torch.zeros(1, 1, 8, 8), torch.zeros(1, 8, 9, dtype=torch.int64))
