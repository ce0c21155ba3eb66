"""What makes the repository an extension that 3D Slicer's Extensions Index takes: lists of files, metadata, icon."""

from __future__ import annotations

import json
import re
import struct
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MODULE = "NoisyLabelSeg/CMakeLists.txt"
CATALOGUE_KEYS = {
    "$schema",
    "build_dependencies",
    "build_subdirectory",
    "category",
    "enabled",
    "scm_revision",
    "scm_type",
    "scm_url",
    "tier",
}


def _cmake_list(file: str, name: str) -> list[str]:
    text = re.sub(r"#.*", "", (ROOT / file).read_text(encoding="utf-8"))
    found = re.search(rf"set\({name}\s([^)]*)\)", text)
    assert found, f"{file} does not set {name}"
    return found[1].split()


def _tree(room: str, *patterns: str, start: str = "") -> list[str]:
    base = ROOT / start
    paths = {path for pattern in patterns for path in (base / room).rglob(pattern) if path.is_file()}
    return sorted(path.relative_to(base).as_posix() for path in paths if "__pycache__" not in path.parts)


@pytest.mark.parametrize(
    ("listed", "there"),
    [
        (_cmake_list("files.cmake", "LIBRARY_SCRIPTS"), _tree("NoisyLabelSegLib", "*.py")),
        (
            _cmake_list("files.cmake", "LIBRARY_RESOURCES"),
            _tree("NoisyLabelSegLib", "py.typed") + _tree("Resources/Models", "*") + _tree("Resources/Samples", "*"),
        ),
        (
            _cmake_list("NoisyLabelSeg/CMakeLists.txt", "MODULE_PYTHON_SCRIPTS"),
            _tree("", "*.py", start="NoisyLabelSeg"),
        ),
        (_cmake_list(MODULE, "MODULE_PYTHON_RESOURCES"), _tree("Resources", "*", start="NoisyLabelSeg")),
    ],
    ids=["library", "models and samples", "module", "the module's resources"],
)
def test_every_file_is_listed_for_installation(listed: list[str], there: list[str]) -> None:
    assert sorted(listed) == sorted(there)
    assert len(set(listed)) == len(listed)


def test_one_python_file_lies_beside_the_modules_since_slicer_takes_each_for_a_module() -> None:
    assert [path.name for path in (ROOT / "NoisyLabelSeg").glob("*.py")] == ["NoisyLabelSeg.py"]


def test_no_generic_package_name_gets_into_slicers_path() -> None:
    scripts = _cmake_list("files.cmake", "LIBRARY_SCRIPTS") + _cmake_list(MODULE, "MODULE_PYTHON_SCRIPTS")
    assert {script.split("/")[0] for script in scripts} == {
        "NoisyLabelSeg.py",
        "NoisyLabelSegLib",
        "NoisyLabelSegSlicer",
    }


def test_the_catalogue_entry_says_what_the_build_says() -> None:
    entry = json.loads((ROOT / "NoisyLabelSeg.json").read_text(encoding="utf-8"))
    build = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    project = re.search(r"project\((\w+)\)", build)
    assert project is not None and (ROOT / f"{project[1]}.json").is_file()
    assert set(entry) <= CATALOGUE_KEYS
    assert entry["build_dependencies"] == _cmake_list("CMakeLists.txt", "EXTENSION_DEPENDS")
    assert f'{entry["scm_url"].removesuffix(".git")}"' in build


def test_what_the_index_shows_is_in_the_repository() -> None:
    build = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    urls = re.findall(r"https://raw\.githubusercontent\.com/[\w-]+/[\w-]+/main/([^\"\s;]+)", build)
    assert len(urls) >= 2
    assert [url for url in urls if not (ROOT / url).is_file()] == []


def test_the_icon_is_a_square_png_of_128_pixels() -> None:
    data = (ROOT / "NoisyLabelSeg/Resources/Icons/NoisyLabelSeg.png").read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    assert struct.unpack(">II", data[16:24]) == (128, 128)
