"""The worker's process while the panel lives: what it is asked to do, and who is told of the answers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import qt

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.outcome import Outcome
from NoisyLabelSegLib.worker.messages import Request
from NoisyLabelSegSlicer.client import Progress, Worker
from NoisyLabelSegSlicer.translation import _

POLL_MILLISECONDS = 50


class Work:
    """One worker, and at most one run at a time. Everything is told from the event loop, never from a thread.

    Attributes:
        worker: None before `use`.
        busy: whether a run goes on.

    Args:
        said: takes the sentence that says why something failed, or an empty one when nothing has.
        followed: takes the steps of a run.
        changed: called when the worker has started or ended, and when a run has ended.
    """

    def __init__(
        self, said: Callable[[str], None], followed: Callable[[Progress], None], changed: Callable[[], None]
    ) -> None:
        self.worker: Worker | None = None
        self.busy = False
        self._said, self._followed, self._changed = said, followed, changed
        self._polling = False
        self._timer = qt.QTimer()
        self._timer.setInterval(POLL_MILLISECONDS)
        self._timer.connect("timeout()", self.poll)

    def use(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        """Work with another process from now on; what the old one was doing is dropped."""
        self.end()
        self.worker = Worker(command, environment)
        self._timer.start()

    def ask(self, request: Callable[[Worker], None]) -> None:
        """Hand the worker over for a request."""
        if self.worker:
            self._said("")
            request(self.worker)

    def run(self, request: Request, finish: Callable[[Outcome], str]) -> None:
        """Compute; ``finish`` takes what was found, and gives what the person should read at once, or nothing."""
        self.busy = True
        self.ask(
            lambda worker: worker.run(
                request, self._followed, lambda outcome: self._finish(finish, outcome), self._end_run, self._end_run
            )
        )

    def cancel(self) -> None:
        """Stop the run, if there is one."""
        if self.worker and self.busy:
            self.worker.cancel()

    def end(self) -> None:
        """End the worker with all that it does."""
        self._timer.stop()
        if self.worker:
            self.worker.stop()
        self.busy = False

    def poll(self) -> None:
        """Take what the worker has sent; a dialog in an answer must not take the next one."""
        if self._polling or self.worker is None:
            return
        self._polling, before = True, self.worker.state
        try:
            self.worker.poll()
        finally:
            self._polling = False
        if self.worker.state != before:
            self._changed()

    def _finish(self, finish: Callable[[Outcome], str], outcome: Outcome) -> None:
        try:
            sentence = finish(outcome)
        except InputError as error:
            self._end_run(str(error))
        except Exception:
            self._end_run(_("The result could not be put into the scene: the Python console says why."))
            raise
        else:
            self._end_run(sentence)

    def _end_run(self, sentence: str = "") -> None:
        self.busy = False
        self._said(sentence)
        self._changed()
