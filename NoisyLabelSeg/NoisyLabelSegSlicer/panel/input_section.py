"""The section that chooses what the model gets to see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import qt
import slicer
from slicer.util import VTKObservationMixin

from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegSlicer.panel.readiness import Workflow, ticked_at_first
from NoisyLabelSegSlicer.segments import segment_ids, segment_records

Description = Mapping[str, Any]
"""What a model says about itself."""

Row = tuple[str, str, tuple[float, ...], bool]
"""A segment's identifier, name and colour, and whether it is ticked."""


MOST_ROWS = 8
"""So many segments are seen at once."""


class InputSection(VTKObservationMixin):
    """Lists the segments; volume, segmentation and limits are bound to the parameter node by the .ui file.

    Args:
        ui: the panel's widgets.
        ticked: called with the identifiers of the ticked segments when they are others than before.
        changed: called when somebody has added, removed or renamed segments.
    """

    def __init__(self, ui: Any, ticked: Callable[[list[str]], None], changed: Callable[[], None]) -> None:
        super().__init__()
        self._ui, self._ticked, self._changed = ui, ticked, changed
        self._rows: list[Row] = []
        self._about: tuple[Any, str | None] | None = None
        ui.segmentsList.connect("itemChanged(QListWidgetItem*)", self._tell)

    def forget(self) -> None:
        """Take the ticks of the next `show` as the person's own: another scene is being opened."""
        self._about = None
        self.removeObservers()

    def show(self, workflow: Workflow | None, model: Description | None, node: Any, wanted: Sequence[str]) -> None:
        """List the segments of a segmentation node.

        Args:
            workflow: that of the model; None without a model.
            model: its description, which decides what is ticked at first; None without a model.
            node: the segmentation; None without one.
            wanted: identifiers of the segments to tick, as long as it is the same segmentation and model.
        """
        takes_mask = workflow is None or workflow.takes_mask
        for widget in (self._ui.segmentationLabel, self._ui.segmentationSelector, self._ui.keepOthersCheckBox):
            widget.visible = takes_mask
        self._ui.segmentsLabel.visible = self._ui.segmentsList.visible = takes_mask and node is not None
        records = _records(node) if takes_mask else ()
        found = [(record.id, record.name, record.color) for record in records]
        keep = self._is_about(node, model) if self._about else any(identifier in wanted for identifier, *_ in found)
        if not self._about or node is not self._about[0]:
            self._watch(node)
        self._about = (node, model["name"] if model else None)
        at_first = ticked_at_first([name for _, name, _ in found], model)
        ticks = [row[0] in wanted if keep else at_first[place] for place, row in enumerate(found)]
        self._list([(*row, tick) for row, tick in zip(found, ticks, strict=True)])
        if node is not None and sorted(self.ticked) != sorted(wanted):
            self._ticked(self.ticked)

    @property
    def ticked(self) -> list[str]:
        """Identifiers of the ticked segments."""
        return [identifier for identifier, _, _, tick in self._rows if tick]

    @property
    def names(self) -> list[str]:
        """Names of the ticked segments."""
        return [name for _, name, _, tick in self._rows if tick]

    def _is_about(self, node: Any, model: Description | None) -> bool:
        """Whether the ticks were made for these; at first the models are not known."""
        before, name = self._about or (None, None)
        return node is before and (name is None or (model is not None and model["name"] == name))

    def _watch(self, node: Any) -> None:
        self.removeObservers()
        events = slicer.vtkSegmentation
        for event in (events.SegmentAdded, events.SegmentRemoved, events.SegmentModified, events.SegmentsOrderModified):
            if node is not None:
                self.addObserver(node, event, self._segments_changed)

    def _segments_changed(self, *_event: Any) -> None:
        self._changed()

    def _list(self, rows: list[Row]) -> None:
        if rows == self._rows:
            return
        self._rows = rows
        widget = self._ui.segmentsList
        blocked = widget.blockSignals(True)
        widget.clear()
        for _, name, color, tick in rows:
            item = qt.QListWidgetItem(_square(color), name)
            item.setFlags(item.flags() | qt.Qt.ItemIsUserCheckable)
            item.setCheckState(qt.Qt.Checked if tick else qt.Qt.Unchecked)
            widget.addItem(item)
        widget.blockSignals(blocked)
        rows_shown = min(len(rows), MOST_ROWS)
        widget.setFixedHeight(rows_shown * widget.sizeHintForRow(0) + 2 * widget.frameWidth)

    def _tell(self, _item: Any) -> None:
        states = [self._ui.segmentsList.item(place).checkState() for place in range(len(self._rows))]
        self._rows = [(*row[:3], state == qt.Qt.Checked) for row, state in zip(self._rows, states, strict=True)]
        self._ticked(self.ticked)


def names_of(node: Any) -> list[str]:
    """Names of a segmentation node's segments; none without a node."""
    return [record.name for record in _records(node)]


def _records(node: Any) -> tuple[Segment, ...]:
    return segment_records(node, segment_ids(node)) if node is not None else ()


def _square(color: Sequence[float]) -> Any:
    pixmap = qt.QPixmap(16, 16)
    pixmap.fill(qt.QColor.fromRgbF(*color))
    return qt.QIcon(pixmap)
