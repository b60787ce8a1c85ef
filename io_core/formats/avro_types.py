"""Which Avro type is which Arrow type, in both directions, and how are its values written?

Every column may be null. Times are Avro's logical types: of milliseconds, microseconds and (since
1.12) nanoseconds, `local-` where there is no zone.
"""

from __future__ import annotations

import re
from decimal import Context, Decimal
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from io_core.errors import SchemaValidationError
from io_core.schema import field_id

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["arrow_schema", "avro_schema", "dump_raw", "hold", "load_raw", "without_logical_types"]

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_UNITS = {"millis": "ms", "micros": "us", "nanos": "ns"}
_PLURALS = {unit: name for name, unit in _UNITS.items()}
_PLAIN = {
    pa.null(): "null",
    pa.bool_(): "boolean",
    pa.int32(): "int",
    pa.int64(): "long",
    pa.float32(): "float",
    pa.float64(): "double",
    pa.string(): "string",
    pa.binary(): "bytes",
}
_FROM_PLAIN = {name: dtype for dtype, name in _PLAIN.items()}
_HELD = {
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.float16(): pa.float32(),
    pa.large_string(): pa.string(),
    pa.large_binary(): pa.binary(),
    pa.date64(): pa.date32(),
    pa.time32("s"): pa.time32("ms"),
    pa.timestamp("s"): pa.timestamp("ms"),
}
_DIGITS = Context(prec=80)


def hold(dtype: pa.DataType) -> pa.DataType | None:
    """As which type Avro holds another; it has no uint64, no durations, no times in nanoseconds."""
    t = pa.types
    if dtype in _HELD or dtype in _PLAIN:
        return _HELD.get(dtype, dtype)
    if t.is_timestamp(dtype):
        return pa.timestamp("ms" if dtype.unit == "s" else dtype.unit, "UTC")
    if t.is_decimal(dtype):
        wide = pa.decimal128 if dtype.precision <= 38 else pa.decimal256
        return wide(dtype.precision, dtype.scale)
    if t.is_fixed_size_list(dtype) or t.is_large_list(dtype):
        return pa.list_(dtype.value_field)
    if t.is_struct(dtype):
        # Without a field its rows would have no bytes.
        return dtype if dtype.num_fields else None
    if t.is_map(dtype):
        return dtype if t.is_string(dtype.key_type) else None
    whole = t.is_date32(dtype) or t.is_time32(dtype) or t.is_fixed_size_binary(dtype)
    timed = t.is_time64(dtype) and dtype.unit == "us"
    sized = not (t.is_fixed_size_binary(dtype) and dtype.byte_width == 0)
    return dtype if (whole and sized) or timed or t.is_list(dtype) else None


# Any: schemas as JSON has them, here and below.
def avro_schema(schema: pa.Schema) -> dict[str, Any]:
    """The Avro schema of rows whose columns are of types that Avro holds.

    Raises:
        SchemaValidationError: A name that Avro does not take.
    """
    return _record(list(schema), "row")


def _record(fields: Sequence[pa.Field], path: str) -> dict[str, Any]:
    found = []
    for field in fields:
        if not _NAME.fullmatch(field.name):
            raise SchemaValidationError(
                f"column {field.name!r}: names in Avro are of letters of ASCII, digits and _; "
                "write another format"
            )
        entry = {"name": field.name, "type": _nullable(field.type, f"{path}_{field.name}")}
        number = field_id(field)
        found.append(entry if number is None else {**entry, "field-id": number})
    return {"type": "record", "name": path, "fields": found}


def _nullable(dtype: pa.DataType, path: str) -> Any:
    return ["null", _avro_type(dtype, path)] if dtype != pa.null() else ["null"]


def _avro_type(dtype: pa.DataType, path: str) -> Any:
    t = pa.types
    if dtype in _PLAIN:
        return _PLAIN[dtype]
    if t.is_date32(dtype):
        return {"type": "int", "logicalType": "date"}
    if t.is_time(dtype):
        kind = "int" if dtype.unit == "ms" else "long"
        return {"type": kind, "logicalType": f"time-{_PLURALS[dtype.unit]}"}
    if t.is_timestamp(dtype):
        local = "local-" if dtype.tz is None else ""
        return {"type": "long", "logicalType": f"{local}timestamp-{_PLURALS[dtype.unit]}"}
    if t.is_decimal(dtype):
        size = {"precision": dtype.precision, "scale": dtype.scale}
        return {"type": "bytes", "logicalType": "decimal", **size}
    if t.is_fixed_size_binary(dtype):
        return {"type": "fixed", "name": path, "size": dtype.byte_width}
    if t.is_struct(dtype):
        return _record(list(dtype), path)
    if t.is_map(dtype):
        return {"type": "map", "values": _nullable(dtype.item_type, f"{path}_value")}
    return {"type": "array", "items": _nullable(dtype.value_type, f"{path}_item")}


def without_logical_types(node: Any) -> Any:
    """The schema of the bytes alone."""
    if isinstance(node, list):
        return [without_logical_types(part) for part in node]
    if not isinstance(node, dict):
        return node
    return {k: without_logical_types(v) for k, v in node.items() if k != "logicalType"}


def arrow_schema(schema: Any) -> pa.Schema:
    """The Arrow schema of a file's rows.

    Raises:
        ValueError: No schema of rows, or one with types that no column can have.
    """
    names: dict[str, pa.DataType] = {}
    if not isinstance(schema, dict) or schema.get("type") != "record":
        raise ValueError("its rows are no records")
    row = _arrow_type(schema, names)
    found = [f.with_nullable(True) for f in row]
    return pa.schema(found)


def _arrow_type(node: Any, names: dict[str, pa.DataType]) -> pa.DataType:
    if isinstance(node, str):
        found = _FROM_PLAIN.get(node) or names.get(node)
        if found is None:
            raise ValueError(
                f"its schema has an unknown type {node!r:.80}, or one inside of itself"
            )
        return found
    if isinstance(node, list):
        parts = [part for part in node if part != "null"]
        if len(parts) > 1:
            raise ValueError("a column is a union of several types")
        return _arrow_type(parts[0], names) if parts else pa.null()
    found = _complex(node, names)
    if "name" in node and node["type"] in ("record", "fixed", "enum"):
        names[node["name"]] = names[f"{node.get('namespace', '')}.{node['name']}"] = found
    return found


def _complex(node: dict[str, Any], names: dict[str, pa.DataType]) -> pa.DataType:
    match node["type"]:
        case "record" | "fixed" if _is_weightless(node):
            raise ValueError("its values have no bytes")
        case "record":
            return pa.struct([(f["name"], _arrow_type(f["type"], names)) for f in node["fields"]])
        case "array":
            if _is_weightless(node["items"]):
                raise ValueError("its lists have items without bytes")
            return pa.list_(_arrow_type(node["items"], names))
        case "map":
            return pa.map_(pa.string(), _arrow_type(node["values"], names))
        case "enum":
            return pa.string()
        case "fixed" if node.get("logicalType") != "decimal":
            return pa.binary(node["size"])
        case "fixed" | "bytes" | "int" | "long" if "logicalType" in node:
            return _logical(node) or _FROM_PLAIN[node["type"]]
        case other:
            return _arrow_type(other, names)


def _logical(node: dict[str, Any]) -> pa.DataType | None:
    kind = node["logicalType"]
    if kind == "decimal":
        wide = pa.decimal128 if node["precision"] <= 38 else pa.decimal256
        return wide(node["precision"], node.get("scale", 0))
    if kind == "date":
        return pa.date32()
    name, _, unit = kind.rpartition("-")
    match name:
        case "time" if unit in _UNITS:
            return pa.time32("ms") if unit == "millis" else pa.time64(_UNITS[unit])
        case "timestamp" if unit in _UNITS:
            return pa.timestamp(_UNITS[unit], "UTC")
        case "local-timestamp" if unit in _UNITS:
            return pa.timestamp(_UNITS[unit])
    return None


def _is_weightless(node: Any) -> bool:
    """Whether a value has no bytes, so that a file of a few bytes could hold any number of them."""
    if node == "null":
        return True
    if not isinstance(node, dict):
        return False
    if node["type"] == "record":
        return all(_is_weightless(f["type"]) for f in node["fields"])
    return node["size"] == 0 if node["type"] == "fixed" else _is_weightless(node["type"])


# Any: what fastavro takes and gives for schemas without logical types.
def dump_raw(array: pa.Array) -> list[Any]:
    """Values of a flat column as Avro's primitive types."""
    t, dtype = pa.types, array.type
    if t.is_date32(dtype) or t.is_time32(dtype):
        array = array.cast(pa.int32())
    elif t.is_timestamp(dtype) or t.is_time64(dtype):
        array = array.cast(pa.int64())
    elif t.is_decimal(dtype):
        return [None if v is None else _dump_decimal(v, dtype.scale) for v in array.to_pylist()]
    return list(array.to_pylist())


def _dump_decimal(value: Decimal, scale: int) -> bytes:
    whole = int(value.scaleb(scale, _DIGITS))
    return whole.to_bytes(whole.bit_length() // 8 + 1, "big", signed=True)


def load_raw(values: Sequence[Any], dtype: pa.DataType) -> pa.Array:
    """The reverse of `dump_raw`."""
    t = pa.types
    if t.is_date32(dtype) or t.is_time32(dtype):
        return pa.array(values, pa.int32()).cast(dtype)
    if t.is_timestamp(dtype) or t.is_time64(dtype):
        return pa.array(values, pa.int64()).cast(dtype)
    if t.is_decimal(dtype):
        found = [
            None if v is None else Decimal(int.from_bytes(v, "big", signed=True)) for v in values
        ]
        scaled = [None if v is None else v.scaleb(-dtype.scale, _DIGITS) for v in found]
        return pa.array(scaled, dtype)
    return pa.array(values, dtype)
