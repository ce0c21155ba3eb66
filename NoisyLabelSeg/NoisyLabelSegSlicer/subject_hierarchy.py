"""Where a new node belongs among the patients, studies and folders of a scene."""

from __future__ import annotations

from typing import Any

import slicer


def place_beside(node: Any, neighbour: Any) -> None:
    """Put a node into the folder or study in which another one is."""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    if hierarchy is None:
        return
    known = hierarchy.GetItemByDataNode(neighbour)
    parent = hierarchy.GetItemParent(known) if known else hierarchy.GetSceneItemID()
    item = hierarchy.GetItemByDataNode(node) or hierarchy.CreateItem(parent, node)
    hierarchy.SetItemParent(item, parent)
