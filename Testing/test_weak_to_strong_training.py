"""ARM and PKT from pairs to a network of the weak modality alone."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import SimpleITK as sitk
import torch
import yaml
from torch import Tensor

from NoisyLabelSegLib import cli
from NoisyLabelSegLib.bundle import load_bundle
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks.vm_unet import VMUNet
from training.__main__ import main
from training.experiment import read_experiment
from training.losses.knowledge_transfer import degraded_targets, falling, transfer_loss
from training.recipes.pkt import PKT, Student
from training.trainings import Training

CARD = Path(__file__).parents[1] / "training" / "cards" / "hippocampus-uncertainty.yaml"
PLAIN: dict[str, Any] = {"features": [4, 6], "blocks": [1, 1], "state": 2, "patch": 2}
SHARED: dict[str, Any] = {
    "data": "pairs",
    "preprocessing": {"dimensions": 2, "window": [16, 16], "margin": 0, "intensity": {"rule": "z-score"}},
    "augmentation": {"jitter": 2},
    "optimizer": {"name": "AdamW", "learning_rate": 5.0e-3},
    "engine": {"epochs": 1, "batch_size": 8, "accelerator": "cpu", "devices": 1, "threads": 1},
}
ARM = {**SHARED, "recipe": "arm", "network": {"name": "weak_to_strong", "arguments": PLAIN}}
PUPIL = {
    **SHARED,
    "recipe": "pkt",
    "network": {"name": "vm_unet", "arguments": PLAIN},
    "settings": {"teacher": "arm-full", "steps": 3, "levels": [1, 2]},
}


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, tiny_dataset: Path) -> Iterator[Path]:
    """A folder with pairs (one training case without a strong image), two experiments and a trained stage 1."""
    folder = tmp_path_factory.mktemp("pairs")
    (folder / "data" / "pairs").mkdir(parents=True)
    content = json.loads((tiny_dataset / "tiny" / "dataset.json").read_text("utf-8"))
    for number, entry in enumerate(content["training"]):
        for key in ("image", "label", "coarse"):
            entry[key] = str(tiny_dataset / "tiny" / entry[key])
        strong, image = folder / "data" / "pairs" / f"{entry['id']}_strong.nii.gz", sitk.ReadImage(entry["image"])
        sitk.WriteImage(image * image, str(strong))
        entry |= {"strong": str(strong)} if number else {}
    (folder / "data" / "pairs" / "dataset.json").write_text(json.dumps(content), encoding="utf-8")
    for name, values in (("arm", ARM), ("pkt", PUPIL)):
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    threads = torch.get_num_threads()
    training(folder, "arm").train()
    yield folder
    torch.set_num_threads(threads)


def training(desk: Path, name: str, *overrides: str) -> Training:
    return Training(desk / f"{name}.yaml", False, overrides, 0, desk / "data", desk / "runs")


def pupil(desk: Path, *overrides: str) -> PKT:
    experiment = read_experiment(desk / "pkt.yaml", overrides=overrides)
    made: PKT = experiment.make(experiment.parts(desk / "data", 0, runs=desk / "runs"))
    return made


class Fabric:
    """As much of Lightning's as a step needs."""

    def backward(self, loss: Tensor) -> None:
        loss.backward()


def first_batch(recipe: PKT) -> dict[str, Tensor]:
    windows = recipe.training_data()
    samples = [windows[index] for index, (case, _) in enumerate(windows.items) if case < 2]  # the first is unpaired
    return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}


def test_stage_1_leaves_unpaired_cases_out_and_says_so(desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    experiment = read_experiment(desk / "arm.yaml")
    recipe = experiment.make(experiment.parts(desk / "data", 0))
    assert "1 of 8 cases have no strong image" in capsys.readouterr().err
    windows = recipe.training_data()
    assert len(windows.names) == 5 and windows[0]["paired"].item()
    assert recipe.network.channels == [1, 1]


def test_the_teacher_does_not_move_and_the_pupil_does(desk: Path) -> None:
    recipe = pupil(desk)
    teacher = {name: tensor.clone() for name, tensor in recipe.teacher.state_dict().items()}
    before = {name: tensor.clone() for name, tensor in recipe.network.state_dict().items()}
    batch = first_batch(recipe)
    assert 0 < batch["paired"].sum() < len(batch["paired"])
    for _ in range(2):
        figures = recipe.step(batch, 0, Fabric())  # type: ignore[arg-type]
    assert {"loss", "segmentation", "level1", "level2"} == figures.keys()
    assert all(torch.equal(tensor, teacher[name]) for name, tensor in recipe.teacher.state_dict().items())
    moved = {name for name, tensor in recipe.network.state_dict().items() if not torch.equal(tensor, before[name])}
    assert any(name.startswith("heads") for name in moved)
    assert all(any(name.startswith(f"network.{part}") for name in moved) for part in ("encoder", "decoder"))


def paired_only(batch: dict[str, Tensor]) -> dict[str, Tensor]:
    kept = {name: tensor[batch["paired"]] for name, tensor in batch.items()}
    return {name: tensor.double() if tensor.is_floating_point() else tensor for name, tensor in kept.items()}


@pytest.mark.parametrize("relative", [True, False])
@pytest.mark.parametrize("fused_from", ["student", "teacher"])
def test_the_transfer_is_the_papers_written_out(desk: Path, fused_from: str, relative: bool) -> None:
    """(5.6), (5.8) and (5.11) to (5.13) step by step, level by level, without noise."""
    change = [f"settings.fused_from={fused_from}", f"settings.relative={str(relative).lower()}"]
    recipe = pupil(desk, *change, "settings.noise=0", "settings.smoothness=0.3", "settings.anchored=false")
    assert isinstance(recipe.network, Student) and recipe.network.heads is not None
    for network in (recipe.network, recipe.teacher):
        network.double()
    for parameter in recipe.network.parameters():  # away from the teacher
        torch.nn.init.normal_(parameter, std=0.3) if parameter.ndim == 2 else None
    for parameter in recipe.network.network.encoder.parameters():
        parameter.data.mul_(1.1)
    batch = paired_only(first_batch(recipe))
    _, features, predicted = recipe.network(batch["image"], levels=True)
    found = recipe._transfer(batch, features, predicted)

    weak = recipe.network.network.encoder(batch["image"])
    strong, before = recipe.teacher.strong(batch["strong"]), recipe.teacher.weak(batch["image"])
    steps = 3
    for level in range(2):
        source = weak if fused_from == "student" else before
        fused = recipe.teacher.arms[level](strong[level], source[level])
        size = fused.square().mean().sqrt() if relative else torch.tensor(1.0)
        made = recipe.network.heads(weak)[level]
        loss = torch.tensor(0.0, dtype=torch.float64)
        for t in range(steps):
            rho = (1 + math.cos(math.pi * t / (steps - 1))) / 2
            target = rho * fused + (1 - rho) * weak[level]
            loss = loss + ((made[t] - target) / size).square().mean() / steps
            if t:
                loss = loss + 0.3 * ((made[t] - made[t - 1]) / size).square().mean() / (steps - 1)
        torch.testing.assert_close(found[level], loss)


def test_noise_enters_the_targets_of_late_steps_alone(desk: Path) -> None:
    losses = {}
    for noise in (0, 1):
        recipe = pupil(desk, f"settings.noise={noise}", "settings.steps=2", "settings.smoothness=0")
        batch = first_batch(recipe)
        _, features, predicted = recipe.network(batch["image"], levels=True)
        losses[noise] = [float(one.detach()) for one in recipe._transfer(batch, features, predicted)]
    # The last of two targets is the weak features themselves, or but noise of the size of the fused ones.
    for plain, noisy in zip(losses[0], losses[1], strict=True):
        assert noisy > plain + 0.3


def test_the_loss_is_the_segmentations_and_lambda_times_every_levels(desk: Path) -> None:
    recipe = pupil(desk, "settings.weight=3", "settings.noise=0")
    figures = recipe.step(first_batch(recipe), 0, Fabric())  # type: ignore[arg-type]
    expected = figures["segmentation"] + 3 * (figures["level1"] + figures["level2"])
    torch.testing.assert_close(figures["loss"], expected)


def test_stage_1_sees_the_weak_channel_first(desk: Path) -> None:
    experiment = read_experiment(desk / "arm.yaml")
    recipe = experiment.make(experiment.parts(desk / "data", 0))
    sample = recipe.training_data()[0]
    batch = {name: tensor[None] for name, tensor in sample.items()}
    seen = recipe.seen(batch)
    assert torch.equal(seen[:, :1], batch["image"]) and torch.equal(seen[:, 1:], batch["strong"])
    assert not torch.equal(batch["image"], batch["strong"])


def test_levels_that_do_not_learn_have_no_heads(desk: Path) -> None:
    recipe = pupil(desk, "settings.levels=[2]")
    recipe.step(first_batch(recipe), 0, Fabric())  # type: ignore[arg-type]
    heads = {name: parameter for name, parameter in recipe.network.named_parameters() if name.startswith("heads")}
    assert {name.split(".")[2] for name in heads} == {"0"}
    assert all(parameter.grad is not None for parameter in heads.values())


def test_a_batch_without_any_pair_reaches_every_parameter(desk: Path) -> None:
    recipe = pupil(desk)
    batch = first_batch(recipe)
    alone = {name: tensor[~batch["paired"]] for name, tensor in batch.items()}
    figures = recipe.step(alone, 0, Fabric())  # type: ignore[arg-type]
    assert torch.equal(figures["loss"], figures["segmentation"])
    assert figures["level1"] == figures["level2"] == 0, "other processes have as many figures"
    assert all(parameter.grad is not None for parameter in recipe.network.parameters())


@pytest.mark.parametrize("change", ["levels=[]", "levels=[1, 1]", "weight=-1", "smoothness=-1", "noise=2", "steps=0"])
def test_settings_that_make_no_sense_are_refused(desk: Path, change: str) -> None:
    with pytest.raises(InputError, match="settings"):
        pupil(desk, f"settings.{change}")


@pytest.mark.parametrize(
    "change", ["settings.strong.rule=min-max", "preprocessing.intensity.rule=min-max", "preprocessing.margin=3"]
)
def test_a_teacher_that_saw_images_in_another_way_is_refused(desk: Path, change: str) -> None:
    with pytest.raises(InputError, match="saw images in another way"):
        pupil(desk, change)


def test_a_quick_look_and_a_half_trained_run_teach_nobody(desk: Path, tmp_path: Path) -> None:
    for name, how in (("quick", {"limit": 2}), ("whole", {})):
        runs = tmp_path / name
        Training(desk / "arm.yaml", False, (), 0, desk / "data", runs).train(**how)
    quick = read_experiment(desk / "pkt.yaml").parts(desk / "data", 0, runs=tmp_path / "quick")
    with pytest.raises(InputError, match="has seen 2 cases a part only"):
        read_experiment(desk / "pkt.yaml").make(quick)
    folder = tmp_path / "whole" / "arm-full-seed0"
    text = (folder / "experiment.json").read_text("utf-8")
    (folder / "experiment.json").write_text(text.replace('"epochs": 1', '"epochs": 2'), encoding="utf-8")
    half = read_experiment(desk / "pkt.yaml").parts(desk / "data", 0, runs=tmp_path / "whole")
    with pytest.raises(InputError, match="has not been trained to its end"):
        read_experiment(desk / "pkt.yaml").make(half)
    with pytest.raises(InputError, match="begun with other settings"):
        Training(desk / "arm.yaml", False, (), 0, desk / "data", tmp_path / "quick").read()


def test_the_pupil_starts_as_the_teachers_weak_part(desk: Path) -> None:
    recipe = pupil(desk)
    assert isinstance(recipe.network, Student)
    image = torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        expected = recipe.teacher.decoder(recipe.teacher.weak(image))
        torch.testing.assert_close(recipe.network(image), expected)


@pytest.mark.parametrize(
    "change",
    [
        ["settings.transfer=none"],
        ["settings.transfer=mse"],
        ["settings.noise=0"],
        ["settings.update=blockwise", "settings.fused_from=teacher", "settings.levels=[2]"],
        ["settings.rho=linear", "settings.alpha=linear", "settings.steps=1"],
    ],
)
def test_every_way_of_transfer_trains(desk: Path, change: list[str]) -> None:
    recipe = pupil(desk, *change)
    figures = recipe.step(first_batch(recipe), 0, Fabric())  # type: ignore[arg-type]
    levels = {name for name in figures if name.startswith("level")}
    assert levels == (
        set()
        if "none" in change[0]
        else {"level2"}
        if len(change) == 3 and "block" in change[0]
        else {"level1", "level2"}
    )
    assert torch.isfinite(figures["loss"])


def test_two_pupils_of_a_teacher_are_alike_and_cannot_teach_each_other(desk: Path) -> None:
    with pytest.raises(InputError, match="would begin alike"):
        pupil(desk, "paradigm=co_teaching")


@pytest.mark.parametrize(("update", "reached"), [("joint", True), ("blockwise", False)])
def test_blockwise_no_level_moves_the_one_before_it(desk: Path, update: str, reached: bool) -> None:
    recipe = pupil(desk, f"settings.update={update}", "settings.levels=[2]", "settings.weight=1")
    batch = first_batch(recipe)
    _, features, predicted = recipe.network(batch["image"], levels=True)
    (loss,) = recipe._transfer(batch, features, predicted)
    assert isinstance(recipe.network, Student)
    first, second = recipe.network.network.encoder.levels
    found = [
        torch.autograd.grad(loss, list(level.parameters()), retain_graph=True, allow_unused=True)
        for level in (first, second)
    ]
    assert any(g is not None and g.any() for g in found[1])
    assert any(g is not None and g.any() for g in found[0]) == reached


def test_what_is_measured_and_exported_knows_the_weak_modality_alone(desk: Path) -> None:
    stage2 = training(desk, "pkt")
    stage2.train()
    run = stage2.read()
    assert not [name for name in run.state_dict if not name.startswith(("encoder.", "decoder."))]
    network = VMUNet(2, 1, 2, **PLAIN)
    network.load_state_dict(run.state_dict)
    where = ["--data", str(desk / "data"), "--runs", str(desk / "runs"), "--split", "val"]
    assert main(["calibrate", str(desk / "pkt.yaml"), *where]) == 0
    assert main(["calibrate", str(desk / "arm.yaml"), *where]) == 0, "the strong image is its second channel"


def test_the_bundle_segments_and_asks_for_no_strong_image(desk: Path, tmp_path: Path) -> None:
    training(desk, "pkt").train()
    card: dict[str, Any] = yaml.safe_load(CARD.read_text("utf-8"))
    card |= {"name": "weak", "labels": card["labels"][:1], "licence_file": "licence.txt"}
    (tmp_path / "licence.txt").write_text("A licence.", encoding="utf-8")
    (tmp_path / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    where = ["--data", str(desk / "data"), "--runs", str(desk / "runs")]
    exported = ["--card", str(tmp_path / "card.yaml"), "--models", str(tmp_path)]
    assert main(["export", str(desk / "pkt.yaml"), *where, *exported]) == 0
    bundle = load_bundle(tmp_path / "weak")
    bundle.verify()
    described = bundle.description
    assert (described.kind, described.method, described.network.name) == ("segment", "weak_to_strong", "vm_unet")
    assert described.channels == 1 and len(described.method_arguments["temperatures"]) == 1
    assert {name.split(".")[0] for name in bundle.network().state_dict()} == {"encoder", "decoder"}
    content = json.loads((desk / "data" / "pairs" / "dataset.json").read_text("utf-8"))
    used = ["segment", content["training"][0]["image"], "-m", str(bundle.folder), "-o", str(tmp_path / "out")]
    assert cli.main([*used, "--device", "cpu"]) == 0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (["settings.teacher=nobody"], "train that run, with this seed, first"),
        (["settings.levels=[5]"], "no level 5"),
        (["network.arguments.features=[8, 6]"], "another network"),
        (["network.name=unet", "network.arguments=null"], "teaches a vm_unet"),
    ],
)
def test_what_does_not_fit_is_said(
    desk: Path, change: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sets = [part for text in change for part in ("--set", text)]
    where = ["--data", str(desk / "data"), "--runs", str(desk / "runs")]
    assert main(["train", str(desk / "pkt.yaml"), *where, *sets]) == 2
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [("linear", [1, 0.75, 0.5, 0.25, 0]), ("cosine", [1, 0.853553, 0.5, 0.146447, 0])],
)
def test_schedules_fall_from_one_to_zero(schedule: Any, expected: list[float]) -> None:
    assert falling(schedule, 5).tolist() == pytest.approx(expected, abs=1e-6)
    assert falling(schedule, 1).tolist() == [1]


def test_targets_are_those_of_the_equations() -> None:
    torch.manual_seed(0)
    fused, weak = torch.randn(2, 2, 3, 4, 4).unbind()
    rho, alpha = torch.tensor([1, 0.4, 0.0]), torch.tensor([1, 0.9, 0.36])
    plain = degraded_targets(fused, weak, rho, torch.ones(3))
    for t in range(3):
        torch.testing.assert_close(plain[t], rho[t] * fused + (1 - rho[t]) * weak)
    noisy = degraded_targets(fused, weak, rho, alpha, torch.Generator().manual_seed(1))
    noise = torch.empty_like(noisy).normal_(generator=torch.Generator().manual_seed(1))
    for t in range(3):
        torch.testing.assert_close(noisy[t], alpha[t] ** 0.5 * plain[t] + (1 - alpha[t]) ** 0.5 * noise[t])


def test_targets_have_no_gradient_and_the_prediction_has() -> None:
    fused, weak, predicted = (
        torch.randn(*shape, requires_grad=True) for shape in ((1, 2, 3, 3), (1, 2, 3, 3), (4, 1, 2, 3, 3))
    )
    targets = degraded_targets(fused, weak, falling("linear", 4), torch.ones(4))
    transfer_loss(predicted, targets, 0.5).backward()
    assert fused.grad is None and weak.grad is None and predicted.grad is not None


def test_the_loss_is_that_of_the_equations() -> None:
    predicted, targets = torch.randn(2, 4, 1, 2, 3, 3).unbind()
    mse = sum(((predicted[t] - targets[t]) ** 2).mean() for t in range(4)) / 4
    smooth = sum(((predicted[t] - predicted[t - 1]) ** 2).mean() for t in range(1, 4)) / 3
    torch.testing.assert_close(transfer_loss(predicted, targets, 0.3), mse + 0.3 * smooth)
    torch.testing.assert_close(
        transfer_loss(predicted[:1], targets[:1], 0.3), ((predicted[0] - targets[0]) ** 2).mean()
    )
