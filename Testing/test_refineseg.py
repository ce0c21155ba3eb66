"""RefineSeg trained on drawings alone: what it learns from, what it exports, what it says."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_trainings
import torch
import yaml
from lightning_fabric import Fabric
from tiny_trainings import EXPERIMENT, first_batch, from_drawings
from torch import Tensor

from NoisyLabelSegLib.bundle import load_bundle
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.networks import build
from training.__main__ import main
from training.data.cases import read_dataset, write_dataset
from training.data.drawings import Strategy
from training.recipes.pseudo_labels import PseudoLabels, pseudo_labels
from training.recipes.refineseg import Annotated, RefineSeg

CARD = Path(__file__).parents[1] / "training" / "cards" / "hippocampus-uncertainty.yaml"


def recipe_of(drawn_desk: Path, *overrides: str) -> RefineSeg:
    made = tiny_trainings.recipe_of(from_drawings(drawn_desk, *overrides))
    assert isinstance(made, RefineSeg)
    return made


def write_card(folder: Path, **said: Any) -> None:
    """Write ``card.yaml`` of one structure, and its licence."""
    card: dict[str, Any] = yaml.safe_load(CARD.read_text("utf-8"))
    card |= {"labels": card["labels"][:1], "licence_file": "licence.txt", **said}
    (folder / "licence.txt").write_text("A licence.", encoding="utf-8")
    (folder / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")


@pytest.mark.parametrize("dimensions", [2, 3])
@pytest.mark.parametrize(
    "change",
    [
        [],
        ["settings.matrices=false"],
        ["settings.complementary=false"],
        ["settings.regulariser=trace", "settings.dice=joint"],
        ["settings.regularise_all=true", "settings.learn_flips=true"],
    ],
)
def test_every_way_trains(drawn_desk: Path, change: list[str], dimensions: int) -> None:
    if dimensions == 3:
        change = [*change, "preprocessing.dimensions=3", "preprocessing.window=[16, 32, 32]"]
    recipe = recipe_of(drawn_desk, *change)
    batch = first_batch(recipe)
    losses = [float(recipe.step(batch, 0, Fabric())["loss"]) for _ in range(12)]
    assert np.isfinite(losses).all() and losses[-1] < losses[0]
    matrices = [parameter for name, parameter in recipe.network.named_parameters() if name.startswith("heads")]
    assert bool(matrices) == ("settings.matrices=false" not in change)
    assert all(parameter.grad is not None for parameter in matrices)


def test_pixels_on_which_nobody_drew_take_no_part(drawn_desk: Path) -> None:
    recipe = recipe_of(drawn_desk)
    batch = first_batch(recipe)
    logits, features = recipe.network(batch["image"], features=True)
    rows = logits.softmax(dim=1).movedim(1, -1).detach().requires_grad_()
    torch.stack([*recipe._losses(rows, features.movedim(1, -1), batch["drawn"]).values()]).sum().backward()
    assert rows.grad is not None
    drawn = (batch["drawn"] > 0).any(dim=1)
    assert (rows.grad[drawn] != 0).any(dim=1).all() and not rows.grad[~drawn].any()
    assert 0.1 < drawn.float().mean() < 0.95


def test_the_losses_are_those_of_the_paper_pixel_by_pixel(drawn_desk: Path) -> None:
    """(3), (6) and (7) by a loop over pixels."""
    recipe = recipe_of(drawn_desk, "settings.beta=0", "settings.alpha=1", "settings.weight=0.5")
    assert isinstance(recipe.network, Annotated)
    for name, parameter in recipe.network.heads.named_parameters():
        if name.endswith("weight"):
            torch.nn.init.normal_(parameter, std=0.5)
    batch = {name: tensor[:2, ..., ::5, ::5] for name, tensor in first_batch(recipe).items() if tensor.ndim > 2}
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(*batch["drawn"][:, 0].shape, 2, generator=generator).softmax(dim=-1)
    features = torch.randn(*rows.shape[:-1], 4, generator=generator)
    found = recipe._losses(rows, features, batch["drawn"])
    positive, complementary, distances = [], [], []
    for at in np.ndindex(*rows.shape[:-1]):
        drawn, excluded = batch["drawn"][at[0]].movedim(0, -1)[at[1:]].tolist()
        a, c = (head(features[at][None])[0] for head in recipe.heads)
        if drawn:
            positive.append(-torch.log((a @ rows[at])[drawn - 1]))
            distances.append(((a - torch.eye(2)) ** 2).sum())
        for k in range(2):
            if excluded >> k & 1 and drawn != k + 1:
                flips = torch.tensor([[0.0, 1.0], [1.0, 0.0]])
                complementary.append(-torch.log((flips.T @ (c @ rows[at]))[k]))
    for name, values, factor in (
        ("positive", positive, 1),
        ("complementary", complementary, 1),
        ("regulariser", distances, 0.5),
    ):
        torch.testing.assert_close(found[name], factor * torch.stack(values).mean())


def test_a_contradicted_complement_is_ignored(drawn_desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recipe = recipe_of(drawn_desk)
    assert recipe.strategies == [Strategy("eroded", False), Strategy("eroded", True)]
    rows, features = torch.full((1, 1, 1, 2), 0.5), torch.zeros(1, 1, 1, 4)
    losses = recipe._losses(rows, features, torch.tensor([2, 0b10]).view(1, 2, 1, 1))
    assert losses["complementary"] == 0 and losses["positive"] > 0
    said = capsys.readouterr().err
    recipe.training_data()
    said = capsys.readouterr().err
    assert "Of two classes 'not this' means the other one" in said and "are said not to be" not in said


def test_what_is_missing_is_said(drawn_desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dataset = read_dataset(drawn_desk / "data" / "coarse")
    cases = list(dataset.cases)
    cases[0] = replace(cases[0], drawings=cases[0].drawings[:1])
    for number, case in enumerate(cases):
        first = replace(case.drawings[0], means={1: ()})
        cases[number] = replace(case, drawings=(first, *case.drawings[1:]))
    write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=tuple(cases)))
    recipe_of(drawn_desk).training_data()
    said = capsys.readouterr().err
    assert "Nobody drew 'lesion'" in said
    assert "1 of 6 training cases have no drawing of eroded (complementary)" in said


def test_without_drawings_it_is_refused(drawn_desk: Path) -> None:
    with pytest.raises(InputError, match="has drawings to learn from"):
        recipe_of(drawn_desk, "data=tiny")


def test_some_annotators_can_be_chosen(drawn_desk: Path) -> None:
    assert recipe_of(drawn_desk, "settings.annotators=[eroded]").strategies == recipe_of(drawn_desk).strategies
    with pytest.raises(InputError, match="'nobody' of settings.annotators drew nothing"):
        recipe_of(drawn_desk, "settings.annotators=[nobody]")


def test_the_order_of_the_drawings_does_not_matter(drawn_desk: Path) -> None:
    """A strategy's matrices are its own, however `dataset.json` lists the drawings."""
    dataset = read_dataset(drawn_desk / "data" / "coarse")
    before = recipe_of(drawn_desk).network.state_dict()
    turned = tuple(replace(case, drawings=case.drawings[::-1]) for case in dataset.cases)
    write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=turned))
    recipe = recipe_of(drawn_desk)
    assert recipe.strategies == [Strategy("eroded", False), Strategy("eroded", True)]
    assert list(recipe.network.state_dict()) == list(before)


def test_the_options_of_complementary_matrices_do_something(drawn_desk: Path) -> None:
    def gradients(*change: str) -> dict[str, Tensor | None]:
        recipe = recipe_of(drawn_desk, *change)
        recipe.step(first_batch(recipe), 0, Fabric())
        return {name: parameter.grad for name, parameter in recipe.network.named_parameters()}

    plain, all_regularised, flips = (
        gradients(),
        gradients("settings.regularise_all=true"),
        gradients("settings.learn_flips=true"),
    )
    head = "heads.eroded (complementary).project.bias"
    given, regularised = plain[head], all_regularised[head]
    assert given is not None and regularised is not None and not torch.allclose(given, regularised)
    assert all(name not in plain or plain[name] is None for name in plain if name.startswith("flips"))
    assert all(gradient is not None for name, gradient in flips.items() if name.startswith("flips"))


def test_a_value_that_is_no_class_and_a_class_that_nothing_teaches_are_refused(drawn_desk: Path) -> None:
    dataset = read_dataset(drawn_desk / "data" / "coarse")

    def written(means: dict[int, tuple[int, ...]]) -> None:
        cases = tuple(
            replace(case, drawings=(replace(case.drawings[0], means=means), case.drawings[1])) for case in dataset.cases
        )
        write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=cases))

    written({1: (7,)})
    with pytest.raises(InputError, match=r"eroded \(positive\) of the case 'case0' has a value that is none of the 2"):
        recipe_of(drawn_desk).training_data()
    written({0: ()})
    with pytest.raises(InputError, match="Nobody drew 'background', and nothing is said not to be another class"):
        recipe_of(drawn_desk, "settings.complementary=false").training_data()


@pytest.mark.parametrize("change", ["settings.keep=0.2", "settings.keep=1.0", "settings.alpha=-1"])
def test_senseless_settings_are_refused(drawn_desk: Path, change: str) -> None:
    with pytest.raises(InputError, match=r"settings\.(keep must|alpha, )"):
        recipe_of(drawn_desk, change)


def test_at_first_the_segmenter_gets_a_gradient_as_plain_cross_entropy_gives(drawn_desk: Path) -> None:
    norms = []
    for change in (["settings.keep=0.9"], ["settings.matrices=false"]):
        recipe = recipe_of(drawn_desk, *change, "settings.complementary=false", "settings.beta=0", "settings.weight=0")
        batch = first_batch(recipe)
        logits, features = recipe.network(batch["image"], features=True)
        losses = recipe._losses(logits.softmax(dim=1).movedim(1, -1), features.movedim(1, -1), batch["drawn"])
        parameters = [p for name, p in recipe.network.named_parameters() if name.startswith("network.")]
        gradients = torch.autograd.grad(losses["positive"], parameters, allow_unused=True)
        norms.append(torch.stack([g.norm() for g in gradients if g is not None]).norm())
    assert 0.1 < norms[0] / norms[1] < 10


def test_what_is_exported_holds_no_matrix_and_segments(drawn_desk: Path, tmp_path: Path) -> None:
    from_drawings(drawn_desk).train()
    write_card(tmp_path, name="drawn", method_arguments={"smallest_mm3": 5.0})
    where = ["--data", str(drawn_desk / "data"), "--runs", str(drawn_desk / "runs")]
    exported = ["--card", str(tmp_path / "card.yaml"), "--models", str(tmp_path)]
    assert main(["export", str(drawn_desk / "refineseg.yaml"), *where, *exported]) == 0
    bundle = load_bundle(tmp_path / "drawn")
    description = bundle.description
    assert (description.kind, description.method) == ("segment", "refineseg")
    assert description.method_arguments["smallest_mm3"] == 5
    names = set(bundle.network().state_dict())
    assert names == set(
        build("unet", **EXPERIMENT["network"]["arguments"], spatial_dims=2, in_channels=1, out_channels=2).state_dict()
    )
    image = str(read_dataset(drawn_desk / "data" / "tiny").cases[-1].image)
    from NoisyLabelSegLib import cli

    assert cli.main(["segment", image, "--model", str(tmp_path / "drawn"), "-o", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "drawn" / "configs" / "model.json").read_text("utf-8"))["method"] == "refineseg"


def test_a_site_without_any_expert_can_train_and_export(
    drawn_desk: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    dataset = read_dataset(drawn_desk / "data" / "coarse")
    bare = tuple(replace(case, label=None, coarse=None) for case in dataset.cases)
    write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=bare))
    first = recipe_of(drawn_desk).validate()["score"]
    assert (from_drawings(drawn_desk, "engine.epochs=6").train() or 0) > first
    write_card(tmp_path, name="bare")
    where = ["--data", str(drawn_desk / "data"), "--runs", str(drawn_desk / "runs"), "--set", "engine.epochs=6"]
    exported = ["--card", str(tmp_path / "card.yaml"), "--models", str(tmp_path)]
    assert main(["export", str(drawn_desk / "refineseg.yaml"), *where, *exported]) == 0
    assert "are not calibrated" in capsys.readouterr().err


def test_validation_by_drawings_minds_what_is_found_wrongly(drawn_desk: Path) -> None:
    """All taken for the lesion is right where it is drawn, and wrong where background is drawn or it is ruled out."""
    dataset = read_dataset(drawn_desk / "data" / "coarse")
    bare = tuple(replace(case, label=None, coarse=None) for case in dataset.cases)
    write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=bare))
    recipe = recipe_of(drawn_desk)
    last = recipe._annotated.last.of(torch.zeros(1, 1, 32, 32))
    torch.nn.init.zeros_(last.weight)
    for bias in ((0.0, 9.0), (9.0, 0.0)):
        last.bias.data.copy_(torch.tensor(bias))
        assert 0 < recipe.validate()["score"] < 0.5


def test_without_anything_to_choose_weights_by_nothing_is_trained(drawn_desk: Path) -> None:
    dataset = read_dataset(drawn_desk / "data" / "coarse")
    all_train = tuple(replace(case, split="train") for case in dataset.cases)
    write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=all_train))
    with pytest.raises(InputError, match="has no validation case, by which the best weights are chosen"):
        from_drawings(drawn_desk).train()
    undrawn = tuple(case if case.split == "train" else replace(case, label=None, drawings=()) for case in dataset.cases)
    write_dataset(drawn_desk / "data" / "coarse", replace(dataset, cases=undrawn))
    with pytest.raises(InputError, match="has neither an expert's label nor drawings"):
        from_drawings(drawn_desk).train()


def pseudo(drawn_desk: Path, *overrides: str) -> PseudoLabels:
    made = tiny_trainings.recipe_of(from_drawings(drawn_desk, "recipe=pseudo_labels", *overrides))
    assert isinstance(made, PseudoLabels)
    return made


def test_pseudo_labels_are_the_mixture_s(drawn_desk: Path) -> None:
    first, second = torch.tensor([[[[2.0]], [[0.0]]]]), torch.tensor([[[[0.0]], [[1.0]]]])
    for share, label in ((1.0, 0), (0.0, 1), (0.9, 0), (0.1, 1)):
        assert pseudo_labels(first, second, torch.tensor([share])).tolist() == [[[label]]]
    recipe = pseudo(drawn_desk)
    index = torch.tensor([0, 5])
    assert torch.equal(recipe._shares(index, 3), recipe._shares(index, 3))
    assert not torch.equal(recipe._shares(index, 3), recipe._shares(index, 4))


def test_pseudo_labels_teach_what_is_not_drawn(drawn_desk: Path) -> None:
    """Without them no gradient comes from pixels that nobody drew on; complements take no part."""
    for weight, silent in ((0.0, True), (0.5, False)):
        recipe = pseudo(drawn_desk, f"settings.weight={weight}")
        assert [strategy.complementary for strategy in recipe.strategies] == [False]
        batch = first_batch(recipe)
        kept: list[Tensor] = []
        recipe._annotated.network.register_forward_hook(
            lambda _, __, out, kept=kept: (out.retain_grad(), kept.append(out))[0]
        )
        loss = recipe.step(batch, 0, Fabric())["loss"]
        assert torch.isfinite(loss)
        outside = (batch["drawn"] == 0).all(dim=1)
        gradient = kept[0].grad
        assert gradient is not None
        assert bool((gradient[: len(outside)].movedim(1, -1)[outside] == 0).all()) == silent


def test_pseudo_labels_train(drawn_desk: Path) -> None:
    assert (from_drawings(drawn_desk, "recipe=pseudo_labels", "engine.epochs=6").train() or 0) > 0.5


def test_rerenet_starts_from_what_drawings_taught(drawn_desk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trained = from_drawings(drawn_desk)
    trained.train()
    recipe = from_drawings(
        drawn_desk,
        "recipe=rerenet",
        "settings.starts={simulated: {grow: 1}}",
        "network.start=[{run: refineseg-full}]",
    )
    experiment = recipe.experiment()
    network = experiment.make(experiment.parts(recipe.data, 0, 0, recipe.runs)).network
    assert "tensors start from 'refineseg-full'." in capsys.readouterr().err
    theirs = trained.read().state_dict
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(
            parameter[:, : theirs[name].shape[1]] if parameter.ndim > 1 else parameter, theirs[name]
        )
