"""Readers of seed pools, one per format, all yielding `Seed`."""

from __future__ import annotations

from evol.seeds.alpaca import Pool, read_alpaca

__all__ = ["Pool", "read_alpaca"]
