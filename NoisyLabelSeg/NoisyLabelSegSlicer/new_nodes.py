"""Nodes that are added to a scene: all that belong together or none, and hidden ones."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from NoisyLabelSegSlicer.subject_hierarchy import place_beside


@contextmanager
def all_or_none(scene: Any) -> Iterator[None]:
    """Take every node out again that was added since, should anything go wrong."""
    before = {node.GetID() for node in _nodes(scene)}
    try:
        yield
    except BaseException:
        for node in reversed(_nodes(scene)):
            if node.GetID() not in before and node.GetScene() is scene:
                scene.RemoveNode(node)
        raise


def _nodes(scene: Any) -> list[Any]:
    return [scene.GetNthNode(n) for n in range(scene.GetNumberOfNodes())]


def add_node(beside: Any, kind: str, name: str) -> Any:
    """A new node with a name of its own, in the study or folder of another one.

    Args:
        beside: a node of the scene.
        kind: class of the new node.
        name: a number is added where another node has it.
    """
    scene = beside.GetScene()
    node = scene.AddNewNodeByClass(kind, scene.GenerateUniqueName(name))
    place_beside(node, beside)
    return node


def add_hidden_node(beside: Any, kind: str, name: str) -> Any:
    """Like `add_node`, but nobody sees it in a list; it is saved with the scene all the same."""
    scene = beside.GetScene()
    node = scene.CreateNodeByClass(kind)
    node.UnRegister(None)  # the scene's factory hands over a reference of its own
    node.SetName(scene.GenerateUniqueName(name))
    # Before it is added: the application looks at this only once.
    node.HideFromEditorsOn()
    scene.AddNode(node)
    # The application wants an item of the hierarchy for every segmentation, and does not show it.
    place_beside(node, beside)
    return node
