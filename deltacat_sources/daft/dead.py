"""Rows that a plan knows to be dead: how does Daft's own reader leave them out?

As Iceberg tells it: a Parquet file of positions for each data file, which the reader takes along. They
are written to a temporary folder of this machine, and are gone with the frames that read them. Where
the tasks run on other machines, that folder is not there: such files are read by tasks in Python,
to which dead rows travel with the plan.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tempfile
import threading
import uuid
import weakref

import pyarrow as pa
import pyarrow.parquet as pq
from daft.runners import get_or_infer_runner_type

from io_core import deletes
from io_core.errors import DataFileError

__all__ = ["PositionFiles", "is_reachable"]

# Iceberg's reserved numbers of these columns.
_SCHEMA = pa.schema(
    [
        pa.field("file_path", pa.string(), False, {"PARQUET:field_id": "2147483546"}),
        pa.field("pos", pa.int64(), False, {"PARQUET:field_id": "2147483545"}),
    ]
)


def is_reachable() -> bool:
    """Whether whoever runs Daft's tasks sees this machine's temporary files."""
    if get_or_infer_runner_type() != "ray":
        return True
    # Daft's Ray runner imported it; by itself this adapter needs no Ray.
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return False
    alive = [node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"]]
    return alive == [ray.util.get_node_ip_address()]


class PositionFiles:
    """Position-delete files in one temporary folder, which goes when this does. Threads share it."""

    def __init__(self) -> None:
        self._folder: str | None = None
        self._lock = threading.Lock()

    def of(self, location: str, held: bytes, *, records: int, plan: str) -> str:
        """The file that says which rows of a data file are dead; written once.

        Args:
            location: The data file, exactly as Daft's task names it.
            held: Its delete set.
            records: How many rows it has.
            plan: Names the plan in errors.

        Raises:
            DataFileError: The set is damaged, or of a file with another number of rows.
        """
        name = hashlib.blake2b(location.encode() + b"\0" + held, digest_size=16).hexdigest()
        path = f"{self._place()}/{name}.parquet"
        if os.path.exists(path):
            return path
        try:
            positions = deletes.decode(held, records)
        except DataFileError as error:
            problem = f"does not fit its delete set: {error}"
            raise DataFileError.of(location, problem, plan) from error
        paths = pa.DictionaryArray.from_arrays(
            pa.repeat(pa.scalar(0, pa.int8()), len(positions)), [location]
        )
        columns = [paths.cast(pa.string()), pa.array(positions).cast(pa.int64())]
        # Daft reads tasks of several queries at once: nobody is to see half a file.
        part = f"{path}.{uuid.uuid4().hex}"
        pq.write_table(
            pa.Table.from_arrays(columns, schema=_SCHEMA),
            part,
            compression="none",
            use_dictionary=["file_path"],
            store_schema=False,
        )
        os.replace(part, path)
        return path

    def _place(self) -> str:
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.mkdtemp(prefix="deltacat-positions-")
                # At the latest when the process ends.
                weakref.finalize(self, shutil.rmtree, self._folder, ignore_errors=True)
            return self._folder
