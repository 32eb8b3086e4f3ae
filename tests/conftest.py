"""What many tests need: a seed file, a model for llama.cpp, and a working folder without an evol.toml."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.random_model import write_model

SeedFile = Callable[..., Path]


@pytest.fixture
def seed_file(tmp_path: Path) -> SeedFile:
    """Writes a seed file of so many rows, with an input in every third; returns its path."""

    def write(rows: int = 3, *, output: str = "An answer.", name: str = "seeds.json") -> Path:
        seeds = [
            {
                "instruction": f"Describe number {number} as a craftsman would.",
                "input": f"number,{number}" if number % 3 == 0 else "",
                "output": output,
            }
            for number in range(rows)
        ]
        path = tmp_path / name
        path.write_text(json.dumps(seeds), encoding="utf-8")
        return path

    return write


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model for llama.cpp, of half a million random weights: it loads in no time."""
    path = tmp_path_factory.mktemp("model") / "tiny.gguf"
    write_model(path)
    return path


@pytest.fixture(autouse=True)
def _empty_working_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No evol.toml, no key and no folder of this machine decides what a test sees."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
