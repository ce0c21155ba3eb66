"""The report of one refinement: see `report_page`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from NoisyLabelSegLib.report_page import Page, number, row_of_pictures, text, write_page
from NoisyLabelSegLib.report_pictures import COLOURS, KEPT, OUTLINE, HungMasks, View, slice_pictures
from NoisyLabelSegLib.result import Result


def write_report(result: Result, path: Path) -> None:
    """Write the report of one refinement: summary, notes, pictures, measurements, settings and model, in one HTML file.

    Numbers are those of ``result.statistics``. From ``result.provenance`` the keys ``image``, ``mask``, ``settings``,
    ``model``, ``software``, ``device``, ``seconds``, ``time`` and ``stopped_early`` (bool) have their places; any other
    key is listed as it is, a missing one is left out.

    Args:
        result: the refinement; names in it may be hostile, all are escaped.
        path: the file to write or to replace as a whole.

    Raises:
        InputError: the file cannot be written.
    """
    view, titles = View.of(result), _stage_names(result)
    masks = [HungMasks.of(result, order, view.plane) for order in range(len(result.stages[0].segments))]
    pictures = _LEGEND + "".join(_pictures(view, hung, titles) for hung in masks)
    sections = (("Pictures", pictures), ("Measurements", _measurements(result)))
    summary, given = _summary(result, masks), ("Given mask", "mask")
    page = Page("Refinement report", "Segmentation refinement report", given, summary, sections)
    write_page(result, page, path)


def _pictures(view: View, hung: HungMasks, titles: Sequence[str]) -> str:
    titles = ["Image", *titles, "Difference"]
    lines = []
    for shown in slice_pictures(view, hung):
        what = f"{view.plane.name} slice {shown.number} of {len(view.image)}"
        changes = (
            f"{shown.added} voxels added, {shown.removed} removed" if shown.added or shown.removed else "unchanged"
        )
        lines.append(row_of_pictures(what, changes, titles, shown.files, view.plane))
    return f"<h3>{text(hung.segment.name)}</h3>{''.join(lines)}"


def _summary(result: Result, masks: Sequence[HungMasks]) -> str:
    items = "".join(
        f"<li>{_segment_summary(hung, _segment_rows(result, order, hung.segment.name))}</li>"
        for order, hung in enumerate(masks)
    )
    return f"<p>{_run_summary(result)}</p><ul>{items}</ul>"


def _run_summary(result: Result) -> str:
    run = len(result.stages) - 1
    sentence = f"The model ran {run} stage{'' if run == 1 else 's'}"
    stopped = result.provenance.get("stopped_early")
    if stopped is not None:
        sentence += " and stopped before the planned number" if stopped else ", all that were planned"
    return f"{sentence}."


def _segment_rows(result: Result, order: int, name: str) -> list[Mapping[str, Any]]:
    """The rows of one segment, by place since names may be alike; the name keeps another segment's figures out."""
    count = len(result.stages)
    return [row for row in result.statistics[order * count : (order + 1) * count] if row["segment"] == name]


def _segment_summary(hung: HungMasks, rows: Sequence[Mapping[str, Any]]) -> str:
    added, removed = hung.counts()
    name = f"<b>{text(hung.segment.name)}</b>"
    change = f"{added:,} voxels were added and {removed:,} removed" if added or removed else "no voxel changed"
    if not rows:
        return f"{name}: {change}."
    before, after = rows[0]["volume_mm3"], rows[-1]["volume_mm3"]
    was, now = _volumes(before, after)
    relative = f" ({100 * (after - before) / before:+.0f} %)" if before else ""
    dice = rows[-1]["dice_to_given"]
    overlap = "" if dice is None else f"; the result overlaps the given mask with a Dice coefficient of {dice:.2f}"
    return f"{name} was {was} and is now {now}{relative}: {change}{overlap}."


def _volumes(*cubic_millimetres: float) -> list[str]:
    """All in the one unit in which the smallest can still be read."""
    small = any(0 < volume < 100 for volume in cubic_millimetres)
    return [_volume(volume, small=small) if volume else "empty" for volume in cubic_millimetres]


def _volume(cubic_millimetres: float, *, small: bool) -> str:
    if not small:
        return f"{cubic_millimetres / 1000:,.2f} ml"
    return f"{cubic_millimetres:.3g} mm³" if cubic_millimetres < 100 else f"{cubic_millimetres:,.0f} mm³"


def _stage_names(result: Result) -> list[str]:
    last = len(result.stages) - 1
    nothing = bool(result.statistics) and all(row["dice_to_given"] is None for row in result.statistics)
    later = [f"Stage {stage} (result)" if stage == last else f"Stage {stage}" for stage in range(1, last + 1)]
    return ["Nothing given" if nothing else "Given mask", *later]


def _measurements(result: Result) -> str:
    headings = (
        *("Volume (mm³)", "Volume (ml)", "Dice to given mask", "HD95 to given mask (mm)"),
        *("HD95 to previous stage (mm)", "Voxels changed from previous stage"),
    )
    names, lines = _stage_names(result), []
    for row in result.statistics:
        volume = row["volume_mm3"]
        numbers = (
            number(volume, 1),
            number(None if volume is None else volume / 1000, 3),
            number(row["dice_to_given"], 3),
            number(row["hd95_to_given_mm"], 2),
            number(row["hd95_to_previous_mm"], 2),
            number(row["changed_voxels"], 0),
        )
        stage = names[row["stage"]]
        cells = "".join(f"<td>{figure}</td>" for figure in numbers)
        start = ' class="start"' if row["stage"] == 0 else ""
        lines.append(f'<tr{start}><th scope="row">{text(row["segment"])}</th><th scope="row">{stage}</th>{cells}</tr>')
    titles = "".join(f'<th scope="col">{title}</th>' for title in ("Segment", "Stage", *headings))
    return f'<table class="numbers"><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


_LEGEND = f"""<p class="legend">
<span><i style="border-color:{COLOURS[OUTLINE]}"></i>outline of the mask</span>
<span>In the difference:</span>
<span><i style="border-color:{COLOURS[KEPT]}"></i>kept</span>
<span><i class="added"></i>added (hatched /)</span>
<span><i class="removed"></i>removed (hatched \\)</span>
<span>A front, P back, R right, L left, S head, I feet of the patient</span></p>"""
