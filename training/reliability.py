"""Reliability diagrams, one beside the other, as an SVG picture: accuracy against confidence, and how many voxels."""

from __future__ import annotations

import html
from collections.abc import Iterator, Mapping
from pathlib import Path

from NoisyLabelSegLib.calibration import CalibrationCounts
from NoisyLabelSegLib.errors import InputError
from training.texts import write_text

SIDE, SHARE_HEIGHT = 240, 60
LEFT, TOP, GAP, BOTTOM, RIGHT = 56, 56, 18, 76, 20
PANEL_WIDTH = LEFT + SIDE + RIGHT
LONGEST_NAME = 30  # Letters of the title's size that a panel holds.
SHARE_TOP = TOP + SIDE + GAP
SHARE_BOTTOM = SHARE_TOP + SHARE_HEIGHT
HEIGHT = SHARE_BOTTOM + BOTTOM
LETTER = 7

# Of Okabe and Ito, as in the reports; the sign of a gap is also hatched, in opposite ways, for a grey print.
ACCURACY, TOO_SURE, TOO_UNSURE, INK, GRID = "#56B4E9", "#D55E00", "#0072B2", "#222222", "#DDDDDD"


def write_reliability(path: Path, models: Mapping[str, CalibrationCounts], caption: str) -> None:
    """Draw the top label's reliability: a panel for each model, with its ECE.

    A column's top is the share of correct voxels, and the hatched piece runs from there to their mean confidence: up
    where the model is too sure, down where it is too unsure. Below is the share of voxels in each bin.

    Args:
        path: the SVG file to write or to replace as a whole.
        models: the pooled counts of each by its name.
        caption: which voxels of which cases.

    Raises:
        InputError: there are no models, or the file cannot be written.
    """
    if not models:
        raise InputError("There is no reliability to draw: give the counts of one model at least.")
    panels = "".join(
        f'<g transform="translate({index * PANEL_WIDTH} 0)">{"".join(_panel(name, counts))}</g>'
        for index, (name, counts) in enumerate(models.items())
    )
    width = max(len(models) * PANEL_WIDTH, LEFT + LETTER * len(caption))
    write_text(path, f"{_head(width)}{panels}{_legend()}{_text(LEFT, HEIGHT - 8, caption, 'start')}</svg>\n")


def _head(width: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {HEIGHT}" width="{width}" height="{HEIGHT}" '
        f'font-family="DejaVu Sans, Verdana, Arial, sans-serif" font-size="11" fill="{INK}">'
        f"<defs>{_hatch('sure', TOO_SURE, 45)}"
        f'{_hatch("unsure", TOO_UNSURE, -45)}</defs><rect width="{width}" height="{HEIGHT}" fill="white"/>'
    )


def _hatch(name: str, colour: str, degrees: int) -> str:
    return (
        f'<pattern id="{name}" width="4" height="4" patternUnits="userSpaceOnUse" '
        f'patternTransform="rotate({degrees})"><rect width="4" height="4" fill="white" fill-opacity="0.6"/>'
        f'<rect width="2" height="4" fill="{colour}"/></pattern>'
    )


def _panel(name: str, counts: CalibrationCounts) -> Iterator[str]:
    middle = LEFT + SIDE / 2
    # A long name is squeezed into its own panel.
    fitted = f" textLength='{PANEL_WIDTH - 12}' lengthAdjust='spacingAndGlyphs'" if len(name) > LONGEST_NAME else ""
    yield _text(middle, 22, name, "middle", f"font-size='14' font-weight='bold'{fitted}")
    yield _text(middle, 40, f"ECE {counts.ece:.4f}, {counts.total:,} voxels" if counts.total else "no voxels", "middle")
    yield from _axes()
    bins = counts.bins()
    step = SIDE / len(bins.share)
    for index, (confidence, accuracy, share) in enumerate(zip(*bins, strict=True)):
        if share > 0:
            left = LEFT + index * step
            yield _column(left, step, 0, accuracy, ACCURACY)
            yield _column(left, step, accuracy, confidence, f"url(#{'sure' if confidence > accuracy else 'unsure'})")
            height = share * SHARE_HEIGHT
            yield _box(left, SHARE_BOTTOM - height, step, height, ACCURACY)
    yield _line(LEFT, TOP + SIDE, LEFT + SIDE, TOP, f"stroke='{INK}' stroke-dasharray='4 3'")


def _axes() -> Iterator[str]:
    for tick in (0, 0.25, 0.5, 0.75, 1):
        x, y = LEFT + tick * SIDE, TOP + SIDE * (1 - tick)
        yield _line(LEFT, y, LEFT + SIDE, y, f"stroke='{GRID}'")
        yield _text(LEFT - 6, y + 4, f"{tick:g}", "end")
        yield _text(x, SHARE_BOTTOM + 14, f"{tick:g}", "middle")
    for share in (0, 0.5, 1):
        y = SHARE_BOTTOM - share * SHARE_HEIGHT
        yield _line(LEFT, y, LEFT + SIDE, y, f"stroke='{GRID}'")
        yield _text(LEFT - 6, y + 4, f"{100 * share:g} %", "end")
    yield _text(LEFT + SIDE / 2, SHARE_BOTTOM + 30, "confidence", "middle")
    yield _upright(TOP + SIDE / 2, "accuracy")
    yield _upright(SHARE_TOP + SHARE_HEIGHT / 2, "voxels")


def _legend() -> str:
    entries = ((ACCURACY, "accuracy", 0), ("url(#sure)", "too sure", 80), ("url(#unsure)", "too unsure", 155))
    y = HEIGHT - 36
    marks = [_box(LEFT + x, y, 12, 12, fill) + _text(LEFT + x + 17, y + 10, name, "start") for fill, name, x in entries]
    return "".join(marks)


def _column(left: float, width: float, low: float, high: float, fill: str) -> str:
    low, high = sorted((low, high))
    return _box(left, TOP + SIDE * (1 - high), width, SIDE * (high - low), fill)


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    place = f"x='{x:.2f}' y='{y:.2f}' width='{width:.2f}' height='{height:.2f}'"
    return f"<rect {place} fill='{fill}' stroke='{INK}' stroke-width='0.5'/>"


def _line(x1: float, y1: float, x2: float, y2: float, style: str) -> str:
    return f"<line x1='{x1:.2f}' y1='{y1:.2f}' x2='{x2:.2f}' y2='{y2:.2f}' {style}/>"


def _upright(y: float, text: str) -> str:
    return f"<g transform='translate(14 {y:.2f}) rotate(-90)'>{_text(0, 0, text, 'middle')}</g>"


def _text(x: float, y: float, text: str, anchor: str, style: str = "") -> str:
    return f"<text x='{x:.2f}' y='{y:.2f}' text-anchor='{anchor}' {style}>{html.escape(text)}</text>"
