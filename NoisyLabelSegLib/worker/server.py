"""The worker's process: it listens in one thread and computes in another, so that a cancel is heard at once."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import queue
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, BinaryIO, NoReturn

from NoisyLabelSegLib import __version__
from NoisyLabelSegLib.bundle import Bundle, import_bundle, is_own, list_bundles, remove_bundle
from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.progress import Progress, Step
from NoisyLabelSegLib.worker.stream import PROTOCOL, Block, Header, Message, read_message, write_message

if TYPE_CHECKING:
    from NoisyLabelSegLib.worker.kinds import WarmModel

NEEDED = ("torch", "monai", "safetensors", "SimpleITK", "numpy", "scipy")
PROGRESS_SECONDS = 0.05  # Between two messages about the same stage.
DONE, GARBAGE = 0, 2


class CancelledError(Exception):
    """The person does not want the result any more."""


def serve(idle: float) -> NoReturn:
    """Answer requests until the input ends, a stop is asked for, or none has come for ``idle`` seconds."""
    # 3D Slicer needs the processor, too: where threads wait by keeping it busy, all wait many times longer.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    source, sink = _own_streams()
    worker = _Worker(sink)
    worker.send({"type": "hello", **hello()})
    threading.Thread(target=_listen, args=(source, worker), daemon=True).start()
    while True:
        try:
            header, blocks = worker.requests.get(timeout=idle)
        except queue.Empty:
            _end(DONE)
        worker.answer(header, blocks)


def hello() -> dict[str, Any]:
    """What a worker says first; nothing large is imported for it."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    return {
        "protocol": PROTOCOL,
        "version": __version__,
        "python": platform.python_version(),
        "torch": None if "torch" in missing else _version("torch"),
        "missing": missing,
    }


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # it can be imported, nobody says how it came here
        return "unknown"


def _own_streams() -> tuple[BinaryIO, BinaryIO]:
    """The protocol's streams; what a library prints goes to stderr, and what it reads is empty."""
    source, sink = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    with open(os.devnull, "rb") as nothing:
        os.dup2(nothing.fileno(), 0)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return source, sink


def _end(code: int) -> NoReturn:
    """Leave at once, whatever is being computed."""
    sys.stderr.flush()
    os._exit(code)


def _listen(source: BinaryIO, worker: _Worker) -> None:
    """Take messages until there are no more; nobody waits for the worker then."""
    try:
        while message := read_message(source):
            header, _ = message
            if header["type"] == "stop":
                break
            if header["type"] == "cancel":
                worker.cancelled.add(header.get("id"))
            else:
                worker.requests.put(message)
    except InputError as error:
        print(error, file=sys.stderr)
        _end(GARBAGE)
    _end(DONE)


class _Worker:
    """What is asked for, how it is answered, and the model that stays warm in between.

    Attributes:
        requests: those that are not begun yet.
        cancelled: the ids of runs that nobody wants any more.
    """

    def __init__(self, sink: BinaryIO) -> None:
        self._sink = sink
        self._warm: WarmModel | None = None
        self.requests: queue.Queue[Message] = queue.Queue()
        self.cancelled: set[Any] = set()

    def send(self, header: Header, blocks: Sequence[Block] = ()) -> None:
        try:
            write_message(self._sink, header, blocks)
        except OSError:  # nobody listens any more
            _end(DONE)

    def answer(self, header: Header, blocks: Sequence[Block]) -> None:
        """Do what is asked for and say how it went, whatever happens."""
        number, arrays = header.get("id"), list[Block]()
        try:
            answer, arrays = self._do(header, blocks)
        except CancelledError:
            answer = {"type": "cancelled"}
        except InputError as error:
            answer = {"type": "error", "message": str(error), "fault": False}
        except MemoryError:
            text = "There is not enough memory for this image: crop it around the structure and try again."
            answer = {"type": "error", "message": text, "fault": False}
        except Exception as error:  # the worker lives on; the log has it all
            traceback.print_exc()
            text = f"Something unforeseen happened ({type(error).__name__}: {error}); the worker's log says where."
            answer = {"type": "error", "message": " ".join(text.split()), "fault": True}
        self.cancelled.discard(number)
        self.send({**answer, "id": number}, arrays)

    def _do(self, header: Header, blocks: Sequence[Block]) -> Message:
        match header["type"]:
            case "run":
                return self._run(header, blocks)
            case "devices":
                from NoisyLabelSegLib.worker.kinds import devices

                return {"type": "devices", "devices": devices()}, []
            case "import":
                import_bundle(header["path"], bool(header["overwrite"]))
            case "remove":
                remove_bundle(header["name"])
            case "models":
                pass
            case other:
                raise InputError(f"This worker does not know the request '{other}': update NoisyLabelSeg there.")
        return {"type": "models", "models": models()}, []

    def _run(self, header: Header, blocks: Sequence[Block]) -> Message:
        progress = self._progress(header.get("id"))
        if "torch" not in sys.modules:
            progress(Step("starting PyTorch", 0))
        from NoisyLabelSegLib.worker.kinds import WarmModel, outcome_of
        from NoisyLabelSegLib.worker.messages import outcome_message, read_request

        self._warm = self._warm or WarmModel()
        outcome = outcome_of(read_request(header["request"], blocks), self._warm, progress)
        content, arrays = outcome_message(outcome)
        return {"type": "result", "outcome": content}, arrays

    def _progress(self, number: Any) -> Progress:
        """What tells the person of a run's steps, but not of all in a hurry, and ends it when it was cancelled."""
        stage, told = -1, 0.0

        def tell(step: Step) -> None:
            nonlocal stage, told
            if number in self.cancelled:
                raise CancelledError
            now = time.monotonic()
            if step.stage != stage or now - told >= PROGRESS_SECONDS:
                stage, told = step.stage, now
                self.send({"type": "progress", "id": number, **asdict(step)})

        return tell


def models() -> list[dict[str, Any]]:
    """Every model there is: its folder and description, or the reason why it cannot be used."""
    found = []
    for bundle in list_bundles():
        known = {"folder": str(bundle.folder), "removable": is_own(bundle.folder)}
        if isinstance(bundle, Bundle):
            found.append({**known, "description": asdict(bundle.description)})
        else:
            found.append({**known, "reason": bundle.reason})
    return found
