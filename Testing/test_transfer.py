"""Starting a network from other runs' weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from NoisyLabelSegLib.bundle import Network
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks import build
from training.recipes.transfer import Start, start_from

RUN = "other-small"
SETTINGS = {
    "recipe": "supervised",
    "data": "any",
    "preprocessing": {"dimensions": 2, "window": [32, 32]},
    "network": {"name": "unet", "arguments": {"features": [4] * 6}},
}
VM = {"spatial_dims": 2, "out_channels": 2, "features": [4, 8], "blocks": [1, 1], "state": 2, "patch": 2}


def network(channels: int, features: int = 4) -> torch.nn.Module:
    return build("unet", spatial_dims=2, in_channels=channels, out_channels=2, features=[features] * 6).eval()


def described(name: str = "unet", **arguments: Any) -> Network:
    return Network(name, {"spatial_dims": 2, "features": [4] * 6, **arguments})


def trained(runs: Path, source: torch.nn.Module, name: str = RUN, kind: Any = SETTINGS["network"]) -> Path:
    folder = runs / f"{name}-seed0"
    folder.mkdir()
    torch.save({"network": source.state_dict()}, folder / "best.ckpt")
    torch.save({"state": {"epoch": 100}}, folder / "last.ckpt")
    (folder / "experiment.json").write_text(json.dumps({**SETTINGS, "network": kind}), encoding="utf-8")
    return runs


def test_new_channels_change_nothing_at_first(tmp_path: Path) -> None:
    source, target = network(1), network(3)
    start_from(target, [Start(RUN)], trained(tmp_path, source), 0, described())
    image, masks = torch.rand(2, 1, 32, 32), torch.rand(2, 2, 32, 32)
    with torch.no_grad():
        torch.testing.assert_close(target(torch.cat([image, masks], dim=1)), source(image))


@pytest.mark.parametrize(
    ("source", "target", "start", "sentence"),
    [
        (network(3), network(1), Start(RUN), r"\[.*\] there and \[.*\] here"),
        (network(1, 8), network(1), Start(RUN), r"\[.*\] there and \[.*\] here"),
        (build("vm_unet", in_channels=1, **VM), network(1), Start(RUN), "is not in that run"),
        (build("vm_unet", in_channels=1, **VM), network(1), Start(RUN, lenient=True), "is not in that run"),
        (network(1), network(1), Start(RUN, {"encoder": "encoder"}), "encoder is not in that run"),
        (None, network(1), Start(RUN), "train that run, with this seed, first"),
    ],
)
def test_what_does_not_fit_is_refused(
    tmp_path: Path, source: torch.nn.Module | None, target: torch.nn.Module, start: Start, sentence: str
) -> None:
    if source:
        trained(tmp_path, source)
    with pytest.raises(InputError, match=sentence):
        start_from(target, [start], tmp_path, 0, described())


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"norm": "instance"}, "where network.arguments.norm is batch and here instance"),
        ({"name": "unet_plus_plus"}, "where network.name is unet and here unet_plus_plus"),
        ({"norm": "batch", "dropout": 0.5}, ""),
    ],
)
def test_networks_that_differ_in_more_than_shapes_are_refused(
    tmp_path: Path, changed: dict[str, Any], sentence: str
) -> None:
    trained(tmp_path, network(1))
    if sentence:
        with pytest.raises(InputError, match=sentence):
            start_from(network(1), [Start(RUN)], tmp_path, 0, described(**changed))
    start_from(network(1), [Start(RUN, lenient=bool(sentence))], tmp_path, 0, described(**changed))


def test_encoders_of_two_runs_become_those_of_two_modalities(tmp_path: Path) -> None:
    one, two = (build("vm_unet", in_channels=1, **VM) for _ in range(2))
    vm_unet = {"name": "vm_unet", "arguments": {key: VM[key] for key in ("features", "blocks", "state", "patch")}}
    trained(trained(tmp_path, one, "weak-small", vm_unet), two, "strong-small", vm_unet)
    both = build("weak_to_strong", in_channels=2, **VM)
    before = {name: tensor.clone() for name, tensor in both.state_dict().items()}
    starts = [
        Start("weak-small", {"encoder": "weak", "decoder": "decoder"}),
        Start("strong-small", {"encoder": "strong"}),
    ]
    start_from(both, starts, tmp_path, 0, Network("weak_to_strong", VM))
    for name, tensor in both.state_dict().items():
        part, _, rest = name.partition(".")
        source = {"weak": one, "decoder": one, "strong": two}.get(part)
        expected = (
            before[name]
            if source is None
            else source.state_dict()[f"{part if part == 'decoder' else 'encoder'}.{rest}"]
        )
        torch.testing.assert_close(tensor, expected, rtol=0, atol=0)


def test_what_does_not_fit_stays_and_is_listed_where_that_is_asked_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = network(1), build("unet", spatial_dims=2, in_channels=1, out_channels=5, features=[4] * 6)
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    start_from(target, [Start(RUN, lenient=True)], trained(tmp_path, source), 0, described())
    left = {name for name, tensor in target.state_dict().items() if tensor.shape != source.state_dict()[name].shape}
    assert left
    said = capsys.readouterr().err
    for name, tensor in target.state_dict().items():
        torch.testing.assert_close(tensor, before[name] if name in left else source.state_dict()[name])
        assert (name in said) == (name in left)
