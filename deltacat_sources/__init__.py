"""DeltaCAT tables in Polars, Daft and Ray; import the engine's module to use it."""

from __future__ import annotations

__all__: list[str] = []
