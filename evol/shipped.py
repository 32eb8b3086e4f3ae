"""Where the templates and seeds that come with evol are: inside an installed package, or beside it in a checkout."""

from __future__ import annotations

from pathlib import Path


def shipped(kind: str) -> Path:
    """The folder of shipped `templates` or `seeds`."""
    package = Path(__file__).parent
    installed = package / "shipped" / kind
    return installed if installed.is_dir() else package.parent / kind
