"""The package: what is in a wheel is what is in the repository."""

from __future__ import annotations

import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def tracked(folder: str) -> set[str]:
    """The files of this folder that belong to the project."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(["git", "ls-files", folder], cwd=ROOT, check=True, capture_output=True, text=True)
        return set(listed.stdout.split())
    return {str(path.relative_to(ROOT)) for path in (ROOT / folder).rglob("*") if path.is_file()}


def test_the_wheel_holds_every_template_and_seed_and_nothing_else_of_them(wheel: Path) -> None:
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("evol/shipped/")}
    assert inside == {f"evol/shipped/{name}" for name in tracked("templates") | tracked("seeds")}


def test_the_wheel_works_where_there_is_no_checkout(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path / "site")
    code = "import evol; from evol.packs import load_pack; print(evol.__file__, load_pack('wizardlm').path)"
    found = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path / "site")},
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert all(path.startswith(str(tmp_path / "site")) for path in found.split())


def test_the_command_and_the_licence_are_declared() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["scripts"] == {"evol": "evol.__main__:main"}
    assert project["license"] == "Apache-2.0"
    assert (ROOT / project["license-files"][0]).read_text(encoding="utf-8").lstrip().startswith("Apache License")
