"""What Ray Data needs to read DeltaCAT tables.

Importing this module adds `ray.data.read_deltacat`, unless Ray has one of its own.
"""

from __future__ import annotations

import ray.data

from deltacat_sources.ray.scan import DeltaCatDatasource, read_deltacat

__all__ = ["DeltaCatDatasource", "read_deltacat"]

if not hasattr(ray.data, "read_deltacat"):
    setattr(ray.data, "read_deltacat", read_deltacat)  # noqa: B010  # a name that mypy does not know there
