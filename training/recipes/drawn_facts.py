"""What a person should know of drawings before a network learns from them."""

from __future__ import annotations

import sys
from collections.abc import Sequence

import numpy as np

from NoisyLabelSegLib.errors import InputError
from training.data.cases import DataSet
from training.data.drawings import Codes, Strategy, contradictions, drawn_voxels


def tell(drawn: Sequence[Codes], names: Sequence[str], strategies: Sequence[Strategy], dataset: DataSet) -> None:
    """Print what is missing, contradictory or says less than it seems.

    Args:
        drawn, names: each training case's codes, see `read_drawings`, and its id.
        strategies: whose codes they are.
        dataset: what the classes are called.

    Raises:
        InputError: a class that nothing teaches, or a value that is none of the data set's.
    """
    classes = max(dataset.labels) + 1
    for name, codes in zip(names, drawn, strict=True):
        _require_known(name, codes, strategies, classes)
    said = _undrawn(drawn, strategies, dataset)
    complementary = any(strategy.complementary for strategy in strategies)
    if classes == 2 and complementary:
        said.append("Of two classes 'not this' means the other one: complementary drawings are positive ones.")
    if wrong := sum(contradictions(codes, strategies) for codes in drawn):
        said.append(f"{wrong} voxels are drawn as what they are said not to be: there the latter is ignored.")
    for number, strategy in enumerate(strategies):
        if missing := sum(not codes[number].any() for codes in drawn):
            said.append(f"{missing} of {len(drawn)} training cases have no drawing of {strategy}.")
    print("\n".join(said), end="\n" if said else "", file=sys.stderr)


def _undrawn(drawn: Sequence[Codes], strategies: Sequence[Strategy], dataset: DataSet) -> list[str]:
    classes = max(dataset.labels) + 1
    names = {0: "background", **dataset.labels}
    counts = np.sum([drawn_voxels(codes, strategies, classes) for codes in drawn], axis=0)
    missing = [names[value] for value in np.flatnonzero(counts == 0).tolist() if value in names]
    if missing and not any(strategy.complementary for strategy in strategies):
        raise InputError(f"Nobody drew '{missing[0]}', and nothing is said not to be another class: draw it, too.")
    return [f"Nobody drew '{name}': it is only learnt from what is said to be nothing else." for name in missing]


def _require_known(name: str, codes: Codes, strategies: Sequence[Strategy], classes: int) -> None:
    for found, strategy in zip(codes, strategies, strict=True):
        if int(found.max(initial=0)) >= (1 << classes if strategy.complementary else classes + 1):
            raise InputError(
                f"The drawing of {strategy} of the case '{name}' has a value that is none of the {classes} classes: "
                "say by 'means' what it stands for, or by 'ignore' that it is nothing."
            )
