"""The section that lays a map over the image."""

from __future__ import annotations

from typing import Any

from NoisyLabelSegSlicer.session import Session
from NoisyLabelSegSlicer.translation import _


class MapSection:
    """One map at a time over the image in all slice views.

    Args:
        ui: the panel's widgets.
    """

    def __init__(self, ui: Any) -> None:
        self._ui = ui
        self._session: Session | None = None
        self._maps: list[Any] = []
        ui.mapSelector.connect("currentIndexChanged(int)", self._choose)
        ui.mapOpacitySlider.connect("valueChanged(double)", self._apply)
        ui.mapThresholdSlider.connect("valueChanged(double)", self._apply)
        ui.mapLegendCheckBox.connect("toggled(bool)", self._apply)

    def show(self, session: Session | None) -> None:
        """Offer the maps of a result; the one that is shown stays while it is the same result."""
        if session is self._session:
            return
        self._session, self._maps = session, session.maps if session else []
        self._ui.mapsSection.enabled = bool(self._maps)
        selector = self._ui.mapSelector
        blocked = selector.blockSignals(True)
        selector.clear()
        selector.addItem(_("none"))
        for node in self._maps:
            selector.addItem(node.GetName())
        selector.blockSignals(blocked)
        self._choose(0)

    def _choose(self, place: int) -> None:
        if place > 0:
            display = self._maps[place - 1].GetDisplayNode()
            slider = self._ui.mapThresholdSlider
            blocked = slider.blockSignals(True)
            slider.minimum, slider.maximum = display.GetWindowLevelMin(), display.GetWindowLevelMax()
            slider.blockSignals(blocked)
        self._apply()

    def _apply(self, _value: float = 0.0) -> None:
        ui, place = self._ui, self._ui.mapSelector.currentIndex
        for widget in (ui.mapOpacitySlider, ui.mapThresholdSlider, ui.mapLegendCheckBox):
            widget.enabled = place > 0
        if self._session:
            node = self._maps[place - 1] if place > 0 else None
            opacity, threshold, legend = ui.mapOpacitySlider.value, ui.mapThresholdSlider.value, ui.mapLegendCheckBox
            self._session.show_map(node, opacity, threshold, legend.checked)
