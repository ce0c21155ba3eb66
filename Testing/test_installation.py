"""The set-up: it brings what is missing, says so first, and never exchanges what the application runs on."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.tags import sys_tags

from NoisyLabelSegLib.errors import InputError
from NoisyLabelSegLib.requirements import REQUIREMENTS, missing, name_of
from NoisyLabelSegLib.worker.server import NEEDED
from NoisyLabelSegSlicer.installation import Installation, installed_here, long_paths
from NoisyLabelSegSlicer.installation_plan import Facts, make_plan
from NoisyLabelSegSlicer.wheels import lacking, wheels_in

ROOT = Path(__file__).resolve().parents[1]
SLICER = {"numpy": "2.4.6", "scipy": "1.17.1", "SimpleITK": "2.5.5", "packaging": "26.2", "pip": "26.1.1"}
REST = ("monai>=1.4", "rich>=13", "safetensors>=0.4")
ALL = SLICER | {"monai": "1.6.1", "rich": "15.0.0", "safetensors": "0.8.0", "torch": "2.13.0+cu128"}


def test_the_requirements_are_those_of_the_project() -> None:
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    line = next(line for line in text.splitlines() if line.startswith("dependencies = "))
    assert sorted(REQUIREMENTS) == sorted(line.partition("[")[2].rstrip("]").replace('"', "").split(", "))


def test_the_worker_needs_all_of_them_but_what_draws_the_command_lines_tables() -> None:
    assert sorted([*NEEDED, "rich"]) == sorted(map(name_of, REQUIREMENTS))


@pytest.mark.parametrize(
    ("installed", "expected"),
    [
        (ALL, []),
        (SLICER, [*REST, "torch>=2.5"]),
        (ALL | {"torch": "2.4.1"}, ["torch>=2.5"]),
        (ALL | {"torch": "2.10.0a0+git1234"}, []),
        (ALL | {"monai": "1.10"}, []),
        (ALL | {"monai": "1"}, ["monai>=1.4"]),
        (ALL | {"rich": "13"}, []),
        (ALL | {"rich": "unknown"}, ["rich>=13"]),
        ({name.lower(): number for name, number in ALL.items()}, []),
    ],
)
def test_what_is_not_there_or_too_old_is_missing(installed: Mapping[str, str], expected: list[str]) -> None:
    assert Facts(installed, False).missing() == expected


def test_this_python_lacks_nothing_and_one_without_packages_everything() -> None:
    def none(name: str) -> str:
        raise PackageNotFoundError(name)

    assert missing() == [] and missing(none) == list(REQUIREMENTS)
    assert installed_here()["numpy"] == version("numpy")
    assert long_paths() or sys.platform == "win32"


EXTENSION, REST_STEP = ("extension", ()), ("pip", REST)


@pytest.mark.parametrize(
    ("installed", "extension", "long", "steps"),
    [
        (ALL, False, True, []),
        (ALL, False, False, []),
        (SLICER, False, True, [EXTENSION, ("torch", (">=2.5",)), REST_STEP]),
        (SLICER, True, True, [("torch", (">=2.5",)), REST_STEP]),
        (SLICER, True, False, [("torch", (">=2.5,<2.13",)), REST_STEP]),
        (SLICER | {"torch": "2.9.0"}, False, False, [REST_STEP]),
        ({**ALL, "rich": "12.1"}, False, True, [("pip", ("rich>=13",))]),
        ({k: v for k, v in ALL.items() if k != "scipy"}, True, True, [("pip", ("scipy>=1.11",))]),
    ],
)
def test_the_steps_are_those_that_are_needed(
    installed: Mapping[str, str], extension: bool, long: bool, steps: list[Any]
) -> None:
    plan = make_plan(Facts(installed, extension, long))
    assert [(step.kind, step.arguments) for step in plan.steps] == steps
    assert all(step.sentence.endswith(".") for step in plan.steps)
    shortened = any("<2.13" in argument for step in plan.steps for argument in step.arguments)
    assert bool(plan.remarks) == shortened


@pytest.mark.parametrize(
    ("old", "sentence"),
    [
        ({"torch": "2.3.1+cpu"}, r"PyTorch 2\.3\.1\+cpu is installed, but torch>=2\.5 is needed: update it"),
        ({"numpy": "1.24.0"}, r"numpy 1\.24\.0 is a part of this 3D Slicer, but numpy>=1\.26"),
        ({"simpleitk": "2.3"}, "use 3D Slicer 5.10 or newer, or let another Python compute"),
    ],
)
def test_what_must_not_be_exchanged_is_not_even_planned(old: dict[str, str], sentence: str) -> None:
    installed = {name: number for name, number in ALL.items() if name.lower() not in old} | old
    for wheels in (None, Path("anywhere")):
        with pytest.raises(InputError, match=sentence):
            make_plan(Facts(installed, True), wheels)


def write_wheel(folder: Path, name: str, number: str = "1.0", tag: str = "py3-none-any", requires: Any = ()) -> Path:
    """A wheel without content."""
    path = folder / f"{name}-{number}-{tag}.whl"
    info = f"{name}-{number}.dist-info"
    needs = "".join(f"Requires-Dist: {requirement}\n" for requirement in requires)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n{needs}")
        archive.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n")
        archive.writestr(f"{info}/RECORD", "")
    return path


FOREIGN = "cp31-cp31-win32"
HERE = next(str(tag) for tag in sys_tags())


@pytest.mark.parametrize(
    ("wheels", "wanted", "expected"),
    [
        ([("a", "1.0", HERE, [])], ["a>=1"], {}),
        ([("a", "1.0", HERE, [])], ["a>=2"], {"a>=2": [f"a-1.0-{HERE}.whl"]}),
        ([("a", "1.0", FOREIGN, [])], ["a"], {"a": [f"a-1.0-{FOREIGN}.whl"]}),
        ([], ["a>=1", "numpy>=1.26"], {"a>=1": []}),
        ([], ["numpy>=99"], {"numpy>=99": []}),
        ([("a", "1.0", HERE, ["b>=2", "numpy>=2"]), ("b", "2.0", "py3-none-any", ["c"])], ["a"], {"c": []}),
        ([("a", "1.0", HERE, ["b; python_version < '3'", "c; extra == 'd'"])], ["a"], {}),
        ([("a", "1.0", HERE, ["c; extra == 'd'"])], ["a[d]"], {"c": []}),
        ([("a", "1.0", HERE, ["b"]), ("b", "1.0", HERE, ["a"])], ["a"], {}),
        ([("a", "1.0", HERE, ["lost"]), ("a", "2.0", HERE, [])], ["a"], {}),
        ([("my_Package", "1.0", HERE, ["Other.Thing"]), ("other_thing", "1.0", HERE, [])], ["my-package"], {}),
    ],
)
def test_a_folder_that_lacks_a_wheel_is_seen_through(
    tmp_path: Path, wheels: Any, wanted: list[str], expected: Mapping[str, list[str]]
) -> None:
    for name, number, tag, requires in wheels:
        write_wheel(tmp_path, name, number, tag, requires)
    (tmp_path / "notes.txt").touch()
    (tmp_path / "not a wheel.whl").touch()
    assert lacking(wheels_in(tmp_path), wanted, SLICER, frozenset(sys_tags())) == expected


def test_a_damaged_wheel_is_left_to_pip(tmp_path: Path) -> None:
    (tmp_path / f"a-1.0-{HERE}.whl").write_bytes(b"PK")
    assert lacking(wheels_in(tmp_path), ["a"], {}, frozenset(sys_tags())) == {}


def test_everything_comes_from_a_folder_without_the_network(tmp_path: Path) -> None:
    facts = Facts(SLICER, torch_extension=False)
    wheels = tmp_path / "Räder für CT"
    wheels.mkdir()
    write_wheel(wheels, "torch", "2.9.0", FOREIGN)
    with pytest.raises(
        InputError, match=r"lacks wheels for Python 3\.\d+ on .*: torch>=2\.5 .*torch-2\.9.*monai>=1\.4;"
    ):
        make_plan(facts, wheels)
    write_wheel(wheels, "torch", "2.9.0", requires=["sympy>=1.13"])
    for name in ("monai", "rich", "safetensors"):
        write_wheel(wheels, name, "99.0", requires=["numpy>=1.24", "torch>=2.8"])
    with pytest.raises(InputError, match=r": sympy>=1\.13\. Add"):
        make_plan(facts, wheels)
    write_wheel(wheels, "sympy", "1.14")
    (step,) = make_plan(facts, wheels).steps
    assert step.arguments == ("--no-index", "--find-links", str(wheels), "torch>=2.5", *REST)
    assert str(wheels) in step.sentence and "without any network" in step.sentence


class Desk:
    """An application that installs into a dictionary, and notes what it was asked for under which constraints."""

    def __init__(self, installed: Mapping[str, str], extension: bool = False) -> None:
        self.installed, self.extension = dict(installed), extension
        self.environment: dict[str, str] = {}
        self.flag = False
        self.log: list[str] = []
        self.fails = ""

    def has_torch_extension(self) -> bool:
        return self.extension

    def install_torch_extension(self) -> None:
        self._do("extension")

    def install_torch(self, specifier: str) -> None:
        self._do(f"torch{specifier} under {self.constraints()}")
        self.installed["torch"] = "2.9.0+cu128"

    def pip(self, arguments: list[str]) -> None:
        self._do(f"{' '.join(arguments)} under {self.constraints()}")
        self.installed.update((Requirement(text).name, "99.0") for text in arguments)

    def remember_to_resume(self, on: bool) -> None:
        self.flag = on

    def is_to_resume(self) -> bool:
        return self.flag

    def restart(self) -> None:
        self._do("restart")
        self.extension = True

    def constraints(self) -> list[str]:
        uri = self.environment["PIP_CONSTRAINT"].split()[-1]
        path = Path(uri.removeprefix("file://"))
        return path.read_text(encoding="utf-8").split()

    def set_up(self) -> Installation:
        return Installation(self, lambda: self.installed, True, self.environment)

    def _do(self, what: str) -> None:
        self.log.append(what)
        if self.fails and self.fails in what:
            raise RuntimeError(what)


PINS = ["numpy==2.4.6", "scipy==1.17.1", "SimpleITK==2.5.5"]


def test_the_set_up_goes_on_after_the_restart_and_protects_what_is_there() -> None:
    desk = Desk(SLICER)
    first = desk.set_up()
    assert not first.resumes()
    assert first.carry_out(first.plan()) is False
    assert desk.log == ["extension", "restart"] and desk.flag
    second = desk.set_up()
    assert second.resumes() and not second.resumes(), "said once"
    assert second.carry_out(second.plan()) is True
    assert desk.log[2:] == [f"torch>=2.5 under {PINS}", f"{' '.join(REST)} under {[*PINS, 'torch==2.9.0+cu128']}"]
    assert second.missing() == [] and second.plan().steps == () and not desk.environment


def test_a_set_up_that_was_finished_otherwise_does_not_go_on() -> None:
    desk = Desk(ALL)
    desk.flag = True
    assert not desk.set_up().resumes() and not desk.flag


@pytest.mark.parametrize("fails", ["extension", "torch", "monai"])
def test_a_step_that_fails_leaves_nothing_to_resume_and_no_constraint(fails: str) -> None:
    desk = Desk(SLICER, extension=fails != "extension")
    desk.fails = fails
    desk.environment["PIP_CONSTRAINT"] = "/site/constraints.txt"
    with pytest.raises(RuntimeError):
        desk.set_up().carry_out(desk.set_up().plan())
    assert not desk.flag and desk.environment == {"PIP_CONSTRAINT": "/site/constraints.txt"}
    assert fails in desk.log[-1]


def test_a_set_up_after_which_something_is_still_missing_says_so() -> None:
    desk = Desk({**ALL, "monai": "1.0"})
    plan = desk.set_up().plan()
    desk.pip = lambda arguments: None  # type: ignore[method-assign]
    with pytest.raises(InputError, match="monai>=1.4 could not be installed"):
        desk.set_up().carry_out(plan)


def test_a_version_that_is_none_is_no_constraint() -> None:
    desk = Desk({**SLICER, "torchvision": "built here", "monai": "1.6"}, extension=True)
    desk.set_up().carry_out(desk.set_up().plan())
    assert desk.log[0].endswith(str(PINS))


@pytest.mark.parametrize(
    ("requires", "protected", "installs"),
    [
        ("numpy", True, ["noisylabelseg_test_only-1.0"]),
        ("numpy>=1.20", True, ["noisylabelseg_test_only-1.0"]),
        ("numpy>=99", True, []),
        ("numpy>=99", False, ["noisylabelseg_test_only-1.0", "numpy-99.0"]),  # or else the others would say nothing
    ],
)
def test_pip_itself_obeys(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, requires: str, protected: bool, installs: list[str]
) -> None:
    """A wheel that wants another NumPy, which lies beside it, is not installed; in folders with spaces and umlauts."""
    pytest.importorskip("pip")
    wheels, temporary = tmp_path / "Räder für CT", tmp_path / "tëmp 1"
    wheels.mkdir()
    temporary.mkdir()
    write_wheel(wheels, "numpy", "99.0")
    write_wheel(wheels, "noisylabelseg_test_only", requires=[requires])
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    desk = Desk({"numpy": version("numpy")} if protected else {})
    desk.environment = {**os.environ, "PYTHONIOENCODING": "utf-8"}
    with desk.set_up()._protected():
        arguments = ["--dry-run", "--no-index", "--find-links", str(wheels), "noisylabelseg_test_only"]
        command = [sys.executable, "-m", "pip", "install", *arguments]
        # Not as this process would read it: ITK's DICOM writer, say in another test, leaves it in the "C" locale.
        done = subprocess.run(command, env=desk.environment, capture_output=True, encoding="utf-8", check=False)
    would_install = done.stdout.partition("Would install")[2].split()
    assert (sorted(would_install), done.returncode == 0) == (installs, bool(installs)), done.stderr
