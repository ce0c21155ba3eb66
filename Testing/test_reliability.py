"""The reliability diagram shows each model's bins, and is an SVG picture whatever a model is called."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from NoisyLabelSegLib.calibration import CalibrationCounts, counts_of
from NoisyLabelSegLib.errors import InputError
from training.reliability import ACCURACY, SIDE, write_reliability

SVG = "{http://www.w3.org/2000/svg}"


def counts(confidence: float, correct: int, wrong: int) -> CalibrationCounts:
    """Voxels of one confidence, so that they lie in one bin."""
    labels = np.array([1] * correct + [0] * wrong, np.int64)
    structure = np.full(len(labels), confidence)
    return counts_of(np.stack([1 - structure, structure]), labels, "all")


def drawn(folder: Path, models: dict[str, CalibrationCounts], caption: str = "all voxels") -> ElementTree.Element:
    path = folder / "reliability.svg"
    write_reliability(path, models, caption)
    return ElementTree.parse(path).getroot()


def panels(root: ElementTree.Element) -> list[ElementTree.Element]:
    return [group for group in root.findall(f"{SVG}g") if group.findall(f"{SVG}line")]


def columns(panel: ElementTree.Element) -> list[tuple[str, float, float]]:
    """Fill, top and height of each."""
    boxes = panel.findall(f"{SVG}rect")
    return [(box.attrib["fill"], float(box.attrib["y"]), float(box.attrib["height"])) for box in boxes]


def texts(element: ElementTree.Element) -> list[str]:
    return [text.text or "" for text in element.iter(f"{SVG}text")]


@pytest.mark.parametrize(
    ("confidence", "correct", "wrong", "fill"), [(0.9, 6, 4, "url(#sure)"), (0.7, 9, 1, "url(#unsure)")]
)
def test_a_column_is_as_high_as_the_accuracy_and_its_gap_says_which_way(
    tmp_path: Path, confidence: float, correct: int, wrong: int, fill: str
) -> None:
    column, gap, share = columns(panels(drawn(tmp_path, {"A": counts(confidence, correct, wrong)}))[0])
    accuracy = correct / 10
    assert column[0] == share[0] == ACCURACY
    assert column[2] == pytest.approx(accuracy * SIDE, abs=0.01)
    assert gap[0] == fill
    assert gap[2] == pytest.approx(abs(confidence - accuracy) * SIDE, abs=0.01)
    upper = max(confidence, accuracy)
    assert column[1] + column[2] - gap[1] == pytest.approx(upper * SIDE, abs=0.02)


def test_each_bin_with_voxels_has_its_share(tmp_path: Path) -> None:
    both = counts(0.9, 2, 1) + counts(0.6, 1, 0)
    heights = [height for _, _, height in columns(panels(drawn(tmp_path, {"A": both}))[0])]
    assert len(heights) == 6
    assert heights[5] == pytest.approx(3 * heights[2], abs=0.05)


def test_models_stand_side_by_side_with_their_errors(tmp_path: Path) -> None:
    models = {"Ours": counts(0.9, 8, 2), "Dice + CE": counts(0.9, 6, 4)}
    root = drawn(tmp_path, models, "44 test cases")
    ours, theirs = map(texts, panels(root))
    assert ours[:2] == ["Ours", "ECE 0.1000, 10 voxels"]
    assert theirs[:2] == ["Dice + CE", "ECE 0.3000, 10 voxels"]
    assert texts(root)[-1] == "44 test cases"


def test_counts_without_voxels_have_an_empty_panel(tmp_path: Path) -> None:
    (panel,) = panels(drawn(tmp_path, {"A": counts(0.5, 0, 0)}))
    assert columns(panel) == []
    assert texts(panel)[1] == "no voxels"


def test_names_are_text_and_never_markup(tmp_path: Path) -> None:
    hostile = "<script>alert(1)</script>\"'&-->"
    root = drawn(tmp_path, {hostile: counts(0.9, 1, 0)}, hostile)
    assert texts(root)[0] == texts(root)[-1] == hostile
    assert not list(root.iter(f"{SVG}script"))


def test_a_long_caption_has_room(tmp_path: Path) -> None:
    short, long = (drawn(tmp_path, {"A": counts(0.9, 1, 0)}, "n" * letters) for letters in (10, 90))
    assert float(long.attrib["width"]) > float(short.attrib["width"])


def test_no_models_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="one model at least"):
        write_reliability(tmp_path / "reliability.svg", {}, "")
