"""3D Slicer's side of the worker, with real processes: every way in which one can end, and what the person hears."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import SimpleITK as sitk
from test_worker import ODD, ROOT, WORKER, request
from tiny_models import write_model

from NoisyLabelSegLib.bundle import find_bundle
from NoisyLabelSegLib.files import refine_files
from NoisyLabelSegLib.images import read_image
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.inference.preprocessing import Preprocessing, needed_box
from NoisyLabelSegLib.outputs import Outputs
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.pipeline import RefineSettings
from NoisyLabelSegLib.progress import Step
from NoisyLabelSegLib.regions import Region, masks_of
from NoisyLabelSegLib.segmentations import read_segmentation
from NoisyLabelSegLib.worker.messages import Outcome, Request
from NoisyLabelSegSlicer import client
from NoisyLabelSegSlicer.asked import AskedRun
from NoisyLabelSegSlicer.client import Progress, Worker
from NoisyLabelSegSlicer.process import WorkerProcess

SAMPLE = ROOT / "Resources" / "Samples" / "lidc-nodule"
BUNDLED = "lidc-nodule-refine"
PERIOD = 0.02


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Everything lies under a name with spaces and umlauts."""
    folder = tmp_path_factory.mktemp("Schöne Räume für ärztliche Bilder")
    write_model(folder / "models" / "tiny")
    for name in ("home", "temporary", "current"):
        (folder / name).mkdir()
    (folder / "library").mkdir()
    for name in ("NoisyLabelSegLib", "Resources"):
        (folder / "library" / name).symlink_to(ROOT / name)
    return folder


@pytest.fixture(scope="module")
def environment(folders: Path) -> dict[str, str]:
    home = dict.fromkeys(("HOME", "XDG_DATA_HOME", "APPDATA"), str(folders / "home"))
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folders / "temporary"))
    own = {"PYTHONPATH": str(folders / "library"), "NOISYLABELSEG_MODELS": str(folders / "models")}
    # MONAI loads matplotlib, which keeps a list of the computer's fonts; that says nothing about what is computed.
    return {**os.environ, **home, **temporary, **own, "OMP_NUM_THREADS": "1", "MPLCONFIGDIR": str(folders / "fonts")}


class Person:
    """What somebody hears who waits for a worker.

    Attributes:
        heard: names of the callbacks and what they were given, in order; progress apart.
    """

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.heard: list[tuple[str, Any]] = []
        self.steps: list[Progress] = []

    def hears(self, name: str) -> Callable[..., None]:
        return lambda *values: self.heard.append((name, *values))

    def run(self, wanted: Request) -> None:
        said = [self.hears(name) for name in ("done", "failed", "cancelled")]
        self.worker.run(wanted, self.steps.append, *said)

    def models(self) -> None:
        self.worker.models(self.hears("models"), self.hears("failed"))

    def wait(self, until: Callable[[], Any] | None = None, pause: Callable[[], Any] | None = None) -> tuple[Any, ...]:
        """Poll until it is so, or until something more is heard; give what was heard last."""
        before, end = len(self.heard), time.monotonic() + 60
        while not (until() if until else len(self.heard) > before):
            assert time.monotonic() < end, f"{self.worker.state}: {self.heard} {self.steps[-1:]} {self.worker.log}"
            self.worker.poll()
            (pause or (lambda: time.sleep(PERIOD)))()
        return self.heard[-1] if self.heard else ()

    def cancel(self) -> float:
        """Cancel and give the seconds until that is heard."""
        started = time.monotonic()
        self.worker.cancel()
        assert self.wait() == ("cancelled",)
        return time.monotonic() - started


@pytest.fixture
def person(environment: dict[str, str]) -> Iterator[Callable[..., Person]]:
    """``person(*command)``: somebody with a worker of their own, which ends with the test."""
    workers: list[Worker] = []

    def make(*command: str, **options: Any) -> Person:
        workers.append(Worker(command, environment, **options))
        return Person(workers[-1])

    yield make
    for worker in workers:
        worker.stop()


@pytest.fixture(scope="module")
def warm_worker(environment: dict[str, str], folders: Path) -> Iterator[Worker]:
    def start(command: Sequence[str], environment: Any) -> WorkerProcess:
        before = os.getcwd()
        os.chdir(folders / "current")
        try:
            return WorkerProcess(command, environment)
        finally:
            os.chdir(before)

    worker = Worker(WORKER, environment, start=start)
    yield worker
    worker.stop()


@pytest.fixture
def warm(warm_worker: Worker, folders: Path) -> Iterator[Person]:
    """Somebody who shares a worker with the other tests; after each, nothing is left on the disk."""
    yield Person(warm_worker)
    left = [path for name in ("temporary", "current", "home") for path in (folders / name).rglob("*")]
    assert [path for path in left if path.is_file()] == []


def pid(worker: Worker) -> int:
    return cast(WorkerProcess, worker._process)._process.pid


def is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    state = Path(f"/proc/{process}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] != "Z"


def sample_request(model: str, folder: Path, stages: int | None = None) -> Request:
    """What the module would send: the part that is needed, and the masks in regions."""
    segmentation, description = read_segmentation(folder / "coarse.seg.nrrd"), find_bundle(model).description
    whole, masks = Part.whole(image := read_image(folder / "image.nii.gz")), tuple(masks_of(segmentation))
    needed = needed_box(whole.grid, [mask.box for mask in masks], Preprocessing.from_json(description.preprocessing))
    voxels = Region(needed, sitk.GetArrayViewFromImage(image)[needed].copy())
    assert voxels.values.size < np.prod(whole.grid.size)
    return Request(
        kind="refine",
        model=model,
        device="cpu",
        stages=stages,
        grid=whole.grid,
        voxels=voxels,
        value_range=whole.value_range,
        segments=segmentation.segments,
        masks=masks,
    )


# The usual


def test_models_come_without_torch_and_the_worker_starts_by_itself(warm: Person) -> None:
    assert warm.worker.hello is None or warm.worker.hello["protocol"] == 2
    warm.models()
    assert warm.worker.state in ("starting", "busy")
    _, models = warm.wait()
    assert warm.worker.state == "ready"
    assert "tiny" in [model["description"]["name"] for model in models]


def test_the_sample_is_refined_to_the_voxels_of_the_command_line(warm: Person, tmp_path: Path) -> None:
    warm.run(sample_request(BUNDLED, SAMPLE))
    outcome: Outcome
    (_, outcome) = warm.wait()
    outputs = Outputs(tmp_path / "refined.seg.nrrd")
    image, mask = SAMPLE / "image.nii.gz", SAMPLE / "coarse.seg.nrrd"
    result, _ = refine_files(image, mask, load_model(BUNDLED, "cpu"), RefineSettings(), outputs)
    box = tuple(slice(0, n) for n in result.image.GetSize()[::-1])
    assert len(outcome.stages) == len(result.stages)
    for regions, stage in zip(outcome.stages, result.stages, strict=True):
        expected = sitk.GetArrayFromImage(stage.mask(stage.segments[0])) > 0
        assert np.array_equal(regions[0].cut(box), expected)
    (probability,), (expected_map,) = outcome.maps, result.probabilities.values()
    assert np.allclose(probability.region.cut(box), sitk.GetArrayFromImage(expected_map), atol=1e-5)
    assert outcome.notes == result.notes
    assert [segment.name for segment in outcome.segments] == list(result.stages[0].names)
    assert outcome.provenance["model"] == result.provenance["model"]
    assert warm.worker.device == "cpu"
    told = [step for step in warm.steps if step.stage]
    assert [step.done for step in told] == sorted(step.done for step in told)
    assert {step.stages for step in told} == {5} and told[-1].slices > 0 and told[-1].device == "cpu"
    assert all(step.seconds_left is None or step.seconds_left >= 0 for step in warm.steps)


def test_the_second_request_does_not_load_the_model_again(warm: Person) -> None:
    for _ in range(2):
        warm.steps.clear()
        warm.run(request())
        assert warm.wait()[0] == "done"
    assert warm.steps and not any("loading" in step.text for step in warm.steps)


def test_requests_are_answered_one_after_the_other(warm: Person) -> None:
    for wanted in (request("nobody"), request()):
        warm.run(wanted)
    warm.models()
    warm.wait(lambda: len(warm.heard) == 3)
    assert [name for name, *_ in warm.heard] == ["failed", "done", "models"]
    assert "There is no model called 'nobody'" in warm.heard[0][1]


def test_models_are_imported_and_removed(warm: Person, folders: Path) -> None:
    mine = write_model(folders / "ein neues Gerät" / "mine")
    said = warm.hears("models"), warm.hears("failed")

    def own(models: list[dict[str, Any]]) -> list[str]:
        return [model["description"]["name"] for model in models if model["removable"]]

    warm.worker.import_model(str(mine), False, *said)
    assert own(warm.wait()[1]) == ["mine"]
    warm.worker.import_model(str(mine), False, *said)
    assert "exists already" in warm.wait()[1]
    warm.worker.remove_model("tiny", *said)
    assert "none of your own models" in warm.wait()[1]
    warm.worker.remove_model("mine", *said)
    assert own(warm.wait()[1]) == []


def large_request() -> Request:
    """Many slices of noise, and no mask: a computation of minutes."""
    given, size = request(stages=9), (192, 192, 250)
    voxels = np.random.default_rng(0).integers(-1000, 1000, size[::-1], np.int16)
    grid = replace(given.grid, size=size)
    return replace(given, grid=grid, voxels=Region(grid.whole_box(), voxels), segments=(), masks=())


@pytest.mark.skipif(sys.platform == "win32", reason="the C library is another one")
def test_large_arrays_pass_while_pythons_lock_is_held(person: Callable[..., Person]) -> None:
    """3D Slicer's event loop does not let go of it: threads run only while the worker is polled."""
    given, hold = request(), ctypes.PyDLL(None).usleep
    wanted = replace(large_request(), segments=given.segments, masks=given.masks)
    somebody = person(*ODD, "bulky")
    somebody.run(wanted)
    polls = count()
    _, outcome = somebody.wait(pause=lambda: (hold(50_000), next(polls)))
    assert next(polls) < 300, "where polling gives the threads no time it takes some 500"
    (found,) = outcome.maps
    assert np.array_equal(found.region.values, wanted.voxels.values)


# A cancel


def test_a_cancel_is_in_time_and_leaves_the_worker_warm(warm: Person) -> None:
    warm.run(request())
    assert warm.wait()[0] == "done"
    process = pid(warm.worker)
    warm.steps.clear()
    warm.run(large_request())
    warm.wait(lambda: warm.steps and warm.steps[-1].slice > 2)
    assert warm.steps[-1].slices == 250
    assert warm.cancel() < 1
    assert (pid(warm.worker), warm.worker.state) == (process, "ready")
    told = len(warm.steps)
    warm.run(request())
    assert warm.wait()[0] == "done"
    assert not any("loading" in step.text for step in warm.steps[told:])


def test_a_worker_that_does_not_listen_is_killed_with_what_it_started(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "deaf")
    somebody.run(request())
    somebody.models()
    somebody.wait(lambda: somebody.steps)
    child, process = int(somebody.steps[0].text), pid(somebody.worker)
    assert is_running(child) and is_running(process)
    started = time.monotonic()
    somebody.worker.cancel()
    somebody.wait(lambda: len(somebody.heard) == 2)
    assert time.monotonic() - started < 1
    assert not is_running(child) and not is_running(process)
    assert somebody.heard[0] == ("cancelled",)
    assert somebody.heard[1][0] == "failed" and "ended together with the computation" in somebody.heard[1][1]
    assert somebody.worker.state == "off"
    somebody.models()
    assert somebody.wait()[0] == "models", "it is started again"


def test_a_cancel_before_the_worker_has_started(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "mute")
    somebody.run(request())
    somebody.worker.poll()
    assert somebody.cancel() < 1
    assert somebody.worker.state == "starting"


def test_a_large_request_blocks_nobody(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "stuffed")
    wanted = large_request()
    somebody.run(wanted)
    somebody.wait(lambda: somebody.worker.state == "busy")
    for _ in range(5):
        started = time.monotonic()
        somebody.worker.poll()
        assert time.monotonic() - started < 0.5
    assert somebody.cancel() < 1
    assert somebody.worker.state == "off"


def test_nothing_is_heard_after_a_stop(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "slow")
    somebody.run(request())
    somebody.wait(lambda: somebody.steps)
    process = pid(somebody.worker)
    somebody.worker.stop()
    assert somebody.worker.state == "off" and not is_running(process)
    told = len(somebody.steps)
    somebody.worker.poll()
    assert somebody.heard == [] and len(somebody.steps) == told


# Other ends


@pytest.mark.skipif(sys.platform == "win32", reason="there are no signals")
def test_a_worker_that_was_killed_is_missed_and_started_again(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "slow")
    somebody.run(request())
    somebody.wait(lambda: somebody.steps)
    process = pid(somebody.worker)
    os.kill(process, signal.SIGKILL)
    assert somebody.wait() == (
        "failed",
        "The worker ended unexpectedly (killed, perhaps because the computer's memory ran out: computing slowly). "
        "Try again: it will be started anew.",
    )
    assert somebody.worker.log == "computing slowly"
    assert somebody.worker.state == "off"
    somebody.run(request())
    somebody.wait(lambda: len(somebody.steps) > 1 and somebody.worker.state == "busy")
    assert pid(somebody.worker) != process


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        ([*ODD, "broken"], "The worker did not start (exit code 3: ImportError: no such thing). Open Set-up"),
        ([*ODD, "talkative"], "it begins with 'Usage: worker"),
        ([*ODD, "mute"], "The worker does not answer: open Set-up"),
        ([*ODD, "newer"], "The worker speaks protocol 3 and 3D Slicer's side 2: install the same version"),
        (["there is no Wörker"], "The worker 'there is no Wörker' cannot be started (No such file or directory)"),
        ([*WORKER, "--idle", "never"], "give a number of seconds, not 'never'"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) else "",
)
def test_a_worker_that_cannot_start_is_explained(
    person: Callable[..., Person], monkeypatch: pytest.MonkeyPatch, command: list[str], sentence: str
) -> None:
    if command[-1] == "mute":
        monkeypatch.setattr(client, "START_SECONDS", 0.3)
    somebody = person(*command)
    somebody.run(request())
    somebody.models()
    assert somebody.heard == [], "nothing is heard but while polling"
    somebody.wait(lambda: len(somebody.heard) == 2)
    for name, said in somebody.heard:
        assert name == "failed" and sentence in said and len(said.splitlines()) == 1
    assert somebody.worker.state == "off"


def test_missing_packages_are_named_and_models_are_listed_nevertheless(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "poor")
    somebody.run(request())
    assert somebody.wait() == (
        "failed",
        "The worker's Python lacks torch, monai: open Set-up to install what is missing.",
    )
    somebody.models()
    assert somebody.wait()[0] == "models"


HELLO: dict[str, Any] = {"type": "hello", "protocol": 2, "version": "1", "python": "3", "torch": None, "missing": []}
OUTCOME = {
    **{"segments": [], "stages": 0, "maps": [], "statistics": [], "provenance": {}, "notes": [], "slice_axis": 0},
    "suspects": [],
}


def without(key: str, message: dict[str, Any]) -> dict[str, Any]:
    return {other: value for other, value in message.items() if other != key}


@pytest.mark.parametrize(
    ("says", "sentence"),
    [
        ([without("protocol", HELLO)], "'hello' lacks the key 'protocol'"),
        ([{**HELLO, "protocol": "1"}], "protocol must be a whole number"),
        ([without("missing", HELLO)], "'hello' lacks the key 'missing'"),
        ([{**HELLO, "missing": "torch"}], "missing must be a list"),
        ([{"type": "result", "id": 1}], "says 'result' about nothing it was asked"),
        ([HELLO, {"type": "result"}], "says 'result' about nothing it was asked"),
        ([HELLO, {"type": "result", "id": 7}], "says 'result' about nothing it was asked"),
        ([HELLO, {"type": "result", "id": [1]}], "says 'result' about nothing it was asked"),
        ([HELLO, {"type": "result", "id": 1}], "'result' lacks the key 'outcome'"),
        ([HELLO, {"type": "result", "id": 1, "outcome": 1}], "outcome must be a JSON object"),
        ([HELLO, {"type": "result", "id": 1, "outcome": {}}], "The outcome lacks the key 'segments'"),
        ([HELLO, {"type": "result", "id": 1, "outcome": OUTCOME}], "The outcome: it has 0 stages"),
        ([HELLO, {"type": "error", "id": 1}], "'error' lacks the key 'message'"),
        ([HELLO, {"type": "error", "id": 1, "message": None, "fault": True}], "message must be a text"),
        ([HELLO, {"type": "models", "id": 1, "models": []}], "answers the request 'run' by 'models'"),
        ([HELLO, {"type": "dance\n" * 9, "id": 1}], r"by 'dance\n"),
        ([HELLO, {"type": "progress", "id": 1, "text": "slowly"}], "'progress' lacks the key 'done'"),
        ([HELLO, {"type": "progress", "id": 2, "text": "slowly", "done": 0}], "progress of what is no computation"),
        ([HELLO, {"type": "progress", "id": 1, "text": "slowly", "done": 10**400}], "OverflowError"),
        ([HELLO, {"type": "models", "id": 2}], "'models' lacks the key 'models'"),
        ([HELLO, {"type": "models", "id": 2, "models": [{"folder": "a"}]}], "model 1 lacks the key 'removable'"),
        (
            [HELLO, {"type": "models", "id": 2, "models": [{"folder": "a", "removable": True, "description": {}}]}],
            "model 1, description lacks the key",
        ),
        ([HELLO, {"type": "devices", "id": 2, "devices": ["cpu"]}], "answers the request 'models' by 'devices'"),
        ([HELLO, {"type": "devices", "id": 3, "devices": [0]}], "devices[0] must be a text"),
    ],
    ids=lambda value: None if isinstance(value, list) else value,
)
def test_what_cannot_be_read_ends_the_worker_and_everybody_is_told(
    person: Callable[..., Person], says: list[dict[str, Any]], sentence: str
) -> None:
    somebody = person(*ODD, "scripted", json.dumps(says))
    somebody.run(request())
    somebody.models()
    somebody.worker.devices(somebody.hears("devices"), somebody.hears("failed"))
    process = pid(somebody.worker)
    somebody.wait(lambda: len(somebody.heard) == 3)
    assert {name for name, *_ in somebody.heard} == {"failed"} and len({said for _, said in somebody.heard}) == 1
    said = somebody.heard[0][1]
    assert sentence in said and said.endswith(": install the same version of NoisyLabelSeg on both sides.")
    assert len(said.splitlines()) == 1
    assert somebody.worker.state == "off" and not is_running(process)


def test_a_cancel_works_although_the_hello_is_none(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "scripted", json.dumps([{"type": "hello"}]))
    somebody.run(request())
    assert somebody.cancel() < 1


def test_an_exception_of_who_listens_is_theirs(person: Callable[..., Person]) -> None:
    """It passes through, and everything else goes on."""

    def fall(_: Any) -> None:
        raise RuntimeError("the listener fell")

    answers: list[dict[str, Any]] = [{"type": "models", "id": number, "models": []} for number in (1, 2)]
    somebody = person(*ODD, "scripted", json.dumps([HELLO, *answers, {"type": "models"}]))
    failed = somebody.hears("failed")
    somebody.worker.models(fall, failed)
    somebody.models()
    with pytest.raises(RuntimeError, match="fell"):
        somebody.wait()
    assert somebody.wait() == ("models", []) and somebody.worker.state == "ready"
    somebody.worker.models(fall, fall)
    somebody.models()
    with pytest.raises(RuntimeError, match="fell"):
        somebody.wait(lambda: False)
    assert [name for name, *_ in somebody.heard] == ["models", "failed"], "the other one is told nevertheless"
    assert somebody.worker.state == "off"


def test_a_stop_while_somebody_is_told_is_the_end(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "poor")
    for _ in range(2):
        somebody.worker.devices(somebody.hears("devices"), lambda _: somebody.worker.stop())
    somebody.wait(lambda: somebody.worker.state == "off")
    assert somebody.heard == []


def test_a_login_may_greet_first(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "polite")
    somebody.models()
    assert somebody.wait()[0] == "models"


def test_a_last_answer_is_heard_although_the_worker_is_gone(person: Callable[..., Person]) -> None:
    somebody = person(*ODD, "brief")
    somebody.models()
    somebody.wait(lambda: somebody.worker.state == "busy")
    cast(WorkerProcess, somebody.worker._process)._process.wait(20)
    assert somebody.wait() == ("models", [])


def test_an_idle_worker_ends_and_is_started_when_it_is_needed(person: Callable[..., Person]) -> None:
    somebody = person(*WORKER, "--idle", "0.2")
    somebody.models()
    somebody.wait()
    before, end = pid(somebody.worker), time.monotonic() + 20
    while somebody.worker.state != "off" and time.monotonic() < end:
        time.sleep(PERIOD)
    somebody.models()
    assert somebody.wait()[0] == "models"
    assert pid(somebody.worker) != before


# Time left


def test_the_time_left_follows_from_the_share_done_since_the_stages_began() -> None:
    told: list[Progress] = []
    run = AskedRun({}, (), "result", lambda *_: lambda: None, lambda _: None, told.append, lambda: None)
    for now, stage, done, left in (
        (0, 0, 0, None),  # loading does not count
        (9, 1, 0, None),
        (9.1, 1, 0.01, None),  # too little to say anything
        (11, 1, 0.25, 6),
        (13, 2, 0.5, 4),
        (17, 3, 1, 0),
        (18, 1, 0.2, 36),  # memory ran out: something was done in vain
    ):
        run.follow(Step("", done, stage, 3), now)
        assert told[-1].seconds_left == (None if left is None else pytest.approx(left))
    run.give_up = 20
    run.follow(Step("", 0.5, 1, 3), 19)
    assert len(told) == 7, "after a cancel nothing is told"
