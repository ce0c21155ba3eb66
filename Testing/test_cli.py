"""The command line: what it writes, says and leaves alone."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_models import ball, contents, picture, write_case, write_model, write_overlapping

from NoisyLabelSegLib import batch, cases, cli, files, outputs, pipeline, report, summary
from NoisyLabelSegLib.commands import demo
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image, write_image
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.segmentations import read_segmentation, write_segmentation


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    write_model(folder / "tiny")
    write_model(folder / "parts", ("anterior", "posterior"), 3)
    return folder


@pytest.fixture(autouse=True)
def home(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(models))
    for variable in ("HOME", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def case(tmp_path: Path) -> tuple[Path, Path]:
    return write_case(tmp_path / "case")


def run(*arguments: object) -> int:
    return cli.main([str(argument) for argument in arguments])


def refine(case: tuple[Path, Path], *arguments: object, out: str = "out.seg.nrrd") -> int:
    return run("refine", *case, "--model", "tiny", "-o", out, *arguments)


# One case


def test_help_is_quick_and_needs_nothing_heavy() -> None:
    started = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "NoisyLabelSegLib", "--help"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(cli.__file__).parents[1])},
        check=True,
    )
    assert time.monotonic() - started < 3  # 0.05 s here; the bound only has to tell it from importing torch
    assert "refine" in process.stdout
    for heavy in ("torch", "monai", "SimpleITK", "numpy", "rich"):
        assert f" {heavy}\n" not in process.stderr


def test_refine_writes_all_that_is_asked_for(
    case: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = contents(tmp_path / "case")
    assert refine(case, "--all-stages", "--report", "r.html", "--figures", "f.json", "--stages", 2) == 0
    out, err = capsys.readouterr()
    figures = json.loads((tmp_path / "f.json").read_text(), parse_constant=pytest.fail)
    stages = max(row["stage"] for row in figures["statistics"])
    written = {"out.seg.nrrd", "r.html", "f.json", *(f"out_stage{n + 1}.seg.nrrd" for n in range(stages))}
    assert {path.name for path in tmp_path.iterdir()} == {"case", *written}
    assert all(f"written: {name}" in out for name in written)
    assert "my nodule" in out
    assert "cpu" in out
    assert all(line.startswith("note: ") for line in err.splitlines())
    assert len(err.splitlines()) == len(figures["notes"])
    assert contents(tmp_path / "case") == before


def test_where_a_result_comes_from_is_in_it(case: tuple[Path, Path]) -> None:
    refine(case, "--figures", "f.json", "--stages", 1)
    provenance = json.loads(Path("f.json").read_text())["provenance"]
    assert (provenance["image"], provenance["mask"]) == ("image.nii.gz", "mask.seg.nrrd")
    header = sitk.ReadImage("out.seg.nrrd")
    assert header.GetMetaData("NoisyLabelSeg_model") == "tiny"
    assert header.GetMetaData("NoisyLabelSeg_model_sha256") == provenance["model"]["sha256"]
    assert json.loads(header.GetMetaData("NoisyLabelSeg_settings"))["stages"] == 1
    assert header.GetMetaData("NoisyLabelSeg_image") == "image.nii.gz"
    assert not any(str(Path.cwd()) in header.GetMetaData(key) for key in header.GetMetaDataKeys())


def test_the_volumes_that_are_told_are_right(case: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    refine(case)
    masks = [read_segmentation(path) for path in (case[1], "out.seg.nrrd")]
    before, after = (sitk.GetArrayFromImage(s.mask(s.segments[0])) for s in masks)
    voxel = 0.7 * 0.7 * 2.5
    wanted = [f"{count * voxel:,.1f}" for count in (before.sum(), after.sum(), (before != after).sum())]
    row = next(line for line in capsys.readouterr().out.splitlines() if "my nodule" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")][1:4] == wanted


def test_command_and_python_give_the_same_voxels(case: tuple[Path, Path]) -> None:
    refine(case)
    result = pipeline.refine(read_image(case[0]), read_segmentation(case[1]), load_model("tiny", "cpu"))
    wanted = sitk.GetArrayFromImage(result.stages[-1].image)
    assert np.array_equal(sitk.GetArrayFromImage(read_segmentation("out.seg.nrrd").image), wanted)


@pytest.mark.parametrize("suffix", [".seg.nrrd", ".nii", ".nii.gz", ".nrrd", ".mha", ".NII.GZ"])
def test_any_segmentation_format_can_be_written(case: tuple[Path, Path], suffix: str) -> None:
    assert refine(case, "--stages", 1, "--all-stages", out=f"out{suffix}") == 0
    assert Path(f"out_stage1{suffix}").is_file()
    assert read_segmentation(f"out{suffix}").image.GetSize() == read_image(case[0]).GetSize()


def test_overlapping_segments_keep_names_and_layers(case: tuple[Path, Path], tmp_path: Path) -> None:
    write_overlapping(tmp_path / "two.seg.nrrd")
    assert refine((case[0], tmp_path / "two.seg.nrrd"), "--segments", "left one") == 0
    result = read_segmentation("out.seg.nrrd")
    assert result.names == ("left one", "right one")
    assert [segment.layer for segment in result.segments] == [0, 1]
    right = sitk.GetArrayFromImage(result.mask(result.segments[1]))
    assert np.array_equal(right, ball(shift=2)), "a segment that was not chosen stays as it is"


def test_neighbours_that_grow_into_each_other_can_be_written_as_a_label_map(
    case: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    halves = ball() * np.where(np.arange(24) < 12, 1, 2)
    write_image("halves.nii.gz", picture(halves.astype(np.uint8)))
    assert refine((case[0], Path("halves.nii.gz")), "--all-stages", out="out.nii.gz") == 0
    err = capsys.readouterr().err
    assert "'Label 1' and 'Label 2'" in err, "otherwise this shows nothing"
    assert set(np.unique(sitk.GetArrayFromImage(sitk.ReadImage("out.nii.gz")))) == {0, 1, 2}


def test_growing_into_a_segment_that_is_kept_needs_a_file_with_layers(
    case: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    halves = ball() * np.where(np.arange(24) < 12, 1, 2)
    write_image("halves.nii.gz", picture(halves.astype(np.uint8)))
    given = (case[0], Path("halves.nii.gz"))
    assert refine(given, "--segments", "Label 1", out="out.nii.gz") == 2
    assert "save as .seg.nrrd" in capsys.readouterr().err
    assert not Path("out.nii.gz").exists()
    assert refine(given, "--segments", "Label 1", out="out.seg.nrrd") == 0


def test_a_model_of_several_structures_in_3d(case: tuple[Path, Path], tmp_path: Path) -> None:
    labels = ball() + (np.arange(24) > 12) * ball()
    write_image(tmp_path / "labels.nii.gz", picture(labels.astype(np.uint8)))
    assert run("refine", case[0], "labels.nii.gz", "--model", "parts", "-o", "out.nii.gz") == 0
    assert {segment.label for segment in read_segmentation("out.nii.gz").segments} <= {1, 2}


def test_start_from_nothing(case: tuple[Path, Path]) -> None:
    assert run("refine", case[0], "--from-nothing", "-m", "parts", "-o", "out.seg.nrrd", "--stages", 1) == 0
    assert read_segmentation("out.seg.nrrd").names == ("anterior", "posterior")


def test_outputs_are_replaced_only_when_allowed(case: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    refine(case, "--all-stages")
    Path("out_stage9.seg.nrrd").write_text("of a longer run")
    before = contents(Path.cwd())
    assert refine(case) == 2
    assert "out.seg.nrrd exists already" in capsys.readouterr().err
    assert contents(Path.cwd()) == before
    assert refine(case, "--all-stages", "--overwrite") == 0
    assert not Path("out_stage9.seg.nrrd").exists()


def test_a_failing_report_leaves_nothing(case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise InputError("No space.")

    before = contents(Path.cwd())
    monkeypatch.setattr(report, "write_report", fail)
    assert refine(case, "--report", "r.html", "--all-stages") == 2
    assert contents(Path.cwd()) == before
    assert [path.name for path in Path.cwd().iterdir()] == ["case"]


@pytest.mark.parametrize(
    ("error", "code", "sentence"),
    [
        (KeyboardInterrupt(), 130, "stopped: "),
        (RuntimeError("a\nb"), 1, "error: Something unforeseen happened (RuntimeError: a b); add --debug"),
        (InputError("This one."), 2, "error: This one."),
    ],
)
def test_how_it_ends(
    case: tuple[Path, Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    sentence: str,
) -> None:
    monkeypatch.setattr(files, "refine", raising(error))
    assert refine(case) == code
    err = capsys.readouterr().err
    assert err.startswith(sentence)
    assert len(err.splitlines()) == 1
    assert [path.name for path in Path.cwd().iterdir()] == ["case"]


def test_debug_shows_the_traceback(case: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "refine", raising(RuntimeError("deep inside")))
    with pytest.raises(RuntimeError, match="deep inside"):
        refine(case, "--debug")


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object) -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    ("value", "wanted"),
    [(float("nan"), None), ((1.5, float("inf")), [1.5, None]), ({"a": {1: True}}, {"a": {"1": True}}), ("x", "x")],
)
def test_plain_json(value: object, wanted: object) -> None:
    assert outputs.plain_json(value) == wanted


# Many cases


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three cases, the second with a broken mask."""
    folder = tmp_path / "cases"
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    image, mask = write_case(tmp_path / "made")
    for name in "abc":
        shutil.copy(image, folder / "images" / f"{name}_0000.nii.gz")
        shutil.copy(mask, folder / "masks" / f"{name}.seg.nrrd")
    (folder / "masks" / "b.seg.nrrd").write_bytes(mask.read_bytes()[:200])
    shutil.rmtree(tmp_path / "made")
    return folder


def many(source: Path, *arguments: object) -> int:
    return run("refine", "--cases", source, "-m", "tiny", "-o", "results", "--stages", 2, *arguments)


def rows() -> list[dict[str, str]]:
    with Path("results/summary.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def names(folder: str = "results") -> set[str]:
    return {path.name for path in Path(folder).iterdir()}


def test_one_bad_case_does_not_stop_the_others(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    assert many(folder, "--reports") == 3
    out, err = capsys.readouterr()
    assert "2 done, 0 done before, 1 failed" in out
    assert err.startswith("error: b: ")
    assert names() == {"a.seg.nrrd", "a.html", "c.seg.nrrd", "c.html", "summary.csv"}
    assert [(row["id"], row["status"]) for row in rows()] == [("a", "done"), ("b", "failed"), ("c", "done")]
    assert "damaged" in rows()[1]["message"]
    assert float(rows()[0]["volume_before_mm3"]) == pytest.approx(ball(shift=2).sum() * 0.7 * 0.7 * 2.5, rel=1e-3)
    assert contents(folder) == before


def test_what_is_done_is_not_done_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    many(folder)
    done = contents(Path("results"))
    shutil.copy(folder / "masks" / "a.seg.nrrd", folder / "masks" / "b.seg.nrrd")
    assert many(folder) == 0
    assert "1 done, 2 done before, 0 failed" in capsys.readouterr().out
    assert {key: contents(Path("results"))[key] for key in ("a.seg.nrrd", "c.seg.nrrd")}.items() <= done.items()
    monkeypatch.setattr(batch, "load_model", raising(AssertionError("nothing is left to do")))
    assert many(folder) == 0


def test_a_run_that_was_cut_off_is_taken_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "masks" / "b.seg.nrrd").unlink()
    (folder / "images" / "b_0000.nii.gz").unlink()
    whole = batch.refine_files

    def stop_after_writing(image: Path, *rest: Any) -> Any:
        result = whole(image, *rest)
        if image.name.startswith("c"):
            raise KeyboardInterrupt
        return result

    monkeypatch.setattr(batch, "refine_files", stop_after_writing)
    assert many(folder) == 130
    assert [row["status"] for row in rows()] == ["done", "running"]
    monkeypatch.setattr(batch, "refine_files", whole)
    assert many(folder) == 0
    assert [row["status"] for row in rows()] == ["done", "done"]


def test_other_settings_never_mix_with_old_results(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many(folder, "--reports", "--all-stages")
    before = contents(Path("results"))
    capsys.readouterr()
    assert many(folder, "--stages", 1) == 2
    assert "a.seg.nrrd is there already, from other input, another model, other settings" in capsys.readouterr().err
    assert contents(Path("results")) == before
    assert many(folder, "--stages", 1, "--overwrite") == 3
    assert names() == {"a.seg.nrrd", "c.seg.nrrd", "summary.csv"}, "reports and stages of the old results are gone"
    assert {row["stages_run"] for row in rows()} == {"1", ""}


def test_a_changed_input_is_noticed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    many(folder)
    os.utime(folder / "images" / "a_0000.nii.gz", (1, 1))
    assert many(folder) == 2
    assert "other input" in capsys.readouterr().err


def test_results_never_replace_the_masks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(folder)
    assert run("refine", "--cases", folder, "-m", "tiny", "-o", folder / "masks", "--overwrite") == 2
    assert "holds the cases themselves" in capsys.readouterr().err
    assert contents(folder) == before


def table(text: str) -> Path:
    Path("list.csv").write_text("id,image,mask\n" + text, encoding="utf-8")
    return Path("list.csv")


@pytest.mark.parametrize(
    "wanted",
    [
        "a,{i},results/a_stage1.seg.nrrd",
        "a,{i},results/a.seg.nrrd",
        "b,{i},{m}\na,{i},results/b.seg.nrrd",
        "a,{i},{m}\nb,{i},results/a_stage1.seg.nrrd",
        "a,{i},{m}\nb,{i},link/a_stage1.seg.nrrd",
        "a,{i},{m}\nb,{i},results/c_stage2.seg.nrrd\nc,{i},{m}",
        "a,{i},{m}\nc,results/a.html,{m}",
    ],
)
def test_no_input_of_any_case_is_removed(
    case: tuple[Path, Path], capsys: pytest.CaptureFixture[str], wanted: str
) -> None:
    many(table("a,{},{}".format(*case)), "--all-stages", "--reports")
    shutil.copy(case[1], "results/b.seg.nrrd")
    os.symlink(case[1], "results/c_stage2.seg.nrrd")
    os.symlink("results", "link")
    before = contents(Path.cwd())
    capsys.readouterr()
    assert many(table(wanted.format(i=case[0], m=case[1])), "--overwrite", "--stages", 1) == 2
    assert "is an input of this run" in capsys.readouterr().err
    Path("list.csv").write_bytes(b"")
    assert contents(Path.cwd()) == {**before, "list.csv": contents(Path.cwd())["list.csv"]}


def test_a_stage_and_another_case_never_share_a_name(
    case: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = case
    assert many(table(f"a,{image},{mask}\nA_stage2,{image},{mask}")) == 2
    assert "give one of them another id" in capsys.readouterr().err


def test_a_folder_of_the_cases_takes_no_results(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(folder)
    assert run("refine", "--cases", ".", "-m", "tiny", "-o", "../cases/images") == 2
    assert run("refine", "--cases", table("a,images,masks/a.seg.nrrd"), "-m", "tiny", "-o", "images") == 2
    assert capsys.readouterr().err.count("holds the cases themselves") == 2
    assert run("refine", "--cases", ".", "-m", "tiny", "-o", ".", "--stages", 1) == 3


def test_old_results_stay_until_the_new_are_there(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    many(folder, "--reports", "--all-stages")
    before = contents(Path("results"))
    monkeypatch.setattr(files, "refine", raising(RuntimeError("no memory")))
    assert many(folder, "--stages", 1, "--overwrite") == 3
    assert {**contents(Path("results")), "summary.csv": before["summary.csv"]} == before
    assert [row["message"].endswith("The earlier result was kept.") for row in rows()] == [True, False, True]
    monkeypatch.undo()
    monkeypatch.chdir(folder.parent)
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(folder.parent / "models"))
    write_model(folder.parent / "models" / "tiny")
    capsys.readouterr()
    assert many(folder, "--stages", 1) == 2, "what is there is not of the request that failed"
    assert "is there already" in capsys.readouterr().err
    assert many(folder, "--stages", 1, "--overwrite") == 3
    assert names() == {"a.seg.nrrd", "c.seg.nrrd", "summary.csv"}


def test_a_strangers_report_is_not_removed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("results").mkdir()
    Path("results/a.html").write_text("mine")
    assert many(folder) == 2
    assert "a.html is there already" in capsys.readouterr().err
    assert Path("results/a.html").read_text() == "mine"


def test_names_never_become_formulas(folder: Path) -> None:
    mask = read_segmentation(folder / "masks" / "a.seg.nrrd")
    formula = '=HYPERLINK("http://example.org")'
    hostile = replace(mask, segments=(replace(mask.segments[0], name=formula),))
    write_segmentation(folder / "masks" / "a.seg.nrrd", hostile)
    many(folder)
    many(folder)
    assert [row["segment"] for row in rows()] == [f"'{formula}", "", "my nodule"]


@pytest.mark.parametrize("sign", ["=", "+", "-", "@", "\t=", "\r+", "\n-"])
def test_messages_never_become_formulas(tmp_path: Path, sign: str) -> None:
    summary.Summary(tmp_path / "s.csv").fail("a", "1", f"{sign}cmd")
    for _ in range(2):
        again = summary.Summary(tmp_path / "s.csv")
        assert again.status("a") == ("failed", "1")
        again.begin("b", "2")
    with (tmp_path / "s.csv").open(newline="") as file:
        assert [row["message"] for row in csv.DictReader(file)] == [f"'{sign.strip()}cmd", ""]


def test_odd_paths_of_one_case_do_not_stop_the_others(case: tuple[Path, Path]) -> None:
    image, mask = case
    assert many(table(f"a,{'x' * 5000}.nii,{mask}\nb,{image},{mask}\nc,{image}/x.nii,{image.parent}")) == 3
    assert [row["status"] for row in rows()] == ["failed", "done", "failed"]


def test_cases_from_a_table(tmp_path: Path) -> None:
    write_case(tmp_path / "x")
    (tmp_path / "list.csv").write_text("id;image;mask\nfirst;x/image.nii.gz;x/mask.seg.nrrd\n;x/image.nii.gz;\n")
    assert cases.find_cases(tmp_path / "list.csv") == [
        cases.Case("first", tmp_path / "x/image.nii.gz", tmp_path / "x/mask.seg.nrrd"),
        cases.Case("image", tmp_path / "x/image.nii.gz", None),
    ]
    assert many(tmp_path / "list.csv") == 3
    assert [row["status"] for row in rows()] == ["done", "failed"]
    assert many(tmp_path / "list.csv", "--from-nothing", "--overwrite") == 0


@pytest.mark.parametrize(("images", "masks"), cases.FOLDER_PAIRS)
def test_cases_from_a_folder_belong_together_by_name(tmp_path: Path, images: str, masks: str) -> None:
    for name in (f"{images}/a_0000.nii.gz", f"{images}/b.mha", f"{images}/._b.mha", f"{masks}/a.seg.nrrd"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [(case.id, case.image and case.image.name, case.mask and case.mask.name) for case in _found(tmp_path)]
    assert found == [("a", "a_0000.nii.gz", "a.seg.nrrd"), ("b", "b.mha", None)]


def _found(folder: Path) -> list[cases.Case]:
    return cases.find_cases(folder)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "no column 'image'"),
        ("picture,mask\na,b\n", "no column 'image'"),
        ("image,mask\n", "holds no cases"),
        ("image,mask\n,b\n", "a line without an image"),
        ("image,mask\na.nii,b\nx/a.nii,b\n", "the case 'a' twice"),
        ("image,mask,id\na.nii,b,x\nb.nii,b,X\n", "the case 'X' twice"),
        ("image,mask,id\na.nii,b,../x\n", "cannot name a file"),
        ("image,mask,id\na.nii,b,.x\n", "cannot name a file"),
        ("image,mask\na\0.nii,b\n", "cannot be read as a CSV table"),
        (b"\xff\xfe\x00", "cannot be read as a CSV table"),
    ],
)
def test_bad_tables(tmp_path: Path, text: str | bytes, sentence: str) -> None:
    (tmp_path / "list.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=sentence):
        cases.find_cases(tmp_path / "list.csv")


# Models and the demonstration


def test_models_are_listed_and_the_broken_ones_explained(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = tmp_path / "mine"
    shutil.copytree(models / "tiny", mine / "damaged")
    (mine / "damaged" / "models" / "model.safetensors").write_bytes(b"short")
    monkeypatch.setenv("NOISYLABELSEG_MODELS", os.pathsep.join([str(models), str(mine)]))
    assert run("models") == 0
    out = capsys.readouterr().out
    assert "Dice 0.9 (Noise, 3 cases)" in out
    assert "damaged cannot be used: " in out


def test_show_verify_and_import_a_model(models: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("models", "show", "parts") == 0
    out = capsys.readouterr().out
    for part in ("anterior", "posterior", "#ff8000", "Anything else.", "Noise, CC0-1.0", "README.md"):
        assert part in out
    assert run("models", "verify", "tiny") == 0
    assert capsys.readouterr().out.startswith("ok: tiny 0.1.0, SHA-256 ")
    archive = shutil.make_archive(str(tmp_path / "tiny"), "zip", models / "tiny")
    assert run("models", "import", archive) == 0
    assert run("models", "import", archive) == 2
    assert "exists already" in capsys.readouterr().err
    assert run("models", "import", archive, "--overwrite") == 0


def test_the_demonstration_can_be_started_again_and_again(
    models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    image, mask = write_case(tmp_path / "samples" / demo.SAMPLE)
    shutil.copy(mask, mask.with_name("coarse.seg.nrrd"))
    mask.rename(mask.with_name("expert.seg.nrrd"))
    monkeypatch.setattr(demo, "sample_folder", lambda: tmp_path / "samples")
    monkeypatch.setattr(demo, "MODEL", "tiny")
    assert image.name == "image.nii.gz"
    assert run("demo") == 0
    assert run("demo") == 0
    assert "Dice to the expert's mask: 1.000 before" in capsys.readouterr().out
    assert names(str(demo.FOLDER)) == {"refined.seg.nrrd", "report.html", "figures.json"}
    assert run("demo", "-o", demo.FOLDER) == 2


@pytest.mark.parametrize(
    ("arguments", "terminal", "sentence"),
    [
        ((), True, "The worker talks to a program, such as 3D Slicer, not to a person"),
        (("--idle", "0"), False, "argument --idle: give a number of seconds, not '0'"),
        (("--idle", "soon"), False, "argument --idle: give a number of seconds, not 'soon'"),
    ],
)
def test_the_worker_is_not_for_persons(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    terminal: bool,
    sentence: str,
) -> None:
    stdin = io.StringIO()
    monkeypatch.setattr(stdin, "isatty", lambda: terminal)
    monkeypatch.setattr(sys, "stdin", stdin)
    assert run("worker", *arguments) == 2
    assert sentence in capsys.readouterr().err


def test_text_of_strangers_cannot_steer_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("refine", "a\x1b[31m[bold]", "b", "-m", "tiny", "-o", "out.seg.nrrd")
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert "[bold]" in err
