"""Where an image is fuzzy and where it is clear: DALE's AE&ER soft threshold method, equations (3) to (7).

Decisions where the paper is silent or needs reading:

- (3) sums p log p over a patch's pixels, p being how frequent a pixel's value is in the patch. So written it is not
  an entropy: of B equally frequent values it is log(B) / B, which falls as B grows. ``entropy: paper`` is that;
  ``shannon`` is the mean of -log p over the pixels, largest where values are spread most evenly, as the text says.
- Values are counted in `bins` equal bins from the smallest to the largest of an image's channel; the mean is taken over
  the channels. A patch of 16 × 16 pixels cannot fill 256 bins.
- (4)'s edges are the morphological gradient: a pixel is one if a label in its 3 × 3 (× 3) window differs from its own.
  Both sides of a border count, for any number of classes.
- (5) of equal patches is 0 / 0 and means 0, so a constant image, a label map without edges and an image that is a
  single patch are clear all over.
- (6)'s mask of clear pixels is tau - m from tau on, which is negative: ``clear: paper``, a loss that is unlearnt.
  ``complement`` is 1 - m there, ``clamp`` is 0.
- Patches lie from the first corner on; the last ones of an axis are as large as what is left.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

Entropy = Literal["paper", "shannon"]
Measure = Literal["both", "entropy", "edges"]
Clear = Literal["paper", "complement", "clamp"]


class Masks(NamedTuple):
    """How far each pixel belongs to the fuzzy and to the clear set, ``BHW[D]``, float32; most belong to both."""

    fuzzy: Tensor
    clear: Tensor


@dataclass(frozen=True)
class Partition:
    """How pixels are shared out between the fuzzy and the clear set.

    Attributes:
        patch: pixels of a patch along each axis (paper: 16).
        threshold: tau (paper: 0.9, which leaves nearly every label in the clear set, noise too).
        measure: what makes a patch fuzzy (paper: both, the larger of the two).
        entropy, clear, bins: see the module's text.
    """

    patch: int = 16
    threshold: float = 0.3
    measure: Measure = "both"
    entropy: Entropy = "shannon"
    clear: Clear = "complement"
    bins: int = 32

    def __post_init__(self) -> None:
        if self.patch < 1 or self.bins < 2 or not 0 < self.threshold <= 1:
            raise ValueError(
                "A partition needs a patch of at least 1 pixel, 2 bins and a threshold above 0, at most 1."
            )

    @torch.no_grad()
    def __call__(self, image: Tensor, labels: Tensor) -> Masks:
        """Equation (6) of images ``BCHW[D]`` and label maps ``BHW[D]``, each image by itself."""
        if image[:, 0].shape != labels.shape:
            raise ValueError(f"Labels of the shape {tuple(labels.shape)} are not those of {tuple(image.shape)}.")
        patches = patch_numbers(labels.shape[1:], self.patch, labels.device)
        m = self._fuzziness(image, labels, patches).gather(1, patches.flatten().expand(len(image), -1))
        m = m.unflatten(1, patches.shape)
        above = {"paper": self.threshold - m, "complement": 1 - m, "clamp": torch.zeros_like(m)}[self.clear]
        return Masks(torch.where(m > self.threshold, 1, m), torch.where(m < self.threshold, 1, above))

    def _fuzziness(self, image: Tensor, labels: Tensor, patches: Tensor) -> Tensor:
        """m of (6), 0 to 1, of each patch: ``(B, patches)``."""
        measures = []
        if self.measure != "edges":
            measures.append(patch_entropy(image, patches, self.bins, self.entropy))
        if self.measure != "entropy":
            measures.append(_patch_means(label_edges(labels).float().flatten(1), patches))
        return torch.stack([stretched(measure) for measure in measures]).amax(dim=0)


def patch_numbers(shape: tuple[int, ...], patch: int, device: torch.device | None = None) -> Tensor:
    """The number of the patch that each pixel of ``HW[D]`` lies in."""
    numbers = torch.zeros((), dtype=torch.int64, device=device)
    for length in shape:
        along = torch.arange(length, device=device) // patch
        numbers = numbers.unsqueeze(-1) * (-(-length // patch)) + along
    return numbers


def patch_entropy(image: Tensor, patches: Tensor, bins: int = 32, kind: Entropy = "shannon") -> Tensor:
    """Equation (3), in nats, the mean over the channels: of ``BCHW[D]`` and `patch_numbers`, ``(B, patches)``."""
    values = image.float().flatten(2)
    levels = (stretched(values) * bins).long().clamp(max=bins - 1)
    batch, channels = values.shape[:2]
    count = int(patches.max()) + 1
    group = torch.arange(batch * channels, device=image.device).view(batch, channels, 1) * count + patches.flatten()
    histograms = torch.bincount((group * bins + levels).flatten(), minlength=batch * channels * count * bins)
    p = histograms.view(batch, channels, count, bins).float()
    p = p / p.sum(dim=-1, keepdim=True)
    terms = torch.special.entr(p) * (p if kind == "paper" else 1)
    return terms.sum(dim=-1).mean(dim=1)


def label_edges(labels: Tensor) -> Tensor:
    """The edge pixels of label maps ``BHW[D]``, bool: where the largest and the smallest label near a pixel differ."""
    pool = F.max_pool2d if labels.ndim == 3 else F.max_pool3d
    values = labels.unsqueeze(1).float()
    return (pool(values, 3, 1, 1) != -pool(-values, 3, 1, 1)).squeeze(1)


def stretched(values: Tensor) -> Tensor:
    """Equation (5): along the last axis the smallest becomes 0 and the largest 1; equal ones become 0."""
    low, high = values.aminmax(dim=-1, keepdim=True)
    return torch.where(high > low, (values - low) / (high - low), 0)


def _patch_means(values: Tensor, patches: Tensor) -> Tensor:
    """``(B, pixels)`` to ``(B, patches)``."""
    where = patches.flatten()
    sizes = torch.bincount(where)
    return values.new_zeros(len(values), len(sizes)).index_add_(1, where, values) / sizes
