"""What all tables that a person may open in a spreadsheet have in common."""

from __future__ import annotations


def harmless(text: str) -> str:
    """One line, and text to a spreadsheet too, which would take it for a formula: names come from strangers' files."""
    line = " ".join(text.split())
    return f"'{line}" if line.startswith(("=", "+", "-", "@")) else line
