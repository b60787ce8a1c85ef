"""Values and Arrow: predicates, plans, pruning, merging, files; no engine, no HTTP."""

from __future__ import annotations

__all__: list[str] = []
