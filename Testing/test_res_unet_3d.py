"""ResUNet3D: its first level works within slices, the first pooling leaves their number alone."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks import build

ARGUMENTS: dict[str, Any] = {"spatial_dims": 3, "in_channels": 1, "out_channels": 2, "features": [4, 8, 8, 8]}


def made(**changed: Any) -> Any:
    torch.manual_seed(0)
    return build("res_unet_3d", **{**ARGUMENTS, **changed}).eval()


@pytest.mark.parametrize(
    ("in_plane_levels", "expected"),
    [
        (1, [(16, 32, 24), (16, 16, 12), (8, 8, 6), (4, 4, 3)]),
        (0, [(16, 32, 24), (8, 16, 12), (4, 8, 6), (2, 4, 3)]),
        (3, [(16, 32, 24), (16, 16, 12), (16, 8, 6), (16, 4, 3)]),
    ],
)
def test_the_first_poolings_are_in_plane(in_plane_levels: int, expected: list[tuple[int, ...]]) -> None:
    features = made(in_plane_levels=in_plane_levels).encoder(torch.rand(1, 1, 16, 32, 24))
    assert [tuple(level.shape[2:]) for level in features] == expected


@pytest.mark.parametrize("slice_wise", [True, False])
def test_the_first_level_sees_one_slice_at_a_time(slice_wise: bool) -> None:
    encoder = made(slice_wise=slice_wise, norm="batch").encoder
    image = torch.rand(1, 1, 8, 16, 16)
    other = image.clone()
    other[:, :, 3] += 1
    changed = (encoder(image)[0] != encoder(other)[0]).flatten(3).any(dim=3).any(dim=1)[0]
    assert changed.nonzero().flatten().tolist() == ([3] if slice_wise else [1, 2, 3, 4, 5])


@pytest.mark.parametrize("shape", [(4, 8, 16), (12, 24, 16), (4, 64, 8)])
def test_windows_may_have_other_sizes_along_and_across_the_slices(shape: tuple[int, ...]) -> None:
    assert made()(torch.rand(1, 1, *shape)).shape == (1, 2, *shape)


def test_a_size_that_cannot_be_halved_so_often_is_told() -> None:
    with pytest.raises(InputError, match=r"multiples of \[4, 8, 8\] voxels, not \[6, 8, 8\]"):
        made()(torch.rand(1, 1, 6, 8, 8))
