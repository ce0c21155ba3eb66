"""What a refinement changed, as connected regions that a person looks at one by one, accepts or reverts."""

from __future__ import annotations

from NoisyLabelSegLib.review.changes import Change, changes, uncertainty_of
from NoisyLabelSegLib.review.constraints import constrain
from NoisyLabelSegLib.review.decisions import MOST_STEPS, Review
from NoisyLabelSegLib.review.marks import Decision
from NoisyLabelSegLib.review.table import COLUMNS, write_csv

__all__ = [
    "COLUMNS",
    "MOST_STEPS",
    "Change",
    "Decision",
    "Review",
    "changes",
    "constrain",
    "uncertainty_of",
    "write_csv",
]
