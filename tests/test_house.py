"""The house itself: imports go down the floors, what is public is named, what is written about it is true."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import evol
from evol import errors, review, seeds, teachers

ROOT = Path(__file__).parent.parent
# From the top of the house to the ground, as in ARCHITECTURE.md. A room may import from rooms below it, not beside it.
FLOORS = (
    ("evol.__main__",),
    ("evol.cli",),
    ("evol",),
    ("evol.forecast", "evol.pilot"),
    ("evol.engine",),
    ("evol.dataset.card",),
    ("evol.review",),
    ("evol.dataset.finish",),
    ("evol.dataset.rows", "evol.dataset"),
    ("evol.drift",),
    ("evol.schedule", "evol.accounts"),
    ("evol.lineage",),
    ("evol.stages",),
    ("evol.recipe",),
    ("evol.seeds",),
    ("evol.ask",),
    ("evol.budget", "evol.limiter"),
    ("evol.tally",),
    ("evol.teachers",),
    ("evol.packs",),
    ("evol.salvage",),
    ("evol.journal", "evol.folder", "evol.templates"),
    ("evol.ballast", "evol.filesystem", "evol.pages"),
    ("evol.records", "evol.words", "evol.chance", "evol.shipped", "evol.version", "evol.errors"),
)
SOURCES = sorted((ROOT / "evol").rglob("*.py"))
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "CONTRIBUTING.md", "CHANGELOG.md", "seeds/README.md")


def floor_of(module: str) -> int:
    """The number of the floor, 0 at the top: that of the longest name in `FLOORS` that the module begins with."""
    names = [
        (len(name), number)
        for number, rooms in enumerate(FLOORS)
        for name in rooms
        if module == name or (module.startswith(f"{name}.") and name != "evol")
    ]
    assert names, f"{module} stands on no floor"
    return max(names)[1]


def imports_of(path: Path) -> set[str]:
    """The modules of evol that this file imports, also inside of functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "evol":
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            files = {name for name in inner if is_module(name)}
            found |= files or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names if alias.name.split(".")[0] == "evol"}
    return found


def is_module(name: str) -> bool:
    path = ROOT / name.replace(".", "/")
    return path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_go_down(path: Path) -> None:
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    own = floor_of(module)
    for imported in imports_of(path):
        below = floor_of(imported)
        same_room = module.split(".")[1:2] == imported.split(".")[1:2]
        assert below > own or same_room, f"{module} imports {imported}, which is not below it"


@pytest.mark.parametrize("module", [evol, errors, review, seeds, teachers], ids=lambda module: module.__name__)
def test_what_is_public_is_named_and_there(module: object) -> None:
    names = module.__all__  # type: ignore[attr-defined]
    assert names == sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))
    assert all(hasattr(module, name) for name in names)


def test_every_error_is_public_and_drawn_in_the_tree() -> None:
    classes = {name for name, value in vars(errors).items() if isinstance(value, type) and issubclass(value, Exception)}
    assert classes == set(errors.__all__)
    assert errors.__doc__
    assert all(name in errors.__doc__ for name in classes)


def test_nothing_heavy_is_imported_for_a_page_of_help() -> None:
    heavy = {"openai", "pandas", "datasets", "aiohttp", "jinja2", "pydantic", "tenacity"}
    code = f"import sys, evol.cli; print(sorted({heavy!r} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_name_only_files_that_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?:|#)([^)]+)\)", text):
        assert ((ROOT / name).parent / target.partition("#")[0]).exists(), f"{name} names {target}"
