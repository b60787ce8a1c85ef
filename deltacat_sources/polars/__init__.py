"""What Polars users call; importing it also gives Polars the same names, where they are free."""

from __future__ import annotations

import polars as pl

from deltacat_sources.polars.explanation import Explanation
from deltacat_sources.polars.namespace import DeltaCatFrame
from deltacat_sources.polars.scan import read_deltacat, scan_deltacat
from deltacat_sources.polars.sink import sink_deltacat, write_deltacat
from deltacat_sources.polars.sql import sql_context

__all__ = [
    "DeltaCatFrame",
    "Explanation",
    "read_deltacat",
    "scan_deltacat",
    "sink_deltacat",
    "sql_context",
    "write_deltacat",
]


def _attach() -> None:
    for owner, function in (
        (pl, scan_deltacat),
        (pl, read_deltacat),
        (pl.LazyFrame, sink_deltacat),
        (pl.DataFrame, write_deltacat),
    ):
        if not hasattr(owner, function.__name__):
            setattr(owner, function.__name__, function)
    if not hasattr(pl.LazyFrame, "deltacat"):
        pl.api.register_lazyframe_namespace("deltacat")(DeltaCatFrame)


_attach()
