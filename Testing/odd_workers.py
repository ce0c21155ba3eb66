"""Workers that are not as they should be: ``python odd_workers.py WHAT`` is one, with the function WHAT done to it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from NoisyLabelSegLib import cli
from NoisyLabelSegLib.progress import Step
from NoisyLabelSegLib.worker import server
from NoisyLabelSegLib.worker.stream import Block, Header, read_message, write_message

PATIENT = 0.02


def slow() -> None:
    """Computes for a minute and hears a cancel."""

    def run(self: Any, header: Header, blocks: Sequence[Block]) -> Any:
        tell = self._progress(header["id"])
        print("computing slowly", file=sys.stderr, flush=True)
        for n in range(3000):
            tell(Step("slowly", n / 3000, 1, 1))
            time.sleep(PATIENT)

    _replace_run(run)


def deaf() -> None:
    """Computes for a minute, in another process that it tells the number of, and hears nothing."""

    def run(self: Any, header: Header, blocks: Sequence[Block]) -> Any:
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        self._progress(header["id"])(Step(str(child.pid), 0.5, 1, 1))
        time.sleep(60)

    _replace_run(run)


def bulky() -> None:
    """Gives the image itself back, as a map and hence twice as large."""

    def run(self: Any, header: Header, blocks: Sequence[Block]) -> Any:
        import numpy as np

        from NoisyLabelSegLib.worker.messages import Map, Outcome, outcome_message, read_request

        given = read_request(header["request"], blocks)
        region = replace(given.voxels, values=given.voxels.values.astype(np.float32))
        found = Map("probability", given.segments[0].id, region, *given.value_range)
        outcome = Outcome(given.segments, (given.masks,), (found,), (), {"device": "cpu"}, (), 2)
        content, arrays = outcome_message(outcome)
        return {"type": "result", "outcome": content}, arrays

    _replace_run(run)


def clumsy() -> None:
    """Writes to stdout while it computes, and fails."""

    def run(self: Any, header: Header, blocks: Sequence[Block]) -> Any:
        print("a library's greeting", flush=True)
        os.write(1, b"from below Python")
        subprocess.run([sys.executable, "-c", "print(input())"], check=False)
        raise RuntimeError("first line\nsecond line")

    _replace_run(run)


def hungry() -> None:
    """Has memory for one slice at a time."""
    import torch

    from NoisyLabelSegLib.inference.predictor import Predictor

    whole = Predictor._predict

    def predict(self: Predictor, chunk: torch.Tensor, done: int, items: int) -> torch.Tensor:
        if len(chunk) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return whole(self, chunk, done, items)

    Predictor._predict = predict  # type: ignore[method-assign]


def poor() -> None:
    """Lacks two packages."""
    sys.modules |= {"torch": None, "monai": None}  # type: ignore[dict-item]


def bare() -> None:
    """Has nothing but Python's own library."""
    for name in server.NEEDED:
        assert name not in sys.modules, f"{name} was imported at the start"
        sys.modules[name] = None  # type: ignore[assignment]


def polite() -> None:
    """Is greeted by a login before it speaks."""
    sys.stdout.write("Welcome to this host!\n" * 2500)
    sys.stdout.flush()


def talkative() -> None:
    """Is no worker at all."""
    sys.stdout.write("Usage: worker\n" * 10_000)
    sys.stdout.flush()


def newer() -> None:
    """Speaks a protocol that is not known here, until it is spoken to."""
    write_message(sys.stdout.buffer, {"type": "hello", "protocol": 3, "version": "9.0"})
    sys.stdin.buffer.read(1)


def stuffed() -> None:
    """Says hello and reads nothing."""
    write_message(sys.stdout.buffer, {"type": "hello", **server.hello()})
    time.sleep(60)


def brief() -> None:
    """Answers what it has not been asked yet, and is gone."""
    write_message(sys.stdout.buffer, {"type": "hello", **server.hello()})
    sys.stdin.buffer.read(1)
    write_message(sys.stdout.buffer, {"type": "models", "id": 1, "models": []})
    sys.exit(0)


def scripted() -> None:
    """Says one after the other what the next argument lists, the first at once and each other one when spoken to."""
    first, *others = json.loads(sys.argv[2])
    write_message(sys.stdout.buffer, first)
    for header in others:
        read_message(sys.stdin.buffer)
        write_message(sys.stdout.buffer, header)
    time.sleep(60)


def mute() -> None:
    """Says nothing."""
    time.sleep(60)


def broken() -> None:
    """Ends before it has said anything."""
    print("Traceback (most recent call last):\nImportError: no such thing", file=sys.stderr)
    sys.exit(3)


def _replace_run(run: Any) -> None:
    server._Worker._run = run  # type: ignore[method-assign]


if __name__ == "__main__":
    globals()[sys.argv[1]]()
    sys.exit(cli.main(["worker", *sys.argv[2:]]))
