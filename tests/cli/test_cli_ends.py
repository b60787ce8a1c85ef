"""How does `deltacat` end? Each error is one line and a code, a pipe may close, Ctrl-C is heard."""

from __future__ import annotations

import functools
import os
import pty
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pytest

from planner_client import Client
from planner_client.cli.app import run
from tests.cli.commands import COMMAND, deltacat, environment
from tests.serving import served

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A catalog with a small table and one that is more than a pipe holds."""
    root = tmp_path_factory.mktemp("catalog")
    client = Client(root)
    nested = pa.table({"id": [1], "tags": [["a", "b"]], "raw": [b"\x00\xff"]})
    client.catalog.write(nested, namespace="ns", table="nested")
    odd = pa.table({"text": ["\x1b[31mred", "two\nlines", "[bold]no markup[/bold]"]})
    client.catalog.write(odd, namespace="ns", table="odd")
    large = pa.table({"x": np.arange(200_000), "y": np.arange(200_000) * 0.5})
    client.catalog.write(large, namespace="ns", table="large")
    return str(root)


@pytest.fixture
def _planner(catalog: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DELTACAT_PLANNER", catalog)


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["read", "ns.large2"], "did you mean 'large'?"),
        (["read", "nothing"], "write it as 'namespace.table'"),
        (["read", "no.table"], "namespace 'no' not found"),
        (["read", "ns.large", "--columns", "z"], "unknown column 'z'; the table has: x, y"),
        (["read", "ns.large", "--columns", ","], "write them as a,b"),
        (["read", "ns.large", "--where", "x >"], "'x >' is no SQL predicate"),
        (["read", "ns.large", "--where", "z = 1"], "z"),
        (["read", "ns.large", "--where", "{nope"], "neither SQL nor JSON"),
        (["read", "ns.large", "--where", '{"nope": ["x", 1]}'], "nope"),
        (["read", "ns.large", "--limit", "-1"], "--limit"),
        (["read", "ns.large", "--as-of", "soon"], "'soon' is no time: write 2026-11-26T12:00"),
        (["read", "ns.large", "--as-of", "@x"], "a snapshot's number"),
        (["read", "ns.large", "--as-of", "@0"], "no snapshot 0 that can be read"),
        (["read", "ns.large", "--as-of", "2999-01-01"], "future"),
        (["read", "ns.large", "-o", "x.docx"], "its ending says no format; known: .parquet"),
        (["read", "ns.large", "-o", "x.parquet.gz"], "its ending says no format"),
        (["read", "ns.large", "-o", "/proc/none/x.csv"], "/proc/none is no directory"),
        (["read", "ns.large", "--catalog", "other"], "catalog 'other' not found"),
        (["plan", "ns.large", "--limit", "0"], "--limit"),
        (["describe", "none"], "'none' not found"),
        (["history", "ns.none"], "table ns.none not found"),
        (["ls", "ns", "--as-of", "1h"], "--as-of goes with NAMESPACE.TABLE"),
        (["ls", "ns", "--catalogs"], "leave out 'ns'"),
        (["write", "ns.new", "none.csv"], "none.csv is not there"),
        (["write", "ns.new", "/etc/hostname"], "does not say which format"),
        (["write", "ns.new", "x.csv", "--mode", "nope"], "--mode"),
        (["write", "ns.new"], "FILE"),
        (["add", "ns.new", "none.parquet"], "none.parquet"),
        (["add", "ns.new", "/etc/hostname"], "/etc/hostname"),
        (["rollback", "ns.large"], "--as-of"),
        (["token", "issue", "ann", "--on", "ns"], "--on goes with --role"),
        (["vacuum", "--keep", "soon"], "'soon' is no time: write 7d"),
        (["check", "--catalog-root", "/proc/none"], "/proc/none"),
        (["check", "--planner", "http://127.0.0.1:9"], "is a server"),
        (["backup"], "TO"),
        (["serve"], "nothing to serve"),
        (["serve", "--catalog-root", "c", "--port", "99999999"], "is no port: write 0 to 65535"),
        (["serve", "--catalog-root", "c", "--port", "-1"], "is no port"),
        (["nonsense"], "nonsense"),
        (["ls", "--nonsense"], "--nonsense"),
    ],
)
@pytest.mark.usefixtures("_planner")
def test_a_refusal_is_one_line_that_says_what_to_do(
    capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert said in shown.err


@pytest.mark.usefixtures("_planner")
def test_for_machines_an_error_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["read", "ns.large2", "--json"]) == 2
    told = msgspec.json.decode(capsys.readouterr().err)["error"]
    assert told["code"] == "not_found"
    assert "did you mean 'large'?" in told["message"]


def test_without_a_planner_each_command_says_how_to_name_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for arguments in (["ls"], ["read", "a.b"], ["token", "whoami"]):
        assert run(arguments) == 2
        assert "--planner URL" in capsys.readouterr().err
    assert run(["check"]) == 2
    assert "--catalog-root DIR" in capsys.readouterr().err


def test_reading_makes_no_catalog(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["ls", "--planner", str(tmp_path / "none")]) == 2
    assert not (tmp_path / "none").exists()
    assert capsys.readouterr().err.startswith("error: ")


def test_no_answer_is_a_code_of_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "--planner", "http://127.0.0.1:9"]) == 3
    assert capsys.readouterr().err.startswith("error: no planner answers")


def test_a_password_in_a_url_is_refused_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ls", "--planner", "http://me:hunter2@127.0.0.1:9"]) == 2
    shown = capsys.readouterr().err
    assert "DELTACAT_TOKEN" in shown
    assert "hunter2" not in shown


def test_a_failed_read_leaves_the_file_that_was_there(
    catalog: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root = tmp_path / "catalog"
    client = Client(root)
    for x in range(2):
        client.catalog.write(pa.table({"x": [x]}), namespace="ns", table="t")
    plan = client.catalog.plan(namespace="ns", table="t")
    os.truncate(plan.paths[1], 5)
    out = tmp_path / "out.csv"
    out.write_text("before")
    assert run(["read", "ns.t", "--planner", str(root), "-o", str(out)]) == 2
    assert plan.paths[1] in capsys.readouterr().err
    assert out.read_text() == "before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["catalog", "out.csv"]


def test_without_its_extra_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from planner_client.cli import main; main()"
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert ended.stderr == "error: deltacat needs typer: pip install 'deltacat-sources[cli]'\n"


# --- what is shown --------------------------------------------------------------------------------


@pytest.mark.usefixtures("_planner")
def test_nested_values_and_bytes_have_a_text(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    assert run(["read", "ns.nested", "--json"]) == 0
    (row,) = msgspec.json.decode(capfdbinary.readouterr().out)
    assert row == {"id": 1, "tags": ["a", "b"], "raw": "AP8="}
    assert run(["read", "ns.nested", "-o", str(tmp_path / "x.csv")]) == 0
    assert (tmp_path / "x.csv").read_text() == '"id","tags","raw"\n1,"[""a"",""b""]","AP8="\n'


def on_terminal(catalog: str, *arguments: str) -> str:
    """What the command shows on a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [COMMAND, *arguments],
        stdout=theirs,
        stderr=theirs,
        env=environment(catalog, COLUMNS="120", TERM="xterm"),
    ) as process:
        os.close(theirs)
        shown = b""
        # A terminal that nobody holds any more is an error of input and output.
        try:
            while piece := os.read(ours, 65_536):
                shown += piece
        except OSError:
            pass
        finally:
            os.close(ours)
    assert process.returncode == 0, shown
    return shown.decode()


def test_a_terminal_shows_some_rows_and_that_there_are_more(catalog: str) -> None:
    shown = on_terminal(catalog, "read", "ns.large")
    assert len(shown.splitlines()) == 52
    assert "the first 50 rows; there are more: --limit N" in shown
    all_of_them = on_terminal(catalog, "read", "ns.large", "--limit", "60")
    assert len(all_of_them.splitlines()) == 61


def test_a_terminal_obeys_nothing_that_stands_in_a_table(catalog: str) -> None:
    shown = on_terminal(catalog, "read", "ns.odd")
    assert r"\x1b[31mred" in shown
    assert "\x1b[31m" not in shown
    assert r"two\nlines" in shown
    assert "[bold]no markup[/bold]" in shown


@pytest.mark.parametrize(
    "arguments",
    [["-h"], ["--help"], ["read", "-h"], ["token", "-h"], ["vacuum", "-h"], ["serve", "--help"]],
)
def test_help_is_there_by_either_name(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(arguments) == 0
    assert "usage: deltacat" in capsys.readouterr().out.lower()


@pytest.mark.parametrize("arguments", [[], ["token"]])
def test_naming_no_command_shows_which_there_are(
    capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    assert run(arguments) == 2
    shown = capsys.readouterr()
    assert "Usage: deltacat" in shown.out + shown.err
    assert "error:" not in shown.err


def test_the_release_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out.startswith("deltacat 0.")


def test_a_shell_is_offered_commands_options_and_names(catalog: str) -> None:
    def offered(words: str) -> list[str]:
        more = {"COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
        ended = deltacat(planner=catalog, more=more | {"_DELTACAT_COMPLETE": "complete_bash"})
        return ended.out.split()

    assert offered("deltacat hist") == ["history"]
    assert offered("deltacat read --col") == ["--columns"]
    assert offered("deltacat vacuum --ke") == ["--keep"]
    assert offered("deltacat read n") == ["ns."]
    assert offered("deltacat read ns.l") == ["ns.large"]


# --- who may call ---------------------------------------------------------------------------------


def test_tokens_are_made_used_and_revoked_and_never_told_in_errors(tmp_path: Path) -> None:
    with served(tmp_path / "catalog", "--auth", "on") as server:
        first = server.first_token()
        refused = deltacat("ls", planner=server.url, token="dct_wrong")
        assert (refused.code, refused.out) == (2, "")
        assert "dct_wrong" not in refused.err
        as_admin = functools.partial(deltacat, planner=server.url, token=first)
        made = as_admin("token", "issue", "ann", "--role", "reader", "--json").json
        as_ann = functools.partial(deltacat, planner=server.url, token=made["token"])
        who = as_ann("token", "whoami", "--json").json
        assert who["user_id"] == "ann"
        assert who["grants"] == [{"role": "READER", "scope_type": "catalog", "scope_name": "*"}]
        denied = as_ann("token", "issue", "bob")
        assert denied.code == 2
        assert made["token"] not in denied.err
        second = as_admin("token", "issue", "ann", "--label", "laptop")
        assert second.out.startswith("dct_")
        assert second.out.count("\n") == 1
        assert as_admin("token", "revoke", "ann", made["token_id"]).code == 0
        assert as_ann("token", "whoami").code == 2
        again = deltacat("new-admin-token", "--catalog-root", str(tmp_path / "catalog")).out.strip()
        assert deltacat("ls", planner=server.url, token=again).code == 0


# --- looking after a catalog ----------------------------------------------------------------------


def test_a_catalog_is_checked_copied_and_cleaned(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    root = tmp_path / "catalog"
    client = Client(root)
    for x in range(2):
        mode = "replace" if x else "auto"
        client.catalog.write(pa.table({"x": [x]}), namespace="ns", table="t", mode=mode)  # type: ignore[arg-type]  # one of two

    def said(*arguments: str) -> dict[str, dict[str, int]]:
        assert run([*arguments, "--planner", str(root), "--json"]) == 0
        found: dict[str, dict[str, int]] = msgspec.json.decode(capsys.readouterr().out)
        return found

    assert said("check")["findings"] == []  # type: ignore[comparison-overlap]  # a list
    assert said("backup", str(tmp_path / "copy"), "--with-data")["data"]["files"] == 2
    forever = ("vacuum", "--keep", "0", "--grace", "0")
    assert said(*forever)["expired"]["files"] == 1
    assert said(*forever)["expired"]["files"] == 1
    assert said(*forever, "--yes")["expired"]["files"] == 1
    assert said(*forever)["expired"]["files"] == 0
    assert Client(tmp_path / "copy").catalog.read(namespace="ns", table="t").num_rows == 1
    os.remove(client.catalog.plan(namespace="ns", table="t").paths[0])
    assert run(["check", "--planner", str(root)]) == 1
    assert "wrong: " in capsys.readouterr().out


# --- pipes and signals ----------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [["--json"], []])
def test_a_pipe_may_close(catalog: str, arguments: list[str]) -> None:
    with subprocess.Popen(
        [COMMAND, "read", "ns.large", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(catalog),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.fixture
def _hears_ctrl_c() -> Iterator[None]:
    """What a shell starts in the background ignores Ctrl-C, and so do all that it starts."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("_hears_ctrl_c")
def test_ctrl_c_ends_a_command_at_once_and_quietly(catalog: str) -> None:
    with subprocess.Popen(
        [COMMAND, "read", "ns.large", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(catalog),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        # By now it waits for somebody to read on.
        assert process.stdout.readline()
        process.send_signal(signal.SIGINT)
        process.stdout.read()
        assert b"Traceback" not in process.stderr.read()
    assert process.returncode == 130


def test_a_server_is_served_until_ctrl_c(tmp_path: Path) -> None:
    with subprocess.Popen(
        [COMMAND, "serve", "--catalog-root", str(tmp_path / "catalog"), "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment(None),
        text=True,
    ) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "running on" in line)
        url = next(word for word in line.split() if word.startswith("http"))
        assert deltacat("ls", "--json", planner=url).json == []
        process.send_signal(signal.SIGINT)
        assert "Traceback" not in process.stdout.read()
    assert process.returncode == 0
