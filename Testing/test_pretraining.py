"""Pre-training by its commands: from a folder of images to networks that start from what was learnt."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from torch import Tensor

from NoisyLabelSegLib.errors import InputError
from training.__main__ import main
from training.data.cases import read_dataset
from training.data.fragments import Fragments
from training.experiment import parse_experiment, read_experiment
from training.proxy import LEAK, Proxy, held_out_part

BASE: dict[str, Any] = {
    "recipe": "pretrain",
    "data": "images",
    "preprocessing": {"dimensions": 3, "window": [8, 16, 16]},
    "network": {"name": "res_unet_3d", "arguments": {"features": [4, 8]}},
    "settings": {"tasks": {"rotation": {"slices": 2}}, "held_out": 2},
    "optimizer": {"name": "AdamW", "learning_rate": 0.01},
    "engine": {"epochs": 1, "batch_size": 2, "accelerator": "cpu", "devices": 1, "threads": 1},
}
VM = {"features": [4, 8], "blocks": [1, 1], "state": 2, "patch": 2}


@pytest.fixture(autouse=True)
def threads() -> Iterator[None]:
    """The engine sets the number of threads of the process that it runs in."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def anatomy(rng: np.random.Generator) -> np.ndarray:
    """Something with an up and a right: a bright bar above, a dim one to the right."""
    volume = rng.normal(0, 0.1, (10, 20, 18))
    volume[:, 2:5] += 3
    volume[:, :, -4:-2] += 1
    return volume


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Images of twelve patients with a damaged file among them, and the prepared data set ``data/images``."""
    place = tmp_path_factory.mktemp("pretraining")
    for number in range(12):
        (place / "images" / f"patient {number}").mkdir(parents=True)
        image = sitk.GetImageFromArray(anatomy(np.random.default_rng(number)).astype(np.float32))
        sitk.WriteImage(image, str(place / "images" / f"patient {number}" / "t1.nii.gz"))
    (place / "images" / "damaged.nii.gz").write_bytes(b"no image")
    assert main(["prepare", "images", str(place / "images"), "--data", str(place / "data")]) == 0
    return place


class Desk:
    """Runs commands on experiments of its own in a folder."""

    def __init__(self, folder: Path, data: Path) -> None:
        self.folder, self.data = folder, data

    def write(self, name: str, **changed: Any) -> str:
        file = self.folder / f"{name}.yaml"
        file.write_text(yaml.safe_dump({**BASE, **changed}), encoding="utf-8")
        return str(file)

    def __call__(self, command: str, file: str, *more: str) -> int:
        return main([command, file, "--data", str(self.data), "--runs", str(self.folder / "runs"), *more])

    def weights(self, name: str) -> dict[str, Tensor]:
        path = self.folder / "runs" / f"{name}-full-seed0" / "best.ckpt"
        state: dict[str, Tensor] = torch.load(path, weights_only=True)["network"]
        return state


@pytest.fixture
def desk(tmp_path: Path, folder: Path) -> Desk:
    return Desk(tmp_path, folder / "data")


def test_a_folder_of_images_becomes_a_data_set_without_labels(folder: Path) -> None:
    dataset = read_dataset(folder / "data" / "images")
    assert len(dataset.cases) == 12 and not dataset.labels and not any(case.has_expert for case in dataset.cases)
    assert dataset.cases[0].id == "patient 0-t1" and dataset.cases[0].patient == "patient 0"
    assert {case.split for case in dataset.cases} == {"train", "val"}
    skipped = json.loads((folder / "data" / "images" / "skipped.json").read_text("utf-8"))
    assert list(skipped) == ["damaged.nii.gz"] and "damaged" in skipped["damaged.nii.gz"]


def test_a_folder_without_usable_images_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "none").mkdir()
    prepare = ["prepare", "images", str(tmp_path / "none"), "--data", str(tmp_path / "data")]
    assert main(prepare) == 2 and "There is no image in" in capsys.readouterr().err
    (tmp_path / "none" / "a.nii.gz").write_bytes(b"no image")
    assert main(prepare) == 2 and "None of the 1 images" in capsys.readouterr().err


FILES = {
    "imagesTr/a_frame01.nii.gz": ("imagesTr-a_frame01", "imagesTr-a"),
    "imagesTr/a_frame12.nii.gz": ("imagesTr-a_frame12", "imagesTr-a"),
    "imagesTr/b.nii.gz": ("imagesTr-b", "imagesTr-b"),
    "site/one/t1.nii.gz": ("site-one-t1", "site/one"),
    "site/one/t2.nii.gz": ("site-one-t2", "site/one"),
    "site/two/t1.nii.gz": ("site-two-t1", "site/two"),
    "-odd/é?.nii.gz": ("odd-é_", "-odd"),
    "site-two-t1.nii.gz": ("site-two-t1-98765432", "site-two-t1"),
    "labelsTr/b.nii.gz": None,
    "site/Labels/t1.nii.gz": None,
    ".hidden/b.nii.gz": None,
    f"{'long' * 20}/{'name' * 20}.nii.gz": ("…", "long" * 20),
}


def test_images_have_patients_and_names_of_their_own(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in FILES:
        (tmp_path / "all" / name).parent.mkdir(parents=True, exist_ok=True)
        sitk.WriteImage(sitk.GetImageFromArray(np.zeros((2, 3, 4), np.float32)), str(tmp_path / "all" / name))
    prepare = ["prepare", "images", str(tmp_path / "all"), "--data", str(tmp_path / "data"), "--val", "0"]
    assert main(prepare) == 0
    assert "warning: no case is held out" in capsys.readouterr().err
    cases = read_dataset(tmp_path / "data" / "images").cases
    assert {case.split for case in cases} == {"train"}, "without labels there is nothing to test"
    assert {case.image.relative_to(tmp_path / "all").as_posix(): case.patient for case in cases} == {
        name: expected[1] for name, expected in FILES.items() if expected
    }
    ids = {case.image.relative_to(tmp_path / "all").as_posix(): case.id for case in cases}
    for name, id_ in ids.items():
        wanted, _ = FILES[name] or ("", "")
        marked = wanted[-9:-8] == "-" or wanted == "…"
        assert re.fullmatch(r".*-[0-9a-f]{8}", id_) if marked else id_ == wanted
    assert len({id_.casefold() for id_ in ids.values()}) == len(ids) and max(map(len, ids.values())) == 109


def test_it_learns_anatomy_and_the_control_tells_that_it_does_not_cheat(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = {**BASE["engine"], "epochs": 12, "batch_size": 6, "validate_every": 4}
    settings = {"tasks": {"rotation": {"slices": 2}}, "fragments": 6, "held_out": 12}
    file = desk.write("learn", engine=engine, settings=settings)
    assert desk("pretrain", file) == 0
    assert "network.start: [{run: learn-full}]" in capsys.readouterr().out
    assert desk("proxy", file) == 0
    said = capsys.readouterr()
    (figures,) = (desk.folder / "runs" / "learn-full-seed0").glob("proxy-val-*.json")
    found = json.loads(figures.read_text("utf-8"))
    assert found["held_out"]["accuracy"] > 0.9
    assert found["control"]["accuracy"] < LEAK and not said.err.count("warning")
    assert np.array(found["held_out"]["confusion"]).sum() == found["held_out"]["slices"]
    assert "held-out volumes, val part: balanced accuracy" in said.out and "control" in said.out
    assert figures.with_suffix(".svg").read_text("utf-8").count("balanced accuracy") == 2
    assert desk("proxy", file, "--split", "test") == 2 and "no case in its test part" in capsys.readouterr().err


def test_the_control_finds_a_leak(
    desk: Desk, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = Fragments._fragment

    def padded(self: Fragments, voxels: Any, rng: np.random.Generator) -> Tensor:
        image = cut(self, voxels, rng)
        image[:, :, :2] = -3.0  # two rows of nothing, as a careless crop beyond the image's border has them
        return image

    monkeypatch.setattr(Fragments, "_fragment", padded)
    engine = {**BASE["engine"], "epochs": 8, "batch_size": 6, "validate_every": 4}
    settings = {"tasks": {"rotation": {"slices": 2}}, "fragments": 6, "held_out": 12}
    file = desk.write("leak", engine=engine, settings=settings)
    assert desk("pretrain", file) == 0 and desk("proxy", file) == 0
    assert "warning: a control above 0.35 tells of a leak" in capsys.readouterr().err


def test_several_tasks_and_pooled_data_in_one_yaml(desk: Desk, tmp_path: Path) -> None:
    other = tmp_path / "data"
    other.mkdir()
    for name in ("images", "centre_b"):
        content = json.loads((desk.data / "images" / "dataset.json").read_text("utf-8"))
        (other / name).mkdir()
        (other / name / "dataset.json").write_text(json.dumps({**content, "name": name}), encoding="utf-8")
    tasks = {"rotation": {"slices": 2}, "masked": {"weight": 0.5, "box": [4, 4, 4]}, "contrastive": {}}
    file = desk.write("all", settings={"tasks": tasks, "pool": ["centre_b"]})
    parts = read_experiment(Path(file)).parts(other, 0)
    assert len(parts.dataset.cases) == 24
    assert Desk(tmp_path, other)("pretrain", file) == 0
    rows = [json.loads(row) for row in (tmp_path / "runs/all-full-seed0/log.jsonl").read_text("utf-8").splitlines()]
    step, last = rows[0], rows[-1]
    assert step["loss"] == pytest.approx(step["rotation"] + 0.5 * step["masked"] + step["contrastive"], rel=1e-5)
    assert last["score"] == last["accuracy"] and {"turned90", "unhidden", "matched"} <= last.keys()


def test_a_killed_run_goes_on_with_the_same_losses(desk: Desk) -> None:
    whole = desk.write("whole", engine={**BASE["engine"], "epochs": 2})
    half = desk.write("half", engine={**BASE["engine"], "epochs": 1})
    assert desk("pretrain", whole) == 0 and desk("pretrain", half) == 0
    run = desk.folder / "runs" / "half-full-seed0"
    settings = json.loads((run / "experiment.json").read_text("utf-8"))
    settings["engine"]["epochs"] = 2
    (run / "experiment.json").write_text(json.dumps(settings), encoding="utf-8")
    desk.write("half", engine={**BASE["engine"], "epochs": 2})
    assert desk("pretrain", half) == 0
    logs = [
        (desk.folder / "runs" / f"{name}-full-seed0" / "log.jsonl").read_text("utf-8") for name in ("whole", "half")
    ]
    losses = [[json.loads(row)["loss"] for row in log.splitlines()] for log in logs]
    assert losses[0] == losses[1]


@pytest.mark.parametrize(
    ("changed", "sentence"),
    [
        ({"augmentation": {"flips": [0]}}, "leave 'augmentation' out"),
        ({"preprocessing": {"dimensions": 3, "window": [8, 16, 12]}}, "cannot be turned"),
        ({"preprocessing": {"dimensions": 3, "window": [16, 16, 16]}}, "10 slices, a fragment 16"),
        ({"preprocessing": {"dimensions": 3, "window": [8, 17, 17]}}, "multiples of"),
        ({"settings": {"tasks": {"rotation": {"angles": 3}}}}, "angles"),
        ({"settings": {"tasks": {"rotation": {"weight": 0}}}}, "weight must be above 0"),
        ({"recipe": "supervised", "settings": {}}, "use python -m training train"),
    ],
)
def test_what_cannot_be_pre_trained_is_told(
    desk: Desk, changed: dict[str, Any], sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert desk("pretrain", desk.write("wrong", **changed)) == 2
    assert sentence in capsys.readouterr().err


def test_an_encoder_is_no_network_that_segments(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    file = desk.write("encoder", settings={"tasks": {"masked": {"box": [4, 4, 4]}}})
    assert desk("pretrain", file) == 0
    assert desk("evaluate", file) == 2 and "holds an encoder alone" in capsys.readouterr().err
    assert desk("predict", file, "-o", str(desk.folder)) == 2 and "holds an encoder alone" in capsys.readouterr().err
    assert desk("proxy", file) == 2 and "Only what was pre-trained with" in capsys.readouterr().err


def started(
    desk: Desk, tiny_dataset: Path, recipe: str, network: dict[str, Any], settings: dict[str, Any] | None = None
) -> dict[str, Tensor]:
    """The tensors with which a recipe's network begins."""
    values = {
        **{key: BASE[key] for key in ("optimizer", "engine")},
        "recipe": recipe,
        "data": "tiny",
        "preprocessing": {"dimensions": 3, "window": [16, 32, 32]},
        "network": network,
        "settings": settings or {},
    }
    experiment = parse_experiment(values)
    recipe_made = experiment.make(experiment.parts(tiny_dataset, 0, runs=desk.folder / "runs"))
    state: dict[str, Tensor] = recipe_made.network.state_dict()
    return state


UMAMBA = {"features": [4, 8], "mamba_from": 1, "state": 2}
TARGETS: list[Any] = [
    ("res_unet_3d", {"features": [4, 8]}, "supervised", "res_unet_3d", {"encoder": "encoder"}, False),
    ("affinity_umamba", UMAMBA, "affinity_umamba", "affinity_umamba", {"encoder": "encoder"}, False),
    ("res_unet_3d", {"features": [4, 8]}, "rerenet", "res_unet_3d", {"encoder": "encoder"}, False),
    ("vm_unet", VM, "arm", "weak_to_strong", {"encoder": "weak"}, True),
    ("vm_unet", VM, "arm", "weak_to_strong", {"encoder": "strong"}, True),
    ("vm_unet", VM, "supervised", "vm_unet", {"encoder": "encoder"}, False),
]


@pytest.mark.parametrize(("name", "arguments", "recipe", "target", "parts", "named"), TARGETS)
def test_networks_start_from_it(
    desk: Desk,
    tiny_dataset: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    name: str,
    arguments: dict[str, Any],
    recipe: str,
    target: str,
    parts: dict[str, str],
    named: bool,
) -> None:
    assert desk("pretrain", desk.write("pre", network={"name": name, "arguments": arguments})) == 0
    capsys.readouterr()
    start: dict[str, Any] = {"run": "pre-full", **({"parts": parts} if named else {})}
    data = tiny_dataset if recipe != "arm" else paired(tiny_dataset, tmp_path)
    found = started(desk, data, recipe, {"name": target, "arguments": arguments, "start": [start]})
    given = {key.removeprefix("encoder.network."): t for key, t in desk.weights("pre").items() if "network." in key}
    assert given and all(key.startswith("encoder.") for key in given), "nothing of a decoder or a task"
    ((theirs, ours),) = parts.items()
    for key, tensor in given.items():
        taken = found[ours + key.removeprefix(theirs)]
        torch.testing.assert_close(taken[:, : tensor.shape[1]] if tensor.ndim > 1 else taken, tensor, rtol=0, atol=0)
        if tensor.ndim > 1:  # of the masks that ReReNet's network sees, nothing is known
            assert not taken[:, tensor.shape[1] :].any()
    said = capsys.readouterr().err
    assert f"{len(given)} tensors start from 'pre-full'" in said and "are not of that run" in said


def paired(tiny_dataset: Path, folder: Path) -> Path:
    """The tiny data set with each image as its own strong one."""
    content = json.loads((tiny_dataset / "tiny" / "dataset.json").read_text("utf-8"))
    for entry in content["training"]:
        entry["image"] = entry["strong"] = str(tiny_dataset / "tiny" / entry["image"])
        entry["label"] = str(tiny_dataset / "tiny" / entry["label"])
        entry.pop("coarse", None)
    (folder / "paired" / "tiny").mkdir(parents=True)
    (folder / "paired" / "tiny" / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    return folder / "paired"


@pytest.mark.parametrize(
    ("network", "sentence"),
    [
        (
            {"name": "res_unet_3d", "arguments": {"features": [4, 16]}},
            r"\[8, 4, 3, 3, 3\] there and \[16, 4, 3, 3, 3\]",
        ),
        ({"name": "res_unet_3d", "arguments": {"features": [4, 8, 8]}}, "encoder.levels.2.* is not in that run"),
        ({"name": "dynamic_unet", "arguments": {"features": [4, 8, 8]}}, "is not in this network"),
    ],
)
def test_an_encoder_that_does_not_fit_is_refused_but_where_that_is_asked_for(
    desk: Desk, tiny_dataset: Path, capsys: pytest.CaptureFixture[str], network: dict[str, Any], sentence: str
) -> None:
    assert desk("pretrain", desk.write("pre")) == 0
    with pytest.raises(InputError, match=sentence):
        started(desk, tiny_dataset, "supervised", {**network, "start": [{"run": "pre-full"}]})
    if network["name"] == "res_unet_3d":
        started(desk, tiny_dataset, "supervised", {**network, "start": [{"run": "pre-full", "lenient": True}]})
        assert "is left out" in capsys.readouterr().err


def test_of_the_test_part_where_there_is_one_and_what_was_not_asked_in_validation(desk: Desk) -> None:
    dataset = read_dataset(desk.data / "images")
    assert held_out_part(dataset) == "val"
    assert held_out_part(replace(dataset, cases=(replace(dataset.cases[0], split="test"),))) == "test"
    experiment = parse_experiment(BASE)
    recipe = experiment.make(experiment.parts(desk.data, 0))
    known, asked = recipe.held_out(), recipe.held_out("val", again=1)
    assert not torch.equal(known[0]["image"], asked[0]["image"]) and known.seed != asked.seed


def test_what_was_never_asked_is_null(tmp_path: Path) -> None:
    found = Proxy(torch.tensor([[3, 1, 0, 0], [0, 4, 0, 0], [0] * 4, [0] * 4]), torch.zeros(4, 4)).figures()
    assert found["held_out"]["recalls"] == [0.75, 1.0, None, None] and found["control"]["accuracy"] is None
    json.loads(json.dumps(found, allow_nan=False))


@pytest.mark.parametrize("name", ["images", "hippocampus", "acdc"])
@pytest.mark.parametrize("small", [True, False])
def test_the_shipped_experiments_can_be_read(name: str, small: bool) -> None:
    file = Path(__file__).parents[1] / "training" / "configs" / f"{name}_rotation.yaml"
    experiment = read_experiment(file, small=small)
    assert experiment.recipe == "pretrain" and experiment.settings.tasks.chosen()["rotation"]
    assert experiment.preprocessing.window[0] == (8 if name == "acdc" else 16)
