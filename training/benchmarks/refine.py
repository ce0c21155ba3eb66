"""How long a refinement takes: with the model warm, and from the start of the command to the written result."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.pipeline import refine
from NoisyLabelSegLib.segmentations import read_segmentation

SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "Samples"
MODELS = {"lidc-nodule-refine": "lidc-nodule", "hippocampus-refine": "hippocampus"}
REPEATS = 7


def main() -> None:
    """Print a line a model: warm median, cold start of the command, and its peak memory."""
    print(f"{torch.get_num_threads()} threads; median of {REPEATS} warm runs")
    for name, sample in MODELS.items():
        folder = SAMPLES / sample
        image, mask = read_image(folder / "image.nii.gz"), read_segmentation(folder / "coarse.seg.nrrd")
        model = load_model(name, "cpu")
        refine(image, mask, model)
        seconds = []
        for _ in range(REPEATS):
            start = time.perf_counter()
            result = refine(image, mask, model)
            seconds.append(time.perf_counter() - start)
        cold, megabytes = _command(name, folder)
        stages = len(result.stages) - 1
        print(
            f"{name}: warm {statistics.median(seconds):.3f} s ({stages} stages), cold {cold:.1f} s, "
            f"peak {megabytes:.0f} MB"
        )


def _command(name: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak resident memory of the command line in a process of its own."""
    import resource

    with tempfile.TemporaryDirectory() as target:
        output = str(Path(target) / "out.seg.nrrd")
        files = [str(folder / "image.nii.gz"), str(folder / "coarse.seg.nrrd")]
        command = [sys.executable, "-m", "NoisyLabelSegLib", "refine", *files, "--model", name, "-o", output]
        start = time.perf_counter()
        subprocess.run([*command, "--device", "cpu"], check=True, capture_output=True)
        seconds = time.perf_counter() - start
    return seconds, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
