"""Small samples for ``Resources/Samples``: one case of a prepared data set as a person would meet it."""

from __future__ import annotations

from pathlib import Path

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, write_image
from NoisyLabelSegLib.segmentations import Segment, Segmentation, write_segmentation
from training.data.cases import DataSet
from training.data.masks import coarse_labels, expert_labels
from training.export import Card


def write_sample(dataset: DataSet, case_id: str, card: Card, folder: Path) -> None:
    """Write ``image.nii.gz``, ``coarse.seg.nrrd`` and ``expert.seg.nrrd`` of a case, named and coloured by the card."""
    case = next((case for case in dataset.cases if case.id == case_id), None)
    if case is None:
        raise InputError(f"The data set '{dataset.name}' has no case '{case_id}'.")
    image = read_image(case.image)
    coarse = coarse_labels(case, image)
    if coarse is None:
        raise InputError(f"The case '{case_id}' has no coarse mask.")
    folder.mkdir(parents=True, exist_ok=True)
    write_image(folder / "image.nii.gz", image)
    segments = tuple(
        Segment(label.name, label.value, 0, label.color, f"Segment_{label.value}", label.terminology)
        for label in card.labels
    )
    for name, labels in (("coarse", coarse), ("expert", expert_labels(case, image))):
        write_segmentation(folder / f"{name}.seg.nrrd", Segmentation(labels, segments))
    (folder / "README.md").write_text(
        f"# {case_id}\n\nOne case of {dataset.name}, licence {dataset.licence}. `expert` is the reference "
        "and `coarse` the rough mask, both made from the published ones by `python -m training prepare`.\n\n"
        + "".join(f"{data.citation} {data.url}\n" for data in card.training_data),
        encoding="utf-8",
    )
