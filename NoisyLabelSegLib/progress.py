"""How far a computation is: what it tells the person who waits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """What is being done.

    Attributes:
        text: for a person, such as "stage 2 of at most 5, slice 32 of 120".
        done: share of the whole, 0 to 1.
        stage, stages: the stage at hand, from 1, and how many there are at most; 0 where there are none.
        slice, slices: how many of this stage's slices are done, and of how many; 0 where they are not counted.
        device: what is computed on, such as "cpu"; empty while that is not known.
    """

    text: str
    done: float
    stage: int = 0
    stages: int = 0
    slice: int = 0
    slices: int = 0
    device: str = ""


Progress = Callable[[Step], None]
"""Called with each step; an exception that it raises cancels the computation."""


def silent(step: Step) -> None:
    """Tell nobody."""
