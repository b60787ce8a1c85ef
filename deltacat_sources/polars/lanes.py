"""How does one file show the table's columns: by which reader, under which names, of which types?"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, NamedTuple

import polars as pl
import pyarrow as pa

from deltacat_sources.polars.types import is_native, polars_schema
from io_core.defaults import PAST_DEFAULT, load_default
from io_core.errors import DataFileError, UnsupportedError
from io_core.formats import schema_of_file
from io_core.formats.content import content_type_of
from io_core.schema import FROM_PARTITION, WIDENED, decode_schema, names_in_file

if TYPE_CHECKING:
    from io_core.plan import ReadPlan
    from io_core.storage import Storage

__all__ = ["ARROW", "Column", "Lane", "feather_fits", "lane_of"]


class Column(NamedTuple):
    """One of the table's columns in one kind of file.

    Attributes:
        name: As the table calls it.
        dtype: As the table shows it.
        stored: What the file calls it; None where the file lacks it.
        read_as: The type to read it as, which is cast afterwards.
        default: What stands for it where the file lacks it.
    """

    name: str
    dtype: pl.DataType
    stored: str | None
    read_as: pl.DataType
    default: pl.Series | None = None

    @property
    def is_plain(self) -> bool:
        """Whether it is read as the table shows it."""
        return self.stored == self.name and self.read_as == self.dtype

    def shown(self) -> pl.Expr:
        """The table's column, made of the file's."""
        if self.stored is None:
            missing = pl.lit(None) if self.default is None else pl.lit(self.default).first()
            return missing.cast(self.dtype).alias(self.name)
        found = pl.col(self.stored)
        return (found if self.read_as == self.dtype else found.cast(self.dtype)).alias(self.name)


class Lane(NamedTuple):
    """What files that are read together have in common.

    Attributes:
        reader: Polars' own of a format, or `arrow` for whatever that would not read exactly.
        columns: Those to read, as the files have them; none where Arrow reads.
    """

    reader: str
    columns: tuple[Column, ...] = ()

    @property
    def is_plain(self) -> bool:
        """Whether all columns are read as the table shows them."""
        return all(column.is_plain for column in self.columns)


ARROW = Lane("arrow")


def lane_of(
    plan: ReadPlan,
    wanted: pa.Schema,
    *,
    content_type: str,
    encoding: str | None,
    schema_id: int | None,
) -> Lane:
    """Which lane the files of one kind take: the fastest that shows exactly the table's columns.

    Args:
        plan: Whose files they are.
        wanted: Those of the plan's columns that are read.
        content_type: Of the files.
        encoding: Of the files.
        schema_id: Of the schema that they were written with; None where nobody knows.
    """
    try:
        kind = content_type_of(content_type).name
    except UnsupportedError as error:
        raise UnsupportedError(f"{plan!r}: {error}") from None
    if kind not in ("parquet", "feather") or encoding not in (None, "identity"):
        return ARROW
    header = plan.header
    is_current = schema_id is not None and schema_id == header.schema_id
    older = (header.schemas_serialized_by_id or {}).get(str(schema_id))
    writer = header.schema_serialized if is_current else older
    return _lane(kind, tuple(wanted.names), header.schema_serialized or "", writer)


# Every query of a table asks again.
@functools.lru_cache(maxsize=256)
def _lane(kind: str, names: tuple[str, ...], table: str, writer: str | None) -> Lane:
    """The lane of files that were written with a schema; both schemas are serialized."""
    schema = decode_schema(table)
    wanted = pa.schema([schema.field(name) for name in names])
    if not is_native(wanted):
        return ARROW
    found = _unknown(wanted) if writer is None else _known(wanted, decode_schema(writer))
    return ARROW if found is None else Lane(kind, found)


def feather_fits(lane: Lane, path: str, storage: Storage) -> bool:
    """Whether a Feather file has the lane's columns, in its types: Polars' reader takes no others."""
    try:
        found = schema_of_file(path, "feather", storage=storage)
    except DataFileError:
        return False
    if found is None:
        return False
    return all(
        c.stored is None
        or (c.stored in found.names and _plain_type(found.field(c.stored).type) == c.read_as)
        for c in lane.columns
    )


def _plain_type(dtype: pa.DataType) -> pl.DataType | None:
    if pa.types.is_dictionary(dtype) or not is_native(pa.schema([("x", dtype)])):
        return None
    try:
        return polars_schema(pa.schema([("x", dtype)]))["x"]
    except UnsupportedError:
        return None


def _known(wanted: pa.Schema, writer: pa.Schema) -> tuple[Column, ...] | None:
    names, types = names_in_file(wanted, writer), polars_schema(wanted)
    found = []
    for field in wanted:
        if FROM_PARTITION in (field.metadata or {}):
            return None
        dtype, stored = types[field.name], names.get(field.name)
        if stored is None:
            found.append(Column(field.name, dtype, None, dtype, _default(field)))
            continue
        old = writer.field(stored).type
        if _reads(old, field.type):
            found.append(Column(field.name, dtype, stored, dtype))
        elif pa.types.is_nested(field.type) or not is_native(pa.schema([(stored, old)])):
            return None
        else:
            read_as = polars_schema(pa.schema([(stored, old)]))[stored]
            found.append(Column(field.name, dtype, stored, read_as))
    return tuple(found)


def _unknown(wanted: pa.Schema) -> tuple[Column, ...] | None:
    """The columns as they are called now, unless older files may hold something else in them."""
    for field in wanted:
        held = field.metadata or {}
        if (
            FROM_PARTITION in held
            or PAST_DEFAULT in held
            or (WIDENED in held and not _reads(pa.int8(), field.type))
        ):
            return None
    return tuple(Column(name, dtype, name, dtype) for name, dtype in polars_schema(wanted).items())


def _default(field: pa.Field) -> pl.Series | None:
    found = load_default(field, PAST_DEFAULT)
    if found is None:
        return None
    series = pl.from_arrow(pa.repeat(found, 1))
    assert isinstance(series, pl.Series)
    return series


def _reads(old: pa.DataType, new: pa.DataType) -> bool:
    """Whether Polars' reader gives the new type's values for files of the old type, or raises."""
    t = pa.types
    if old == new or t.is_null(old):
        return True
    if t.is_struct(old) and t.is_struct(new):
        there = {field.name: field for field in new}
        return all(f.name in there and _reads(f.type, there[f.name].type) for f in old)
    if t.is_nested(old) or t.is_nested(new):
        return (
            old.num_fields == new.num_fields == 1
            and type(old) is type(new)
            and _reads(old.value_type, new.value_type)
        )
    if t.is_integer(old):
        return bool(t.is_integer(new) or t.is_floating(new))
    if t.is_floating(old):
        return bool(t.is_floating(new))
    if t.is_decimal(old):
        return bool(t.is_decimal(new) and old.scale == new.scale)
    if t.is_timestamp(old):
        return bool(t.is_timestamp(new))
    if t.is_time(old):
        return bool(t.is_time(new))
    return bool(old.id in _TEXTS and new.id in _TEXTS) or bool(
        old.id in _BYTES and new.id in _BYTES
    )


_TEXTS = {dtype.id for dtype in (pa.string(), pa.large_string(), pa.string_view())}
_BYTES = {dtype.id for dtype in (pa.binary(), pa.large_binary(), pa.binary_view())}
