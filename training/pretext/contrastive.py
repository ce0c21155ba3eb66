"""Contrastive learning as SimCLR has it (Chen et al., ICML 2020): two views of a fragment are more alike than two
fragments (NT-Xent) after a mean over the deepest features and a projection, which is there in training only.

A view is a random part of the fragment, brought to its size again, with other intensities and noise. It is not turned
or flipped: which way up an image lies is to be seen in the features. Others are the fragments of the same batch and
process.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from NoisyLabelSegLib.errors import InputError
from training.pretext.encoder import Encoder
from training.pretext.task import Task


@dataclass(frozen=True)
class ContrastiveSettings:
    """See the module's text.

    Attributes:
        weight: of its loss among those of all tasks.
        temperature: by which similarities, -1 to 1, are divided.
        smallest: least share of each axis that a view shows.
        projected: numbers that a fragment is projected to.
    """

    weight: float = 1.0
    temperature: float = 0.1
    smallest: float = 0.6
    projected: int = 64

    def __post_init__(self) -> None:
        if self.temperature <= 0 or not 0 < self.smallest <= 1:
            raise ValueError("settings.tasks.contrastive needs a temperature above 0 and smallest in 0 to 1")


class Contrastive(Task):
    """See the module's text."""

    def __init__(self, settings: ContrastiveSettings, encoder: Encoder, channels: int) -> None:
        super().__init__()
        self.settings = settings
        width = encoder.features
        self.head = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, settings.projected))

    def projections(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        """Of two views of each fragment, (2B, P): first all first ones, then all second ones."""
        views = torch.cat([random_view(fragments, self.settings.smallest) for _ in range(2)])
        found: Tensor = self.head(encoder(views).mean(dim=(2, 3, 4))).float()
        return found

    def forward(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        if len(fragments) < 2:
            raise InputError("The contrastive task compares fragments: set engine.batch_size to at least 2.")
        return nt_xent(self.projections(encoder, fragments), self.settings.temperature)

    def tally(self, encoder: Encoder, fragments: Tensor) -> Tensor:
        """How many views are most alike to the other one of their fragment, and how many there are."""
        partners, similar = _compared(self.projections(encoder, fragments))
        return torch.stack([(similar.argmax(dim=1) == partners).sum(), torch.tensor(len(partners))]).cpu()

    def figures(self, tally: Tensor) -> dict[str, float]:
        return {"matched": float(tally[0] / tally[1])}


def nt_xent(projections: Tensor, temperature: float) -> Tensor:
    """The normalised temperature-scaled cross-entropy of (2B, P), row i and B + i being views of one fragment."""
    partners, similar = _compared(projections)
    return F.cross_entropy(similar / temperature, partners)


def _compared(projections: Tensor) -> tuple[Tensor, Tensor]:
    """Each row's partner, and its cosine similarities to all rows but itself (- infinity)."""
    rows = F.normalize(projections, dim=1)
    count = len(rows)
    partners = (torch.arange(count, device=rows.device) + count // 2) % count
    itself = torch.eye(count, dtype=torch.bool, device=rows.device)
    return partners, (rows @ rows.T).masked_fill(itself, -torch.inf)


def random_view(fragments: Tensor, smallest: float) -> Tensor:
    """A random part of each fragment ``BCDHW``, brought to its size, with varied intensities."""
    count, device = len(fragments), fragments.device
    scale = smallest + (1 - smallest) * torch.rand(count, 3)
    shift = (1 - scale) * (2 * torch.rand(count, 3) - 1)
    where = torch.cat([torch.diag_embed(scale), shift[..., None]], dim=2).to(device)
    grid = F.affine_grid(where, list(fragments.shape), align_corners=False)
    part = F.grid_sample(fragments, grid, padding_mode="border", align_corners=False)
    gain, offset = (torch.rand(2, count, 1, 1, 1, 1, device=device) - 0.5) * 0.5
    return part * (1 + gain) + offset + 0.05 * torch.randn_like(part)
