"""Which formats are there, what are they called, and how is one file of them named to a reader?"""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pyarrow as pa

from io_core.errors import UnsupportedError, nearest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from io_core.predicate import Predicate
    from io_core.prune import Mask

__all__ = [
    "CONTENT_TYPES",
    "ContentType",
    "FileRef",
    "Selection",
    "Skipped",
    "content_type_of",
    "file_name",
]


class ContentType(msgspec.Struct, frozen=True):
    """One format.

    Attributes:
        name: Its short name, as sessions and plans of this project have it.
        mime: Its other name, which plans may have too.
        extension: How its files' names end, with the dot and without an encoding's.
        written_encoding: How written files are encoded: text is always compressed.
        has_types: Whether files say what types their columns have. Only such formats go into
            tables with a schema.
    """

    name: str
    mime: str
    extension: str
    written_encoding: str = "identity"
    has_types: bool = True


CONTENT_TYPES = {
    kind.name: kind
    for kind in (
        ContentType("parquet", "application/parquet", ".parquet"),
        ContentType("feather", "application/feather", ".feather"),
        ContentType("orc", "application/orc", ".orc"),
        ContentType("avro", "application/avro", ".avro"),
        ContentType("lance", "application/vnd.lance", ".lance"),
        ContentType("json", "application/json", ".json", "gzip", has_types=False),
        ContentType("csv", "text/csv", ".csv", "gzip", has_types=False),
        ContentType("tsv", "text/tsv", ".tsv", "gzip", has_types=False),
        ContentType("psv", "text/psv", ".psv", "gzip", has_types=False),
        ContentType(
            "unescaped_tsv", "application/x-amzn-unescaped-tsv", ".tsv", "gzip", has_types=False
        ),
    )
}
_BY_NAME = {name: kind for kind in CONTENT_TYPES.values() for name in (kind.name, kind.mime)}
_ENDINGS = {"gzip": ".gz", "bzip2": ".bz2"}


class Selection(NamedTuple):
    """Which of a file's rows are of use; a format may leave others out, and need not.

    Attributes:
        schema: The table's columns that the predicate names, in the types that it was bound to.
        names: What the file calls them, as far as it may have them.
        predicate: Bound: what the rows are to match. Nothing merges with them any more.
        live: (rows,) bool: which of the rows that are read live; None means all.
    """

    schema: pa.Schema
    names: Mapping[str, str]
    predicate: Predicate | None = None
    live: Mask | None = None


class Skipped(NamedTuple):
    """In the place of a piece of a file: rows that were left out."""

    num_rows: int


class FileRef(msgspec.Struct, frozen=True):
    """One data file, as far as a reader has to know it.

    Attributes:
        path: Local path or URI.
        content_type: Short name or MIME type.
        content_encoding: `identity`, `gzip` or `bzip2`; None means what the path's end says.
        records: Rows that are promised; None where nobody says. Any other number is an error.
        plan: What to name in an error as the plan that lists the file.
        schema: The types that columns are to have, by name: text is read by them, and what a
            format can only hold as another type comes back as it was. None: as the file has them.
        rows: Which rows to read of a Parquet file, by their numbers; None means all.
        wanted: Which of them are of use; None means all.
    """

    path: str
    content_type: str = "parquet"
    content_encoding: str | None = None
    records: int | None = None
    plan: str = "no plan"
    schema: pa.Schema | None = None
    rows: range | None = None
    wanted: Selection | None = None

    @property
    def encoding(self) -> str:
        """How the stored bytes are encoded."""
        if self.content_encoding is not None:
            return self.content_encoding
        found = (name for name, end in _ENDINGS.items() if self.path.lower().endswith(end))
        return next(found, "identity")


def content_type_of(name: str) -> ContentType:
    """The format of a short name or MIME type.

    Raises:
        UnsupportedError: None that is read or written here.

    Example:
        >>> content_type_of("application/vnd.lance").extension
        '.lance'
    """
    known = _BY_NAME.get(name.lower())
    if known is None:
        raise UnsupportedError(
            f"files of type {name!r} are neither read nor written"
            f"{nearest(name, CONTENT_TYPES)}; known: {', '.join(CONTENT_TYPES)}"
        )
    return known


def file_name(content_type: str) -> str:
    """A new name for a file that is to be written, which no other file has.

    Example:
        >>> file_name("csv")[32:]
        '.csv.gz'
    """
    kind = content_type_of(content_type)
    return f"{uuid.uuid4().hex}{kind.extension}{_ENDINGS.get(kind.written_encoding, '')}"
