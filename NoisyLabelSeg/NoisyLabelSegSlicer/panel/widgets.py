"""Small things that widgets do not do by themselves."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import qt
import slicer

from NoisyLabelSegLib.errors import InputError


@contextmanager
def problems_shown() -> Iterator[None]:
    """Show a sentence that is meant for the person in a dialog."""
    try:
        yield
    except InputError as error:
        slicer.util.errorDisplay(str(error))


def show_warning(label: qt.QLabel) -> None:
    """Let a label show the style's warning sign, which fits light and dark themes."""
    style: qt.QStyle = slicer.app.style()
    side = style.pixelMetric(qt.QStyle.PM_SmallIconSize)
    label.setPixmap(style.standardIcon(qt.QStyle.SP_MessageBoxWarning).pixmap(side, side))


def scroll_to(widget: qt.QWidget) -> None:
    """Bring a widget of the module panel into view."""
    area: qt.QScrollArea = widget.parent()
    while area is not None and not area.inherits("QScrollArea"):
        area = area.parent()
    if area is not None:
        area.ensureWidgetVisible(widget)
