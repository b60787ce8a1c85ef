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


def goes_on_with_the_keys_that_a_transactions_heartbeat_brings(at: Place) -> None:
    at.write(pa.table({"id": [1]}), "t")
    with at.client.transaction() as tx:
        plan = at.plan("t")
        session = at.catalog.stage(namespace=at.namespace, table="t", mode="add", format="parquet")
        before = plan.credentials, session.credentials
        tx.heartbeat()
        # Handed out anew, under the same names.
        assert plan.credentials.keys() == before[0].keys()
        assert session.credentials.keys() == before[1].keys()
        assert plan.credentials is not before[0]
        assert session.credentials is not before[1]
        at.write(pa.table({"id": [2]}), "t", mode="add")
        assert at.rows("t") == [{"id": 1}, {"id": 2}]
    assert at.rows("t") == [{"id": 1}, {"id": 2}]
