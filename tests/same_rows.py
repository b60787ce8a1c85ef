"""Are two tables the same, value by value, NaN and nanoseconds too?"""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from io_core.literal import kind_of

__all__ = ["assert_same", "order_of", "shown"]


# Any: a value's own form, here and below.
def order_of(value: pa.Scalar) -> Any:
    """What a value is compared as: times as their integers."""
    temporal = kind_of(value.type) in {"date", "time", "timestamp", "duration"}
    return value.value if temporal and value.is_valid else value.as_py()


def shown(value: pa.Scalar) -> Any:
    """A value as what can be compared: unlike Arrow's equality NaN, unlike Python nanoseconds."""
    t = pa.types
    if not value.is_valid:
        return None
    if isinstance(value, pa.ExtensionScalar | pa.DictionaryScalar):
        return shown(value.value)
    if isinstance(value, pa.StructScalar):
        return {f.name: shown(value[i]) for i, f in enumerate(value.type)}
    if t.is_nested(value.type):
        return [shown(item) for item in value.values]
    # Half floats are no number to compare by, and have NaN too.
    numeric = kind_of(value.type) == "number" or t.is_float16(value.type)
    return repr(value.as_py()) if numeric else order_of(value)


def assert_same(found: pa.Table, wanted: pa.Table) -> None:
    """Columns, types and values, in their order."""
    assert found.schema.names == wanted.schema.names
    assert found.schema.types == wanted.schema.types
    found.validate(full=True)
    for one, two in zip(found.columns, wanted.columns, strict=True):
        assert list(map(shown, one)) == list(map(shown, two))
