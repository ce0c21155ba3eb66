"""The worker's command: what a setting starts, in which environment, and what it can never start."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegSlicer.worker_command import Slicer, WorkerSetting

ROOT = Path(__file__).resolve().parents[1]
HOME = Path("/opt/Slicer 5.12")
LINES = os.pathsep.join


def application(**changed: Any) -> Slicer:
    facts: dict[str, Any] = {
        "home": HOME,
        "python": HOME / "bin" / "PythonSlicer",
        "library": Path("/ext/NoisyLabelSeg/lib ü"),
        "environment": {"PYTHONHOME": "/opt/Slicer 5.12/lib/Python", "PYTHONPATH": "/theirs", "A": "now"},
        "startup_environment": {"PATH": "/usr/bin", "A": "before"},
    }
    return Slicer(**{**facts, **changed})


def test_slicers_own_python_runs_in_slicers_environment() -> None:
    command, environment = WorkerSetting().command(application(), idle=90)
    assert command == [str(HOME / "bin" / "PythonSlicer"), "-m", "NoisyLabelSegLib", "worker", "--idle", "90"]
    path = LINES([str(Path("/ext/NoisyLabelSeg/lib ü")), "/theirs"])
    assert environment == {**application().environment, "PYTHONPATH": path, "PYTHONSAFEPATH": "1"}


def test_a_host_is_reached_without_questions_and_without_slicers_libraries() -> None:
    command, environment = WorkerSetting("ssh", "me@gpu-host").command(application())
    options = ["-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15"]
    assert command == ["ssh", *options, "me@gpu-host", "noisylabelseg", "worker", "--idle", "600"]
    assert environment == application().startup_environment


@pytest.mark.parametrize(
    ("startup", "expected"),
    [
        ({"HOME": "/Users/me", "EMPTY": ""}, {"HOME": "/Users/me", "EMPTY": ""}),
        ({"PYTHONHOME": str(HOME / "lib" / "Python")}, {}),
        ({"PYTHONPATH": str(HOME), "SSL_CERT_FILE": str(HOME / "share" / "Slicer.crt")}, {}),
        (
            {"LD_LIBRARY_PATH": LINES([str(HOME / "lib"), "/usr/local/cuda/lib64", str(HOME / "lib" / "Qt")])},
            {"LD_LIBRARY_PATH": "/usr/local/cuda/lib64"},
        ),
        ({"PATH": LINES(["/opt/Slicer 5.120", "", "/bin"])}, {"PATH": LINES(["/opt/Slicer 5.120", "", "/bin"])}),
    ],
)
def test_other_programs_get_nothing_that_points_into_the_application(
    startup: dict[str, str], expected: dict[str, str]
) -> None:
    slicer = application(startup_environment=startup)
    assert WorkerSetting("ssh", "host").command(slicer)[1] == expected
    _, environment = WorkerSetting("python", sys.executable).command(slicer)
    assert environment == {**expected, "PYTHONPATH": str(slicer.library), "PYTHONSAFEPATH": "1"}


@pytest.fixture
def environments(tmp_path: Path) -> Path:
    """Folders of two Pythons, a folder without one, and a file that is no program."""
    for name in ("conda ü/bin/python3", "venv/bin/python", "windows/Scripts/python.exe"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch(0o755)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").touch(0o644)
    return tmp_path


@pytest.mark.parametrize(
    ("where", "python"),
    [
        ("conda ü", "conda ü/bin/python3"),
        ("conda ü/bin/python3", "conda ü/bin/python3"),
        ("venv", "venv/bin/python"),
        ("windows", "windows/Scripts/python.exe"),
        ("empty", None),
        ("missing/bin/python", None),
        pytest.param("notes.txt", None, marks=pytest.mark.skipif(os.name == "nt", reason="all files are programs")),
    ],
)
def test_another_python_is_found_by_itself_or_its_folder(environments: Path, where: str, python: str | None) -> None:
    setting = WorkerSetting("python", str(environments / where))
    if python is None:
        with pytest.raises(InputError, match="There is no Python at"):
            setting.command(application())
    else:
        assert setting.command(application())[0][:3] == [str(environments / python), "-m", "NoisyLabelSegLib"]


@pytest.mark.parametrize(
    ("setting", "text"),
    [
        (WorkerSetting(), "slicer"),
        (
            WorkerSetting("python", r"C:\Users\Jörg K\envs\ct: 1\python.exe"),
            r"python:C:\Users\Jörg K\envs\ct: 1\python.exe",
        ),
        (WorkerSetting("ssh", "me@gpu-host.example"), "ssh:me@gpu-host.example noisylabelseg"),
        (WorkerSetting("ssh", "[::1]", "~/env/bin/noisylabelseg"), "ssh:[::1] ~/env/bin/noisylabelseg"),
    ],
)
def test_a_setting_survives_being_stored(setting: WorkerSetting, text: str) -> None:
    assert setting.text == text and WorkerSetting.of(text) == setting


def test_an_unset_setting_is_slicers_python() -> None:
    assert WorkerSetting.of("") == WorkerSetting() and WorkerSetting.of("ssh:host") == WorkerSetting("ssh", "host")


@pytest.mark.parametrize("text", ["?", "slicer2", "shell:rm", "Python:/usr/bin/python", "python:", "python: ", "ssh:"])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(InputError):
        WorkerSetting.of(text)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "-oProxyCommand=touch x",
        "a b",
        "a\tb",
        "a\n",
        "a;b",
        "a|b",
        "$(a)",
        "`a`",
        "a'b",
        'a"b',
        "a\\b",
        "a&b",
        "\x00",
        "@a",
    ],
)
def test_a_host_is_a_host(host: str) -> None:
    with pytest.raises(InputError, match="not a host"):
        WorkerSetting("ssh", host)


@pytest.mark.parametrize("command", ["", "-c", "a b", "a;b", "$HOME/a", "a\n", "`a`", "a&", "a>b", "é"])
def test_the_other_sides_shell_reads_one_plain_name(command: str) -> None:
    with pytest.raises(InputError, match="command on the host"):
        WorkerSetting("ssh", "host", command)


def test_the_command_starts_this_library_wherever_it_is_called_from(tmp_path: Path) -> None:
    """In a folder with spaces and umlauts; a package of the same name in the current folder is not run."""
    library = tmp_path / "Erweiterung für Ärzte"
    library.mkdir()
    (library / "NoisyLabelSegLib").symlink_to(ROOT / "NoisyLabelSegLib", target_is_directory=True)
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "NoisyLabelSegLib").mkdir(parents=True)
    (elsewhere / "NoisyLabelSegLib" / "__main__.py").write_text("raise SystemExit('a stranger')")
    slicer = application(library=library, startup_environment=dict(os.environ))
    command, environment = WorkerSetting("python", sys.executable).command(slicer)
    del command[3:]
    done = subprocess.run([*command, "--version"], cwd=elsewhere, env=environment, capture_output=True, text=True)
    assert done.stdout.startswith("NoisyLabelSeg ") and done.returncode == 0
