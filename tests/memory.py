"""Where do tests keep a catalog that commits thousands of times? In memory, where there is room."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["in_memory"]

_MEMORY = Path("/dev/shm")
_ROOM_BYTES = 2**30


@contextlib.contextmanager
def in_memory(otherwise: Path) -> Iterator[Path]:
    """A folder that needs no disk, else another one. What a killed process wrote outlives it there."""
    if not _MEMORY.is_dir() or shutil.disk_usage(_MEMORY).free < _ROOM_BYTES:
        yield otherwise
        return
    with tempfile.TemporaryDirectory(dir=_MEMORY) as folder:
        yield Path(folder)
