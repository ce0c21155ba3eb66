"""What 3D Slicer asks of the worker, and what becomes of it: answers, progress, a cancel in time, an end told."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import partial
from typing import Any, Literal

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.progress import Step
from NoisyLabelSegLib.worker.messages import PROTOCOL, Outcome, Request, read_outcome, request_message
from NoisyLabelSegLib.worker.stream import Block, Header
from NoisyLabelSegSlicer.asked import Asked, AskedRun, Progress
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
        self._ask(Asked({"type": "models"}, (), _give("models", done), failed))

    def import_model(self, path: str, overwrite: bool, done: Callable[[Models], None], failed: Failed) -> None:
        """Copy a folder or zip file, a path where the worker runs, among the person's own models; then list them."""
        request = {"type": "import", "path": str(path), "overwrite": overwrite}
        self._ask(Asked(request, (), _give("models", done), failed))

    def remove_model(self, name: str, done: Callable[[Models], None], failed: Failed) -> None:
        """Delete one of the person's own models; then list them."""
        self._ask(Asked({"type": "remove", "name": name}, (), _give("models", done), failed))

    def devices(self, done: Callable[[list[str]], None], failed: Failed) -> None:
        """List what can be computed on, such as "cuda:0 (NVIDIA A2)" and "cpu"; this loads PyTorch."""
        self._ask(Asked({"type": "devices"}, (), _give("devices", done), failed))

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
        finish = partial(self._finish, done, failed)
        self._ask(AskedRun({"type": "run", "request": content}, blocks, finish, failed, progress, cancelled))

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
        """Take what has arrived, send what waits, and see whether the worker is well."""
        process = self._process
        for header, blocks in process.messages() if process else ():
            self._take(header, blocks)
            if self._process is not process:  # that was the end of it
                return
        if self._asked and (sentence := self._trouble()):
            self._end()
            waiting, self._asked = self._asked, {}
            for asked in waiting.values():
                asked.fail(sentence)
        else:
            self._send_waiting()

    def _trouble(self) -> str:
        """Why the worker is of no use any more to those who wait for it; empty if it is."""
        now = self._clock()
        if self._process is None:
            return self._failure
        if self._process.ended:
            return _obituary(self._process, greeted=self.hello is not None)
        if self.hello is None and now > self._started + START_SECONDS:
            return _("The worker does not answer: open Set-up and check how it is started.")
        if self.hello and self.hello["protocol"] != PROTOCOL:
            text = _(
                "The worker speaks protocol {theirs} and 3D Slicer's side {ours}: install the same version of "
                "NoisyLabelSeg on both sides."
            )
            return text.format(theirs=self.hello["protocol"], ours=PROTOCOL)
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
            if asked.sent:
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

    def _take(self, header: Header, blocks: Sequence[Block]) -> None:
        """Take one message."""
        kind, number = header["type"], header.get("id", 0)
        if kind == "hello":
            self.hello = header
        elif kind != "progress":
            if asked := self._asked.pop(number, None):  # unless it was stopped meanwhile
                asked.end(header, blocks)
        elif isinstance(run := self._asked.get(number), AskedRun):
            self.device = header["device"] or self.device
            run.follow(Step(**{field.name: header[field.name] for field in fields(Step)}), self._clock())

    def _finish(self, done: Callable[[Outcome], None], failed: Failed, header: Header, blocks: Sequence[Block]) -> None:
        try:
            outcome = read_outcome(header["outcome"], blocks)
        except InputError as error:
            failed(str(error))
            return
        self.device = outcome.provenance["device"]
        done(outcome)


def _give(key: str, done: Callable[[Any], None]) -> Callable[[Header, Sequence[Block]], None]:
    """What takes one thing out of an answer."""
    return lambda header, _blocks: done(header[key])


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
