"""Where a result came from: JSON values for `Result.provenance`."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

import torch

from NoisyLabelSegLib import __version__
from NoisyLabelSegLib.bundle import ModelDescription

PACKAGES = ("torch", "monai", "SimpleITK", "numpy")


def provenance(
    description: ModelDescription,
    settings: Mapping[str, Any],
    device: torch.device,
    seconds: float,
    stopped_early: bool | None = None,
) -> dict[str, Any]:
    """Say with what, on what and when a result was made."""
    return {
        "settings": {**description.method_arguments, **settings},
        "model": {
            "name": description.name,
            "version": description.version,
            "sha256": description.weights.sha256,
            "licence": description.licence,
            "intended_use": description.intended_use,
            "not_for": description.not_for,
        },
        "software": {"NoisyLabelSeg": __version__, "Python": platform.python_version()}
        | {package: version(package) for package in PACKAGES},
        "device": _name(device),
        "seconds": round(seconds, 3),
        **({} if stopped_early is None else {"stopped_early": stopped_early}),
        "time": datetime.datetime.now(datetime.timezone.utc).astimezone().isoformat(timespec="seconds"),
    }


def _name(device: torch.device) -> str:
    return f"{device} ({torch.cuda.get_device_name(device)})" if device.type == "cuda" else str(device)
