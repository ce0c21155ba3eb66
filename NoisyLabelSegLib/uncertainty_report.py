"""The report of a segmentation with its uncertainty and the suspect labels: see `report_page`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from NoisyLabelSegLib.report_page import Page, number, row_of_pictures, table, text, write_page
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.uncertainty_pictures import RAMP, Hung, Shown
from NoisyLabelSegLib.uncertainty_summary import structures_of

SUSPECTS_SHOWN, SUSPECTS_LISTED = 6, 50


def write_uncertainty_report(result: Result, path: Path) -> None:
    """Write what was found, how sure it is, the first suspect labels with pictures, and where all of it comes from.

    Args:
        result: of `pipeline.map_uncertainty`; names in it may be hostile, all are escaped.
        path: the file to write or to replace as a whole.

    Raises:
        InputError: the file cannot be written.
    """
    hung = Hung.of(result)
    sections = [("Where the model is unsure", _legend(result) + "".join(_slices(hung)))]
    if "suspect" in result.maps:
        sections += [("Suspect labels", _suspects(hung))]
    sections += [("Measurements", _measurements(result))]
    given = ("Given labels", "labels")
    page = Page("Uncertainty report", "Segmentation and uncertainty report", given, _summary(result), sections)
    write_page(result, page, path)


def _summary(result: Result) -> str:
    items = []
    for row in structures_of(result):
        found = f"{number(row['volume_mm3'], 1)} mm³" if row["volume_mm3"] else "not found"
        sure = row["mean_confidence"]
        confidence = "" if sure is None else f", with a mean confidence of {sure:.2f}"
        given = row["given_volume_mm3"]
        before = "" if given is None else f"; the given labels have {number(given, 1)} mm³"
        overlap = f" (Dice {row['dice_to_given']:.2f})" if given else ""
        items.append(f"<li><b>{text(row['segment'])}</b>: {found}{confidence}{before}{overlap}.</li>")
    count = len(result.suspects)
    suspects = {0: "No given label looks wrong", 1: "One region of the given labels looks wrong"}
    sentence = suspects.get(
        count, f"{count:,} regions of the given labels look wrong, the most suspect is listed first"
    )
    said = f"<p>{sentence}.</p>" if "suspect" in result.maps else "<p>No labels were given to compare with.</p>"
    return f"<ul>{''.join(items)}</ul>{said}"


def _slices(hung: Hung) -> Iterator[str]:
    for shown in hung.uncertain_slices():
        yield _row(hung, shown, "the brighter the colour, the less sure")


def _suspects(hung: Hung) -> str:
    listed = hung.result.suspects[:SUSPECTS_LISTED]
    if not listed:
        return "<p>None.</p>"
    pictures = "".join(_row(hung, hung.around(row), _remark(row)) for row in listed[:SUSPECTS_SHOWN])
    headings = ("Rank", "Given", "Suggested", "Score", "Volume (mm³)", "I, J, K", "R, A, S (mm)")
    more = len(hung.result.suspects) - len(listed)
    rest = f"<p>{more:,} more are in suspects.csv.</p>" if more else ""
    return pictures + table(headings, map(_cells, listed), 3) + rest


def _row(hung: Hung, shown: Shown, remark: str) -> str:
    plane = hung.view.plane
    title = f"{plane.name} slice {shown.number} of {len(hung.view.image)}"
    return row_of_pictures(title, remark, shown.titles, shown.files, plane)


def _remark(row: Mapping[str, Any]) -> str:
    return (
        f"suspect {row['rank']}, in the middle: given {row['given']}, suggested {row['suggested']}, "
        f"{row['volume_mm3']:,.1f} mm³, score {row['score']:.2f}"
    )


def _cells(row: Mapping[str, Any]) -> list[str]:
    place = (", ".join(map(str, row["index"])), ", ".join(f"{value:.1f}" for value in row["ras_mm"]))
    numbers = (number(row["score"], 2), number(row["volume_mm3"], 1))
    return [str(row["rank"]), row["given"], row["suggested"], *numbers, *place]


def _measurements(result: Result) -> str:
    headings = ("Structure", "Volume (mm³)", "Given (mm³)", "Dice to given", "Mean confidence", "Mean entropy")
    keys = (("volume_mm3", 1), ("given_volume_mm3", 1), ("dice_to_given", 3), ("mean_confidence", 3))
    rows = [
        [row["segment"], *(number(row[key], digits) for key, digits in (*keys, ("mean_entropy", 3)))]
        for row in structures_of(result)
    ]
    return table(headings, rows, 1)


def _legend(result: Result) -> str:
    segments = [(segment.name, segment.color) for segment in result.stages[-1].segments]
    names = "".join(
        f'<span><i style="border-color:{_hex([255 * part for part in color])}"></i>{text(name)}</span>'
        for name, color in segments
    )
    ramp = "".join(f'<i style="border-color:{_hex(colour)};background:{_hex(colour)}"></i>' for colour in RAMP)
    sides = "A front, P back, R right, L left, S head, I feet of the patient"
    return f'<p class="legend">{names}<span>0 {ramp} 1</span><span>{sides}</span></p>'


def _hex(colour: Any) -> str:
    return "#" + "".join(f"{round(float(part)):02x}" for part in colour)
