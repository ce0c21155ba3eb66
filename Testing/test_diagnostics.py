"""The text for a bug report says all that helps, and nobody's name."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

import pytest

from NoisyLabelSegSlicer.diagnostics import Facts, report

SHA = "0" * 64
FACTS = Facts(
    version="0.1.0",
    slicer="5.12.0 r33000",
    system="Linux-6.8-x86_64",
    python="3.12.10",
    worker="slicer",
    state="ready",
    hello={"protocol": 1, "torch": "2.13.0+cu128", "device": "NVIDIA H200", "missing": []},
    device="cuda:0 (NVIDIA H200)",
    packages={"torch": "2.13.0+cu128", "NumPy": "2.4.6", "secret-project": "1.0"},
    models=[
        {"description": {"name": "m", "version": "1.0", "kind": "refine", "weights": {"sha256": SHA}}},
        {"folder": "/Users/anna/models/bad", "reason": "'/Users/anna/models/bad' lacks the file LICENSE."},
    ],
    error="The mask of 'Anna Smith' is empty.",
    stderr=[f"line {n}" for n in range(100)] + ["at /Users/anna/env/x.py, for anna"],
)


ANNA = PurePosixPath("/Users/anna")


def text_of(home: Any = ANNA, user: str = "anna", **changed: Any) -> str:
    return report(replace(FACTS, **changed), home, user, ["Anna Smith", "CT of Smith", ""])


@pytest.mark.parametrize(
    "expected",
    [
        "NoisyLabelSeg 0.1.0",
        "3D Slicer 5.12.0 r33000",
        "System Linux-6.8-x86_64",
        "Python 3.12.10: torch 2.13.0+cu128, torchvision missing, monai missing",
        "numpy 2.4.6",
        "Worker: slicer, ready",
        "device NVIDIA H200, missing [], protocol 1",
        "Device used last: cuda:0 (NVIDIA H200)",
        f"m 1.0, refine, SHA-256 {SHA}",
        "bad: '~/models/bad' lacks the file LICENSE.",
        "Last error: The mask of '…' is empty.",
        "  line 99\n  at ~/env/x.py, for ~\n",
    ],
)
def test_what_helps_is_in_it(expected: str) -> None:
    assert expected in text_of()


@pytest.mark.parametrize("unwanted", ["anna", "Smith", "/Users", "secret", "line 60\n"])
def test_what_is_private_or_endless_is_not(unwanted: str) -> None:
    assert unwanted.lower() not in text_of().lower()


@pytest.mark.parametrize(
    ("home", "user", "error", "shown"),
    [
        (
            PurePosixPath("/Users/anna"),
            "anna",
            "/Users/anna/x /Users/annabel/x banana ANNA",
            "~/x /Users/annabel/x banana ~",
        ),
        (PureWindowsPath(r"C:\Users\Jörg K"), "Jörg K", r"c:\users\jörg k\x C:/Users/Jörg K/y", "~\\x ~/y"),
        (
            PureWindowsPath(r"C:\Users\Jo"),
            "Jo",
            r"{'path': 'C:\\Users\\Jo\\x'} D:\Jo\x Joint",
            r"{'path': '~\\x'} D:\~\x Joint",
        ),
        (PurePosixPath("/srv/me"), "", "/srv/me/x .* a.b", "~/x .* a.b"),
        (PurePosixPath("/Users/a.b"), "a.b", "/Users/a.b/x axb a.b", "~/x axb ~"),
    ],
)
def test_a_persons_folder_and_name_are_a_tilde(home: Any, user: str, error: str, shown: str) -> None:
    assert f"Last error: {shown}\n" in text_of(home, user, error=error)


def test_there_is_a_text_before_anything_has_run() -> None:
    text = report(Facts("0.1.0", "5.12", "Windows", "3.12", "ssh", "off"), Path.home(), "x")
    assert "Worker says: nothing" in text and "Last error: none" in text and text.endswith("worker:\n")
