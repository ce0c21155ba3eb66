"""Where a result came from, kept with the node and with the file that is written of it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote

ATTRIBUTE = "NoisyLabelSeg.Provenance"
# In a .seg.nrrd the tags of a segment are separated by "|", their names end at a ":", and a line ends the field.
_PLAIN = " {}[](),;.+-_/='\""


def write_provenance(node: Any, ids: Iterable[str], provenance: Mapping[str, Any]) -> None:
    """Store JSON values in a segmentation node, and in the tags of its segments, which a .seg.nrrd keeps."""
    text = json.dumps(provenance, ensure_ascii=False)
    node.SetAttribute(ATTRIBUTE, text)
    for identifier in ids:
        node.GetSegmentation().GetSegment(identifier).SetTag(ATTRIBUTE, quote(text, safe=_PLAIN))


def read_provenance(node: Any) -> dict[str, Any]:
    """What was stored in the node; empty where there is nothing that can be read."""
    try:
        values = json.loads(node.GetAttribute(ATTRIBUTE) or "{}")
    except ValueError:
        return {}
    return values if isinstance(values, dict) else {}
