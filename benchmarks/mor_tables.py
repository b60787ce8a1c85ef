"""Which table does the merge benchmark read? Files of 20 columns, upserted and deleted from, keyed in three ways.

4,000,000 rows in 16 files and 4 partitions, then per partition four upserts and, between them, a
delete: 10 % of the rows get a newer version, 1 % are deleted (some of them come back), and 1 % are
new. Keys of a commit are distinct. Where upserts are `random`, files hold their keys in any order
and any key may change; where they are `clustered`, the files are sorted, and the 15 % of the largest
keys change. The same files make a table of each kind of key.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from benchmarks.harness import progress
from benchmarks.mor_read import TINY, table_of
from io_core.formats import parquet

if TYPE_CHECKING:
    from collections.abc import Iterator

    from planner_client import Client

__all__ = ["KEYS", "LAYOUTS", "SCHEMA", "Answer", "Size", "make_tables", "make_tiny"]

KEYS = {"int": ("id",), "text": ("name",), "int + text": ("id", "name")}
LAYOUTS = ("random", "clustered")
_PARTITIONS = 4
_BASE_FILES = 4
_STEPS = ("upsert", "upsert", "delete", "upsert", "upsert")
_NUMBERS = [(f"n{i}", pa.int64()) for i in range(6)] + [(f"f{i}", pa.float64()) for i in range(6)]
_TEXTS = [(f"s{i}", pa.string()) for i in range(4)]
SCHEMA = pa.schema(
    [
        ("id", pa.int64()),
        ("name", pa.string()),
        ("part", pa.int32()),
        ("value", pa.float64()),
        *_NUMBERS,
        *_TEXTS,
    ]
)

_Ids = npt.NDArray[np.int64]


class Size(NamedTuple):
    """How much is measured."""

    rows: int
    rounds: int


class Answer(NamedTuple):
    """What every side has to find: the rows that live, and the sum of their `value`."""

    rows: int
    total: float


class _Commit(NamedTuple):
    """One write: its files, by partition."""

    mode: Literal["merge", "delete"]
    files: list[tuple[int, str, int]]


def make_tables(client: Client, folder: str, layout: str, size: Size) -> Answer:
    """Write the files of one layout and make a table of them by each kind of key.

    Args:
        client: Of an embedded planner.
        folder: For the files.
        layout: One of `LAYOUTS`.
        size: How many rows.

    Returns:
        What a read of any of the tables gives.
    """
    os.makedirs(folder)
    seed = np.random.default_rng(17)
    last = np.zeros(size.rows + size.rows // 100, np.int64)
    last[size.rows :] = -1
    commits = []
    for number, (mode, ids) in enumerate(_writes(seed, layout, size)):
        progress(f"{layout}: writing {mode} {number}, {len(ids):,} rows")
        last[ids] = -1 if mode == "delete" else number
        commits.append(_Commit(mode, list(_files(seed, f"{folder}/{number}", ids, number, mode))))
    for kind, keys in KEYS.items():
        progress(f"{layout}: committing the table keyed by {kind}")
        _commit(client, table_of(layout, kind), keys, commits)
    lives = np.flatnonzero(last >= 0)
    return Answer(len(lives), float((lives * 0.5 + last[lives]).sum()))


def make_tiny(client: Client) -> None:
    """Make a table of a few rows, two of which merge."""
    # Any: keyword arguments of any call.
    where: dict[str, Any] = {"namespace": "bench", "table": TINY}
    rows = pa.table({"id": [1, 2], "value": [0.5, 1.0]})
    client.catalog.create_table(
        **where, schema=rows.schema, merge_keys=("id",), auto_create_namespace=True
    )
    for part in (rows, rows.slice(1)):
        client.catalog.write(part, **where, mode="merge")


def _writes(
    seed: np.random.Generator, layout: str, size: Size
) -> Iterator[tuple[Literal["merge", "delete"], _Ids]]:
    """What each commit writes: mode and keys."""
    base = np.arange(size.rows)
    yield "merge", base if layout == "clustered" else seed.permutation(base)
    pool = base if layout == "random" else base[-size.rows * 15 // 100 :]
    upserts = _STEPS.count("upsert")
    fresh = np.split(np.arange(size.rows, size.rows + size.rows // 100), upserts)
    for step in _STEPS:
        if step == "delete":
            yield "delete", seed.choice(pool, size.rows // 100, replace=False)
        else:
            drawn = seed.choice(pool, size.rows // 10 // upserts, replace=False)
            ids = seed.permutation(np.concatenate([drawn, fresh.pop()]))
            yield "merge", ids if layout == "random" else np.sort(ids)


def _files(
    seed: np.random.Generator, prefix: str, ids: _Ids, number: int, mode: str
) -> Iterator[tuple[int, str, int]]:
    for part in range(_PARTITIONS):
        mine = ids[ids % _PARTITIONS == part]
        count = _BASE_FILES if number == 0 else 1
        for i, piece in enumerate(np.array_split(mine, count)):
            rows = _rows(seed, piece, number)
            if mode == "delete":
                rows = rows.select(["id", "name", "part"])
            path = f"{prefix}-{part}-{i}.parquet"
            parquet.write(rows, path)
            yield part, path, len(rows)


def _rows(seed: np.random.Generator, ids: _Ids, number: int) -> pa.Table:
    names = pa.array([f"key-{i:012x}" for i in ids.tolist()])
    columns: dict[str, Any] = {"id": ids, "name": names}
    columns["part"] = (ids % _PARTITIONS).astype(np.int32)
    columns["value"] = ids * 0.5 + number
    for i, (name, dtype) in enumerate(_NUMBERS):
        whole = seed.integers(0, 10 ** (i % 6 + 2), len(ids))
        columns[name] = whole if pa.types.is_integer(dtype) else whole / 7
    for i, (name, _) in enumerate(_TEXTS):
        words = pa.array([f"{name}-{n:x}" for n in range(10 ** (i + 1))])
        columns[name] = words.take(pa.array(seed.integers(0, len(words), len(ids))))
    return pa.table(columns, schema=SCHEMA)


def _commit(client: Client, table: str, keys: tuple[str, ...], commits: list[_Commit]) -> None:
    # Any: keyword arguments of any call.
    where: dict[str, Any] = {"namespace": "bench", "table": table}
    client.catalog.create_table(
        **where,
        schema=SCHEMA,
        merge_keys=keys,
        partition_scheme={"keys": [{"key": ["part"], "transform": "identity"}]},
        auto_create_namespace=True,
    )
    for commit in commits:
        session = client.catalog.stage(**where, mode=commit.mode, allow_external_entries=True)
        entries = [
            parquet.entry_of(path, SCHEMA, partition_values=[part])
            for part, path, _ in commit.files
        ]
        client.catalog.commit(session=session, entries=entries)
