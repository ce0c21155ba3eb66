"""The module's own test inside a real 3D Slicer.

    SLICER_EXECUTABLE=/path/to/Slicer python -m pytest Testing/test_in_slicer.py

Without a screen it runs under Xvfb, if there is one. With ``NOISYLABELSEG_SCREENSHOTS`` set to a folder, a picture of
each step is left there. The worker is this Python, which has torch; Slicer's own need not have it.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import unittest
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLICER = os.environ.get("SLICER_EXECUTABLE", "")
CODE = "import slicer.testing; slicer.testing.runUnitTest([], 'NoisyLabelSeg')"
SUCCESS = re.compile(r"\bRan [1-9]\d* tests? in \S+\s+OK\b(?!\s*\()")
"""How unittest sums up when everything was tested; in brackets it says what was not, as in "OK (skipped=1)"."""


@pytest.mark.skipif(not SLICER, reason="SLICER_EXECUTABLE does not name a 3D Slicer application")
def test_the_modules_own_test_passes_in_slicer(tmp_path: Path) -> None:
    needs_screen = sys.platform.startswith("linux") and not os.environ.get("DISPLAY")
    screen = ["xvfb-run", "-a", "-s", "-screen 0 1600x1000x24"] if needs_screen and shutil.which("xvfb-run") else []
    arguments = ["--testing", "--no-splash", "--additional-module-paths", str(ROOT / "NoisyLabelSeg")]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
        "NOISYLABELSEG_WORKER_PYTHON": sys.executable,
        "XDG_DATA_HOME": str(tmp_path),
    }
    command = [*screen, SLICER, *arguments, "--python-code", CODE]
    done = subprocess.run(
        command, env=environment, capture_output=True, encoding="utf-8", errors="replace", timeout=900
    )
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    assert SUCCESS.search(output), output[-4000:]


def skip(test: unittest.TestCase) -> None:
    test.skipTest("packages are missing")


@pytest.mark.parametrize(
    ("tests", "success"),
    [
        ([lambda test: None], True),
        ([lambda test: None] * 2, True),
        ([], False),
        ([skip], False),
        ([lambda test: None, skip], False),
        ([lambda test: test.fail()], False),
    ],
)
def test_a_summary_that_leaves_something_out_is_no_success(
    tests: list[Callable[[unittest.TestCase], None]], success: bool
) -> None:
    """As unittest writes it; what it tests takes itself as the test case."""
    cases = []
    for number, test in enumerate(tests):
        cases.append(type(f"Case{number}", (unittest.TestCase,), {"runTest": test})())
    stream = io.StringIO()
    unittest.TextTestRunner(stream=stream, verbosity=2).run(unittest.TestSuite(cases))
    assert bool(SUCCESS.search(stream.getvalue() + "\nlater output (of Slicer)")) is success, stream.getvalue()
