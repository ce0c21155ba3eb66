"""First masks from another run: what it predicts stands for the coarse masks of a data set, so that a refinement learns
from, and is measured on, the masks that it will be given.

Of cases that the other run was trained on its predictions are better than of others; a mix of first masks (see
`Starts`) with damaged ones makes up for that.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from rich.progress import track

from NoisyLabelSegLib.errors import InputError
from training.data.adapters.files import write_labels
from training.data.cases import Case, DataSet
from training.data.channels import read_channels
from training.data.content import content_of
from training.data.masks import coarse_labels

if TYPE_CHECKING:
    from NoisyLabelSegLib.inference.model import Model
    from training.checkpoints import Run


@dataclass(frozen=True)
class FirstMasks:
    """Whose predictions are the first masks.

    Attributes:
        run: the other run's name without its seed, in the folder of runs; the one of the same seed is taken. Empty: the
            data set's own masks.
        windows: it is shown the window about each case's own coarse mask, as for a lesion that a person has pointed at;
            else whole images.
    """

    run: str = ""
    windows: bool = False


def with_first_masks(dataset: DataSet, masks: FirstMasks, data: Path, runs: Path, seed: int) -> DataSet:
    """The data set with these first masks, which are predicted once and kept in the other run's folder.

    Raises:
        InputError: the run was not trained to its end, knows other labels, or refines masks itself.
    """
    if not masks.run:
        return dataset
    run = _read(runs / f"{masks.run}-seed{seed}", data, runs, seed)
    if run.parts.dataset.labels != dataset.labels:
        raise InputError(
            f"'{masks.run}' knows the labels {run.parts.dataset.labels} and '{dataset.name}' has {dataset.labels}: "
            "first masks need the same."
        )
    folder = run.folder / f"masks-{run.fingerprint}{'-windows' if masks.windows else ''}"
    # Data sets share case ids, and a case may become another: each content has a file of its own.
    files = {case.id: folder / f"{case.id}-{content_of([case])}.nii.gz" for case in dataset.cases}
    missing = [case for case in dataset.cases if not files[case.id].is_file()]
    if missing:
        with _alone(run.folder):
            _predict(run, missing, files, windows=masks.windows)
    return replace(dataset, cases=tuple(replace(case, coarse=files[case.id]) for case in dataset.cases))


def _read(folder: Path, data: Path, runs: Path, seed: int) -> Run:
    from training.checkpoints import read_run  # which knows experiments, as they know this
    from training.runs import settings_of_trained

    trained = settings_of_trained(folder)
    return read_run(trained, trained.parts(data, seed, runs=runs), folder)


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Of several processes one predicts, the others wait and find what it has written."""
    with FileLock(folder / "masks.lock"):
        yield


def _predict(run: Run, cases: list[Case], files: dict[str, Path], *, windows: bool) -> None:
    from training.checkpoints import as_model

    model = as_model(run)
    if model.description.kind == "refine":
        raise InputError(f"The run in '{run.folder}' refines masks itself: take them from one that needs none.")
    for case in track(cases, description="first masks"):
        if not files[case.id].is_file():
            _predict_one(model, case, files[case.id], windows=windows)


def _predict_one(model: Model, case: Case, file: Path, *, windows: bool) -> None:
    from training.prediction import as_segmentation, in_the_window, labels_of, segmented

    image, *channels = read_channels(case, model.description.channels)
    if not windows:
        labels = labels_of(segmented(image, model, channels).stages[-1])
    elif (coarse := coarse_labels(case, image)) is None:
        raise InputError(f"The case '{case.id}' has no coarse mask to lay a window about: leave out 'windows'.")
    else:
        labels = in_the_window(image, channels, as_segmentation(coarse, model), model)
    write_labels(file, labels, image)
