"""What the panel asks of Qt, CTK and 3D Slicer's Python functions, found by reading its files, not by running them."""

from __future__ import annotations

import ast
import json
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
MODULE = ROOT / "NoisyLabelSeg"
PACKAGE = MODULE / "NoisyLabelSegSlicer"
UI = MODULE / "Resources" / "UI" / "NoisyLabelSeg.ui"
FILES = (
    MODULE / "NoisyLabelSeg.py",
    PACKAGE / "samples.py",
    PACKAGE / "self_test.py",
    *sorted((PACKAGE / "panel").glob("*.py")),
)
ROOTS = {"slicer.app": "qSlicerApplication", "slicer.util": "slicer.util"}
"""What Slicer's Python calls its application object and its module of functions."""

Facts = dict[str, dict[str, Any]]
"""By class: ``base``, and signatures by name under ``methods``, ``properties``, ``enums`` and ``signals``."""


@dataclass(frozen=True)
class Use:
    """Something that a class must have.

    Attributes:
        owner: the class; several parted by "|" where it may be any of them.
        member: a name, a signal's signature, or empty when only the class must be there.
        how: "call", "value", "set", "signal" or "class".
        place: file and line.
    """

    owner: str
    member: str
    how: str
    place: str


def read_facts() -> Facts:
    """The committed table."""
    content: Facts = json.loads((Path(__file__).parent / "slicer_facts.json").read_text(encoding="utf-8"))
    return content


def ui_classes(path: Path = UI) -> dict[str, str]:
    """Every widget's class by its name."""
    return {widget.attrib["name"]: widget.attrib["class"] for widget in ElementTree.parse(path).iter("widget")}


def find(facts: Facts, owner: str, member: str, *kinds: str) -> str | None:
    """A member's signature in a class or in what it inherits from."""
    while owner in facts:
        for kind in kinds:
            if member in facts[owner].get(kind, {}):
                return str(facts[owner][kind][member])
        owner = facts[owner].get("base", "")
    return None


def uses_in(code: str, name: str, facts: Facts, classes: dict[str, str]) -> list[Use]:
    """Every use in a file whose owner can be told."""
    tree = ast.parse(code)
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    return list(_Reader(name, facts, classes, called).read(tree, {}))


class _Reader:
    """Follows the classes of variables as far as constructors, annotations, literal loops and facts tell them."""

    def __init__(self, name: str, facts: Facts, classes: dict[str, str], called: set[int]) -> None:
        self._name, self._facts, self._classes, self._called = name, facts, classes, called
        self._members: dict[str, str] = {}  # such as "self._timer"
        self._declared: set[str] = set()  # with an annotation, which knows better than what is assigned later

    def read(self, node: ast.AST, known: dict[str, str]) -> Iterator[Use]:
        if isinstance(node, ast.FunctionDef):
            known = {**known, **_annotated(node)}
        if isinstance(node, ast.For):
            known |= self._loop_variables(node, known)
        for child in ast.iter_child_nodes(node):
            yield from self.read(child, known)
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            known |= self._assigned(node, known)
        yield from self._uses_of(node, known)

    def _uses_of(self, node: ast.AST, known: dict[str, str]) -> Iterator[Use]:
        place = f"{self._name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            owner, member = self._class_of(node.func.value, known), node.func.attr
            if owner and member in ("connect", "disconnect"):
                yield Use(owner, ast.literal_eval(node.args[0]), "signal", place)
            elif owner:
                yield Use(owner, member, "call", place)
        if not isinstance(node, ast.Attribute):
            return
        if ast.unparse(node.value) in ("qt", "ctk"):
            yield Use(node.attr, "", "class", place)
        elif id(node) not in self._called and (owner := self._class_of(node.value, known)):
            yield Use(owner, node.attr, "set" if isinstance(node.ctx, ast.Store) else "value", place)

    def _class_of(self, node: ast.expr, known: dict[str, str]) -> str | None:
        """The class of what an expression gives; None when it cannot be told."""
        if isinstance(node, ast.Name):
            return known.get(node.id)
        if isinstance(node, ast.Call):
            return self._class_of(node.func, known) if isinstance(node.func, ast.Attribute) else None
        if not isinstance(node, ast.Attribute):
            return None
        if found := (ROOTS | self._members).get(ast.unparse(node)):
            return found
        before = ast.unparse(node.value)
        if before in ("qt", "ctk"):
            return node.attr
        if before in ("ui", "self.ui", "self._ui"):
            return self._classes.get(node.attr, f"the missing widget {node.attr}")
        return self._given_by(self._class_of(node.value, known), node.attr)

    def _given_by(self, owner: str | None, member: str) -> str | None:
        """The class that a method returns or a property has, where the facts know it."""
        signature = find(self._facts, owner, member, "methods", "properties") if owner else None
        words = signature.split("(")[0].replace("*", " ").replace("&", " ").split() if signature else []
        return next((word for word in words[:-1] if word in self._facts), None)

    def _assigned(self, node: ast.Assign | ast.AnnAssign, known: dict[str, str]) -> dict[str, str]:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        if ast.unparse(targets[0]) in self._declared:
            return {}
        found = _annotation(node.annotation) if isinstance(node, ast.AnnAssign) else None
        found = found or (self._class_of(node.value, known) if node.value else None)
        if not found:
            return {}
        if isinstance(node, ast.AnnAssign):
            self._declared.add(ast.unparse(node.target))
        texts = [ast.unparse(target) for target in targets]
        self._members |= {text: found for text in texts if text.startswith("self.")}
        return {text: found for text in texts if text.isidentifier()}

    def _loop_variables(self, node: ast.For, known: dict[str, str]) -> dict[str, str]:
        """For a loop over things that are written out, the first variable of the loop."""
        target = node.target.elts[0] if isinstance(node.target, ast.Tuple) else node.target
        if not isinstance(target, ast.Name) or not isinstance(node.iter, ast.Tuple | ast.List):
            return {}
        firsts = [item.elts[0] if isinstance(item, ast.Tuple) else item for item in node.iter.elts]
        found = {self._class_of(item, known) for item in firsts}
        return {target.id: "|".join(sorted(str(owner) for owner in found))} if None not in found else {}


def _annotated(node: ast.FunctionDef) -> dict[str, str]:
    found = [(argument.arg, _annotation(argument.annotation)) for argument in node.args.args if argument.annotation]
    return {name: owner for name, owner in found if owner}


def _annotation(node: ast.expr) -> str | None:
    """The class in an annotation such as `qt.QLabel` or `slicer.qMRMLWidget | None`; None for any other."""
    text = ast.unparse(node).removesuffix(" | None")
    return text.partition(".")[2] if text.startswith(("qt.Q", "ctk.ctk", "slicer.q")) else None
