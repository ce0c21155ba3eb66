"""``noisylabelseg worker``: the process that 3D Slicer starts and talks to."""

from __future__ import annotations

import argparse
import sys
from typing import NoReturn

from NoisyLabelSegLib.errors import InputError


def run(arguments: argparse.Namespace) -> NoReturn:
    """Answer on stdout what is asked on stdin."""
    from NoisyLabelSegLib.worker.server import serve

    if sys.stdin is None or sys.stdin.isatty():
        raise InputError(
            "The worker talks to a program, such as 3D Slicer, not to a person: see 'noisylabelseg refine'."
        )
    serve(arguments.idle)
