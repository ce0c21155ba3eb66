"""What every report is: one HTML file for a person to read, print and archive; no scripts, nothing from elsewhere."""

from __future__ import annotations

import base64
import datetime
import html
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk

from NoisyLabelSegLib.images import write_atomically
from NoisyLabelSegLib.report_pictures import ADDED, COLOURS, PICTURE_PIXELS, REMOVED, Plane
from NoisyLabelSegLib.result import Result

DASH, TIMES = "\N{EN DASH}", "\N{MULTIPLICATION SIGN}"


@dataclass(frozen=True)
class Page:
    """A report's own parts, as HTML.

    Attributes:
        tab, title: in the browser's tab and at the top; plain text.
        given: what the given mask is called, and the key of `Result.provenance` with its name.
        summary: comes before the notes; `sections` with their headings after them.
    """

    tab: str
    title: str
    given: tuple[str, str]
    summary: str
    sections: Sequence[tuple[str, str]]


def write_page(result: Result, page: Page, path: Path) -> None:
    """Write a report as one file.

    Raises:
        InputError: the file cannot be written.
    """
    # A file name that is not valid Unicode holds lone surrogates, which plain UTF-8 encoding refuses.
    content = _document(result, page).encode("utf-8", errors="xmlcharrefreplace")

    def write(temporary: Path) -> None:
        temporary.write_bytes(content)

    write_atomically(path, write)


def _document(result: Result, page: Page) -> str:
    provenance = result.provenance
    name = text(provenance.get("image", "Unnamed image"))
    model = provenance.get("model", {})
    model_line = text(" ".join(str(model[key]) for key in ("name", "version") if model.get(key)) or "not recorded")
    heading, key = page.given
    given = f"<dt>{text(heading)}</dt><dd>{_value(provenance[key])}</dd>" if provenance.get(key) else ""
    sections = "".join(f"<section><h2>{text(title)}</h2>{content}</section>\n" for title, content in page.sections)
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{text(page.tab)}: {name}</title>
<style>{_STYLE}</style>
</head>
<body>
<header>
<h1>{text(page.title)}</h1>
<dl><dt>Image</dt><dd>{name}</dd>{given}<dt>Model</dt><dd>{model_line}</dd>{_header_date(provenance)}</dl>
</header>
<section><h2>Summary</h2>{page.summary}</section>
{_notes(result.notes)}
{_limits(model)}
{sections}<section><h2>How this result was made</h2><div class="facts">{_origin(result)}</div></section>
<footer>Made by NoisyLabelSeg. The pictures show only some slices: review the whole result before it is used.</footer>
</body>
</html>
"""


def row_of_pictures(title: str, remark: str, titles: Sequence[str], files: Sequence[bytes], plane: Plane) -> str:
    """Pictures (PNG) of one place side by side, each under its title; the remark is plain text."""
    figures = "".join(_figure(file, text(name), title, plane) for file, name in zip(files, titles, strict=True))
    return (
        f'<div class="slice"><p><b>{text(title)}</b> · {text(remark)}</p>'
        f'<div class="row" style="--columns:{len(titles)}">{figures}</div></div>'
    )


def _figure(file: bytes, title: str, what: str, plane: Plane) -> str:
    data = base64.b64encode(file).decode("ascii")
    sides = ("top", "bottom", "left", "right")
    letters = "".join(f'<span class="{side}">{getattr(plane, side)}</span>' for side in sides)
    image = f'<img alt="{what}: {title}" src="data:image/png;base64,{data}">'
    return f'<figure><figcaption>{title}</figcaption><div class="picture">{image}{letters}</div></figure>'


def _notes(notes: Iterable[str]) -> str:
    items = "".join(f"<li>{text(note)}</li>" for note in notes)
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


def table(headings: Sequence[str], rows: Iterable[Sequence[str]], names: int) -> str:
    """A table of numbers; of each row the first cells are ``names`` (plain text), the others right-aligned."""
    rows = list(rows)
    if wrong := next((row for row in rows if len(row) != len(headings)), None):
        raise ValueError(f"{len(headings)} headings do not fit the row {wrong}.")
    head = "".join(f'<th class="name" scope="col">{text(heading)}</th>' for heading in headings[:names])
    head += "".join(f'<th scope="col">{text(heading)}</th>' for heading in headings[names:])
    lines = "".join(
        "<tr>"
        + "".join(f'<th scope="row">{text(cell)}</th>' for cell in row[:names])
        + "".join(f"<td>{text(cell)}</td>" for cell in row[names:])
        + "</tr>"
        for row in rows
    )
    return f'<table class="numbers"><thead><tr>{head}</tr></thead><tbody>{lines}</tbody></table>'


def number(value: float | None, decimals: int) -> str:
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
    return text(known.get(key, words[:1].upper() + words[1:]))


def _value(value: Any) -> str:
    if value is None:
        return DASH
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple) and not any(isinstance(item, list | tuple | dict) for item in value):
        return ", ".join(_value(item) for item in value)
    return text(json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple | dict) else value)


def text(value: object) -> str:
    return html.escape(str(value))


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
.numbers td, .numbers thead th:not(.name) {{ text-align: right; font-variant-numeric: tabular-nums; }}
.numbers thead th {{ border-bottom: 2px solid #1f4e79; overflow-wrap: normal; }}
.numbers .start > * {{ border-top: 1px solid #8fa3b5; }}
.facts {{ columns: 2; column-gap: 40px; }} .facts tbody th {{ color: #5a6b7b; width: 38%; }}
footer {{ margin-top: 28px; padding-top: 8px; border-top: 1px solid #d5dde5; font-size: 12px; color: #5a6b7b; }}
@page {{ size: A4; margin: 14mm; }}
@media print {{ body {{ padding: 0; max-width: none; font-size: 11pt; }}
  * {{ print-color-adjust: exact; -webkit-print-color-adjust: exact; }} }}
@media (max-width: 720px) {{ .facts {{ columns: 1; }} body {{ padding: 16px; }} }}
"""
