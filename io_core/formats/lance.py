"""Lance datasets: a directory each, read and written by pylance (the extra `lance`)."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.errors import SchemaValidationError, UnsupportedError
from io_core.formats.held import in_held_types, without_columns
from io_core.formats.parts import any_part
from io_core.formats.values import copied
from io_core.literal import kind_of
from io_core.s3 import lance_options, object_key
from io_core.storage import LOCAL, is_s3, local_path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from io_core.formats.content import FileRef
    from io_core.storage import Storage

__all__ = ["batches", "dataset", "hold", "schema_of", "size", "write"]


_FLAT_VALUES = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


# Any: pylance's module and datasets, here and below.
def _pylance() -> Any:
    try:
        import lance
    except ImportError as error:
        raise UnsupportedError(
            "Lance datasets need pylance: install deltacat-sources[lance]"
        ) from error
    return lance


def hold(dtype: pa.DataType) -> pa.DataType | None:
    """As which type Lance holds another; its fixed-size lists have flat items of one length."""
    t = pa.types
    if t.is_decimal(dtype) and dtype.bit_width < 128:
        return pa.decimal128(dtype.precision, dtype.scale)
    if t.is_interval(dtype) or t.is_union(dtype):
        return None
    if t.is_fixed_size_list(dtype) and _has_other_items(dtype.value_type):
        return None
    return None if t.is_struct(dtype) and not dtype.num_fields else dtype


def _has_other_items(dtype: pa.DataType) -> bool:
    """Whether pylance's fixed-size lists take no items of a type."""
    t = pa.types
    if t.is_fixed_size_list(dtype):
        return _has_other_items(dtype.value_type)
    return bool(t.is_nested(dtype) or t.is_null(dtype) or kind_of(dtype) in ("text", "binary"))


def _is_odd(dtype: pa.DataType) -> bool:
    t = pa.types
    if t.is_dictionary(dtype):
        return dtype.value_type not in _FLAT_VALUES
    views = t.is_string_view(dtype) or t.is_binary_view(dtype) or t.is_list_view(dtype)
    views = views or t.is_large_list_view(dtype) or t.is_run_end_encoded(dtype)
    return bool(views or hold(dtype) != dtype)


@contextmanager
def _panics_are_errors() -> Iterator[None]:
    try:
        yield
    except BaseException as error:
        # Rust's panics come as a class of their own, which cannot be imported.
        if type(error).__name__ != "PanicException":
            raise
        raise ValueError(f"pylance gave up: {error}") from error


def _where(path: str, storage: Storage) -> dict[str, Any]:
    """A dataset's place, as pylance wants it."""
    if not is_s3(path):
        return {"uri": local_path(path)}
    options = lance_options(storage.store_of(path))
    return {"uri": f"s3://{object_key(path)}", "storage_options": options}


def dataset(path: str, storage: Storage) -> Any:
    """Pylance's own dataset at a path, whose reads check what they decode.

    Raises:
        FileNotFoundError: There is none.
    """
    if not any(storage.files_below(path)):
        raise FileNotFoundError(path)
    pylance = _pylance()
    with _panics_are_errors():
        return pylance.dataset(**_where(path, storage), read_params={"validate_on_decode": True})


def batches(file: FileRef, columns: Sequence[str] | None, storage: Storage) -> Iterator[pa.Table]:
    """Read some columns piece by piece; see `io_core.formats.read_batches`."""
    if file.encoding != "identity":
        raise UnsupportedError(f"{file.path}: a Lance dataset has no encoding, {file.encoding!r}")
    opened = dataset(file.path, storage)
    with _panics_are_errors():
        names = opened.schema.names
        found = names if columns is None else [c for c in columns if c in names]
        if not found:
            yield without_columns(opened.count_rows())
            return
        asked = {name: f"`{name}`" for name in found}
        yield opened.schema.empty_table().select(found)
        for batch in opened.to_batches(columns=asked):
            batch.validate(full=True)
            yield pa.Table.from_batches([batch])


def write(table: pa.Table, path: str, *, storage: Storage = LOCAL) -> None:
    """Write one dataset; field ids stay in its fields' metadata.

    Raises:
        FileExistsError: The path is taken.
        SchemaValidationError: Lance has no place for a column's type or name.
    """
    pylance = _pylance()
    if bad := [name for name in table.schema.names if "." in name or "`" in name]:
        raise SchemaValidationError(f"column {bad[0]!r}: Lance takes no name with a dot or a `")
    held = in_held_types(table, hold, "lance", is_kept=lambda t: not any_part(t, _is_odd))
    if any(any_part(dtype, pa.types.is_decimal) for dtype in held.schema.types):
        # pylance gives up at decimals whose memory is not aligned, as that of IPC's often is.
        held = copied(held)
    if any(storage.files_below(path)):
        raise FileExistsError(path)
    if not is_s3(path):
        os.makedirs(os.path.dirname(local_path(path)) or ".", exist_ok=True)
    with _panics_are_errors():
        pylance.write_dataset(held, **_where(path, storage), mode="create")


def schema_of(path: str, storage: Storage) -> pa.Schema:
    """A dataset's own schema."""
    found = dataset(path, storage).schema
    assert isinstance(found, pa.Schema)
    return found


def size(path: str, storage: Storage) -> int:
    """Bytes of all the files of a dataset."""
    return sum(file.size for file in storage.files_below(path))
