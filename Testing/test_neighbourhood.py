"""The neighbourhood operators: loops over a tiny image a float64 reference, borders, odd input."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from NoisyLabelSegLib.ops import aggregation, box, neighbourhood
from NoisyLabelSegLib.ops import neighbourhood_reference as reference

SHAPES = [(2, 3, 9, 7), (1, 2, 6, 5, 7), (2, 1, 1, 8, 3)]
SIZES = [1, 3, 5, 7]
CLASSES = 3

Operator = Callable[[Tensor], Tensor]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def numbers(shape: Sequence[int], seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    """Multiples of 1/8: a mean over a window is then far from all values that it does not equal."""
    return torch.randint(-24, 25, tuple(shape), generator=generator(seed)).to(dtype) / 8


def labels_like(x: Tensor, seed: int = 0) -> Tensor:
    return torch.randint(0, CLASSES, (len(x), *x.shape[2:]), generator=generator(seed))


def pairs(x: Tensor, size: int, centre: bool = True) -> list[tuple[str, Operator, Operator]]:
    """Every operator that is differentiable in its first argument, and its reference; other arguments are bound."""
    mask, weights = labels_like(x, 1) == 1, numbers(x[:, 0].shape, 2, x.dtype).abs()
    image, guide = numbers((len(x), 2, *x.shape[2:]), 3, x.dtype), numbers(x.shape, 4, x.dtype)
    calls: list[tuple[str, Any, dict[str, Any]]] = [
        ("box_sum", box, {"size": size}),
        ("mean_masked_cosine", neighbourhood, {"mask": mask, "size": size, "centre": centre}),
        ("mean_masked_cosine", neighbourhood, {"mask": weights, "size": size, "centre": centre}),
        ("gaussian_aggregate", aggregation, {"guide": image, "sizes": (1, *range(3, size + 1, 2)), "sigma": 1.5}),
        ("thresholded_aggregate", aggregation, {"guide": guide, "size": size, "kind": "sum" if centre else "mean"}),
    ]
    return [
        (name, partial(getattr(module, name), **arguments), partial(getattr(reference, name), **arguments))
        for name, module, arguments in calls
    ]


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_values_and_gradients_equal_the_reference(shape: tuple[int, ...], size: int, centre: bool) -> None:
    x = numbers(shape, 5).requires_grad_()
    for name, ours, theirs in pairs(x, size, centre):
        value, expected = ours(x), theirs(x)
        coming = numbers(value.shape, 6)
        gradient, expected_gradient = (torch.autograd.grad(y, x, coming)[0] for y in (value, expected))
        assert torch.allclose(value, expected, rtol=1e-10, atol=1e-10), name
        assert torch.allclose(gradient, expected_gradient, rtol=1e-9, atol=1e-9), f"gradient of {name}"


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("shape", SHAPES)
def test_what_has_no_gradient_equals_the_reference(shape: tuple[int, ...], size: int, centre: bool) -> None:
    x = numbers(shape, 5)
    labels, query = labels_like(x, 1), labels_like(x, 2)
    for ours, theirs in zip(
        neighbourhood.label_affinity(x, labels, query, CLASSES, size, centre=centre),
        reference.label_affinity(x, labels, query, CLASSES, size, centre=centre),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    counts = neighbourhood.neighbour_counts(labels, CLASSES, size, centre=centre)
    assert counts.dtype == torch.float32
    assert torch.equal(counts, reference.neighbour_counts(labels, CLASSES, size, centre=centre))
    kinds: tuple[neighbourhood.Spread, ...] = ("means", "sums")
    for kind in kinds:
        spread = neighbourhood.local_spread(x, size, kind=kind)
        # Of a root near 0 only the square is precise.
        torch.testing.assert_close(spread**2, reference.local_spread(x, size, kind=kind) ** 2, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("shape", [(1, 2, 3, 3), (1, 2, 2, 1, 3)])
def test_gradients_equal_finite_differences(shape: tuple[int, ...]) -> None:
    x = numbers(shape, 5).requires_grad_()
    for name, ours, _ in pairs(x, 3, centre=False):
        assert torch.autograd.gradcheck(ours, x), name


@pytest.mark.parametrize("block", [30, 200])
def test_the_size_of_the_blocks_makes_no_difference(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    x = numbers((2, 3, 4, 5, 3), 5).requires_grad_()
    coming = numbers((2, 3, 4, 5, 3), 6)

    def results() -> Iterator[Tensor]:
        for _, ours, _ in pairs(x, 5):
            value = ours(x)
            yield value
            yield torch.autograd.grad(value, x, coming if value.ndim == 5 else coming[:, 0])[0]
        yield from neighbourhood.label_affinity(x, labels_like(x), labels_like(x, 1), CLASSES)
        yield neighbourhood.local_spread(x)

    expected = list(results())
    monkeypatch.setattr(aggregation, "BLOCK", block)
    monkeypatch.setattr(box, "CACHE", block)
    for value, other in zip(results(), expected, strict=True):
        torch.testing.assert_close(value, other, rtol=1e-10, atol=1e-10)


# The equations as they stand, one voxel after the other, on an image of 4 x 4 x 3 voxels.

IMAGE = (4, 4, 3)
Voxel = tuple[int, ...]
VOXELS: list[Voxel] = list(product(*map(range, IMAGE)))


def window(voxel: Voxel, size: int, centre: bool = True) -> list[Voxel]:
    return [
        other
        for other in VOXELS
        if all(abs(a - b) <= size // 2 for a, b in zip(voxel, other, strict=True)) and (centre or other != voxel)
    ]


def at(x: Tensor, voxel: Voxel) -> Tensor:
    """The channels of a voxel of an image ``1CHWD``."""
    return x[0].flatten(1)[:, VOXELS.index(voxel)]


def each(function: Callable[[Voxel], float]) -> Tensor:
    return torch.tensor([function(voxel) for voxel in VOXELS], dtype=torch.float64).view(1, *IMAGE)


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def mean(values: Sequence[float]) -> float:
    return sum(values) / len(values) if values else 0.0


@pytest.mark.parametrize("centre", [True, False])
@pytest.mark.parametrize("size", [3, 5])
def test_affinities_are_the_loops_of_equations_3_to_5(size: int, centre: bool) -> None:
    x = torch.randn(1, 4, *IMAGE, dtype=torch.float64, generator=generator())
    labels, query = labels_like(x, 1), labels_like(x, 2)

    def affinity(voxel: Voxel, same: bool) -> float:
        asked = at(query.unsqueeze(1), voxel)
        others = [j for j in window(voxel, size, centre) if bool(at(labels.unsqueeze(1), j) == asked) is same]
        return mean([cosine(at(x, voxel), at(x, j)) for j in others])

    found = neighbourhood.label_affinity(x, labels, query, CLASSES, size, centre=centre)
    for value, same in zip(found, (True, False), strict=True):
        torch.testing.assert_close(value, each(partial(affinity, same=same)))
    of_class_1 = neighbourhood.mean_masked_cosine(x, labels == 1, size, centre=centre)
    positive, _ = neighbourhood.label_affinity(x, labels, torch.ones_like(query), CLASSES, size, centre=centre)
    torch.testing.assert_close(of_class_1, positive)


@pytest.mark.parametrize("sizes", [(3,), (3, 5), (3, 5, 7), (5, 1)])
def test_gaussian_aggregation_is_the_loop_of_equation_2(sizes: tuple[int, ...]) -> None:
    values, guide = numbers((1, 1, *IMAGE), 1), numbers((1, 1, *IMAGE), 2)

    def enhanced(voxel: Voxel) -> float:
        total = 0.0
        for size in sizes:
            others = window(voxel, size)
            weights = [math.exp(-(float(at(guide, j) - at(guide, voxel)) ** 2) / (0.8 + 1e-6)) for j in others]
            weighted = sum(w * float(at(values, j)) for w, j in zip(weights, others, strict=True)) / sum(weights)
            total += weighted / math.sqrt(size) / sum(1 / math.sqrt(k) for k in sizes)
        return total

    found = aggregation.gaussian_aggregate(values, guide, sizes, sigma=0.8)
    torch.testing.assert_close(found[:, 0], each(enhanced))


@pytest.mark.parametrize("size", [3, 5])
def test_thresholded_aggregation_is_the_loop_of_equation_1(size: int) -> None:
    values, guide = numbers((1, 1, *IMAGE), 1), numbers((1, 1, *IMAGE), 2)

    def chosen(voxel: Voxel) -> list[float]:
        others = window(voxel, size)
        threshold = mean([float(at(guide, j)) for j in others])
        return [float(at(values, j)) for j in others if float(at(guide, j)) >= threshold]

    found = aggregation.thresholded_aggregate(values, guide, size)
    torch.testing.assert_close(found[:, 0], each(lambda voxel: sum(chosen(voxel))))
    found = aggregation.thresholded_aggregate(values, guide, size, kind="mean")
    torch.testing.assert_close(found[:, 0], each(lambda voxel: mean(chosen(voxel))))


def test_spread_is_the_loop_of_equation_8() -> None:
    values = numbers((1, 2, *IMAGE), 1) / 20

    def spread(voxel: Voxel, over: Callable[[Tensor], Tensor]) -> float:
        vectors = torch.stack([at(values, j) for j in window(voxel, 3)])
        return math.sqrt(max(0.0, float(over(vectors.square().sum(dim=1)) - over(vectors).square().sum())))

    means, sums = neighbourhood.local_spread(values), neighbourhood.local_spread(values, kind="sums")
    torch.testing.assert_close(means, each(partial(spread, over=lambda x: x.mean(dim=0))))
    torch.testing.assert_close(sums, each(partial(spread, over=lambda x: x.sum(dim=0))))
    assert (sums == 0).any() and (sums > 0).any()


# By hand.


def test_box_sums_count_the_voxels_inside_the_image() -> None:
    ones = torch.ones(1, 1, 4, 5)
    expected = [[4, 6, 6, 6, 4], [6, 9, 9, 9, 6], [6, 9, 9, 9, 6], [4, 6, 6, 6, 4]]
    assert torch.equal(box.box_sum(ones, 3)[0, 0], torch.tensor(expected, dtype=torch.float32))
    assert torch.equal(box.box_sum(ones, 99), torch.full_like(ones, 20))


def test_counts_by_hand() -> None:
    labels = torch.tensor([[[0, 0, 1], [2, 1, 1]]])
    counts = neighbourhood.neighbour_counts(labels, 3)
    assert counts[0, :, 0, 0].tolist() == [2, 1, 1] and counts[0, :, 0, 1].tolist() == [2, 3, 1]
    others = neighbourhood.neighbour_counts(labels, 3, centre=False)
    assert others[0, :, 0, 0].tolist() == [1, 1, 1] and others[0, :, 0, 1].tolist() == [1, 3, 1]


def test_a_label_of_no_class_counts_as_a_differing_neighbour_and_for_no_class() -> None:
    x, labels = torch.ones(1, 2, 1, 3), torch.tensor([[[0, -1, 255]]])
    assert neighbourhood.neighbour_counts(labels, 2).sum() == 2
    positive, negative = neighbourhood.label_affinity(x, labels, torch.zeros_like(labels), 2)
    torch.testing.assert_close(positive, torch.tensor([[[1.0, 1.0, 0.0]]]))
    torch.testing.assert_close(negative, torch.tensor([[[1.0, 1.0, 1.0]]]))


def test_affinity_is_0_where_there_is_no_such_neighbour() -> None:
    x, labels = torch.ones(1, 2, 5, 5), torch.zeros(1, 5, 5, dtype=torch.long)
    assert not neighbourhood.mean_masked_cosine(x, labels == 1).any()
    positive, negative = neighbourhood.label_affinity(x, labels, labels, 2)
    torch.testing.assert_close(positive, torch.ones_like(positive))
    assert not negative.any()
    lone = torch.zeros(1, 5, 5, dtype=torch.bool)
    lone[0, 2, 2] = True
    assert neighbourhood.mean_masked_cosine(x, lone, centre=False)[0, 2, 2] == 0
    assert neighbourhood.mean_masked_cosine(x, lone, centre=True)[0, 2, 2] == pytest.approx(1)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("value", [0.1, -3.3, 0.0])
@pytest.mark.parametrize("size", [3, 7])
def test_all_neighbours_of_a_flat_guide_reach_its_mean(size: int, value: float, dtype: torch.dtype) -> None:
    ones = torch.ones(1, 2, 6, 5, 9)
    found = aggregation.thresholded_aggregate(ones, torch.full_like(ones, value, dtype=dtype), size)
    assert torch.equal(found, box.box_sum(ones, size))


def test_a_flat_image_has_no_spread_and_a_gaussian_aggregation_leaves_it() -> None:
    flat = torch.full((1, 3, 8, 9, 7), 1000.1)
    assert neighbourhood.local_spread(flat, 5).max() < 1e-2
    torch.testing.assert_close(aggregation.gaussian_aggregate(flat, torch.randn(1, 1, 8, 9, 7)), flat)


def test_very_different_neighbours_leave_a_voxel_as_it_is() -> None:
    values, guide = torch.randn(1, 2, 5, 6), torch.arange(30.0).view(1, 1, 5, 6) * 1e4
    assert torch.equal(aggregation.gaussian_aggregate(values, guide, (3,)), values)


def test_sizes_may_come_in_any_order() -> None:
    values, guide = torch.randn(2, 2, 9, 8), torch.randn(2, 1, 9, 8)
    ascending, mixed = (aggregation.gaussian_aggregate(values, guide, sizes) for sizes in ((3, 5, 7), [7, 3, 5]))
    assert torch.equal(ascending, mixed)


# Odd input.


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [3, 7])
def test_half_precision_equals_single_precision_rounded(size: int, dtype: torch.dtype) -> None:
    x = numbers((1, 3, 6, 7, 5), 5, dtype)
    for name, ours, _ in pairs(x, size):
        half = x.clone().requires_grad_()
        value, expected = ours(half), ours(x.float())
        own = torch.float32 if "cosine" in name else dtype
        assert value.dtype == own, name
        torch.testing.assert_close(value, expected.to(own), rtol=1e-2, atol=1e-2)
        (gradient,) = torch.autograd.grad(value.sum(), half)
        assert gradient.dtype == dtype and gradient.isfinite().all(), name
    assert neighbourhood.local_spread(x).dtype == dtype
    positive, negative = neighbourhood.label_affinity(x, labels_like(x), labels_like(x, 1), CLASSES)
    assert positive.dtype == negative.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
@pytest.mark.parametrize("scale", [0.0, 1e-6, 1.0, 6e4])
def test_results_are_finite_with_zero_tiny_and_large_vectors(scale: float, dtype: torch.dtype) -> None:
    x = torch.randn(2, 4, 5, 6, 4, generator=generator()).clamp(-1, 1).mul(scale).to(dtype)
    x[:, :, 1:3] = 0
    labels, query = labels_like(x, 1), labels_like(x, 2)
    x.requires_grad_()
    found = neighbourhood.mean_masked_cosine(x, labels == 1)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    results = [found, gradient.float(), *neighbourhood.label_affinity(x, labels, query, CLASSES)]
    # In float16 a gradient, proportional to 1 / length, may not fit.
    for result in results[:1] + results[2:] if scale == 1e-6 else results:
        assert result.isfinite().all()
    assert found.abs().max() <= 1 + 1e-5
    assert not found[:, 1:3].any() and not gradient[:, :, 1:3].any()
    assert neighbourhood.local_spread(x.float()).isfinite().all()
    aggregated = aggregation.gaussian_aggregate(x, x), aggregation.thresholded_aggregate(x, x, kind="mean")
    assert all(result.isfinite().all() for result in aggregated)


@pytest.mark.parametrize("shape", [(1, 2, 1, 1), (1, 2, 2, 1, 3), (3, 1, 4, 4)])
def test_windows_larger_than_the_image_hold_all_of_it(shape: tuple[int, ...]) -> None:
    x = numbers(shape, 5)
    everything = x.sum(dim=tuple(range(2, x.ndim)), keepdim=True).expand_as(x)
    torch.testing.assert_close(box.box_sum(x, 9), everything)
    alike = aggregation.gaussian_aggregate(x, torch.zeros_like(x), (9, 11))
    torch.testing.assert_close(alike, everything / x[0, 0].numel())
    torch.testing.assert_close(aggregation.thresholded_aggregate(x, torch.zeros_like(x), 9), everything)


def test_inputs_need_not_be_contiguous_and_are_left_alone() -> None:
    x = numbers((2, 3, 6, 5, 7), 5).transpose(2, 4).requires_grad_()
    kept = x.detach().clone()
    for name, ours, _ in pairs(x, 3):
        torch.testing.assert_close(ours(x), ours(kept), msg=name)
        torch.autograd.grad(ours(x).sum(), x)
    neighbourhood.local_spread(x)
    assert torch.equal(x, kept)


def test_guides_and_masks_get_no_gradient() -> None:
    x, guide = torch.randn(1, 2, 5, 5, requires_grad=True), torch.randn(1, 2, 5, 5, requires_grad=True)
    total = aggregation.gaussian_aggregate(x, guide).sum() + aggregation.thresholded_aggregate(x, guide).sum()
    total = total + neighbourhood.mean_masked_cosine(x, F.relu(guide[:, 0])).sum()
    total.backward()
    assert x.grad is not None and guide.grad is None


X = torch.zeros(1, 2, 5, 5)
MASK = torch.zeros(1, 5, 5, dtype=torch.long)
REFUSED: list[tuple[str, Callable[[], object]]] = [
    ("odd", lambda: box.box_sum(X, 4)),
    ("odd", lambda: box.box_sum(X, 0)),
    ("odd", lambda: neighbourhood.neighbour_counts(MASK, 2, 2)),
    ("odd", lambda: neighbourhood.mean_masked_cosine(X, MASK, 2)),
    ("odd", lambda: neighbourhood.label_affinity(X, MASK, MASK, 2, 2)),
    ("odd", lambda: neighbourhood.local_spread(X, -3)),
    ("odd", lambda: aggregation.thresholded_aggregate(X, X, 6)),
    ("odd", lambda: aggregation.gaussian_aggregate(X, X, (3, 4))),
    ("at least one size", lambda: aggregation.gaussian_aggregate(X, X, ())),
    ("sigma > 0", lambda: aggregation.gaussian_aggregate(X, X, (3,), sigma=0)),
    ("guide must have the shape", lambda: aggregation.gaussian_aggregate(X, X[..., 1:])),
    ("guide must have the shape", lambda: aggregation.thresholded_aggregate(X, X[:, :1])),
    ("mask must have the shape", lambda: neighbourhood.mean_masked_cosine(X, MASK.unsqueeze(1))),
    ("labels must have the shape", lambda: neighbourhood.label_affinity(X, MASK[:, 1:], MASK, 2)),
    ("query must have the shape", lambda: neighbourhood.label_affinity(X, MASK, MASK[:, 1:], 2)),
]


@pytest.mark.parametrize(("message", "call"), REFUSED)
def test_what_does_not_fit_is_refused_in_one_sentence(message: str, call: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=message):
        call()
