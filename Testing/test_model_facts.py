"""What the panel says about a model: complete, and harmless whatever the model's author wrote."""

from __future__ import annotations

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegSlicer.model_facts import details, summary, unknown_segments, value_warning

MODELS = Path(__file__).resolve().parents[1] / "Resources" / "Models"
SHIPPED = sorted(path.name for path in MODELS.iterdir() if path.is_dir())


def content(model: str = "lidc-nodule-refine", **changed: Any) -> dict[str, Any]:
    found = json.loads((MODELS / model / "configs" / "model.json").read_text(encoding="utf-8"))
    return {**found, **changed}


def structures(*names: str) -> list[dict[str, Any]]:
    return [{"value": n, "name": name, "color": [1, 0.5, 0], "terminology": ""} for n, name in enumerate(names, 1)]


class Page(HTMLParser):
    """The tags and the visible text of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.links: list[str | None] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.links += [value for name, value in attrs if name in ("href", "src", "background")]

    def handle_data(self, data: str) -> None:
        self.text += data + "\n"


def test_one_line_tells_models_apart() -> None:
    assert summary(content()) == "CT, lung nodule · refine · CC BY 4.0 · Dice per slice 0.854 on 117 cases"
    assert summary(content(quality=[])).endswith("not measured")


@pytest.mark.parametrize("name", SHIPPED)
def test_everything_that_a_person_must_know_is_shown(name: str) -> None:
    said = content(name)
    page = Page(details(said, "/models/<here>"))
    expected = [said["name"], said["modality"], said["anatomy"], said["licence"], said["intended_use"], said["not_for"]]
    expected += [said["weights"]["sha256"], "/models/<here>", *(label["name"] for label in said["labels"])]
    expected += [data[key] for data in said["training_data"] for key in ("name", "licence", "citation")]
    expected += [f"{quality[key]}" for quality in said["quality"] for key in ("metric", "dataset", "cases", "note")]
    assert [text for text in expected if text not in page.text] == []
    assert page.links == [data["url"] for data in said["training_data"] if data["url"]]


HOSTILE = '</td></table><img src="file:///etc/passwd"><script>x</script><a href="javascript:x">&amp;'


def test_a_strangers_markup_is_but_text() -> None:
    said = content(
        version=HOSTILE,
        modality=HOSTILE,
        anatomy=HOSTILE,
        licence=HOSTILE,
        intended_use=HOSTILE,
        not_for=HOSTILE,
        method=HOSTILE,
        method_arguments={HOSTILE: HOSTILE},
        labels=structures(HOSTILE),
        expected_intensity=[{"minimum": None, "maximum": None, "description": HOSTILE, "unit": HOSTILE}],
        training_data=[{"name": HOSTILE, "licence": HOSTILE, "url": f'https://a"{HOSTILE}', "citation": HOSTILE}],
        quality=[{"metric": HOSTILE, "value": 1, "dataset": HOSTILE, "cases": 1, "note": HOSTILE, "unit": HOSTILE}],
    )
    page = Page(details(said, HOSTILE))
    assert page.tags <= {"a", "b", "br", "h3", "h4", "span", "table", "td", "th", "tr"}
    assert page.links == [f'https://a"{HOSTILE}'], "the one link, and nothing else that could load anything"
    assert page.text.count(HOSTILE) >= 17


@pytest.mark.parametrize(
    "changed",
    [
        {"kind": "guess"},
        {"name": "<b>"},
        {"training_data": [{"name": "", "licence": "", "url": "javascript:x", "citation": ""}]},
    ],
)
def test_what_is_no_description_is_not_shown(changed: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        details(content(**changed))


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [
        (-1024, 3071, ""),
        (-3024, 4000, ""),
        (0, 255, ""),  # CT scaled to 8 bits, perhaps: told with the result
        (-200, 400, "The image's values run from -200 to 400, but lidc-nodule-refine was made for"),
        (-1024, 60000, "is this CT? The result may be wrong."),
        (0, 1200.5, "from 0 to 1200.5"),
    ],
)
def test_a_volume_of_other_values_is_warned_of(low: float, high: float, said: str) -> None:
    warning = value_warning(content(), low, high)
    assert said in warning and bool(warning) == bool(said)
    assert value_warning(content(expected_intensity=[]), low, high) == ""


@pytest.mark.parametrize(
    ("known", "chosen", "unknown"),
    [
        (("nodule",), ("Tumour", "anything"), []),
        (("liver", "Spleen"), ("Liver", "spleen"), []),
        (("liver", "Spleen"), ("Label 1", "label 2", "Label 3", "2"), ["Label 3", "2"]),
        (("liver", "Spleen"), ("kidney", "liver", "Segment_1"), ["kidney", "Segment_1"]),
        (("liver", "Spleen"), (), []),
    ],
)
def test_segments_that_a_model_does_not_know_are_named(
    known: tuple[str, ...], chosen: tuple[str, ...], unknown: list[str]
) -> None:
    assert unknown_segments(content(labels=structures(*known)), chosen) == unknown
