"""What Ray Data needs to read and write DeltaCAT tables.

Importing this module adds `ray.data.read_deltacat` and `Dataset.write_deltacat`, unless Ray has its own.
"""

from __future__ import annotations

import ray.data

from deltacat_sources.ray.explaining import explain
from deltacat_sources.ray.scan import DeltaCatDatasource, read_deltacat
from deltacat_sources.ray.sink import DeltaCatDatasink, write_deltacat

__all__ = ["DeltaCatDatasink", "DeltaCatDatasource", "explain", "read_deltacat", "write_deltacat"]

for _place, _name, _function in (
    (ray.data, "read_deltacat", read_deltacat),
    (ray.data.Dataset, "write_deltacat", write_deltacat),
):
    # Names that mypy does not know there.
    if not hasattr(_place, _name):
        setattr(_place, _name, _function)
