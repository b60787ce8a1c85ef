"""What schema a data file has by itself, in the formats whose files say so."""

from __future__ import annotations

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import orc

from io_core.errors import DataFileError
from io_core.storage import local_path

__all__ = ["schema_of_file"]


def schema_of_file(path: str, content_type: str) -> pa.Schema | None:
    """Read a file's schema from its footer; None where files of the format have none.

    Raises:
        DataFileError: Missing or damaged.
    """
    local = local_path(path)
    try:
        match content_type:
            case "parquet":
                return pq.read_schema(local)
            case "feather":
                with pa.memory_map(local) as source:
                    return pa.ipc.open_file(source).schema
            case "orc":
                return orc.ORCFile(local).schema
    except (pa.ArrowException, OSError) as error:
        raise DataFileError(f"data file {path} is damaged: {error}") from None
    return None
