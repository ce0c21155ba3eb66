"""`_`: a text in the person's language inside 3D Slicer, and as it is elsewhere."""

from __future__ import annotations

__all__ = ["_"]

try:
    from slicer.i18n import tr as _
except ImportError:  # MRML without the application has no translations

    def _(text: str) -> str:
        return text
