"""``noisylabelseg demo``: the bundled sample through the bundled model, compared with the expert's mask."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from NoisyLabelSegLib.commands.console import console, plain
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.sample_data import sample_folder

if TYPE_CHECKING:
    from NoisyLabelSegLib.segmentations import Segmentation

SAMPLE, MODEL, FOLDER = "lidc-nodule", "lidc-nodule-refine", Path("noisylabelseg-demo")


def run(arguments: argparse.Namespace) -> int:
    """Refine the sample and say how much closer to the expert it has come."""
    from NoisyLabelSegLib.bundle import find_bundle
    from NoisyLabelSegLib.commands.refine import refine_and_tell
    from NoisyLabelSegLib.outputs import Outputs

    sample, folder = sample_folder() / SAMPLE, arguments.output or FOLDER
    if not sample.is_dir():
        raise InputError(f"The sample {sample} is missing: install NoisyLabelSeg again.")
    find_bundle(MODEL)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"The folder {folder} cannot be made ({error.strerror}): choose another.") from error
    # Only the demonstration writes to its own folder, so that it may be started again and again.
    overwrite = arguments.output is None or arguments.overwrite
    refined, report, figures = (folder / name for name in ("refined.seg.nrrd", "report.html", "figures.json"))
    outputs = Outputs(refined, report, figures, overwrite=overwrite)
    request = argparse.Namespace(model=MODEL, device=arguments.device, stages=None, segments=[])
    result = refine_and_tell(sample / "image.nii.gz", sample / "coarse.seg.nrrd", outputs, request)
    before, after = (_dice(stage, sample / "expert.seg.nrrd") for stage in (result.stages[0], result.stages[-1]))
    console().print(plain(f"Dice to the expert's mask: {before:.3f} before, {after:.3f} after"))
    return 0


def _dice(stage: Segmentation, expert_path: Path) -> float:
    import SimpleITK as sitk

    from NoisyLabelSegLib import metrics
    from NoisyLabelSegLib.segmentations import read_segmentation

    expert = read_segmentation(expert_path)
    masks = [sitk.GetArrayFromImage(s.mask(s.segments[0])) > 0 for s in (stage, expert)]
    return metrics.dice(*masks)
