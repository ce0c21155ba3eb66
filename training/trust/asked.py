"""Omega of whole cases, as a network finds it that still has to learn them.

Omega belongs to a batch and to the weights at that moment: it says whether a label agrees with the batch's clear
regions. A network that has learnt its labels has nothing left to agree about: what the clear regions' loss would have
it do is noise then, and so is omega. So a short training begins anew, from the run's own start and on its batches, but
on one device, at a constant rate and without mixed precision, and after it DALE is asked about one batch after the
other, each time after one step on the batch's clear regions, while nothing else is learnt.
That step is a new optimiser's, as large as its rate in every direction: it leads away from where the training stands,
and the way back is what clear regions are sure of. Several passes with other batches are averaged, as are windows that
overlap.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import count, islice
from typing import Any

import numpy as np
import SimpleITK as sitk
import torch
from lightning_fabric import Fabric
from rich.progress import track
from torch import Tensor
from torch.utils.data import DataLoader

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.preprocessing import Intensity
from training.checkpoints import Run, trained_state
from training.data.cases import Case, Split
from training.data.drawings import Strategy
from training.data.tiles import Tiles
from training.data.windows import EpochSampler, Starts, Windows
from training.paradigms.dale.confidence import ConfidenceSettings
from training.paradigms.dale.paradigm import DALE
from training.paradigms.plain import Learner, Objective, Paradigm
from training.recipes.parts import Parts
from training.recipes.rerenet import ReReNetSettings


@dataclass(frozen=True)
class Trust:
    """What is known of a case's labels, on its image's grid, float32.

    Attributes:
        case: the case.
        omega: how far each label is trusted, at least 0; 1 where no window saw the voxel.
        gradient: dL / domega, in units of its root mean square over a batch; 0 where no window saw the voxel.
        loss: the recipe's, when omega is asked for; 0 where no window saw the voxel.
    """

    case: Case
    omega: sitk.Image
    gradient: sitk.Image
    loss: sitk.Image


@dataclass(frozen=True)
class TiledParts(Parts):
    """The same experiment, whose recipe has tiles of one part of the data set for its training data."""

    split: Split = "train"

    def windows(
        self,
        split: Split,
        starts: Starts,
        *,
        augment: bool,
        strong: Intensity | None = None,
        drawings: Sequence[Strategy] = (),
    ) -> Windows:
        whole = bool(self.augmentation.patches)
        return Tiles(self.cases(self.split), self.preprocessing, starts, self.seed, strong, whole=whole)


class Asked(Paradigm):
    """A paradigm that keeps what DALE, in one or several readings, thinks of each batch, and teaches nothing.

    Kept are omega and its gradient, of several readings omega alone; the loss; and 1 of each pixel, ``BCHW[D]``.
    """

    def __init__(self, *readings: DALE) -> None:
        self.readings = readings
        self.outside = (1,) * len(readings) if len(readings) > 1 else (1, 0)
        self.found: list[Tensor] = []

    def step(
        self,
        learner: Learner,
        objective: Objective,
        image: Tensor,
        batch: Mapping[str, Tensor],
        epoch: int,
        fabric: Fabric,
    ) -> dict[str, Tensor]:
        with torch.no_grad(), fabric.autocast():
            losses, _ = objective(learner.network, image)
        found = [dale.trust(learner, objective, image, batch["expert"], fabric) for dale in self.readings]
        maps = [one.weights for one in found] if len(found) > 1 else found[0]
        self.found.append(torch.stack([*maps, losses, torch.ones_like(losses)], dim=1).cpu())
        return {"loss": torch.zeros(())}


def trust_of(run: Run, split: Split = "train", passes: int = 5, limit: int = 0, steps: int = 15) -> Iterator[Trust]:
    """Yield what a run thinks of the labels of a part of its data set; the same for the same seed.

    Args:
        run: trained by the paradigm "dale".
        split: the part.
        passes: over all windows, each with other batches.
        limit: takes this many cases; 0 takes all.
        steps: of the short training; 0 asks at the best weights.

    Raises:
        InputError: the run was trained otherwise, or there are no cases or passes.
    """
    for case, maps in maps_of(run, split, passes, limit, steps):
        yield Trust(case, *maps)


def maps_of(
    run: Run,
    split: Split = "train",
    passes: int = 5,
    limit: int = 0,
    steps: int = 15,
    readings: Sequence[ConfidenceSettings] = (),
) -> Iterator[tuple[Case, list[sitk.Image]]]:
    """As `trust_of`, in other readings of omega.

    Args:
        run, split, passes, limit, steps: see `trust_of`.
        readings: ways to find omega, two or more, at the same weights and of the same batches; none: as in the run.

    Yields:
        A case, omega and its gradient, of several readings each one's omega; and the loss.
    """
    if passes < 1:
        raise InputError("Labels are looked at in at least one pass: set --passes to 1 or more.")
    recipe = _recipe(run, split, limit, steps, readings)
    tiles: Tiles = recipe.training_data()
    if not len(tiles):
        raise InputError(f"The {split} part of '{run.parts.dataset.name}' is empty: choose another.")
    # Of each crop what is yielded, and how many windows saw the voxel.
    outside = (*recipe.paradigm.outside, 0)
    sums = [np.zeros((len(outside) + 1, *crop.expert.shape), np.float32) for crop in tiles.crops]
    for number in track(range(passes), description="passes"):
        for indices, maps in _batches(run, recipe, tiles, number):
            for index, values in zip(indices, maps.numpy(), strict=True):
                case, place = tiles.place(index)
                inside: tuple[Any, ...] = (slice(None), *place)
                sums[case][inside] += values.reshape(sums[case][inside].shape)
    for number, (case, (*values, seen)) in enumerate(zip(recipe.parts.cases(split), sums, strict=True)):
        yield case, [tiles.restore(number, one / seen, far) for one, far in zip(values, outside, strict=True)]


def _recipe(run: Run, split: Split, limit: int, steps: int, readings: Sequence[ConfidenceSettings]) -> Any:
    """The recipe with its weights, whose steps ask DALE and nothing else."""
    if isinstance(run.experiment.settings, ReReNetSettings):
        raise InputError("ReReNet starts from a first mask and suggests no labels by itself: ask another recipe.")
    values = {field.name: getattr(run.parts, field.name) for field in fields(Parts)}
    recipe = run.experiment.make(TiledParts(**{**values, "limit": limit, "split": split}))
    if not isinstance(dale := getattr(recipe, "paradigm", None), DALE):
        raise InputError("Only what was trained with 'paradigm: dale' weighs its labels: train with it.")
    recipe.network.load_state_dict(_after(run, steps) if steps else trained_state(run))
    settings = [replace(dale.settings, confidence=reading) for reading in readings] or [dale.settings]
    recipe.paradigm = Asked(*(DALE(one, dale.classes) for one in settings))
    return recipe


def _after(run: Run, steps: int) -> dict[str, Tensor]:
    """The weights after a short training with a run's settings and batches; see the module's text."""
    recipe, fabric = run.experiment.make(run.parts), _fabric(run)
    recipe.network.to(fabric.device).train()
    data, size = recipe.training_data(), run.experiment.engine.batch_size
    batches = (
        (epoch, batch)
        for epoch in count()
        for batch in DataLoader(data, size, sampler=EpochSampler(len(data), run.parts.seed, epoch), drop_last=True)
    )
    for epoch, batch in islice(batches, steps):
        recipe.step({name: values.to(fabric.device) for name, values in batch.items()}, epoch, fabric)
    weights: dict[str, Tensor] = recipe.network.state_dict()
    return weights


def _fabric(run: Run) -> Fabric:
    engine = run.experiment.engine
    return Fabric(accelerator=engine.accelerator, devices=1)


def _batches(run: Run, recipe: Any, tiles: Tiles, number: int) -> Iterator[tuple[list[int], Tensor]]:
    """One pass: the windows of each batch, and what is found of their labels, see `Asked`."""
    engine, seed = run.experiment.engine, run.parts.seed
    fabric = _fabric(run)
    recipe.network.to(fabric.device).train()
    loader = DataLoader(tiles, engine.batch_size, sampler=EpochSampler(len(tiles), seed, number))
    with torch.random.fork_rng():
        torch.manual_seed(int(np.random.default_rng((seed, number)).integers(2**31)))
        for batch in loader:
            recipe.step({name: values.to(fabric.device) for name, values in batch.items()}, number, fabric)
            yield batch["index"].tolist(), recipe.paradigm.found.pop()
