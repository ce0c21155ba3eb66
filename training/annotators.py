"""What RefineSeg has learnt of annotators: how each errs on average, class by class, and where, as pictures.

A matrix says what an annotator makes of each true class, p(drawn m | true k), the mean over the pixels that the network
takes for k. It is the truth only where the network is right and the drawings can tell: what nobody ever drew cannot be
told from what the network does not see. Where there are experts' labels, the same is counted with them, of the pixels
that the annotator drew on.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.report_pictures import encode_png
from training.annotator_pictures import Seen, picture, seen
from training.checkpoints import Run, trained_state
from training.data.cases import Split
from training.evaluate import write_figures
from training.recipes.image_alone import NO_MASK
from training.recipes.refineseg import RefineSeg
from training.recipes.transitions import mean_transitions

LIKELY = 0.5
"""A pixel shows how often its class is drawn otherwise where the class is at least so likely."""
LEARNT = 0.02
"""Told is what exceeds the matrix before training by so much."""
MOST_SLICES = 40
CHUNK = 2**14  # Pixels at once.


def describe(run: Run, split: Split, folder: Path) -> dict[str, Any]:
    """Write ``annotators.json`` and a picture for each strategy and return the figures.

    Args:
        run: of the recipe "refineseg" with matrices.
        split: which part of the data set is looked at.
        folder: for the files; it is made.

    Raises:
        InputError: it was trained without matrices, or the part is empty.
    """
    recipe = trained(run)
    known = {0: "background", **run.parts.dataset.labels}
    names = [known.get(value, f"class {value}") for value in range(run.parts.classes)]
    start = expected_at_start(run.parts.classes, recipe.settings.keep)
    slices, matrices, counts = _looked_at(recipe, split)
    measured = all(case.has_expert for case in run.parts.cases(split))
    figures = {}
    for strategy, matrix, count in zip(recipe.strategies, matrices, counts, strict=True):
        found = figures[str(strategy)] = {"classes": names, "drawn_given_true": _rounded(matrix)}
        if strategy.complementary:
            found["told"] = ["its matrix comes before that of what is excluded, and says nothing by itself"]
        else:
            found["told"] = _told(matrix, start, names)
            found |= _counted(matrix, count) if measured else {}
    folder.mkdir(parents=True, exist_ok=True)
    write_figures(folder / "annotators.json", figures)
    for number, strategy in enumerate(recipe.strategies):
        name = re.sub(r"[^\w.-]+", "_", str(strategy)).strip("_")
        (folder / f"{number + 1}_{name}.png").write_bytes(encode_png(picture(slices, number)))
    return figures


def trained(run: Run) -> RefineSeg:
    """The recipe with the weights of a run, matrices included."""
    recipe = run.experiment.make(run.parts)
    if not isinstance(recipe, RefineSeg) or not recipe.settings.matrices:
        raise InputError("Only the recipe 'refineseg' with settings.matrices learns how annotators err.")
    state = trained_state(run)
    if state.keys() != recipe.network.state_dict().keys():
        raise InputError(f"When this was trained, others had drawn in '{run.parts.dataset.name}': train it anew.")
    recipe.network.load_state_dict(state)
    recipe.network.eval()
    return recipe


@torch.inference_mode()
def _looked_at(recipe: RefineSeg, split: Split) -> tuple[list[Seen], list[Tensor], Tensor]:
    """The slices with most structure, each strategy's mean matrix over all of them, and how often it drew what."""
    windows = recipe.parts.windows(split, NO_MASK, augment=False, drawings=recipe.strategies)
    sums = torch.zeros(len(recipe.strategies), recipe.parts.classes, recipe.parts.classes)
    counts = torch.zeros_like(sums)
    weights, looked_at = torch.zeros(recipe.parts.classes), []
    for batch in DataLoader(windows, batch_size=1):
        image, shape = batch["image"], batch["image"].shape[2:]
        found = recipe.network(_padded(image, recipe.parts.preprocessing.multiple), features=True)
        inner = (..., *(slice(size) for size in shape))  # what was padded is nobody's
        logits, features = (one[inner] for one in found)
        rows, given = (one.movedim(1, -1).flatten(0, -2) for one in (logits.softmax(dim=1), features))
        errors = [torch.empty(len(rows)) for _ in recipe.strategies]
        for start in range(0, len(rows), CHUNK):
            part = slice(start, start + CHUNK)
            for number, head in enumerate(recipe.heads):
                transitions = head(given[part])
                sums[number] += mean_transitions(transitions, rows[part]).nan_to_num() * rows[part].sum(dim=0)
                otherwise = 1 - transitions.diagonal(dim1=1, dim2=2)
                errors[number][part] = (otherwise * (rows[part] > LIKELY)).sum(dim=1)
        weights += rows.sum(dim=0)
        for number, codes in enumerate(batch["drawn"].flatten(2).unbind(dim=1)):
            counts[number] += _pairs(codes.flatten(), batch["expert"].flatten(), recipe.parts.classes)
        looked_at.append(seen(image, logits, errors))
        looked_at = sorted(looked_at, key=lambda one: -np.count_nonzero(one.labels))[:MOST_SLICES]
    if not looked_at:
        raise InputError(f"The {split} part of '{recipe.parts.dataset.name}' is empty: choose another.")
    return looked_at[:: max(1, len(looked_at) // 4)][:4], [matrix / weights for matrix in sums], counts


def _pairs(codes: Tensor, true: Tensor, classes: int) -> Tensor:
    """How many pixels are drawn as m, a code of m + 1, and are truly k: ``(L, L)``; of complements it means nothing."""
    drawn = (codes > 0) & (codes <= classes)
    pairs = (codes[drawn] - 1) * classes + true[drawn]
    return torch.bincount(pairs, minlength=classes**2).view(classes, classes).float()


def _padded(image: Tensor, multiple: int) -> Tensor:
    missing = [-size % multiple for size in image.shape[2:]]
    return F.pad(image, [n for side in reversed(missing) for n in (0, side)], mode="replicate")


def expected_at_start(classes: int, keep: float) -> Tensor:
    """Every strategy's matrix before training: what was learnt is how a matrix differs from it."""
    return torch.full((classes, classes), (1 - keep) / (classes - 1)).fill_diagonal_(keep)


def _rounded(matrix: Tensor) -> list[list[float]]:
    return [[round(float(share), 4) for share in row] for row in matrix]


def _told(matrix: Tensor, start: Tensor, names: list[str]) -> list[str]:
    """In words, what happens to each class where it is more than a matrix says before training."""
    told = []
    for true, name in enumerate(names):
        wrong = [
            (float(share), names[m])
            for m, share in enumerate(matrix[:, true])
            if m != true and share > start[m, true] + LEARNT
        ]
        parts = ", ".join(f"{share:.0%} as {other}" for share, other in sorted(wrong, reverse=True))
        told.append(f"of true {name}, {parts} is drawn otherwise" if parts else f"no error of {name} was learnt")
    return told


def _counted(matrix: Tensor, count: Tensor) -> dict[str, Any]:
    """What an annotator made of each true class, counted; of a class that it never drew on, nothing is known."""
    known = count.sum(dim=0) > 0
    if not known.any():
        return {}
    truth = count[:, known] / count[:, known].sum(dim=0)
    error = (matrix[:, known] - truth).abs()
    return {
        "classes_counted": known.nonzero().flatten().tolist(),
        "counted": _rounded(truth),
        "mean_absolute_error": round(float(error.mean()), 4),
        "largest_error": round(float(error.max()), 4),
    }
