"""``python3 run.py demo|test``: make the environment .venv, then run ``noisylabelseg demo`` or all checks and tests.

Further arguments are passed on. Needs Python 3.10 or newer and, the first time, the Internet.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent
BIN = ROOT / ".venv" / ("Scripts" if os.name == "nt" else "bin")
STAMP = ROOT / ".venv" / "installed.txt"
TARGETS = {"demo": str(ROOT), "test": f"{ROOT}[test]"}
CHECKS = (["ruff", "check"], ["ruff", "format", "--check"], ["mypy"])


def main(arguments: list[str]) -> int:
    """Run the command; returns the exit code."""
    if sys.version_info < (3, 10):  # noqa: UP036 -- this is what says so
        sys.exit(f"error: NoisyLabelSeg needs Python 3.10 or newer; this is {sys.version.split()[0]}.")
    command, *extra = arguments or [""]
    if command not in TARGETS:
        sys.exit("error: say what to run: python3 run.py demo, or python3 run.py test.")
    if not STAMP.exists() and subprocess.call([sys.executable, "-m", "venv", "--clear", str(ROOT / ".venv")]):
        sys.exit("error: Python could not make the environment .venv; install its venv module (Debian: python3-venv).")
    # What the tests need is enough for the demo, too.
    if not STAMP.exists() or STAMP.read_text(encoding="utf-8") not in (_key(command), _key("test")):
        if _run("python", "-m", "pip", "install", "-q", "-c", str(ROOT / "constraints.txt"), "-e", TARGETS[command]):
            sys.exit("error: pip could not install NoisyLabelSeg in .venv; the reason is above.")
        STAMP.write_text(_key(command), encoding="utf-8")
    if command == "demo":
        return _run("noisylabelseg", "demo", *extra)
    os.chdir(ROOT)
    # Two workers with one thread each: more only wait for one another on a small machine.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return max([abs(_run("python", "-m", *check)) for check in (*CHECKS, ["pytest", "-n", "2", *extra])])


def _key(command: str) -> str:
    files = [ROOT / "pyproject.toml", ROOT / "setup.py", ROOT / "constraints.txt"]
    return hashlib.sha256(b"".join([command.encode(), *(file.read_bytes() for file in files)])).hexdigest()


def _run(program: str, *arguments: str) -> int:
    return subprocess.call([str(BIN / program), *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
