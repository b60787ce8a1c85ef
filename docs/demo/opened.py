"""Which files does a reader open? Counted from outside, by the kernel's inotify; Linux only."""

from __future__ import annotations

import ctypes
import os
import struct
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

__all__ = ["OpenedFiles"]

_IN_OPEN = 0x00000020
_IN_ISDIR = 0x40000000
_IN_Q_OVERFLOW = 0x00004000
_IN_NONBLOCK = 0o4000
_EVENT = struct.Struct("iIII")


class OpenedFiles:
    """The files below a directory that anybody opens while a `with` block runs.

    Directories that appear later are not watched.

    Args:
        root: Where to watch, with all directories below it.

    Example:
        >>> import pathlib, tempfile
        >>> folder = pathlib.Path(tempfile.mkdtemp())
        >>> written = (folder / "a").write_text("x")
        >>> with OpenedFiles(folder) as opened:
        ...     content = (folder / "a").read_text()
        >>> [path.name for path in opened.paths()]
        ['a']
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._folders: dict[int, Path] = {}
        self._opened: set[Path] = set()
        self._handle = -1

    def __enter__(self) -> Self:
        self._handle = self._libc.inotify_init1(_IN_NONBLOCK)
        if self._handle < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1 failed")
        for folder in (self._root, *(p for p in self._root.rglob("*") if p.is_dir())):
            watch = self._libc.inotify_add_watch(self._handle, bytes(folder), _IN_OPEN)
            if watch < 0:
                raise OSError(ctypes.get_errno(), f"inotify_add_watch failed for {folder}")
            self._folders[watch] = folder
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.paths()
        os.close(self._handle)
        self._handle = -1

    def paths(self) -> list[Path]:
        """The files opened so far, each once, by name."""
        while self._handle >= 0 and (events := self._read()):
            offset = 0
            while offset < len(events):
                watch, mask, _, length = _EVENT.unpack_from(events, offset)
                name = events[offset + _EVENT.size : offset + _EVENT.size + length].rstrip(b"\0")
                offset += _EVENT.size + length
                if mask & _IN_Q_OVERFLOW:
                    raise OverflowError("more files were opened than the kernel keeps events for")
                if not mask & _IN_ISDIR:
                    self._opened.add(self._folders[watch] / os.fsdecode(name))
        return sorted(self._opened)

    def _read(self) -> bytes:
        try:
            return os.read(self._handle, 1 << 16)
        except BlockingIOError:
            return b""
