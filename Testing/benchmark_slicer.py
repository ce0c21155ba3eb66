"""What a refinement costs 3D Slicer: ``python Testing/benchmark_slicer.py`` prints seconds and memory.

Everything is real but the window: Slicer's data model, the worker as a process of its own, a bundled model. A whole CT
is made of the sample nodule, enlarged to 3 cm, in tissue-like noise.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "NoisyLabelSeg")]

from scenes import add_segmentation, add_volume, geometry, new_scene  # noqa: E402

from NoisyLabelSegLib.bundle import find_bundle  # noqa: E402
from NoisyLabelSegLib.outcome import Outcome  # noqa: E402
from NoisyLabelSegLib.regions import Region  # noqa: E402
from NoisyLabelSegLib.segmentations import Segment  # noqa: E402
from NoisyLabelSegSlicer.client import Worker  # noqa: E402
from NoisyLabelSegSlicer.request import make_request  # noqa: E402
from NoisyLabelSegSlicer.session import Session  # noqa: E402

MODEL, SPACING, DIAMETER = "lidc-nodule-refine", (0.7, 0.7, 1.0), 30.0


def main() -> None:
    """Print the cost of a refinement of a whole CT, and of a step of the stage slider."""
    worker = Worker([sys.executable, "-m", "NoisyLabelSegLib", "worker"], {**os.environ, "PYTHONPATH": str(ROOT)})
    refine_whole_ct(worker, (512, 512, 300))
    worker.stop()
    for name, radii in (("3 cm", (15, 21, 21)), ("liver-sized", (40, 100, 100))):
        slide(name, radii)


def refine_whole_ct(worker: Worker, size: tuple[int, int, int]) -> None:
    """Refine the same CT cold and warm; the second time counts."""
    scene, volume, segmentation = _scene(size)  # the scene must outlive its nodes
    for temperature in ("cold", "warm"):
        before = _resident()
        start = time.perf_counter()
        request = make_request(volume, segmentation, ["lesion"], None, _description(), "cpu", None)
        asked = time.perf_counter()
        outcome = _run(worker, request)
        answered = time.perf_counter()
        session = Session.create(volume, segmentation, outcome, None, True)
        done = time.perf_counter()
        computed = outcome.provenance["seconds"]
        print(
            f"{' x '.join(map(str, size))}, {DIAMETER:g} mm, {temperature}: {done - start:.2f} s in all; computed "
            f"{computed:.2f} s, to the worker and back {answered - asked - computed:.2f} s, from and to the scene "
            f"{asked - start + done - answered:.2f} s; sent {request.voxels.values.nbytes / 1e6:.1f} of "
            f"{np.prod(size) * 2 / 1e6:.0f} MB; memory of this side grew by {_resident() - before:.0f} MB"
        )
        scene.RemoveNode(session.result)


def slide(name: str, radii: tuple[int, int, int]) -> None:
    """Move the stage slider up and down through five stages of an ellipsoid (radii K, J, I) in 512 x 512 x 120."""
    shape, (k, j, i) = (120, 512, 512), radii
    grid = np.ogrid[tuple(slice(n) for n in shape)]
    stages = []
    for stage in range(6):
        ripple = 0.04 * (5 - stage) * np.sin(grid[2] / 9) * np.cos(grid[1] / 7)
        distance = ((grid[0] - 60) / k) ** 2 + ((grid[1] - 256) / j) ** 2 + ((grid[2] - 256) / i) ** 2
        stages.append((region_of_mask(distance + ripple < 1),))
    scene, matrix = new_scene(), geometry(SPACING)
    volume = add_volume(scene, np.zeros(shape, np.int16), matrix)
    outcome = Outcome((Segment("lesion", 1, id="lesion"),), tuple(stages), (), (), {}, (), 2)
    session = Session.create(volume, None, outcome, None, True)
    _print_steps(session, f"{name}, slices alone")
    session.show_changes(True)
    _print_steps(session, f"{name}, with changes")
    session.result.CreateClosedSurfaceRepresentation()
    _print_steps(session, f"{name}, with changes and 3D surface")


def region_of_mask(mask: Any) -> Region:
    return Region(tuple(slice(0, n) for n in mask.shape), mask).trimmed()


def _print_steps(session: Session, what: str) -> None:
    numbers = [*range(session.stages + 1)] * 2
    steps = [1e3 * _timed(lambda number=number: session.show_stage(number)) for number in numbers]  # type: ignore[misc]
    first, later = steps[: len(steps) // 2], steps[len(steps) // 2 :]
    figures = [f"{statistics.median(part):.0f} ms (longest {max(part):.0f})" for part in (first, later)]
    print(f"step of the stage slider, {what}: first look {figures[0]}, later {figures[1]}")


def _scene(size: tuple[int, int, int]) -> tuple[Any, Any, Any]:
    noise = np.random.default_rng(0).normal(0, 60, (size[2], *size[:2])).astype(np.int16)
    grid = np.ogrid[tuple(slice(n) for n in noise.shape)]
    centre = [n / 2 for n in noise.shape]
    distance = np.sqrt(sum(((g - c) * s) ** 2 for g, c, s in zip(grid, centre, SPACING[::-1], strict=True)))
    lesion = distance + 3 * np.sin(grid[2] / 7) < DIAMETER / 2
    noise[lesion] += 850
    noise -= 850
    coarse = np.zeros(noise.shape, np.uint8)
    coarse[distance < DIAMETER / 2 + 2] = 1
    scene, matrix = new_scene(), geometry(SPACING)
    return scene, add_volume(scene, noise, matrix), add_segmentation(scene, {"lesion": coarse}, matrix)


def _description() -> dict[str, Any]:
    from dataclasses import asdict

    return asdict(find_bundle(MODEL).description)


def _run(worker: Worker, request: Any) -> Outcome:
    answers: list[Any] = []
    worker.run(request, lambda _progress: None, answers.append, answers.append, lambda: answers.append("cancelled"))
    while not answers:
        worker.poll()
        time.sleep(0.01)
    if not isinstance(answers[0], Outcome):
        raise SystemExit(f"error: {answers[0]}")
    return answers[0]


def _timed(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def _resident() -> float:
    """Resident memory of this process in MB."""
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    main()
