"""One refinement as a single HTML file for a person to read, print and archive: no scripts, nothing from elsewhere."""

from __future__ import annotations

import base64
import html
import json
import math
import struct
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk
from numpy.typing import NDArray
from scipy import ndimage

from NoisyLabelSegLib.images import write_atomically
from NoisyLabelSegLib.result import Result
from NoisyLabelSegLib.segmentations import Segment

PICTURE_PIXELS = 240
SLICES_SHOWN = 4
MINIMUM_CROP_VOXELS = 48
HATCH_PIXELS = 7
DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"

# Pictures are indexed by a palette: grey levels first, then colours of Okabe and Ito (Color Universal Design, 2008),
# which colour-blind readers can tell apart.
GREY_LEVELS = 248
OUTLINE, HALO, KEPT, ADDED, REMOVED = range(GREY_LEVELS, GREY_LEVELS + 5)
COLOURS = {OUTLINE: "#F0E442", HALO: "#000000", KEPT: "#FFFFFF", ADDED: "#0072B2", REMOVED: "#E69F00"}
PALETTE = bytes(round(level * 255 / (GREY_LEVELS - 1)) for level in range(GREY_LEVELS) for _ in "RGB") + b"".join(
    bytes.fromhex(COLOURS[index][1:]) for index in sorted(COLOURS)
)

Mask = NDArray[np.bool_]
Pixels = NDArray[np.uint8]


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


# Pictures ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Plane:
    """The working plane as radiologists hang it: the patient's right or front on the left, front or head at the top."""

    name: str
    axis: int
    rows: int
    columns: int
    top: str
    bottom: str
    left: str
    right: str

    def array(self, image: sitk.Image) -> NDArray[Any]:
        """The voxels as (slice, row, column), rows downwards, columns to the right."""
        array = np.moveaxis(sitk.GetArrayFromImage(sitk.DICOMOrient(image, "LPS")), 2 - self.axis, 0)
        return array if self.top == "A" else array[:, ::-1]


_PLANES = (
    _Plane("Sagittal", axis=0, rows=2, columns=1, top="S", bottom="I", left="A", right="P"),
    _Plane("Coronal", axis=1, rows=2, columns=0, top="S", bottom="I", left="R", right="L"),
    _Plane("Axial", axis=2, rows=1, columns=0, top="A", bottom="P", left="R", right="L"),
)


@dataclass(frozen=True)
class _View:
    """The image as seen in its working plane; spacing is that of rows and columns, in mm."""

    plane: _Plane
    image: NDArray[Any]
    spacing: tuple[float, float]
    flipped: bool

    @classmethod
    def of(cls, result: Result) -> _View:
        orient = sitk.DICOMOrientImageFilter()
        orient.SetDesiredCoordinateOrientation("LPS")
        spacing = orient.Execute(result.image).GetSpacing()
        plane = _PLANES[orient.GetPermuteOrder().index(result.slice_axis)]
        steps = (spacing[plane.rows], spacing[plane.columns])
        return cls(plane, plane.array(result.image), steps, bool(orient.GetFlipAxes()[plane.axis]))

    def number(self, index: int) -> int:
        """The number, from 1, that a slice has on the image's own grid."""
        return len(self.image) - index if self.flipped else index + 1


@dataclass(frozen=True)
class _HungMasks:
    """One segment's masks as (slice, row, column), a stage each."""

    segment: Segment
    stages: tuple[Mask, ...]

    @classmethod
    def of(cls, result: Result, order: int, plane: _Plane) -> _HungMasks:
        stages = tuple(plane.array(stage.mask(stage.segments[order])) > 0 for stage in result.stages)
        return cls(result.stages[0].segments[order], stages)

    def counts(self, where: Any = ...) -> tuple[int, int]:
        """Voxels added and removed from the given mask to the result."""
        before, after = self.stages[0][where], self.stages[-1][where]
        return int(np.count_nonzero(after & ~before)), int(np.count_nonzero(before & ~after))


def _telling_slices(masks: Sequence[Mask], count: int = SLICES_SHOWN) -> list[int]:
    """Slices that change most and that with the largest area, kept apart; the middle one if all are empty."""
    changed = np.count_nonzero(masks[0] ^ masks[-1], axis=(1, 2))
    area = np.count_nonzero(np.logical_or.reduce(masks), axis=(1, 2))
    occupied = np.flatnonzero(area)
    if not occupied.size:
        return [len(area) // 2]
    by_change = occupied[np.lexsort((-area[occupied], -changed[occupied]))]
    gap = max(1, occupied.size // (2 * count))
    chosen: list[int] = []
    for index in (by_change[0], np.argmax(area), *by_change[1:]):
        if len(chosen) < count and all(abs(int(index) - other) >= gap for other in chosen):
            chosen.append(int(index))
    return chosen


def _crop(footprint: Mask, spacing: tuple[float, float]) -> tuple[slice, slice]:
    """A window around the footprint with a margin, square in millimetres where the plane is large enough."""
    occupied = [np.flatnonzero(footprint.any(axis=1 - axis)) for axis in (0, 1)]
    if not occupied[0].size:
        return slice(None), slice(None)
    extents = [(voxels[-1] - voxels[0] + 1) * step for voxels, step in zip(occupied, spacing, strict=True)]
    side = max(MINIMUM_CROP_VOXELS * min(spacing), 1.5 * max(extents))
    window = []
    for voxels, step, length in zip(occupied, spacing, footprint.shape, strict=True):
        size = min(length, math.ceil(side / step))
        start = round((voxels[0] + voxels[-1] + 1 - size) / 2)
        start = min(max(start, 0), length - size)
        window.append(slice(start, start + size))
    return window[0], window[1]


def _enlarge(plane: NDArray[Any], spacing: tuple[float, float]) -> NDArray[Any]:
    """Nearest neighbour onto square pixels, the longer side PICTURE_PIXELS long."""
    millimetres = [length * step for length, step in zip(plane.shape, spacing, strict=True)]
    pixels = [max(1, round(PICTURE_PIXELS * length / max(millimetres))) for length in millimetres]
    nearest = [((np.arange(n) + 0.5) * length / n).astype(int) for n, length in zip(pixels, plane.shape, strict=True)]
    return plane[np.ix_(*nearest)]


def _inner_edge(mask: Mask, pixels: int = 2) -> Mask:
    return mask & ~ndimage.binary_erosion(mask, iterations=pixels)


def _outlined(grey: Pixels, mask: Mask) -> Pixels:
    """The picture with the mask's outline; the dark halo keeps it visible on bright tissue."""
    picture = grey.copy()
    picture[ndimage.binary_dilation(mask) & ~mask] = HALO
    picture[_inner_edge(mask)] = OUTLINE
    return picture


def _difference(grey: Pixels, before: Mask, after: Mask) -> Pixels:
    """Kept, added and removed; the last two are hatched in opposite ways, so that a grey print tells them apart."""
    rows, columns = np.indices(grey.shape)
    added, removed = after & ~before, before & ~after
    picture = grey.copy()
    picture[ndimage.binary_dilation(before | after) & ~(before | after)] = HALO
    picture[_inner_edge(before & after, 3)] = HALO  # the inner third pixel of it stays, for white on bright tissue
    picture[_inner_edge(before & after)] = KEPT
    picture[_inner_edge(added) | (added & ((rows + columns) % HATCH_PIXELS == 0))] = ADDED
    picture[_inner_edge(removed) | (removed & ((rows - columns) % HATCH_PIXELS == 0))] = REMOVED
    return picture


def _window(planes: NDArray[Any]) -> Pixels:
    """The 1st to 99th percentile of the planes as grey levels."""
    low, high = np.percentile(planes, (1, 99))
    scaled = (planes.astype(np.float64) - low) / ((high - low) or 1.0)
    return np.asarray(np.clip(scaled, 0, 1) * (GREY_LEVELS - 1), dtype=np.uint8)


def _encode_png(pixels: Pixels) -> bytes:
    """An 8-bit PNG with our palette (ISO/IEC 15948); our own, because no library we need otherwise encodes one."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 0)
    lines = np.pad(pixels, ((0, 0), (1, 0))).tobytes()  # each line starts with its filter type, 0: none
    chunks = ((b"IHDR", header), (b"PLTE", PALETTE), (b"IDAT", zlib.compress(lines, 9)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(kind, data) for kind, data in chunks)


# Page ----------------------------------------------------------------------------------------------------------------


def _page(result: Result) -> str:
    provenance = result.provenance
    name = _text(provenance.get("image", "Unnamed image"))
    model = provenance.get("model", {})
    model_line = _text(" ".join(str(model[key]) for key in ("name", "version") if model.get(key)) or "not recorded")
    view = _View.of(result)
    masks = [_HungMasks.of(result, order, view.plane) for order in range(len(result.stages[0].segments))]
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
<dl><dt>Image</dt><dd>{name}</dd><dt>Model</dt><dd>{model_line}</dd>{_header_date(provenance)}</dl>
</header>
<section><h2>Summary</h2>{_summary(result, masks)}</section>
{_notes(result.notes)}
{_limits(model)}
<section><h2>Pictures</h2>{_LEGEND}{"".join(_pictures(view, hung) for hung in masks)}</section>
<section><h2>Measurements</h2>{_measurements(result)}</section>
<section><h2>How this result was made</h2><div class="facts">{_origin(result)}</div></section>
<footer>Made by NoisyLabelSeg. The pictures show only some slices: review the whole result before it is used.</footer>
</body>
</html>
"""


def _pictures(view: _View, hung: _HungMasks) -> str:
    chosen = sorted(_telling_slices(hung.stages), key=view.number)
    rows, columns = _crop(np.logical_or.reduce(hung.stages).any(axis=0), view.spacing)
    greys = _window(view.image[chosen, rows, columns])
    titles = ["Image", *(_stage_name(stage, len(hung.stages)) for stage in range(len(hung.stages))), "Difference"]
    lines = []
    for index, plane_grey in zip(chosen, greys, strict=True):
        grey = _enlarge(plane_grey, view.spacing)
        masks = [_enlarge(stage[index, rows, columns], view.spacing) for stage in hung.stages]
        drawings = [grey, *(_outlined(grey, mask) for mask in masks), _difference(grey, masks[0], masks[-1])]
        what = f"{view.plane.name} slice {view.number(index)} of {len(view.image)}"
        figures = "".join(_figure(*pair, what, view.plane) for pair in zip(drawings, titles, strict=True))
        added, removed = hung.counts(index)
        changes = f"{added} voxels added, {removed} removed" if added or removed else "unchanged"
        lines.append(
            f'<div class="slice"><p><b>{what}</b> · {changes}</p>'
            f'<div class="row" style="--columns:{len(titles)}">{figures}</div></div>'
        )
    return f"<h3>{_text(hung.segment.name)}</h3>{''.join(lines)}"


def _figure(pixels: Pixels, title: str, what: str, plane: _Plane) -> str:
    data = base64.b64encode(_encode_png(pixels)).decode("ascii")
    sides = ("top", "bottom", "left", "right")
    letters = "".join(f'<span class="{side}">{getattr(plane, side)}</span>' for side in sides)
    image = f'<img alt="{what}: {title}" src="data:image/png;base64,{data}">'
    return f'<figure><figcaption>{title}</figcaption><div class="picture">{image}{letters}</div></figure>'


def _summary(result: Result, masks: Iterable[_HungMasks]) -> str:
    items = "".join(f"<li>{_segment_summary(result, hung)}</li>" for hung in masks)
    return f"<p>{_run_summary(result)}</p><ul>{items}</ul>"


def _run_summary(result: Result) -> str:
    run = len(result.stages) - 1
    sentence = f"The model ran {run} stage{'' if run == 1 else 's'}"
    stopped = result.provenance.get("stopped_early")
    if stopped is not None:
        sentence += " and stopped before the planned number" if stopped else ", all that were planned"
    return f"{sentence}."


def _segment_summary(result: Result, hung: _HungMasks) -> str:
    rows = [row for row in result.statistics if row["segment"] == hung.segment.name]
    added, removed = hung.counts()
    name = f"<b>{_text(hung.segment.name)}</b>"
    change = f"{added:,} voxels were added and {removed:,} removed" if added or removed else "no voxel changed"
    if not rows:
        return f"{name}: {change}."
    before, after = rows[0]["volume_mm3"], rows[-1]["volume_mm3"]
    relative = f" ({100 * (after - before) / before:+.0f} %)" if before else ""
    dice = rows[-1]["dice_to_given"]
    overlap = "" if dice is None else f"; the result overlaps the given mask with a Dice coefficient of {dice:.2f}"
    return f"{name} was {_volume(before)} and is now {_volume(after)}{relative}: {change}{overlap}."


def _volume(cubic_millimetres: float) -> str:
    if not cubic_millimetres:
        return "empty"
    if cubic_millimetres < 100:
        return f"{cubic_millimetres:.3g} mm³"
    return f"{cubic_millimetres / 1000:.2f} ml"


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{_text(note)}</li>" for note in notes)
    return f'<section class="notes" role="note"><h2>Please note</h2><ul>{items}</ul></section>' if items else ""


def _limits(model: Mapping[str, Any]) -> str:
    named = (("Intended use", model.get("intended_use")), ("Not for", model.get("not_for")))
    lines = "".join(f"<p><b>{title}:</b> {_value(value)}</p>" for title, value in named if value)
    return f'<section class="limits">{lines}</section>' if lines else ""


def _header_date(provenance: Mapping[str, Any]) -> str:
    return f"<dt>Date and time</dt><dd>{_value(provenance['time'])}</dd>" if provenance.get("time") else ""


def _stage_name(stage: int, count: int) -> str:
    if stage == 0:
        return "Given mask"
    return f"Stage {stage} (result)" if stage == count - 1 else f"Stage {stage}"


def _measurements(result: Result) -> str:
    headings = ("Volume (mm³)", "Volume (ml)", "Dice to given mask", "HD95 to previous stage (mm)", "Voxels changed")
    lines = []
    for row in result.statistics:
        volume = row["volume_mm3"]
        numbers = (
            _number(volume, 1),
            _number(None if volume is None else volume / 1000, 3),
            _number(row["dice_to_given"], 3),
            _number(row["hd95_to_previous_mm"], 2),
            _number(row["changed_voxels"], 0),
        )
        stage = _stage_name(row["stage"], len(result.stages))
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
    return "".join(tables + [_facts(title, provenance.get(key, {})) for key, title in groups.items()])


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
