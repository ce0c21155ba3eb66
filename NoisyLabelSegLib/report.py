"""One refinement as a single HTML file for a person to read, print and archive: no scripts, nothing from elsewhere."""

from __future__ import annotations

import base64
import datetime
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from NoisyLabelSegLib.images import write_atomically
from NoisyLabelSegLib.report_pictures import (
    ADDED,
    COLOURS,
    KEPT,
    OUTLINE,
    PICTURE_PIXELS,
    REMOVED,
    HungMasks,
    Plane,
    View,
    slice_pictures,
)
from NoisyLabelSegLib.result import Result

DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


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
    # A file name that is not valid Unicode holds lone surrogates, which plain UTF-8 encoding refuses.
    page = _page(result).encode("utf-8", errors="xmlcharrefreplace")

    def write(temporary: Path) -> None:
        temporary.write_bytes(page)

    write_atomically(path, write)


def _page(result: Result) -> str:
    provenance = result.provenance
    name = _text(provenance.get("image", "Unnamed image"))
    model = provenance.get("model", {})
    model_line = _text(" ".join(str(model[key]) for key in ("name", "version") if model.get(key)) or "not recorded")
    view = View.of(result)
    titles = _stage_names(result)
    masks = [HungMasks.of(result, order, view.plane) for order in range(len(result.stages[0].segments))]
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Refinement report: {name}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>Segmentation refinement report</h1>
<dl><dt>Image</dt><dd>{name}</dd>{_header_mask(provenance)}<dt>Model</dt><dd>{model_line}</dd>{_header_date(provenance)}</dl>
</header>
<section><h2>Summary</h2>{_summary(result, masks)}</section>
{_notes(result.notes)}
{_limits(model)}
<section><h2>Pictures</h2>{_LEGEND}{"".join(_pictures(view, hung, titles) for hung in masks)}</section>
<section><h2>Measurements</h2>{_measurements(result)}</section>
<section><h2>How this result was made</h2><div class="facts">{_origin(result)}</div></section>
<footer>Made by NoisyLabelSeg. The pictures show only some slices: review the whole result before it is used.</footer>
</body>
</html>
"""


def _pictures(view: View, hung: HungMasks, titles: Sequence[str]) -> str:
    titles = ["Image", *titles, "Difference"]
    lines = []
    for shown in slice_pictures(view, hung):
        what = f"{view.plane.name} slice {shown.number} of {len(view.image)}"
        figures = "".join(_figure(*pair, what, view.plane) for pair in zip(shown.files, titles, strict=True))
        changes = (
            f"{shown.added} voxels added, {shown.removed} removed" if shown.added or shown.removed else "unchanged"
        )
        lines.append(
            f'<div class="slice"><p><b>{what}</b> · {changes}</p>'
            f'<div class="row" style="--columns:{len(titles)}">{figures}</div></div>'
        )
    return f"<h3>{_text(hung.segment.name)}</h3>{''.join(lines)}"


def _figure(file: bytes, title: str, what: str, plane: Plane) -> str:
    data = base64.b64encode(file).decode("ascii")
    sides = ("top", "bottom", "left", "right")
    letters = "".join(f'<span class="{side}">{getattr(plane, side)}</span>' for side in sides)
    image = f'<img alt="{what}: {title}" src="data:image/png;base64,{data}">'
    return f'<figure><figcaption>{title}</figcaption><div class="picture">{image}{letters}</div></figure>'


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
    name = f"<b>{_text(hung.segment.name)}</b>"
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


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f'<section class="notes" role="note"><h2>Please note</h2><ul>{items}</ul></section>' if items else ""


def _limits(model: Mapping[str, Any]) -> str:
    named = (("Intended use", model.get("intended_use")), ("Not for", model.get("not_for")))
    lines = "".join(f"<p><b>{title}:</b> {_value(value)}</p>" for title, value in named if value)
    return f'<section class="limits">{lines}</section>' if lines else ""


def _header_date(provenance: Mapping[str, Any]) -> str:
    time = provenance.get("time")
    if not time:
        return ""
    with suppress(ValueError):
        time = datetime.datetime.fromisoformat(time).strftime("%Y-%m-%d %H:%M")
    return f"<dt>Date and time</dt><dd>{_value(time)}</dd>"


def _header_mask(provenance: Mapping[str, Any]) -> str:
    return f"<dt>Given mask</dt><dd>{_value(provenance['mask'])}</dd>" if provenance.get("mask") else ""


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
            _number(volume, 1),
            _number(None if volume is None else volume / 1000, 3),
            _number(row["dice_to_given"], 3),
            _number(row["hd95_to_given_mm"], 2),
            _number(row["hd95_to_previous_mm"], 2),
            _number(row["changed_voxels"], 0),
        )
        stage = names[row["stage"]]
        cells = "".join(f"<td>{number}</td>" for number in numbers)
        start = ' class="start"' if row["stage"] == 0 else ""
        lines.append(f'<tr{start}><th scope="row">{_text(row["segment"])}</th><th scope="row">{stage}</th>{cells}</tr>')
    titles = "".join(f'<th scope="col">{title}</th>' for title in ("Segment", "Stage", *headings))
    return f'<table class="numbers"><thead><tr>{titles}</tr></thead><tbody>{"".join(lines)}</tbody></table>'


def _number(value: float | None, decimals: int) -> str:
    if value is None or math.isnan(value):
        return DASH
    return "∞" if math.isinf(value) else f"{value:,.{decimals}f}"


def _origin(result: Result) -> str:
    image, provenance = result.image, result.provenance
    geometry = {
        f"Size (I {TIMES} J {TIMES} K, voxels)": f" {TIMES} ".join(map(str, image.GetSize())),
        f"Spacing (I {TIMES} J {TIMES} K, mm)": f" {TIMES} ".join(f"{step:.4g}" for step in image.GetSpacing()),
        "Orientation of I, J, K": sitk.DICOMOrientImageFilter.GetOrientationFromDirectionCosines(image.GetDirection()),
    }
    groups = {"model": "Model", "settings": "Settings", "software": "Software"}
    run = {key: value for key, value in provenance.items() if key not in groups}
    tables = [_facts("Run", run), _facts("Input geometry", geometry)]
    facts = {key: provenance.get(key, {}) for key in groups}
    if "segments" in facts["settings"]:
        facts["settings"] = {**facts["settings"], "segments": facts["settings"]["segments"] or "all"}
    return "".join(tables + [_facts(title, facts[key]) for key, title in groups.items()])


def _facts(title: str, facts: Mapping[str, Any]) -> str:
    if not facts:
        return ""
    lines = "".join(
        f'<tr><th scope="row">{_label(key)}</th><td>{_value(fact)}</td></tr>' for key, fact in facts.items()
    )
    return f"<table><caption>{title}</caption><tbody>{lines}</tbody></table>"


def _label(key: str) -> str:
    known = {"sha256": "SHA-256", "seconds": "Duration (s)", "image": "Image", "mask": "Given mask"}
    words = str(key).replace("_", " ")
    return _text(known.get(key, words[:1].upper() + words[1:]))


def _value(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and not any(isinstance(item, list | tuple | dict) for item in value):
        return ", ".join(_value(item) for item in value)
    return _text(json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value)


def _text(value: object) -> str:
    return html.escape(str(value))


_LEGEND = f"""<p class="legend">
<span><i style="border-color:{COLOURS[OUTLINE]}"></i>outline of the mask</span>
<span>In the difference:</span>
<span><i style="border-color:{COLOURS[KEPT]}"></i>kept</span>
<span><i class="added"></i>added (hatched /)</span>
<span><i class="removed"></i>removed (hatched \\)</span>
<span>A front, P back, R right, L left, S head, I feet of the patient</span></p>"""

_STYLE = f"""
:root {{ color-scheme: light; }}
* {{ box-sizing: border-box; }}
body {{ font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif; color: #1b2733;
  background: #fff; max-width: 1180px; margin: 0 auto; padding: 28px 32px; overflow-wrap: anywhere; }}
header {{ border-bottom: 3px solid #1f4e79; padding-bottom: 12px; }}
h1 {{ font-size: 25px; line-height: 1.2; margin: 0 0 10px; color: #1f4e79; }}
h2 {{ font-size: 18px; margin: 26px 0 8px; color: #1f4e79; break-after: avoid; }}
h3 {{ font-size: 15px; margin: 20px 0 4px; padding-bottom: 2px; border-bottom: 1px solid #d5dde5; break-after: avoid; }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: 2px 16px; margin: 0; }}
dt {{ color: #5a6b7b; }} dd {{ margin: 0; font-weight: 600; }}
b, dd, th, td, h3 {{ unicode-bidi: isolate; }} p, ul {{ margin: 6px 0; }} ul {{ padding-left: 22px; }}
.notes, .limits {{ margin-top: 18px; padding: 10px 16px; border-left: 5px solid #d58a00;
  background: #fff7e6; break-inside: avoid; }}
.notes h2 {{ margin: 0; color: #6b4500; }}
.limits {{ border-color: #8fa3b5; background: #f3f6f9; font-size: 14px; }}
.legend {{ display: flex; flex-wrap: wrap; gap: 2px 20px; font-size: 13px; color: #44525f; }}
.legend span {{ display: inline-flex; align-items: center; gap: 6px; }}
.legend i {{ width: 16px; height: 16px; border: 3px solid; background: #6a6a6a; outline: 1px solid #333; }}
.legend .added {{ border-color: {COLOURS[ADDED]};
  background: repeating-linear-gradient(135deg, #777 0 3px, {COLOURS[ADDED]} 3px 5px); }}
.legend .removed {{ border-color: {COLOURS[REMOVED]};
  background: repeating-linear-gradient(45deg, #777 0 3px, {COLOURS[REMOVED]} 3px 5px); }}
.slice {{ break-inside: avoid; margin: 8px 0 14px; }} .slice p {{ font-size: 13px; margin: 0 0 3px; }}
.row {{ display: grid; grid-template-columns: repeat(var(--columns), minmax(0, {PICTURE_PIXELS}px)); gap: 6px; }}
figure {{ margin: 0; }} figcaption {{ font-size: 12px; color: #44525f; }}
.picture {{ position: relative; }}
.picture img {{ display: block; width: 100%; height: auto; image-rendering: pixelated; }}
.picture span {{ position: absolute; font: 600 11px/1 sans-serif; color: #fff;
  text-shadow: 0 0 2px #000, 0 0 2px #000, 0 0 3px #000; }}
.top, .bottom {{ left: 50%; transform: translateX(-50%); }} .top {{ top: 3px; }} .bottom {{ bottom: 3px; }}
.left, .right {{ top: 50%; transform: translateY(-50%); }} .left {{ left: 3px; }} .right {{ right: 3px; }}
table {{ border-collapse: collapse; width: 100%; font-size: 13px; break-inside: avoid; }}
caption {{ text-align: left; font-weight: 600; font-size: 14px; padding: 8px 0 3px; }}
th, td {{ text-align: left; vertical-align: top; padding: 4px 10px 4px 0; border-bottom: 1px solid #e3e8ed; }}
tbody th {{ font-weight: 400; }}
.numbers td, .numbers thead th:nth-child(n+3) {{ text-align: right; font-variant-numeric: tabular-nums; }}
.numbers thead th {{ border-bottom: 2px solid #1f4e79; overflow-wrap: normal; }}
.numbers .start > * {{ border-top: 1px solid #8fa3b5; }}
.facts {{ columns: 2; column-gap: 40px; }} .facts tbody th {{ color: #5a6b7b; width: 38%; }}
footer {{ margin-top: 28px; padding-top: 8px; border-top: 1px solid #d5dde5; font-size: 12px; color: #5a6b7b; }}
@page {{ size: A4; margin: 14mm; }}
@media print {{ body {{ padding: 0; max-width: none; font-size: 11pt; }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }} }}
@media (max-width: 720px) {{ .facts {{ columns: 1; }} body {{ padding: 16px; }} }}
"""
