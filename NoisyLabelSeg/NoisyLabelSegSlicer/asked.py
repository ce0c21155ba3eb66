"""Something that the worker has been asked for and has not answered yet, and whom to tell what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from math import inf

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.progress import Step
from NoisyLabelSegLib.worker.answers import read_error, type_of
from NoisyLabelSegLib.worker.stream import Block, Header
from NoisyLabelSegSlicer.translation import _

LEAST_SHARE = 0.02
"""More than this must be done before it says how long the rest takes."""


Tell = Callable[[], object]
"""What lets somebody know; only this may end in an error of theirs."""


@dataclass(frozen=True)
class Progress(Step):
    """A step of a computation, and how many seconds the rest takes as far as that can be told."""

    seconds_left: float | None = None


@dataclass
class Asked:
    """Any request.

    Attributes:
        header, blocks: the message.
        answer: type of the message that answers it.
        read: makes of that message what tells it; an exception says that it cannot be read.
        failed: takes the sentence that says why there is none.
        sent: whether the worker knows of it.
    """

    header: Header
    blocks: Sequence[Block]
    answer: str
    read: Callable[[Header, Sequence[Block]], Tell]
    failed: Callable[[str], None]
    sent: bool = field(default=False, kw_only=True)

    def end(self, header: Header, blocks: Sequence[Block]) -> Tell:
        """What tells the worker's last word; an exception when it is none."""
        if header["type"] == "error":
            return partial(self.fail, read_error(header))
        if header["type"] != self.answer:
            text = _("The worker answers the request '{asked}' by {answer}.")
            raise InputError(text.format(asked=self.header["type"], answer=type_of(header)))
        return self.read(header, blocks)

    def fail(self, sentence: str) -> None:
        """There will be no answer."""
        self.failed(sentence)


@dataclass
class AskedRun(Asked):
    """A computation: it can be followed and cancelled.

    Attributes:
        progress, cancelled: tell the person.
        give_up: when it is to be ended by force.
    """

    progress: Callable[[Progress], None]
    cancelled: Callable[[], None]
    give_up: float = field(default=inf, kw_only=True)
    _began: tuple[float, float] = field(default=(0, inf), init=False)

    @property
    def is_cancelled(self) -> bool:
        return self.give_up < inf

    def end(self, header: Header, blocks: Sequence[Block]) -> Tell:
        if self.is_cancelled or header["type"] == "cancelled":
            return self.cancelled
        return super().end(header, blocks)

    def fail(self, sentence: str) -> None:
        if self.is_cancelled:
            self.cancelled()
        else:
            self.failed(sentence)

    def follow(self, step: Step, now: float) -> None:
        """Tell a step, with the time left if the share done since the stages began says something about it."""
        if self.is_cancelled:
            return
        start, before = self._began
        if not step.stage or step.done <= before:
            start, before = self._began = now, step.done
        gained = step.done - before
        left = (now - start) * (1 - step.done) / gained if gained > LEAST_SHARE else None
        self.progress(Progress(**vars(step), seconds_left=left))
