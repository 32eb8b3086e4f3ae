"""Looking at a run: its rows as a pandas frame, its figures, its lineages. Reads only, also while the run goes on."""

from __future__ import annotations

from evol.review.loaded import Run, load
from evol.review.stats import Group, Stats, summarise

__all__ = ["Group", "Run", "Stats", "load", "summarise"]
