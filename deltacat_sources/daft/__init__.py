"""What Daft users call; importing it also gives Daft the same name, where it is free."""

from __future__ import annotations

import daft

from deltacat_sources.daft.scan import read_deltacat

__all__ = ["read_deltacat"]

if not hasattr(daft, "read_deltacat"):
    setattr(daft, "read_deltacat", read_deltacat)  # noqa: B010  # a name that mypy does not know there
