"""Does a published client read and write data on S3, with the keys that plans and sessions bring?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

if TYPE_CHECKING:
    from tests.compat.place import Place


def reads_what_it_writes(at: Place) -> None:
    at.write(pa.table({"id": [1, 2], "name": ["x", None]}), "t")
    at.write(pa.table({"id": [3], "name": ["z"]}), "t")
    assert at.rows("t") == [
        {"id": 1, "name": "x"},
        {"id": 2, "name": None},
        {"id": 3, "name": "z"},
    ]
    assert at.plan("t").scan_tasks[0].files[0].path.startswith("s3://")


def merges_by_key(at: Place) -> None:
    fields: list[dict[str, object]] = [
        {"name": "id", "type": "int64", "is_merge_key": True},
        {"name": "v", "type": "string"},
    ]
    at.create("t", fields)
    at.write(pa.table({"id": [1, 2], "v": ["a", "b"]}), "t", mode="merge")
    at.write(pa.table({"id": [2], "v": ["B"]}), "t", mode="merge")
    assert at.rows("t") == [{"id": 1, "v": "a"}, {"id": 2, "v": "B"}]
