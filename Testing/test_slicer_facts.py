"""Nothing is asked of Qt, CTK and 3D Slicer that they do not have, as far as that can be told without running them.

The facts are signatures as 3D Slicer 5.12's, CTK's and Qt 5's headers have them, of what is used and nothing else.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from qt_calls import FILES, Facts, Use, find, read_facts, ui_classes, uses_in

FACTS, CLASSES = read_facts(), ui_classes()
KINDS = {
    "call": ("methods",),
    "value": ("properties", "enums", "methods"),
    "set": ("properties",),
    "signal": ("signals",),
}


def unfounded(uses: list[Use], facts: Facts) -> list[str]:
    """The uses that the facts do not know, for a person to read."""
    return [
        f"{use.place}: {owner} has no {use.member or 'entry'} ({use.how})"
        for use in uses
        for owner in use.owner.split("|")
        if (owner not in facts if use.how == "class" else find(facts, owner, use.member, *KINDS[use.how]) is None)
    ]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_everything_that_is_used_exists(path: Path) -> None:
    assert unfounded(uses_in(path.read_text(encoding="utf-8"), path.name, FACTS, CLASSES), FACTS) == []


def test_the_facts_are_those_that_are_needed() -> None:
    uses = [u for path in FILES for u in uses_in(path.read_text(encoding="utf-8"), path.name, FACTS, CLASSES)]
    members = {use.member for use in uses}
    kinds = ("methods", "properties", "enums", "signals")
    known = {name for facts in FACTS.values() for kind in kinds for name in facts.get(kind, {})}
    assert known - members == set()
    assert len(uses) > 300  # else the reader has gone blind


@pytest.mark.parametrize(
    "code",
    [
        "self._ui.runButton.txt = 'a'",
        "self._ui.runButton.setTxt('a')",
        "self._ui.noSuchButton.text = 'a'",
        "self._ui.runButton.connect('clicked(int)', f)",
        "ui.reviewTable.item(0, 0).setColour(1)",
        "qt.QTableWidgetitem()",
        "qt.Qt.Ticked",
        "def f(label: qt.QLabel):\n    label.setIcon(1)",
        "for button in (ui.runButton, ui.modelSelector):\n    button.currentIndex = 0",
        "for button, key in ((ui.runButton, 1), (ui.cancelButton, 2)):\n    button.press()",
        "self._timer = qt.QTimer()\nself._timer.begin()",
        "slicer.util.errorDialog('a')",
        "slicer.app.clipBoard()",
        "shortcut = qt.QShortcut()\nshortcut.connect('activated(int)', f)",
    ],
)
def test_the_check_sees_what_does_not_exist(code: str) -> None:
    assert len(unfounded(uses_in(code, "code", FACTS, CLASSES), FACTS)) == 1


@pytest.mark.parametrize(
    "code",
    [
        "self._ui.runButton.text = ui.messageLabel.text",
        "ui.reviewTable.item(0, 0).setText('a')",
        "for button in (ui.runButton, ui.cancelButton):\n    button.enabled = True",
        "node.anything().goes()",
    ],
)
def test_the_check_lets_the_rest_pass(code: str) -> None:
    assert unfounded(uses_in(code, "code", FACTS, CLASSES), FACTS) == []
