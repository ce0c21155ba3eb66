"""The panel's .ui file: what Qt Designer, 3D Slicer and people with a keyboard or a screen reader rely on."""

from __future__ import annotations

import ast
import xml.etree.ElementTree as ElementTree
from collections import Counter
from collections.abc import Iterator

import pytest
from qt_calls import FILES, MODULE, UI

TREE = ElementTree.parse(UI)
ROOT = TREE.getroot()
WIDGETS = list(TREE.iter("widget"))
CLASSES = {widget.attrib["name"]: widget.attrib["class"] for widget in WIDGETS}
SCENE_CHANGED = ("mrmlSceneChanged(vtkMRMLScene*)", "setMRMLScene(vtkMRMLScene*)")
# Sections and boxes are buttons too: they open and close.
FOCUSABLE = {
    *("QCheckBox", "QComboBox", "QLineEdit", "QListWidget", "QPushButton", "QSlider", "QSpinBox", "QTableWidget"),
    *("QTextBrowser", "ctkCollapsibleButton", "ctkCollapsibleGroupBox", "ctkPathLineEdit", "ctkSliderWidget"),
    "qMRMLNodeComboBox",
}
# What 3D Slicer's parameterNodeWrapper can bind, by the exact class of the widget (guiConnectors.py).
BINDABLE = {
    "qMRMLNodeComboBox": ("slicer.vtkMRML",),
    "QCheckBox": ("bool",),
    "QComboBox": ("Device",),
    "QSpinBox": ("Annotated[int",),
}


def text_of(widget: ElementTree.Element, name: str) -> str:
    """A property as text; empty when it is not set."""
    found = widget.find(f"property[@name='{name}']")
    return "" if found is None else "".join(found.itertext()).strip()


def parameters() -> dict[str, str]:
    """Names and annotations of the module's parameter node."""
    tree = ast.parse((MODULE / "NoisyLabelSeg.py").read_bytes())
    [node] = [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and n.name == "NoisyLabelSegParameterNode"]
    return {ast.unparse(n.target): ast.unparse(n.annotation) for n in node.body if isinstance(n, ast.AnnAssign)}


def names_in_code() -> Iterator[str]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) in ("ui", "self.ui", "self._ui"):
                yield node.attr


def test_the_root_takes_a_scene_and_names_are_unique() -> None:
    root = ROOT.find("widget")
    assert root is not None and (root.attrib["class"], root.attrib["name"]) == ("qMRMLWidget", "NoisyLabelSeg")
    assert text_of_child(ROOT, "class") == "NoisyLabelSeg"
    assert [name for name, count in Counter(w.attrib["name"] for w in WIDGETS).items() if count > 1] == []


def text_of_child(element: ElementTree.Element, name: str) -> str:
    return element.findtext(name) or ""


def test_every_name_that_the_code_uses_exists() -> None:
    assert set(names_in_code()) - set(CLASSES) == set()


def test_every_widget_that_answers_is_used() -> None:
    """Else it does nothing, and stays in the file for ever."""
    bound = {widget.attrib["name"] for widget in WIDGETS if text_of(widget, "SlicerParameterName")}
    folds = {name for name, kind in CLASSES.items() if kind in ("ctkCollapsibleButton", "ctkCollapsibleGroupBox")}
    answering = {name for name, kind in CLASSES.items() if kind in FOCUSABLE}
    assert answering - bound - folds - set(names_in_code()) == set()


def test_classes_that_are_not_qts_own_are_declared() -> None:
    declared = {text_of_child(custom, "class") for custom in TREE.iter("customwidget")}
    assert {kind for kind in CLASSES.values() if not kind.startswith("Q")} == declared


def test_every_node_selector_follows_the_scene() -> None:
    connected = {
        text_of_child(connection, "receiver")
        for connection in TREE.iter("connection")
        if text_of_child(connection, "sender") == "NoisyLabelSeg"
        and (text_of_child(connection, "signal"), text_of_child(connection, "slot")) == SCENE_CHANGED
    }
    assert connected == {name for name, kind in CLASSES.items() if kind.startswith("qMRML")} - {"NoisyLabelSeg"}


@pytest.mark.parametrize(
    "widget", [w for w in WIDGETS if text_of(w, "SlicerParameterName")], ids=lambda w: w.attrib["name"]
)
def test_what_is_bound_is_in_the_parameter_node_with_a_type_that_can_be_bound(widget: ElementTree.Element) -> None:
    annotation = parameters()[text_of(widget, "SlicerParameterName")]
    assert annotation.startswith(BINDABLE[widget.attrib["class"]])
    if widget.attrib["class"] == "qMRMLNodeComboBox":
        assert annotation.removeprefix("slicer.") == text_of(widget, "nodeTypes")


def test_a_dynamic_property_is_marked_as_one() -> None:
    marked = [p.get("stdset") for p in TREE.iter("property") if p.get("name") == "SlicerParameterName"]
    assert marked == ["0"] * len(marked) and len(marked) >= 7


def test_the_tab_order_is_complete_and_runs_from_top_to_bottom() -> None:
    order = [stop.text for stop in TREE.iter("tabstop")]
    assert order == [widget.attrib["name"] for widget in WIDGETS if widget.attrib["class"] in FOCUSABLE]


def test_every_widget_that_answers_says_what_it_is_for() -> None:
    silent = [
        name
        for w in WIDGETS
        if (name := w.attrib["name"]) and w.attrib["class"] in FOCUSABLE and not text_of(w, "toolTip")
    ]
    assert silent == []


def test_every_input_has_a_name_beside_it() -> None:
    """A label that leads to it, a text of its own, or one for screen readers alone."""
    led_to = {text_of(widget, "buddy") for widget in WIDGETS}
    own = ("text", "title", "accessibleName")
    named = {widget.attrib["name"] for widget in WIDGETS if any(text_of(widget, name) for name in own)}
    answering = {name for name, kind in CLASSES.items() if kind in FOCUSABLE}
    assert answering - led_to - named == set()
    assert led_to - {""} <= answering


def test_no_colour_and_no_font_is_fixed() -> None:
    """Light and dark themes, and large fonts, are the person's choice."""
    names = {element.get("name") for element in TREE.iter("property")}
    assert names & {"styleSheet", "palette", "font", "maximumSize", "fixedSize"} == set()


def test_texts_of_strangers_are_not_taken_for_html() -> None:
    plain = ("modelSummaryLabel", "modelWarningLabel", "messageLabel", "progressLabel", "bannerLabel")
    widgets = {w.attrib["name"]: w for w in WIDGETS}
    assert [text_of(widgets[name], "textFormat") for name in plain] == ["Qt::PlainText"] * len(plain)


def test_keys_are_named_where_a_person_sees_them() -> None:
    """Single keys that neither 3D Slicer's views nor its Segment Editor mean otherwise, but for undo and redo."""
    widgets = {w.attrib["name"]: w for w in WIDGETS}
    buttons = {
        "acceptButton": "A",
        "revertButton": "X",
        "nextButton": "N",
        "undoButton": "Z",
        "redoButton": "Y",
        "showChangesCheckBox": "C",
    }
    assert [name for name, key in buttons.items() if f"({key})" not in text_of(widgets[name], "toolTip")] == []
