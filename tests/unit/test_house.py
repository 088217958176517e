"""The rules of the house that no linter knows."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

from engine import kinds, objectives
from engine.jobs import SPECS

ROOT = Path(__file__).resolve().parents[2]
TOP_LEVEL = {
    "pyproject.toml", "README.md", "api", "workers", "engine", "db", "migrations", "docker", "tests",
    "cli", "dashboard", "benchmarks", "examples", ".ci", "Makefile", "CONTRIBUTING.md", "LICENSE", ".gitignore",
}  # fmt: skip
A_SCREEN = 50
SILENT_NAMES = {"utils", "helpers", "common", "misc", "base", "manager"}
HEAVY = ("torch", "transformers", "peft", "deepspeed", "bitsandbytes")


def tracked_files() -> list[Path]:
    listing = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listing.returncode:
        pytest.skip("not a git checkout")
    return [Path(line) for line in listing.stdout.splitlines() if (ROOT / line).exists()]


@pytest.mark.parametrize("package", ["api", "cli", "db", "engine", "workers"])
def test_a_package_resolves_inside_the_repository(package: str) -> None:
    module = importlib.import_module(package)
    assert Path(module.__path__[0]).resolve().parent == ROOT


def test_nothing_else_stands_at_the_top() -> None:
    assert {path.parts[0] for path in tracked_files()} <= TOP_LEVEL


def sources(package: str = "") -> list[Path]:
    found = [path for path in tracked_files() if path.suffix == ".py" and path.is_relative_to(package)]
    assert found
    return found


def lines_of(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None, "parsed from text"
    return node.end_lineno - node.lineno + 1


@pytest.mark.parametrize(("package", "most"), [("", 400), ("engine", 300)])
def test_no_source_file_passes_the_wall(package: str, most: int) -> None:
    counts = {str(path): len((ROOT / path).read_text().splitlines()) for path in sources(package)}
    assert not {path: count for path, count in counts.items() if count > most}


def test_every_function_of_the_engine_fits_on_a_screen() -> None:
    long = {
        f"{path}:{node.lineno} {node.name}"
        for path in sources("engine")
        for node in ast.walk(ast.parse((ROOT / path).read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and lines_of(node) > A_SCREEN
    }
    assert not long


def test_every_module_name_says_something() -> None:
    assert not [path for path in tracked_files() if path.stem in SILENT_NAMES]


def test_the_two_tables_of_kinds_and_the_folders_agree() -> None:
    folders = {module.name for module in pkgutil.iter_modules(kinds.__path__)}
    assert set(SPECS) == set(objectives.OBJECTIVES) == folders


@pytest.mark.parametrize(
    "module",
    [
        "api.app",
        "workers.tasks",
        "workers.recover",
        "workers.desk",
        "cli.main",
        "db.migrate",
        "engine.jobs",
        "engine.plan",
        "engine.rows",
    ],
)
def test_torch_and_its_friends_stay_out_of(module: str) -> None:
    code = f"import sys, {module}; print(*[name for name in {HEAVY} if name in sys.modules])"
    loaded = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert loaded.stdout.split() == []


def test_an_engine_begins_without_the_compiler_of_torch_and_looks_for_no_garbage() -> None:
    """The compiler is a third of what there would be to import, the looking a sixth of the time that the rest takes."""
    code = (
        "import gc, sys\n"
        "from engine.__main__ import main\n"
        "looks = []\n"
        "gc.callbacks.append(lambda phase, _: looks.append(phase))\n"
        "main(['--wait'])\n"
        "print('engine.process' in sys.modules, len(looks), gc.isenabled(), gc.get_freeze_count() > 100_000)\n"
        "import engine.resident\n"
        "print('torch._inductor.compile_fx' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code]
    told = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["ready", "True", "0", "True", "True", "False"]
