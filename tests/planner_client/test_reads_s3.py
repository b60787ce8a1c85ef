"""Are plans, manifests and single files on S3 read with keys that nothing holds?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from io_core import formats
from io_core.plan import ReadPlan
from planner_client import Client
from tests.object_store.store import KEYS

if TYPE_CHECKING:
    from pathlib import Path

    from tests.object_store.store import ObjectStore

# Any: keyword arguments of several calls.
WHERE: dict[str, Any] = {"namespace": "ns", "table": "t"}


@pytest.fixture
def client(tmp_path: Path, object_store: ObjectStore) -> Client:
    root = f"{object_store.bucket()}/lake"
    return Client(tmp_path / "catalog", data_root=root, s3=object_store.settings)


def test_a_saved_plan_holds_no_keys_and_gets_them_where_it_is_loaded(
    client: Client, tmp_path: Path
) -> None:
    client.catalog.write(pa.table({"x": [1, 2]}), **WHERE)
    path = tmp_path / "saved.plan"
    client.catalog.plan(**WHERE).save(path)
    held = path.read_bytes()
    assert not [key for key in KEYS.values() if key.encode() in held]
    elsewhere = Client(client.target)
    loaded = elsewhere.catalog.load_plan(path)
    assert elsewhere.catalog.read(plan=loaded)["x"].to_pylist() == [1, 2]
    assert elsewhere.catalog.read(plan=loaded, read_as="polars").collect()["x"].to_list() == [1, 2]
    # One that was loaded by itself is opened by the client that reads it.
    assert client.catalog.read(plan=ReadPlan.load(path))["x"].to_pylist() == [1, 2]


def test_one_file_is_opened_lazily(client: Client) -> None:
    client.catalog.write(pa.table({"x": [1, 2]}), **WHERE)
    found = client.catalog.read(**WHERE, read_as="pyarrow_parquet")
    assert found.read()["x"].to_pylist() == [1, 2]


def test_rows_of_a_manifest_are_reached_after_it_was_filtered(client: Client) -> None:
    client.catalog.create_table(**WHERE, auto_create_namespace=True)
    session = client.catalog.stage(**WHERE, mode="add", format="parquet")
    rows = pa.table({"x": [1, 2]})
    path = f"{session.data_dir}/a.parquet"
    entry = formats.write(rows, path, "parquet", storage=session.storage)
    client.catalog.commit(session=session, entries=[entry])
    listed = client.catalog.read(**WHERE).slice(0, 1).select(["path", "meta_content_type"])
    assert listed["path"].to_pylist() == [path]
    assert client.catalog.from_manifest_table(listed)["x"].to_pylist() == [1, 2]
