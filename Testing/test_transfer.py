"""Starting a network from another run's weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks import build
from training.recipes.transfer import start_from


def network(channels: int, features: int = 4) -> torch.nn.Module:
    return build("unet", spatial_dims=2, in_channels=channels, out_channels=2, features=[features] * 6).eval()


def checkpoint(folder: Path, source: torch.nn.Module) -> Path:
    torch.save({"network": source.state_dict()}, folder / "best.ckpt")
    return folder / "best.ckpt"


def test_new_channels_change_nothing_at_first(tmp_path: Path) -> None:
    source, target = network(1), network(3)
    start_from(target, checkpoint(tmp_path, source))
    image, masks = torch.rand(2, 1, 32, 32), torch.rand(2, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(target(torch.cat([image, masks], dim=1)), source(image))


@pytest.mark.parametrize(
    ("source", "target", "sentence"),
    [(network(3), network(1), "is needed"), (network(1, 8), network(1), "is needed"), (None, network(1), "train that")],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, source: torch.nn.Module | None, target: torch.nn.Module, sentence: str
) -> None:
    path = checkpoint(tmp_path, source) if source else tmp_path / "best.ckpt"
    with pytest.raises(InputError, match=sentence):
        start_from(target, path)
