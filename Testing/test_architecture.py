"""The rooms of the house: who imports whom, and what no file may hold."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SLICER = {"ctk", "qt", "slicer", "vtk"}
UNSAFE = {"cloudpickle", "dill", "joblib", "marshal", "pickle", "shelve"}
NEVER = {
    "NoisyLabelSegLib": {"NoisyLabelSeg", "training"} | SLICER | UNSAFE,
    "training": {"NoisyLabelSeg"} | SLICER | UNSAFE,
    "NoisyLabelSeg": {"training"} | UNSAFE,
}
# Slicer's own process must not load torch, and no room may need mamba-ssm.
NEVER_AT_FILE_SCOPE = {
    "NoisyLabelSegLib": {"mamba_ssm"},
    "training": {"mamba_ssm"},
    "NoisyLabelSeg": {"mamba_ssm", "monai", "torch"},
}
UNSAFE_CALLS = {"eval", "exec", "os.popen", "os.system", "subprocess.getoutput", "subprocess.getstatusoutput"}
# Put together here, so that this file holds none of them.
MACHINE_PATHS = tuple(f"/{folder}/".encode() for folder in ("work", "root", "home"))
LARGEST = 4 * 1024**2


def _sources(*rooms: str) -> list[Any]:
    files = [(room, path) for room in rooms for path in sorted((ROOT / room).rglob("*.py"))]
    return [pytest.param(room, path, id=path.relative_to(ROOT).as_posix()) for room, path in files]


def _imports(node: ast.AST, inside_functions: bool) -> Iterator[str]:
    """Give the top-level name of every absolute import under a node."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (alias.name.split(".")[0] for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and not child.level and child.module:
            yield child.module.split(".")[0]
        if inside_functions or not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _imports(child, inside_functions)


def _unsafe_calls(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            if ast.unparse(node.func) in UNSAFE_CALLS:
                yield ast.unparse(node.func)
            for keyword in node.keywords:
                if keyword.arg == "shell" and ast.unparse(keyword.value) != "False":
                    yield f"shell={ast.unparse(keyword.value)}"


@pytest.mark.parametrize(("room", "path"), _sources("NoisyLabelSegLib", "training", "NoisyLabelSeg"))
def test_imports_go_one_way(room: str, path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    assert set(_imports(tree, inside_functions=True)) & NEVER[room] == set()
    assert set(_imports(tree, inside_functions=False)) & NEVER_AT_FILE_SCOPE[room] == set()


@pytest.mark.parametrize(("room", "path"), _sources("NoisyLabelSegLib", "training"))
def test_nothing_evaluates_text_or_starts_a_shell(room: str, path: Path) -> None:
    assert list(_unsafe_calls(ast.parse(path.read_bytes()))) == []


@pytest.mark.parametrize(
    ("code", "everywhere", "at_file_scope"),
    [
        ("import a.b, c", {"a", "c"}, {"a", "c"}),
        ("from a.b import c\nfrom . import d", {"a"}, {"a"}),
        ("def f():\n    import a", {"a"}, set()),
        ("class C:\n    def f(self):\n        from a import b", {"a"}, set()),
        ("try:\n    import a\nexcept ImportError:\n    pass", {"a"}, {"a"}),
    ],
)
def test_the_check_sees_imports(code: str, everywhere: set[str], at_file_scope: set[str]) -> None:
    assert set(_imports(ast.parse(code), inside_functions=True)) == everywhere
    assert set(_imports(ast.parse(code), inside_functions=False)) == at_file_scope


@pytest.mark.parametrize(
    ("code", "unsafe"),
    [
        ("eval('1')", ["eval"]),
        ("os.system('ls')", ["os.system"]),
        ("subprocess.run('ls', shell=True)", ["shell=True"]),
        ("network.eval(); subprocess.run(['ls'], shell=False)", []),
    ],
)
def test_the_check_sees_unsafe_calls(code: str, unsafe: list[str]) -> None:
    assert list(_unsafe_calls(ast.parse(code))) == unsafe


def test_the_command_line_starts_without_torch() -> None:
    code = "import sys, NoisyLabelSegLib.cli; print({'torch', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


@pytest.fixture(scope="module")
def files() -> list[Path]:
    """Every file of the checkout that git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("this is not a git checkout")
    return [path for name in done.stdout.decode().split("\0") if name and (path := ROOT / name).is_file()]


def test_no_file_names_a_folder_of_a_machine(files: list[Path]) -> None:
    assert [path for path in files if any(word in path.read_bytes() for word in MACHINE_PATHS)] == []


def test_no_file_is_large_except_models(files: list[Path]) -> None:
    large = [path for path in files if path.stat().st_size > LARGEST]
    assert [path for path in large if not path.is_relative_to(ROOT / "Resources" / "Models")] == []
