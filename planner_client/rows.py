"""Which rows does a value hold that somebody hands over to be written? As Arrow, batch by batch.

Nothing here imports an engine: a value's own class says which one it belongs to.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
import pyarrow as pa

from io_core.errors import SchemaValidationError
from planner_client.file_rows import rows_of_files
from planner_client.pandas_rows import table_of_pandas

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Rows", "engine_of", "rows_of"]

_ROWS_PER_BATCH = 1_000_000


class Rows(NamedTuple):
    """Rows on their way into a table; they can be taken once.

    Attributes:
        schema: What they look like.
        batches: The rows.
    """

    schema: pa.Schema
    batches: Iterable[pa.Table | pa.RecordBatch]


@runtime_checkable
class _ArrowStream(Protocol):
    """Whatever hands over a stream of record batches by Arrow's PyCapsule interface."""

    def __arrow_c_stream__(self, requested_schema: object = None) -> object: ...


@runtime_checkable
class _ArrowArray(Protocol):
    """Whatever hands over one record batch by Arrow's PyCapsule interface."""

    def __arrow_c_array__(self, requested_schema: object = None) -> object: ...


# Any, here and below: engines' objects have no types here.
_ENGINES = {
    "polars": ("DataFrame", "LazyFrame"),
    "daft": ("DataFrame",),
    "ray": ("data.Dataset",),
}


def engine_of(data: Any) -> str | None:
    """The engine of ours that a value is a frame of; None for other values."""
    return next((name for name, kinds in _ENGINES.items() if _is(data, name, *kinds)), None)


def _is(data: Any, package: str, *kinds: str) -> bool:
    """Whether a value is of a class of a package; one that is not imported has no values."""
    module = sys.modules.get(package)
    if module is None:
        return False
    for kind in kinds:
        found: Any = module
        for part in kind.split("."):
            # An engine that is imported in part has none of its frames yet.
            found = getattr(found, part, None)
        if found is not None and isinstance(data, found):
            return True
    return False


def rows_of(data: Any, schema: pa.Schema | None = None) -> Rows:
    """The rows that a value holds. Files are opened, streams and queries are not run yet.

    Args:
        data: An Arrow table, batch, reader or dataset; a frame of pandas, Polars, Daft or Ray; a NumPy
            array; whatever hands over Arrow data by the PyCapsule interface; a file or a list of them.
        schema: The columns to take, and their types. A NumPy array without names needs it.

    Raises:
        SchemaValidationError: The value holds no rows, or rows that do not fit the schema.
        DataFileError: A file is missing or damaged.
    """
    if isinstance(data, str | os.PathLike):
        return Rows(*rows_of_files([data], schema))
    if isinstance(data, list | tuple) and all(isinstance(d, str | os.PathLike) for d in data):
        return Rows(*rows_of_files(data, schema))
    if isinstance(data, np.ndarray):
        return _of_numpy(data, schema)
    found = _of_arrow(data)
    return found if schema is None else Rows(schema, _cast(found, schema))


def _of_arrow(data: Any) -> Rows:
    match data:
        case pa.Table() | pa.RecordBatch():
            return Rows(data.schema, [data])
        case pa.RecordBatchReader():
            return Rows(data.schema, data)
    if _is(data, "pandas", "DataFrame"):
        table = table_of_pandas(data)
        return Rows(table.schema, [table])
    if _is(data, "pyarrow.dataset", "Dataset"):
        return Rows(data.schema, data.to_batches())
    if _is(data, "pyarrow.dataset", "Scanner"):
        return Rows(data.projected_schema, data.to_batches())
    match engine_of(data):
        case "polars":
            return _of_polars(data)
        case "daft":
            return _of_daft(data)
        case "ray":
            return _of_ray(data)
    try:
        if isinstance(data, _ArrowStream):
            reader = pa.RecordBatchReader.from_stream(data)
            return Rows(reader.schema, reader)
        if isinstance(data, _ArrowArray):
            batch = pa.record_batch(data)
            return Rows(batch.schema, [batch])
    except (pa.ArrowException, TypeError, ValueError) as error:
        raise SchemaValidationError(
            f"{type(data).__name__} hands over no rows of columns: {error}"
        ) from error
    raise SchemaValidationError(
        f"{type(data).__name__} holds no rows that can be written: pass an Arrow table or reader, a "
        "frame of pandas, Polars, Daft or Ray, a NumPy array, what has __arrow_c_stream__, or files; "
        "a few rows in lists or dictionaries go by client.catalog.write_data()"
    )


def _of_polars(frame: Any) -> Rows:
    lazy = frame.lazy()
    schema = lazy.collect_schema().to_frame().to_arrow().schema
    batches = lazy.collect_batches(chunk_size=_ROWS_PER_BATCH, maintain_order=True)
    return Rows(schema, (batch.to_arrow() for batch in batches))


def _of_daft(frame: Any) -> Rows:
    from deltacat_sources.daft.batches import batches_of

    return Rows(frame.schema().to_pyarrow_schema(), batches_of(frame))


def _of_ray(dataset: Any) -> Rows:
    found = dataset.schema()
    schema = (
        pa.schema([]) if found is None else pa.schema(zip(found.names, found.types, strict=True))
    )
    return Rows(schema, dataset.iter_batches(batch_format="pyarrow", batch_size=None))


def _cast(rows: Rows, schema: pa.Schema) -> Iterator[pa.Table]:
    if lacking := [name for name in schema.names if name not in rows.schema.names]:
        raise SchemaValidationError(f"the rows lack {', '.join(lacking)}, which schema= names")
    for batch in rows.batches:
        table = pa.Table.from_batches([batch]) if isinstance(batch, pa.RecordBatch) else batch
        try:
            yield table.select(schema.names).cast(schema)
        except (pa.ArrowException, ValueError) as error:
            raise SchemaValidationError(f"the rows do not fit schema=: {error}") from error


def _of_numpy(array: np.ndarray[Any, Any], schema: pa.Schema | None) -> Rows:
    columns = _numpy_columns(array, schema)
    held = {}
    for name, values in columns.items():
        dtype = None if schema is None else schema.field(name).type
        try:
            held[name] = pa.array(
                np.ma.copy(values) if np.ma.isMaskedArray(values) else np.ascontiguousarray(values),
                dtype,
            )
        except (pa.ArrowException, TypeError, ValueError, OverflowError) as error:
            raise SchemaValidationError(f"column {name!r} of the array: {error}") from error
    table = pa.table(held, schema=schema)
    return Rows(table.schema, [table])


def _numpy_columns(
    array: np.ndarray[Any, Any], schema: pa.Schema | None
) -> dict[str, np.ndarray[Any, Any]]:
    """The array's columns by name."""
    if array.dtype.names is not None and array.ndim == 1:
        names = array.dtype.names if schema is None else schema.names
        if lacking := [name for name in names if name not in array.dtype.names]:
            raise SchemaValidationError(
                f"the array lacks {', '.join(lacking)}, which schema= names"
            )
        return {name: array[name] for name in names}
    if array.ndim not in (1, 2):
        raise SchemaValidationError(
            f"a NumPy array of {array.ndim} dimensions has no rows and columns: pass one of 1 or 2"
        )
    if schema is None:
        raise SchemaValidationError(
            f"a NumPy array of shape {array.shape} has no names of columns: pass schema=, a pyarrow "
            "schema with a field for each"
        )
    columns = [array] if array.ndim == 1 else [array[:, i] for i in range(array.shape[1])]
    if len(columns) != len(schema):
        raise SchemaValidationError(
            f"a NumPy array of shape {array.shape} has {len(columns)} columns, and schema= has "
            f"{len(schema)}: {', '.join(schema.names)}"
        )
    return dict(zip(schema.names, columns, strict=True))
