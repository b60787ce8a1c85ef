"""What does it cost to know which rows a commit kills, in a partition of 4,000,000 rows?

A commit of 40,000 keys (one in ten new) meets 16 files: keys of one integer, of one text of 16
bytes, and of both. Every side finds the same rows of the same files:

* index: ours, from the codes of the commit's key file; where codes are not exact, every hit is
  confirmed with the keys of both rows, from the key files. `codes alone` leaves that out;
* index, no key files: the same, as files of other clients have none: keys come from data files;
* polars: a semi-join over the key columns of all files, read each time, rows numbered;
* pyarrow: the same with `is_in`, for keys of one column.

A planner is asked too: what one such commit takes in it, from the call to the answer, the commit
itself and two syncs included; and what a new planner takes that has to make the index first.

All files are in the page cache.
"""

from __future__ import annotations

import functools
import os
import tempfile
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import harness
from benchmarks.harness import progress
from benchmarks.report import Figure, Report, Row, Target, Timing
from io_core.deletes import encode
from io_core.key_codes import KeyCodes, fingerprint
from io_core.key_files import KeyedFile, codes_of, key_path, keys_at, write_keys
from io_core.key_index import KeyIndex, Kills, NewFile, index_of, kills, tidy
from io_core.model import TableRef
from io_core.sink import Sink
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from io_core.deletes import Positions

__all__ = ["run"]

FILES = 16
EARLIER = 16
INDEX, BARE, POLARS, PYARROW = "index", "index, no key files", "polars", "pyarrow"
OURS = (INDEX, BARE)
SIDES = [INDEX, BARE, POLARS, PYARROW]
KEYS = {"int": ("id",), "text": ("name",), "int + text": ("id", "name")}
BAR_MS = 50
SCHEMA = pa.schema([("id", pa.int64()), ("name", pa.string()), ("value", pa.float64())])

Dead = dict[int, list[int]]


class _Size(NamedTuple):
    """How much is measured."""

    rows: int
    keys: int
    rounds: int


class _Case(NamedTuple):
    """A partition keyed in one way: its files, the last of them the commit's, and its index."""

    kind: str
    files: list[KeyedFile]
    bare: list[KeyedFile]
    keys: KeyIndex


def _rows(ids: np.ndarray[tuple[int], np.dtype[np.int64]]) -> pa.Table:
    names = pa.array([f"key-{i:012x}" for i in ids.tolist()])
    return pa.Table.from_arrays([ids, names, ids * 0.5], schema=SCHEMA)


def _write(folder: str, size: _Size) -> list[str]:
    """The data files, and after them the commit's."""
    seed = np.random.default_rng(7)
    ids = seed.permutation(size.rows)
    old = seed.choice(ids, size.keys * 9 // 10, replace=False)
    new = np.arange(size.rows, size.rows + size.keys - len(old))
    paths: list[str] = []
    for part in (*np.split(ids, FILES), seed.permutation(np.concatenate([old, new]))):
        paths.append(f"{folder}/{len(paths):02d}.parquet")
        pq.write_table(_rows(part), paths[-1], compression="zstd", row_group_size=122_880)
    return paths


def _case(kind: str, paths: list[str], folder: str) -> _Case:
    """Link the files to another folder, where keys stand beside them, and index the old ones."""
    os.makedirs(folder)
    files, bare = [], []
    for path in paths:
        records = pq.read_metadata(path).num_rows
        bare.append(KeyedFile(path, records, SCHEMA, KEYS[kind]))
        files.append(KeyedFile(f"{folder}/{os.path.basename(path)}", records, SCHEMA, KEYS[kind]))
        os.link(path, files[-1].path)
        write_keys(files[-1], pq.read_table(path))
    return _Case(kind, files, bare, _built(files).after)


def _fetch(files: list[KeyedFile], ordinal: int, rows: Positions) -> pa.Table:
    return keys_at(files[ordinal], rows)


def _built(files: list[KeyedFile]) -> Kills:
    name = fingerprint(SCHEMA, files[0].merge_keys)
    return kills(KeyIndex(name), 1, name, _new_files(files), functools.partial(_fetch, files))


def _new_files(files: list[KeyedFile]) -> list[NewFile]:
    return [NewFile(i, codes_of(file)) for i, file in enumerate(files[:FILES])]


# --- sides ------------------------------------------------------------------------------------------


def _by_index(index: KeyIndex, files: list[KeyedFile]) -> Kills:
    commit = [NewFile(FILES, codes_of(files[FILES]))]
    return kills(index, index.position + 1, index.keys, commit, functools.partial(_fetch, files))


def _by_codes_alone(index: KeyIndex, files: list[KeyedFile]) -> Kills:
    commit = [NewFile(FILES, KeyCodes(codes_of(files[FILES]).codes, exact=True))]
    believed = index._replace(runs=tuple(run._replace(exact=True) for run in index.runs))
    fetch = functools.partial(_fetch, files)
    return kills(believed, index.position + 1, index.keys, commit, fetch)


def _by_polars(files: list[KeyedFile]) -> pl.DataFrame:
    keys = list(files[0].merge_keys)
    old = [file.path for file in files[:FILES]]
    lazy = pl.scan_parquet(old, row_index_name="row", include_file_paths="path")
    wanted = pl.scan_parquet(files[FILES].path).select(keys)
    found = lazy.select("path", "row", *keys).join(wanted, on=keys, how="semi", nulls_equal=True)
    return found.select("path", "row").collect(engine="streaming")


def _by_pyarrow(files: list[KeyedFile]) -> Dead:
    key = files[0].merge_keys[0]
    wanted = pq.read_table(files[FILES].path, columns=[key]).column(0)
    found = {}
    for ordinal, file in enumerate(files[:FILES]):
        hits = pc.is_in(pq.read_table(file.path, columns=[key]).column(0), value_set=wanted)
        found[ordinal] = pc.indices_nonzero(hits).to_pylist()
    return found


def _plain(found: Kills | pl.DataFrame | Dead, files: list[KeyedFile]) -> Dead:
    """Any side's answer as positions per file."""
    if isinstance(found, Kills):
        return {ordinal: rows.tolist() for ordinal, rows in sorted(found.positions.items())}
    if isinstance(found, dict):
        return found
    starts = np.cumsum([0, *(file.records or 0 for file in files)]).tolist()
    ordinals = {file.path: i for i, file in enumerate(files)}
    dead: Dead = {}
    for path, row in found.sort("row").rows():
        dead.setdefault(ordinals[path], []).append(row - starts[ordinals[path]])
    return dict(sorted(dead.items()))


def _calls(case: _Case) -> dict[str, Callable[[], Kills | pl.DataFrame | Dead]]:
    calls: dict[str, Callable[[], Kills | pl.DataFrame | Dead]] = {
        INDEX: functools.partial(_by_index, case.keys, case.files),
        BARE: functools.partial(_by_index, case.keys, case.bare),
        POLARS: functools.partial(_by_polars, case.bare),
    }
    if len(KEYS[case.kind]) == 1:
        calls[PYARROW] = functools.partial(_by_pyarrow, case.bare)
    return calls


# --- measuring --------------------------------------------------------------------------------------


def _timed(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, Timing]:
    samplers = {name: functools.partial(harness.measure, call) for name, call in calls.items()}
    return harness.interleave(samplers, rounds, slow_ms=5_000)


def _case_rows(case: _Case, size: _Size) -> Iterator[Row]:
    calls = _calls(case)
    answers = {name: _plain(call(), case.bare) for name, call in calls.items()}
    for name, found in answers.items():
        assert found == answers[INDEX], f"{name}, {case.kind}: other rows than the index"
    dead = sum(map(len, answers[INDEX].values()))
    metric = f"{size.keys:,} keys, {case.kind}"
    progress(f"{metric}: all sides find the same {dead:,} rows")
    timings = _timed(dict(calls), size.rounds)
    yield Row.compare(metric, "1 run", timings, OURS, f"equal, {dead} rows")
    alone = functools.partial(_by_codes_alone, case.keys, case.files)
    yield Row.compare(metric, "codes alone", _timed({INDEX: alone}, size.rounds), OURS)
    grown = functools.partial(_by_index, _grown(case, size.keys), case.files)
    yield Row.compare(metric, f"{EARLIER + 1} runs", _timed({INDEX: grown}, size.rounds), OURS)
    build: dict[str, Callable[[], object]] = {
        INDEX: functools.partial(_built, case.files),
        BARE: functools.partial(_built, case.bare),
    }
    rounds = max(size.rounds // 3, 1)
    yield Row.compare(f"index of all rows, {case.kind}", "build", _timed(build, rounds), OURS)
    after = _by_index(case.keys, case.files)
    upkeep: dict[str, Callable[[], object]] = {
        "make anew, less the dead": lambda: index_of(
            case.keys.keys, 1, _new_files(case.files), after.positions
        ),
        "merge all runs": lambda: tidy(KeyIndex("", 0, (after.after.runs[0],) * 2)),
        "write key file": lambda: write_keys(case.files[0], _table(case.files[0])),
        "write data file": lambda: _write_data(case.files[0]),
    }
    for mode, call in upkeep.items():
        timings = _timed({INDEX: call}, rounds)
        yield Row.compare(f"upkeep, {case.kind}", mode, timings, OURS)


def _planner_rows(kind: str, size: _Size, root: str) -> Iterator[Row]:
    """What commits take in a planner that knows the partition, and in one that does not yet."""
    client = Client(root)
    # Any: keyword arguments of any call.
    where: dict[str, Any] = {"namespace": "bench", "table": "keyed"}
    client.catalog.create_table(
        **where, schema=SCHEMA, merge_keys=KEYS[kind], auto_create_namespace=True
    )
    seed = np.random.default_rng(13)
    ids = seed.permutation(size.rows)
    client.catalog.write(_rows(ids), **where, mode="merge", max_rows_per_file=size.rows // FILES)

    def committed(*, anew: bool) -> harness.Sample:
        writer = Client(root) if anew else client
        sink = Sink(TableRef.parse("bench.keyed"), writer, "merge").open()
        entries = sink.write(_rows(seed.choice(ids, size.keys, replace=False)))
        sample = harness.measure(functools.partial(sink.commit, entries))
        if anew:
            # It may still be making its index.
            writer.close()
        return sample

    for mode, anew in (("warm", False), ("new planner", True)):
        sampler = {INDEX: functools.partial(committed, anew=anew)}
        timings = harness.interleave(sampler, max(size.rounds // 3, 1))
        yield Row.compare(f"commit in a planner, {kind}", mode, timings, OURS)


@functools.cache
def _table(file: KeyedFile) -> pa.Table:
    return pq.read_table(file.path)


def _write_data(file: KeyedFile) -> None:
    pq.write_table(_table(file), pa.BufferOutputStream(), compression="zstd")


def _grown(case: _Case, keys: int) -> KeyIndex:
    """The index after more commits of new keys, each of which left a run of its own."""
    seed = np.random.default_rng(11)
    exact = case.keys.runs[0].exact
    index = case.keys
    for i in range(EARLIER):
        codes = KeyCodes(seed.integers(2**40, 2**63, keys).astype(np.uint64), exact)
        new = [NewFile(FILES + 1 + i, codes)]
        fetch = functools.partial(_fetch, case.files)
        index = kills(index, index.position + 1, index.keys, new, fetch).after
    return index


def _figures(case: _Case) -> Iterator[Figure]:
    rows = sum(file.records or 0 for file in case.files[:FILES])
    run = case.keys.runs[0]
    held = run.codes.nbytes + run.locations.nbytes + run.dead.nbytes
    beside = sum(os.path.getsize(key_path(file.path)) for file in case.files[:FILES])
    dead = _by_index(case.keys, case.files).positions
    sets = sum(len(encode(dead[i], case.files[i].records or 0)) for i in dead)
    count = sum(map(len, dead.values()))
    yield Figure(f"index, {case.kind}", "B/row", {INDEX: held / rows})
    yield Figure(f"key files, {case.kind}", "B/row", {INDEX: beside / rows})
    yield Figure(f"delete sets of one commit, {case.kind}", "B/dead row", {INDEX: sets / count})


def _target(row: Row) -> Target:
    found = row.timings[INDEX].wall_ms
    peer = f"{row.timings[row.best_peer].wall_ms:.0f} ms, {row.best_peer}"
    return Target(row.metric, peer, f"<= {BAR_MS} ms", f"{found:.1f} ms", found <= BAR_MS)


def run(*, quick: bool = False) -> Report:
    """Write the files in a temporary directory, check and time every side, and report.

    Args:
        quick: 400,000 rows, 4,000 keys and 3 rounds in place of 4,000,000, 40,000 and 9.
    """
    size = _Size(400_000, 4_000, 3) if quick else _Size(4_000_000, 40_000, 9)
    rows: list[Row] = []
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="deltacat-bench-") as root:
        progress(f"writing {FILES} files of {size.rows // FILES:,} rows, and the commit's")
        paths = _write(root, size)
        for kind in KEYS:
            case = _case(kind, paths, f"{root}/{kind}")
            rows += _case_rows(case, size)
            figures += _figures(case)
            rows += _planner_rows(kind, size, f"{root}/catalog of {kind}")
    return Report(
        name="deletes",
        about=f"which of {size.rows:,} rows in {FILES} files does a commit of {size.keys:,} keys kill",
        sides=SIDES,
        machine=harness.machine(),
        versions=harness.versions(("deltacat-sources", "numpy", "pyarrow", "polars")),
        rows=rows,
        figures=figures,
        targets=[_target(row) for row in rows if row.mode == "1 run"],
    )
