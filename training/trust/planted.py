"""How well planted noise is found by omega and by the plain loss, its common-sense rival.

Omega is measured by the gradient that it goes down. The loss is asked for twice: when omega is, and of the trained
network, which has learnt for longer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import SimpleITK as sitk

from training.suspicion import Found, against_planted, aurocs, figures, precision
from training.trust.report import Listed
from training.trust.review import Reviewed


class Planted:
    """Cases with planted noise, one after the other; of a case only what is measured is kept."""

    def __init__(self) -> None:
        self._found: dict[str, list[Found]] = defaultdict(list)
        self._cases: list[str] = []

    def add(self, one: Reviewed) -> None:
        """Take a case; one without planted noise does not count."""
        case = one.trust.case
        if case.clean is None:
            return
        self._cases.append(case.id)
        gradient, loss = (sitk.GetArrayFromImage(image) for image in (one.trust.gradient, one.trust.loss))
        scores = {"omega": gradient, "loss": loss, "loss of the trained network": one.improbable}
        for name, score in scores.items():
            regions = one.result.regions if name == "omega" else ()
            self._found[name].append(against_planted(case, one.given, score, regions))

    def figures(self, ranked: Sequence[Listed]) -> dict[str, Any]:
        """For each score the AUROCs, and of omega's list what `training.suspicion.figures` says; nothing without cases.

        Args:
            ranked: the list of all cases, by whose order the first ones are chosen.
        """
        if not self._cases:
            return {}
        by_omega = self._found["omega"]
        shares = {name: [share for _, share in one.regions] for name, one in zip(self._cases, by_omega, strict=True)}
        first = [shares[one.case][one.row["rank"] - 1] for one in ranked if one.case in shares]
        found = {name: aurocs(every) for name, every in self._found.items()}
        return {**found, "omega": {**figures(by_omega), "precision_first": precision(first)}}
