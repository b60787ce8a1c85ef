"""One module per file format; each reads, writes and describes files of its own kind."""

from __future__ import annotations

__all__: list[str] = []
