"""AutoPET (FDG-PET-CT-Lesions, TCIA, doi 10.7937/gkr0-xv29): non-contrast CT is weak, FDG-PET (SUV) is strong.

Published as NIfTI by the challenge's conversion: ``<PETCT_patient>/<study>/`` with ``CTres.nii.gz`` (the CT on the
PET's grid), ``SUV.nii.gz`` and ``SEG.nii.gz`` (1 lesion; empty in those without). A study's name ends as that of the
examination in German: "mit KM" is with contrast agent. Those are left out, as the thesis takes the non-contrast CTs.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from NoisyLabelSegLib.errors import InputError
from training.data.adapters.pairs import Pair, Pairs, adapt_pairs
from training.data.cases import DataSet

CONTRAST = "mit km"


def adapt(source: Path, target: Path) -> DataSet:
    """One case a study without contrast agent, studies of a patient in one split; see `adapt_pairs`."""
    studies = sorted(path for path in source.glob("*/*") if path.is_dir())
    plain = [study for study in studies if CONTRAST not in study.name.lower()]
    if studies and not plain:
        raise InputError(f"All {len(studies)} studies in '{source}' are with contrast agent ('{CONTRAST}').")
    if len(plain) < len(studies):
        print(f"{len(studies) - len(plain)} studies with contrast agent are left out", file=sys.stderr)
    described = Pairs("AutoPET, non-contrast CT", "TCIA restricted: see its site", "CT", "PET")
    return adapt_pairs(described, [_pair(study) for study in plain], target)


def _pair(study: Path) -> Pair:
    patient = study.parent.name
    name = re.sub(r"[^\w.-]+", "-", f"{patient}_{study.name}")
    return Pair(name, patient, *(study / f"{kind}.nii.gz" for kind in ("CTres", "SUV", "SEG")))
