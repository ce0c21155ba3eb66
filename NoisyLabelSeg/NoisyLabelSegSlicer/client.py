"""What 3D Slicer asks of the worker, and what becomes of it: answers, progress, a cancel in time, an end told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, Literal

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.grid import Grid
from NoisyLabelSegLib.segmentations import Segment
from NoisyLabelSegLib.worker.answers import (
    read_devices,
    read_hello,
    read_models,
    read_protocol,
    read_result,
    read_step,
    type_of,
)
from NoisyLabelSegLib.worker.messages import PROTOCOL, Outcome, Request, read_outcome, request_message
from NoisyLabelSegLib.worker.stream import Block, Header
from NoisyLabelSegSlicer.asked import Asked, AskedRun, Progress, Tell
from NoisyLabelSegSlicer.process import WorkerProcess
from NoisyLabelSegSlicer.translation import _

START_SECONDS = 60.0
"""A Python on a slow disk, or a host far away, may take long to start."""

GRACE_SECONDS = 0.5
"""After a cancel the worker may take so long to end the computation by itself; then it is killed."""

KILLED = 9
"""The signal that a process gets which needs more memory than there is."""

NEED_ALL = {"run", "import", "devices"}
"""What a worker cannot do that lacks packages."""

__all__ = ["Progress", "Worker"]

Models = list[dict[str, Any]]
Failed = Callable[[str], None]


class Worker:
    """Starts the worker's process when it is needed, and again after it has ended.

    No callback is called but by `poll`, which a timer calls, say, every 50 ms while `state` is "starting" or "busy".

    Attributes:
        hello: what the worker says about itself; None before.
        device: what the last computation ran on, such as "cpu"; empty before.
    """

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str] | None = None,
        start: Callable[[Sequence[str], Mapping[str, str] | None], WorkerProcess] = WorkerProcess,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Args: see `WorkerProcess`; ``start`` makes the process, ``clock`` gives seconds."""
        self.hello: dict[str, Any] | None = None
        self.device = ""
        self._command, self._environment, self._start_process, self._clock = command, environment, start, clock
        self._process: WorkerProcess | None = None
        self._started = 0.0
        self._failure = self._last_log = ""
        self._numbers = itertools.count(1)
        self._asked: dict[int, Asked] = {}

    @property
    def state(self) -> Literal["off", "starting", "ready", "busy"]:
        """ "starting" lasts until the hello; "busy" until everything that was asked for is answered."""
        if not self._asked and (self._process is None or not self._process.alive):
            return "off"
        if self.hello is None:
            return "starting"
        return "busy" if self._asked else "ready"

    @property
    def log(self) -> str:
        """What the worker, or the one before it, wrote last for a person."""
        return self._process.stderr_tail if self._process else self._last_log

    def models(self, done: Callable[[Models], None], failed: Failed) -> None:
        """List the models: each with "folder", "removable", and its "description" or the "reason" why it is broken."""
        self._ask(Asked({"type": "models"}, (), "models", _give(read_models, done), failed))

    def import_model(self, path: str, overwrite: bool, done: Callable[[Models], None], failed: Failed) -> None:
        """Copy a folder or zip file, a path where the worker runs, among the person's own models; then list them."""
        request = {"type": "import", "path": str(path), "overwrite": overwrite}
        self._ask(Asked(request, (), "models", _give(read_models, done), failed))

    def remove_model(self, name: str, done: Callable[[Models], None], failed: Failed) -> None:
        """Delete one of the person's own models; then list them."""
        self._ask(Asked({"type": "remove", "name": name}, (), "models", _give(read_models, done), failed))

    def devices(self, done: Callable[[list[str]], None], failed: Failed) -> None:
        """List what can be computed on, such as "cuda:0 (NVIDIA A2)" and "cpu"; this loads PyTorch."""
        self._ask(Asked({"type": "devices"}, (), "devices", _give(read_devices, done), failed))

    def run(
        self,
        request: Request,
        progress: Callable[[Progress], None],
        done: Callable[[Outcome], None],
        failed: Failed,
        cancelled: Callable[[], None],
    ) -> None:
        """Compute; one of ``done``, ``failed`` and ``cancelled`` is called in the end, and nothing after it."""
        content, blocks = request_message(request)
        read = partial(self._read_result, done, request.grid, request.kept)
        header = {"type": "run", "request": content}
        self._ask(AskedRun(header, blocks, "result", read, failed, progress, cancelled))

    def cancel(self) -> None:
        """End all computations: ``cancelled`` follows within a second, whatever the worker does."""
        for number, run in self._runs():
            if not run.is_cancelled:
                run.give_up = self._clock() + (GRACE_SECONDS if run.sent else 0)
                if self._process and run.sent:
                    self._process.write({"type": "cancel", "id": number})

    def stop(self) -> None:
        """End the worker; nothing is called for what it has not answered."""
        self._asked.clear()
        self._end()

    def poll(self) -> None:
        """Take what has arrived, send what waits, and see whether the worker is well.

        A message that cannot be read ends the worker. An exception of a callback is the caller's: it passes through
        when the state is in order, and the next call goes on with what is left.
        """
        process = self._process
        for header, blocks in process.messages() if process else ():
            try:
                tell = self._read(header, blocks)
            except Exception as error:  # whatever a strange message does to what reads it
                self._fail_all(_complaint(error))
                return
            tell()
            if self._process is not process:  # that was the end of it
                return
        if self._asked and (sentence := self._trouble()):
            self._fail_all(sentence)
        else:
            self._send_waiting()

    def _fail_all(self, sentence: str) -> None:
        """End the worker and tell everybody who waits, even if one of them raises."""
        self._end()
        waiting, self._asked = self._asked, {}
        with ExitStack() as told:
            for asked in reversed(waiting.values()):
                told.callback(asked.fail, sentence)

    def _trouble(self) -> str:
        """Why the worker is of no use any more to those who wait for it; empty if it is."""
        now = self._clock()
        if self._process is None:
            return self._failure
        if self._process.ended:
            return _obituary(self._process, greeted=self.hello is not None)
        if self.hello is None and now > self._started + START_SECONDS:
            return _("The worker does not answer: open Set-up and check how it is started.")
        if any(run.sent and run.give_up <= now for _number, run in self._runs()):
            return _("The worker was ended together with the computation that was cancelled.")
        return ""

    def _runs(self) -> list[tuple[int, AskedRun]]:
        return [(number, asked) for number, asked in self._asked.items() if isinstance(asked, AskedRun)]

    def _ask(self, asked: Asked) -> None:
        if not self._asked and not (self._process and self._process.alive):
            self._begin()
        number = next(self._numbers)
        asked.header = {**asked.header, "id": number}
        self._asked[number] = asked

    def _begin(self) -> None:
        self._end()
        self._started = self._clock()
        try:
            self._process = self._start_process(self._command, self._environment)
        except OSError as error:
            reason = error.strerror or str(error)
            text = _("The worker '{program}' cannot be started ({reason}): open Set-up and check how it is started.")
            self._failure = text.format(program=self._command[0], reason=reason)

    def _end(self) -> None:
        if self._process:
            self._last_log = self._process.stderr_tail
            self._process.kill()
        self._process = self.hello = None

    def _send_waiting(self) -> None:
        """Send what could not be sent before the hello, unless it has been cancelled or cannot be done."""
        missing = ", ".join(self.hello["missing"]) if self.hello else ""
        for number, asked in list(self._asked.items()):
            if asked.sent or number not in self._asked:  # what is told here may end in a stop
                continue
            if isinstance(asked, AskedRun) and asked.is_cancelled:
                del self._asked[number]
                asked.cancelled()
            elif missing and asked.header["type"] in NEED_ALL:
                del self._asked[number]
                text = _("The worker's Python lacks {packages}: open Set-up to install what is missing.")
                asked.fail(text.format(packages=missing))
            elif self._process and self.hello:
                asked.sent = True
                self._process.write(asked.header, asked.blocks)
                asked.blocks = ()  # they may be large

    def _read(self, header: Header, blocks: Sequence[Block]) -> Tell:
        """Take one message, as far as it is nobody else's; gives what tells the others."""
        if header["type"] == "hello":
            return partial(self._greet, _hello(header))
        number: Any = header.get("id")
        asked = self._asked.get(number) if type(number) is int else None
        if asked is None or not asked.sent:
            raise InputError(_("The worker says {what} about nothing it was asked.").format(what=type_of(header)))
        if header["type"] != "progress":
            tell = asked.end(header, blocks)
            del self._asked[number]
            return tell
        if not isinstance(asked, AskedRun):
            raise InputError(_("The worker tells the progress of what is no computation."))
        step = read_step(header)
        self.device = step.device or self.device
        return partial(asked.follow, step, self._clock())

    def _greet(self, hello: Header) -> None:
        self.hello = hello

    def _read_result(
        self,
        done: Callable[[Outcome], None],
        grid: Grid,
        segments: Sequence[Segment],
        header: Header,
        blocks: Sequence[Block],
    ) -> Tell:
        outcome = read_outcome(read_result(header), blocks, grid, segments)
        self.device = str(outcome.provenance.get("device") or self.device)
        return partial(done, outcome)


def _give(read: Callable[[Header], Any], done: Callable[[Any], None]) -> Callable[[Header, Sequence[Block]], Tell]:
    """What makes of an answer what tells it."""
    return lambda header, _blocks: partial(done, read(header))


def _hello(header: Header) -> Header:
    if (theirs := read_protocol(header)) != PROTOCOL:
        text = _("The worker speaks protocol {theirs} and 3D Slicer's side {ours}.")
        raise InputError(text.format(theirs=theirs, ours=PROTOCOL))
    return read_hello(header)


def _complaint(error: Exception) -> str:
    """A sentence about a message that cannot be read."""
    unforeseen = _("What the worker says cannot be read ({reason})").format(reason=repr(error))
    what = " ".join(str(error).split()).rstrip(".") if isinstance(error, InputError) else unforeseen
    return _("{what}: install the same version of NoisyLabelSeg on both sides.").format(what=what)


def _obituary(process: WorkerProcess, *, greeted: bool) -> str:
    """A sentence about a worker that has ended by itself."""
    code = process.exit_code
    if code is None or code >= 0:
        how = _("exit code {code}").format(code="?" if code is None else code)
    elif code == -KILLED:
        how = _("killed, perhaps because the computer's memory ran out")
    else:
        how = _("signal {number}").format(number=-code)
    last = process.stderr_tail.rpartition("\n")[2]
    reason = ": ".join(filter(None, (how, process.broken, last))).rstrip(".")
    if greeted:
        return _("The worker ended unexpectedly ({reason}). Try again: it will be started anew.").format(reason=reason)
    return _("The worker did not start ({reason}). Open Set-up and check how it is started.").format(reason=reason)
