"""What Daft users call; importing it also gives Daft the same names, where they are free."""

from __future__ import annotations

import daft

from deltacat_sources.daft.catalog import catalog
from deltacat_sources.daft.scan import read_deltacat
from deltacat_sources.daft.sink import write_deltacat

__all__ = ["catalog", "read_deltacat", "write_deltacat"]

if not hasattr(daft, "read_deltacat"):
    setattr(daft, "read_deltacat", read_deltacat)  # noqa: B010  # a name that mypy does not know there
if not hasattr(daft.DataFrame, "write_deltacat"):
    setattr(daft.DataFrame, "write_deltacat", write_deltacat)  # noqa: B010  # as above
