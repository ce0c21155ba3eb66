"""The nodes of one refinement: added, and found again by the references and attributes of the result."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.regions import Region, is_empty, union
from NoisyLabelSegLib.review import constrain
from NoisyLabelSegSlicer.maps import add_map
from NoisyLabelSegSlicer.provenance import write_provenance
from NoisyLabelSegSlicer.region_of_interest import inside
from NoisyLabelSegSlicer.result_node import add_result
from NoisyLabelSegSlicer.segments import labels_on_grid, layers, segment_ids
from NoisyLabelSegSlicer.stages_node import add_stages, read_stages
from NoisyLabelSegSlicer.transforms import Between
from NoisyLabelSegSlicer.translation import _
from NoisyLabelSegSlicer.volumes import grid_of

CHANGES, RESULT = (f"NoisyLabelSeg.{role}" for role in ("Changes", "Result"))
_VOLUME, _GIVEN, _STAGES, _MAPS = (f"NoisyLabelSeg.{role}" for role in ("Volume", "Given", "Stages", "Maps"))
_FACTS = "NoisyLabelSeg.Session"


@dataclass(frozen=True)
class SessionNodes:
    """What a refinement left in the scene.

    Attributes:
        result: segmentation node with the result.
        volume: the refined scalar volume node.
        grid: the volume's when it was refined, in its coordinates and those of the result.
        ids: the refined segments' identifiers.
        stages: for every stage, the given one first, each segment's mask (bool).
        slice_axis: the axis (0 = I, 1 = J, 2 = K) across the slices.
        notes: sentences that the person should read.
    """

    result: Any
    volume: Any
    grid: Grid
    ids: tuple[str, ...]
    stages: tuple[tuple[Region, ...], ...]
    slice_axis: int
    notes: tuple[str, ...]

    @property
    def from_nothing(self) -> bool:
        """Whether no mask was given."""
        return all(is_empty(mask.box) for mask in self.stages[0])

    @property
    def maps(self) -> list[Any]:
        """The volume nodes of the maps."""
        found = [self.result.GetNthNodeReference(_MAPS, n) for n in range(self.result.GetNumberOfNodeReferences(_MAPS))]
        return [node for node in found if node is not None]


def require_in_scene(*nodes: Any) -> None:
    """InputError if one of the nodes, of which None does not count, was removed from its scene meanwhile."""
    for node in nodes:
        if node is not None and node.GetScene() is None:
            text = _("'{name}' is no longer in the scene: the result has no place in it.")
            raise InputError(text.format(name=node.GetName()))


def add_session_nodes(
    volume: Any, given: Any | None, outcome: Outcome, roi: Any | None, keep_others: bool
) -> SessionNodes:
    """Add all nodes of a refinement; for the arguments see `Session.create`."""
    grid, ids = grid_of(volume), tuple(segment.id for segment in outcome.segments)
    stages = _limited(volume, given, outcome, roi, keep_others)
    refined = {s.id: (s, mask) for s, mask in zip(outcome.segments, stages[-1], strict=True)}
    result = add_result(volume, given, refined, grid)
    store = add_stages(volume, f"{result.GetName()} stages", ids, stages, grid)
    for role, node in ((_VOLUME, volume), (_GIVEN, given), (_STAGES, store)):
        result.SetNodeReferenceID(role, node.GetID() if node is not None else None)
    names = {segment.id: segment.name for segment in outcome.segments}
    for map_ in outcome.maps:
        if not is_empty(map_.region.box):
            result.AddNodeReferenceID(_MAPS, add_map(volume, map_, names, grid).GetID())
    write_provenance(result, ids, outcome.provenance)
    facts = {"grid": grid.to_json(), "slice_axis": outcome.slice_axis, "notes": outcome.notes}
    result.SetAttribute(_FACTS, json.dumps(facts))
    return SessionNodes(result, volume, grid, ids, stages, outcome.slice_axis, tuple(outcome.notes))


def _limited(
    volume: Any, given: Any | None, outcome: Outcome, roi: Any | None, keep_others: bool
) -> tuple[tuple[Region, ...], ...]:
    """The stages' masks, as they were given wherever nothing may change."""
    box = union(mask.box for stage in outcome.stages for mask in stage)
    allowed = None if roi is None or is_empty(box) else inside(roi, volume, box)
    blocked = _others(volume, given, [segment.id for segment in outcome.segments]) if given and keep_others else []
    return constrain(outcome.stages, outcome.stages[0], allowed, blocked)


def _others(volume: Any, given: Any, refined: Sequence[str]) -> list[Region]:
    """Masks of everything in the given segmentation that is not refined."""
    ids = [identifier for identifier in segment_ids(given) if identifier not in refined]
    grid, to_volume = grid_of(volume), Between(given, volume)
    labels = (labels_on_grid(given, layer, to_volume, grid) for layer in layers(given, ids))
    return [Region(found.box, found.values != 0) for found in labels]


def find_session_nodes(result: Any) -> SessionNodes | None:
    """The nodes that belong to a result; None for any other segmentation node, or where the stages are not complete."""
    volume, store = (result.GetNodeReference(role) for role in (_VOLUME, _STAGES))
    text = result.GetAttribute(_FACTS)
    if volume is None or store is None or not text:
        return None
    try:
        facts = json.loads(text)
        grid, slice_axis, notes = (
            Grid.from_json(facts["grid"]),
            int(facts["slice_axis"]),
            tuple(map(str, facts["notes"])),
        )
    except (InputError, KeyError, TypeError, ValueError):  # damaged, or of another version
        return None
    found = read_stages(store, grid)
    if found is None or not set(found[0]) <= set(segment_ids(result)) or not grid.occupies_the_same(grid_of(volume)):
        return None
    return SessionNodes(result, volume, grid, *found, slice_axis, notes)
