"""Which labels DALE distrusts: omega on the cases' own grids, the list, and planted noise found again."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
import torch
import yaml
from numpy.typing import NDArray

from NoisyLabelSegLib.inference.preprocessing import Intensity, Preprocessing
from NoisyLabelSegLib.saved_result import read_saved_result
from NoisyLabelSegLib.uncertainty_outputs import COLUMNS
from training.__main__ import main
from training.checkpoints import Run
from training.data.cases import Case, read_dataset
from training.data.masks import expert_labels
from training.data.tiles import Tiles
from training.recipes.image_alone import NO_MASK
from training.suspicion import against_planted, aurocs
from training.trainings import Training
from training.trust.asked import trust_of
from training.trust.readings import READINGS
from training.trust.review import distrust

EXPERIMENT: dict[str, Any] = {
    "recipe": "supervised",
    "data": "tiny_planted20",
    "preprocessing": {"dimensions": 2, "window": [32, 32], "margin": 0, "intensity": {"rule": "z-score"}},
    "augmentation": {"jitter": 0, "affine": 0},
    "network": {"name": "unet", "arguments": {"features": [4, 4, 4, 4, 4, 4]}},
    "paradigm": {"name": "dale", "partition": {"patch": 8}, "alpha": 0},
    "optimizer": {"name": "Adam", "learning_rate": 0.02},
    "engine": {"epochs": 8, "batch_size": 14, "validate_every": 8, "accelerator": "cpu", "devices": 1, "threads": 1},
}
IN_3D = {"dimensions": 3, "window": [16, 32, 32], "margin": 0, "intensity": {"rule": "z-score"}}
IN_PATCHES = {"dimensions": 3, "window": [16, 16, 16], "margin": 0, "intensity": {"rule": "z-score"}, "sliding": True}
SHORT = {"epochs": 1, "batch_size": 3, "validate_every": 1}


class Desk:
    """A folder with an experiment and its run."""

    def __init__(self, folder: Path, data: Path, **values: Any) -> None:
        self.folder, self.data, self.experiment = folder, data, folder / "one.yaml"
        self.experiment.write_text(yaml.safe_dump({**EXPERIMENT, **values}), encoding="utf-8")
        threads = torch.get_num_threads()
        assert self("train") == 0
        torch.set_num_threads(threads)

    def __call__(self, command: str, *more: str) -> int:
        return main([command, str(self.experiment), "--data", str(self.data), "--runs", str(self.runs), *more])

    @property
    def runs(self) -> Path:
        return self.folder / "runs"

    def read(self) -> Run:
        return Training(self.experiment, False, (), 0, self.data, self.runs).read()


def engine(**values: Any) -> dict[str, Any]:
    return {**EXPERIMENT["engine"], **values}


@pytest.fixture(scope="module")
def data(tiny_dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("noisy")
    (folder / "tiny").symlink_to(tiny_dataset / "tiny")
    assert main(["plant", "tiny", "--share", "0.2", "--data", str(folder)]) == 0
    return folder


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, data: Path) -> Desk:
    return Desk(tmp_path_factory.mktemp("trust"), data)


def test_the_command_writes_maps_a_list_and_pictures(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    target = desk.folder / "found"
    assert desk("trust", "--passes", "1", "--limit", "2", "-o", str(target)) == 0
    assert "omega: auroc" in capsys.readouterr().out
    cases = read_dataset(desk.data / "tiny_planted20").part("train")[:2]
    for case in cases:
        image, folder = sitk.ReadImage(str(case.image)), target / case.id
        for name in ("trust", "suspect"):
            found = sitk.ReadImage(str(folder / f"{name}.nii.gz"))
            assert found.GetPixelID() == sitk.sitkFloat32 and found.GetSize() == image.GetSize()
            assert found.GetSpacing() == pytest.approx(image.GetSpacing())
            assert found.GetOrigin() == pytest.approx(image.GetOrigin())
        names = {path.name for path in folder.iterdir()}
        assert {"segmentation.seg.nrrd", "suspects.csv", "figures.json", "report.html"} <= names
        saved = read_saved_result(folder)  # as 3D Slicer's module reads it
        assert saved.image_name == case.image.name and saved.outcome.maps[-1].name == "suspect"
        assert len(saved.outcome.suspects) == len((folder / "suspects.csv").read_text("utf-8").splitlines()) - 1
        assert (target / f"{case.id}.png").read_bytes().startswith(b"\x89PNG")
    check_the_lists(target, cases)
    check_the_figures(json.loads((target / "figures.json").read_text(encoding="utf-8")))
    assert desk("trust", "-o", str(target)) == 2, "nothing is overwritten"
    assert "exists already" in capsys.readouterr().err


def check_the_lists(target: Path, cases: list[Case]) -> None:
    with (target / "least_trusted.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["rank"]) for row in rows] == list(range(1, len(rows) + 1))
    keys = [(float(row["score"]), float(row["gradient"])) for row in rows]
    assert keys == sorted(keys, reverse=True) and 0 < keys[-1][0] <= keys[0][0] <= 1
    of_cases = []
    for case in cases:
        with (target / case.id / "suspects.csv").open(encoding="utf-8", newline="") as file:
            own = list(csv.DictReader(file))
        assert all(set(row) == set(COLUMNS) for row in own)
        of_cases += [{**row, "case": case.id} for row in own]
    unranked = {tuple(sorted((k, v) for k, v in row.items() if k not in ("rank", "gradient"))) for row in rows}
    assert unranked == {tuple(sorted((k, v) for k, v in row.items() if k != "rank")) for row in of_cases}
    assert rows
    for row in rows[:3]:
        check_a_region(target, row)


def check_a_region(target: Path, row: dict[str, str]) -> None:
    """It lies where it is said to, distrusted, with the given label, and the network sees the suggested one."""
    suspect, found = (
        sitk.ReadImage(str(target / row["case"] / name)) for name in ("suspect.nii.gz", "segmentation.seg.nrrd")
    )
    index = [int(row[axis]) for axis in "ijk"]
    left, back, up = suspect.TransformIndexToPhysicalPoint(index)
    assert [float(row[f"{axis}_mm"]) for axis in "ras"] == pytest.approx([-left, -back, up], abs=0.01)
    assert suspect[index] > 0 and row["given"] != row["suggested"]
    assert (found[index] > 0) == (row["suggested"] == "lesion")


def check_the_figures(figures: dict[str, Any]) -> None:
    assert list(figures) == ["omega", "loss", "loss of the trained network"]
    assert figures["loss of the trained network"]["auroc"] > 0.8, "even a short training sees most of the flips"
    assert figures["omega"]["auroc"] > 0.5 < figures["loss"]["auroc"]
    assert figures["omega"]["planted_voxels"] > 0 and 0 <= figures["omega"]["precision_first"] <= 1


def test_the_same_seed_finds_the_same_and_the_run_stays(desk: Desk) -> None:
    run = desk.read()
    first, same = (list(trust_of(run, passes=2, limit=2)) for _ in range(2))
    (more, *_) = trust_of(run, passes=3, limit=2)
    arrays = [sitk.GetArrayFromImage(one.gradient) for one in (first[0], same[0], more)]
    assert np.array_equal(arrays[0], arrays[1]) and not np.array_equal(arrays[0], arrays[2])
    assert [one.case.id for one in first] == [case.id for case in run.parts.dataset.part("train")[:2]]
    omega = sitk.GetArrayFromImage(first[0].omega)
    assert omega.min() < 0.9 and omega.max() > 1


def test_readings_of_omega_are_measured_at_the_same_weights(desk: Desk) -> None:
    written = desk.folder / "readings.json"
    assert desk("readings", "--passes", "2", "--limit", "3", "-o", str(written)) == 0
    figures = json.loads(written.read_text(encoding="utf-8"))
    assert list(figures) == [*READINGS, "loss"]
    found = [
        against_planted(
            one.case,
            sitk.GetArrayFromImage(expert_labels(one.case, one.omega)),
            1 - sitk.GetArrayFromImage(one.omega),
        )
        for one in trust_of(desk.read(), passes=2, limit=3)
    ]
    assert figures["last layer"] == pytest.approx(aurocs(found))
    published = {name: figures[name]["auroc"] for name in ("last layer, Adam", "virtual step, Adam", "loss")}
    assert len({figures["last layer"]["auroc"], *published.values()}) == 4


def test_readings_without_planted_noise_are_refused(
    tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk, clean = Desk(tmp_path, data, engine=engine(epochs=1, validate_every=1)), ("--set", "data=tiny")
    assert desk("train", *clean) == 0
    assert desk("readings", *clean) == 2
    assert "has planted noise" in capsys.readouterr().err


def test_readings_of_clean_cases_alone_are_refused(
    desk: Desk, tmp_path: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first case is right, as `plant --verified` leaves some."""
    copy = tmp_path / "data"
    shutil.copytree(data / "tiny_planted20", copy / "tiny_planted20")
    (copy / "tiny").symlink_to(data / "tiny")
    file = copy / "tiny_planted20" / "dataset.json"
    content = json.loads(file.read_text(encoding="utf-8"))
    del next(case for case in content["training"] if case.get("split", "train") == "train")["clean"]
    file.write_text(json.dumps(content), encoding="utf-8")
    other = Desk(tmp_path, copy, engine=engine(epochs=1, validate_every=1))
    assert other("readings", "--limit", "1") == 2
    assert "None of these cases has planted noise" in capsys.readouterr().err


@pytest.mark.parametrize(
    "changes",
    [
        {"preprocessing": IN_3D},
        {"preprocessing": IN_PATCHES, "augmentation": {"patches": 1}},
        {"preprocessing": {**IN_3D, "spacing": [2, 1.5, 1.5], "window": [16, 16, 16]}},
        {
            "preprocessing": IN_3D,
            "paradigm": {**EXPERIMENT["paradigm"], "confidence": {"by": "gradients"}},
        },
    ],
    ids=["3D", "patches", "resampled", "gradients"],
)
def test_volumes_patches_and_other_spacings_lie_on_the_images_grid(
    tmp_path: Path, data: Path, changes: dict[str, Any]
) -> None:
    desk = Desk(tmp_path, data, **changes, engine=engine(**SHORT))
    for found in trust_of(desk.read(), passes=1, limit=2):
        image = sitk.ReadImage(str(found.case.image))
        for one in (found.omega, found.gradient, found.loss):
            assert one.GetSize() == image.GetSize() and one.GetOrigin() == pytest.approx(image.GetOrigin())
            assert one.GetPixelID() == sitk.sitkFloat32 and sitk.GetArrayFromImage(one).std() > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"paradigm": "plain"}, "Only what was trained with 'paradigm: dale'"),
        ({"paradigm": {"name": "dale", "confidence": {"by": "none"}}}, "every label is trusted alike"),
        ({"recipe": "rerenet", "settings": {"stages": 1}}, "ReReNet starts from a first mask"),
    ],
)
def test_what_cannot_be_asked_is_said(
    tmp_path: Path, data: Path, changes: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path, data, **changes, engine=engine(epochs=1, validate_every=1))
    assert desk("trust", "-o", str(tmp_path / "found")) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "found").exists()


@pytest.mark.parametrize("more", [["--passes", "0"], ["--split", "test"]])
def test_nothing_to_ask_is_refused(desk: Desk, more: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert desk("trust", *more, "-o", str(desk.folder / "nothing")) == 2
    assert "at least one pass" in (said := capsys.readouterr().err) or "is empty" in said


@pytest.fixture(scope="module")
def odd_cases(tmp_path_factory: pytest.TempPathFactory) -> list[Case]:
    """Two cases that are larger than a window, on turned and anisotropic grids; labels in a corner."""
    folder, found = tmp_path_factory.mktemp("odd"), []
    for number, flips in enumerate([(False, True, True), (True, False, False)]):
        labels = np.zeros((7, 30, 41), np.uint8)
        labels[2:5, 3:20, 20:39] = 1
        voxels = np.random.default_rng(number).normal(0, 1, labels.shape).astype(np.float32)
        paths = [folder / f"case{number}_{name}.nii.gz" for name in ("image", "label")]
        arrays: list[NDArray[Any]] = [voxels, labels]
        for path, array in zip(paths, arrays, strict=True):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing((0.7, 0.7, 2.5))
            sitk.WriteImage(sitk.Flip(image, flips), str(path))
        found.append(Case(f"case{number}", paths[0], paths[1], patient=f"case{number}"))
    return found


@pytest.mark.parametrize("whole", [True, False])
@pytest.mark.parametrize("window", [(16, 16), (5, 16, 16), (8, 48, 64)])
def test_tiles_cover_a_case_and_find_their_way_back(
    odd_cases: list[Case], window: tuple[int, ...], whole: bool
) -> None:
    """What tiles show, put back, is the image itself; nothing else was seen."""
    preprocessing = Preprocessing(2 if len(window) == 2 else 3, window, 0, (), 8, PLAIN)
    tiles = Tiles(odd_cases, preprocessing, NO_MASK, 0, whole=whole)
    sums = [np.zeros((2, *crop.expert.shape), np.float32) for crop in tiles.crops]
    for index in range(len(tiles)):
        number, place = tiles.place(index)
        values = tiles[index]["image"][0].numpy()
        assert values.shape == window
        inside: Any = (slice(None), *place)
        sums[number][inside] += np.stack([values, np.ones_like(values)]).reshape(sums[number][inside].shape)
    for number, (case, (values, seen)) in enumerate(zip(odd_cases, sums, strict=True)):
        assert seen.min() >= 1, "every voxel of the crop is seen"
        back = sitk.GetArrayFromImage(tiles.restore(number, values / seen, -9))
        image, label = (sitk.GetArrayFromImage(sitk.ReadImage(str(path))) for path in (case.image, case.label))
        inside = back != -9
        assert inside.all() == whole or window[-1] > 40
        assert inside[label > 0].all()
        np.testing.assert_allclose(back[inside], (image[inside] + 8) / 16, atol=1e-3)  # half precision on the disk


PLAIN = Intensity("window", low=-8, high=8)


def test_distrust_grows_with_the_gradient_and_never_saturates() -> None:
    found = distrust(np.array([-3, 0, 1, 3, 99, 999], np.float32))
    assert found.tolist() == pytest.approx([0, 0, 0.5, 0.75, 0.99, 0.999]) and found.dtype == np.float32
