"""The module's own test inside a real 3D Slicer.

    SLICER_EXECUTABLE=/path/to/Slicer python -m pytest Testing/test_in_slicer.py

Without a screen it runs under Xvfb, if there is one. With ``NOISYLABELSEG_SCREENSHOTS`` set to a folder, a picture of
each step is left there. The worker is this Python, which has torch; Slicer's own need not have it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLICER = os.environ.get("SLICER_EXECUTABLE", "")
CODE = "import slicer.testing; slicer.testing.runUnitTest([], 'NoisyLabelSeg')"


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
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=900, check=False)
    output = done.stdout + done.stderr
    assert done.returncode == 0, output[-4000:]
    assert "OK" in output and "Ran 0 tests" not in output, output[-4000:]
