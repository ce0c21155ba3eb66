"""``noisylabelseg uncertainty``: its files, the same voxels as Python and the worker, and what it refuses."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from test_bad_input import BAD_IMAGES_AND_MASKS, refused, save
from tiny_models import ball, contents, picture, voxels, write_case, write_model, write_uncertainty_model

from NoisyLabelSegLib import cli
from NoisyLabelSegLib.bundle import ModelDescription
from NoisyLabelSegLib.bundle.fitness import check_fitness
from NoisyLabelSegLib.bundle.strict_json import convert
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, same_grid
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.pipeline import map_uncertainty
from NoisyLabelSegLib.regions import masks_of
from NoisyLabelSegLib.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from NoisyLabelSegLib.worker.kinds import WarmModel, outcome_of
from NoisyLabelSegLib.worker.messages import Request, outcome_message, read_outcome

ALWAYS = {"segmentation.seg.nrrd", "entropy.nii.gz", "confidence.nii.gz", "figures.json", "report.html"}
WITH_LABELS = ALWAYS | {"given.seg.nrrd", "suspect.nii.gz", "suspects.csv", "probability_nodule.nii.gz"}
# Soft, so that an untrained network is unsure; low, so that it doubts.
METHOD: dict[str, Any] = {"temperatures": [50.0, 20.0], "threshold": 0.2}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_uncertainty_model(folder / "tiny", mirror=[0, 2], **METHOD)
    write_uncertainty_model(folder / "flat", dimensions=2, network="unet", **METHOD)
    write_uncertainty_model(folder / "parts", ("head", "tail/../of it"), **METHOD)
    write_model(folder / "refiner")
    return folder


@pytest.fixture
def work(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desk with a good image and labels, and a copy of the models to spoil."""
    folder = tmp_path / "desk"
    _, mask = write_case(folder)
    mask.unlink()
    sitk.WriteImage(picture(ball(shift=2)), str(folder / "mask.nii.gz"))
    shutil.copytree(models, tmp_path / "models")
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(tmp_path / "models"))
    for variable in ("HOME", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(folder)
    return folder


def command(*more: str, model: str = "tiny", labels: str = "mask.nii.gz") -> list[str]:
    given = ["image.nii.gz", *([labels] if labels else [])]
    return ["uncertainty", *given, "--model", model, "-o", "out", "--device", "cpu", *more]


def names() -> set[str]:
    return {path.name for path in Path("out").iterdir()}


def test_everything_is_written_and_told(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command()) == 0
    told = capsys.readouterr().out
    assert names() == WITH_LABELS and all(f"written: out/{name}" in told for name in WITH_LABELS)
    image = read_image("image.nii.gz")
    assert all(same_grid(read_image(path), image) for path in Path("out").glob("*.nii.gz"))
    segmentation = read_segmentation("out/segmentation.seg.nrrd")
    assert same_grid(segmentation.image, image)
    assert [(s.name, s.color) for s in segmentation.segments] == [("nodule", (1, 0.5, 0))]
    figures = json.loads(Path("out/figures.json").read_text(encoding="utf-8"))
    assert figures["provenance"]["labels"] == "mask.nii.gz" and figures["provenance"]["model"]["name"] == "tiny"
    assert [row["segment"] for row in figures["structures"]] == ["nodule"]
    rows = list(csv.DictReader(Path("out/suspects.csv").read_text(encoding="utf-8").splitlines()))
    assert len(rows) == len(figures["suspects"]) > 0
    row, known = rows[0], figures["suspects"][0]
    assert (row["given"], row["suggested"]) == (known["given"], known["suggested"])
    index = [int(row[axis]) for axis in "ijk"]
    left, back, up = image.TransformIndexToPhysicalPoint(index)
    assert [float(row[f"{axis}_mm"]) for axis in "ras"] == pytest.approx([-left, -back, up], abs=0.01)
    page = Path("out/report.html").read_text(encoding="utf-8")
    assert "Suspect labels" in page and "<script" not in page and page.count("data:image/png") >= 8


def test_without_labels_there_is_nothing_about_suspects(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command(labels="")) == 0
    assert "There are no labels, so none are suspect." in capsys.readouterr().out
    assert names() == ALWAYS | {"probability_nodule.nii.gz"}
    assert json.loads(Path("out/figures.json").read_text(encoding="utf-8"))["suspects"] == []


@pytest.mark.parametrize("model", ["tiny", "flat"])
def test_command_python_and_worker_give_the_same_voxels(work: Path, model: str) -> None:
    assert cli.main(command(model=model)) == 0
    image, given = read_image("image.nii.gz"), read_segmentation("mask.nii.gz")
    result = map_uncertainty(image, given, load_model(model, "cpu"))
    part, masks = Part.whole(image), masks_of(given)
    request = Request(
        kind="uncertainty",
        model=model,
        device="cpu",
        stages=None,
        grid=part.grid,
        voxels=part.voxels,
        value_range=part.value_range,
        segments=(Segment("nodule", 1, id="mine"),),
        masks=tuple(masks),
    )
    sent = outcome_message(outcome_of(request, WarmModel(), lambda step: None))
    header = json.loads(json.dumps(sent[0]))
    outcome = read_outcome(header, sent[1], part.grid, request.segments)
    whole = part.grid.whole_box()
    for map_ in outcome.maps:
        name = f"probability_{outcome.segments[0].name}" if map_.segment else map_.name
        written = sitk.GetArrayFromImage(read_image(f"out/{name}.nii.gz"))
        own = result.probabilities["Segment_1"] if map_.segment else result.maps[map_.name]
        assert np.array_equal(written, sitk.GetArrayFromImage(own))
        assert np.array_equal(written[map_.region.box], map_.region.values)
        assert (map_.name == "confidence") == (map_.outside == 1)
    written = sitk.GetArrayFromImage(read_segmentation("out/segmentation.seg.nrrd").image)
    assert np.array_equal(written > 0, outcome.stages[-1][0].cut(whole))
    assert np.array_equal(written > 0, sitk.GetArrayFromImage(result.stages[-1].image) > 0)
    assert list(outcome.suspects) == list(result.suspects) and outcome.suspects


def test_mirroring_changes_the_result_where_a_model_allows_it(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command()) == 0
    plain = sitk.GetArrayFromImage(read_image("out/entropy.nii.gz"))
    assert cli.main(command("--mirror", "--overwrite")) == 0
    assert not np.allclose(sitk.GetArrayFromImage(read_image("out/entropy.nii.gz")), plain, atol=1e-4)
    capsys.readouterr()
    shutil.rmtree("out")
    refused(work, capsys, "was not made for mirrored images", *command("--mirror", model="parts"))


def test_names_of_structures_make_safe_files(work: Path) -> None:
    assert cli.main(command(model="parts", labels="")) == 0
    assert {"probability_head.nii.gz", "probability_tail_of_it.nii.gz"} < names()


def test_an_earlier_result_goes_only_as_a_whole(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command()) == 0
    before = contents(work)
    assert cli.main(command()) == 2
    assert "exists already" in capsys.readouterr().err and contents(work) == before
    save("image.nii.gz", 0 * voxels())
    spoilt = contents(work)
    assert cli.main(command("--overwrite")) == 2
    assert contents(work) == spoilt, "what is there stays when the new one fails"
    save("image.nii.gz", voxels())
    assert cli.main(command("--overwrite", labels="")) == 0
    assert names() == ALWAYS | {"probability_nodule.nii.gz"}, "no suspects of earlier labels are left"


def test_a_failing_report_leaves_nothing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: object) -> None:
        raise InputError("The report cannot be written.")

    monkeypatch.setattr("NoisyLabelSegLib.uncertainty_report.write_uncertainty_report", fail)
    assert cli.main(command()) == 2
    assert not Path("out").exists()


@pytest.mark.parametrize(
    "name", [name for name in BAD_IMAGES_AND_MASKS if name not in ("mask empty", "mask elsewhere")]
)
def test_unusable_images_and_labels(work: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    spoil, sentence = BAD_IMAGES_AND_MASKS[name]
    spoil()
    refused(work, capsys, sentence, *command())
    assert not Path("out").exists()


def overlapping() -> None:
    image = picture(np.stack([ball(), ball(shift=2)], axis=-1))
    write_segmentation(Path("two.seg.nrrd"), Segmentation(image, (Segment("head", 1, 0), Segment("Label 2", 1, 1))))


def as_a_file() -> None:
    Path("out").write_text("mine")


BAD: dict[str, tuple[Callable[[], None], list[str], str]] = {
    "unknown class": (lambda: save("mask.nii.gz", 7 * ball()), command(model="parts"), "does not know the segment"),
    "overlap": (overlapping, command(model="parts", labels="two.seg.nrrd"), "a voxel has one label"),
    "elsewhere": (lambda: save("mask.nii.gz", ball(), (900, 0, 0)), command(), "do not overlap in space"),
    "no such segment": (lambda: None, command("--segments", "x"), "no segment 'x'"),
    "segments of nothing": (lambda: None, command("--segments", "x", labels=""), "give labels"),
    "a model that refines": (lambda: None, command(model="refiner"), "use 'noisylabelseg refine'"),
    "no model": (lambda: None, command(model="nobody"), "no model called 'nobody'"),
    "the folder is a file": (as_a_file, command(), "cannot be made"),
    "labels first": (
        lambda: write_segmentation(Path("image.seg.nrrd"), read_segmentation("mask.nii.gz")),
        ["uncertainty", "image.seg.nrrd", "--model", "tiny", "-o", "out"],
        "give the image first",
    ),
}


@pytest.mark.parametrize(("spoil", "given", "sentence"), BAD.values(), ids=BAD.keys())
def test_bad_requests(
    work: Path, capsys: pytest.CaptureFixture[str], spoil: Callable[[], None], given: list[str], sentence: str
) -> None:
    spoil()
    refused(work, capsys, sentence, *given)


def test_a_model_for_uncertainty_is_not_for_refining(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ("refine", "image.nii.gz", "mask.nii.gz", "--model", "tiny", "-o", "out.seg.nrrd")
    refused(work, capsys, "use 'noisylabelseg uncertainty'", *given)


def test_an_input_is_never_overwritten(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(command()) == 0
    shutil.move("mask.nii.gz", "out/probability_nodule.nii.gz")
    capsys.readouterr()
    refused(work, capsys, "is an input", *command("--overwrite", labels="out/probability_nodule.nii.gz"))


def test_what_was_not_written_here_is_not_removed(work: Path) -> None:
    assert cli.main(command()) == 0
    shutil.copy("mask.nii.gz", "out/probability_mine.nii.gz")
    shutil.move("out/probability_nodule.nii.gz", "out/probability_other.nii.gz")
    figures = Path("out/figures.json")
    named = [*json.loads(figures.read_text("utf-8"))["probabilities"], "probability_other.nii.gz", "../image.nii.gz", 3]
    figures.write_text(json.dumps({"probabilities": named}), encoding="utf-8")
    assert cli.main(command("--overwrite")) == 0
    assert names() == WITH_LABELS | {"probability_mine.nii.gz"} and Path("image.nii.gz").exists()


def test_the_reports_numbers_stand_below_their_headings(work: Path) -> None:
    assert cli.main(command()) == 0
    page = Path("out/report.html").read_text(encoding="utf-8")
    table = page[page.index("Rank") :]
    headings = re.findall('<th[^>]* scope="col">([^<]*)</th>', '<th scope="col">' + table[: table.index("</thead>")])
    cells = re.findall('<t[hd](?: scope="row")?>([^<]*)</t[hd]>', table[table.index("<tbody>") :])[: len(headings)]
    first = json.loads(Path("out/figures.json").read_text("utf-8"))["suspects"][0]
    row = dict(zip(headings, cells, strict=True))
    assert row["Score"] == f"{first['score']:.2f}" and row["Volume (mm³)"] == f"{first['volume_mm3']:,.1f}"
    assert row["I, J, K"] == ", ".join(map(str, first["index"]))
    assert row["R, A, S (mm)"] == ", ".join(f"{value:.1f}" for value in first["ras_mm"])


def test_empty_labels_are_a_note(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save("mask.nii.gz", 0 * ball())
    assert cli.main(command()) == 0
    assert "suspect.nii.gz" not in names()
    assert "The labels are empty" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("key", "value", "sentence"),
    [
        ("out_channels", 3, "out_channels is 3 instead of 2"),
        ("in_channels", 0, "in_channels is 0 instead of 1"),
        ("spatial_dims", 2, "spatial_dims is 2 instead of 3"),
        ("kind", "refine", "its kind is refine instead of uncertainty"),
        ("mirror", [3], "The axes to mirror, [3]"),
        ("threshold", 2, "threshold must lie between 0 and 1"),
    ],
)
def test_bundles_whose_parts_do_not_fit(models: Path, key: str, value: object, sentence: str) -> None:
    content = json.loads((models / "tiny" / "configs" / "model.json").read_text(encoding="utf-8"))
    place = {"kind": content, "mirror": content["method_arguments"], "threshold": content["method_arguments"]}
    place.get(key, content["network"]["arguments"])[key] = value
    with pytest.raises(InputError, match=re.escape(sentence)):
        check_fitness(convert(ModelDescription, content, "it"))


def test_hostile_names_do_no_harm(work: Path) -> None:
    evil = "=<script>alert(1)</script>"
    write_segmentation(Path("evil.seg.nrrd"), Segmentation(picture(ball(shift=2)), (Segment(evil, 1, id="x"),)))
    assert cli.main(command(labels="evil.seg.nrrd")) == 0
    assert "<script" not in Path("out/report.html").read_text(encoding="utf-8")
    assert all(
        row["given"][:1] != "="
        for row in csv.DictReader(Path("out/suspects.csv").read_text(encoding="utf-8").splitlines())
    )
    assert all(re.fullmatch(r"[\w.]+", name) for name in names())
