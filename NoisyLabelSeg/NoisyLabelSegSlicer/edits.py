"""Steps of the review as changes of masks, which leave alone what a person drew by hand, and can be taken back."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from NoisyLabelSegLib.regions import Box, Region, union, within

Touched = Iterable[tuple[int, Region]]
"""Voxels (bool) of segments, by their place, about which something was decided."""


@dataclass(frozen=True, eq=False)
class Patch:
    """What a step did to a mask (bool), in the box of the voxels that it changed.

    Attributes:
        place: of the segment.
        before, after: the mask in the same box.
    """

    place: int
    before: Region
    after: Region

    def taken_back(self) -> Patch:
        """The step in the other direction."""
        return Patch(self.place, self.after, self.before)

    def applied(self, mask: Region) -> Region:
        """The mask after the step: voxels that are no longer as the step found them were drawn since, and stay."""
        box = union((mask.box, self.before.box))
        values, part = mask.cut(box), within(self.before.box, box)
        values[part] = np.where(values[part] == self.before.values, self.after.values, values[part])
        return Region(box, values).trimmed()


def patches(before: Sequence[Region], after: Mapping[int, Region]) -> list[Patch]:
    """What has to be done to make masks, by their place, what they become; nothing for those that stay."""
    found = []
    for place, new in after.items():
        changed = difference(before[place], new)
        if changed.values.size:
            found.append(Patch(place, *(Region(changed.box, mask.cut(changed.box)) for mask in (before[place], new))))
    return found


def difference(a: Region, b: Region) -> Region:
    """The voxels (bool) that are in one of two masks only."""
    box = union((a.box, b.box))
    return Region(box, a.cut(box) != b.cut(box)).trimmed()


def redrawn(masks: Sequence[Region], touched: Touched, decided: Callable[[int, Box], Region]) -> dict[int, Region]:
    """Masks, by their place, with the touched voxels as decided and all others as they are.

    Args:
        masks: every segment's (bool).
        touched: may name a segment many times.
        decided: gives a segment's mask as decided in a box.
    """
    regions: dict[int, list[Region]] = {}
    for place, region in touched:
        regions.setdefault(place, []).append(region)
    found = {}
    for place, parts in regions.items():
        box = union((masks[place].box, *(part.box for part in parts)))
        values, wanted = masks[place].cut(box), decided(place, box).values
        for part in parts:
            inner = within(part.box, box)
            np.copyto(values[inner], wanted[inner], where=part.values)
        found[place] = Region(box, values).trimmed()
    return found
