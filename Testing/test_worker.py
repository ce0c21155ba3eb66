"""The worker as a process: what it says to whatever comes in, and when it ends."""

from __future__ import annotations

import io
import json
import os
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count, islice
from pathlib import Path
from typing import IO, Any, cast

import numpy as np
import pytest
import SimpleITK as sitk
from tiny_models import ball, picture, voxels, write_model

from NoisyLabelSegLib.bundle import import_bundle, list_bundles, remove_bundle, user_folder
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.inference.model import load_model
from NoisyLabelSegLib.outcome import Map, Outcome
from NoisyLabelSegLib.part import Part
from NoisyLabelSegLib.refinement import RefineSettings, refine_part
from NoisyLabelSegLib.regions import Region, region_of
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegLib.worker.messages import (
    Request,
    outcome_message,
    read_outcome,
    read_request,
    request_message,
    to_block,
    to_region,
)
from NoisyLabelSegLib.worker.stream import BITS, LENGTH, MAGIC, PROTOCOL, Header, Message, read_message, write_message

ROOT = Path(__file__).resolve().parents[1]
WORKER = [sys.executable, "-m", "NoisyLabelSegLib", "worker"]
ODD = [sys.executable, str(Path(__file__).with_name("odd_workers.py"))]


def request(model: str = "tiny", kind: Any = "refine", stages: int | None = 2) -> Request:
    """The ball of `tiny_models`, with a mask two voxels off."""
    whole, mask = Part.whole(image := picture(voxels())), region_of(picture(ball(shift=2)))
    given = Region(mask.box, mask.values > 0)
    part = Region(whole.voxels.box, sitk.GetArrayFromImage(image))
    segments = (Segment("my nodule", 1, id="Segment_1", extra={"Tags.Segmentation.Status": "inprogress"}),)
    return Request(
        kind=kind,
        model=model,
        device="cpu",
        stages=stages,
        grid=whole.grid,
        voxels=part,
        value_range=whole.value_range,
        segments=segments,
        masks=(given,),
    )


# The stream


def through(header: Header, blocks: Sequence[Any] = (), before: bytes = b"", noise: int = 0) -> Message | None:
    stream = io.BytesIO()
    stream.write(before)
    write_message(cast(Any, stream), header, blocks)
    stream.seek(0)
    return read_message(cast(Any, io.BufferedReader(cast(Any, stream))), noise)


@pytest.mark.parametrize("kind", BITS)
@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 1, 1), (0, 0, 0), (2, 3, 3)])
def test_arrays_arrive_as_they_were(kind: str, shape: tuple[int, int, int]) -> None:
    box = tuple(slice(n, n + size) for n, size in zip((7, 0, 900), shape, strict=True))
    values = np.random.default_rng(0).integers(0, 2 if kind == "bool" else 120, shape).astype(kind)
    turned = np.asfortranarray(values)
    swapped = values.astype(values.dtype.newbyteorder(">"))
    _, blocks = cast(Message, through({"type": "x"}, [to_block(Region(box, v)) for v in (values, turned, swapped)]))
    for found in map(to_region, blocks):
        assert (found.box, found.values.dtype, found.values.shape) == (box, values.dtype, shape)
        assert np.array_equal(found.values, values)


def test_a_mask_costs_a_bit_a_voxel_and_nothing_is_written_as_text() -> None:
    header, blocks = request_message(request())
    voxels_in_mask = request().masks[0].values.size
    assert [len(bytes(block.data)) for block in blocks] == [24 * 20 * 6 * 2, (voxels_in_mask + 7) // 8]
    assert len(json.dumps(header)) < 1500


def test_requests_and_outcomes_arrive_as_they_were() -> None:
    sent = request()
    header, blocks = cast(
        Message, through({"type": "run", "request": request_message(sent)[0]}, request_message(sent)[1])
    )
    found = read_request(header["request"], blocks)
    plain = ("kind", "model", "device", "stages", "grid", "value_range", "segments")
    assert [getattr(found, name) for name in plain] == [getattr(sent, name) for name in plain]
    for a, b in zip((found.voxels, *found.masks), (sent.voxels, *sent.masks), strict=True):
        assert a.box == b.box and np.array_equal(a.values, b.values)
    map_ = Map("probability", "Segment_1", Region(sent.masks[0].box, sent.masks[0].values.astype(np.float32)), 0, 1)
    rows = ({"segment": "a", "stage": 0, "dice": float("nan")},)
    empty = Region((slice(4, 6),) * 3, np.zeros((2, 2, 2), bool))
    outcome = Outcome(sent.segments, (sent.masks, (empty,)), (map_,), rows, {"seconds": 1.5}, ("ä note",), 1)
    back = read_outcome(*outcome_message(outcome), sent.grid, sent.segments)
    assert (back.segments, back.provenance, back.notes, back.slice_axis) == (
        sent.segments,
        {"seconds": 1.5},
        ("ä note",),
        1,
    )
    assert back.statistics == ({"segment": "a", "stage": 0, "dice": None},)
    assert np.array_equal(back.stages[0][0].values, sent.masks[0].values) and back.stages[0][0].box == sent.masks[0].box
    assert back.stages[1][0].values.size == 0, "only what is not empty travels"
    assert np.array_equal(back.maps[0].region.values, map_.region.values)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"kind": "diagnose"}, "kind must be one of"),
        ({"stages": "2"}, "stages must be a whole number"),
        ({"surprise": 1}, "unknown key"),
        ({"grid": {}}, "grid lacks the key"),
        ({"segments": []}, "A request of 0 segments holds 2 arrays"),
    ],
)
def test_what_is_no_request_is_refused(change: dict[str, Any], sentence: str) -> None:
    header, blocks = request_message(request())
    with pytest.raises(InputError, match=sentence):
        read_request({**json.loads(json.dumps(header)), **change}, blocks)


def test_a_request_lies_in_its_image() -> None:
    sent = request()
    beyond = Region(tuple(slice(s.start, s.stop + 20) for s in sent.masks[0].box), sent.masks[0].values)
    numbers = Region(sent.masks[0].box, sent.masks[0].values.astype(np.uint8))
    for masks in ((beyond,), (numbers,), ()):
        with pytest.raises(InputError, match="must lie in the image"):
            replace(sent, masks=masks)


def outcome(**change: Any) -> Outcome:
    """What could be an answer to `request`."""
    sent = request()
    (mask,) = sent.masks
    maps = (Map("probability", "Segment_1", Region(mask.box, mask.values.astype(np.float32)), 0, 1),)
    given = Outcome(sent.segments, (sent.masks, sent.masks), maps, (), {"device": "cpu"}, (), 2)
    return replace(given, **change)


def beside(values: Any, start: tuple[int, int, int]) -> Region:
    return Region(tuple(slice(a, a + n) for a, n in zip(start, values.shape, strict=True)), values)


BALL = request().masks[0]
NUMBERS, OUTSIDE = Region(BALL.box, BALL.values.astype(np.uint8)), beside(np.ones((1, 1, 1), bool), (6, 0, 0))
OTHER = replace(request().segments[0], id="Segment_2")


def probability(region: Region, segment: str = "Segment_1", minimum: float = 0, maximum: float = 1) -> Any:
    return {"maps": (Map("probability", segment, region, minimum, maximum),)}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"stages": ((BALL,), (NUMBERS,))}, "masks must be truth values that lie in the image"),
        ({"stages": ((BALL,), (OUTSIDE,))}, "masks must be truth values that lie in the image"),
        ({"segments": (OTHER,)}, "must have the segments that were asked for"),
        ({"segments": (OTHER, *request().segments), "stages": ((BALL, BALL),)}, "must have the segments"),
        ({"segments": (), "stages": ((),)}, "must have the segments"),
        (probability(BALL), "maps must be of type float32 and lie in the image"),
        (probability(beside(np.ones((1, 1, 1), np.float32), (0, 20, 99))), "maps must be of type float32"),
        (probability(BALL, "Segment_9"), "maps must be about its segments"),
    ],
)
def test_an_outcome_that_answers_another_question_is_refused(change: dict[str, Any], sentence: str) -> None:
    sent = request()
    read_outcome(*outcome_message(outcome()), sent.grid, sent.segments)
    with pytest.raises(InputError, match=sentence):
        read_outcome(*outcome_message(outcome(**change)), sent.grid, sent.segments)


MAP = {"name": "entropy", "segment": "", "minimum": 0, "maximum": 1, "outside": 0}


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"stages": 0}, "it has 0 stages"),
        ({"stages": -1}, "it has -1 stages"),
        ({"stages": 3}, "An outcome of 3 masks and 1 maps holds 3 arrays"),
        ({"stages": None}, "stages must be a whole number"),
        ({"slice_axis": 3}, "slices along axis 3 of 0 to 2"),
        ({"slice_axis": -1}, "slices along axis -1"),
        ({"maps": [{**MAP, "name": "guess"}]}, "name must be one of"),
        ({"maps": [{**MAP, "minimum": 1}]}, "its bounds 1.0 and 1.0 are none"),
        ({"maps": [{**MAP, "maximum": np.nan}]}, "its bounds 0.0 and nan"),
        ({"maps": [{**MAP, "outside": np.nan}]}, "its value outside, nan, is none"),
        ({"suspects": [1]}, "suspects"),
        ({"notes": "a note"}, "notes must be a list"),
        ({"surprise": 1}, "unknown key"),
    ],
)
def test_what_is_no_outcome_is_refused(change: dict[str, Any], sentence: str) -> None:
    (header, blocks), sent = outcome_message(outcome()), request()
    with pytest.raises(InputError, match=sentence):
        read_outcome({**json.loads(json.dumps(header)), **change}, blocks, sent.grid, sent.segments)


def test_arrays_of_a_negative_size_are_refused() -> None:
    header, blocks = outcome_message(outcome())
    header, sent = json.loads(json.dumps(header)), request()
    odd = replace(blocks[1], shape=(-1, 1, 1), type="uint8")
    for place in range(3):
        with pytest.raises(InputError, match="lie in the image"):
            read_outcome(header, [*blocks[:place], odd, *blocks[place + 1 :]], sent.grid, sent.segments)


def test_a_models_further_structures_come_last_with_identifiers_of_their_own() -> None:
    sent = request()
    for further, known in ((OTHER, True), (replace(OTHER, id=""), False), (replace(OTHER, id="Segment_1"), False)):
        message = outcome_message(outcome(segments=(*sent.segments, further), stages=((BALL, BALL),) * 2))
        if known:
            assert read_outcome(*message, sent.grid, sent.segments).segments == (*sent.segments, OTHER)
        else:
            with pytest.raises(InputError, match="must have the segments"):
                read_outcome(*message, sent.grid, sent.segments)


def test_suspects_and_what_a_map_is_outside_arrive_as_they_were() -> None:
    map_ = Map("confidence", "", Region(BALL.box, BALL.values.astype(np.float32)), 0, 1, 1.0)
    given = outcome(maps=(map_,), suspects=({"rank": 1, "given": "nodule", "index": [1, 2, 3]},))
    header, blocks = outcome_message(given)
    found = read_outcome(json.loads(json.dumps(header)), blocks, request().grid, request().segments)
    assert found.suspects == given.suspects and found.maps[0].outside == 1


@pytest.mark.parametrize(("ids", "known"), [(("a", "b"), True), (("a", "a"), False), (("a", ""), False), ((), False)])
def test_from_nothing_the_models_segments_come_with_identifiers(ids: tuple[str, ...], known: bool) -> None:
    segments = tuple(Segment(f"{n}", n + 1, id=name) for n, name in enumerate(ids))
    message = outcome_message(outcome(segments=segments, stages=((BALL,) * len(ids),) * 2, maps=()))
    if known:
        assert read_outcome(*message, request().grid, ()).segments == segments
    else:
        with pytest.raises(InputError, match="must have the segments"):
            read_outcome(*message, request().grid, ())


def raw(header: Any, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return MAGIC + LENGTH.pack(len(text) if length is None else length) + text


def array(**change: Any) -> dict[str, Any]:
    return {"type": "x", "arrays": [{"type": "uint8", "start": [0, 0, 0], "shape": [1, 1, 1], **change}]}


@pytest.mark.parametrize(
    "content",
    [
        b"hello\n",
        MAGIC[:-1] + b"?",
        raw({"type": "x"}),
        raw({"arrays": []}),
        raw({"type": 1, "arrays": []}),
        raw([]),
        raw(b"\xff\xfe"),
        raw(b"[" * 100_000),
        raw(b"{}", length=2**32 - 1),
        raw(array(type="object")),
        raw(array(shape=[1, 1])),
        raw(array(shape=[-1, 1, 1])),
        raw(array(shape=[1.0, 1, 1])),
        raw(array(shape=[2**20 + 1, 1, 1])),
        raw(array(shape=[2**20, 2**20, 1])),
        raw(array(start=[2**63, 0, 0])),
        raw(array(start=[True, 0, 0])),
        raw({"type": "x", "arrays": [{"type": "uint8", "start": 3, "shape": [1, 1, 1]}]}),
    ],
    ids=lambda content: ascii(content[:70]),
)
def test_what_is_no_message_is_refused_before_memory_is_taken(content: bytes) -> None:
    with pytest.raises(InputError):
        read_message(cast(Any, io.BufferedReader(cast(Any, io.BytesIO(content)))))


@pytest.mark.parametrize("cut", [0, 9, 12, 40, -1])
def test_a_stream_that_ends_is_no_error(cut: int) -> None:
    stream = io.BytesIO()
    header, blocks = request_message(request())
    write_message(cast(Any, stream), {"type": "run", "request": header}, blocks)
    content = stream.getvalue()[:cut]
    assert read_message(cast(Any, io.BufferedReader(cast(Any, io.BytesIO(content))))) is None


@pytest.mark.parametrize(
    ("noise", "allowed", "heard"),
    [
        (b"", 0, True),
        (b"Welcome!\r\n", 64, True),
        (b"Welcome!\r\n", 10, True),
        (b"Welcome!\r\n", 9, False),
        (MAGIC[:5], 5, True),
        (MAGIC[:5], 0, False),
        (b"x" * 65_536, 65_536, True),
        (b"x" * 65_537, 65_536, False),
    ],
)
def test_noise_before_a_message_is_skipped_up_to_a_bound(noise: bytes, allowed: int, heard: bool) -> None:
    if heard:
        assert through({"type": "hello"}, before=noise, noise=allowed) == ({"type": "hello"}, [])
    else:
        with pytest.raises(InputError, match="no message of NoisyLabelSeg"):
            through({"type": "hello"}, before=noise, noise=allowed)


# The process


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("worker")
    write_model(folder / "models" / "tiny")
    for name in ("home", "temporary"):
        (folder / name).mkdir()
    return folder


@pytest.fixture(scope="module")
def environment(folders: Path) -> dict[str, str]:
    home = dict.fromkeys(("HOME", "XDG_DATA_HOME", "APPDATA"), str(folders / "home"))
    temporary = dict.fromkeys(("TMPDIR", "TEMP", "TMP"), str(folders / "temporary"))
    own = {"PYTHONPATH": str(ROOT), "NOISYLABELSEG_MODELS": str(folders / "models"), "OMP_NUM_THREADS": "1"}
    # MONAI loads matplotlib, which keeps a list of the computer's fonts; that says nothing about what is computed.
    return {**os.environ, **home, **temporary, **own, "MPLCONFIGDIR": str(folders / "fonts")}


class Talk:
    """A worker's process, its streams as they are."""

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, env=environment)
        self.watchdog = threading.Timer(60, self.process.kill)  # a test must not hang
        self.watchdog.start()

    def send(self, header: Header, blocks: Sequence[Any] = ()) -> None:
        write_message(cast(Any, self.process.stdin), header, blocks)

    def hear(self) -> Header:
        message = read_message(cast(Any, self.process.stdout))
        assert message is not None, self.end()
        return message[0]

    def run(self, wanted: Request, number: int = 1) -> list[Header]:
        """Everything that is said until the run is over."""
        header, blocks = request_message(wanted)
        self.send({"type": "run", "id": number, "request": header}, blocks)
        heard = [self.hear()]
        while heard[-1]["type"] == "progress":
            heard.append(self.hear())
        return heard

    def end(self) -> tuple[int, str]:
        """Exit code and stderr, after it has ended by itself."""
        code = self.process.wait(20)
        return code, cast(IO[bytes], self.process.stderr).read().decode()


@pytest.fixture
def talk(environment: dict[str, str]) -> Iterator[Callable[..., Talk]]:
    """``talk(*arguments, odd="")``: a worker, or an odd one."""
    talks: list[Talk] = []

    def start(*arguments: str, odd: str = "") -> Talk:
        talks.append(Talk([*ODD, odd, *arguments] if odd else [*WORKER, *arguments], environment))
        return talks[-1]

    yield start
    for one in talks:
        one.watchdog.cancel()
        one.process.kill()
        one.process.wait()
        for stream in (one.process.stdin, one.process.stdout, one.process.stderr):
            with suppress(OSError):
                cast(IO[bytes], stream).close()


def test_it_says_hello_and_lists_models_without_any_package(talk: Callable[..., Talk]) -> None:
    worker = talk(odd="bare")
    hello = worker.hear()
    assert hello["type"] == "hello" and hello["protocol"] == PROTOCOL
    assert hello["python"] == ".".join(map(str, sys.version_info[:3]))
    assert hello["torch"] is None
    assert hello["missing"] == ["torch", "monai", "safetensors", "SimpleITK", "numpy", "scipy"]
    worker.send({"type": "models", "id": 5})
    answer = worker.hear()
    assert (answer["type"], answer["id"]) == ("models", 5)
    (tiny,) = [model for model in answer["models"] if model["folder"].endswith("tiny")]
    assert tiny["removable"] is False
    assert tiny["description"]["labels"][0]["name"] == "nodule"
    worker.send({"type": "stop"})
    assert worker.end() == (0, "")


def test_one_that_is_kept_warm(talk: Callable[..., Talk], folders: Path) -> None:
    """Two runs and all that may go wrong between them, in one process."""
    worker = talk()
    assert worker.hear()["missing"] == []
    *steps, result = worker.run(request(), 1)
    assert [step["text"] for step in steps[:2]] == ["starting PyTorch", "loading the model"]
    assert result["type"] == "result" and result["id"] == 1
    *steps, result = worker.run(request(), 2)
    assert result["type"] == "result"
    assert all(step["text"].startswith("stage") for step in steps), "the model was warm"
    for kind in ("segment", "uncertainty"):
        (error,) = worker.run(request(kind=kind))
        assert "refines a given mask" in error["message"] and error["fault"] is False
    (error,) = worker.run(request("nobody"))
    assert "There is no model called 'nobody'" in error["message"] and error["fault"] is False
    (error,) = worker.run(request(stages=12))
    assert "between 1 and 9" in error["message"]
    (error,) = worker.run(replace(request(), voxels=request().masks[0]))
    assert error["fault"] is True and "Something unforeseen happened" in error["message"]
    worker.send({"type": "dance", "id": 7})
    error = worker.hear()
    assert (error["id"], error["fault"]) == (7, False) and "'dance'" in error["message"]
    worker.send({"type": "devices", "id": 8})
    assert worker.hear()["devices"][-1] == "cpu"
    *_, result = worker.run(request(), 9)
    assert result["type"] == "result", "it lives on"
    worker.send({"type": "stop"})
    code, log = worker.end()
    assert code == 0 and "do not hold the crop" in log, "the traceback is in the log"
    assert list((folders / "temporary").iterdir()) == list((folders / "home").iterdir()) == []


def test_memory_that_runs_out_is_said_and_changes_nothing(talk: Callable[..., Talk], folders: Path) -> None:
    given = request()
    model = load_model(folders / "models" / "tiny", "cpu")
    expected = refine_part(given.part, given.segments, given.masks, model, RefineSettings(stages=2))
    hungry = talk(odd="hungry")
    hungry.hear()
    *_, result = hungry.run(request())
    notes = result["outcome"]["notes"]
    assert [note for note in notes if "Memory ran out" in note] == [
        "Memory ran out: going on with batches of 2.",
        "Memory ran out: going on with batches of 1.",
    ]
    assert result["outcome"]["statistics"] == list(expected.statistics)


def test_what_libraries_write_does_not_disturb(talk: Callable[..., Talk]) -> None:
    worker = talk(odd="clumsy")
    worker.hear()
    (error,) = worker.run(request())
    assert error["message"].startswith("Something unforeseen happened (RuntimeError: first line second line);")
    assert error["fault"] is True
    worker.send({"type": "models", "id": 2})
    assert worker.hear()["id"] == 2
    worker.send({"type": "stop"})
    code, log = worker.end()
    assert code == 0
    for part in ("a library's greeting", "from below Python", "EOFError", "RuntimeError: first line"):
        assert part in log


def test_a_cancel_is_heard_while_it_computes(talk: Callable[..., Talk]) -> None:
    worker = talk(odd="slow")
    worker.hear()
    header, blocks = request_message(request())
    for number in (1, 2):
        worker.send({"type": "run", "id": number, "request": header}, blocks)
    assert worker.hear()["text"] == "slowly"
    worker.send({"type": "cancel", "id": 2})
    worker.send({"type": "cancel", "id": 1})
    heard = (worker.hear() for _ in count())
    ends = list(islice((header for header in heard if header["type"] != "progress"), 2))
    assert ends == [{"type": "cancelled", "id": 1}, {"type": "cancelled", "id": 2}]


def test_it_ends_at_once_with_its_input(talk: Callable[..., Talk]) -> None:
    worker = talk(odd="deaf")
    worker.hear()
    header, blocks = request_message(request())
    worker.send({"type": "run", "id": 1, "request": header}, blocks)
    child = int(worker.hear()["text"])
    started = time.monotonic()
    cast(IO[bytes], worker.process.stdin).close()
    assert worker.process.wait(20) == 0
    assert time.monotonic() - started < 5
    os.kill(child, 9)


@pytest.mark.parametrize("content", [b"refine this\n", struct.pack("<Q", 2**63) * 8, raw(array(type="object"))])
def test_garbage_ends_it_with_a_sentence(talk: Callable[..., Talk], content: bytes) -> None:
    worker = talk()
    stdin = cast(IO[bytes], worker.process.stdin)
    stdin.write(content)
    stdin.flush()
    assert worker.hear()["type"] == "hello"
    code, log = worker.end()
    assert code == 2 and len(log.splitlines()) == 1 and "essage" in log


def test_it_ends_when_nobody_needs_it(talk: Callable[..., Talk]) -> None:
    worker = talk("--idle", "0.2")
    worker.hear()
    assert worker.end() == (0, "")


# The person's own models


def test_only_own_models_are_removed(folders: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOISYLABELSEG_MODELS", str(folders / "models"))
    for variable in ("HOME", "XDG_DATA_HOME", "APPDATA"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    for name in ("tiny", "nobody", "..", ""):
        with pytest.raises(InputError, match="is none of your own models"):
            remove_bundle(name)
    import_bundle(write_model(tmp_path / "mine"))
    (user_folder() / "broken").mkdir()
    for name in ("mine", "broken"):
        assert any(bundle.folder == user_folder() / name for bundle in list_bundles())
        remove_bundle(name)
    assert list(user_folder().iterdir()) == []
    assert (tmp_path / "mine").is_dir() and (folders / "models" / "tiny").is_dir()
