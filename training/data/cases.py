"""`dataset.json`: the convention of the Medical Segmentation Decathlon and nnU-Net, extended.

Read as they are: MSD (``"training": [{"image": ..., "label": ...}]``) and nnU-Net v2 (``channel_names``,
``file_ending``, ``imagesTr/<case>_0000.<ending>``, ``labelsTr/<case>.<ending>``). An entry's ``image`` may be a list:
one file a channel. Each entry may also hold ``coarse`` (a non-expert mask), ``raters`` (a list of masks of equal
standing), ``strong`` (an image in a stronger modality, registered to ``image``), ``drawings`` (what annotators drew,
see `Drawing`), ``patient``, ``split`` ("train", "val" or "test") and ``verified`` (true: the label is known to be
right).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

from NoisyLabelSegLib.cases import case_id, check_ids
from NoisyLabelSegLib.errors import InputError
from training.texts import write_text

Split = Literal["train", "val", "test"]


DrawingKind = Literal["positive", "complementary", "full"]


@dataclass(frozen=True)
class Drawing:
    """What one annotator drew of a case, in one way: a label map on the image's grid or another.

    Attributes:
        path: the label map.
        annotator: who or what drew it; drawings of the same annotator and kind are one annotation strategy.
        kind: of a "positive" one a voxel's value is its class, of a "complementary" one a class that it is not; "full"
            is positive and labels every voxel.
        ignore: the value of voxels that nobody drew on; a full one has none.
        means: the classes that a value stands for, where they are not the value itself: ``{0: (1, 2), 3: ()}``.
    """

    path: Path
    annotator: str
    kind: DrawingKind = "positive"
    ignore: int | None = None
    means: Mapping[int, tuple[int, ...]] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in get_args(DrawingKind):
            raise InputError(f"The drawing '{self.path}' is '{self.kind}'; it must be one of {_listed(DrawingKind)}.")
        if (self.ignore is None) != (self.kind == "full"):
            raise InputError(
                f"The drawing '{self.path}' needs 'ignore', the value of what is not drawn on; a full one none."
            )
        if self.kind != "complementary" and any(len(classes) > 1 for classes in self.means.values()):
            raise InputError(
                f"A value of the drawing '{self.path}' means several classes: only a complementary one can."
            )


@dataclass(frozen=True)
class Case:
    """One image with its labels, as paths.

    Attributes:
        id: name of the case, unique in the data set.
        image: the image, or its first channel.
        label: the expert's label map, if there is one.
        coarse: a non-expert's label map, if there is one.
        raters: label maps of several raters.
        patient: who the image is of; splits never part a patient.
        split: which part of the data set the case belongs to.
        clean: the label map before noise was planted in `label`, where that was done.
        channels: the image's further channels, on the grid of the first.
        strong: an image in a stronger modality, there in training only, registered to `image` on any grid.
        drawings: what annotators drew.
        noise: the kind of noise that was planted, see `training.data.noisy_sets`.
        verified: whether the label is known to be right.
    """

    id: str
    image: Path
    label: Path | None = None
    coarse: Path | None = None
    raters: tuple[Path, ...] = ()
    patient: str = ""
    split: Split = "train"
    clean: Path | None = None
    channels: tuple[Path, ...] = ()
    strong: Path | None = None
    drawings: tuple[Drawing, ...] = ()
    noise: str = ""
    verified: bool = False

    @property
    def has_expert(self) -> bool:
        """Whether there is something to measure by: an expert's label, or raters, whose consensus stands for one."""
        return self.label is not None or bool(self.raters)


@dataclass(frozen=True)
class DataSet:
    """A `dataset.json`: its cases and the names of its labels (label value to name, without the background).

    `simulation` says how strongly its coarse masks were made from the experts', where they were (see `CoarseSettings`),
    and its images from the strong ones (see `training.data.privileged.WeakModality`).
    """

    name: str
    labels: Mapping[int, str]
    cases: tuple[Case, ...]
    licence: str = ""
    simulation: Mapping[str, float] = field(default_factory=dict)

    @property
    def channels(self) -> int:
        """Number of channels of the images."""
        return 1 + len(self.cases[0].channels) if self.cases else 1

    def part(self, split: Split) -> list[Case]:
        """The cases of one split."""
        return [case for case in self.cases if case.split == split]


def read_dataset(path: Path, seed: int = 0) -> DataSet:
    """Read a ``dataset.json`` (or the folder that holds one).

    Entries without a split are assigned one by `split_of`, patient by patient.
    """
    file = path / "dataset.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"The data set '{file}' cannot be read: {error}.") from error
    if not isinstance(content, dict):
        raise InputError(f"The data set '{file}' is not a JSON object.")
    listed = content.get("training")
    entries = listed if isinstance(listed, list) else _nnunet_entries(file, content)
    cases = []
    for entry in entries:
        case = _case(file.parent, entry)
        cases.append(case if entry.get("split") else replace(case, split=split_of(case.patient, seed)))
    check_ids([case.id for case in cases], file)
    if other := next((case for case in cases if len(case.channels) != len(cases[0].channels)), None):
        raise InputError(f"The case '{other.id}' of '{file}' has another number of channels than '{cases[0].id}'.")
    simulation = content.get("simulation")
    return DataSet(
        name=content.get("name", file.parent.name),
        labels=_labels(content),
        cases=tuple(cases),
        licence=content.get("licence", ""),
        simulation=simulation if isinstance(simulation, dict) else {},
    )


def write_dataset(folder: Path, dataset: DataSet) -> None:
    """Write ``dataset.json``, with paths relative to ``folder`` where they lie in it."""

    def text(path: Path | None) -> str | None:
        if path is None:
            return None
        path, root = path.resolve(), folder.resolve()
        return path.relative_to(root).as_posix() if path.is_relative_to(root) else str(path)

    entries = []
    for case in dataset.cases:
        entry: dict[str, Any] = {
            "id": case.id,
            "image": [text(path) for path in (case.image, *case.channels)] if case.channels else text(case.image),
            "label": text(case.label),
            "coarse": text(case.coarse),
        }
        entry |= {"raters": [text(p) for p in case.raters] or None, "patient": case.patient, "split": case.split}
        entry |= {"clean": text(case.clean), "noise": case.noise or None, "verified": case.verified or None}
        entry["strong"] = text(case.strong)
        entry["drawings"] = [_kept({**vars(drawing), "path": text(drawing.path)}) for drawing in case.drawings] or None
        entries.append(_kept(entry))
    content = {
        "name": dataset.name,
        "licence": dataset.licence,
        "labels": {"0": "background"} | {str(value): name for value, name in dataset.labels.items()},
        **({"simulation": dict(dataset.simulation)} if dataset.simulation else {}),
        "training": entries,
    }
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "dataset.json", json.dumps(content, indent=1))


def _kept(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in entry.items() if value is not None and value != {}}


def _listed(kinds: Any) -> str:
    return ", ".join(get_args(kinds))


def split_of(patient: str, seed: int = 0, val: float = 0.1, test: float = 0.2) -> Split:
    """Assign a patient to a part by a hash of the name: stable when cases are added, removed or reordered."""
    digest = hashlib.sha256(f"{seed}:{patient}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    return "test" if position < test else "val" if position < test + val else "train"


def split_anew(dataset: DataSet, val: float = 0.1, test: float = 0.2) -> DataSet:
    """The same cases in parts of other shares: see `split_of`."""
    cases = tuple(replace(case, split=split_of(case.patient, val=val, test=test)) for case in dataset.cases)
    return replace(dataset, cases=cases)


def _case(folder: Path, entry: Mapping[str, Any]) -> Case:
    def resolve(value: str | None) -> Path | None:
        return folder / value if value else None

    given = entry.get("image") if isinstance(entry, dict) else None
    images = given if isinstance(given, list) else [given]
    if not images or not all(isinstance(image, str) for image in images):
        raise InputError(f"An entry of the data set in '{folder}' does not name an image: {entry}.")
    image, *channels = map(str, images)
    if entry.get("split", "train") not in get_args(Split):
        raise InputError(
            f"The split of '{image}' is '{entry['split']}'; it must be one of {', '.join(get_args(Split))}."
        )
    name = entry.get("id") or case_id(Path(image))
    return Case(
        id=name,
        image=folder / image,
        label=resolve(entry.get("label")),
        coarse=resolve(entry.get("coarse")),
        raters=tuple(folder / rater for rater in entry.get("raters", ())),
        patient=entry.get("patient") or name,
        split=entry.get("split", "train"),
        clean=resolve(entry.get("clean")),
        channels=tuple(folder / channel for channel in channels),
        strong=resolve(entry.get("strong")),
        drawings=tuple(_drawing(folder, drawing) for drawing in entry.get("drawings", ())),
        noise=entry.get("noise", ""),
        verified=bool(entry.get("verified", False)),
    )


def _drawing(folder: Path, entry: Any) -> Drawing:
    if not isinstance(entry, dict) or not {"path", "annotator"} <= entry.keys() <= {f.name for f in fields(Drawing)}:
        raise InputError(f"A drawing of the data set in '{folder}' needs 'path' and 'annotator', and has {entry}.")
    try:
        means = {int(value): tuple(map(int, classes)) for value, classes in entry.get("means", {}).items()}
    except (AttributeError, TypeError, ValueError) as error:
        raise InputError(f"'means' of the drawing '{entry['path']}' needs a list of classes for each value.") from error
    if not isinstance(entry.get("ignore"), (int, type(None))):
        raise InputError(f"'ignore' of the drawing '{entry['path']}' must be a whole number, not {entry['ignore']!r}.")
    return Drawing(**{**entry, "path": folder / entry["path"], "means": means})


def _nnunet_entries(file: Path, content: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    if "channel_names" not in content:
        raise InputError(
            f"'{file}' is neither an MSD nor an nnU-Net dataset.json: 'training' and 'channel_names' are missing."
        )
    channels, ending = len(content["channel_names"]), content.get("file_ending", ".nii.gz")
    for label in sorted((file.parent / "labelsTr").glob(f"*{ending}")):
        name = label.name[: -len(ending)]
        images = [f"imagesTr/{name}_{channel:04}{ending}" for channel in range(channels)]
        yield {"id": name, "image": images, "label": f"labelsTr/{label.name}"}


def _labels(content: Mapping[str, Any]) -> dict[int, str]:
    """MSD writes value -> name, nnU-Net name -> value."""
    labels = {}
    for key, value in content.get("labels", {}).items():
        number, name = (int(key), str(value)) if str(key).lstrip("-").isdigit() else (value, str(key))
        if not isinstance(number, int):
            raise InputError(f"The label '{name}' has the value {number!r}; one integer is supported.")
        if number > 0:
            labels[number] = name
    return dict(sorted(labels.items()))
