"""What does each engine make of a column of each type, and does docs/types.md say so?"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from io_core.errors import SchemaValidationError, UnsupportedError
from tests.strategies import Query

if TYPE_CHECKING:
    from planner_client import Client
    from tests.conformance.engines import Engine

PAGE = Path(__file__).resolve().parents[2] / "docs" / "types.md"
ROW = re.compile(r"^\| `(?P<type>[^`]+)` \| (?P<cells>.*) \|$", re.MULTILINE)
ENGINES = ("arrow", "polars", "daft", "ray")

TENSOR = pa.fixed_shape_tensor(pa.float32(), (2, 3))
_PIXEL = b"\x89PNG\r\n\x1a\n\x00\xff"
_POINT = pa.struct([("x", pa.int8()), ("label", pa.string())])
_COLOURS = pa.dictionary(pa.int32(), pa.string())
# Any: Python values. A null in every column; where nothing else is said, of the type itself.
VALUES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.null(), [None, None]),
    (pa.bool_(), [True, None]),
    (pa.int8(), [-128, None]),
    (pa.int16(), [-(2**15), None]),
    (pa.int32(), [-(2**31), None]),
    (pa.int64(), [-(2**63), None]),
    (pa.uint8(), [255, None]),
    (pa.uint16(), [2**16 - 1, None]),
    (pa.uint32(), [2**32 - 1, None]),
    (pa.uint64(), [2**64 - 1, None]),
    (pa.float16(), [1.5, None]),
    (pa.float32(), [1.5, None]),
    (pa.float64(), [0.1, None]),
    (pa.decimal32(4, 1), [Decimal("1.5"), None]),
    (pa.decimal64(12, 1), [Decimal("1.5"), None]),
    (pa.decimal128(38, 2), [Decimal("1.25"), None]),
    (pa.decimal256(50, 2), [Decimal("1.25"), None]),
    (pa.string(), ["é", None]),
    (pa.large_string(), ["é", None]),
    (pa.string_view(), ["é", None]),
    (pa.binary(), [_PIXEL, None]),
    (pa.large_binary(), [_PIXEL, None]),
    (pa.binary_view(), [_PIXEL, None]),
    (pa.binary(3), [b"\x00\xffa", None]),
    (pa.date32(), [dt.date(1969, 12, 31), None]),
    (pa.date64(), [dt.date(1969, 12, 31), None]),
    (pa.time32("s"), [dt.time(1, 2, 3), None]),
    (pa.time32("ms"), [dt.time(1, 2, 3, 4000), None]),
    (pa.time64("us"), [dt.time(1, 2, 3, 4), None]),
    (pa.time64("ns"), [dt.time(1, 2, 3, 4), None]),
    *((pa.timestamp(unit), [dt.datetime(1969, 12, 31, 1), None]) for unit in ("s", "ms", "us")),
    (pa.timestamp("ns"), [dt.datetime(1969, 12, 31, 1), None]),
    (pa.timestamp("us", "UTC"), [dt.datetime(1969, 12, 31, 1, tzinfo=dt.UTC), None]),
    *((pa.duration(unit), [dt.timedelta(seconds=-1), None]) for unit in ("s", "ms", "us", "ns")),
    (_COLOURS, ["red", None]),
    (pa.list_(pa.int32()), [[1, None], None]),
    (pa.large_list(pa.int32()), [[1, None], None]),
    (pa.list_view(pa.int32()), [[1, None], None]),
    (pa.list_(pa.float32(), 3), [[0.5, None, 2.0], None]),
    (pa.list_(pa.list_(pa.string())), [[["a"], [], None], None]),
    (pa.list_(_COLOURS), [["red", None], None]),
    (_POINT, [{"x": 1, "label": None}, None]),
    (pa.list_(_POINT), [[{"x": 1, "label": "a"}, None], None]),
    (pa.struct([("at", _POINT)]), [{"at": {"x": 1, "label": "a"}}, None]),
    (pa.map_(pa.string(), pa.int32()), [[("a", 1), ("b", None)], None]),
    (pa.map_(pa.string(), _POINT), [[("a", {"x": 1, "label": "a"})], None]),
    (TENSOR, [[0.0, 1.0, 2.0, 3.0, 4.0, 5.0], None]),
    (pa.uuid(), [b"0123456789abcdef", None]),
    (pa.json_(), ['{"a": 1}', None]),
]


def documented() -> dict[str, list[str]]:
    """The rows of the page: a cell per engine."""
    rows = ROW.finditer(PAGE.read_text(encoding="utf-8"))
    return {row["type"]: row["cells"].split(" | ") for row in rows}


def plain(value: Any) -> Any:
    """A value as plain Python has it, whatever stands for it in an engine."""
    if isinstance(value, uuid.UUID):
        return value.bytes
    if isinstance(value, list) and value and all(isinstance(v, list) for v in value):
        return [plain(v) for v in value]
    return value


def flat(value: Any) -> Any:
    """The values of nested lists in one list."""
    if not isinstance(value, list):
        return [value]
    return [found for inner in value for found in flat(inner)]


@pytest.mark.parametrize(("dtype", "values"), VALUES, ids=[str(t) for t, _ in VALUES])
def test_an_engine_reads_each_type_as_the_page_says(
    engine: Engine, embedded: Client, fresh: Any, dtype: pa.DataType, values: list[Any]
) -> None:
    namespace, table = fresh().split(".")
    storage = dtype.storage_type if isinstance(dtype, pa.BaseExtensionType) else dtype
    column = pa.array(values, storage)
    rows = pa.table(
        {"v": pa.ExtensionArray.from_storage(dtype, column) if storage != dtype else column}
    )
    embedded.catalog.write(rows, namespace=namespace, table=table)
    said = documented()[str(dtype)][ENGINES.index(engine.words or "arrow")]
    if said == "refused":
        with pytest.raises(UnsupportedError, match="column 'v' is of type"):
            engine.read(embedded, f"{namespace}.{table}", Query())
        return
    found = engine.read(embedded, f"{namespace}.{table}", Query()).column("v")
    assert said == ("the same" if found.type == dtype else f"`{found.type}`")
    if isinstance(dtype, pa.FixedShapeTensorType):
        assert [flat(v) for v in found.to_pylist()] == [flat(v) for v in values]
        return
    if dtype == pa.date64():
        found = found.cast(pa.date32())
    assert [plain(v) for v in found.to_pylist()] == values


def test_the_page_lists_these_types_and_no_other() -> None:
    assert list(documented()) == [str(dtype) for dtype, _ in VALUES]


@pytest.mark.parametrize(
    "values",
    [
        pa.RunEndEncodedArray.from_arrays(pa.array([2], pa.int32()), pa.array([1])),
        pa.UnionArray.from_dense(
            pa.array([0], pa.int8()), pa.array([0], pa.int32()), [pa.array([1])]
        ),
        pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
    ],
    ids=["run ends", "union", "interval"],
)
def test_a_type_that_no_table_holds_is_refused_by_name(
    embedded: Client, fresh: Any, values: pa.Array
) -> None:
    namespace, table = fresh().split(".")
    with pytest.raises(SchemaValidationError, match="column 'v'"):
        embedded.catalog.write(pa.table({"v": values}), namespace=namespace, table=table)
