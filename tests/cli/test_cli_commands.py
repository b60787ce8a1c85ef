"""Does every command do what it says, as a process, with the planner embedded and served?"""

from __future__ import annotations

import gzip
import itertools
from typing import TYPE_CHECKING, NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.csv
import pyarrow.feather
import pyarrow.parquet as pq
import pytest

from planner_client import Client
from planner_client.cli.app import run
from tests.cli.commands import Ended, deltacat
from tests.serving import serving

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TRIPS = "id,city,km\n1,Oslo,3.5\n2,Rome,\n3,Oslo,1\n"
FIRST = [
    {"id": 1, "city": "Oslo", "km": 3.5},
    {"id": 2, "city": "Rome", "km": None},
    {"id": 3, "city": "Oslo", "km": 1.0},
]


class Place(NamedTuple):
    """A planner, a directory for files, and a namespace of the test's own."""

    planner: str
    folder: Path
    table: str

    def run(self, *arguments: str) -> Ended:
        return deltacat(*arguments, planner=self.planner, cwd=self.folder)


@pytest.fixture(scope="module", params=["embedded", "http"])
def planner(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    root = tmp_path_factory.mktemp("catalog")
    if request.param == "embedded":
        yield str(root)
    else:
        with serving(root) as url:
            yield url


NUMBERS = itertools.count()


@pytest.fixture
def place(planner: str, tmp_path: Path) -> Place:
    """A table of three trips, and the same as CSV."""
    (tmp_path / "trips.csv").write_text(TRIPS)
    made = Place(planner, tmp_path, f"ns{next(NUMBERS)}.trips")
    namespace, _, table = made.table.partition(".")
    rows = pa.table({name: [row[name] for row in FIRST] for name in FIRST[0]})
    Client(planner).catalog.write(rows, namespace=namespace, table=table, merge_keys=["id"])
    return made


def by_id(rows: list[dict[str, object]]) -> list[dict[str, object]]:
    return sorted(rows, key=lambda row: str(row["id"]))


def test_what_was_written_is_listed_described_planned_and_read(place: Place) -> None:
    namespace = place.table.partition(".")[0]
    written = place.run("write", place.table, "trips.csv", "--merge-keys", "id", "--json").json
    assert (written["records"], written["files"]) == (3, 1)
    assert namespace in [n["name"] for n in place.run("ls", "--json").json]
    (listed,) = place.run("ls", namespace, "--json").json
    assert (listed["name"], listed["latest_version"]) == ("trips", "1")
    file, _ = place.run("ls", place.table, "--json").json
    assert (file["records"], file["content_type"]) == (3, "parquet")
    (catalog,) = place.run("ls", "--catalogs", "--json").json
    assert catalog["is_default"]
    described = place.run("describe", place.table, "--json").json
    assert described["merge_keys"] == ["id"]
    assert [(c["name"], c["type"]) for c in described["columns"]] == [
        ("id", "int64"),
        ("city", "string"),
        ("km", "float64"),
    ]
    assert (described["files"], described["records"]) == (2, 6)
    plan = place.run("plan", place.table, "--where", "id > 7", "--json").json
    assert (plan["table_files"], plan["total_files"], plan["files"]) == (2, 0, [])
    assert by_id(place.run("read", place.table, "--json").json) == FIRST


def test_columns_predicates_limits_and_offsets_choose_rows(
    place: Place, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    def read(*arguments: str) -> list[dict[str, object]]:
        assert run(["read", place.table, "--planner", place.planner, "--json", *arguments]) == 0
        found: list[dict[str, object]] = msgspec.json.decode(capfdbinary.readouterr().out)
        return found

    assert read("--where", "city = 'Oslo' AND km >= 2") == [FIRST[0]]
    assert read("--where", '{"is_null": "km"}') == [FIRST[1]]
    assert read("--columns", "km,id", "--where", "id = 1") == [{"km": 3.5, "id": 1}]
    assert len(read("--limit", "2")) == 2
    assert len(read("--offset", "2")) == 1
    assert read("--limit", "0") == []


def test_a_plan_explains_what_ruled_out_files(place: Place) -> None:
    said = place.run("plan", place.table, "--where", "id > 7", "--explain")
    assert said.code == 0
    assert "to read: 0 files" in said.out
    assert "on id: -1 files" in said.out


def test_rows_go_into_files_by_the_ending_of_their_names(place: Place) -> None:
    names = ["a.parquet", "a.feather", "a.csv", "a.csv.gz", "a.json"]
    for name in names:
        said = place.run("read", place.table, "-o", name, "--json")
        assert said.json == {"path": name, "records": 3}
    folder = place.folder
    tables = [
        pq.read_table(folder / "a.parquet"),
        pa.feather.read_table(folder / "a.feather"),
        pa.csv.read_csv(folder / "a.csv"),
        pa.csv.read_csv(folder / "a.csv.gz"),
    ]
    for table in tables:
        assert by_id(table.to_pylist()) == FIRST
    lines = (folder / "a.json").read_bytes()
    assert by_id(msgspec.json.Decoder().decode_lines(lines)) == FIRST
    assert gzip.decompress((folder / "a.csv.gz").read_bytes()) == (folder / "a.csv").read_bytes()
    assert sorted(p.name for p in folder.iterdir()) == sorted([*names, "trips.csv"])


def test_a_pipe_gets_csv_which_can_be_written_again(place: Place) -> None:
    said = place.run("read", place.table)
    assert said.out.splitlines()[0] == '"id","city","km"'
    (place.folder / "again.csv").write_text(said.out)
    namespace = place.table.partition(".")[0]
    place.run("write", f"{namespace}.again", "again.csv")
    again = place.run("read", f"{namespace}.again", "--json").json
    assert by_id(again) == FIRST


def test_parquet_files_are_added_where_they_lie(place: Place) -> None:
    lake = place.folder / "lake"
    lake.mkdir()
    for name in ("a", "b"):
        pq.write_table(pa.table({"id": [1, 2]}), lake / f"{name}.parquet")
    table = f"{place.table.partition('.')[0]}.added"
    added = place.run("add", table, str(lake), "--json").json
    assert (added["table"], added["files"], added["records"]) == (table, 2, 4)
    paths = {file["path"] for file in place.run("ls", table, "--json").json}
    assert paths == {str(lake / "a.parquet"), str(lake / "b.parquet")}
    again = place.run("add", table, "lake/a.parquet")
    assert again.code == 2
    assert again.err.startswith("error: ")


def test_history_leads_back_to_every_state(place: Place) -> None:
    (place.folder / "more.csv").write_text("id,city,km\n1,Oslo,9\n4,Paris,2\n")
    place.run("write", place.table, "more.csv", "--mode", "merge")
    last, first = place.run("history", place.table, "--json").json
    assert (last["kinds"], last["records"], first["records"]) == (["upsert"], 2, 3)
    assert last["time"].endswith("Z")
    past = place.run("read", place.table, "--json", "--as-of", f"@{first['snapshot']}")
    assert by_id(past.json) == FIRST
    assert by_id(place.run("read", place.table, "--json", "--as-of", last["time"]).json) == FIRST
    rolled = place.run("rollback", place.table, "--as-of", f"@{first['snapshot']}", "--json").json
    assert rolled["snapshot_before"] == last["snapshot"]
    assert by_id(place.run("read", place.table, "--json").json) == FIRST
    undone = place.run("rollback", place.table, "--as-of", f"@{last['snapshot']}")
    assert undone.code == 0, undone.err
    assert len(place.run("read", place.table, "--json").json) == 4
    assert len(place.run("history", place.table, "--json", "--limit", "2").json) == 2


def test_people_are_shown_tables(place: Place, capsys: pytest.CaptureFixture[str]) -> None:
    namespace = place.table.partition(".")[0]
    shown = {
        ("ls",): "name",
        ("ls", namespace): "trips",
        ("ls", place.table): ".parquet",
        ("ls", "--catalogs"): "default",
        ("describe", namespace): namespace,
        ("describe", place.table): "merge keys  ",
        ("history", place.table): "create, upsert",
        ("plan", place.table): ".parquet",
        ("token", "whoami"): "anybody",
    }
    for arguments, text in shown.items():
        assert run([*arguments, "--planner", place.planner]) == 0
        out = capsys.readouterr().out
        assert text in out
        assert not [line for line in out.splitlines() if line != line.rstrip()]
