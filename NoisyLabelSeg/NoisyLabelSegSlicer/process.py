"""The worker's process as seen from outside: messages in and out, and an end of it with all that it started."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO, cast

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.worker.stream import Block, Message, read_message, write_message

NOISE = 64 * 1024
"""A login may write so many bytes before the first message."""

PATIENCE = 0.005
"""Seconds that looking for messages may take. 3D Slicer's event loop keeps Python's lock while it waits: threads run
only where the main thread lets them."""

REAPING = 0.3
"""Seconds to wait for a process whose end is certain."""

LINES, LONGEST_LINE = 200, 2000


class WorkerProcess:
    """A process in a group of its own, and a thread for each of its three streams.

    Attributes:
        broken: why its output cannot be understood; empty as long as it can.

    Raises:
        OSError: when it cannot be started.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str] | None = None) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            list(command), stdin=pipe, stdout=pipe, stderr=pipe, env=environment, **_own_group()
        )
        self._outbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._inbox: queue.SimpleQueue[Message | None] = queue.SimpleQueue()
        self._log: deque[str] = deque(maxlen=LINES)
        self._ended = False
        self.broken = ""
        self._threads = [_start(self._write), _start(self._read), _start(self._listen)]

    def write(self, header: Mapping[str, Any], blocks: Sequence[Block] = ()) -> None:
        """Send a message; this does not wait until it has gone."""
        self._outbox.put((dict(header), list(blocks)))

    def messages(self) -> Iterator[Message]:
        """What has arrived, one by one."""
        patience = PATIENCE
        while not self._ended:
            try:
                message = self._inbox.get(timeout=patience)
            except queue.Empty:
                return
            if message is None:
                self._ended = True
                return
            patience = 0
            yield message

    @property
    def alive(self) -> bool:
        """Whether it can still answer."""
        return not self._ended and self._process.poll() is None

    @property
    def ended(self) -> bool:
        """Whether nothing will come any more: every message has been taken."""
        return self._ended

    @property
    def exit_code(self) -> int | None:
        """Of a process that has ended, negative for a signal; None while it has not."""
        with suppress(subprocess.TimeoutExpired):
            return self._process.wait(REAPING if self._ended else 0)
        return None

    @property
    def stderr_tail(self) -> str:
        """The last lines that it wrote for a person."""
        if self._ended:
            self._threads[-1].join(REAPING)
        return "\n".join(self._log)

    def kill(self) -> None:
        """End it at once, with every process that it started."""
        self._outbox.put(None)
        if sys.platform == "win32":
            command = ["taskkill", "/T", "/F", "/PID", str(self._process.pid)]
            subprocess.run(command, capture_output=True, check=False, **_own_group())
        else:
            with suppress(ProcessLookupError, PermissionError):  # nobody is left
                os.killpg(self._process.pid, signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(REAPING)

    def _write(self) -> None:
        with (
            suppress(OSError),
            cast(BinaryIO, self._process.stdin) as stream,
        ):  # whoever reads the answers learns of its end
            while message := self._outbox.get():
                write_message(stream, *message)

    def _read(self) -> None:
        noise = NOISE
        try:
            with cast(BinaryIO, self._process.stdout) as stream:
                while message := read_message(stream, noise):
                    self._inbox.put(message)
                    noise = 0
        except (InputError, MemoryError) as error:
            self.broken = str(error) or "the answer is too large for this computer's memory"
        finally:
            self._inbox.put(None)

    def _listen(self) -> None:
        with cast(BinaryIO, self._process.stderr) as stream:
            while line := stream.readline(LONGEST_LINE):
                if text := line.decode("utf-8", errors="replace").strip():
                    self._log.append(text)


def _own_group() -> dict[str, Any]:
    """A group of its own, so that it can be ended as a whole, and no window."""
    if sys.platform == "win32":
        return {"creationflags": subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW}
    return {"start_new_session": True}


def _start(target: Callable[[], None]) -> threading.Thread:
    thread = threading.Thread(target=target, daemon=True)
    thread.start()
    return thread
