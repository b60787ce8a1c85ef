"""How is a table laid out that a sink makes, and is the one that is there laid out as asked?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from io_core.errors import SchemaValidationError
from io_core.schema import assign_field_ids, check_columns, encode_schema

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from io_core.model import WriteSession

__all__ = ["check_layout", "creation_of"]


def _names(columns: str | Sequence[str] | None) -> list[str]:
    return [columns] if isinstance(columns, str) else list(columns or ())


def creation_of(
    schema: pa.Schema,
    partition_by: str | Sequence[str] | None,
    merge_keys: str | Sequence[str] | None,
) -> dict[str, Any]:
    """What to make a table with, in the protocol's words.

    Raises:
        SchemaValidationError: A column that a table cannot hold, or an unknown one.
    """
    # Any: the protocol's free-form properties.
    arrow = assign_field_ids(schema, _names(merge_keys))
    check_columns(_names(partition_by), arrow)
    properties: dict[str, Any] = {"schema_def": encode_schema(arrow), "auto_create_namespace": True}
    if partition_by:
        keys = [{"key": [name], "transform": "identity"} for name in _names(partition_by)]
        properties["partition_scheme"] = {"keys": keys}
    return properties


def check_layout(
    session: WriteSession,
    partition_by: str | Sequence[str] | None,
    merge_keys: str | Sequence[str] | None,
) -> None:
    """Refuse a layout that is asked for and that a table which is there does not have.

    Raises:
        SchemaValidationError: Other merge keys or partitions.
    """
    name = f"{session.namespace}.{session.table}"
    if merge_keys is not None and set(_names(merge_keys)) != set(session.merge_keys or ()):
        raise SchemaValidationError(
            f"{name} has the merge keys {session.merge_keys or []}, not {_names(merge_keys)}: "
            "leave merge_keys out"
        )
    keys = session.partition_scheme.keys if session.partition_scheme else ()
    there = [(key.key[0], key.transform or "identity") for key in keys]
    if partition_by is not None and there != [(n, "identity") for n in _names(partition_by)]:
        raise SchemaValidationError(
            f"{name} is partitioned by {there}, not by {_names(partition_by)}: leave partition_by out"
        )
