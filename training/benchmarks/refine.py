"""How long a refinement takes: with the model warm, and from the start of the command to the written result."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.pipeline import refine
from NoisyLabelSegLib.segmentations import read_segmentation

SAMPLES = Path(__file__).resolve().parents[2] / "Resources" / "Samples"
MODELS = {"lidc-nodule-refine": "lidc-nodule", "hippocampus-refine": "hippocampus"}
REPEATS = 7


def main() -> None:
    """Print a line a model (warm median, cold start of the command, its peak memory) and one of a whole CT."""
    print(f"{torch.get_num_threads()} threads; median of {REPEATS} warm runs")
    for name, sample in MODELS.items():
        try:
            model = load_model(name, "cpu")
        except InputError as error:
            print(f"{name}: {error}")
            continue
        folder = SAMPLES / sample
        image, mask = read_image(folder / "image.nii.gz"), read_segmentation(folder / "coarse.seg.nrrd")
        stages = len(refine(image, mask, model).stages) - 1
        seconds = statistics.median(_timed(partial(refine, image, mask, model)) for _ in range(REPEATS))
        cold, megabytes = _command(name, folder)
        print(f"{name}: warm {seconds:.3f} s ({stages} stages), cold {cold:.1f} s, peak {megabytes:.0f} MB")
    subprocess.run([sys.executable, "-m", "training.benchmarks.full_ct"], check=True)


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _command(name: str, folder: Path) -> tuple[float, float]:
    """Seconds and peak resident memory of the command line in a process of its own."""
    with tempfile.TemporaryDirectory() as target:
        output = str(Path(target) / "out.seg.nrrd")
        files = [str(folder / "image.nii.gz"), str(folder / "coarse.seg.nrrd")]
        command = [sys.executable, "-m", "NoisyLabelSegLib", "refine", *files, "--model", name, "-o", output]
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--device", "cpu"], stdout=subprocess.DEVNULL)
        # Of this process alone, where getrusage gives the largest of all so far.
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise InputError(f"'{' '.join(command)}' failed: see its message above.")
    return seconds, usage.ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
