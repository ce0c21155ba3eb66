"""DALE's step, and what it is asked without learning: on the least network that learns."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning_fabric import Fabric
from tiny_trainings import first_batch, recipe_of, training
from torch import Tensor, nn

from NoisyLabelSegLib.errors import InputError
from training.losses.maps import cross_entropy_map
from training.paradigms.dale.confidence import (
    Confidence,
    ConfidenceSettings,
    Losses,
    agreement,
    losses_of,
    parameters_of,
)
from training.paradigms.dale.paradigm import DALE, DALESettings, Masked, fuzzy_loss
from training.paradigms.dale.partition import Partition
from training.paradigms.plain import BatchLoss, Plain

PATCH = "paradigm.partition.patch=8"


class Pixel(nn.Module):
    """Logits of each pixel by itself."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 5, 1), nn.Conv2d(5, 2, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.head(self.body(image).tanh())


class Student:
    """The least that learns."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.network: nn.Module = Pixel()
        self.optimizer: torch.optim.Optimizer = torch.optim.SGD(self.network.parameters(), lr=0.1)


def example() -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    labels = torch.zeros(2, 16, 16, dtype=torch.int64)
    labels[:, 4:12, 4:12] = 1
    return labels[:, None] + 0.3 * torch.randn(2, 1, 16, 16), labels


def objective_of(labels: Tensor) -> Any:
    return lambda network, image: BatchLoss(cross_entropy_map(network(image), labels))


def test_both_steps_are_the_paper_s() -> None:
    """Algorithm 1 without omega and L_W: a step on the clear pixels' losses, then one on the fuzzy pixels'."""
    image, labels = example()
    settings = DALESettings(partition=Partition(patch=4), alpha=0, confidence=ConfidenceSettings(by="none"))
    one, other = Student(), Student()
    figures = DALE(settings, 2).step(one, objective_of(labels), image, {"expert": labels}, 0, Fabric())
    masks, losses = settings.partition(image, labels), []
    for mask in (masks.clear, masks.fuzzy):
        loss = (mask * cross_entropy_map(other.network(image), labels)).mean()
        other.optimizer.zero_grad()
        loss.backward()
        other.optimizer.step()
        losses.append(loss)
    for ours, theirs in zip(one.network.parameters(), other.network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)
    assert figures["clear"] == losses[0] and figures["fuzzy"] == losses[1] and figures["apart"] == 0


def test_a_batch_without_fuzzy_pixels_is_learnt_as_by_plain_training() -> None:
    """Adam's momentum does not step on its own, and no figure is missing."""
    (image, labels), students = example(), (Student(), Student())
    constant, none = torch.ones_like(image), torch.zeros_like(labels)
    for student, paradigm in zip(students, (None, Plain()), strict=True):
        student.optimizer = torch.optim.Adam(student.network.parameters(), lr=0.1)
        dale = DALE(DALESettings(partition=Partition(patch=4)), 2)
        torch.manual_seed(0)
        taught = dale.step(student, objective_of(labels), image, {"expert": labels}, 0, Fabric())
        figures = (paradigm or dale).step(student, objective_of(none), constant, {"expert": none}, 0, Fabric())
        if paradigm is None:
            assert figures.keys() == taught.keys()
            assert figures["fuzzy"] == figures["apart"] == figures["distrusted"] == 0 < figures["loss"]
    for ours, theirs in zip(*(student.network.parameters() for student in students), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_a_batch_without_one_of_the_classes_has_finite_figures() -> None:
    image, labels = example()
    none = torch.zeros_like(labels)
    figures = DALE(DALESettings(partition=Partition(patch=4)), 2).step(
        Student(), objective_of(none), image, {"expert": none}, 0, Fabric()
    )
    assert all(bool(value.isfinite()) for value in figures.values()) and figures["fuzzy"] > 0


def test_images_are_masked_if_asked_for() -> None:
    image, labels = example()
    seen: list[Tensor] = []

    def objective(network: nn.Module, given: Tensor) -> BatchLoss:
        seen.append(given)
        return BatchLoss(cross_entropy_map(network(given), labels))

    plain = DALESettings(partition=Partition(patch=4), alpha=0, confidence=ConfidenceSettings(by="none"))
    choices: tuple[tuple[Masked, bool], ...] = (("losses", True), ("images", False))
    for masked, whole in choices:
        seen.clear()
        settings = replace(plain, masks=masked)
        DALE(settings, 2).step(Student(), objective, image, {"expert": labels}, 0, Fabric())
        masks = settings.partition(image, labels)
        assert all((one is image) == whole for one in seen)
        if not whole:
            torch.testing.assert_close(seen[0], image * masks.clear[:, None])
            torch.testing.assert_close(seen[1], image * masks.fuzzy[:, None])


def test_flipped_labels_are_trusted_less() -> None:
    """Labels of fuzzy pixels that contradict the clear ones lose confidence, while the network still learns."""
    image, labels = example()
    by_image = Partition(patch=8, measure="entropy")
    student, settings = (
        Student(),
        DALESettings(partition=by_image, confidence=ConfidenceSettings("gradients", update="adam")),
    )
    for _ in range(30):
        Plain().step(student, objective_of(labels), image, {"expert": labels}, 0, Fabric())
    masks = settings.partition(image, labels)
    noisy, rng = labels.clone(), torch.rand(labels.shape)
    # Only where the clear set does not look.
    flipped = (masks.clear < 0.2) & (rng < 0.2)
    noisy[flipped] = 1 - noisy[flipped]
    trust = DALE(settings, 2).trust(student, objective_of(noisy), image, noisy, Fabric())
    sound = (masks.clear < 0.2) & ~flipped
    assert trust.weights[flipped].mean() < 0.95 < 1.05 < trust.weights[sound].mean()
    assert trust.kept("negative")[flipped].float().mean() < 0.3 < 0.7 < trust.kept("negative")[sound].float().mean()


@pytest.mark.parametrize(("by", "derivative"), [("last_layer", None), ("gradients", "forward")])
def test_weights_and_statistics_stay_while_confidence_is_found(
    tmp_path: Path, tiny_dataset: Path, by: str, derivative: str | None
) -> None:
    recipe = recipe_of(training(tmp_path, tiny_dataset, "paradigm=dale", PATCH, f"paradigm.confidence.by={by}"))
    recipe.network.train()
    batch = first_batch(recipe)
    before = {name: value.clone() for name, value in recipe.network.state_dict().items()}

    found = recipe.paradigm.trust(recipe, objective_of(batch["expert"]), batch["image"], batch["expert"], Fabric())
    assert isinstance(found, Confidence) and recipe.paradigm.derivative == derivative
    assert all(torch.equal(value, before[name]) for name, value in recipe.network.state_dict().items())


def test_the_fuzzy_loss_is_equation_15_pixel_by_pixel() -> None:
    losses, omega = torch.rand(2, 5, 5).double(), torch.rand(2, 5, 5).double()
    alignment = torch.tensor(3.0).double()
    literal = torch.stack([w * (x + 0.05 * alignment) for w, x in zip(omega.flatten(), losses.flatten(), strict=True)])
    assert fuzzy_loss(losses, omega, alignment).item() == pytest.approx(literal.mean().item())


@pytest.mark.parametrize("by", ["last_layer", "gradients", "virtual_step"])
def test_dale_can_be_asked_without_learning(by: Any) -> None:
    """What it is asked is what its step would use; network and optimiser stay."""
    image, labels = example()
    student, objective = Student(), objective_of(labels)
    student.optimizer = torch.optim.Adam(student.network.parameters(), lr=0.1)
    settings = DALESettings(partition=Partition(patch=4), alpha=0, confidence=ConfidenceSettings(by=by))
    dale = DALE(settings, 2)
    dale.step(student, objective, image, {"expert": labels}, 0, Fabric())
    before = {name: value.clone() for name, value in student.network.state_dict().items()}
    first, again = (dale.trust(student, objective, image, labels, Fabric()) for _ in range(2))
    assert torch.equal(first.gradient, again.gradient) and first.gradient.abs().max() > 0
    assert all(torch.equal(value, before[name]) for name, value in student.network.state_dict().items())
    assert {int(state["step"]) for state in student.optimizer.state_dict()["state"].values()} == {2}


@pytest.mark.parametrize("by", ["last_layer", "gradients", "virtual_step"])
def test_what_belongs_to_no_pixel_is_learnt_and_tells_nothing_of_labels(by: Any) -> None:
    image, labels = example()
    settings = DALESettings(partition=Partition(patch=4), confidence=ConfidenceSettings(by=by))
    plain, students = objective_of(labels), (Student(), Student())

    def with_rest(network: nn.Module, given: Tensor) -> BatchLoss:
        return BatchLoss(plain(network, given).pixels, network(given).square().mean())

    gradients = []
    for objective in (plain, with_rest):
        dale = DALE(settings, 2)
        student = Student()
        masks = settings.partition(image, labels)
        (after, _), _ = dale._forward(student.network, objective, image)
        gradients.append(dale._confidence(student, objective, image, masks, after, Fabric()).gradient)
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(*gradients)
    for student, objective in zip(students, (plain, with_rest), strict=True):
        torch.manual_seed(0)
        DALE(settings, 2).step(student, objective, image, {"expert": labels}, 0, Fabric())
    assert not torch.equal(*(student.network.get_parameter("head.bias") for student in students))


@pytest.mark.parametrize("masked", ["losses", "images"])
@pytest.mark.parametrize(("alpha", "last"), [(0, True), (0.05, True), (0.05, False)])
def test_a_step_by_the_last_layer_weighs_as_the_definition(alpha: float, last: bool, masked: Masked) -> None:
    """Omega of the fuzzy step against `agreement`, of the head's parameters alone or of all."""
    image, labels = example()
    by: Any = "last_layer" if last else "gradients"
    confidence, partition = ConfidenceSettings(by=by), Partition(patch=4)
    settings = DALESettings(partition=partition, confidence=confidence, alpha=alpha, masks=masked)
    student, objective, dale = Student(), objective_of(labels), DALE(settings, 2)
    masks = settings.partition(image, labels)
    (after, _), _ = dale._forward(student.network, objective, dale._seen(image, masks.fuzzy))
    found = dale._confidence(student, objective, image, masks, after, Fabric()).gradient
    parameters = {n: p for n, p in parameters_of(student.network).items() if n.startswith("head") or not last}

    def weighed(mask: Tensor) -> Losses:
        return losses_of(student.network, lambda net: mask * objective(net, dale._seen(image, mask)).pixels)

    fuzzy, clear = (weighed(mask) for mask in masks)
    expected = agreement(parameters, parameters, fuzzy, clear)
    torch.testing.assert_close(found, expected / expected.square().mean().sqrt(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("masked", ["losses", "images"])
def test_a_step_on_fabric_weighs_as_one_without(precision: Any, masked: Masked) -> None:
    """Its modules' passes refuse gradients in mixed precision."""
    image, labels = example()
    settings = DALESettings(partition=Partition(patch=4), masks=masked)
    figures, trusts = [], []
    for fabric in (Fabric(accelerator="cpu"), Fabric(accelerator="cpu", precision=precision)):
        student, dale = Student(), DALE(settings, 2)
        student.network, student.optimizer = fabric.setup(student.network, student.optimizer)
        torch.manual_seed(0)
        figures.append(dale.step(student, objective_of(labels), image, {"expert": labels}, 0, fabric))
        trusts.append(dale.trust(student, objective_of(labels), image, labels, fabric).gradient)
    for name in ("clear", "fuzzy"):
        torch.testing.assert_close(figures[1][name], figures[0][name], rtol=0.03, atol=0)
    large = trusts[0].abs() > 0.5
    assert (trusts[0].sign() == trusts[1].sign())[large].float().mean() > 0.98 and large.any()


class HeadFirst(Pixel):
    """Its last convolution onto classes is not what comes last."""

    def forward(self, image: Tensor) -> Tensor:
        logits = super().forward(image)
        return logits if self.head.out_channels == 2 else logits[:, :2]


@pytest.mark.parametrize("kind", ["other channels", "frozen", "unused"])
def test_a_network_without_such_a_last_layer_is_told_what_to_set(kind: str) -> None:
    (image, labels), student = example(), Student()
    if kind == "other channels":
        student.network = HeadFirst()
        student.network.head = nn.Conv2d(5, 3, 1)
        student.network.spare = nn.Conv2d(5, 2, 1)
    elif kind == "frozen":
        student.network.get_submodule("head").requires_grad_(False)
    else:
        student.network = nn.Sequential(Pixel(), Forgetful())
    message = "set paradigm.alpha to 0 and paradigm.confidence.by to gradients"
    given = objective_of(labels), image, {"expert": labels}, 0, Fabric()
    with pytest.raises(InputError, match=message):
        DALE(DALESettings(partition=Partition(patch=4), alpha=0), 2).step(student, *given)
    if kind == "other channels":  # which does help
        advised = DALESettings(partition=Partition(patch=4), alpha=0, confidence=ConfidenceSettings("gradients"))
        student.optimizer = torch.optim.SGD(student.network.parameters(), lr=0.1)
        assert DALE(advised, 2).step(student, *given)["loss"] > 0


class Forgetful(nn.Module):
    """Calls a convolution onto classes and forgets what it says."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Conv2d(2, 2, 1)

    def forward(self, logits: Tensor) -> Tensor:
        self.spare(logits)
        return logits


def test_dale_that_trusts_all_labels_alike_is_not_asked() -> None:
    image, labels = example()
    dale = DALE(DALESettings(confidence=ConfidenceSettings(by="none")), 2)
    with pytest.raises(InputError, match="trusted alike"):
        dale.trust(Student(), objective_of(labels), image, labels, Fabric())
