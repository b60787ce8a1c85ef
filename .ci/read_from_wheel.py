"""Whether the installed wheel is whole: its packages, their type markers, and one table read."""

from __future__ import annotations

import sys
import tempfile
from importlib import metadata
from pathlib import Path

import polars as pl
import pyarrow as pa

import io_core
from deltacat_sources.polars import scan_deltacat
from planner_client import Client

PACKAGES = {"io_core", "planner_client", "deltacat_sources"}


def main() -> None:
    """Check what the wheel holds, then write a table and read it back."""
    files = [Path(str(f)) for f in metadata.files("deltacat-sources") or []]
    # The command stands outside, where commands do.
    tops = {f.parts[0] for f in files if not f.parts[0].endswith((".dist-info", ".."))}
    assert tops == PACKAGES, f"the wheel holds {sorted(tops)}, expected {sorted(PACKAGES)}"
    for package in PACKAGES:
        assert Path(package, "py.typed") in files, f"{package}/py.typed is not in the wheel"
    assert Path(str(io_core.__file__)).is_relative_to(sys.prefix), "imported from a checkout"

    with tempfile.TemporaryDirectory() as root:
        client = Client(root)
        client.catalog.create_namespace(namespace="ns")
        rows = pa.table({"id": [1, 2, 3], "name": ["a", "b", "c"]})
        client.catalog.create_table(
            namespace="ns", table="t", schema=rows.schema, merge_keys=["id"]
        )
        client.catalog.write(rows, namespace="ns", table="t")
        frame = scan_deltacat("ns.t", planner=client).filter(pl.col("id") > 1).sort("id").collect()
    assert frame.rows() == [(2, "b"), (3, "c")], f"read {frame.rows()}"
    print(f"==> wheel: {len(files)} files, a table read back in Polars {pl.__version__}")


if __name__ == "__main__":
    main()
