"""Where a refinement may change anything: inside a region, and not into segments that are locked."""

from __future__ import annotations

from collections.abc import Sequence

from NoisyLabelSegLib.regions import Region, union


def constrain(
    stages: Sequence[Sequence[Region]], given: Sequence[Region], allowed: Region | None, blocked: Sequence[Region]
) -> tuple[tuple[Region, ...], ...]:
    """Put the given mask back where nothing may change, at every stage.

    Args:
        stages: for every stage each segment's mask (bool).
        given: each segment's mask as it was given.
        allowed: outside of it (bool) the given masks stay; None allows the whole grid.
        blocked: masks (bool) into which no segment grows; voxels that a segment had there stay its own.
    """
    return tuple(
        tuple(_constrained(mask, before, allowed, blocked) for mask, before in zip(stage, given, strict=True))
        for stage in stages
    )


def _constrained(mask: Region, given: Region, allowed: Region | None, blocked: Sequence[Region]) -> Region:
    box = union((mask.box, given.box))
    after, before = mask.cut(box), given.cut(box)
    changed = after ^ before
    if allowed is not None:
        changed &= allowed.cut(box)
    for other in blocked:
        changed &= before | ~other.cut(box)
    return Region(box, before ^ changed).trimmed()
